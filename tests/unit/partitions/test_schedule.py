"""Schedules: the same for a seed, with healthy time; and what is found to be the short form of one that fails."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.partitions.schedule import REST, WARM, Choice, Schedule, Step, draw, dump, load, may_overlap
from tests.partitions.shrink import shrink

CHOICES = [
    Choice("cut", ("db1", "db2", "puppet1"), True),
    Choice("halves", ("puppet1 db1",), True),
    Choice("reset", ("db1", "puppet1"), False),
    Choice("stop", ("db1 puppetdb", "db2 reconciler", "puppet1 gateway", "journal postgres"), True),
    Choice("emptied", ("db1", "db2"), False),
    Choice("clock", (), False),
]


@given(st.integers(), st.floats(2.0, 60.0))
def test_a_schedule_is_the_same_for_its_seed_and_begins_and_ends_healthy(seed: int, minutes: float) -> None:
    schedule = draw(seed, minutes, CHOICES)
    assert schedule == draw(seed, minutes, CHOICES)
    assert schedule.steps
    assert min(step.at for step in schedule.steps) >= WARM
    assert max(step.end for step in schedule.steps) <= schedule.seconds - REST + 0.1
    assert all(step.target in dict((c.name, c.targets) for c in CHOICES)[step.nemesis] for step in schedule.steps)
    for one, other in itertools.combinations(schedule.steps, 2):
        if one.at < other.end and other.at < one.end:
            assert may_overlap(one, other), (one, other)


def test_within_an_hour_all_come_alone_and_combined_and_there_is_healthy_time_between() -> None:
    schedule = draw(1, 60.0, CHOICES)
    assert {step.nemesis for step in schedule.steps} == {"cut", "halves", "reset", "stop", "emptied"}
    pairs = list(itertools.combinations(schedule.steps, 2))
    together = [pair for pair in pairs if pair[0].at < pair[1].end and pair[1].at < pair[0].end]
    assert len(together) > 5
    ends = itertools.accumulate((step.end for step in schedule.steps), max)
    gaps = [step.at - end for end, step in zip(ends, schedule.steps[1:], strict=False) if step.at > end]
    assert len(gaps) > 20
    assert min(gaps) >= 7.9


def test_other_seeds_give_other_schedules() -> None:
    assert len({draw(seed, 10.0, CHOICES).steps for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (("cut", "db1"), ("stop", "db2 puppetdb"), True),
        (("cut", "db1"), ("stop", "db1 puppetdb"), True),
        (("cut", "db1"), ("thin", "db1"), False),
        (("stop", "db1 puppetdb"), ("kill", "db1 postgres"), False),
        (("stop", "db1 puppetdb"), ("kill", "db2 postgres"), True),
        (("cut", "db1"), ("cut", "db2"), True),
        (("emptied", "db1"), ("cut", "db1"), True),
        (("emptied", "db1"), ("stop", "db1 reconciler"), False),
        (("halves", "puppet1 db1"), ("stop", "db1 puppetdb"), True),
        (("halves", "puppet1 db1"), ("emptied", "db2"), True),
        (("halves", "puppet1 db1"), ("cut", "db2"), False),
        (("one_way", "puppet1 db1"), ("cut", "db1"), False),
    ],
)
def test_what_another_one_has_in_its_hands_is_left_alone(
    one: tuple[str, str], other: tuple[str, str], together: bool
) -> None:
    steps = [Step(0.0, 10.0, *each) for each in (one, other)]
    assert may_overlap(*steps) == may_overlap(*reversed(steps)) == together


def test_what_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(ValueError, match="too short"):
        draw(1, 0.5, CHOICES)
    with pytest.raises(ValueError, match="no nemesis"):
        draw(1, 5.0, [Choice("clock", (), False)])


def test_a_schedule_is_saved_and_read_with_what_belongs_to_it() -> None:
    schedule = draw(7, 5.0, CHOICES)
    assert load(dump(schedule, arrangement="sqlite")) == (schedule, {"arrangement": "sqlite"})
    for wrong in ("[]", "{}", '{"seed": 1, "seconds": 2, "steps": [{"at": 1}]}'):
        with pytest.raises(ValueError, match="no schedule"):
            load(wrong)


def named(schedule: Schedule) -> set[str]:
    return {f"{step.nemesis} {step.target}" for step in schedule.steps}


@given(st.integers(0, 50), st.data())
def test_the_steps_that_are_needed_are_what_is_left(seed: int, data: st.DataObject) -> None:
    schedule = draw(seed, 20.0, CHOICES)
    needed = set(data.draw(st.lists(st.sampled_from(sorted(named(schedule))), min_size=1, max_size=3, unique=True)))
    short = shrink(schedule, lambda each: needed <= named(each), rounds=1000)
    assert named(short) == needed
    assert len(short.steps) == len(needed)
    assert short.seconds <= schedule.seconds
    assert short.steps[0].at == WARM
    assert all(step.seconds < 24.0 for step in short.steps), "what lasts is halved"


def test_two_that_have_to_overlap_are_left_so() -> None:
    schedule = draw(1, 20.0, CHOICES)

    def overlapping(each: Schedule) -> bool:
        return any(one.at < two.at < one.end for one, two in itertools.combinations(each.steps, 2))

    assert overlapping(schedule)
    short = shrink(schedule, overlapping, rounds=1000)
    assert overlapping(short)
    assert len(short.steps) == 2


def test_with_few_tries_it_is_as_short_as_it_got_and_still_fails() -> None:
    schedule = draw(3, 30.0, CHOICES)
    asked: list[Schedule] = []

    def fails(each: Schedule) -> bool:
        asked.append(each)
        return any(re.match("stop", name) for name in named(each))

    short = shrink(schedule, fails, rounds=3)
    assert len(asked) == 3
    assert fails(short)
    assert len(short.steps) < len(schedule.steps)


def test_what_fails_only_as_a_whole_is_left_whole() -> None:
    schedule = draw(3, 5.0, CHOICES)
    short = shrink(schedule, lambda each: len(each.steps) == len(schedule.steps), rounds=1000)
    assert len(short.steps) == len(schedule.steps)
