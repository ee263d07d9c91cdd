"""What the gateway's status document makes of what was counted: when a server was out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pdbclient.gateway.status import outages
from pdbclient.observe.traffic import DAY, Circuit, Traffic, TrafficSnapshot

NOW = 1_800_000_000.0
A, B = "https://a:8081", "https://b:8081"


def change(server: str, operation: str, ago: float, why: str = "") -> Circuit:
    """A circuit that became unhealthy so many seconds ago, for that reason; healthy without one."""
    return Circuit(server, operation, not why, NOW - ago, why or "it answered probes")


def counted(*changes: Circuit, now: Sequence[Circuit] = ()) -> TrafficSnapshot:
    """What was counted: these changes in the last day; circuits are as they were left, or as `now` says."""
    last = {(each.server, each.operation): each for each in changes}
    traffic = Traffic(wall=lambda: NOW)
    traffic.watch([A, B])
    circuits = {(each.server, each.operation): each for each in traffic.snapshot().circuits} | last
    circuits |= {(each.server, each.operation): each for each in now}
    return replace(traffic.snapshot(), circuits=tuple(circuits.values()), changes=changes)


def found(snapshot: TrafficSnapshot) -> list[tuple[str, float, float | None, str]]:
    return [
        (
            each.server,
            NOW - each.began.timestamp(),
            None if each.ended is None else NOW - each.ended.timestamp(),
            each.why,
        )
        for each in outages(snapshot)
    ]


def test_servers_that_were_always_healthy_were_never_out() -> None:
    assert found(counted()) == []


def test_an_outage_is_from_the_first_circuit_that_opens_to_the_last_that_closes() -> None:
    changes = (
        change(A, "query", 100, "timeout"),
        change(A, "command", 90, "refused"),
        change(A, "command", 50),
        change(A, "query", 40),
    )
    assert found(counted(*changes)) == [(A, 100.0, 40.0, "timeout")]


def test_one_that_lasts_has_no_end_and_each_server_has_its_own() -> None:
    changes = (
        change(B, "query", 300, "busy"),
        change(B, "query", 200),
        change(A, "query", 100, "refused"),
        change(B, "query", 50, "busy again"),
    )
    assert found(counted(*changes)) == [
        (B, 300.0, 200.0, "busy"),
        (A, 100.0, None, "refused"),
        (B, 50.0, None, "busy again"),
    ]


def test_one_that_began_more_than_a_day_ago_is_known_from_the_circuit_while_it_lasts() -> None:
    old = change(A, "query", 2 * DAY, "refused")
    assert found(counted(now=[old])) == [(A, 2 * DAY, None, "refused")]
    # Another circuit's changes within the day do not end it.
    changes = (change(A, "command", 90, "timeout"), change(A, "command", 50))
    assert found(counted(*changes, now=[old])) == [(A, 2 * DAY, None, "refused")]


def test_one_that_a_reload_with_other_servers_ends_has_its_end_there() -> None:
    """Their circuits are begun anew, which is no change of theirs; A is not among them any more."""
    changes = (change(A, "query", 100, "refused"), change(B, "query", 90, "busy"))
    anew = replace(
        counted(*changes), circuits=tuple(Circuit(B, operation, True, NOW - 30) for operation in ("command", "query"))
    )
    assert found(anew) == [(A, 100.0, 30.0, "refused"), (B, 90.0, 30.0, "busy")]


def test_one_that_began_more_than_a_day_ago_and_ended_since_is_shown_from_the_beginning_of_the_day() -> None:
    assert found(counted(change(A, "query", 50))) == [(A, DAY, 50.0, "since before that day")]


def test_no_outage_ends_before_it_began_or_begins_later_than_now_where_the_clock_was_set_back() -> None:
    hour = 3600.0
    set_back_before_its_end = (change(A, "query", -hour + 20, "refused"), change(A, "query", 10))
    assert found(counted(*set_back_before_its_end)) == [(A, 10.0, 10.0, "refused")]
    set_back_since = (change(A, "query", -hour + 20, "refused"), change(A, "query", -hour + 10))
    assert found(counted(*set_back_since)) == [(A, 0.0, 0.0, "refused")]
    lasting = (change(A, "query", -hour, "refused"),)
    assert found(counted(*lasting)) == [(A, 0.0, None, "refused")]
    ended_by_a_reload = replace(
        counted(change(A, "query", 10, "refused")),
        circuits=tuple(Circuit(B, operation, True, NOW - 30) for operation in ("command", "query")),
    )
    assert found(ended_by_a_reload) == [(A, 10.0, 10.0, "refused")]
