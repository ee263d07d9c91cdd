"""Delivery in the background: what is pending, as soon as servers are healthy, no faster than they can take it.

One command that servers do not manage backs off alone, and the others go on. What a delivery meets never counts in
the registry: users find out by themselves how a server is, and a server that is out for delivery is theirs still.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, wait

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import CallerLeft, JournalError, Rejected, ServerError, TransportError
from pdbclient.http.failover import Failover
from pdbclient.http.outcome import Blame, Kind, Operation, Outcome, blame
from pdbclient.http.route import write_order
from pdbclient.http.sender import caller_left
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import deliveries
from pdbclient.journal.model import (
    ANY,
    LATER,
    Claim,
    Copy,
    CopyState,
    Entry,
    EntryState,
    attempt_limit,
    backoff,
    doubled,
)
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.packing import Damaged
from pdbclient.journal.work.paces import Paces

__all__ = ["Delivery"]

log = logging.getLogger("pdbclient.journal")

PAUSE = 1.0
"""Seconds between two looks for work when there was none."""
BATCH = 20
OVERTAKEN = 1.0
"""Seconds that a command may take before the next one is sent beside it: one that hangs must not keep the others."""
SENDERS = 8
"""Commands under way to one target at once, at the most."""
RESTING_FIRST, RESTING_LIMIT = 1.0, 30.0
ENDING = 2.0
"""Seconds that deliveries under way have at the end."""


class Delivery:
    """Sends what is pending: for any server, and with broadcast for each of them in particular."""

    def __init__(self, journal: Journal, failover: Failover, config: ClientConfig) -> None:
        servers = write_order((*config.server_urls, *config.submit_only_server_urls))
        resting, paces = _Resting(), Paces(journal, config.journal_rate)
        candidates: list[tuple[str, Sequence[Endpoint]]] = [(ANY, servers)]
        candidates += [(server.url, (server,)) for server in servers]
        # Not so many that the last one's time is over before it is sent.
        batch = min(max(int(config.journal_rate), 1), BATCH)
        limit = config.timeouts.attempt
        self._targets: list[_Target] = []
        try:
            for pair in candidates:
                target = _Target(journal, failover, resting, paces, *pair, batch=batch, limit=limit)
                self._targets.append(target)
        except BaseException:
            self.close()
            raise

    def wake(self) -> None:
        """There may be something to deliver."""
        for target in self._targets:
            target.wake()

    def close(self) -> None:
        """End the threads; deliveries under way have a few seconds, and are left to the next process then."""
        end = time.monotonic() + ENDING
        for target in self._targets:
            target.stop()
        for target in self._targets:
            target.join(end)


class _Resting:
    """Which servers delivery leaves alone for now: those that did not take commands up. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[Endpoint, int] = {}
        self._until: dict[Endpoint, float] = {}

    def rests(self, server: Endpoint) -> bool:
        with self._lock:
            return time.monotonic() < self._until.get(server, 0.0)

    def failed(self, server: Endpoint, asked_for: float | None) -> None:
        """It is left alone for as long as it asked for (seconds), else longer each time."""
        with self._lock:
            if time.monotonic() < self._until.get(server, 0.0):
                # What was under way at the same time tells nothing new.
                return
            failures = self._failures[server] = self._failures.get(server, 0) + 1
            self._until[server] = time.monotonic() + (
                asked_for or doubled(RESTING_FIRST, failures - 1, RESTING_LIMIT)
            )

    def well(self, server: Endpoint) -> None:
        with self._lock:
            self._failures.pop(server, None)


