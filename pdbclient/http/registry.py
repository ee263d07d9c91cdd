"""What one process remembers about its servers: their health, and what each of them may lack. Thread-safe.

The rules are in `breaker`, `route` and `staleness`; here are the lock and the clock around them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pdbclient.config.model import Endpoint
from pdbclient.http import breaker
from pdbclient.http.breaker import Health
from pdbclient.http.outage import Line, Outage
from pdbclient.http.outcome import (
    Attempt,
    Effect,
    Kind,
    Operation,
    Outcome,
    Sent,
    effect,
    effect_of_break,
    effect_of_check,
)
from pdbclient.http.route import read_order, write_order
from pdbclient.http.staleness import Freshness, PendingWrites
from pdbclient.wire.command import Command

__all__ = ["ServerRegistry"]

log = logging.getLogger("pdbclient.http")
outage_log = logging.getLogger("pdbclient.http.outage")

Changed = Callable[[Endpoint, Operation, bool, str], None]
"""Told that a server is healthy for an operation from now on, or is not, and why."""

FORCED_GAP = 1.0
"""Seconds between two requests that try a server all the same while its circuit is open."""
DOUBT = 30.0
"""Seconds in which no server did anything of a kind, after which they are to blame, and not the requests."""
HOLD_BACK = 600.0


@dataclass(frozen=True, slots=True)
class _Forced:
    """Requests that try a server although its circuit is open: when the first one of them began, and the last one,
    in seconds of the registry's clock, and whether one of them failed since.
    """

    since: float
    last: float
    failed: bool = False


class ServerRegistry:
    """Health and freshness of `endpoints`. `clock` is monotonic seconds, `jitter` gives numbers in [-1, 1].

    `needed`: servers that must take a command.
    """

    def __init__(
        self,
        endpoints: Collection[Endpoint],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        *,
        sticky_reads: bool = False,
        needed: int = 1,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._clock = clock
        self._jitter = jitter
        self._sticky_reads = sticky_reads
        self._last_reader: Endpoint | None = None
        self._health = {(endpoint, operation): Health() for endpoint in endpoints for operation in Operation}
        self._pending = PendingWrites(endpoints)
        self._forced: dict[tuple[Endpoint, Operation], _Forced] = {}
        self._failing_since: dict[Operation, float] = {}
        self._changed: Changed = lambda endpoint, operation, healthy, why: None
        self._outage = Outage(needed)
        self._reasons: dict[Endpoint, str] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        """A new lock, for a forked child: the parent's may have been held by a thread that is not there."""
        self._lock = threading.Lock()
        self._forced_ended = threading.Condition(self._lock)

    def listen(self, changed: Changed) -> None:
        """From now on, tell `changed` of each server that becomes unhealthy or healthy again. It must not wait."""
        self._changed = changed

    # -- who is asked

    def order(self, operation: Operation) -> tuple[Endpoint, ...]:
        """All servers for `operation`, in the order in which they are tried when all are well."""
        if operation is Operation.COMMAND:
            return write_order(self._endpoints)
        with self._lock:
            sticky = self._last_reader if self._sticky_reads else None
            return read_order(self._endpoints, self._held_back(), sticky)

    def usable(self, endpoint: Endpoint, operation: Operation) -> bool:
        """Whether user traffic may go there now."""
        with self._lock:
            return self._health[endpoint, operation].usable

    def in_use(self, endpoint: Endpoint) -> bool:
        """Whether user traffic of any kind may go there now."""
        with self._lock:
            return any(self._health[endpoint, operation].usable for operation in Operation)

    def may_force(self, endpoint: Endpoint, operation: Operation, patience: float = 0.0) -> bool:
        """Whether a server may be tried when all else failed: if its circuit is open, all the same, once a second.

        Whoever comes while another one tries it waits for what that one meets, `patience` seconds at most: none fails
        beside one that succeeds.
        """
        came = self._clock()
        with self._forced_ended:
            while True:
                now = self._clock()
                if self._health[endpoint, operation].usable:
                    return True
                forced = self._forced.get((endpoint, operation))
                if forced is None or now - forced.last >= FORCED_GAP:
                    since = now if forced is None or forced.failed else forced.since
                    self._forced[endpoint, operation] = _Forced(since, now)
                    return True
                if forced.failed or now - came >= patience:
                    return False
                self._forced_ended.wait(min(came + patience, forced.last + FORCED_GAP) - now)

    def may_force_again(self, endpoint: Endpoint, operation: Operation) -> None:
        """What one request met there may be its own fault: the next one need not wait for a second."""
        with self._lock:
            self._forced.pop((endpoint, operation), None)
            self._forced_ended.notify_all()

    def covers(self, endpoints: Collection[Endpoint], *, sticky_reads: bool, needed: int = 1) -> bool:
        """Whether this is the registry of exactly these servers, in this order, with these rules."""

        def shape(servers: Collection[Endpoint]) -> list[tuple[Endpoint, int, bool]]:
            return [(server, server.order, server.submit_only) for server in servers]

        rules = (self._sticky_reads, self._outage.needed)
        return shape(self._endpoints) == shape(endpoints) and rules == (sticky_reads, needed)

    def all_closed(self) -> bool:
        """Whether every circuit is closed: nobody needs to be probed."""
        with self._lock:
            return all(health.usable for health in self._health.values())

    def skipped(self, endpoint: Endpoint, operation: Operation) -> Attempt:
        """The record of a server that was left out."""
        with self._lock:
            wait = max(self._health[endpoint, operation].retry_at - self._clock(), 0.0)
        detail = f"not asked: it failed lately, next probe in {wait:.0f} s"
        return Attempt(endpoint, Outcome(Kind.SKIPPED, Sent.NO, detail=detail))

    def health(self) -> Mapping[tuple[Endpoint, Operation], Health]:
        """What is remembered now, per server and operation."""
        with self._lock:
            return MappingProxyType(dict(self._health))

    def freshness(self, endpoint: Endpoint) -> Freshness:
        """How fresh an answer of `endpoint` can be."""
        with self._lock:
            return self._pending.freshness(endpoint)

    def behind_by(self, endpoint: Endpoint) -> int:
        """How many commands a later server took in the place of `endpoint`, which is not known to have them."""
        with self._lock:
            return self._pending.behind_by(endpoint)

    # -- what happened

    def note(self, endpoint: Endpoint, operation: Operation, outcome: Outcome, began: float) -> bool:
        """Note an attempt that began at `began`. True when it closed the server to user traffic."""
        return self._apply(endpoint, operation, outcome, effect(outcome, operation), began)

    def broke(self, endpoint: Endpoint, outcome: Outcome, began: float) -> bool:
        """Note that a query's answer broke off on its way. True when it closed the server to user traffic."""
        readers = (other for other in self._endpoints if other != endpoint and not other.submit_only)
        others = any(self.usable(other, Operation.QUERY) for other in readers)
        return self._apply(endpoint, Operation.QUERY, outcome, effect_of_break(outcome, others), began)

    def check_failed(self, endpoint: Endpoint, outcome: Outcome, began: float) -> bool:
        """Note a failed health check of a server in use. True when it closed the server to user traffic."""
        return self._apply(endpoint, Operation.QUERY, outcome, effect_of_check(outcome), began, only_in_use=True)

    def _apply(
        self,
        endpoint: Endpoint,
        operation: Operation,
        outcome: Outcome,
        event: Effect,
        began: float,
        *,
        only_in_use: bool = False,
    ) -> bool:
        # What the connection met counts for reads and writes alike; a success speaks for its own kind only.
        circuits = (operation,) if event.success or event.own_kind else tuple(Operation)
        opened = closed = False
        line = None
        if event.nothing:
            return False
        with self._lock:
            forced = self._forced.get((endpoint, operation))
            if event.success:
                self._failing_since.pop(operation, None)
            elif forced is not None and began >= forced.since:
                # What it met it also met for those that are of the other kind.
                self._forced |= {(endpoint, circuit): replace(forced, failed=True) for circuit in circuits}
            now, jitter = self._clock(), self._jitter()
            for circuit in circuits:
                before = self._health[endpoint, circuit]
                if only_in_use and not before.usable:
                    # The prober asks about that one: a check every two seconds would put off its return each time.
                    continue
                after = self._health[endpoint, circuit] = breaker.step(before, event, began, now, jitter)
                opened |= before.usable and not after.usable
                if before.usable != after.usable:
                    why = "it answered a request" if after.usable else f"{outcome.kind}: {outcome.detail}"
                    self._changed(endpoint, circuit, after.usable, why)
                closed |= after.usable and not before.usable
            if opened:
                self._reasons[endpoint] = f"{outcome.kind}: {outcome.detail}"
            if opened or closed:
                line = self._outage_now(now)
            self._forced_ended.notify_all()
        if opened:
            log.warning("%s is unhealthy, not asked for now: %s: %s", endpoint, outcome.kind, outcome.detail)
        _tell(line)
        return opened

    def all_failed(self, operation: Operation, attempts: Sequence[Attempt] = ()) -> bool:
        """Note that no server did what a request wanted. True when that is part of an outage, which the log tells.

        What was in doubt of its `attempts` counts, once no server has done anything of the kind for `DOUBT` seconds.
        """
        with self._lock:
            now = self._clock()
            certain = now - self._failing_since.setdefault(operation, now) >= DOUBT
        for each in attempts if certain else ():
            if effect(each.outcome, operation).in_doubt:
                self.note(each.endpoint, operation, each.outcome, now - each.elapsed)
        with self._lock:
            told, line = self._outage.met(operation, now)
        _tell(line)
        return told

    def _outage_now(self, now: float) -> Line | None:
        """What to tell, now that servers may have come or gone."""
        lost: list[Operation] = []
        reasons: dict[str, str] = {}
        for operation, needed in ((Operation.COMMAND, self._outage.needed), (Operation.QUERY, 1)):
            order = [e for e in self._endpoints if operation is Operation.COMMAND or not e.submit_only]
            away = [e for e in order if not self._health[e, operation].usable]
            if len(order) - len(away) < needed:
                lost.append(operation)
                reasons |= {e.url: self._reasons[e] for e in away}
        return self._outage.now_lost(lost, reasons, now)

    def answered(self, endpoint: Endpoint) -> None:
        """Note who answered a query that any server could have answered: where sticky reads stay."""
        with self._lock:
            self._last_reader = endpoint

    def accepted(self, command: Command, by: Collection[Endpoint]) -> bool:
        """Note who took a command. True when a server now lacks what a later one took in its place."""
        with self._lock:
            self._pending.accepted(command, by, self._clock())
            return bool(self._pending.behind())

    # -- for the prober

    def next_probe(self, endpoint: Endpoint) -> float | None:
        """Seconds until a probe of this server is due; None when none of its circuits is open."""
        with self._lock:
            healths = [self._health[endpoint, operation] for operation in Operation]
            times = [health.retry_at for health in healths if not health.usable]
            return max(min(times) - self._clock(), 0.0) if times else None

    def probed(self, endpoint: Endpoint, ok: bool) -> bool:
        """Note a background probe's result. True when the server is used again."""
        closed = False
        with self._lock:
            now, jitter = self._clock(), self._jitter()
            for operation in Operation:
                before = self._health[endpoint, operation]
                if breaker.probe_due(before, now):
                    after = self._health[endpoint, operation] = breaker.probed(before, ok, now, jitter)
                    closed |= after.usable
                    if after.usable:
                        self._changed(endpoint, operation, True, "it answered probes")
            line = self._outage_now(now)
            self._forced_ended.notify_all()
        if closed:
            log.info("%s is healthy again", endpoint)
        _tell(line)
        return closed

    def to_confirm(self, limit: int) -> dict[Endpoint, list[tuple[str, str]]]:
        """What to ask the servers that are back but held back: (command name, certname), at most `limit` each."""
        with self._lock:
            return {
                endpoint: self._pending.failed_over(endpoint, limit)
                for endpoint in self._held_back()
                if self._health[endpoint, Operation.QUERY].usable
            }

    def confirmed(self, endpoint: Endpoint, present: Mapping[tuple[str, str], str]) -> None:
        """Note what such a server was seen to hold: (command name, certname) -> producer timestamp."""
        with self._lock:
            was_behind = endpoint in self._pending.behind()
            self._pending.found(endpoint, present)
            caught_up = was_behind and endpoint not in self._pending.behind()
        if caught_up:
            log.info("%s has caught up", endpoint)

    def _held_back(self) -> set[Endpoint]:
        """The servers that lack what was written past them, for at most ten minutes after they came back."""
        now = self._clock()
        return {
            endpoint
            for endpoint, since in self._pending.behind().items()
            if now < max(since, self._health[endpoint, Operation.QUERY].changed_at) + HOLD_BACK
        }


def _tell(line: Line | None) -> None:
    if line is not None:
        outage_log.log(logging.ERROR if line.error else logging.WARNING, "%s", line.text)
