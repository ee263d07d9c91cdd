"""The rules of the journal, which need no database."""

from __future__ import annotations

import itertools

import pytest

from pdbclient.journal.model import BACKOFF_FIRST, BACKOFF_LIMIT, CopyState, EntryState, backoff, lane, state_after

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
