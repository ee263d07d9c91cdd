"""The memory about one server, as a pure state machine."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.http.breaker import Health, State, probe_due, probed, step
from pdbclient.http.outcome import Effect

SUCCESS, HARD, SOFT, MINUTE = Effect(), Effect(hard=True), Effect(soft=True), Effect(open_for=60.0)
EFFECTS = st.sampled_from([SUCCESS, HARD, SOFT, MINUTE, Effect(open_for=1.0)])


def failed(*times: float, event: Effect = SOFT) -> Health:
    health = Health()
    for now in times:
        health = step(health, event, now, now)
    return health


@pytest.mark.parametrize(
    ("health", "usable"),
    [
        (Health(), True),
        (failed(0, 1), True),
        (failed(0, 1, 2), False),
        (failed(0, event=HARD), False),
        (probed(failed(0, event=HARD), True, 2), False),
        (failed(0, event=MINUTE), False),
    ],
)
def test_user_traffic_goes_only_to_a_closed_circuit(health: Health, usable: bool) -> None:
    assert health.usable is usable
    assert (health.state is State.CLOSED) is usable


@pytest.mark.parametrize(
    ("times", "state"),
    [
        ((0, 30, 59.9), State.OPEN),
        ((0, 30, 60), State.CLOSED),
        ((0, 59, 61, 118.9), State.OPEN),
        ((0, 59, 61, 122), State.CLOSED),
    ],
)
def test_three_soft_failures_within_60_s_open(times: tuple[float, ...], state: State) -> None:
    assert failed(*times).state is state


def test_soft_failures_older_than_the_window_are_forgotten() -> None:
    assert failed(0, 59, 61).soft == (59, 61)


@pytest.mark.parametrize(("opening", "seconds"), list(enumerate([2, 4, 8, 16, 30, 30, 30], 1)))
def test_the_retry_time_doubles_up_to_30_s(opening: int, seconds: float) -> None:
    health = failed(*[100.0] * opening, event=HARD)
    assert health.openings == opening
    assert health.retry_at == 100 + seconds


@pytest.mark.parametrize(("jitter", "first", "last"), [(-1, 1.6, 24), (0, 2, 30), (1, 2.4, 36)])
def test_the_retry_time_is_spread_by_a_fifth(jitter: float, first: float, last: float) -> None:
    health = step(Health(), HARD, 0, 0, jitter)
    assert health.retry_at == pytest.approx(first)
    for _ in range(20):
        health = probed(health, False, 0, jitter)
    assert health.retry_at == pytest.approx(last)


def test_a_server_that_is_away_for_months_overflows_nothing() -> None:
    health = Health(state=State.OPEN, openings=10**9)
    assert probed(health, False, 0).retry_at == 30


def test_a_fixed_time_is_not_spread_and_counts_as_an_opening() -> None:
    health = step(Health(), MINUTE, 5, 5, jitter=1)
    assert (health.retry_at, health.openings) == (65, 1)


def test_a_soft_failure_of_an_open_circuit_opens_it_for_longer() -> None:
    opened = failed(0, event=HARD)
    again = step(opened, SOFT, 1, 1)
    assert (again.state, again.retry_at, again.openings) == (State.OPEN, 5, 2)


def test_two_good_probes_at_least_5_s_apart_close() -> None:
    opened = failed(0, event=HARD)
    half = probed(opened, True, 2)
    assert (half.state, half.retry_at, half.changed_at) == (State.HALF_OPEN, 7, 2)
    assert not probe_due(half, 6.9)
    assert probe_due(half, 7)
    assert probed(half, True, 7) == Health(changed_at=7)


def test_a_bad_probe_between_two_good_ones_begins_it_all_again() -> None:
    half = probed(failed(0, event=HARD), True, 2)
    opened = probed(half, False, 7)
    assert (opened.state, opened.probes_ok, opened.openings, opened.retry_at) == (State.OPEN, 0, 2, 11)
    assert opened.changed_at == 7


def test_a_probe_says_nothing_about_a_closed_circuit() -> None:
    health = failed(0, 1)
    assert probed(health, False, 2) == health
    assert probed(health, True, 2) == health
    assert not probe_due(health, 1000)


def test_success_closes_and_forgets() -> None:
    assert step(failed(0, 1), SUCCESS, 2, 3) == Health()
    assert step(failed(0, event=HARD), SUCCESS, 2, 3) == Health(changed_at=3)
    half = probed(failed(0, event=HARD), True, 2)
    assert step(half, SUCCESS, 3, 4) == Health(changed_at=4)


@pytest.mark.parametrize("event", [SUCCESS, HARD, SOFT, MINUTE])
def test_an_attempt_from_before_the_last_change_changes_nothing(event: Effect) -> None:
    opened = failed(10, event=HARD)
    half = probed(opened, True, 12)
    closed = probed(half, True, 17)
    assert step(opened, event, 9.9, 20) == opened
    assert step(half, event, 11.9, 20) == half
    assert step(closed, event, 16.9, 20) == closed


EVENTS = st.tuples(
    st.one_of(EFFECTS, st.booleans()),
    st.floats(0, 120),  # seconds since the event before
    st.floats(0, 40),  # how long the attempt took
    st.floats(-1, 1),
)


def play(
    events: list[tuple[Effect | bool, float, float, float]],
) -> list[tuple[Health, Health, Effect | bool, float]]:
    """(before, after, event, now) of each; a probe (a bool) happens when it is due, as in real life."""
    health, now, story = Health(), 0.0, []
    for event, pause, took, jitter in events:
        now += pause
        if isinstance(event, bool):
            after = probed(health, event, now, jitter) if probe_due(health, now) else health
        else:
            after = step(health, event, now - took, now, jitter)
        story.append((health, after, event, now))
        health = after
    return story


@given(st.lists(EVENTS, max_size=40))
def test_whatever_happens_the_state_makes_sense(events: list[tuple[Effect | bool, float, float, float]]) -> None:
    for before, after, _event, now in play(events):
        assert after.usable is (after.state is State.CLOSED)
        assert after.changed_at <= now
        assert after.changed_at >= before.changed_at
        assert (after.state is before.state) or after.changed_at == now
        if after.usable:
            assert (after.openings, after.probes_ok, after.retry_at) == (0, 0, 0.0)
            assert len(after.soft) < 3
            assert all(now - 60 < t <= now for t in after.soft) or after == before
        else:
            assert after.openings >= 1
            assert after.probes_ok == (1 if after.state is State.HALF_OPEN else 0)
        if after is not before and not after.usable:
            assert now < after.retry_at <= now + 60, "a retry time in the future, a minute away at most"


@given(st.lists(EVENTS, max_size=40))
def test_a_circuit_closes_only_by_a_success_or_a_second_good_probe(
    events: list[tuple[Effect | bool, float, float, float]],
) -> None:
    for before, after, event, _now in play(events):
        if after.usable and not before.usable:
            assert event == SUCCESS if isinstance(event, Effect) else event is True
            if event is True:
                assert before.state is State.HALF_OPEN


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(-1, 1))
def test_the_backoff_never_shrinks_while_the_server_stays_away(pauses: list[float], jitter: float) -> None:
    health, now, waits = step(Health(), HARD, 0, 0, jitter), 0.0, []
    for pause in pauses:
        waits.append(health.retry_at - now)
        now = health.retry_at + pause
        health = probed(health, False, now, jitter)
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(waits))
    assert max(waits) <= 36 + 1e-6
