"""A thread that commits for all who wait, and knows whether the database answers; more of them where that takes long.

While it does not, nobody waits: what is started fails at once, and the thread asks by itself until it is back.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pdbclient.errors import JournalBusy, JournalError
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.database import Database, Kept, Transaction, Unreachable

__all__ = ["Committer", "Outage"]

log = logging.getLogger("pdbclient.journal")

T = TypeVar("T")

BATCH = 128
"""Transactions of callers at most that share one commit."""
MOST_KEPT = 2
"""Callers of one batch that wait in vain for what others keep: the rest is not tried."""
SILENT = 5.0
"""Seconds that the database may be silent in a transaction before nobody waits behind it any more."""
SLOW = 0.1
"""Seconds that anybody waits behind a transaction before another one begins beside it, where it can."""
PROBE_AGAIN = 1.0
"""Seconds between two questions whether the database is back."""
CONNECT_AGAIN = 10.0
"""Seconds until a further connection is asked for again after one could not be had."""
CLOSE_LIMIT = 5.0
CLOSE_LOOK = 0.1
"""Seconds that what still waits has at the end, and between two looks whether it is done."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be done in a transaction, and who waits for it. `new`: it needs no row that others could keep."""

    work: Callable[[Transaction], Any]
    future: Future[Any]
    new: bool
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False)
class _Line:
    """A connection and its thread. `began`: when its transaction did (monotonic seconds); `batch` is what is in that.

    `answered`: it is there, as far as is known; `failure`: what it met instead.
    """

    database: Database
    woken: threading.Condition
    began: float | None = None
    batch: Sequence[_Asked] = ()
    answered: bool = False
    failure: Exception | None = None


