"""The reports of both sides: what differs between two times, and what came in at the remote.

Of millions of reports only the hashes are listed, and those rows that are the same text on both sides are not
even decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import REPORTS
from pdbclient.sync.inventory.rows import CHUNK, batches, both_sides, read_rows
from pdbclient.sync.policy.classify import ReportRow
from pdbclient.sync.policy.report_hours import HOUR
from pdbclient.wire import query
from pdbclient.wire.summary import HourBucket, ReceivedReport, from_millis, to_millis

__all__ = [
    "RECEIVED_ROWS",
    "ROUNDING",
    "Compared",
    "Expected",
    "Received",
    "compare",
    "count_reports",
    "known_reports",
    "list_hours",
    "newest_received",
    "received_since",
]

RECEIVED_ROWS = 50_000
"""So many reports received since the last pass, and listing whole hours is no worse."""
NEWEST_ROWS = 50
WORTH_LISTING = 10
"""Listing ten reports costs a server less than looking for one of them by its hash (PuppetDB 7.12.1: a fifteenth)."""

ROUNDING = 1
"""Milliseconds by which two servers may show the time of one and the same report: a server that keeps microseconds
rounds what it shows.
"""

Expected = Callable[[int, int], float]
"""About how many reports were produced from one time up to another (ms)."""


class Received(NamedTuple):
    """A report, and when its server got it (ms, by that server's clock)."""

    report: ReportRow
    at: int


@dataclass(frozen=True, slots=True)
class Compared:
    """Two full lists of reports: how many each side has, and those `missing` at the local one.

    `extra`: those that only the local one has, and `unlike` those that both have with another outcome, where they
    were asked for. `unusable`: those of which a server shows
    something that is no report, and why, by their hash.
    """

    there: int
    here: int
    missing: Sequence[ReportRow]
    extra: Sequence[ReportRow]
    unusable: Mapping[str, str]
    unlike: Sequence[ReportRow] = ()


class _Count(msgspec.Struct):
    count: int


class _Key(msgspec.Struct):
    hash: str


_bucket = msgspec.json.Decoder(HourBucket).decode
_count = msgspec.json.Decoder(_Count).decode
_key = msgspec.json.Decoder(_Key).decode
_received = msgspec.json.Decoder(ReceivedReport).decode


def list_hours(server: Server, start: int, end: int | None, within: float) -> dict[int, HourBucket]:
    """The hours with reports, by their start; all times in ms, `end` None: without end."""
    ast = query.report_hour_buckets(from_millis(start), _upto(end))
    rows = server.rows("/reports", query=ast, within=within)
    buckets = read_rows(server, rows, lambda row: ((bucket := _bucket(row)).start, bucket))
    return dict(buckets)


def count_reports(server: Server, start: int, end: int, within: float) -> int:
    """How many reports the server has that were produced from `start` up to, not including, `end` (ms)."""
    rows = server.rows(REPORTS.path, query=query.report_count(from_millis(start), from_millis(end)), within=within)
    return sum(read_rows(server, rows, lambda row: _count(row).count))


def _upto(end: int | None) -> str | None:
    """The end of a range (ms) as a query has it."""
    return None if end is None else from_millis(end)


def compare(
    there: Server,
    here: Server,
    start: int,
    end: int | None,
    budget: Budget,
    *,
    extra: bool = False,
    outcomes: bool = False,
) -> Compared:
    """The reports produced from `start` up to, not including, `end` (ms; None: without end) on both sides;
    `outcomes`: with what their hashes do not cover.
    """
    within, listing = budget.left(), query.report_outcomes if outcomes else query.report_keys
    ast = listing(from_millis(start), _upto(end))
    theirs, ours = both_sides(there, here, lambda server: set(server.rows(REPORTS.path, query=ast, within=within)))
    # Servers of two versions may write the same row in two ways: what is left is compared by what it says.
    only_here, only_there = set(_keys(here, ours - theirs)), set(_keys(there, theirs - ours))
    unusable: dict[str, str] = {}
    missing = _alone(there, here, only_there - only_here, start, end, budget, unusable)
    beyond = _alone(here, there, only_here - only_there, start, end, budget, unusable) if extra else []
    both = sorted(only_here & only_there) if outcomes else ()
    unlike = [
        row for chunk in batches(both, CHUNK) for row in _summaries(there, chunk, start, end, budget.left(), unusable)
    ]
    return Compared(len(theirs), len(ours), missing, beyond, unusable, unlike)


def _alone(
    server: Server,
    other: Server,
    keys: AbstractSet[str],
    start: int,
    end: int | None,
    budget: Budget,
    unusable: dict[str, str],
) -> list[ReportRow]:
    """The rows of these, which `server` has; without those that the `other` one has just beyond the bounds."""
    rows = [
        row
        for chunk in batches(sorted(keys), CHUNK)
        for row in _summaries(server, chunk, start, end, budget.left(), unusable)
    ]
    edges = {start} if end is None else {start, end - 1}
    at_the_edge = [row.hash for row in rows if row.millis in edges]
    if not at_the_edge:
        return rows
    last = None if end is None else end + ROUNDING
    found = {row.hash for row in _summaries(other, at_the_edge, start - ROUNDING, last, budget.left())}
    return [row for row in rows if row.hash not in found]


def known_reports(server: Server, reports: Iterable[ReportRow], budget: Budget, expected: Expected) -> set[str]:
    """The hashes of those of `reports` that the server has.

    `expected` tells about how many reports there are between two times: where it is not many more than those in
    question, all are listed, for a server answers that much faster than whether it has certain ones.
    """
    asked: set[str] = set()
    hours: dict[int, list[ReportRow]] = {}
    for row in sorted(reports, key=lambda row: row.millis):
        hours.setdefault(row.millis // HOUR, []).append(row)
        asked.add(row.hash)
    found: set[str] = set()
    single: dict[str, int] = {}
    for rows in hours.values():
        start, end = rows[0].millis - ROUNDING, rows[-1].millis + 1 + ROUNDING
        if expected(start, end) <= WORTH_LISTING * len(rows):
            found.update(asked.intersection(_keys(server, _list(server, start, end, budget.left()))))
        else:
            single.update((row.hash, row.millis) for row in rows)
    # In the order of time: then each question is about few days, and a server keeps each day in a table.
    for chunk in batches(list(single), CHUNK):
        start, end = single[chunk[0]] - ROUNDING, single[chunk[-1]] + 1 + ROUNDING
        rows_there = _summaries(server, chunk, start, end, budget.left())
        found.update(row.hash for row in rows_there)
    return found


def received_since(server: Server, since: int, start: int, budget: Budget) -> list[Received] | None:
    """What the server received from `since` (ms, its own clock) on, of what was produced from `start` (ms) on; None
    when that is more than RECEIVED_ROWS.
    """
    ast = query.reports_received(from_millis(since), from_millis(start))
    found = _receipts(server, ast, {"limit": RECEIVED_ROWS + 1}, budget.left())
    return found if len(found) <= RECEIVED_ROWS else None


def newest_received(server: Server, start: int, budget: Budget) -> list[Received]:
    """Those that the server received last of what was produced from `start` (ms) on: up to NEWEST_ROWS."""
    order = [{"field": "receive_time", "order": "desc"}]
    ast = query.reports_received(None, from_millis(start))
    return _receipts(server, ast, {"limit": NEWEST_ROWS, "order_by": order}, budget.left())


def _receipts(server: Server, ast: query.Ast, params: dict[str, Any], within: float) -> list[Received]:
    rows = server.rows(REPORTS.path, query=ast, params=params, within=within)
    # What is left out here is found where whole hours are compared.
    return list(read_rows(server, rows, _read_received, {}, "hash"))


def _read_received(row: bytes) -> Received:
    found = _received(row)
    report = ReportRow(found.hash, found.certname or "", to_millis(found.producer_timestamp))
    return Received(report, to_millis(found.receive_time))


def _list(server: Server, start: int, end: int | None, within: float) -> Iterator[bytes]:
    ast = query.report_keys(from_millis(start), _upto(end))
    return server.rows(REPORTS.path, query=ast, within=within)


def _keys(server: Server, rows: Iterable[bytes]) -> Iterator[str]:
    return read_rows(server, rows, lambda row: _key(row).hash)


def _summaries(
    server: Server,
    hashes: Sequence[str],
    start: int,
    end: int | None,
    within: float,
    unusable: dict[str, str] | None = None,
) -> Iterator[ReportRow]:
    ast = query.report_summaries(hashes, from_millis(start), _upto(end))
    rows = server.rows(REPORTS.path, query=ast, within=within)
    # Who only wants to know what is there can do without the rest.
    for found in read_rows(server, rows, REPORTS.read, {} if unusable is None else unusable, "hash"):
        yield ReportRow(found.key, found.certname, found.version.millis)
