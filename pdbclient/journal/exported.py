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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pdbclient.config.model import Endpoint
from pdbclient.errors import JournalError, Rejected, StaleAnswer
from pdbclient.http.freshness import Freshness
from pdbclient.http.memory import Memory
from pdbclient.http.session import Session
from pdbclient.journal import entries, holdings, owing
from pdbclient.journal.database import Transaction
from pdbclient.journal.journal import Journal
from pdbclient.journal.model import Copy, CopyState, Entry, Listed
from pdbclient.journal.packing import Damaged
from pdbclient.journal.seen import seen

__all__ = ["Exported"]

log = logging.getLogger("pdbclient.journal")

DECIDING = ("replace catalog", "deactivate node")
"""The commands that decide what a query of exported resources gives."""

STILL_ALIVE = 7 * 86400.0
"""Seconds, PuppetDB's default node-ttl: a node without a newer catalog has expired, and must not live again."""

PATIENCE = 120.0
"""Seconds after which what a server took, and does not show, makes its answers stale no more."""

PAGE = 1000
PUSHERS = 4
LOOK_AGAIN = 0.1
"""Seconds between two looks whether what was pushed shows."""


@dataclass(slots=True)
class _Progress:
    """How far one server is. `after`: it has what was put in up to this id. `awaited`: pushed, and not seen yet.

    `pushed`: when those were (monotonic seconds).
    `tops`: ids up to which it had all that had been acknowledged, and when that was so (monotonic seconds).
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    after: int = 0
    tops: deque[tuple[float, int]] = field(default_factory=deque)
    awaited: dict[int, Listed] = field(default_factory=dict)
    pushed: dict[int, float] = field(default_factory=dict)


class Exported:
    """Brings servers up to date from `journal`, each time within `budget` seconds.

    `serve`: what to do when that was not enough: answer all the same and say so, or raise `StaleAnswer`. `stale` is
    called then. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        journal: Journal,
        memory: Memory,
        servers: Sequence[Endpoint],
        *,
        budget: float,
        serve: bool,
        stale: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._memory = memory
        self._budget = budget
        self._serve = serve
        self._stale = stale
        self._clock = clock
        self._progress = {server: _Progress() for server in servers}
        self._pushers = ThreadPoolExecutor(PUSHERS, "pdbclient-exported")

    def close(self) -> None:
        """End its threads."""
        self._pushers.shutdown()

    def bring_up(self, session: Session, within: float) -> Freshness:
        """Before `session` is asked about exported resources: push what its server lacks, and wait until it shows it.

        What it still lacks after the budget, or `within` seconds, is returned. Raises `StaleAnswer` then when the
        policy says so, and the server's own `TransportError` or `ServerError` as any other attempt does.
        """
        deadline = self._clock() + min(self._budget, within)
        try:
            lag, reason = self._brought_up(session, deadline), f"not visible there within {self._budget:.1f} s"
        except JournalError as error:
            lag, reason = Freshness(1), f"what it lacks is not known: {error}"
        if lag.stale:
            self._stale()
            if not self._serve:
                raise StaleAnswer(session.endpoint.url, lag.missing, lag.since, reason)
            log.warning(
                "%s answers about exported resources without %d newer commands, the oldest of %s: %s",
                session.endpoint,
                lag.missing,
                lag.since,
                reason,
            )
        return lag

    def prepare(self, session: Session, budget: float) -> None:
        """Do the same before anybody asks, within `budget` seconds. Raises `JournalError`, and as `bring_up`."""
        self._brought_up(session, self._clock() + budget)

    def _brought_up(self, session: Session, deadline: float) -> Freshness:
        progress = self._progress[session.endpoint]
        # Whoever comes second waits for the first one's work, and finds it done.
        if not progress.lock.acquire(timeout=max(deadline - self._clock(), 0.0)):
            return Freshness(max(len(progress.awaited), 1))
        try:
            return self._work_off(session, progress, deadline)
        finally:
            progress.lock.release()

    def _work_off(self, session: Session, progress: _Progress, deadline: float) -> Freshness:
        url = session.endpoint.url
        while True:
            began = self._clock()
            top, missing = self._journal.run(_missing, url, progress.after, self._journal.clock())
            self._give_up(session.endpoint, progress)
            wanted = {entry.id: entry for entry in missing} | progress.awaited
            if not wanted:
                self._advance(progress, began, top)
                return Freshness()
            there = seen(session, list(wanted.values()), within=max(deadline - began, 0.05))
            self._journal.run(holdings.confirm, url, sorted(there), self._journal.clock())
            for number in there:
                progress.awaited.pop(number, None)
                progress.pushed.pop(number, None)
            to_push = [entry for entry in missing if entry.id not in there]
            self._push(session, progress, to_push, deadline)
            left = wanted.keys() - there
            if self._clock() >= deadline:
                if not left:
                    # Only a page was looked at: that there is more is all that is known.
                    return Freshness(1)
                return Freshness(len(left), min(wanted[number].producer_timestamp for number in left))
            if left:
                time.sleep(min(LOOK_AGAIN, max(deadline - self._clock(), 0.0)))

    def _push(self, session: Session, progress: _Progress, missing: Sequence[Listed], deadline: float) -> None:
        """Send these, newest first, several at once, as far as the time goes."""
        if not missing:
            return
        bodies = self._journal.run(entries.fetch, [entry.id for entry in missing])

        def push(entry: Listed) -> None:
            stored = bodies.get(entry.id)
            left = deadline - self._clock()
            if stored is None or left <= 0:
                return
            copy = self._sent(session, stored, left)
            self._journal.run(owing.settle, entry.id, [copy])
            if copy.state is CopyState.ACCEPTED:
                progress.awaited[entry.id] = entry
                progress.pushed[entry.id] = self._clock()

        for done in [self._pushers.submit(push, entry) for entry in sorted(missing, key=lambda e: -e.id)]:
            done.result()

    def _sent(self, session: Session, entry: Entry | Damaged, within: float) -> Copy:
        url, now = session.endpoint.url, self._journal.clock()
        if isinstance(entry, Damaged):
            return Copy(url, CopyState.REJECTED, None, now, f"damaged in the journal: {entry}")
        try:
            uuid = session.submit(entry.command, within=within)
        except Rejected as error:
            log.error("%s does not take a catalog or deactivation that it lacks: %s", entry.uuid, error)
            return Copy(url, CopyState.REJECTED, None, now, f"HTTP {error.status}: {error.reason}")
        self._memory.accepted(entry.command, [session.endpoint])
        return Copy(url, CopyState.ACCEPTED, uuid, now)

    def _give_up(self, endpoint: Endpoint, progress: _Progress) -> None:
        """Wait no longer for what was taken long ago: the server has thrown it away, or works off a long queue."""
        for number, when in [*progress.pushed.items()]:
            if when < self._clock() - PATIENCE:
                del progress.pushed[number]
                entry = progress.awaited.pop(number)
                log.error(
                    "%s took %s for %s %.0f s ago and does not show it: see its log",
                    endpoint,
                    entry.name,
                    entry.certname,
                    PATIENCE,
                )

    def _advance(self, progress: _Progress, now: float, top: int) -> None:
        """Note that it has all up to `top`, and look from there on once all that was in flight then has ended."""
        if not progress.tops or progress.tops[-1][0] < now - 1.0:
            progress.tops.append((now, top))
        while progress.tops and progress.tops[0][0] < now - self._journal.lease:
            progress.after = progress.tops.popleft()[1]


def _missing(tx: Transaction, url: str, after: int, now: float) -> tuple[int, list[Listed]]:
    """The journal's end, and what the server at `url` lacks of it, in pages."""
    top = holdings.newest_id(tx)
    return top, entries.listed(tx, holdings.lacking(tx, url, DECIDING, after, PAGE, now, now - STILL_ALIVE))
