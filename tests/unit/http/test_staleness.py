"""The book of what each server may lack."""

from __future__ import annotations

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.http import staleness
from pdbclient.http.staleness import Freshness, PendingWrites

from .fake import command, endpoints

A, B, S = endpoints("ab", "s")
FACTS = "replace facts"


@pytest.fixture
def pending() -> PendingWrites:
    return PendingWrites((A, B, S))


def test_who_did_not_take_a_command_lacks_it(pending: PendingWrites) -> None:
    pending.accepted(command(second=1), [A], 10)
    pending.accepted(command("node2", second=2), [A], 11)
    assert pending.freshness(A) == Freshness() == Freshness(0, None)
    assert pending.freshness(B) == Freshness(2, "2026-01-01T00:00:01.000Z")
    assert (pending.freshness(A).stale, pending.freshness(B).stale) == (False, True)


def test_the_newest_command_of_a_kind_and_node_counts_once(pending: PendingWrites) -> None:
    for second in (1, 3, 2):
        pending.accepted(command(second=second), [A], 10)
    pending.accepted(command(second=1, name="replace catalog"), [A], 10)
    assert pending.freshness(B) == Freshness(2, "2026-01-01T00:00:01.000Z")
    pending.found(B, {("replace catalog", "node1"): "2026-01-01T00:00:01.000Z"})
    assert pending.freshness(B) == Freshness(1, "2026-01-01T00:00:03.000Z")


@pytest.mark.parametrize("name", ["store report", "replace catalog inputs", "configure expiration"])
def test_commands_that_a_query_cannot_confirm_are_not_followed(pending: PendingWrites, name: str) -> None:
    pending.accepted(command(name=name), [B], 10)
    assert not pending.freshness(A).stale
    assert pending.behind() == {}


def test_a_command_that_nobody_took_is_missing_nowhere(pending: PendingWrites) -> None:
    pending.accepted(command(), [], 10)
    assert not pending.freshness(A).stale


def test_who_takes_a_newer_command_lacks_the_older_no_more(pending: PendingWrites) -> None:
    pending.accepted(command(second=1), [B], 10)
    pending.accepted(command(second=2), [A], 11)
    assert not pending.freshness(A).stale
    assert pending.behind() == {}
    assert pending.freshness(B).stale


def test_who_takes_an_older_command_still_lacks_the_newer(pending: PendingWrites) -> None:
    pending.accepted(command(second=2), [B], 10)
    pending.accepted(command(second=1), [A], 11)
    assert pending.freshness(A) == Freshness(1, "2026-01-01T00:00:02.000Z")


def test_only_who_was_written_past_is_behind(pending: PendingWrites) -> None:
    pending.accepted(command(), [A], 10)
    assert pending.behind() == {}, "the replica lacks it, but stands after the primary anyway"
    pending.accepted(command("node2"), [B], 11)
    assert pending.behind() == {A: 11}
    pending.accepted(command("node3"), [S], 12)
    assert pending.behind() == {A: 11, B: 12}, "since when: of the first command that was written past it"


def test_a_broadcast_puts_behind_who_stands_before_one_that_took_it(pending: PendingWrites) -> None:
    pending.accepted(command(), [B, S], 10)
    assert pending.behind() == {A: 10}
    pending.accepted(command("node2"), [A, B, S], 11)
    assert pending.failed_over(A, 10) == [(FACTS, "node1")]


def test_a_server_that_is_seen_to_hold_all_has_caught_up(pending: PendingWrites) -> None:
    pending.accepted(command("node1", second=1), [B], 10)
    pending.accepted(command("node2", second=2), [B], 10)
    pending.found(A, {(FACTS, "node1"): "2026-01-01T00:00:01.000Z", (FACTS, "node2"): "2026-01-01T00:00:01.999Z"})
    assert pending.failed_over(A, 10) == [(FACTS, "node2")]
    pending.found(A, {(FACTS, "node2"): "2026-01-01T00:00:02.001Z", (FACTS, "node9"): "2026-01-01T00:00:00.000Z"})
    assert pending.behind() == {}
    assert not pending.freshness(A).stale


def test_what_is_to_be_confirmed_comes_in_portions(pending: PendingWrites) -> None:
    for n in range(5):
        pending.accepted(command(f"node{n}"), [B], 10)
    assert pending.failed_over(A, 2) == [(FACTS, "node0"), (FACTS, "node1")]
    assert len(pending.failed_over(A, 100)) == 5


def test_since_begins_anew_after_catching_up(pending: PendingWrites) -> None:
    pending.accepted(command(second=1), [B], 10)
    pending.accepted(command(second=2), [A], 20)
    pending.accepted(command(second=3), [B], 30)
    assert pending.behind() == {A: 30}


def test_the_book_is_bounded_and_a_stale_server_stays_stale(
    pending: PendingWrites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staleness, "LIMIT", 3)
    for n in range(10):
        pending.accepted(command(f"node{n}", second=n), [B], 10)
    assert pending.freshness(A) == Freshness(3, "2026-01-01T00:00:07.000Z")
    assert pending.failed_over(A, 10) == [(FACTS, "node7"), (FACTS, "node8"), (FACTS, "node9")]


def test_a_submit_only_server_has_no_freshness(pending: PendingWrites) -> None:
    pending.accepted(command(), [A], 10)
    pending.found(S, {(FACTS, "node1"): "2026-01-01T00:00:01.000Z"})
    assert pending.freshness(S) == Freshness()
    assert S not in pending.behind()


def test_an_unknown_server_is_a_mistake(pending: PendingWrites) -> None:
    with pytest.raises(KeyError):
        pending.found(Endpoint("elsewhere"), {(FACTS, "node1"): "2026"})
