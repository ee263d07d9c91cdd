"""What the steps of one pass share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pdbclient.config.model import SyncConfig
from pdbclient.sync.budget import Budget
from pdbclient.sync.events import SyncLog
from pdbclient.sync.model import Entity, Mode, Skip, Version
from pdbclient.sync.plan import Memory, Terms
from pdbclient.sync.ports import Clock, Server
from pdbclient.sync.state import State

__all__ = ["Context", "Progress"]

Progress = Callable[[Entity, int, int], None]
"""Told how many records of an entity are done, and how many there are to do as far as known."""


@dataclass(frozen=True, slots=True)
class Context:
    """One pass: `there` is the remote, which is only read; `here` the local server, the only one written
    to.
    """

    config: SyncConfig
    there: Server
    here: Server
    state: State
    clock: Clock
    log: SyncLog
    progress: Progress
    mode: Mode = field(default_factory=Mode)

    @property
    def remote(self) -> str:
        """The remote's URL: its name in the log and the state."""
        return self.there.endpoint.url

    def budget(self) -> Budget:
        """The time for one entity, from now on; a seeding takes what it takes."""
        return Budget(self.clock, math.inf if self.mode.seed else self.config.entity_time_limit)

    def terms(self) -> Terms:
        """What the pass believes and was asked for, as of now."""
        now, selection = self.clock.wall(), self.mode.selection
        latest = int((now + self.config.max_clock_skew) * 1000)
        earliest = 0 if selection.max_age is None else int((now - selection.max_age) * 1000)
        return Terms(latest, earliest, selection, self.mode.one_way)

    def gone_before(self) -> int:
        """Nodes that died before this (ms) may have been purged by one side already; 0: nothing is purged."""
        ttl = self.config.node_purge_ttl
        return int((self.clock.wall() - ttl) * 1000) if ttl > 0 else 0

    def memory(self, entity: Entity) -> Memory:
        """What the state says against pulling a version, as of now."""
        unequal = self.state.unequal(self.remote, entity)
        refused = self.state.refused(self.remote, entity)
        now = self.clock.wall()

        def recall(key: str, version: Version) -> Skip | None:
            if unequal.get(key) == version:
                return Skip.EQUIVALENT
            before = refused.get(key)
            return before.verdict(now) if before is not None and before.version == version else None

        return recall
