"""Which hours of reports are listed in full. Pure: what both sides count and what is remembered go in.

Where both sides count alike in an hour (number, least and greatest hash, last timestamp) it is settled. Where they
do not, it is listed once, and remembered if it has to stay as it is. Equal marks do not prove equal contents: in
rotation every hour is listed again, the newest first, and the first round is made at once.

Hours are known by their beginning. In a zone that is not whole hours from UTC they are other hours than those of
a server elsewhere, and such a pair lists all of them each time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile

from pdbclient.sync.policy.model import TRIES, Count, Millis, Wall
from pdbclient.wire.summary import HourBucket, to_millis

__all__ = [
    "BEGINNING",
    "DAY",
    "END",
    "HOUR",
    "SLICE_ROWS",
    "Choice",
    "Counted",
    "ReportMemory",
    "Total",
    "choose",
    "cut",
    "oldest_kept",
]

HOUR = 3_600_000
"""Milliseconds of an hour."""
DAY = 86_400.0
BEGINNING = to_millis("0001-01-01T00:00:00.000Z")
END = to_millis("9999-12-31T23:00:00.000Z")
SLICE_ROWS = 20_000
HOT_HOURS = 2
"""The hour that it is and the one before: reports of theirs still come in all the time, and what is compared of
them is out of date at once.
"""


@dataclass(frozen=True, slots=True)
class Total:
    """How many reports both sides had from `start` up to `end` (ms), when all hours between were settled."""

    start: Millis
    end: Millis
    there: Count
    here: Count


@dataclass(frozen=True, slots=True)
class ReportMemory:
    """What is remembered of a remote's reports between passes; hours by their start (ms).

    - `cursor`: what the remote received until then (ms, by its clock) is dealt with; None: nothing is
    - `unequal`: what both sides counted in hours that were listed, and have to stay unequal
    - `fills`: how often an hour was empty here and was filled from the remote
    - `left_out`: nodes whose reports are not pulled as long as these nodes stay what they are, and the newest (ms)
    - `asked`: times of reports (ms) that an operator asked for: their hours are listed, however they count
    - `round_began`, `position`: the rotation's latest round (wall seconds); hours from `position` on were compared in
      it, BEGINNING: all
    - `total`: what to count first: if it still is so, there is nothing to ask about those hours
    """

    cursor: Millis | None = None
    unequal: Mapping[Millis, str] = field(default_factory=dict)
    fills: Mapping[Millis, Count] = field(default_factory=dict)
    left_out: Mapping[str, Millis] = field(default_factory=dict)
    asked: frozenset[Millis] = frozenset()
    round_began: Wall = 0.0
    position: Millis = BEGINNING
    total: Total | None = None

    def in_round(self, now: float, interval: float) -> ReportMemory:
        """In the round that it is at `now`; a new one begins `interval` seconds after the one before began."""
        # Begun later than now: the clock was set back since.
        if self.position > BEGINNING or 0 <= now - self.round_began < interval:
            return self
        return replace(self, round_began=now, position=END)

    def ask(self, millis: int) -> ReportMemory:
        """With the hour of that report (its time in ms) to be listed by the next pass."""
        return replace(self, asked=self.asked | {millis})


@dataclass(frozen=True, slots=True)
class Counted:
    """What is known before any hour is listed.

    `there` and `here` are both sides' hours, from `since` (ms) on; of those before, the total that is remembered
    holds, if there is one: then of them there are only those that are next in the rotation. `lacking` counts, by
    hour, the reports that the remote received since the cursor and that are not here; None without a cursor.
    """

    there: Mapping[int, HourBucket]
    here: Mapping[int, HourBucket]
    memory: ReportMemory = field(default_factory=ReportMemory)
    since: int = BEGINNING
    lacking: Mapping[int, int] | None = None

    def hour(self, millis: int) -> int:
        """The hour of a producer timestamp (ms), as the remote counts them."""
        shift = next(iter(self.there), 0) % HOUR
        return millis - (millis - shift) % HOUR

    def hot(self, now: float) -> int:
        """The first of the hours (ms) that are still hot at `now` (s)."""
        return self.hour(int(now * 1000)) - (HOT_HOURS - 1) * HOUR

    def expected(self, start: int, end: int) -> float:
        """About how many reports were produced from `start` up to `end` (ms), on the side that has more."""
        if start < self.since:
            return math.inf
        number = 0.0
        for hour in range(self.hour(start), end, HOUR):
            counts = [side[hour].count for side in (self.there, self.here) if hour in side]
            number += max(counts, default=0) * (min(end, hour + HOUR) - max(start, hour)) / HOUR
        return number

    def numbers(self, part: range) -> tuple[int, ...]:
        """How many reports the remote and this side have in the hours that begin in a range (ms)."""
        sides = self.there, self.here
        return tuple(sum(bucket.count for start, bucket in side.items() if start in part) for side in sides)

    def explained(self, start: int) -> bool:
        """Whether what is here and what the cursor found account for all that the remote has in an hour.

        If not, something came in behind the cursor: it was stored late, the remote's clock was set back, or
        this side lost what it had.
        """
        if self.lacking is None:
            return False
        ours = self.here.get(start)
        return self.there[start].count - self.lacking.get(start, 0) <= (0 if ours is None else ours.count)

    def marks(self, start: int) -> str | None:
        """What both sides count in an hour, None if it is the same."""
        there, here = (_marks(side.get(start)) for side in (self.there, self.here))
        return None if there == here else f"{there} / {here}"

    def settled(self, start: int) -> bool:
        """Whether both sides count alike in an hour, or as they did when it was found that nothing is to be done."""
        return self.marks(start) in (None, self.memory.unequal.get(start))

    def comparable(self, part: range) -> bool:
        """Whether both sides' hours in a slice begin at the same times."""
        begins = range(part.start - HOUR + 1, part.stop)
        return len({start % HOUR for side in (self.there, self.here) for start in side if start in begins}) <= 1

    def changed_from(self, now: float) -> int:
        """The first hour (ms) that may have got reports at the remote: those that are hot at `now` (s), and those
        that are not settled.
        """
        hot = self.hot(now)
        return min((start for start in self.there if start < hot and not self.settled(start)), default=hot)

    def gone_before(self, now: float) -> int:
        """This side has nothing older than that (ms), and may have dropped it, at `now` (s); BEGINNING: it has not.

        Retention drops whole days, the oldest; a database that was restored or emptied has lost the youngest too.
        """
        oldest = min(self.here, default=BEGINNING)
        return BEGINNING if self.memory.total is not None or oldest >= (now - DAY) * 1000 else oldest

    def dropped_until(self, now: float) -> int | None:
        """The last hour (ms) of those that this side drops, None if it drops none.

        It was filled from the remote time and again, each time all was found here, and it is gone again.
        """
        before, fills = self.gone_before(now), self.memory.fills
        return max((s for s in self.there if s < before and fills.get(s, 0) >= TRIES), default=None)

    def wanted(self, now: float) -> list[int]:
        """The remote's hours but for those that this side drops, the newest first."""
        until = self.dropped_until(now)
        return sorted((start for start in self.there if until is None or start > until), reverse=True)

    def in_turn(self, now: float) -> list[int]:
        """The cold hours, the newest first, that were not yet compared in the rotation's round."""
        before = min(self.memory.position, self.hot(now))
        return [start for start in self.wanted(now) if start < before]

    def total(self, now: float) -> Total | None:
        """What to count first in the next pass: up to the hours that are hot at `now` (s), if all are settled."""
        hot = self.hot(now)
        if self.changed_from(now) < hot or self.dropped_until(now) is not None:
            return self.memory.total
        before = self.memory.total or Total(self.since, self.since, 0, 0)
        there, here = self.numbers(range(self.since, hot))
        return Total(before.start, max(before.end, hot), before.there + there, before.here + here)


