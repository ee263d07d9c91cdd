"""Exported resources that do not go back in time: a server is brought up to date before it answers about them.

PuppetDBs do not replicate by themselves. A server that did not take the newest catalogs (it was away, or is the
replica) gets from the journal what it lacks of them, and is asked only when it shows them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from pdbclient.config.model import NODE_TTL, Endpoint
from pdbclient.errors import JournalError, Rejected, ServerError, StaleAnswer, TransportError
from pdbclient.http.outcome import Blame, Outcome, blame
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.sender import caller_left
from pdbclient.http.session import Session
from pdbclient.http.staleness import Freshness
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import deliveries, exported_sql
from pdbclient.journal.ledger.exported_sql import Behind
from pdbclient.journal.model import LATER, Copy, CopyState, Entry, Listed
from pdbclient.journal.store.packing import Damaged
from pdbclient.journal.work.seen import held, is_hidden, look
from pdbclient.journal.work.witness import Witnesses

__all__ = ["PATIENCE", "Exported"]

log = logging.getLogger("pdbclient.journal")

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds after which what a server took, and does not show, makes its answers stale no more."""

ROUND = 10.0
"""Seconds in which a server that makes nothing of what it took is surely asked once more."""

SHARE = 0.5
"""Of the time that a query has on one server: what bringing that up may take at most. The answer needs the rest."""

PUSHERS = 4
LOOK_AGAIN, LOOK_AGAIN_AT_MOST = 0.1, 1.0
"""Seconds until the next look whether what was pushed shows: longer each time, it costs the server something."""
LAST_LOOK = 0.5
"""Seconds that the journal has, at the end of the time, to say what is lacking still."""


@dataclass(slots=True)
class _Progress:
    """When one server was up to date: where the journal ended then (monotonic seconds, id), since `resets` changed.

    `working`: whoever brings it up holds this one.
    """

    resets: int | None = None
    tops: deque[tuple[float, int]] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)
    working: threading.Lock = field(default_factory=threading.Lock)

    def up_to_date(self, now: float, found: Behind, lease: float) -> int | None:
        """The id up to which it has all, now that all that was in flight then has ended; None: nothing new."""
        with self.lock:
            went_back = self.tops and found.top < self.tops[-1][1]
            if found.resets != self.resets or went_back:
                self.resets = found.resets
                self.tops.clear()
            if not self.tops or self.tops[-1][0] < now - 1.0:
                self.tops.append((now, found.top))
            after = None
            while self.tops[0][0] < now - lease:
                after = self.tops.popleft()[1]
            return after


@dataclass(slots=True)
class _Tried:
    """What a server did not take, or was not sent, just now, without calling it bad; and why, the first time.

    `again` was sent although the server took it before: it hides that.
    """

    entries: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)
    all: bool = False
    why: str = ""

    def note(self, entry: Listed, error: ServerError) -> None:
        self.entries.add(entry.id)
        # Busy, or not for us: the others would meet the same.
        self.all = self.all or blame(Outcome.of(error)) is Blame.SERVER
        self.why = self.why or f"it does not take them: HTTP {error.status}: {error.reason}"

    def give_up(self, why: str) -> None:
        """None of them can be sent now."""
        self.all, self.why = True, self.why or why

    def covers(self, behind: Behind) -> bool:
        """Whether waiting brings nothing more."""
        return not behind.awaited and all(self.all or entry.id in self.entries for entry in behind.missing)


