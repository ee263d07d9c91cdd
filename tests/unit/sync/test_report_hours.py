"""Which hours of reports are listed: every case of the choice, on counts alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pdbclient.sync.policy.report_hours import SLICE_ROWS, Counted, Hour, Slice, choose, cut, fingerprint
from pdbclient.wire.summary import HourBucket

HOUR = 3_600_000
THIS = 500_000
"""The hour that it is, counted from 1970."""
NOW = THIS * 3600 + 800.0
INTERVAL = 86_400.0


def bucket(count: int, mark: str = "m") -> HourBucket:
    return HourBucket("", count, f"{mark}0", f"{mark}9", "t")


def counts(**hours: int) -> dict[int, HourBucket]:
    """Hours by how long ago they were: h3=7 is seven reports, three hours ago."""
    return {(THIS - int(name[1:])) * HOUR: bucket(count) for name, count in hours.items()}


def verified(there: int, here: int, ago: float = 60.0, fills: int = 0) -> Hour:
    return Hour(fingerprint(bucket(there), bucket(here)), NOW - ago, fills=fills)


def listed(counted: Counted, now: float = NOW) -> list[int]:
    """How many hours ago those are that are listed."""
    choice = choose(counted, now, INTERVAL)
    assert all(start in choice for start in [*choice.hot, *choice.cold])
    assert all(counted.there[start].count == rows for start, rows in {**choice.hot, **choice.cold}.items())
    assert all(start >= counted.hot(now) for start in choice.hot)
    assert all(start < counted.hot(now) for start in choice.cold)
    return sorted((THIS * HOUR - start) // HOUR for start in [*choice.hot, *choice.cold])


def at(ago: int, known: Hour) -> dict[int, Hour]:
    return {(THIS - ago) * HOUR: known}


def test_without_a_cursor_everything_is_listed_that_was_not_compared_or_changed() -> None:
    there, here = counts(h0=1, h1=1, h2=5, h3=5, h4=5), counts(h1=1, h2=5, h3=5, h4=4)
    known = {**at(2, verified(5, 5)), **at(3, verified(4, 5))}
    assert listed(Counted(there, here, known)) == [0, 1, 3, 4]


def test_hot_hours_wait_while_the_cursor_explains_what_they_lack() -> None:
    there = counts(h0=9, h1=9)
    assert listed(Counted(there, counts(h0=7, h1=9), lacking={THIS * HOUR: 2})) == []
    assert listed(Counted(there, counts(h0=20, h1=9), lacking={})) == []
    assert listed(Counted(there, counts(h0=7, h1=9), lacking={THIS * HOUR: 1})) == [0]
    assert listed(Counted(there, counts(h0=9), lacking={})) == [1]


@pytest.mark.parametrize(
    ("known", "lacking", "expected"),
    [
        (None, 0, [5]),
        (None, 3, [5]),
        (Hour(fills=1), 3, [5]),
        (verified(9, 9), 0, [5]),
        (verified(9, 9), 2, [5]),
        (verified(9, 9), 3, []),
        (verified(12, 9), 0, []),
        (verified(12, 9), 3, []),
        (verified(12, 9, ago=INTERVAL - 1), 0, []),
        (verified(12, 9, ago=INTERVAL), 0, [5]),
        (verified(12, 9, ago=-1), 0, [5]),
    ],
)
def test_a_cold_hour_with_three_reports_more_at_the_remote(
    known: Hour | None, lacking: int, expected: list[int]
) -> None:
    """Not compared: listed. Compared, and explained by the cursor: pulled now, compared in the next pass."""
    remembered = {} if known is None else at(5, known)
    counted = Counted(counts(h5=12), counts(h5=9), remembered, {(THIS - 5) * HOUR: lacking})
    assert listed(counted) == expected


def test_a_changed_hour_that_lacks_nothing_is_compared_in_its_turn() -> None:
    counted = Counted(counts(h5=12), counts(h5=12), at(5, verified(9, 9)), lacking={})
    assert listed(counted) == [5]


def test_the_turn_goes_to_what_was_compared_longest_ago_up_to_a_slice() -> None:
    third = SLICE_ROWS // 3
    there = {(THIS - ago) * HOUR: bucket(third) for ago in range(2, 12)}
    known = {(THIS - ago) * HOUR: verified(third, third, INTERVAL + 60 * ((ago * 7) % 10)) for ago in range(2, 12)}
    oldest = sorted(range(2, 12), key=lambda ago: -((ago * 7) % 10))
    assert listed(Counted(there, there, known, {})) == sorted(oldest[:3])
    huge = {start: bucket(10 * SLICE_ROWS) for start in there}
    known = {start: verified(10 * SLICE_ROWS, 10 * SLICE_ROWS, 2 * INTERVAL) for start in huge}
    assert len(listed(Counted(huge, huge, known, {}))) == 1, "an hour that is larger has its turn too"


def test_the_cursor_looks_no_further_back_than_the_oldest_compared_hour_that_changed() -> None:
    there = counts(h0=3, h4=5, h7=5, h9=5)
    hot = (THIS - 1) * HOUR
    assert Counted({}, {}).changed_from(NOW) == Counted(there, {}).changed_from(NOW) == hot
    known = {**at(4, verified(5, 0)), **at(7, verified(4, 0)), **at(9, Hour(fills=1))}
    assert Counted(there, {}, known).changed_from(NOW) == (THIS - 7) * HOUR


@pytest.mark.parametrize(
    ("fills", "here", "ago", "dropped"),
    [
        (3, {"h10": 5}, 100, True),
        (2, {"h10": 5}, 100, False),
        (3, {"h200": 5}, 100, False),
        (3, {}, 100, False),
        (3, {"h1": 5}, 20, False),
    ],
)
def test_old_hours_that_were_filled_three_times_and_are_empty_again_are_dropped_here(
    fills: int, here: Mapping[str, int], ago: int, dropped: bool
) -> None:
    """Unless something older is here, or nothing at all, or they are too young for a retention of days."""
    older, younger = ago + 50, ago - 1
    there = counts(**{f"h{ago}": 5, f"h{older}": 5, f"h{younger}": 5})
    counted = Counted(there, counts(**here), at(ago, Hour(fills=fills)))
    assert (counted.dropped_until(NOW) == (THIS - ago) * HOUR) is dropped
    assert listed(counted) == ([younger] if dropped else [younger, ago, older])


def test_reports_between_two_times_are_estimated_by_the_fuller_side() -> None:
    counted = Counted(counts(h3=600, h2=60), counts(h3=60, h2=120, h1=10))
    start = (THIS - 3) * HOUR
    assert counted.expected(start, start + HOUR) == 600
    assert counted.expected(start + HOUR // 2, start + HOUR + HOUR // 4) == 300 + 30
    assert counted.expected(start, start + 1) == pytest.approx(600 / HOUR)
    assert counted.expected(start, start + 4 * HOUR) == 600 + 120 + 10
    assert counted.expected(start - 5 * HOUR, start) == 0


def test_hours_of_a_zone_that_is_half_an_hour_off_begin_at_the_half_hour() -> None:
    shift = HOUR // 2
    counted = Counted({THIS * HOUR - shift: bucket(1)}, {})
    assert counted.hour(THIS * HOUR) == THIS * HOUR - shift
    assert counted.hour(THIS * HOUR + shift) == THIS * HOUR + shift
    assert counted.hot(NOW) == THIS * HOUR - shift - HOUR
    assert choose(counted, NOW, INTERVAL).hot == {THIS * HOUR - shift: 1}


def test_slices_are_of_adjacent_hours_the_newest_first_and_not_too_large() -> None:
    sizes = {number * HOUR: 40 for number in (1, 2, 3, 7)} | {8 * HOUR: 500, 9 * HOUR: 10}
    assert cut(sizes, 100) == [
        Slice(9 * HOUR, 10 * HOUR),
        Slice(8 * HOUR, 9 * HOUR),
        Slice(7 * HOUR, 8 * HOUR),
        Slice(2 * HOUR, 4 * HOUR),
        Slice(1 * HOUR, 2 * HOUR),
    ]
    assert cut({}) == []
