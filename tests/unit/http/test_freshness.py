"""The book of what each server may lack."""

from __future__ import annotations

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.http import freshness
from pdbclient.http.freshness import Freshness, Ledger

from .fake import command, endpoints

A, B, S = endpoints("ab", "s")
FACTS = "replace facts"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger((A, B, S))


def test_who_did_not_take_a_command_lacks_it(ledger: Ledger) -> None:
    ledger.accepted(command(second=1), [A], 10)
    ledger.accepted(command("node2", second=2), [A], 11)
    assert ledger.freshness(A) == Freshness() == Freshness(0, None)
    assert ledger.freshness(B) == Freshness(2, "2026-01-01T00:00:01.000Z")
    assert (ledger.freshness(A).stale, ledger.freshness(B).stale) == (False, True)


def test_the_newest_command_of_a_kind_and_node_counts_once(ledger: Ledger) -> None:
    for second in (1, 3, 2):
        ledger.accepted(command(second=second), [A], 10)
    ledger.accepted(command(second=1, name="replace catalog"), [A], 10)
    assert ledger.freshness(B) == Freshness(2, "2026-01-01T00:00:01.000Z")
    ledger.found(B, {("replace catalog", "node1"): "2026-01-01T00:00:01.000Z"})
    assert ledger.freshness(B) == Freshness(1, "2026-01-01T00:00:03.000Z")


@pytest.mark.parametrize("name", ["store report", "replace catalog inputs", "configure expiration"])
def test_commands_that_a_query_cannot_confirm_are_not_followed(ledger: Ledger, name: str) -> None:
    ledger.accepted(command(name=name), [B], 10)
    assert not ledger.freshness(A).stale
    assert ledger.behind() == {}


def test_a_command_that_nobody_took_is_missing_nowhere(ledger: Ledger) -> None:
    ledger.accepted(command(), [], 10)
    assert not ledger.freshness(A).stale


def test_who_takes_a_newer_command_lacks_the_older_no_more(ledger: Ledger) -> None:
    ledger.accepted(command(second=1), [B], 10)
    ledger.accepted(command(second=2), [A], 11)
    assert not ledger.freshness(A).stale
    assert ledger.behind() == {}
    assert ledger.freshness(B).stale


def test_who_takes_an_older_command_still_lacks_the_newer(ledger: Ledger) -> None:
    ledger.accepted(command(second=2), [B], 10)
    ledger.accepted(command(second=1), [A], 11)
    assert ledger.freshness(A) == Freshness(1, "2026-01-01T00:00:02.000Z")


def test_only_who_was_written_past_is_behind(ledger: Ledger) -> None:
    ledger.accepted(command(), [A], 10)
    assert ledger.behind() == {}, "the replica lacks it, but stands after the primary anyway"
    ledger.accepted(command("node2"), [B], 11)
    assert ledger.behind() == {A: 11}
    ledger.accepted(command("node3"), [S], 12)
    assert ledger.behind() == {A: 11, B: 12}, "since when: of the first command that was written past it"


def test_a_broadcast_puts_behind_who_stands_before_one_that_took_it(ledger: Ledger) -> None:
    ledger.accepted(command(), [B, S], 10)
    assert ledger.behind() == {A: 10}
    ledger.accepted(command("node2"), [A, B, S], 11)
    assert ledger.failed_over(A, 10) == [(FACTS, "node1")]


def test_a_server_that_is_seen_to_hold_all_has_caught_up(ledger: Ledger) -> None:
    ledger.accepted(command("node1", second=1), [B], 10)
    ledger.accepted(command("node2", second=2), [B], 10)
    ledger.found(A, {(FACTS, "node1"): "2026-01-01T00:00:01.000Z", (FACTS, "node2"): "2026-01-01T00:00:01.999Z"})
    assert ledger.failed_over(A, 10) == [(FACTS, "node2")]
    ledger.found(A, {(FACTS, "node2"): "2026-01-01T00:00:02.001Z", (FACTS, "node9"): "2026-01-01T00:00:00.000Z"})
    assert ledger.behind() == {}
    assert not ledger.freshness(A).stale


def test_what_is_to_be_confirmed_comes_in_portions(ledger: Ledger) -> None:
    for n in range(5):
        ledger.accepted(command(f"node{n}"), [B], 10)
    assert ledger.failed_over(A, 2) == [(FACTS, "node0"), (FACTS, "node1")]
    assert len(ledger.failed_over(A, 100)) == 5


def test_since_begins_anew_after_catching_up(ledger: Ledger) -> None:
    ledger.accepted(command(second=1), [B], 10)
    ledger.accepted(command(second=2), [A], 20)
    ledger.accepted(command(second=3), [B], 30)
    assert ledger.behind() == {A: 30}


def test_the_book_is_bounded_and_a_stale_server_stays_stale(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "LIMIT", 3)
    for n in range(10):
        ledger.accepted(command(f"node{n}", second=n), [B], 10)
    assert ledger.freshness(A) == Freshness(3, "2026-01-01T00:00:07.000Z")
    assert ledger.failed_over(A, 10) == [(FACTS, "node7"), (FACTS, "node8"), (FACTS, "node9")]


def test_a_submit_only_server_has_no_freshness(ledger: Ledger) -> None:
    ledger.accepted(command(), [A], 10)
    assert ledger.freshness(S) == Freshness()
    assert S not in ledger.behind()


def test_an_unknown_server_is_a_mistake(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        ledger.found(Endpoint("elsewhere"), {(FACTS, "node1"): "2026"})