class Outage:
    """That the database does not answer some of those that ask it: said once at its beginning and at its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met = 0
        self._since = 0.0

    def begin(self, since: float, failure: Exception) -> None:
        """One more has met it: `failure`, `since` then (monotonic seconds)."""
        with self._lock:
            self._met += 1
            if self._met == 1:
                self._since = since
                log.error("the journal does not answer; nothing is accepted until it does: %s", failure)

    def end(self) -> None:
        """It answers one of them again."""
        with self._lock:
            self._met -= 1
            if self._met == 0:
                log.warning("the journal answers again, after %.0f s", time.monotonic() - self._since)


class Committer:
    """Runs transactions of `database` in a thread called `name`. Not for a forked child.

    `more` are further connections to the same: over a long way, one transaction would wait for the other. What has
    waited for `SLOW` is taken by one of these, with what else waits then. They are connected when they are first
    needed, one after the other, and nobody's command waits for that; one that cannot be had is asked for again later.
    All of them belong to this. `outage` is common to all that ask the same database.
    """

    def __init__(
        self, database: Database, name: str, outage: Outage | None = None, more: Sequence[Database] = ()
    ) -> None:
        self._outage = outage or Outage()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._closed = False
        self._lines = [_Line(each, threading.Condition(self._lock)) for each in (database, *more)]
        self._first, *spare = self._lines
        # Those that are connected and have no work, and the one of them that sees to it that nobody waits too long;
        # those that are not connected, and the one of them that is to be.
        self._idle: list[_Line] = []
        self._looking: _Line | None = None
        self._apart = list(spare)
        self._connecting: _Line | None = None
        self._connect_at = float("-inf")
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True)]
        self._threads += [threading.Thread(target=self._help, args=(each,), name=name, daemon=True) for each in spare]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.stop()
            raise

    @property
    def down(self) -> str | None:
        """Why the database cannot be used now; None when it can, as far as is known."""
        return self._why(self._first, SILENT)

    def _why(self, line: _Line, silence: float) -> str | None:
        if line.failure is not None:
            return str(line.failure)
        began = line.began
        # A transaction may take long where the database is far away: it answers as long as it goes on.
        silent = 0.0 if began is None else time.monotonic() - max(began, line.database.heard)
        if silent < silence:
            return None
        return f"the journal has not answered for {silent:.0f} s: see its disk, or its database"

    def start(
        self, work: Callable[[Transaction], T], silence: float | None = None, *, new: bool = False
    ) -> Future[T]:
        """Run `work` in a transaction; done when that is durable. Raises `JournalError` when this is closed.

        Raises `Unreachable` when there is no database now, or one transaction has taken `silence` seconds already
        (`SILENT`, without). `new`: it only puts in what nobody else has yet, so it need not wait for those who need
        what somebody keeps.
        """
        future: Future[T] = Future()
        with self._lock:
            self._require(silence)
            self._waiting.append(_Asked(work, future, new))
            self._first.woken.notify()
            self._see_to_those_who_wait()
        return future

    def all_before(self, silence: float) -> list[Future[Any]]:
        """Done when all is that was started before, whatever became of it. Raises as `start`, for any connection."""
        with self._lock:
            self._require(silence, *(line for line in self._lines if line.batch))
            return [each.future for batch in (self._waiting, *(line.batch for line in self._lines)) for each in batch]

    def close(self) -> int:
        """Finish what waits, as far as the time goes, and let go of the database. How many could not be finished."""
        if self._pid != os.getpid():
            return 0
        self.stop()
        if threading.current_thread() in self._threads:
            return 0
        end = time.monotonic() + CLOSE_LIMIT
        while (busy := self._at_work()) and time.monotonic() < end:
            busy[0].join(CLOSE_LOOK)
        why = self.down or "the journal was closed before it could do that"
        return self._give_up(Unreachable(why))

    def _at_work(self) -> list[threading.Thread]:
        """Those that are waited for. When the first one is down, its thread ends when it can; so does one that is
        being connected.
        """
        apart = [self._connecting, self._first if self.down is not None else None]
        each = zip(self._threads, self._lines, strict=True)
        return [thread for thread, line in each if thread.is_alive() and line not in apart]

    def stop(self) -> None:
        """Take no more, and end when what waits is done."""
        with self._lock:
            self._closed = True
            for line in self._lines:
                line.woken.notify()

    def _require(self, silence: float | None, *lines: _Line) -> None:
        if self._closed or self._pid != os.getpid():
            raise JournalError("this journal is closed, or was opened before the process forked")
        for line in (self._first, *lines):
            if (why := self._why(line, SILENT if silence is None else silence)) is not None:
                raise Unreachable(why)

    def _work(self) -> None:
        rounds = Rounds("the journal")
        while batch := self._next():
            with rounds.each():
                self._round(batch)
        self._first.database.close()

    def _next(self) -> Sequence[_Asked]:
        line = self._first
        with self._lock:
            line.batch = ()
            while not self._waiting and not self._closed:
                line.woken.wait()
            return self._take(line)

    def _take(self, line: _Line) -> Sequence[_Asked]:
        """All that waits; over a long way, where each of a batch costs another wait for an answer, a share of it."""
        number = len(self._waiting)
        if number and not self._closed and self._waiting[0].since + SLOW <= time.monotonic():
            number = math.ceil(number / (1 + len(self._idle) + (self._looking is not None)))
        line.batch = [self._waiting.popleft() for _ in range(min(number, BATCH))]
        self._see_to_those_who_wait()
        return line.batch

    def _round(self, batch: Sequence[_Asked]) -> None:
        line = self._first
        try:
            self._committed(line, batch)
            if line.failure is not None:
                self._probe(line.failure)
        except Exception:
            # Else nobody would ask any more whether that is over.
            line.failure = None
            raise

    def _committed(self, line: _Line, batch: Sequence[_Asked]) -> None:
        try:
            # Whoever waits for one of these can give up until here, not any more afterwards.
            wanted = [each for each in batch if each.future.set_running_or_notify_cancel()]
            if wanted:
                self._commit(line, wanted)
        except Exception as error:
            # Else some would wait for ever.
            for each in batch:
                with suppress(InvalidStateError):
                    each.future.set_exception(error)
            raise

    # -- further connections

    def _see_to_those_who_wait(self) -> None:
        """Have a connection do so, or one more be made, unless the first one is about to take them."""
        if not self._waiting or not self._first.batch or self._looking is not None:
            return
        if self._idle:
            self._looking = self._idle.pop()
            self._looking.woken.notify()
        elif self._apart and self._connecting is None:
            self._connecting = self._apart.pop()
            self._connecting.woken.notify()

    def _help(self, line: _Line) -> None:
        rounds = Rounds("a further connection to the journal")
        while self._overdue(line):
            with rounds.each():
                if line.answered:
                    self._help_out(line)
                else:
                    self._connect(line)
            with self._lock:
                self._put_back(line)
                self._see_to_those_who_wait()
        line.database.close()

    def _overdue(self, line: _Line) -> bool:
        """Wait until this one is to take what has waited for too long, or is to be connected for that; False when it
        is to end.
        """
        with self._lock:
            while not self._closed:
                if line not in (self._looking, self._connecting):
                    line.woken.wait()
                elif not self._waiting:
                    self._put_back(line)
                else:
                    due = self._waiting[0].since + SLOW
                    left = (due if line.answered else max(due, self._connect_at)) - time.monotonic()
                    if left <= 0:
                        return True
                    line.woken.wait(left)
            return False

    def _help_out(self, line: _Line) -> None:
        with self._lock:
            self._looking = None
            batch = self._take(line)
        try:
            self._committed(line, batch)
        finally:
            # What it met, those in the batch were told; the next ones go elsewhere until it is there again.
            line.answered, line.failure = line.failure is None, None

    def _connect(self, line: _Line) -> None:
        """Nobody waits for it: whoever does, waits for the others."""
        self._connect_at = time.monotonic() + CONNECT_AGAIN
        try:
            self._transact(line, lambda _: None)
        except JournalError as error:
            # When the journal does not answer at all, the first one says so.
            log.info("no further connection to the journal, those that there are go on: %s", error)
            self._connect_at = time.monotonic() + CONNECT_AGAIN
        else:
            self._connect_at = float("-inf")
            line.answered = True

    def _put_back(self, line: _Line) -> None:
        line.batch = ()
        if line is self._looking:
            self._looking = None
        if line is self._connecting:
            self._connecting = None
        (self._idle if line.answered else self._apart).append(line)

    # -- transactions

    def _commit(self, line: _Line, batch: Sequence[_Asked]) -> BaseException | None:
        """One commit for all; when that fails, each has one of its own, so that nobody pays for another's fault.

        But not when the database is away, or several are kept: they would wait for it one after the other. What one
        met.
        """
        try:
            results = self._transact(line, lambda tx: [each.work(tx) for each in batch])
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            if isinstance(error, Unreachable | JournalBusy) and not isinstance(error, Kept):
                line.failure = error
            elif len(batch) > 1:
                self._commit_apart(line, batch)
                return None
            for each in batch:
                each.future.set_exception(error)
            return error
        for each, result in zip(batch, results, strict=True):
            each.future.set_result(result)
        return None

    def _commit_apart(self, line: _Line, batch: Sequence[_Asked]) -> None:
        kept: list[BaseException] = []
        for each in sorted(batch, key=lambda each: not each.new):
            failure = line.failure or (kept[-1] if len(kept) == MOST_KEPT else None)
            if failure is not None:
                each.future.set_exception(failure)
            elif isinstance(met := self._commit(line, [each]), Kept):
                kept.append(met)

    def _transact(self, line: _Line, work: Callable[[Transaction], T]) -> T:
        line.began = time.monotonic()
        try:
            return line.database.transact(work)
        finally:
            line.began = None

    def _probe(self, failure: Exception) -> None:
        """Ask until the database answers, or this is closed; whoever waits, or comes meanwhile, is told at once."""
        since, told, line = time.monotonic(), False, self._first
        self._give_up(failure)
        while not self._closed:
            try:
                self._transact(line, lambda _: None)
            except Exception as error:  # noqa: BLE001  # said below, and to all who come
                failure = line.failure = error
            else:
                line.failure = None
                if told:
                    self._outage.end()
                return
            if not told:
                self._outage.begin(since, failure)
                told = True
            with self._lock:
                line.woken.wait_for(lambda: self._closed, PROBE_AGAIN)

    def _give_up(self, error: Exception) -> int:
        """End the waiting of all who wait with `error`; how many that were."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        futures = [each.future for each in waiting if each.future.set_running_or_notify_cancel()]
        for future in futures:
            future.set_exception(error)
        return len(futures)
