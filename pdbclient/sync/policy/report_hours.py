"""Which hours of reports are listed in full. Pure: what both sides count and what is remembered go in.

An hour's marks (count, least and greatest hash, last timestamp) are a filter, not a digest: each side may lack
another report and still count alike. So an hour is left out only once its full lists were compared and
everything of the remote was here, while both sides' marks stay what they were then, and not for ever: the
rotation lists each again some time.

Hours are known by their beginning. In a zone that is not whole hours from UTC they are other hours than those of
a server elsewhere, and such a pair lists all of them each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pdbclient.sync.policy.model import TRIES
from pdbclient.wire.summary import HourBucket, to_millis

__all__ = [
    "DAY",
    "HOUR",
    "SLICE_ROWS",
    "Choice",
    "Counted",
    "Hour",
    "Slice",
    "choose",
    "cut",
    "fingerprint",
    "oldest_kept",
    "remembered",
    "uncounted",
]

HOUR = 3_600_000
"""Milliseconds of an hour."""
DAY = 86_400.0
BEGINNING = to_millis("0001-01-01T00:00:00.000Z")
SLICE_ROWS = 20_000
_MARKS = re.compile(r"(\d+) (\S+) (\S+) (\S+)", re.ASCII).fullmatch
HOT_HOURS = 2
"""The hour that it is and the one before: reports of theirs still come in all the time, and what is compared of
them is out of date at once.
"""


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a remote's reports, known to be here as far as they are to be.

    `fingerprint` is what both sides counted when their full lists were compared, at `verified_at`; empty: they
    were not. An hour of which only this side has reports has nothing to compare. `partial`: some were left out
    because of their nodes. `fills`: how often it was empty here and was filled from the remote.
    """

    fingerprint: str = ""
    verified_at: float = 0.0
    partial: bool = False
    fills: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """Adjacent hours whose reports are listed together, from `start` up to, not including, `end` (ms)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What is known before any hour is listed.

    `there` and `here` are both sides' hours, `known` what is remembered of them. `lacking` counts, by hour, the
    reports that the remote received since the cursor and that are not here; None without a cursor.
    """

    there: Mapping[int, HourBucket]
    here: Mapping[int, HourBucket]
    known: Mapping[int, Hour] = field(default_factory=dict)
    lacking: Mapping[int, int] | None = None

    def hour(self, millis: int) -> int:
        """The hour of a producer timestamp (ms), as the remote counts them."""
        shift = next(iter(self.there), 0) % HOUR
        return millis - (millis - shift) % HOUR

    def hot(self, now: float) -> int:
        """The first of the hours (ms) that are still hot at `now` (s)."""
        return self.hour(int(now * 1000)) - (HOT_HOURS - 1) * HOUR

    def changed_from(self, now: float) -> int:
        """The first hour (ms) that may have got reports at the remote which no full list is going to show: those
        that are hot at `now` (s), and those that were compared and count otherwise now.
        """
        changed = (
            start
            for start, bucket in self.there.items()
            if (known := self.known.get(start)) is not None
            and known.fingerprint
            and not known.fingerprint.startswith(f"{_marks(bucket)} / ")
        )
        return min(self.hot(now), min(changed, default=self.hot(now)))

    def expected(self, start: int, end: int) -> float:
        """About how many reports were produced from `start` up to `end` (ms), on the side that has more."""
        number = 0.0
        hour = self.hour(start)
        while hour < end:
            counts = [side[hour].count for side in (self.there, self.here) if hour in side]
            number += max(counts, default=0) * (min(end, hour + HOUR) - max(start, hour)) / HOUR
            hour += HOUR
        return number

    def explained(self, start: int) -> bool:
        """Whether what is here and what the cursor found account for all that the remote has in an hour.

        If not, something came in behind the cursor: it was stored late, the remote's clock was set back, or
        this side lost what it had.
        """
        if self.lacking is None:
            return False
        ours = self.here.get(start)
        return self.there[start].count - self.lacking.get(start, 0) <= (0 if ours is None else ours.count)

    def trusted(self, start: int) -> bool:
        """Whether the hour was compared, and nothing has changed since."""
        known = self.known.get(start)
        return known is not None and known.fingerprint == fingerprint(self.there[start], self.here.get(start))

    def dropped_until(self, now: float) -> int | None:
        """The last hour (ms) of those that this side drops, None if it drops none.

        It was filled from the remote time and again, each time all was found here, and it is empty again; and
        there is nothing here that is as old. Retention drops whole days, the oldest; a database that was
        restored or emptied has lost the youngest too.
        """
        oldest = min(self.here, default=0)
        dropped = [
            start
            for start, known in self.known.items()
            if known.fills >= TRIES and start in self.there and start < oldest and start < (now - DAY) * 1000
        ]
        return max(dropped, default=None)


