"""What is remembered of the local server: what may wait in its queue, and which nodes it alone let expire."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pdbclient.sync.policy.expiry import Expired
from pdbclient.sync.policy.model import Entity
from pdbclient.sync.state.opened import OpenState, kept

__all__ = ["LocalNotes"]


class LocalNotes(OpenState):
    """That part of `State`."""

    def expired(self, remote: str) -> dict[str, Expired]:
        """The nodes that were seen expired here while they were active at the remote."""
        rows = self._rows("expired", "WHERE remote = ?", remote)
        return {certname: Expired(millis, age) for _, certname, millis, age in rows}

    @kept
    def remember_expired(self, remote: str, nodes: Mapping[str, Expired], outdated: Collection[str]) -> None:
        """Remember these, and forget the `outdated` ones."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM expired WHERE remote = ? AND certname = ?", [(remote, name) for name in outdated]
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO expired VALUES (?, ?, ?, ?)",
                [(remote, certname, *each) for certname, each in nodes.items()],
            )

    def under_way(self) -> frozenset[Entity]:
        """The entities of which something was submitted, by a pass against any remote, that nobody saw stored yet."""
        return frozenset(entity for (entity,) in self._rows("under_way"))

    @kept
    def remember_under_way(self, entity: Entity) -> None:
        """Something of `entity` is about to be submitted."""
        if entity not in self.under_way():
            with self._transaction():
                self._db.execute("INSERT OR REPLACE INTO under_way VALUES (?)", (entity,))

    @kept
    def forget_under_way(self, *entities: Entity) -> None:
        """What was submitted of them is stored, or given up."""
        if known := self.under_way().intersection(entities):
            with self._transaction():
                self._db.executemany("DELETE FROM under_way WHERE entity = ?", [(entity,) for entity in known])
