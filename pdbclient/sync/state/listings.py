"""What is remembered of full listings: when all records of an entity were compared, and not only their groups."""

from __future__ import annotations

from pdbclient.sync.policy.model import Entity
from pdbclient.sync.state.opened import OpenState, kept

__all__ = ["Listings"]


class Listings(OpenState):
    """That part of `State`."""

    def listed_at(self, remote: str, entity: Entity) -> float | None:
        """When all that the remote has of `entity` was compared (wall seconds); None: never."""
        found = self._rows("listed", "WHERE remote = ? AND entity = ?", remote, entity)
        return float(found[0][1]) if found else None

    @kept
    def remember_listed(self, remote: str, entity: Entity, now: float) -> None:
        """Note that all was compared."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO listed VALUES (?, ?, ?)", (remote, entity, now))