class _Target:
    """A thread that hands out what is pending for one target, in order, and those that send it."""

    def __init__(
        self,
        journal: Journal,
        failover: Failover,
        resting: _Resting,
        paces: Paces,
        target: str,
        servers: Sequence[Endpoint],
        *,
        batch: int,
        limit: float,
    ) -> None:
        self._journal, self._failover, self._resting, self._paces = journal, failover, resting, paces
        self._target, self._servers = target, servers
        self._batch, self._limit = batch, limit
        self._closed, self._broken_off, self._work = threading.Event(), threading.Event(), threading.Event()
        self._going: dict[Future[bool], float] = {}
        self._delivered = 0
        self._thread = threading.Thread(target=self._run, name="pdbclient-delivery", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._work.set()

    def stop(self) -> None:
        self._closed.set()
        self._work.set()

    def join(self, end: float) -> None:
        """Until `end` (monotonic seconds); then what is under way is broken off."""
        self._thread.join()
        wait(self._going, max(end - time.monotonic(), 0.0))
        self._broken_off.set()
        wait(self._going, ENDING)

    def _run(self) -> None:
        waiting: deque[Claim] = deque()
        until, rounds = 0.0, Rounds("nothing can be delivered")
        while not self._closed.is_set():
            now, pause = time.monotonic(), PAUSE
            with rounds.each():
                going = self._still_going()
                if waiting and self._journal.clock() >= until:
                    # Others may have them by now; and that they were not sent is no failure of theirs.
                    for claim in waiting:
                        self._release(claim, 0.0)
                    waiting.clear()
                servers = self._usable()
                if not waiting and servers and len(going) < SENDERS:
                    until = self._journal.clock() + self._journal.lease
                    waiting.extend(self._claimed(until))
                free = len(going) < SENDERS and all(now - since >= OVERTAKEN for since in going.values())
                if waiting and servers and free:
                    early = self._paces.take(servers[0].url)
                    if not early:
                        going[self._started(waiting[0], servers)] = now
                        waiting.popleft()
                        continue
                    pause = early
                if self._delivered and not waiting and not going:
                    self._say_what_was_delivered()
            # Only the pause is sure: what another process put in wakes nobody here.
            self._work.wait(pause)
            self._work.clear()
        for claim in waiting:
            self._deliver(claim, ())

    def _still_going(self) -> dict[Future[bool], float]:
        """What is being sent and since when; of what has ended, what was delivered is counted."""
        ended = [each for each in self._going if each.done()]
        self._delivered += sum(each.result() for each in ended)
        for each in ended:
            del self._going[each]
        return self._going

    def _say_what_was_delivered(self) -> None:
        """All there was to send is sent: one line, not one for each."""
        log.info("%d commands that were pending for %s are delivered", self._delivered, self._target or "any server")
        self._delivered = 0

    def _claimed(self, until: float) -> list[Claim]:
        now = self._journal.clock()
        return self._journal.run(deliveries.claim, self._target, self._batch, now, until, self._journal.owner)

    def _usable(self) -> list[Endpoint]:
        """The servers that may be sent something, in order."""
        usable = self._failover.registry.usable
        return [s for s in self._servers if usable(s, Operation.COMMAND) and not self._resting.rests(s)]

    def _started(self, claim: Claim, servers: Sequence[Endpoint]) -> Future[bool]:
        """Deliver it in a thread of its own, which tells whether a server took it. Raises `RuntimeError` where this
        machine has none, and nothing began.
        """
        done: Future[bool] = Future()

        def deliver() -> None:
            caller_left.set(self._broken_off)
            taken = False
            try:
                taken = self._deliver(claim, servers)
            finally:
                done.set_result(taken)
                self._work.set()

        threading.Thread(target=deliver, name="pdbclient-deliver", daemon=True).start()
        return done

    def _deliver(self, claim: Claim, servers: Sequence[Endpoint]) -> bool:
        """Deliver it to the first of `servers` that takes it; give it back, and say False, when there is none."""
        try:
            entry = self._journal.fetch([claim.entry]).get(claim.entry) if servers else None
            if isinstance(entry, Damaged):
                self._park(claim, servers[0], entry)
            elif isinstance(entry, Entry):
                return self._send(claim, entry, servers)
            elif not servers:
                self._release(claim, 0.0)
        except JournalError as error:
            log.error("entry %d: what became of it could not be noted: %s", claim.entry, error)
        except Exception:
            # One bad entry is skipped, and due again when its time is over.
            log.exception("entry %d could not be delivered", claim.entry)
        return False

    def _send(self, claim: Claim, entry: Entry, servers: Sequence[Endpoint]) -> bool:
        """Send it to the first server that takes it, as a live submission goes. The first one's pace allows it."""
        command, at_fault = entry.command, False
        about = f"{command.name} for {command.certname} ({entry.uuid})"
        limit = attempt_limit(claim.tries, self._limit)
        for server in servers:
            if server != servers[0] and not self._may_send(server):
                break
            try:
                uuid = self._failover.deliver(server, command, limit, alone=claim.target == ANY)
            except Rejected as error:
                log.error("parked: %s: %s", about, error)
                self._note(entry, Copy(server.url, CopyState.REJECTED, None, self._journal.clock(), str(error)))
                return False
            except CallerLeft:
                log.info("broken off, and to be delivered again: %s to %s", about, server)
                break
            except (TransportError, ServerError) as error:
                outcome = Outcome.of(error)
                log.info("not delivered yet: %s: %s", about, error)
                if outcome.kind is Kind.OUT_OF_TIME or blame(outcome) is Blame.SERVER:
                    self._resting.failed(server, outcome.retry_after)
                at_fault = at_fault or blame(outcome) in (Blame.EITHER, Blame.REQUEST)
            else:
                log.debug("delivered: %s to %s", about, server)
                self._resting.well(server)
                self._note(entry, Copy(server.url, CopyState.ACCEPTED, uuid, self._journal.clock(), LATER))
                return True
        if at_fault:
            now, owner = self._journal.clock(), self._journal.owner
            self._journal.run(deliveries.retry_later, entry.id, claim.target, now, owner)
            log.info("%s is tried again in %.0f s", about, backoff(claim.tries + 1))
        else:
            self._release(claim, PAUSE)
        return False

    def _may_send(self, server: Endpoint) -> bool:
        """Wait until this server may be sent one more; False when it is time to end."""
        while pause := self._paces.take(server.url):
            if self._closed.wait(pause):
                return False
        return True

    def _note(self, entry: Entry, copy: Copy) -> None:
        """Without waiting: the next one is sent meanwhile. What cannot be noted is sent again, as the same bytes."""

        def noted(future: Future[EntryState | None]) -> None:
            if (error := future.exception()) is not None:
                log.error("the journal could not note a delivery, which will be repeated: %s", error)

        self._journal.start(deliveries.ack, entry.id, [copy]).add_done_callback(noted)

    def _park(self, claim: Claim, server: Endpoint, damage: Damaged) -> None:
        reason = f"damaged in the journal: {damage}"
        log.error("parked: entry %d: %s", claim.entry, reason)
        copy = Copy(server.url, CopyState.REJECTED, None, self._journal.clock(), reason)
        self._journal.run(deliveries.ack, claim.entry, [copy])

    def _release(self, claim: Claim, pause: float) -> None:
        due, owner = self._journal.clock() + pause, self._journal.owner
        self._journal.run(deliveries.release, claim.entry, due, owner, claim.target)
