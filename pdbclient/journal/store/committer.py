"""A thread on a connection: it commits for all who wait, and knows whether the database answers; or several of them.

While it does not, nobody waits: what is started fails at once, and the thread asks by itself until it is back.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pdbclient.errors import JournalBusy, JournalError
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.database import Database, Kept, Transaction, Unreachable

__all__ = ["Committer", "Committers", "Outage"]

log = logging.getLogger("pdbclient.journal")

T = TypeVar("T")

BATCH = 128
"""Transactions of callers at most that share one commit."""
MOST_KEPT = 2
"""Callers of one batch that wait in vain for what others keep: the rest is not tried."""
SILENT = 5.0
"""Seconds that the database may be silent in a transaction before nobody waits behind it any more."""
SLOW = 0.1
"""Seconds that a transaction may take before others begin beside it, where they can, instead of waiting behind it."""
PROBE_AGAIN = 1.0
"""Seconds between two questions whether the database is back."""
CLOSE_LIMIT = 5.0
CLOSE_LOOK = 0.1
"""Seconds that what still waits has at the end, and between two looks whether it is done."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be done in a transaction, and who waits for it. `new`: it needs no row that others could keep."""

    work: Callable[[Transaction], Any]
    future: Future[Any]
    new: bool


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
    """Runs transactions of `database`, which it owns, in a thread called `name`. Not for a forked child.

    `outage` is common to all that ask the same database.
    """

    def __init__(self, database: Database, name: str, outage: Outage | None = None) -> None:
        self._database = database
        self._outage = outage or Outage()
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._waiting: deque[_Asked] = deque()
        self._unended = 0
        self._closed = False
        self._failure: Exception | None = None
        self._began: float | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def down(self) -> str | None:
        """Why the database cannot be used now; None when it can, as far as is known."""
        return self._why(SILENT)

    def _why(self, silence: float) -> str | None:
        if self._failure is not None:
            return str(self._failure)
        began = self._began
        # A transaction may take long where the database is far away: it answers as long as it goes on.
        silent = 0.0 if began is None else time.monotonic() - max(began, self._database.heard)
        if silent < silence:
            return None
        return f"the journal has not answered for {silent:.0f} s: see its disk, or its database"

    @property
    def slow(self) -> bool:
        """Whether it has been at one transaction for so long that others better go elsewhere."""
        began = self._began
        return began is not None and time.monotonic() - began >= SLOW

    @property
    def load(self) -> int:
        """How many transactions have been started and have not ended."""
        return self._unended

    def start(
        self, work: Callable[[Transaction], T], silence: float | None = None, *, new: bool = False
    ) -> Future[T]:
        """Run `work` in a transaction; done when that is durable. Raises `JournalError` when this is closed.

        Raises `Unreachable` when there is no database now, or one transaction has taken `silence` seconds already
        (`SILENT`, without). `new`: it only puts in what nobody else has yet, so it need not wait for those who need
        what somebody keeps.
        """
        future: Future[T] = Future()
        with self._condition:
            if self._closed or self._pid != os.getpid():
                raise JournalError("this journal is closed, or was opened before the process forked")
            if (why := self._why(SILENT if silence is None else silence)) is not None:
                raise Unreachable(why)
            self._waiting.append(_Asked(work, future, new))
            self._unended += 1
            self._condition.notify()
        return future

    def close(self, end: float | None = None) -> int:
        """Finish what waits, as far as the time goes (`end`, monotonic seconds), and let go of the database.

        How many could not be finished.
        """
        self.stop()
        if self._pid != os.getpid() or self._thread is threading.current_thread():
            return 0
        end = time.monotonic() + CLOSE_LIMIT if end is None else end
        # When it is down, there is nothing to wait for: its thread ends when it can.
        while self._thread.is_alive() and self.down is None and time.monotonic() < end:
            self._thread.join(CLOSE_LOOK)
        if not self._thread.is_alive():
            return 0
        return self._give_up(Unreachable(self.down or "the journal was closed before it could do that"))

    def stop(self) -> None:
        """Take no more, and end when what waits is done."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _work(self) -> None:
        rounds = Rounds("the journal")
        while batch := self._next():
            with rounds.each():
                self._round(batch)
            with self._condition:
                self._unended -= len(batch)
        self._database.close()

    def _round(self, batch: Sequence[_Asked]) -> None:
        try:
            # Whoever waits for one of these can give up until here, not any more afterwards.
            wanted = [each for each in batch if each.future.set_running_or_notify_cancel()]
            if wanted:
                self._commit(wanted)
            if self._failure is not None:
                self._probe(self._failure)
        except Exception as error:
            # Else nobody would ask any more whether that is over; and some would wait for ever.
            self._failure = None
            for each in batch:
                with suppress(InvalidStateError):
                    each.future.set_exception(error)
            raise

    def _next(self) -> list[_Asked]:
        with self._condition:
            while not self._waiting and not self._closed:
                self._condition.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]

    def _commit(self, batch: Sequence[_Asked]) -> BaseException | None:
        """One commit for all; when that fails, each has one of its own, so that nobody pays for another's fault.

        But not when the database is away, or several are kept: they would wait for it one after the other. What one
        met.
        """
        try:
            results = self._transact(lambda tx: [each.work(tx) for each in batch])
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            if isinstance(error, Unreachable | JournalBusy) and not isinstance(error, Kept):
                self._failure = error
            elif len(batch) > 1:
                self._commit_apart(batch)
                return None
            for each in batch:
                each.future.set_exception(error)
            return error
        for each, result in zip(batch, results, strict=True):
            each.future.set_result(result)
        return None

    def _commit_apart(self, batch: Sequence[_Asked]) -> None:
        kept: list[BaseException] = []
        for each in sorted(batch, key=lambda each: not each.new):
            failure = self._failure or (kept[-1] if len(kept) == MOST_KEPT else None)
            if failure is not None:
                each.future.set_exception(failure)
            elif isinstance(met := self._commit([each]), Kept):
                kept.append(met)

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        self._began = time.monotonic()
        try:
            return self._database.transact(work)
        finally:
            self._began = None

    def _probe(self, failure: Exception) -> None:
        """Ask until the database answers, or this is closed; whoever waits, or comes meanwhile, is told at once."""
        since, told = time.monotonic(), False
        self._give_up(failure)
        while not self._closed:
            try:
                self._transact(lambda _: None)
            except Exception as error:  # noqa: BLE001  # said below, and to all who come
                failure = self._failure = error
            else:
                self._failure = None
                if told:
                    self._outage.end()
                return
            if not told:
                self._outage.begin(since, failure)
                told = True
            with self._condition:
                self._condition.wait_for(lambda: self._closed, PROBE_AGAIN)

    def _give_up(self, error: Exception) -> int:
        """End the waiting of all who wait with `error`; how many that were."""
        with self._condition:
            waiting, self._waiting = self._waiting, deque()
            self._unended -= len(waiting)
        futures = [each.future for each in waiting if each.future.set_running_or_notify_cancel()]
        for future in futures:
            future.set_exception(error)
        return len(futures)


class Committers:
    """Several, each with a connection of its own: over a long way, one transaction would wait for the other.

    What is started goes to the first one that is not slow, where it shares a commit with what waits there, or to the
    one with the least to do. When the database does not answer one of them, it does not answer.
    """

    def __init__(self, each: Sequence[Committer]) -> None:
        self._each = tuple(each)

    @property
    def down(self) -> str | None:
        """As `Committer.down`."""
        return next((down for each in self._each if (down := each.down) is not None), None)

    def start(
        self, work: Callable[[Transaction], T], silence: float | None = None, *, new: bool = False
    ) -> Future[T]:
        """As `Committer.start`."""
        if (down := self.down) is not None:
            raise Unreachable(down)
        best = next((each for each in self._each if not each.slow), None) or min(self._each, key=_load)
        return best.start(work, silence, new=new)

    def all_before(self, silence: float) -> list[Future[None]]:
        """Done when all is that was started before. Raises as `start`."""
        return [each.start(lambda _: None, silence) for each in self._each if each.load]

    def close(self) -> int:
        """As `Committer.close`, with the same time for all."""
        end = time.monotonic() + CLOSE_LIMIT
        for each in self._each:
            each.stop()
        return sum(each.close(end) for each in self._each)


def _load(committer: Committer) -> int:
    return committer.load
