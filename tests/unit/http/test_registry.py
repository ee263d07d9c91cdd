"""What one process remembers: the lock and the clock around the pure rules, and what is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.http import registry as module
from pdbclient.http.breaker import State
from pdbclient.http.outcome import ACCEPTED, Kind, Operation, Outcome, Sent
from pdbclient.http.registry import ServerRegistry

from .fake import FakeClock, command, endpoints

A, B, S = endpoints("ab", "s")
COMMAND, QUERY = Operation.COMMAND, Operation.QUERY
REFUSED = Outcome(Kind.NOT_SENT, Sent.NO, detail="Connection refused")
FACTS = "replace facts"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def registry(clock: FakeClock) -> ServerRegistry:
    return ServerRegistry((A, B, S), clock, lambda: 0.0)


def test_only_the_failure_that_opens_a_circuit_is_told(
    registry: ServerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    soft = Outcome(Kind.SERVER_ERROR, Sent.UNKNOWN, 500, detail="oops")
    assert not registry.note(A, QUERY, soft, 100)
    assert not caplog.records
    assert registry.note(A, COMMAND, REFUSED, 100)
    assert not registry.note(A, COMMAND, REFUSED, 100), "it is open already"
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "https://a:8081 is unhealthy, not asked for now: not sent: Connection refused")
    ]


def test_the_return_of_a_server_is_told_once(
    registry: ServerRegistry, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry.note(A, COMMAND, REFUSED, 100)
    caplog.clear()
    clock.now = 102
    registry.probed(A, ok=True)
    assert not caplog.records
    clock.now = 107
    registry.probed(A, ok=True)
    registry.probed(A, ok=True)
    assert [(r.levelname, r.message) for r in caplog.records] == [("INFO", "https://a:8081 is healthy again")]


def test_a_probe_counts_only_for_the_circuits_that_wait_for_one(registry: ServerRegistry, clock: FakeClock) -> None:
    timeout = Outcome(Kind.TIMEOUT, Sent.UNKNOWN)
    for _ in range(3):
        registry.note(A, QUERY, timeout, 100)
    clock.now = 101
    registry.note(A, COMMAND, Outcome(Kind.BUSY, Sent.YES, 503, 10.0), 101)
    clock.now = 111
    registry.probed(A, ok=True)
    assert registry.health()[A, QUERY].state is State.HALF_OPEN
    assert registry.health()[A, COMMAND].state is State.HALF_OPEN
    registry.note(B, COMMAND, timeout, 111)
    assert due(registry) == []
    clock.now = 113
    assert due(registry) == [B]
    registry.probed(B, ok=False)
    clock.now = 116
    assert due(registry) == [A]


def due(registry: ServerRegistry) -> list[Endpoint]:
    return [server for server in (A, B, S) if registry.next_probe(server) == 0]


def test_when_each_server_is_to_be_probed_is_known(registry: ServerRegistry, clock: FakeClock) -> None:
    assert [registry.next_probe(server) for server in (A, B, S)] == [None, None, None]
    assert registry.all_closed()
    registry.note(S, COMMAND, REFUSED, 100)
    registry.note(A, COMMAND, REFUSED, 100)
    assert [registry.next_probe(server) for server in (A, B, S)] == [2, None, 2]
    assert not registry.all_closed()
    clock.now = 101.5
    assert registry.next_probe(A) == 0.5
    clock.now = 110
    assert [registry.next_probe(server) for server in (A, B, S)] == [0, None, 0]


def test_a_skipped_server_says_when_it_is_probed(registry: ServerRegistry, clock: FakeClock) -> None:
    registry.note(A, COMMAND, REFUSED, 100)
    attempt = registry.skipped(A, COMMAND)
    assert (attempt.endpoint, attempt.outcome.kind, attempt.outcome.sent) == (A, Kind.SKIPPED, Sent.NO)
    assert attempt.outcome.detail == "not asked: it failed lately, next probe in 2 s"
    clock.now = 200
    assert "in 0 s" in registry.skipped(A, COMMAND).outcome.detail


def test_a_server_is_forced_at_most_once_a_second(registry: ServerRegistry, clock: FakeClock) -> None:
    for server in (A, B):
        for operation in (COMMAND, QUERY):
            registry.note(server, operation, REFUSED, 100)
    assert registry.may_force(A, COMMAND)
    assert not registry.may_force(A, COMMAND)
    assert registry.may_force(A, QUERY), "a command does not take a query's turn"
    assert registry.may_force(B, COMMAND), "each server has its own second"
    clock.now = 100.99
    assert not registry.may_force(A, COMMAND)
    clock.now = 101
    assert registry.may_force(A, COMMAND)


def test_a_server_that_is_well_again_needs_no_turn(registry: ServerRegistry) -> None:
    """Who was forced to ask it found it well: the next one, in the same second, was not let through."""
    registry.note(A, QUERY, REFUSED, 100)
    assert registry.may_force(A, QUERY)
    registry.note(A, QUERY, ACCEPTED, 100)
    assert registry.may_force(A, QUERY)
    assert registry.may_force(A, QUERY)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> ServerRegistry:
    """By the real clock, and nothing is usable. The next turn is far away."""
    monkeypatch.setattr(module, "FORCED_GAP", 60.0)
    registry = ServerRegistry((A, B), time.monotonic, lambda: 0.0)
    registry.note(A, QUERY, REFUSED, time.monotonic())
    return registry


def beside_another(registry: ServerRegistry, end: Callable[[], object]) -> bool:
    """Whether a query may try A that comes while another one does, which then meets `end`."""
    assert registry.may_force(A, QUERY)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(registry.may_force, A, QUERY, 30.0)
        time.sleep(0.05)
        assert not found.done()
        end()
        return found.result(10.0)


def test_who_comes_while_a_server_is_forced_goes_on_when_it_proves_well(timed: ServerRegistry) -> None:
    assert beside_another(timed, lambda: timed.note(A, QUERY, ACCEPTED, time.monotonic()))


def test_who_comes_while_a_server_is_forced_fails_when_that_fails(timed: ServerRegistry) -> None:
    assert not beside_another(timed, lambda: timed.note(A, QUERY, REFUSED, time.monotonic()))
    assert not timed.may_force(A, QUERY, 30.0), "it failed just now"


def test_who_comes_while_a_server_is_forced_goes_on_when_that_was_the_requests_fault(timed: ServerRegistry) -> None:
    assert beside_another(timed, lambda: timed.may_force_again(A, QUERY))


def test_a_background_probe_lets_those_through_that_wait(timed: ServerRegistry) -> None:
    def probed() -> None:
        for operation in (COMMAND, QUERY):
            timed._health[A, operation] = replace(timed._health[A, operation], retry_at=0.0, probes_ok=1)
        timed.probed(A, ok=True)

    assert beside_another(timed, probed)


def test_who_comes_while_a_server_is_forced_for_long_takes_the_next_turn(
    timed: ServerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORCED_GAP", 2.0)
    assert beside_another(timed, lambda: None)


def test_nobody_waits_for_a_turn_longer_than_he_may(timed: ServerRegistry) -> None:
    assert timed.may_force(A, QUERY)
    assert not timed.may_force(A, QUERY, 0.05)


def test_jitter_spreads_the_retry_time(clock: FakeClock) -> None:
    registry = ServerRegistry((A,), clock, lambda: -1.0)
    registry.note(A, COMMAND, REFUSED, 100)
    assert registry.next_probe(A) == pytest.approx(1.6)


def test_who_is_held_back_is_asked_only_when_it_is_up(registry: ServerRegistry, clock: FakeClock) -> None:
    registry.note(A, COMMAND, REFUSED, 100)
    assert registry.accepted(command(second=1), [B])
    assert registry.to_confirm(10) == {}
    for clock.now in (102, 107):
        registry.probed(A, ok=True)
    assert registry.to_confirm(10) == {A: [(FACTS, "node1")]}
    assert registry.order(QUERY) == (B, A)


def test_who_is_not_held_back_any_more_is_not_asked_any_more(registry: ServerRegistry, clock: FakeClock) -> None:
    registry.accepted(command(second=1), [B])
    clock.now += 599.9
    assert A in registry.to_confirm(10)
    clock.now += 0.1
    assert registry.to_confirm(10) == {}
    assert registry.freshness(A).stale


def test_catching_up_is_told(registry: ServerRegistry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    registry.accepted(command("node1", second=1), [B])
    registry.accepted(command("node2", second=1), [B])
    registry.confirmed(A, {(FACTS, "node1"): "2026-01-01T00:00:01.000Z"})
    assert not caplog.records
    registry.confirmed(A, {(FACTS, "node2"): "2026-01-01T00:00:01.000Z"})
    assert [r.message for r in caplog.records] == ["https://a:8081 has caught up"]
    assert registry.order(QUERY) == (A, B)


def test_a_command_taken_in_the_first_place_leaves_nothing_to_confirm(registry: ServerRegistry) -> None:
    assert not registry.accepted(command(), [A])
    assert registry.freshness(B).stale


def test_sticky_reads_stay_with_the_last_reader(clock: FakeClock) -> None:
    registry = ServerRegistry((A, B, S), clock, lambda: 0.0, sticky_reads=True)
    registry.answered(B)
    registry.note(A, QUERY, ACCEPTED, 100)
    assert registry.order(QUERY) == (B, A)
    assert registry.order(COMMAND) == (A, B, S)


def test_a_look_at_the_health_is_a_copy(registry: ServerRegistry) -> None:
    before = registry.health()
    registry.note(A, COMMAND, REFUSED, 100)
    assert before[A, COMMAND].usable
    assert set(before) == {(e, o) for e in (A, B, S) for o in Operation}


# -- what a process that checks its servers in the background notes, and hands over


def test_a_failed_check_of_the_connection_closes_both_ways(
    registry: ServerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    assert registry.check_failed(A, REFUSED, 100)
    assert not registry.usable(A, COMMAND)
    assert not registry.usable(A, QUERY)
    assert not registry.in_use(A)
    assert [r.message for r in caplog.records] == [
        "https://a:8081 is unhealthy, not asked for now: not sent: Connection refused"
    ]


def test_a_server_that_only_says_that_it_is_not_well_still_takes_commands(registry: ServerRegistry) -> None:
    assert registry.check_failed(A, Outcome(Kind.BUSY, Sent.YES, 503, 5.0), 100)
    assert not registry.usable(A, QUERY)
    assert registry.usable(A, COMMAND)
    assert registry.in_use(A)


def test_further_checks_do_not_put_off_the_return_of_what_is_out(registry: ServerRegistry, clock: FakeClock) -> None:
    busy = Outcome(Kind.BUSY, Sent.YES, 503, 5.0)
    assert registry.check_failed(A, busy, 100)
    before = registry.health()[A, QUERY]
    clock.now = 101
    assert not registry.check_failed(A, busy, 101)
    assert registry.health()[A, QUERY] == before
    assert registry.check_failed(A, REFUSED, 101), "now commands are shut out too"
    assert registry.health()[A, QUERY] == before
    assert not registry.usable(A, COMMAND)


def test_a_check_that_began_before_the_server_came_back_says_nothing(
    registry: ServerRegistry, clock: FakeClock
) -> None:
    registry.note(A, COMMAND, REFUSED, 100)
    for clock.now in (102, 107):
        registry.probed(A, ok=True)
    assert not registry.check_failed(A, REFUSED, 106.9)
    assert registry.usable(A, COMMAND)
    assert registry.check_failed(A, REFUSED, 107.1)


def test_a_memory_covers_the_same_servers_in_the_same_places_with_the_same_rule(registry: ServerRegistry) -> None:
    assert registry.covers((A, B, S), sticky_reads=False)
    assert registry.covers(endpoints("ab", "s"), sticky_reads=False), "equal ones will do"
    assert not registry.covers((A, B, S), sticky_reads=True)
    assert not registry.covers((B, A, S), sticky_reads=False)
    assert not registry.covers((A, B), sticky_reads=False)
    assert not registry.covers(endpoints("abs"), sticky_reads=False), "submit-only is another place"
    assert not registry.covers(endpoints("ba", "s"), sticky_reads=False)


def test_whoever_listens_is_told_of_each_circuit_that_opens_or_closes_and_why(
    registry: ServerRegistry, clock: FakeClock
) -> None:
    told: list[tuple[Endpoint, str, bool, str]] = []
    registry.listen(lambda endpoint, operation, healthy, why: told.append((endpoint, str(operation), healthy, why)))
    registry.note(A, COMMAND, REFUSED, 100)
    registry.note(A, COMMAND, REFUSED, 100)
    assert told == [(A, each, False, "not sent: Connection refused") for each in ("command", "query")]
    told.clear()
    clock.now = 104
    registry.note(A, QUERY, ACCEPTED, 104)
    registry.probed(A, ok=True)
    clock.now = 109
    registry.probed(A, ok=True)
    assert told == [(A, "query", True, "it answered a request"), (A, "command", True, "it answered probes")]