@dataclass(frozen=True, slots=True)
class Choice:
    """The hours to list, with their number of reports: the `hot` ones first, then the `cold`; of these, it is the
    `turn` of some in the rotation.
    """

    hot: Mapping[int, int]
    cold: Mapping[int, int]
    turn: frozenset[int]

    def __contains__(self, start: int) -> bool:
        return start in self.hot or start in self.cold


def choose(counted: Counted, now: float) -> Choice:
    """What to list in full, at `now` (s).

    Hours that the cursor explains wait: the hot ones until they are cold, the others until what it found is pulled.
    Of hours that need not be listed now, because nothing is missing here by their number, about SLICE_ROWS reports
    are listed, and of those whose turn it is as many more; in the first pass, all.
    """
    asked = {counted.hour(millis) for millis in counted.memory.asked}
    hot, turn = counted.hot(now), counted.in_turn(now)
    listed: list[int] = []
    due: list[int] = []
    for start in counted.wanted(now):
        settled = start < hot and counted.settled(start)
        if start in asked or not (settled or counted.explained(start)):
            listed.append(start)
        elif start < hot and not settled and not (counted.lacking or {}).get(start):
            due.append(start)
    chosen = {*listed, *_bounded(due, counted), *_bounded(turn, counted)}
    return Choice(
        {start: counted.there[start].count for start in chosen if start >= hot},
        {start: counted.there[start].count for start in chosen if start < hot},
        # Up to the first that has to wait.
        frozenset(takewhile(chosen.__contains__, turn)),
    )


def oldest_kept(now: float, report_ttl: float) -> int:
    """Since when (ms) a server whose clock says `now` (s) keeps all reports, for `report_ttl` (s; 0: for ever).

    It drops whole days (UTC), those that were over when `report_ttl` began: what is older would be dropped here and
    pulled again for ever. The day in which that moment lies stays until midnight, however short `report_ttl` is.
    """
    return int((now - report_ttl) // DAY * DAY * 1000) if report_ttl else BEGINNING


def cut(sizes: Mapping[int, int], limit: int = SLICE_ROWS) -> list[range]:
    """Hours (start in ms, number of reports) in slices of about `limit` reports, the newest first."""
    slices: list[range] = []
    rows = 0
    for start in sorted(sizes, reverse=True):
        if slices and slices[-1].start == start + HOUR and rows + sizes[start] <= limit:
            slices[-1] = range(start, slices[-1].stop)
            rows += sizes[start]
        else:
            slices.append(range(start, start + HOUR))
            rows = sizes[start]
    return slices


def _bounded(hours: list[int], counted: Counted) -> list[int]:
    """The first of these, of about SLICE_ROWS reports, but one at least; all in the first pass."""
    if counted.memory.cursor is None:
        return hours
    rows = list(accumulate(counted.there[start].count for start in hours))
    return hours[: max(1, bisect_right(rows, SLICE_ROWS))]


def _marks(bucket: HourBucket | None) -> str:
    if bucket is None:
        return "-"
    return f"{bucket.count} {bucket.min_hash} {bucket.max_hash} {bucket.max_producer_timestamp}"