@dataclass(frozen=True, slots=True)
class Choice:
    """The hours to list, with their number of reports: the `hot` ones first, then the `cold`."""

    hot: Mapping[int, int]
    cold: Mapping[int, int]

    def __contains__(self, start: int) -> bool:
        return start in self.hot or start in self.cold


def choose(counted: Counted, now: float, audit_interval: float) -> Choice:
    """What to list in full, at `now` (s). `audit_interval` (s) is the age at which a comparison is done again.

    Hours that the cursor explains wait: the hot ones until they are cold, those compared before for their turn
    in the rotation. Of that only about SLICE_ROWS reports are listed, those first that were compared longest
    ago: so each has its turn, whatever comes in.
    """
    hot, until = counted.hot(now), counted.dropped_until(now)
    listed: list[int] = []
    due: list[int] = []
    for start in counted.there:
        known = counted.known.get(start, Hour())
        if until is not None and start <= until:
            continue
        if counted.trusted(start):
            # Verified later than now: the clock was set back since.
            if not 0 <= now - known.verified_at < audit_interval:
                due.append(start)
        elif not counted.explained(start) or (start < hot and not known.fingerprint):
            listed.append(start)
        elif start < hot and not (counted.lacking or {}).get(start):
            due.append(start)
    listed += _turn(due, counted)
    return Choice(
        {start: counted.there[start].count for start in listed if start >= hot},
        {start: counted.there[start].count for start in listed if start < hot},
    )


def oldest_kept(now: float, report_ttl: float) -> int:
    """Since when (ms) reports are looked at, at `now` (s), where they are kept for `report_ttl` (s; 0: for ever).

    Less a day, because servers drop whole days: what is older would be dropped here and pulled again for ever.
    """
    return int((now - max(0.0, report_ttl - DAY)) * 1000) if report_ttl else BEGINNING


def cut(sizes: Mapping[int, int], limit: int = SLICE_ROWS) -> list[Slice]:
    """Hours (start in ms, number of reports) in slices of about `limit` reports, the newest first."""
    slices: list[Slice] = []
    rows = 0
    for start in sorted(sizes, reverse=True):
        last = slices[-1] if slices else None
        if last is not None and last.start == start + HOUR and rows + sizes[start] <= limit:
            slices[-1] = Slice(start, last.end)
            rows += sizes[start]
        else:
            slices.append(Slice(start, start + HOUR))
            rows = sizes[start]
    return slices


def fingerprint(there: HourBucket | None, here: HourBucket | None) -> str:
    """What both sides count in an hour."""
    return " / ".join("-" if bucket is None else _marks(bucket) for bucket in (there, here))


def remembered(known: Mapping[int, Hour], start: int) -> tuple[dict[int, HourBucket], dict[int, HourBucket]]:
    """What the remote, and what this side, had in the hours from `start` (ms) on when those were compared."""
    there: dict[int, HourBucket] = {}
    here: dict[int, HourBucket] = {}
    for hour, each in known.items():
        sides = each.fingerprint.split(" / ") if hour >= start else ()
        for side, text in zip((there, here), sides, strict=False):
            if marks := _MARKS(text):
                count, least, greatest, newest = marks.groups()
                side[hour] = HourBucket("", int(count), least, greatest, newest)
    return there, here


def uncounted(counted: Counted, now: float) -> dict[int, Hour | None]:
    """What is to be remembered of hours that the remote has no reports of, as of `now` (s); None: nothing is."""
    hot = counted.hot(now)
    alone = {
        start: Hour(fingerprint(None, bucket), now)
        for start, bucket in counted.here.items()
        if start < hot and start not in counted.there
    }
    known = {start: each.fingerprint for start, each in counted.known.items()}
    changed: dict[int, Hour | None] = {
        start: hour for start, hour in alone.items() if known.get(start) != hour.fingerprint
    }
    return changed | dict.fromkeys(known.keys() - counted.there.keys() - alone.keys())


def _turn(due: Iterable[int], counted: Counted) -> list[int]:
    turn: list[int] = []
    rows = 0
    for start in sorted(due, key=lambda start: (counted.known[start].verified_at, -start)):
        rows += counted.there[start].count
        if turn and rows > SLICE_ROWS:
            break
        turn.append(start)
    return turn


def _marks(bucket: HourBucket) -> str:
    return f"{bucket.count} {bucket.min_hash} {bucket.max_hash} {bucket.max_producer_timestamp}"
