"""The gateway's metrics: names, labels and values, read back as Prometheus reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pdbclient.config.model import Endpoint
from pdbclient.gateway.metrics import METRICS, GatewayMetrics
from pdbclient.http.outcome import Kind as Met
from pdbclient.http.outcome import Operation, Outcome, Sent
from pdbclient.http.registry import ServerRegistry
from pdbclient.observe.exposition import exposition
from pdbclient.observe.traffic import Ending, Failed, Kind, Traffic

from ..http.fake import command

SERVERS = (Endpoint("a", 8081), Endpoint("b", 8081, 1), Endpoint("s", 8081, 2, submit_only=True))
A, B, S = (server.url for server in SERVERS)


class CountedGateway:
    """What a gateway without a journal has counted."""

    def __init__(self) -> None:
        self.now = 100.0
        self.traffic = Traffic(clock=lambda: self.now, wall=lambda: self.now)
        self.traffic.watch([A, B])
        self.registry = ServerRegistry(SERVERS, lambda: self.now, lambda: 0.0)

    def request(self, kind: Kind, ending: Ending, server: str = "", *failures: Failed, took: float = 0.0) -> None:
        with self.traffic.request(kind) as under_way:
            self.now += took
            under_way.note(ending, server, failures)

    def sample(self, name: str, **labels: str) -> float | None:
        """None when there is none, or it has other labels."""
        metrics = GatewayMetrics(self.registry, self.traffic.snapshot(), None, {"ssl_cert": 1_790_000_000.0})
        for family in text_string_to_metric_families(exposition(metrics).decode()):
            for sample in family.samples:
                if (sample.name, sample.labels) == (f"pdbclient_{name}", labels):
                    return sample.value
        return None


def test_what_an_alert_adds_up_is_there_before_anything_happened() -> None:
    gateway = CountedGateway()
    for kind in ("command", "query", "exported"):
        for outcome in ("unavailable", "overloaded", "internal_error", "refused"):
            assert gateway.sample("gateway_requests_total", kind=kind, server="", outcome=outcome) == 0
        for server in (A, B):
            assert gateway.sample("gateway_requests_total", kind=kind, server=server, outcome="answered") == 0
    for kind in ("command", "query"):
        assert gateway.sample("gateway_failovers_total", **{"kind": kind, "from": A, "to": B}) == 0
        assert gateway.sample("gateway_failovers_total", **{"kind": kind, "from": B, "to": A}) == 0
    assert gateway.sample("stale_answers_total") == 0


def test_requests_and_failovers_are_counted() -> None:
    gateway = CountedGateway()
    gateway.request(Kind.QUERY, Ending.ANSWERED, A)
    gateway.request(Kind.QUERY, Ending.ANSWERED, B, Failed(A, "not sent", "not sent: refused"))
    gateway.request(Kind.COMMAND, Ending.UNAVAILABLE)
    assert gateway.sample("gateway_requests_total", kind="query", server=A, outcome="answered") == 1
    assert gateway.sample("gateway_requests_total", kind="query", server=B, outcome="answered") == 1
    assert gateway.sample("gateway_requests_total", kind="command", server="", outcome="unavailable") == 1
    assert gateway.sample("gateway_failed_attempts_total", server=A, kind="query", error="not sent") == 1
    assert gateway.sample("gateway_failovers_total", **{"kind": "query", "from": A, "to": B}) == 1


def test_the_buckets_of_the_histogram_add_up() -> None:
    gateway = CountedGateway()
    for took in (0.001, 0.2, 100.0):
        gateway.request(Kind.QUERY, Ending.ANSWERED, A, took=took)
    name = "gateway_request_duration_seconds"
    for bound, number in (("0.005", 1), ("0.1", 1), ("0.25", 2), ("60.0", 2), ("+Inf", 3)):
        assert gateway.sample(f"{name}_bucket", kind="query", le=bound) == number
    assert gateway.sample(f"{name}_count", kind="query") == 3
    assert gateway.sample(f"{name}_sum", kind="query") == pytest.approx(100.201)
    assert gateway.sample(f"{name}_count", kind="command") == 0


def test_a_replica_that_is_not_written_to_lacks_nothing_and_a_primary_lacks_what_was_taken_in_its_place() -> None:
    gateway = CountedGateway()
    gateway.registry.accepted(command("n1"), [SERVERS[0]])
    assert [gateway.sample("server_missing", server=url) for url in (A, B)] == [0, 0]
    gateway.registry.accepted(command("n2"), [SERVERS[1]])
    assert [gateway.sample("server_missing", server=url) for url in (A, B)] == [1, 0]
    gateway.registry.accepted(command("n2", second=2), [SERVERS[0]])
    assert [gateway.sample("server_missing", server=url) for url in (A, B)] == [0, 0]


def test_what_is_under_way_shows_with_its_age() -> None:
    gateway = CountedGateway()
    with gateway.traffic.request(Kind.COMMAND):
        gateway.now += 12
        assert gateway.sample("gateway_requests_in_flight", kind="command") == 1
        assert gateway.sample("gateway_oldest_request_seconds") == 12
    assert gateway.sample("gateway_requests_in_flight", kind="command") == 0
    assert gateway.sample("gateway_oldest_request_seconds") == 0


def test_the_health_of_servers_and_the_end_of_certificates_show() -> None:
    gateway = CountedGateway()
    gateway.registry.note(SERVERS[0], Operation.QUERY, Outcome(Met.NOT_SENT, Sent.NO, detail="refused"), 100.0)
    assert gateway.sample("server_usable", server=A, **{"for": "query"}) == 0
    assert gateway.sample("server_usable", server=B, **{"for": "query"}) == 1
    assert gateway.sample("server_usable", server=S, **{"for": "command"}) == 1
    assert gateway.sample("server_usable", server=S, **{"for": "query"}) is None, "it would hide that nobody answers"
    assert gateway.sample("server_missing", server=B) == 0
    assert gateway.sample("certificate_expiry_timestamp_seconds", setting="ssl_cert") == 1_790_000_000.0


def test_all_metrics_are_declared_and_those_without_a_journal_are_there() -> None:
    gateway = CountedGateway()
    metrics = GatewayMetrics(gateway.registry, gateway.traffic.snapshot(), None, {})
    shown = {family.name for family in metrics.collect()}
    assert {each.name for each in METRICS if "journal" not in each.name} == shown
