"""The rules of the journal, which need no database."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.journal.model import (
    BACKOFF_FIRST,
    BACKOFF_LIMIT,
    CopyState,
    EntryState,
    attempt_limit,
    backoff,
    lane,
    state_after,
)
from pdbclient.journal.work import delivery

ACCEPTED, CONFIRMED, REJECTED = CopyState


def test_what_decides_what_a_node_is_goes_before_what_tells_of_it() -> None:
    order = ["deactivate node", "replace catalog", "replace facts", "replace catalog inputs", "store report", "new"]
    lanes = [lane(name) for name in order]
    assert sorted(set(lanes)) == lanes
    assert lane("configure expiration") == lane("deactivate node")


def test_pauses_double_from_five_seconds_to_ten_minutes() -> None:
    assert [backoff(tries) for tries in (0, 1, 2, 3, 8)] == [5, 5, 10, 20, BACKOFF_LIMIT]
    assert backoff(0) == BACKOFF_FIRST
    assert backoff(900) == BACKOFF_LIMIT


def test_what_fails_for_a_week_is_tried_again_as_rarely_as_ever() -> None:
    """At the 1,025th try the doubling was more than a float can hold: it came again for ever."""
    assert [backoff(tries) for tries in (1024, 1025, 10**6, 1 << 63)] == [BACKOFF_LIMIT] * 4
    assert [attempt_limit(tries, 0.0) for tries in (0, 1, 10, 10**6)] == [5, 10, 5120, 5120]


def test_a_server_that_takes_nothing_for_a_day_is_left_alone_as_long_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 1,024 failures it was sent all that was pending, each time."""
    resting, server, now = delivery._Resting(), Endpoint("a.example"), 0.0
    monkeypatch.setattr(delivery, "time", SimpleNamespace(monotonic=lambda: now))
    pauses = []
    for _ in range(2000):
        resting.failed(server, None)
        assert resting.rests(server)
        began = now
        while resting.rests(server):
            now += 1.0
        pauses.append(now - began)
    assert pauses == [1, 2, 4, 8, 16] + [30] * 1995


@pytest.mark.parametrize("copies", list(itertools.product(CopyState, repeat=2)))
def test_what_is_pending_is_pending_whatever_else_is_known_of_it(copies: tuple[CopyState, ...]) -> None:
    assert state_after(True, copies) is EntryState.PENDING


@pytest.mark.parametrize(
    ("copies", "state"),
    [
        ([ACCEPTED], EntryState.DELIVERED),
        ([CONFIRMED], EntryState.DELIVERED),
        ([REJECTED, ACCEPTED], EntryState.DELIVERED),
        ([REJECTED, CONFIRMED], EntryState.DELIVERED),
        ([REJECTED], EntryState.PARKED),
        ([], EntryState.PARKED),
    ],
)
def test_what_is_not_pending_any_more_is_what_the_best_of_its_copies_makes_it(
    copies: list[CopyState], state: EntryState
) -> None:
    assert state_after(False, copies) is state
    assert state_after(False, iter(reversed(copies))) is state
