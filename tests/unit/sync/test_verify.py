"""Waiting for submitted records to become visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from pdbclient.sync.inventory.budget import Budget, OutOfTime, Stopped
from pdbclient.sync.policy.model import Version
from pdbclient.sync.run.verify import Verdict, Verified, judge_deactivation, judge_record, judge_report, verify

from .conftest import FakeTime

SUBMITTED = Version(5, "b")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (None, Verdict.MISSING),
        (Version(4, "b"), Verdict.MISSING),
        (Version(5, "b"), Verdict.APPLIED),
        (Version(5, "a"), Verdict.UNEQUAL),
        (Version(5, "b", "u"), Verdict.UNEQUAL),
        (Version(6, "a"), Verdict.SUPERSEDED),
    ],
)
def test_a_record_is_judged_by_time_and_hash(found: Version | None, verdict: Verdict) -> None:
    assert judge_record(SUBMITTED, found) is verdict


def test_a_report_is_there_or_not() -> None:
    assert judge_report(SUBMITTED, SUBMITTED) is Verdict.APPLIED
    assert judge_report(SUBMITTED, None) is Verdict.MISSING


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (None, Verdict.MISSING),
        (Version(4, ""), Verdict.MISSING),
        (Version(5, ""), Verdict.APPLIED),
        (Version(6, ""), Verdict.SUPERSEDED),
    ],
)
def test_a_deactivation_is_judged_by_its_time(found: Version | None, verdict: Verdict) -> None:
    assert judge_deactivation(Version(5, ""), found) is verdict


class Queue:
    """A local server that shows `keys` one after the other, one every `pace` seconds."""

    def __init__(self, time: FakeTime, keys: Sequence[str], pace: float) -> None:
        self.time, self.keys, self.pace = time, keys, pace
        self.looks = 0

    def look(self, keys: Sequence[str]) -> Mapping[str, Version]:
        self.looks += 1
        shown = self.keys[: int(self.time.elapsed / self.pace)]
        return {key: SUBMITTED for key in keys if key in shown}

    def verify(self, keys: Sequence[str], depth: int = 0, seconds: float = 1800.0) -> Verified:
        submitted = dict.fromkeys(keys, SUBMITTED)
        budget = Budget(self.time.clock, seconds)
        return verify(submitted, self.look, judge_record, lambda: depth, budget, self.time.clock.monotonic)


def test_a_slow_queue_is_waited_for_as_long_as_it_moves() -> None:
    time = FakeTime()
    keys = [f"n{number}" for number in range(100)]
    found = Queue(time, keys, 25.0).verify(keys, depth=1, seconds=10_000.0)
    assert (found.unequal, found.missing) == ({}, {})
    assert time.elapsed == pytest.approx(2500, abs=5)


def test_another_record_of_the_same_time_may_be_the_old_one_that_is_still_there() -> None:
    time = FakeTime()
    old = Version(5, "a")

    def look(keys: Sequence[str]) -> Mapping[str, Version]:
        return dict.fromkeys(keys, SUBMITTED if time.elapsed > 3 else old)

    def verified(before: Version | None) -> Verified:
        known = {} if before is None else {"n": before}
        budget = Budget(time.clock, 1800.0)
        return verify({"n": SUBMITTED}, look, judge_record, lambda: 0, budget, time.clock.monotonic, known)

    assert verified(None).unequal == {"n": SUBMITTED}
    found = verified(old)
    assert (found.unequal, found.missing) == ({}, {})
    assert 3 < time.elapsed < 6


def test_a_record_of_the_same_time_that_stays_as_it_was_is_unequal_and_not_missing() -> None:
    """Its hash did not survive this time either: it was pulled before, and nobody remembers."""
    time = FakeTime()
    old = Version(5, "a")
    budget = Budget(time.clock, 1800.0)
    found = verify(
        {"n": SUBMITTED, "m": SUBMITTED},
        lambda keys: {key: old for key in keys if key == "n"},
        judge_record,
        lambda: 0,
        budget,
        time.clock.monotonic,
        {"n": old},
    )
    assert (found.unequal, found.missing) == ({"n": SUBMITTED}, {"m": SUBMITTED})
    assert 5 <= time.elapsed <= 9


def test_a_record_that_never_shows_is_given_up_soon_when_the_queue_is_empty() -> None:
    time = FakeTime()
    found = Queue(time, ["n1"], 1.0).verify(["n1", "n2"])
    assert (found.unequal, found.missing) == ({}, {"n2": SUBMITTED})
    assert 6 <= time.elapsed <= 9


@pytest.mark.parametrize(("depth", "least", "most"), [(1, 30, 33), (1000, 230, 233)])
def test_a_queue_that_stands_still_is_given_up_after_a_window_that_grows_with_it(
    depth: int, least: float, most: float
) -> None:
    time = FakeTime()
    found = Queue(time, [], 1.0).verify(["n1"], depth=depth)
    assert found.missing == {"n1": SUBMITTED}
    assert least <= time.elapsed <= most


def test_waiting_asks_ever_more_rarely() -> None:
    time = FakeTime()
    queue = Queue(time, [], 1.0)
    queue.verify(["n1"], depth=1)
    assert queue.looks < 30


@pytest.mark.parametrize("pace", [0.02, 0.25, 1.0])
def test_a_queue_that_moves_is_asked_rarely_and_its_end_is_seen_at_once(pace: float) -> None:
    """Each look costs a busy server time: asking five times a second took a quarter of one core."""
    time = FakeTime()
    keys = [f"n{number}" for number in range(100)]
    queue = Queue(time, keys, pace)
    queue.verify(keys, depth=1)
    assert 100 * pace <= time.elapsed <= 100 * pace + 0.5 * max(1.0, pace)
    assert queue.looks <= 15 + time.elapsed


def test_running_out_of_time_says_nothing_about_the_rest() -> None:
    with pytest.raises(OutOfTime):
        Queue(FakeTime(), [], 1.0).verify(["n1"], depth=1000, seconds=10.0)


def test_a_stop_ends_the_waiting() -> None:
    time = FakeTime()
    time.set()
    with pytest.raises(Stopped):
        Queue(time, [], 1.0).verify(["n1"])