class Exported:
    """Brings servers up to date from `journal`, each time within `budget` seconds.

    `serve`: what to do when that was not enough: answer all the same and say so, or raise `StaleAnswer`. `aged` gives
    the time by which nodes expire, in seconds since 1970, after `node_ttl` seconds (0: never); `clock` monotonic
    seconds. `unsure`: whether the journal lacks what was said about commands, so that what it says is not the whole.
    `lost` is told of a server that has lost data. Setting `stop` ends early what is under way.
    """

    def __init__(
        self,
        journal: Journal,
        registry: ServerRegistry,
        servers: Sequence[Endpoint],
        *,
        budget: float,
        serve: bool,
        aged: Callable[[], float],
        node_ttl: float = NODE_TTL,
        unsure: Callable[[], bool] = lambda: False,
        lost: Callable[[Endpoint], None] = lambda server: None,
        clock: Callable[[], float] = time.monotonic,
        stop: threading.Event | None = None,
    ) -> None:
        self._journal = journal
        self._registry = registry
        self._budget = budget
        self._serve = serve
        self._aged, self._node_ttl, self._unsure, self._lost = aged, node_ttl, unsure, lost
        self._clock = clock
        self._stop = stop or threading.Event()
        self._progress = {server: _Progress() for server in servers}
        self._witnesses = {server: Witnesses(journal, server.url, clock) for server in servers}
        self._pushers = {server: ThreadPoolExecutor(PUSHERS, "pdbclient-exported") for server in servers}

    def close(self) -> None:
        """End its threads."""
        self._stop.set()
        for pushers in self._pushers.values():
            pushers.shutdown()

    def answer(self, session: Session, within: float, ask: Callable[[float], T]) -> tuple[T, Freshness]:
        """What `ask`, in so many seconds, gets from the session's server about exported resources, brought up before.

        A server that was emptied, or restored, since it was last looked at is brought up and asked once more. The
        whole has `within` seconds. Raises as `bring_up`, and what `ask` raises.
        """
        deadline = self._clock() + within
        freshness = self.bring_up(session, within)
        value = ask(self._left(deadline))
        if freshness.stale:
            return value, freshness
        try:
            # After the answer: what is there now was there then.
            lost = self._has_lost(session, self._left(deadline))
        except (JournalError, TransportError) as error:
            # At the end of our time, that is what broke it off: the answer is there.
            if isinstance(error, TransportError) and self._clock() < deadline:
                raise
            return value, self._told(session, Freshness(1), f"whether it has what it had is not known: {error}")
        if not lost:
            return value, freshness
        del value
        freshness = self.bring_up(session, self._left(deadline))
        return ask(self._left(deadline)), freshness

    def _has_lost(self, session: Session, within: float) -> bool:
        """Whether its server has lost data: then nothing counts any more that it was seen to have."""
        server = session.endpoint
        loss = self._witnesses[server].lost(session, within, min(self._budget, within))
        if loss is None:
            return False
        log.warning("%s has lost data, and is looked at anew: %s", server, loss)
        self._journal.wait(self._journal.start(exported_sql.forget, server.url), min(self._budget, within))
        self._witnesses[server].forget()
        self._lost(server)
        return True

    def bring_up(self, session: Session, within: float) -> Freshness:
        """Before `session` is asked about exported resources: push what its server lacks, and wait until it shows it.

        The whole query has `within` seconds, of which this takes a part at most. What the server then still lacks is
        returned. Raises `StaleAnswer` then when the policy says so, and the server's own `TransportError` or
        `ServerError` as any other attempt does.
        """
        budget = min(self._budget, within * SHARE)
        try:
            lag, why = self._brought_up(session, budget)
            reason = why or f"not visible there within {budget:.2g} s"
            if not lag.stale and self._unsure():
                lag, reason = Freshness(1), "what became of a command could not be noted in the journal yet"
        except JournalError as error:
            lag, reason = Freshness(1), f"what it lacks is not known: {error}"
        return self._told(session, lag, reason)

    def _told(self, session: Session, lag: Freshness, reason: str) -> Freshness:
        """The same, in the log when it is stale. Raises `StaleAnswer` when the policy says so."""
        if lag.stale:
            if not self._serve:
                raise StaleAnswer(session.endpoint.url, lag.missing, lag.since, reason)
            log.warning(
                "%s answers about exported resources without %d newer commands%s: %s",
                session.endpoint,
                lag.missing,
                f", the oldest of {lag.since}" if lag.since else "",
                reason,
            )
        return lag

    def prepare(self, session: Session, budget: float) -> None:
        """Do the same before anybody asks, within `budget` seconds. Raises `JournalError`, and as `bring_up`."""
        self._brought_up(session, budget)

    def _brought_up(self, session: Session, budget: float) -> tuple[Freshness, str]:
        """What it lacks then, and why, where its own answers to what was pushed say so."""
        deadline = self._clock() + budget
        behind = self._look(session, self._time(deadline))
        if not behind.entries:
            return Freshness(), ""
        working = self._progress[session.endpoint].working
        # Whoever comes second waits for the first one's work, and finds it done.
        if not working.acquire(timeout=max(deadline - self._clock(), 0.0)):
            return self._look(session, LAST_LOOK).freshness, ""
        pause, tried = LOOK_AGAIN, _Tried()
        try:
            while (behind := self._look(session, self._time(deadline))).entries and self._may_go_on(deadline):
                if not self._advance(session, behind, deadline, tried):
                    if tried.covers(behind):
                        break
                    time.sleep(min(pause, self._left(deadline)))
                    pause = min(1.5 * pause, LOOK_AGAIN_AT_MOST)
        except TransportError:
            # At the end of our time, that is what broke it off, and no fault of the server's: the query will tell.
            if self._clock() < deadline:
                raise
        finally:
            working.release()
        return behind.freshness, tried.why

    def _look(self, session: Session, within: float) -> Behind:
        """What the journal knows: no server is asked."""
        progress, began = self._progress[session.endpoint], self._clock()
        url, now = session.endpoint.url, self._journal.clock()
        alive_since = self._aged() - self._node_ttl if self._node_ttl else 0.0
        found = self._journal.read(within, exported_sql.behind, url, now, alive_since, PATIENCE)
        if not found.entries and found.resets is not None:
            after = progress.up_to_date(began, found, max(self._journal.lease, PATIENCE) + ROUND)
            if after is not None:
                self._journal.wait(self._journal.start(exported_sql.advance, url, after, found.resets), within)
        return found

    def _advance(self, session: Session, behind: Behind, deadline: float, tried: _Tried) -> bool:
        """Note what the server shows, and push what it neither shows nor took. Whether it shows all."""
        showing = look(session, behind.entries, within=self._left(deadline), strict=True)
        there = held(behind.entries, showing)
        self._journal.confirm(session.endpoint.url, there, self._time(deadline))
        shown = [entry for entry in behind.entries if entry.id in there]
        if shown:
            newest = {(entry.name, entry.certname): entry.producer_timestamp for entry in shown}
            self._registry.confirmed(session.endpoint, newest)
        missing = [entry for entry in behind.missing if entry.id not in there]
        hidden = [entry for entry in behind.awaited if is_hidden(entry, showing) and entry.id not in tried.again]
        tried.again.update(entry.id for entry in hidden)
        self._push(session, [*missing, *hidden], deadline, tried)
        return len(shown) == len(behind.entries)

    def _push(self, session: Session, missing: Sequence[Listed], deadline: float, tried: _Tried) -> None:
        """Send these, newest first, several at once, as far as the time goes."""
        waiting = deque(sorted(missing, key=lambda each: -each.id))

        def push_all() -> None:
            while True:
                try:
                    entry = waiting.popleft()
                except IndexError:
                    return
                self._push_one(session, entry, deadline, tried)

        pushers, pushes = self._pushers[session.endpoint], []
        try:
            for _ in range(min(PUSHERS, len(missing))):
                pushes.append(pushers.submit(push_all))  # noqa: PERF401  # what was begun is waited for
        except RuntimeError as error:
            # This machine has no thread for it, or this was closed. Those that there are do it all.
            if not pushes:
                tried.give_up(str(error))
        try:
            done, _ = wait(pushes, self._time(deadline))
            for each in done:
                each.result()
        finally:
            for each in pushes:
                each.cancel()

    def _push_one(self, session: Session, entry: Listed, deadline: float, tried: _Tried) -> None:
        caller_left.set(self._stop)
        if not self._may_go_on(deadline) or tried.all or entry.id in tried.entries:
            return
        # Delivery may be at work on the same ones, when this server is the first one back.
        again = entry.id in tried.again
        found = self._journal.start(exported_sql.to_send, session.endpoint.url, entry.id, again)
        stored = self._journal.wait(found, self._time(deadline))
        if stored is None:
            return
        try:
            copy = self._sent(session, entry, stored.unpacked(), deadline)
        except ServerError as error:
            # It answers, so it is asked all the same: what it does not take makes its answer stale.
            tried.note(entry, error)
        else:
            self._journal.wait(self._journal.start(deliveries.ack, entry.id, [copy]), self._time(deadline))

    def _sent(self, session: Session, entry: Listed, stored: Entry | Damaged, deadline: float) -> Copy:
        url = session.endpoint.url
        about = f"{entry.name} for {entry.certname} ({entry.uuid})"
        if isinstance(stored, Damaged):
            log.error("%s cannot get %s, which is damaged in the journal: %s", session.endpoint, about, stored)
            return Copy(url, CopyState.REJECTED, None, self._journal.clock(), f"damaged in the journal: {stored}")
        try:
            uuid = session.submit(stored.command, within=self._left(deadline))
        except Rejected as error:
            log.error("%s does not take %s, which it lacks: %s", session.endpoint, about, error)
            return Copy(url, CopyState.REJECTED, None, self._journal.clock(), f"HTTP {error.status}: {error.reason}")
        return Copy(url, CopyState.ACCEPTED, uuid, self._journal.clock(), LATER)

    def _may_go_on(self, deadline: float) -> bool:
        return self._clock() < deadline and not self._stop.is_set()

    def _time(self, deadline: float) -> float:
        """How long to wait for the journal."""
        return max(deadline - self._clock(), LAST_LOOK)

    def _left(self, deadline: float) -> float:
        return max(deadline - self._clock(), 0.01)
