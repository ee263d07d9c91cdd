"""Which hours of reports are listed: every case of the choice, on counts alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pdbclient.sync.policy.report_hours import (
    BEGINNING,
    END,
    SLICE_ROWS,
    Counted,
    ReportMemory,
    Total,
    choose,
    cut,
)
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


def remember(**known: Any) -> ReportMemory:
    """As after a first pass that had nothing to do."""
    return replace(ReportMemory(cursor=1, round_began=NOW - 60), **known)


def listed(counted: Counted, now: float = NOW) -> list[int]:
    """How many hours ago those are that are listed."""
    choice = choose(counted, now)
    assert all(start in choice for start in [*choice.hot, *choice.cold])
    assert all(counted.there[start].count == rows for start, rows in {**choice.hot, **choice.cold}.items())
    assert all(start >= counted.hot(now) for start in choice.hot)
    assert all(start < counted.hot(now) for start in choice.cold)
    assert choice.turn <= choice.cold.keys()
    return sorted((THIS * HOUR - start) // HOUR for start in [*choice.hot, *choice.cold])


def at(ago: int) -> int:
    return (THIS - ago) * HOUR


def test_the_first_pass_lists_everything_but_what_it_has_come_past() -> None:
    there, here = counts(h0=1, h1=1, h2=5, h3=5, h4=5), counts(h1=1, h2=5, h3=5, h4=4)
    memory = ReportMemory().in_round(NOW, INTERVAL)
    assert listed(Counted(there, here, memory)) == [0, 1, 2, 3, 4]
    assert listed(Counted(there, here, replace(memory, position=at(3)))) == [0, 1, 4]
    assert choose(Counted(there, here, memory), NOW).turn == {at(2), at(3), at(4)}


def test_without_an_answer_about_what_came_in_all_that_is_not_settled_is_listed() -> None:
    there, here = counts(h0=1, h1=1, h2=5, h3=5, h4=5), counts(h1=1, h2=5, h3=5, h4=4)
    assert listed(Counted(there, here, remember())) == [0, 1, 4]


def test_hot_hours_wait_while_the_cursor_explains_what_they_lack() -> None:
    there = counts(h0=9, h1=9)
    assert listed(Counted(there, counts(h0=7, h1=9), remember(), lacking={at(0): 2})) == []
    assert listed(Counted(there, counts(h0=20, h1=9), remember(), lacking={})) == []
    assert listed(Counted(there, counts(h0=7, h1=9), remember(), lacking={at(0): 1})) == [0]
    assert listed(Counted(there, counts(h0=9), remember(), lacking={})) == [1]


REMEMBERED = "12 m0 m9 t / 9 m0 m9 t"


@pytest.mark.parametrize(
    ("unequal", "lacking", "expected"),
    [
        ({}, 0, [5]),
        ({}, 2, [5]),
        ({}, 3, []),
        ({at(5): REMEMBERED}, 0, []),
        ({at(5): REMEMBERED}, 3, []),
        ({at(5): "12 m0 m9 t / 12 m0 m9 t"}, 0, [5]),
        ({at(6): REMEMBERED}, 0, [5]),
    ],
)
def test_a_cold_hour_with_three_reports_more_at_the_remote(
    unequal: Mapping[int, str], lacking: int, expected: list[int]
) -> None:
    """Explained by the cursor: pulled now, and alike in the next pass."""
    counted = Counted(counts(h5=12), counts(h5=9), remember(unequal=unequal), lacking={at(5): lacking})
    assert counted.marks(at(5)) == REMEMBERED
    assert listed(counted) == expected


def test_cold_hours_that_lack_nothing_by_their_number_are_listed_a_slice_in_each_pass() -> None:
    """This side has more, as while the remote is filled anew."""
    third = SLICE_ROWS // 3
    there = {at(ago): bucket(third) for ago in range(2, 12)}
    here = {start: bucket(third + 1) for start in there}
    assert listed(Counted(there, here, remember(), lacking={})) == [2, 3, 4]
    assert listed(Counted(there, here, remember())) == [*range(2, 12)]


def test_what_is_due_in_every_pass_keeps_nothing_from_its_turn() -> None:
    there = {at(ago): bucket(SLICE_ROWS) for ago in range(2, 12)}
    here = {**there, at(2): bucket(SLICE_ROWS + 1)}
    choice = choose(Counted(there, here, remember(position=at(6)), lacking={}), NOW)
    assert (sorted(choice.cold), choice.turn) == ([at(7), at(2)], frozenset([at(7)]))


def test_an_hour_that_an_operator_asked_for_is_listed_however_it_counts() -> None:
    there = counts(h4=5, h5=5)
    assert listed(Counted(there, there, remember(asked=frozenset([at(5) + 17])), lacking={})) == [5]


def test_it_is_the_turn_of_the_hours_before_the_position_up_to_a_slice() -> None:
    third = SLICE_ROWS // 3
    there = {at(ago): bucket(third) for ago in range(0, 12)}
    assert listed(Counted(there, there, remember(), lacking={})) == []
    assert listed(Counted(there, there, remember(position=END), lacking={})) == [2, 3, 4]
    assert listed(Counted(there, there, remember(position=at(8)), lacking={})) == [9, 10, 11]
    assert listed(Counted(there, there, remember(position=at(10)), lacking={})) == [11]
    huge = {start: bucket(10 * SLICE_ROWS) for start in there}
    counted = Counted(huge, huge, remember(position=END), lacking={})
    assert len(listed(counted)) == 1, "an hour that is larger has its turn too"


def test_the_rotation_goes_no_further_than_what_is_listed_without_a_gap() -> None:
    there = {at(ago): bucket(SLICE_ROWS // 2) for ago in range(2, 8)}
    here = {**there, at(6): bucket(0)}
    choice = choose(Counted(there, here, remember(position=END), lacking={}), NOW)
    assert (sorted(choice.cold), choice.turn) == ([at(6), at(3), at(2)], frozenset([at(2), at(3)]))


@pytest.mark.parametrize(
    ("began", "position", "begins"),
    [
        (NOW - INTERVAL, BEGINNING, True),
        (NOW - INTERVAL + 1, BEGINNING, False),
        (NOW + 1, BEGINNING, True),
        (NOW - 9 * INTERVAL, at(3), False),
    ],
)
def test_a_round_begins_when_the_one_before_is_over_and_old_or_the_clock_was_set_back(
    began: float, position: int, begins: bool
) -> None:
    memory = remember(round_began=began, position=position)
    expected = replace(memory, round_began=NOW, position=END) if begins else memory
    assert memory.in_round(NOW, INTERVAL) == expected


def test_the_cursor_looks_no_further_back_than_the_oldest_hour_that_is_not_settled() -> None:
    there = counts(h0=3, h4=5, h7=5, h9=12)
    assert Counted({}, {}).changed_from(NOW) == Counted(there, there).changed_from(NOW) == at(1)
    memory = remember(unequal={at(9): REMEMBERED})
    assert Counted(there, counts(h4=5, h7=4, h9=9), memory).changed_from(NOW) == at(7)


def test_the_total_is_of_all_cold_hours_and_none_while_one_is_not_settled() -> None:
    there, here = counts(h0=3, h4=5, h7=5, h9=12), counts(h0=9, h4=5, h7=5, h9=9, h11=2)
    settled = remember(unequal={at(9): REMEMBERED})
    assert Counted(there, here, settled, since=at(20)).total(NOW) == Total(at(20), at(1), 22, 21)
    assert Counted(there, here, remember(), since=at(20)).total(NOW) is None
    held = Total(at(20), at(5), 100, 90)
    later = Counted(counts(h0=3, h4=5), counts(h0=9, h4=5), remember(total=held), since=at(5))
    assert later.total(NOW) == Total(at(20), at(1), 105, 95)
    unsettled = Counted(counts(h0=3, h4=5), counts(h0=9, h4=4), remember(total=held), since=at(5))
    assert unsettled.total(NOW) == held
    assert unsettled.expected(at(6), at(3)) == math.inf, "nobody knows how many"


def test_hours_that_begin_at_other_times_are_not_comparable() -> None:
    """Whatever the hours were long ago."""
    part = range(at(3), at(2))
    there = counts(h3=5) | {at(300_000) - HOUR // 2: bucket(1)}
    assert Counted(there, counts(h4=5, h3=5)).comparable(part)
    assert not Counted(there, {at(3) - HOUR // 2: bucket(5)}).comparable(part)
    assert not Counted(there, {at(3) + HOUR // 2: bucket(5)}).comparable(part)


@pytest.mark.parametrize(
    ("fills", "here", "ago", "dropped"),
    [
        (3, {"h48": 5}, 100, True),
        (2, {"h48": 5}, 100, False),
        (3, {"h10": 5}, 100, False),
        (3, {"h200": 5}, 100, False),
        (3, {}, 100, False),
        (3, {"h1": 5}, 20, False),
    ],
)
def test_old_hours_that_were_filled_three_times_and_are_empty_again_are_dropped_here(
    fills: int, here: Mapping[str, int], ago: int, dropped: bool
) -> None:
    """Unless something older is here, or nothing at all, or nothing older than a day: it was emptied, or restored."""
    older, younger = ago + 50, ago - 1
    there = counts(**{f"h{ago}": 5, f"h{older}": 5, f"h{younger}": 5})
    counted = Counted(there, counts(**here), remember(fills={at(ago): fills}, position=END))
    assert (counted.dropped_until(NOW) == at(ago)) is dropped
    assert listed(counted) == ([younger] if dropped else [younger, ago, older])
    assert (counted.total(NOW), counted.in_turn(NOW)[1:] == []) == (None, dropped)


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
    assert choose(counted, NOW).hot == {THIS * HOUR - shift: 1}


def test_slices_are_of_adjacent_hours_the_newest_first_and_not_too_large() -> None:
    sizes = {number * HOUR: 40 for number in (1, 2, 3, 7)} | {8 * HOUR: 500, 9 * HOUR: 10}
    assert cut(sizes, 100) == [
        range(9 * HOUR, 10 * HOUR),
        range(8 * HOUR, 9 * HOUR),
        range(7 * HOUR, 8 * HOUR),
        range(2 * HOUR, 4 * HOUR),
        range(1 * HOUR, 2 * HOUR),
    ]
    assert cut({}) == []
