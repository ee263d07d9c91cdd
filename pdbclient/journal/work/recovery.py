"""Recovery of one server: what the journal has and the server lacks is sent to it again, the same bytes.

Nothing is remembered but in the journal (which server has what), so a recovery may be broken off and repeated: the
next one asks anew. The server's own rules decide about what it gets: of a node's records the newest stays, a report
is stored once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pdbclient.config.model import NODE_TTL
from pdbclient.errors import Ambiguous, Busy, CallerLeft, IncompleteResponse, Rejected, ServerError, TransportError
from pdbclient.http.outcome import Blame, Outcome, blame
from pdbclient.http.presence import queue_depth
from pdbclient.http.sender import caller_left
from pdbclient.http.session import Session
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import deliveries, entries, holdings, replay_sql
from pdbclient.journal.model import LATER, Copy, CopyState, Entry, Listed
from pdbclient.journal.store.packing import Damaged
from pdbclient.journal.work.leases import Lease, hold
from pdbclient.journal.work.paces import Paces
from pdbclient.journal.work.recovered import EXAMPLES, Recovery
from pdbclient.journal.work.seen import Shown, held, is_known, look
from pdbclient.wire.command import Command
from pdbclient.wire.timestamp import from_millis

__all__ = ["Progress", "recover"]

log = logging.getLogger("pdbclient.journal")

PAGE = 500
DEPTH_LIMIT = 1000
DEPTH_EVERY = 25
DEPTH_POLL = 0.5
TRIES = 5
ROUNDS, SHORT_ROUND = 20, 5.0
"""Looks at what was put in meanwhile, at most; after one that took so few seconds, little was."""
FAILED_IN_A_ROW = 5
"""Commands that a server fails one after the other, after which it gets one that it has: does it fail all?"""

QUIET = 5.0
"""Seconds without news after which what is not visible counts as missing, when the server's queue is empty."""
WINDOW = 30.0
SLOWEST = 5.0
"""With commands in the queue it takes WINDOW seconds, and as long as SLOWEST commands a second need for them."""
LOOK_FIRST, LOOK_LAST = 0.2, 2.0

STATUS = ("deactivate node", "configure expiration")
RECORDS = ("replace catalog", "replace facts", "replace catalog inputs")

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def recover(
    journal: Journal,
    session: Session,
    *,
    rate: float,
    since: float | None = None,
    node_ttl: float = NODE_TTL,
    only: Sequence[Listed] | None = None,
    dry_run: bool = False,
    progress: Progress = lambda what, done, total: None,
    stop: threading.Event | None = None,
) -> Recovery:
    """Send the session's server what it lacks of the journal, at most `rate` commands a second, and see it arrive.

    Only what was put in at `since` (seconds since 1970) or later, when given, or the entries `only`. Nodes of which
    nothing is younger than `node_ttl` (seconds; 0: never) are left out, as they have expired. `dry_run` asks and
    counts, and changes nothing, not even the journal. Setting `stop` ends it early. Raises `Leased` when the server
    is being recovered already, `JournalError`, and `TransportError` or `ServerError` when the server cannot go on;
    what was replayed until then stands.
    """
    url = session.endpoint.url
    result = Recovery(url, dry_run)
    with nullcontext() if dry_run else hold(journal, f"recovery of {url}") as lease:
        stop = stop or threading.Event()
        # So that a question under way ends, too.
        before = caller_left.set(stop)
        try:
            _Run(journal, session, lease, rate, since, node_ttl, progress, stop, result).all(only)
        except CallerLeft:
            result.stopped = True
        finally:
            caller_left.reset(before)
    return result


