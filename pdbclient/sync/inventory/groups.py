"""Where the records of two servers differ, by the hour and by the minute: asked before any record is listed.

Equal groups do not prove equal records, as they show little: how many there are, the least and the greatest hash, the
newest time. So whoever goes by them lists everything now and then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.inventory.rows import both_sides, read_rows
from pdbclient.sync.policy.report_hours import HOUR
from pdbclient.wire import query
from pdbclient.wire.summary import HOUR_FORMAT, MINUTE_FORMAT, HourBucket, from_millis, to_millis

__all__ = ["RANGES", "Groups", "differing_groups"]

MINUTE = 60_000
FEW = 1000
"""Records that are listed at once, and not asked about by the minute."""
RANGES = 100
"""So many in one query."""
_FIRST, _LAST = to_millis("1970-01-01T00:00:00.000Z"), to_millis("9999-12-01T00:00:00.000Z")

_bucket = msgspec.json.Decoder(HourBucket).decode


@dataclass(frozen=True, slots=True)
class Groups:
    """How many records each side has, and the `ranges` of producer timestamps in which they may differ.

    `most`: so many records there are in these, on the side that has more.
    """

    there: int
    here: int
    ranges: Sequence[query.Range]
    most: int


def differing_groups(there: Server, here: Server, kind: Kind, within: float) -> Groups | None:
    """Both sides' groups, compared; None where they do not tell of when the differing ones are.

    Two servers whose zones differ by a part of an hour differ in all of them.
    """
    unusable: dict[str, str] = {}

    def ask(label: str, ranges: Sequence[query.Range] = ()) -> tuple[frozenset[HourBucket], frozenset[HourBucket]]:
        return both_sides(there, here, lambda server: _groups(server, kind, label, ranges, within, unusable))

    theirs, ours = ask(HOUR_FORMAT)
    totals = [sum(group.count for group in side) for side in (theirs, ours)]
    if _most(theirs, ours) > FEW:
        hours = _ranges(theirs ^ ours, HOUR)
        if hours is None or len(hours) > RANGES:
            return None
        theirs, ours = ask(MINUTE_FORMAT, hours)
        ranges = _ranges(theirs ^ ours, MINUTE)
    else:
        ranges = _ranges(theirs ^ ours, HOUR)
    return None if ranges is None or unusable else Groups(totals[0], totals[1], ranges, _most(theirs, ours))


def _groups(
    server: Server,
    kind: Kind,
    label: str,
    ranges: Sequence[query.Range],
    within: float,
    unusable: dict[str, str],
) -> frozenset[HourBucket]:
    assert kind.marks is not None, f"{kind.entity} have no groups"
    rows = server.rows(kind.path, query=query.record_buckets(label, kind.marks, ranges), within=within)
    return frozenset(read_rows(server, rows, _bucket, unusable, "to_string"))


def _most(theirs: frozenset[HourBucket], ours: frozenset[HourBucket]) -> int:
    return max(sum(group.count for group in side) for side in (theirs - ours, ours - theirs))


def _ranges(groups: Collection[HourBucket], length: int) -> list[query.Range] | None:
    """When these groups are, adjacent ones as one; None where one is of no ordinary year, whose label says little."""
    try:
        starts = sorted({group.start for group in groups})
    except ValueError:
        return None
    if starts and not _FIRST <= starts[0] <= starts[-1] < _LAST:
        return None
    ranges: list[list[int]] = []
    for start in starts:
        if ranges and ranges[-1][1] == start:
            ranges[-1][1] = start + length
        else:
            ranges.append([start, start + length])
    return [(from_millis(start), from_millis(end)) for start, end in ranges]
