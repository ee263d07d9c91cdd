"""What the gateway counts, in the text form of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pdbclient.http.registry import ServerRegistry
from pdbclient.journal.model import ANY, Counts
from pdbclient.journal.work.service import Service
from pdbclient.observe.traffic import TrafficSnapshot

__all__ = ["exposition"]


class _Gateway(Collector):
    def __init__(self, registry: ServerRegistry, traffic: TrafficSnapshot, service: Service | None) -> None:
        self._registry = registry
        self._traffic = traffic
        self._service = service

    def collect(self) -> Iterator[Metric]:
        yield from self._servers()
        if self._service is not None:
            yield from self._journal(self._service)

    def _servers(self) -> Iterator[Metric]:
        usable = GaugeMetricFamily(
            "pdbclient_server_usable", "1 when the server is asked, 0 when it is left out", labels=["server", "for"]
        )
        health = self._registry.health()
        for (endpoint, operation), each in health.items():
            usable.add_metric([endpoint.url, operation.value], float(each.usable))
        yield usable
        missing = GaugeMetricFamily(
            "pdbclient_server_missing",
            "Newest commands of nodes that another server took and this one is not known to have",
            labels=["server"],
        )
        for endpoint in {endpoint: None for endpoint, _ in health}:
            missing.add_metric([endpoint.url], float(self._registry.freshness(endpoint).missing))
        yield missing

    def _journal(self, service: Service) -> Iterator[Metric]:
        up = float(service.journal.answers)
        yield GaugeMetricFamily("pdbclient_journal_up", "1 when the journal answers, 0 when it does not", value=up)
        counts = service.figures.counts()
        if counts is not None:
            yield from self._counts(service, counts)
        yield CounterMetricFamily(
            "pdbclient_journal_only", "Commands that no server took at once", value=float(service.journal_only)
        )
        yield CounterMetricFamily(
            "pdbclient_stale_answers",
            "Answers about exported resources whose server could not be brought up to date in time",
            value=float(self._traffic.stale_answers),
        )

    def _counts(self, service: Service, counts: Counts) -> Iterator[Metric]:
        """As they were when the journal was last counted."""
        held = GaugeMetricFamily("pdbclient_journal_entries", "Commands in the journal", labels=["state"])
        for state, number in counts.entries.items():
            held.add_metric([state.value], float(number))
        yield held
        pending = GaugeMetricFamily("pdbclient_journal_pending", "Commands still to be delivered", labels=["target"])
        for target, number in counts.pending.items():
            pending.add_metric(["any" if target == ANY else target], float(number))
        yield pending
        yield GaugeMetricFamily("pdbclient_journal_bytes", "Bytes of its bodies", value=float(counts.bytes))
        age = 0.0 if counts.oldest_pending is None else max(service.journal.clock() - counts.oldest_pending, 0.0)
        yield GaugeMetricFamily(
            "pdbclient_journal_oldest_pending_seconds", "Age of the oldest command still to be delivered", value=age
        )


def exposition(registry: ServerRegistry, traffic: TrafficSnapshot, service: Service | None) -> bytes:
    """All of it, as `text/plain; version=0.0.4`."""
    collectors = CollectorRegistry()
    collectors.register(_Gateway(registry, traffic, service))
    return generate_latest(collectors)
