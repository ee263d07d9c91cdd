"""What time it is for retention, when the clock jumps."""

from __future__ import annotations

import pytest

from pdbclient.journal.work.age import SPEED, Age

DAY = 86400.0
START = 1_800_000_000.0


def test_as_long_as_the_clock_goes_as_time_does_it_is_followed() -> None:
    age = Age(START, 50.0)
    for passed in (60.0, 120.0, 30 * DAY):
        age = age.later(START + passed, 50.0 + passed)
        assert age.at == START + passed


def test_a_jump_ahead_makes_nothing_old_at_once() -> None:
    """J18: with 15 days more on the clock, all delivered entries were dropped."""
    age = Age(START, 0.0).later(START + 15 * DAY + 60, 60.0)
    assert age.at == START + SPEED * 60


def test_one_that_is_right_is_made_up_for_in_time() -> None:
    age, now = Age(START, 0.0), 0.0
    while age.at < START + 15 * DAY + now:
        now += 3600
        age = age.later(START + 15 * DAY + now, now)
    assert now == pytest.approx(15 * DAY / (SPEED - 1), abs=3600)
    assert age.later(START + 15 * DAY + now + 60, now + 60).at == START + 15 * DAY + now + 60


def test_one_that_is_mended_has_done_nothing() -> None:
    age = Age(START, 0.0)
    for minute in range(1, 61):
        age = age.later(START + 15 * DAY + minute * 60, minute * 60.0)
    assert age.later(START + 3660, 3660.0).at == START + 3660


def test_a_clock_that_is_set_back_is_followed_at_once_and_makes_nothing_old_on_its_return() -> None:
    age = Age(START, 0.0).later(START - 15 * DAY, 60.0)
    assert age.at == START - 15 * DAY
    assert age.later(START + 120, 120.0).at == START - 15 * DAY + SPEED * 60


@pytest.mark.parametrize(
    ("newest", "at"), [(None, START), (START - 15 * DAY, START - 15 * DAY), (START + DAY, START)]
)
def test_at_the_start_what_was_put_in_last_tells_how_far_the_clock_is_to_be_believed(
    newest: float | None, at: float
) -> None:
    assert Age.begin(START, newest, 7.0) == Age(at, 7.0)
