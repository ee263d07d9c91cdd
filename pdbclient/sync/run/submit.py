"""Submitting to the local server with bounded concurrency, at the pace of its queue."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pdbclient.errors import Ambiguous, Busy, PdbError
from pdbclient.sync.inventory.budget import Budget, OutOfTime, Stopped, Stuck
from pdbclient.sync.inventory.interfaces import Clock, Server
from pdbclient.sync.run.preflight import queue_depth
from pdbclient.sync.run.verify import patience
from pdbclient.wire.command import Command

__all__ = ["Job", "Settled", "Submitter", "submit_patiently", "wait_for_queue"]

_logger = logging.getLogger(__name__)

TRIES = 3
DEPTH_POLL = 0.5
TELL_EVERY = 30.0
PATIENCE = 600.0
"""Seconds in which a queue that is worked off, however slowly, gets shorter."""

Job = Callable[[], PdbError | None]
"""Submits one record; returns what is wrong with that record, raises what is wrong with the server."""
Settled = Callable[[PdbError | None], None]


def submit_patiently(server: Server, command: Command, budget: Budget) -> None:
    """Submit, with the patience that a server deserves which is up: it may be busy, or drop a connection.

    Commands carry their producer timestamp, so sending one twice changes nothing. Raises what the last try met.
    """
    tries = Retrying(
        retry=retry_if_exception_type((Busy, Ambiguous)),
        stop=stop_after_attempt(TRIES),
        wait=_as_asked,
        sleep=budget.wait,
        reraise=True,
    )
    tries(server.submit, command)


def _as_asked(state: RetryCallState) -> float:
    """As long as a busy server asked for (s); a dropped connection is made again at once."""
    met = state.outcome.exception() if state.outcome else None
    return met.retry_after if isinstance(met, Busy) else 0.0


def wait_for_queue(local: Server, clock: Clock) -> None:
    """Wait until the local queue has been empty, or as long as it may need for what it has now.

    What a pass left there when it was killed is not seen in the data yet, and would be submitted once more. Raises
    `Stopped`.
    """
    depth = first = queue_depth(local)
    if first:
        _logger.info("%d commands wait in the local queue, some of an earlier pass perhaps: waiting for them", first)
    stop = Budget(clock, math.inf)
    ends = clock.monotonic() + patience(first)
    while depth:
        if clock.monotonic() >= ends:
            _logger.warning(
                "the local queue had %d commands and has %d after %.0f s: what waits there of an earlier pass is "
                "submitted again",
                first,
                depth,
                patience(first),
            )
            return
        stop.wait(DEPTH_POLL)
        depth = queue_depth(local)


class Submitter:
    """Runs jobs on a few threads and tells their ends on the caller's thread, in the order they were put."""

    def __init__(self, local: Server, concurrency: int, max_depth: int, budget: Budget) -> None:
        self._local = local
        self._limit = 2 * concurrency
        self._max_depth = max_depth
        self._budget = budget
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="sync-submit")
        self._running: deque[tuple[Future[PdbError | None], Settled]] = deque()

    def __enter__(self) -> Submitter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Out of time: the current batch is finished. Anything else: the next submissions would meet the same.
        self._pool.shutdown(wait=True, cancel_futures=not isinstance(error, Stopped | OutOfTime | None))
        # However the entity ended, what reached the queue is counted.
        for future, settled in self._running:
            if not future.cancelled() and future.exception() is None:
                settled(future.result())

    def room(self) -> None:
        """Wait until the local queue has room for a batch, and say so when that takes long.

        Raises `Stopped` or `OutOfTime`; `Stuck` when the queue has not got shorter for PATIENCE seconds: a seeding
        has no time limit, and would wait for ever.
        """
        self._budget.check()
        told = news = self._budget.spent()
        least = math.inf
        while (depth := queue_depth(self._local)) > self._max_depth:
            now = self._budget.spent()
            if depth < least:
                least, news = depth, now
            elif now - news >= PATIENCE:
                raise Stuck(
                    f"{self._local.endpoint} has {depth} commands in its queue, the limit is {self._max_depth}, and "
                    f"they have not become fewer for {now - news:.0f} s: see its log, and its database"
                )
            if now - told >= TELL_EVERY:
                told = now
                _logger.warning(
                    "%d commands wait in the local queue, more than max_queue_depth (%d): nothing is submitted until "
                    "they are fewer",
                    depth,
                    self._max_depth,
                )
            self._budget.wait(DEPTH_POLL)

    def put(self, job: Job, settled: Settled) -> None:
        """Run `job` when a thread is free; waits when too many are on their way, and raises what one of them
        met.
        """
        while len(self._running) >= self._limit:
            self._settle()
        self._running.append((self._pool.submit(job), settled))

    def drain(self) -> None:
        """Wait for all jobs, and raise what one of them met."""
        while self._running:
            self._settle()

    def _settle(self) -> None:
        future, settled = self._running.popleft()
        settled(future.result())
