"""Fetching records from the remote in batches, and submitting each to the local server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from pdbclient.errors import (
    Ambiguous,
    Busy,
    Forbidden,
    IncompleteResponse,
    InvalidCommand,
    Misrouted,
    NotPreserved,
    PdbError,
    Rejected,
    ServerError,
)
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import Kind, Summary
from pdbclient.sync.inventory.records import batches, read_rows
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.submit import Submitter, submit_patiently

__all__ = ["Pulled", "pull"]

# What one poisonous record can do to a query for twenty. Anything else says that the server is gone, or shut.
_MAYBE_ONE_RECORD = (IncompleteResponse, Ambiguous, ServerError)
_THE_SERVER = (Busy, Forbidden, Misrouted)


@dataclass(slots=True)
class Pulled:
    """What a pull did, by key: versions that the local queue took, those of which no copy would be the same record,
    and what failed with its reason.
    """

    submitted: dict[str, Version] = field(default_factory=dict)
    unequal: dict[str, Version] = field(default_factory=dict)
    failed: dict[str, tuple[Version, str]] = field(default_factory=dict)


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
    pulled: Pulled = field(default_factory=Pulled)
    breaks: int = 0

    def run(self, keys: Sequence[str]) -> None:
        for batch in batches(keys, self.context.config.batch_size):
            self.submitter.room()
            for row in self.rows(batch):
                self.submitter.put(partial(self.transfer, row), partial(self.arrived, row))
        self.submitter.drain()

    def rows(self, keys: Sequence[str]) -> Iterator[_Row]:
        """The records of `keys`; a query that breaks is tried again in halves, down to the record that breaks
        it.
        """
        ast = self.kind.records(keys)
        text = json.dumps(ast, ensure_ascii=False, separators=(",", ":"))
        seen: set[str] = set()
        try:
            rows = self.context.there.rows(
                self.kind.path,
                query=ast,
                params=self.kind.params or None,
                within=self.budget.left(),
            )
            for row in read_rows(self.context.there, rows, lambda raw: _Row(self.kind.read(raw), raw, text)):
                seen.add(row.summary.key)
                self.breaks = 0
                yield row
            return
        except _MAYBE_ONE_RECORD as error:
            left = [key for key in keys if key not in seen]
            self.breaks += 1
            # One bad record breaks each of the ever smaller queries that it is in. More breaks in a row than
            # that mean a server that is frozen, or cut off.
            if isinstance(error, _THE_SERVER) or self.breaks > self.context.config.batch_size.bit_length() + 3:
                raise
            if len(left) == 1:
                self.give_up(left[0], text, error)
                return
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            if half:
                yield from self.rows(half)

    def transfer(self, row: _Row) -> PdbError | None:
        """One record into the local queue. Runs on a thread of the submitter."""
        began = self.context.clock.monotonic()
        try:
            with self.event(row.summary.key, row.summary.certname, row.query):
                submit_patiently(self.context.here, self.kind.command(row.raw), self.budget)
        except (InvalidCommand, Rejected) as error:
            return error
        except ServerError as error:
            if isinstance(error, _THE_SERVER):
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


def pull(context: Context, kind: Kind, plan: EntityPlan, result: EntityResult, budget: Budget) -> Pulled:
    """Pull what `plan` lists, counting into `result`. One bad record fails alone.

    A record that has gone from the remote since it was listed is neither transferred nor failed. Raises what
    a server's absence raises, and `Stopped` or `OutOfTime` between batches.
    """
    config = context.config
    with Submitter(context.here, config.concurrency, config.max_queue_depth, budget) as submitter:
        work = _Pull(context, kind, plan, result, budget, submitter)
        work.run(list(plan.pull))
    return work.pulled