class _Run:
    def __init__(
        self,
        journal: Journal,
        session: Session,
        lease: Lease | None,
        rate: float,
        since: float | None,
        node_ttl: float,
        progress: Progress,
        stop: threading.Event,
        result: Recovery,
    ) -> None:
        self._journal, self._session, self._lease = journal, session, lease
        self._alive_since = journal.clock() - node_ttl if node_ttl else 0.0
        self._since, self._progress, self._stop = since, progress, stop
        self._result = result
        self._paces = Paces(journal, rate)
        self._replayed = array("q")
        self._failed_in_a_row = self._gone = 0
        self._taken: Listed | None = None
        # Asking twice and sending twice change nothing.
        self._patiently = Retrying(
            retry=retry_if_exception_type((Busy, Ambiguous, IncompleteResponse)),
            stop=stop_after_attempt(TRIES),
            wait=_as_asked,
            sleep=self._wait,
            reraise=True,
        )

    def all(self, only: Sequence[Listed] | None) -> None:
        self._let_queue_run_empty()
        if only is not None:
            self._settle([only])
            return
        first, last, _ = self._journal.run(replay_sql.extent)
        after = first - 1
        for number in range(ROUNDS):
            began, lacked, gone = time.monotonic(), sum(self._result.lacked.values()), self._gone
            self._settle(self._pages(after, last))
            self._look_at_the_clock()
            short = number > 0 and time.monotonic() < began + SHORT_ROUND and self._gone == gone
            newest = self._journal.run(holdings.newest_id)
            if short or newest == last or sum(self._result.lacked.values()) == lacked:
                return
            # Nodes that ran meanwhile were in no page, when what they sent did not come to this server.
            after, last = last, newest
        log.warning("%s: not all: more is put in than is sent at journal_rate", self._session.endpoint)
        self._result.stopped = True

    def _settle(self, pages: Iterable[Sequence[Listed]]) -> None:
        """Send what is lacking of these, and see that it arrives."""
        for page in pages:
            self._page([entry for entry in page if self._since is None or entry.received >= self._since])
        missing = self._verify()
        while missing and self._depth() == 0:
            # The server makes nothing of what counts: then the one before it does.
            page = self._journal.run(replay_sql.before, missing[:PAGE].tolist())
            missing = missing[PAGE:]
            if page:
                self._page(page)
                missing += self._verify()

    def _look_at_the_clock(self) -> None:
        newest = self._journal.run(holdings.newest)
        # Where nothing at all is young, the clock may be wrong, and nothing have expired.
        silent = newest is not None and newest.received < self._alive_since
        self._result.silent = bool(self._result.expired) and silent

    def _pages(self, begin: int, last: int) -> Iterator[Sequence[Listed]]:
        """Deactivations first: a node that was decommissioned must not be active for a moment. Reports last."""
        nodes = self._journal.run(replay_sql.extent)[2]
        done = 0
        for names in (STATUS, RECORDS):
            after: int | None = begin
            while after is not None:
                page = self._journal.run(replay_sql.newest_page, names, after, last, PAGE)
                self._result.leave_out(page.damaged)
                yield page.entries
                done, after = done + len(page.entries), page.after
                self._progress("nodes", done, max(nodes, done))
        after = begin
        while after is not None:
            page = self._journal.run(replay_sql.reports_page, after, last, PAGE)
            self._result.leave_out(page.damaged)
            yield page.entries
            after = page.after
            self._progress("reports", (last if after is None else after) - begin, last - begin)

    def _page(self, page: Sequence[Listed]) -> None:
        self._check()
        shown = self._look(page)
        there = held(page, shown)
        lacking = [entry for entry in page if entry.id not in there and is_known(entry, shown)]
        self._leave_out([entry for entry in page if entry.id not in there and not is_known(entry, shown)], shown)
        alive = from_millis(int(self._alive_since * 1000))
        expired = self._journal.run(replay_sql.expired, [entry.id for entry in lacking], alive)
        lacking = [entry for entry in lacking if entry.id not in expired]
        self._result.looked_at += len(page)
        self._result.had += len(there)
        self._result.expired += len(expired)
        for entry in lacking:
            self._result.lacked[entry.name] = self._result.lacked.get(entry.name, 0) + 1
        if self._result.dry_run:
            return
        url = self._session.endpoint.url
        new = {entry.id: there[entry.id] for entry in page if entry.id in there and not _is_confirmed(entry, url)}
        self._journal.confirm(url, new)
        replayed = (self._replay(entry, stored) for entry, stored in self._journal.bodies(lacking))
        for note in [note for note in replayed if note is not None]:
            self._journal.wait(note)

    def _leave_out(self, some: Sequence[Listed], shown: Shown) -> None:
        for entry in some:
            self._result.unknown[entry.name] = self._result.unknown.get(entry.name, 0) + 1
        if some:
            self._result.reasons |= {name: str(error) for name, error in shown.unanswered.items()}

    def _replay(self, entry: Listed, stored: Entry | Damaged | None) -> Future[Any] | None:
        """Send it; what comes of that is noted in the journal without waiting for the disk."""
        if stored is None:
            # Retention took it meanwhile: some server has it, and it is older than what is to be kept.
            return None
        if isinstance(stored, Damaged):
            self._result.refuse(entry, f"damaged in the journal: {stored}")
            return None
        try:
            uuid = self._send(stored.command)
        except Rejected as error:
            reason = f"HTTP {error.status}: {error.reason}"
            self._result.refuse(entry, reason)
            return self._note(entry, CopyState.REJECTED, reason=reason)
        except (TransportError, ServerError) as error:
            self._failed_in_a_row += 1
            if blame(Outcome.of(error)) is not Blame.EITHER or not self._goes_on():
                raise
            log.warning("not replayed: %s for %s (%s): %s", entry.name, entry.certname, entry.uuid, error.reason)
            self._result.fail(entry, error.reason)
            return None
        self._failed_in_a_row = 0
        self._result.replayed += 1
        self._replayed.append(entry.id)
        self._taken = entry
        self._progress("replayed", self._result.replayed, 0)
        return self._note(entry, CopyState.ACCEPTED, uuid, LATER)

    def _goes_on(self) -> bool:
        """Whether it is these commands that the server fails, and not the server that fails all.

        What stands one after the other in the journal may all be bad: then it takes one that it took before.
        """
        if self._failed_in_a_row % FAILED_IN_A_ROW:
            return True
        taken = [self._taken] if self._taken is not None else self._seen_there()
        for _, stored in self._journal.bodies(taken):
            if stored is not None and not isinstance(stored, Damaged):
                try:
                    self._patiently(self._session.submit, stored.command)
                except (TransportError, ServerError) as error:
                    log.debug("%s fails what it took before, too: %s", self._session.endpoint, error)
                    return False
                return True
        return False

    def _seen_there(self) -> list[Listed]:
        """One that it has, and that brings no expired node to life again."""
        newest = self._journal.run(holdings.newest_id)
        some = self._journal.run(holdings.confirmed, self._session.endpoint.url, newest, PAGE)
        alive = from_millis(int(self._alive_since * 1000))
        expired = self._journal.run(replay_sql.expired, [entry.id for entry in some], alive)
        return [entry for entry in some if entry.id not in expired][-1:]

    def _send(self, command: Command) -> str:
        if self._result.replayed % DEPTH_EVERY == 0:
            self._let_queue_get_shorter()
        while pause := self._paces.take(self._session.endpoint.url):
            self._wait(pause)
        self._check()
        uuid: str = self._patiently(self._session.submit, command)
        return uuid

    def _let_queue_get_shorter(self) -> None:
        """Wait while the server's queue is long. Raises `Busy` when that does not get shorter any more."""
        least, news = math.inf, time.monotonic()
        while (depth := self._depth()) > DEPTH_LIMIT:
            if depth < least:
                least, news = depth, time.monotonic()
            elif _hopeless(time.monotonic() - news, DEPTH_LIMIT):
                why = f"{depth} commands wait in its queue, which has not got shorter for a while: see its log"
                raise Busy(self._session.endpoint.url, 503, why, 0.0)
            self._wait(DEPTH_POLL)

    def _note(self, entry: Listed, state: CopyState, uuid: str | None = None, reason: str = "") -> Future[Any]:
        copy = Copy(self._session.endpoint.url, state, uuid, self._journal.clock(), reason)
        return self._journal.start(deliveries.ack, entry.id, [copy])

    def _verify(self) -> array[int]:
        """Ask for what was replayed until all of it is visible, or nothing has moved for a while: what is not."""
        left, news, delay = self._replayed, time.monotonic(), LOOK_FIRST
        self._replayed = array("q")
        while left:
            before = len(left)
            left, seen = self._not_visible(left)
            self._result.verified += seen
            self._progress("verified", self._result.verified, self._result.replayed)
            if len(left) < before:
                news, delay = time.monotonic(), LOOK_FIRST
            silent = time.monotonic() - news
            if not left or (silent >= QUIET and _hopeless(silent, self._depth())):
                break
            self._wait(delay)
            delay = min(delay * 1.6, LOOK_LAST)
        self._result.missing += len(left)
        some = left[: max(EXAMPLES - len(self._result.examples), 0)]
        self._result.examples += self._journal.run(entries.listed, some.tolist())
        return left

    def _not_visible(self, ids: array[int]) -> tuple[array[int], int]:
        """Those that are not seen there, and how many are. Neither is what left the journal, for something newer."""
        left, seen = array("q"), 0
        for start in range(0, len(ids), PAGE):
            self._check()
            page = self._journal.run(entries.listed, ids[start : start + PAGE].tolist())
            shown = self._look(page)
            there = held(page, shown)
            self._journal.confirm(self._session.endpoint.url, there)
            left.extend(entry.id for entry in page if entry.id not in there)
            seen += len(there)
            self._gone += len(ids[start : start + PAGE]) - len(page)
        return left, seen

    def _let_queue_run_empty(self) -> None:
        """Wait while the server works off what it has: what waits there is not visible, and would be sent twice."""
        least, news = self._depth(), time.monotonic()
        while least and time.monotonic() - news < QUIET:
            self._progress("queued", 0, least)
            self._wait(DEPTH_POLL)
            depth = self._depth()
            if depth < least:
                least, news = depth, time.monotonic()

    def _look(self, page: Sequence[Listed]) -> Shown:
        shown: Shown = self._patiently(look, self._session, page)
        return shown

    def _depth(self) -> int:
        depth: int = self._patiently(queue_depth, self._session)
        return depth

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self._check()

    def _check(self) -> None:
        if self._stop.is_set():
            raise CallerLeft("the recovery was told to end")
        if self._lease is not None:
            self._lease.require()


def _is_confirmed(entry: Listed, url: str) -> bool:
    return any(copy.server == url and copy.state is CopyState.CONFIRMED for copy in entry.copies)


def _hopeless(silent: float, depth: int) -> bool:
    return depth == 0 or silent >= WINDOW + depth / SLOWEST


def _as_asked(state: RetryCallState) -> float:
    """As long as a busy server asked for (s); a dropped connection is made again at once."""
    met = state.outcome.exception() if state.outcome else None
    return met.retry_after if isinstance(met, Busy) else 0.0
