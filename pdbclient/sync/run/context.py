"""What the steps of one pass share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pdbclient.config.model import SyncConfig
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.capabilities import Capabilities, PassServer
from pdbclient.sync.inventory.interfaces import Clock, Server
from pdbclient.sync.policy.classify import Memory, Terms
from pdbclient.sync.policy.model import Difference, Entity, Mode, Version
from pdbclient.sync.run.events import SyncLog
from pdbclient.sync.run.preflight import epoch, pass_gate, refuse_one
from pdbclient.sync.run.submit import wait_for_queue
from pdbclient.sync.state.store import ServerRecord, State

__all__ = ["Context", "Progress", "enter", "known_capabilities"]

Progress = Callable[[Entity, int, int], None]
"""Told how many records of an entity are done, and how many there are to do as far as known."""


@dataclass(frozen=True, slots=True)
class Context:
    """One pass: `there` is the remote, which is only read; `here` the local server, the only one written
    to. `epoch` is when the monotonic clock began by the local server's clock, as the gate found it (s).
    """

    config: SyncConfig
    there: Server
    here: Server
    state: State
    clock: Clock
    log: SyncLog
    progress: Progress
    mode: Mode = field(default_factory=Mode)
    epoch: float | None = None

    @property
    def remote(self) -> str:
        """The remote's URL: its name in the log and the state."""
        return self.there.endpoint.url

    @property
    def scope(self) -> str:
        """The name of what is remembered of the remote's reports, as far as they are selected."""
        return self.mode.selection.scope(self.remote)

    def budget(self) -> Budget:
        """The time for one entity, from now on; a seeding takes what it takes."""
        return Budget(self.clock, math.inf if self.mode.seed else self.config.entity_time_limit)

    def now(self) -> float:
        """The time by which records are judged, in seconds since 1970: the local server's.

        Not this process's: its machine's clock may be set, or step, while both servers agree.
        """
        return self.clock.wall() if self.epoch is None else self.epoch + self.clock.monotonic()

    def terms(self) -> Terms:
        """What the pass believes and was asked for, as of now."""
        now, selection = self.now(), self.mode.selection
        latest = int((now + self.config.max_clock_skew) * 1000)
        earliest = None if selection.max_age is None else int((now - selection.max_age) * 1000)
        return Terms(latest, earliest, None, selection, self.mode.one_way, self.mode.deactivations)

    def gone_before(self) -> int:
        """Nodes that died before this (ms) may have been purged by one side already; 0: nothing is purged."""
        ttl = self.config.node_purge_ttl
        return int((self.now() - ttl) * 1000) if ttl > 0 else 0

    def remember_seen(self, entity: Entity, records: int) -> None:
        """Note how many records the remote has, whatever the pass is about."""
        if self.state.seen(self.remote, entity) != records:
            self.state.remember_seen(self.remote, entity, records)

    def memory(self, entity: Entity) -> Memory:
        """What the state says against pulling a version, as of now."""
        unequal = self.state.unequal(self.remote, entity)
        same = self.state.same_content(self.remote, entity)
        refused = self.state.refused(self.remote, entity)
        now = self.clock.wall()

        def recall(key: str, version: Version) -> Difference | None:
            if unequal.get(key) == version:
                return Difference.SAME_CONTENT if key in same else Difference.KNOWN_UNEQUAL
            before = refused.get(key)
            return before.verdict(now) if before is not None and before.version == version else None

        return recall


def known_capabilities(state: State, server: PassServer, version: str) -> Capabilities:
    """What the server answers: as remembered, else it is asked, once for each version that it turns out to be."""
    url = server.endpoint.url
    known = state.server(url)
    if known is None or known.version != version:
        known = ServerRecord(version, server.ask().answers)
        if not state.read_only:
            state.remember_server(url, known)
    return Capabilities(known.answers)


def enter(
    config: SyncConfig,
    mode: Mode,
    there: PassServer,
    here: PassServer,
    state: State,
    clock: Clock,
    log: SyncLog,
    progress: Progress,
) -> Context:
    """The context of a pass that the gate lets through; raises what `pass_gate` and `refuse_one` raise.

    Where an earlier pass did not come to see what it had submitted, the local queue is waited for first: what it
    holds would be submitted once more. Not where nothing is submitted, which a read-only state says.
    """
    remote, local = pass_gate(here, there, config, clock)
    there.learn(known_capabilities(state, there, remote.version))
    here.learn(known_capabilities(state, here, local.version))
    refuse_one(here, there)
    if not state.read_only and (entities := state.under_way()):
        wait_for_queue(here, clock)
        state.forget_under_way(*entities)
    return Context(config, there, here, state, clock, log, progress, mode, epoch(local.epoch, clock))
