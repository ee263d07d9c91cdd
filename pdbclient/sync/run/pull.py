"""Fetching records from the remote in batches, and submitting each to the local server.

What the remote gives is held against what it listed before it is submitted. A record that nobody asked for, of
another node or older than planned is no answer to be trusted: it fails. One that is newer than planned is planned
again, and left for the next pass if that would not pull it.
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from pdbclient.errors import Ambiguous, IncompleteResponse, NotPreserved, PdbError, ServerError, SyncError
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import Kind, Summary
from pdbclient.sync.inventory.rows import batches, read_rows
from pdbclient.sync.policy.model import Difference, Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.run.blame import THE_SERVER, is_about_one_record
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.submit import Submitter, submit_patiently
from pdbclient.wire.summary import from_millis

__all__ = ["Again", "Pulled", "pull"]

_logger = logging.getLogger(__name__)

AHEAD = 8
"""Batches that are fetched ahead at most: so many of small records fill a link of 10 Mbit/s and 150 ms. A batch of
facts takes two round trips, one after the other."""
AHEAD_BYTES = 16 * 1024 * 1024
"""So many bytes are fetched ahead, if all batches are as large as the last one."""

Again = Callable[[Mapping[str, Version]], EntityPlan]
"""Plans anew for records that are newer than planned, by key."""

# What one poisonous record can do to a query for twenty. Anything else says that the server is gone, or shut.
_MAYBE_ONE_RECORD = (IncompleteResponse, Ambiguous, ServerError)


@dataclass(slots=True)
class Pulled:
    """What a pull did, by key: versions that the local queue took, those of which no copy would be the same record,
    what failed with its reason, and what has changed since it was listed and is left alone.
    """

    submitted: dict[str, Version] = field(default_factory=dict)
    unequal: dict[str, Version] = field(default_factory=dict)
    failed: dict[str, tuple[Version, str]] = field(default_factory=dict)
    skipped: list[tuple[str, Difference]] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    """A record on its way; `seconds` is how long its transfer took, once it has ended."""

    summary: Summary
    raw: bytes
    query: str
    seconds: float = 0.0


@dataclass(slots=True)
class _Pull:
    context: Context
    kind: Kind
    plan: EntityPlan
    result: EntityResult
    budget: Budget
    submitter: Submitter
    again: Again | None
    pulled: Pulled = field(default_factory=Pulled)
    seen: set[str] = field(default_factory=set)
    strays: int = 0
    breaks: int = 0

    def run(self, keys: Sequence[str]) -> None:
        """Over a long way, the link is to be the limit: while one batch is worked off, the next ones are fetched, but
        for large ones, which are read row by row. So is the first one, of which nobody knows how large it is, and for
        which the local server waits. Who submits one record at a time fetches one batch at a time.
        """
        most = AHEAD if self.context.config.concurrency > 1 else 0
        left = deque(batches(keys, self.context.config.batch_size))
        fetching: deque[tuple[Sequence[str], Future[Iterator[bytes]]]] = deque()
        size: float = math.inf
        pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="sync-fetch")
        try:
            while left or fetching:
                self.submitter.room()
                while left and len(fetching) < min(most, AHEAD_BYTES // max(size, 1)):
                    fetching.append((left[0], pool.submit(self.fetched, left.popleft())))
                batch, rows = fetching.popleft() if fetching else (left.popleft(), None)
                size = 0
                for row in self.rows(batch, None if rows is None else rows.result()):
                    size += len(row.raw)
                    self.submitter.put(partial(self.transfer, row), partial(self.arrived, row))
            self.submitter.drain()
        finally:
            pool.shutdown(cancel_futures=True)

    def fetch(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The remote's rows of `keys`, as they come."""
        return self.kind.rows(self.context.there, keys, self.budget.left, self.plan.pull)

    def fetched(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The same, read to the end on a thread of its own; whoever comes to the end meets what this met there."""
        rows: list[bytes] = []
        try:
            rows.extend(self.fetch(keys))
        except PdbError as error:
            return chain(rows, _raising(error))
        return iter(rows)

    def rows(self, keys: Sequence[str], fetched: Iterator[bytes] | None = None) -> Iterator[_Row]:
        """The records of `keys` as they were planned, each once; a query that breaks is tried again in halves, down
        to the record that breaks it. `fetched`: what came of the first one.
        """
        text = json.dumps(self.kind.records(keys), ensure_ascii=False, separators=(",", ":"))
        wrong: dict[str, PdbError] = {}
        try:
            rows = self.fetch(keys) if fetched is None else fetched
            for row in read_rows(self.context.there, rows, lambda raw: _Row(self.kind.read(raw), raw, text)):
                self.breaks = 0
                if self.fits(row, keys, wrong):
                    yield row
            # At the end: servers before 8.8 can hold two catalogs of one node, and give the older one, too.
            for key, error in wrong.items():
                if key not in self.seen:
                    self.give_up(key, text, error)
            return
        except _MAYBE_ONE_RECORD as error:
            left = [key for key in keys if key not in self.seen]
            self.breaks += 1
            # One bad record breaks each of the ever smaller queries that it is in. More breaks in a row than
            # that mean a server that is frozen, or cut off.
            if isinstance(error, THE_SERVER) or self.breaks > self.context.config.batch_size.bit_length() + 3:
                raise
            if len(left) == 1:
                self.give_up(left[0], text, error)
                return
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            if half:
                yield from self.rows(half)

    def fits(self, row: _Row, keys: Sequence[str], wrong: dict[str, PdbError]) -> bool:
        """Whether a row is to be submitted; what is `wrong` with one of those asked for is noted there."""
        found = row.summary
        if found.key not in keys:
            self.stray(row)
        elif (error := self.contradiction(found)) is not None:
            wrong[found.key] = error
        elif found.key not in self.seen:
            self.seen.add(found.key)
            return self.wanted(found)
        return False

    def contradiction(self, found: Summary) -> PdbError | None:
        """What is wrong with a record, by what the remote itself listed."""
        certname, planned = self.plan.certnames.get(found.key, found.key), self.plan.pull[found.key]
        if found.certname != certname:
            why = f"was listed as one of {certname}, and is one of {found.certname or 'no node'}"
        elif found.version < planned or (self.again is None and found.version != planned):
            why = f"was listed as of {_shown(planned)}, and is of {_shown(found.version)}"
        else:
            return None
        return SyncError(f"{self.context.there.endpoint}: {self.kind.entity} {found.key} {why}: not submitted")

    def wanted(self, found: Summary) -> bool:
        """Whether a record is still to be pulled as it is now."""
        if self.again is None or found.version == self.plan.pull[found.key]:
            return True
        again = self.again({found.key: found.version})
        self.pulled.skipped += again.skipped
        for key, why in again.skipped:
            _logger.warning(
                "%s of %s from %s has changed since it was listed, and is left alone: %s",
                self.kind.entity,
                key,
                self.context.remote,
                why.meaning,
            )
        return found.key in again.pull

    def stray(self, row: _Row) -> None:
        """Log and count a record that was not asked for. It is remembered against nobody: the one that has its key
        may be in order. Raises when they are more than what was asked for.
        """
        where, what, key = self.context.there.endpoint, self.kind.entity, row.summary.key
        self.strays += 1
        if self.strays > len(self.plan.pull):
            raise IncompleteResponse(str(where), f"it gives {what} that were not asked for", self.strays)
        self.result.failed += 1
        with suppress(SyncError), self.event(key, row.summary.certname, row.query):
            raise SyncError(f"{where}: {what} {key} was not asked for: not submitted")

    def transfer(self, row: _Row) -> PdbError | None:
        """One record into the local queue. Runs on a thread of the submitter."""
        began = self.context.clock.monotonic()
        try:
            with self.event(row.summary.key, row.summary.certname, row.query):
                submit_patiently(self.context.here, self.kind.command(row.raw), self.budget)
        except PdbError as error:
            if not is_about_one_record(error):
                raise
            return error
        finally:
            row.seconds = self.context.clock.monotonic() - began
        return None

    def arrived(self, row: _Row, error: PdbError | None) -> None:
        self.result.transfer_seconds += row.seconds
        self.settle(row.summary, error)

    def settle(self, summary: Summary, error: PdbError | None) -> None:
        if error is None:
            self.pulled.submitted[summary.key] = summary.version
            self.result.transferred += 1
        elif isinstance(error, NotPreserved):
            self.pulled.unequal[summary.key] = summary.version
        else:
            self.pulled.failed[summary.key] = (summary.version, str(error))
            self.result.failed += 1
        self.tell()

    def give_up(self, key: str, text: str, error: PdbError) -> None:
        """Log and count a record that could not even be fetched."""
        certname = self.plan.certnames.get(key, key)
        try:
            with self.event(key, certname, text):
                raise error
        except PdbError as same:
            self.settle(Summary(key, certname, self.plan.pull[key]), same)

    def event(self, key: str, certname: str, text: str) -> AbstractContextManager[None]:
        report_hash = key if self.kind.entity is Entity.REPORTS else None
        return self.context.log.record(self.kind.entity, text, certname, report_hash)

    def tell(self) -> None:
        done = self.result.transferred + self.result.failed
        self.context.progress(self.kind.entity, done, max(done, len(self.plan.pull)))


def pull(
    context: Context,
    kind: Kind,
    plan: EntityPlan,
    result: EntityResult,
    budget: Budget,
    again: Again | None = None,
) -> Pulled:
    """Pull what `plan` lists, counting into `result`. One bad record fails alone.

    `again` is for records that may have been replaced by newer ones meanwhile; None: these never change. A record
    that has gone from the remote since it was listed is neither transferred nor failed. Raises what the absence of a
    server raises, and `Stopped` or `OutOfTime` between batches.
    """
    config = context.config
    if plan.pull:
        context.state.remember_under_way(kind.entity)
    with Submitter(context.here, config.concurrency, config.max_queue_depth, budget) as submitter:
        work = _Pull(context, kind, plan, result, budget, submitter, again)
        work.run(list(plan.pull))
    return work.pulled


def _raising(error: PdbError) -> Iterator[bytes]:
    raise error
    yield b""


def _shown(version: Version) -> str:
    return f"{from_millis(version.millis)} ({version.hash})"
