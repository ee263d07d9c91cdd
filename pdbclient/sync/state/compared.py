"""What is remembered of comparisons: what stays unequal, and when all records of an entity were compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pdbclient.sync.policy.model import Entity, Version
from pdbclient.sync.state.opened import OpenState, kept

__all__ = ["Compared"]


class Compared(OpenState):
    """That part of `State`."""

    def unequal(self, remote: str, entity: Entity) -> dict[str, Version]:
        """Records that were pulled and still differ, by key: hashes that no transfer preserves."""
        rows = self._rows("unequal", "WHERE remote = ? AND entity = ?", remote, entity)
        return {key: Version(*version) for _, _, key, *version, _ in rows}

    def same_content(self, remote: str, entity: Entity) -> frozenset[str]:
        """The keys of those that differ in nothing but their hash."""
        rows = self._rows("unequal", "WHERE remote = ? AND entity = ? AND same = 1", remote, entity)
        return frozenset(row[2] for row in rows)

    def unequals(self) -> list[tuple[str, Entity, str, Version]]:
        """As `unequal`, of all remotes and entities: remote, entity, key, version."""
        rows = self._rows("unequal")
        return [(remote, entity, key, Version(*version)) for remote, entity, key, *version, _ in rows]

    @kept
    def remember_unequal(
        self, remote: str, entity: Entity, versions: Mapping[str, Version], same: Collection[str] = ()
    ) -> None:
        """Remember pulled versions that still differ from what is here; those of `same` in their hash alone. What an
        operator dropped meanwhile stays dropped.
        """
        with self._transaction():
            dropped = {
                (key, Version(*version))
                for _, _, key, *version, _, _, _, _ in self._rows(
                    "refused", "WHERE remote = ? AND entity = ? AND dropped = 1", remote, entity
                )
            }
            self._db.executemany(
                "INSERT OR REPLACE INTO unequal VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (remote, entity, key, *version, key in same)
                    for key, version in versions.items()
                    if (key, version) not in dropped
                ],
            )

    def listed_at(self, remote: str, entity: Entity) -> float | None:
        """When all that the remote has of `entity` was compared (wall seconds); None: never."""
        found = self._rows("listed", "WHERE remote = ? AND entity = ?", remote, entity)
        return float(found[0][1]) if found else None

    @kept
    def remember_listed(self, remote: str, entity: Entity, now: float) -> None:
        """Note that all was compared."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO listed VALUES (?, ?, ?)", (remote, entity, now))
