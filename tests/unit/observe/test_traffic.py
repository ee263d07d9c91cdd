"""The recorder of the gateway's traffic: what is counted, what is an event, and what it costs."""

from __future__ import annotations

import threading
import time
from asyncio import CancelledError
from collections.abc import Sequence

import pytest

from pdbclient.observe.traffic import (
    AGAIN,
    BUCKETS,
    DAY,
    MOST_EVENTS,
    RECENT,
    Circuit,
    Ending,
    Failed,
    Failover,
    Kind,
    Traffic,
)

A, B = "https://a:8081", "https://b:8081"
DOWN = Failed(A, "not sent", "not sent: connection refused")


class StillRecorder:
    """A recorder with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.traffic = Traffic(clock=lambda: self.now, wall=lambda: 5000.0 + self.now)
        self.changed = self.traffic.watch([A, B])

    def request(
        self,
        server: str = A,
        *,
        kind: Kind = Kind.QUERY,
        ending: Ending = Ending.ANSWERED,
        failures: Sequence[Failed] = (),
        took: float = 0.0,
        stale: bool = False,
    ) -> None:
        with self.traffic.request(kind) as under_way:
            self.now += took
            under_way.note(ending, server, failures, stale=stale)

    def failovers(self) -> tuple[Failover, ...]:
        return self.traffic.snapshot().failovers


@pytest.fixture
def site() -> StillRecorder:
    return StillRecorder()


def test_requests_are_counted_by_kind_server_and_ending(site: StillRecorder) -> None:
    site.request()
    site.request()
    site.request("", kind=Kind.COMMAND, ending=Ending.REFUSED)
    site.request(B, kind=Kind.EXPORTED, stale=True)
    snapshot = site.traffic.snapshot()
    assert snapshot.requests == {
        (Kind.QUERY, A, Ending.ANSWERED): 2,
        (Kind.COMMAND, "", Ending.REFUSED): 1,
        (Kind.EXPORTED, B, Ending.ANSWERED): 1,
    }
    assert snapshot.stale_answers == 1
    assert (snapshot.since, snapshot.at) == (6000.0, 6000.0)


def test_latencies_fall_into_their_buckets_the_bound_included(site: StillRecorder) -> None:
    for took in (0.0, BUCKETS[0], 0.3, 100.0):
        site.request(took=took)
    latencies = site.traffic.snapshot().latencies[Kind.QUERY]
    filled = {index: count for index, count in enumerate(latencies.counts) if count}
    assert filled == {0: 2, BUCKETS.index(0.5): 1, len(BUCKETS): 1}
    assert latencies.number == 4
    assert latencies.seconds == pytest.approx(100.305)
    assert site.traffic.snapshot().latencies[Kind.COMMAND].number == 0


def test_the_recent_latencies_are_the_last_ones(site: StillRecorder) -> None:
    site.request(took=50.0)
    for _ in range(RECENT):
        site.request(took=1.0)
    latencies = site.traffic.snapshot().latencies[Kind.QUERY]
    assert len(latencies.recent) == RECENT
    assert latencies.recent_quantile(1.0) == pytest.approx(1.0)
    assert site.traffic.snapshot().latencies[Kind.EXPORTED].recent_quantile(0.5) is None


def test_what_is_under_way_is_in_flight_and_has_an_age(site: StillRecorder) -> None:
    with site.traffic.request(Kind.COMMAND) as under_way:
        site.now += 7.0
        snapshot = site.traffic.snapshot()
        assert snapshot.in_flight[Kind.COMMAND] == 1
        assert snapshot.oldest == 6000.0
        under_way.note(Ending.ANSWERED, A)
    after = site.traffic.snapshot()
    assert (after.in_flight[Kind.COMMAND], after.oldest) == (0, None)
    assert snapshot.in_flight[Kind.COMMAND] == 1, "a snapshot does not change any more"


@pytest.mark.parametrize(
    ("error", "ending"),
    [(CancelledError(), Ending.CLIENT_LEFT), (RuntimeError("a defect"), Ending.INTERNAL_ERROR)],
)
def test_a_request_that_nobody_ended_is_counted_as_what_ended_it(
    site: StillRecorder, error: BaseException, ending: Ending
) -> None:
    with pytest.raises(type(error)), site.traffic.request(Kind.QUERY):
        raise error
    assert site.traffic.snapshot().requests == {(Kind.QUERY, "", ending): 1}
    assert site.traffic.snapshot().in_flight[Kind.QUERY] == 0


def test_failed_attempts_are_counted_by_server_kind_and_error(site: StillRecorder) -> None:
    site.request(B, failures=[DOWN])
    site.request("", failures=[DOWN, Failed(B, "timeout", "timeout: 30 s")], ending=Ending.UNAVAILABLE)
    assert site.traffic.snapshot().failed_attempts == {
        (A, Kind.QUERY, "not sent"): 2,
        (B, Kind.QUERY, "timeout"): 1,
    }


def test_a_failover_is_one_event_there_and_one_back_however_many_requests(site: StillRecorder) -> None:
    site.request()
    assert site.failovers() == ()
    for _ in range(3):
        site.now += 1
        site.request(B, failures=[DOWN])
    site.now += 60
    site.request()
    site.request()
    assert site.failovers() == (
        Failover(6001.0, Kind.QUERY, A, B, DOWN.why),
        Failover(6063.0, Kind.QUERY, B, A, AGAIN),
    )
    assert site.traffic.snapshot().switches == {(Kind.QUERY, A, B): 1, (Kind.QUERY, B, A): 1}


def test_the_first_request_of_all_can_be_a_failover(site: StillRecorder) -> None:
    site.request(B, failures=[DOWN])
    assert [(each.source, each.target) for each in site.failovers()] == [(A, B)]


def test_commands_and_queries_fail_over_apart_and_exported_resources_with_the_queries(site: StillRecorder) -> None:
    site.request(B, kind=Kind.COMMAND, failures=[DOWN])
    site.request(B, kind=Kind.EXPORTED, failures=[DOWN])
    site.request(B)
    assert [each.kind for each in site.failovers()] == [Kind.COMMAND, Kind.QUERY]


def test_commands_that_only_the_journal_took_are_a_failover_too(site: StillRecorder) -> None:
    site.request("", kind=Kind.COMMAND, ending=Ending.JOURNALLED, failures=[DOWN])
    assert [(each.source, each.target, each.why) for each in site.failovers()] == [(A, "journal", DOWN.why)]


def test_a_server_that_a_health_check_shut_out_is_the_reason_although_nobody_asked_it(site: StillRecorder) -> None:
    site.changed(A, "query", False, "unresponsive: no answer to the health check")
    site.request(B)
    assert site.failovers()[0].why == "unresponsive: no answer to the health check"


def test_an_answer_to_a_request_from_before_the_failover_is_no_way_back(site: StillRecorder) -> None:
    with site.traffic.request(Kind.QUERY) as slow:
        site.now += 1
        site.request(B, failures=[DOWN])
        site.now += 1
        slow.note(Ending.ANSWERED, A)
    assert [(each.source, each.target) for each in site.failovers()] == [(A, B)]


def test_circuits_say_since_when_and_why_and_the_changes_of_the_day_are_kept(site: StillRecorder) -> None:
    site.now += 5
    site.changed(A, "query", False, "timeout: 30 s")
    site.now += 5
    site.changed(A, "query", True, "it answered probes")
    snapshot = site.traffic.snapshot()
    assert snapshot.changes == (
        Circuit(A, "query", False, 6005.0, "timeout: 30 s"),
        Circuit(A, "query", True, 6010.0, "it answered probes"),
    )
    assert snapshot.circuits == (
        Circuit(A, "command", True, 6000.0),
        Circuit(A, "query", True, 6010.0, "it answered probes"),
        Circuit(B, "command", True, 6000.0),
        Circuit(B, "query", True, 6000.0),
    )


def test_with_other_servers_the_old_ones_are_heard_no_more(site: StillRecorder) -> None:
    site.request(B, failures=[DOWN])
    site.traffic.watch([B])
    site.changed(A, "query", False, "timeout: 30 s")
    site.request(B)
    snapshot = site.traffic.snapshot()
    assert {each.server for each in snapshot.circuits} == {B}
    assert snapshot.changes == ()
    assert len(snapshot.failovers) == 1, "what happened before stays"


def test_events_are_shown_for_a_day(site: StillRecorder) -> None:
    site.request(B, failures=[DOWN])
    site.changed(A, "query", False, "timeout: 30 s")
    site.now += DAY
    assert len(site.failovers()) == 1
    site.now += 1
    snapshot = site.traffic.snapshot()
    assert (snapshot.failovers, snapshot.changes) == ((), ())
    assert not next(each for each in snapshot.circuits if each.server == A and each.operation == "query").healthy
    assert sum(snapshot.switches.values()) == 1


def test_a_server_that_comes_and_goes_all_day_does_not_fill_the_memory(site: StillRecorder) -> None:
    for number in range(MOST_EVENTS + 10):
        site.now += 1
        site.request(B if number % 2 == 0 else A)
        site.changed(A, "query", number % 2 == 0, "why")
    snapshot = site.traffic.snapshot()
    assert len(snapshot.failovers) == len(snapshot.changes) == MOST_EVENTS


def test_nothing_is_lost_between_threads() -> None:
    traffic = Traffic()
    traffic.watch([A, B])

    def work(server: str) -> None:
        for _ in range(2000):
            with traffic.request(Kind.QUERY) as under_way:
                under_way.note(Ending.ANSWERED, server)

    threads = [threading.Thread(target=work, args=(server,)) for server in (A, B)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        traffic.snapshot()
    snapshot = traffic.snapshot()
    assert snapshot.requests == {(Kind.QUERY, A, Ending.ANSWERED): 2000, (Kind.QUERY, B, Ending.ANSWERED): 2000}
    assert snapshot.latencies[Kind.QUERY].number == 4000
    assert snapshot.in_flight[Kind.QUERY] == 0


def test_a_request_costs_microseconds() -> None:
    """One through the gateway takes a millisecond of CPU and more: this must not be seen beside it."""
    traffic = Traffic()
    traffic.watch([A, B])
    number, began = 20_000, time.thread_time()
    for _ in range(number):
        with traffic.request(Kind.QUERY) as under_way:
            under_way.note(Ending.ANSWERED, A)
    assert (time.thread_time() - began) / number < 50e-6
