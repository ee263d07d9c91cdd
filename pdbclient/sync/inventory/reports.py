"""The reports of both sides: what differs between two times, and what came in at the remote.

Of millions of reports only the hashes are listed, and those rows that are the same text on both sides are not
even decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import REPORTS
from pdbclient.sync.inventory.rows import CHUNK, batches, both_sides, read_count, read_rows
from pdbclient.sync.policy.classify import ReportRow
from pdbclient.sync.policy.report_hours import HOUR
from pdbclient.wire import query
from pdbclient.wire.summary import HourBucket, ReceivedReport, from_millis, to_millis

__all__ = [
    "RECEIVED_ROWS",
    "Compared",
    "Received",
    "compare",
    "count_reports",
    "found_reports",
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

_Listing = Callable[[str, str | None], query.Ast]


class Received(NamedTuple):
    """A report, and when its server got it (ms, by that server's clock)."""

    report: ReportRow
    at: int


@dataclass(frozen=True, slots=True)
class Compared:
    """Two full lists of reports: how many each side has, and those `missing` at the local one.

    `extra`: those that only the local one has, and `unlike` those that both have with another outcome, where they
    were asked for. `unusable`: those of which a server shows something that is no report, and why, by their hash.
    """

    there: int
    here: int
    missing: Sequence[ReportRow]
    extra: Sequence[ReportRow]
    unusable: Mapping[str, str]
    unlike: Sequence[ReportRow] = ()


class _Key(msgspec.Struct):
    hash: str


_bucket = msgspec.json.Decoder(HourBucket).decode
_key = msgspec.json.Decoder(_Key).decode
_received = msgspec.json.Decoder(ReceivedReport).decode


def list_hours(server: Server, start: int, end: int | None, within: float) -> dict[int, HourBucket]:
    """The hours with reports, by their start, the newest first; all times in ms, `end` None: without end."""
    rows = _rows(server, query.report_hour_buckets, start, end, within)
    hours = dict(read_rows(server, rows, lambda row: ((bucket := _bucket(row)).start, bucket)))
    return dict(sorted(hours.items(), reverse=True))


def count_reports(there: Server, here: Server, start: int, end: int, within: float) -> tuple[int, int]:
    """How many reports of the time from `start` up to, not including, `end` (ms) the remote has, and this side."""
    ast = query.report_count(from_millis(start), from_millis(end))
    return both_sides(there, here, lambda server: read_count(server, REPORTS.path, ast, within))


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
    theirs, ours = both_sides(there, here, lambda server: set(_rows(server, listing, start, end, within)))
    # Servers of two versions may write the same row in two ways: what is left is compared by what it says.
    only_here, only_there = set(_keys(here, ours - theirs)), set(_keys(there, theirs - ours))
    unusable: dict[str, str] = {}
    edges = {start, None if end is None else end - 1}

    def alone(server: Server, other: Server, keys: AbstractSet[str]) -> list[ReportRow]:
        """The rows of these, which `server` has; without those that the `other` one has just beyond the bounds."""
        rows = _summaries(server, sorted(keys), start, end, budget, unusable)
        beyond = known_reports(other, [row for row in rows if row.millis in edges], budget)
        return [row for row in rows if row.hash not in beyond]

    missing = alone(there, here, only_there - only_here)
    beyond = alone(here, there, only_here - only_there) if extra else []
    both = sorted(only_here & only_there) if outcomes else []
    unlike = _summaries(there, both, start, end, budget, unusable)
    return Compared(len(theirs), len(ours), missing, beyond, unusable, unlike)


def known_reports(
    server: Server, reports: Iterable[ReportRow], budget: Budget, expected: Expected | None = None
) -> set[str]:
    """The hashes of those of `reports` that the server has.

    `expected` tells about how many reports there are between two times: where it is not many more than those in
    question, all are listed, for a server answers that much faster than whether it has certain ones. None: nobody
    knows, and each is asked for by its hash.
    """
    rows = sorted(reports, key=lambda row: row.millis)
    asked = {row.hash for row in rows}
    found: set[str] = set()
    single: list[ReportRow] = []
    for _, group in groupby(rows, lambda row: row.millis // HOUR):
        hour = list(group)
        if expected is not None and expected(*_around(hour)) <= WORTH_LISTING * len(hour):
            listed = _rows(server, query.report_keys, *_around(hour), budget.left())
            found.update(asked.intersection(_keys(server, listed)))
        else:
            single += hour
    found.update(row.hash for row in found_reports(server, single, budget))
    return found


def found_reports(server: Server, reports: Iterable[ReportRow], budget: Budget) -> list[ReportRow]:
    """Those of `reports` that the server has, as it shows them: each is asked for by its hash."""
    found: list[ReportRow] = []
    # In the order of time: then each question is about few days, and a server keeps each day in a table.
    for chunk in batches(sorted(reports, key=lambda row: row.millis), CHUNK):
        # Who only wants to know what is there can do without what is unusable.
        found += _summaries(server, [row.hash for row in chunk], *_around(chunk), budget, {})
    return found


def received_since(server: Server, since: int, start: int, budget: Budget) -> list[Received] | None:
    """What the server received from `since` (ms, its own clock) on, of what was produced from `start` (ms) on; None
    when that is more than RECEIVED_ROWS.
    """
    found = _receipts(server, from_millis(since), start, {"limit": RECEIVED_ROWS + 1}, budget)
    return found if len(found) <= RECEIVED_ROWS else None


def newest_received(server: Server, start: int, budget: Budget) -> list[Received]:
    """Those that the server received last of what was produced from `start` (ms) on: up to NEWEST_ROWS."""
    order = [{"field": "receive_time", "order": "desc"}]
    return _receipts(server, None, start, {"limit": NEWEST_ROWS, "order_by": order}, budget)


def _receipts(
    server: Server, since: str | None, start: int, params: Mapping[str, Any], budget: Budget
) -> list[Received]:
    ast = query.reports_received(since, from_millis(start))
    rows = server.rows(REPORTS.path, query=ast, params=params, within=budget.left())
    # What is left out here is found where whole hours are compared.
    return list(read_rows(server, rows, _read_received, {}, "hash"))


def _read_received(row: bytes) -> Received:
    found = _received(row)
    report = ReportRow(found.hash, found.certname or "", to_millis(found.producer_timestamp))
    return Received(report, to_millis(found.receive_time))


def _around(rows: Sequence[ReportRow]) -> tuple[int, int]:
    """From when up to when (ms) another server may show these, which are in the order of time."""
    return rows[0].millis - ROUNDING, rows[-1].millis + 1 + ROUNDING


def _rows(server: Server, listing: _Listing, start: int, end: int | None, within: float) -> Iterator[bytes]:
    ast = listing(from_millis(start), None if end is None else from_millis(end))
    return server.rows(REPORTS.path, query=ast, within=within)


def _keys(server: Server, rows: Iterable[bytes]) -> Iterator[str]:
    return read_rows(server, rows, lambda row: _key(row).hash)


def _summaries(
    server: Server, hashes: Sequence[str], start: int, end: int | None, budget: Budget, unusable: dict[str, str]
) -> list[ReportRow]:
    found: list[ReportRow] = []
    for chunk in batches(hashes, CHUNK):
        rows = _rows(server, partial(query.report_summaries, chunk), start, end, budget.left())
        summaries = read_rows(server, rows, REPORTS.read, unusable, "hash")
        found += (ReportRow(each.key, each.certname, each.version.millis) for each in summaries)
    return found
