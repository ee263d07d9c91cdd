"""What the gateway counts, as metrics of Prometheus.

What an alert adds up is there from the start, with 0: Prometheus sees no increase in a series that begins with 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pdbclient.http.outcome import Operation
from pdbclient.http.registry import ServerRegistry
from pdbclient.journal.model import ANY, Counts, EntryState
from pdbclient.journal.work.service import Service
from pdbclient.observe.exposition import (
    CERTIFICATE_EXPIRY,
    Declared,
    certificate_expiry,
    counter,
    gauge,
    histogram,
)
from pdbclient.observe.traffic import BUCKETS, JOURNAL, Ending, Kind, TrafficSnapshot

__all__ = ["METRICS", "GatewayMetrics"]

REQUESTS = counter(
    "pdbclient_gateway_requests",
    "Requests that ended, by the server that answered (empty: none) and by how",
    *("kind", "server", "outcome"),
)
DURATION = histogram(
    "pdbclient_gateway_request_duration_seconds", "How long requests took, from their head to the answer", "kind"
)
IN_FLIGHT = gauge("pdbclient_gateway_requests_in_flight", "Requests that are not answered yet", "kind")
OLDEST = gauge("pdbclient_gateway_oldest_request_seconds", "Age of the oldest request that is not answered yet")
FAILED_ATTEMPTS = counter(
    "pdbclient_gateway_failed_attempts",
    "Attempts at a server that failed, also those after which another server answered",
    *("server", "kind", "error"),
)
FAILOVERS = counter(
    "pdbclient_gateway_failovers",
    "Times that another server, or the journal, took over from the one that answered before",
    *("kind", "from", "to"),
)
STALE_ANSWERS = counter(
    "pdbclient_stale_answers",
    "Answers about exported resources whose server could not be brought up to date in time",
)
USABLE = gauge(
    "pdbclient_server_usable", "1 when the server is asked, 0 when it is unhealthy and left out", "server", "for"
)
MISSING = gauge(
    "pdbclient_server_missing",
    "Newest commands of nodes that a later server took in this one's place, and this one is not known to have",
    "server",
)
JOURNAL_UP = gauge("pdbclient_journal_up", "1 when the journal answers, 0 when it does not")
JOURNAL_ENTRIES = gauge("pdbclient_journal_entries", "Commands in the journal", "state")
JOURNAL_PENDING = gauge(
    "pdbclient_journal_pending", "Commands still to be delivered, to this server or to any", "target"
)
JOURNAL_BYTES = gauge("pdbclient_journal_bytes", "Bytes of the bodies in the journal")
JOURNAL_OLDEST = gauge(
    "pdbclient_journal_oldest_pending_seconds", "Age of the oldest command still to be delivered, 0 without any"
)
JOURNAL_ONLY = counter("pdbclient_journal_only", "Commands that no server took at once")

METRICS: tuple[Declared[Any], ...] = (
    *(REQUESTS, DURATION, IN_FLIGHT, OLDEST, FAILED_ATTEMPTS, FAILOVERS, STALE_ANSWERS, USABLE, MISSING),
    *(JOURNAL_UP, JOURNAL_ENTRIES, JOURNAL_PENDING, JOURNAL_BYTES, JOURNAL_OLDEST, JOURNAL_ONLY),
    CERTIFICATE_EXPIRY,
)
"""All of them. Those of the journal are there with a journal."""

_OF_CLIENTS = (Kind.COMMAND, Kind.QUERY, Kind.EXPORTED)
_WITHOUT_SERVER = (Ending.JOURNALLED, Ending.REFUSED, Ending.UNAVAILABLE, Ending.OVERLOADED, Ending.INTERNAL_ERROR)


@dataclass(frozen=True, eq=False)
class GatewayMetrics(Collector):
    """The metrics of one look. `expiry` is when the files of the TLS settings end, in seconds since 1970."""

    registry: ServerRegistry
    traffic: TrafficSnapshot
    service: Service | None
    expiry: Mapping[str, float]

    def collect(self) -> Iterator[Metric]:
        """As Prometheus' client asks for them."""
        yield from self._requests()
        yield from self._failures()
        yield from self._servers()
        if self.service is not None:
            yield from self._journal(self.service)
        yield _single(STALE_ANSWERS, self.traffic.stale_answers)
        yield certificate_expiry(self.expiry)

    def _urls(self) -> list[str]:
        return list(dict.fromkeys(circuit.server for circuit in self.traffic.circuits))

    def _requests(self) -> Iterator[Metric]:
        counted = Counter({(kind, "", ending): 0 for kind in _OF_CLIENTS for ending in _WITHOUT_SERVER})
        counted.update({(kind, url, Ending.ANSWERED): 0 for kind in _OF_CLIENTS for url in self._urls()})
        counted.update(self.traffic.requests)
        requests = REQUESTS.family()
        for (kind, server, ending), number in counted.items():
            requests.add_metric([kind, server, ending], float(number))
        yield requests
        seconds, bounds = DURATION.family(), [*map(floatToGoString, BUCKETS), "+Inf"]
        for kind, latencies in self.traffic.latencies.items():
            buckets = list(zip(bounds, map(float, accumulate(latencies.counts)), strict=True))
            seconds.add_metric([kind], buckets, latencies.seconds)
        yield seconds
        under_way = IN_FLIGHT.family()
        for kind, in_flight in self.traffic.in_flight.items():
            under_way.add_metric([kind], float(in_flight))
        yield under_way
        oldest = self.traffic.oldest
        yield _single(OLDEST, 0.0 if oldest is None else max(self.traffic.at - oldest, 0.0))

    def _failures(self) -> Iterator[Metric]:
        attempts = FAILED_ATTEMPTS.family()
        for (server, kind, error), number in self.traffic.failed_attempts.items():
            attempts.add_metric([server, kind, error], float(number))
        yield attempts
        urls = self._urls()
        places = {Kind.COMMAND: urls if self.service is None else [*urls, JOURNAL], Kind.QUERY: urls}
        pairs = {(kind, a, b): 0 for kind, among in places.items() for a in among for b in among if a != b}
        failovers = FAILOVERS.family()
        for (kind, source, target), number in (pairs | dict(self.traffic.switches)).items():
            failovers.add_metric([kind, source, target], float(number))
        yield failovers

    def _servers(self) -> Iterator[Metric]:
        usable, missing = USABLE.family(), MISSING.family()
        health = self.registry.health()
        for (endpoint, operation), each in health.items():
            # A submit-only server is asked nothing, however well it is.
            if operation is Operation.COMMAND or not endpoint.submit_only:
                usable.add_metric([endpoint.url, operation.value], float(each.usable))
        for endpoint in {endpoint: None for endpoint, _ in health}:
            missing.add_metric([endpoint.url], float(self.registry.behind_by(endpoint)))
        yield from (usable, missing)

    def _journal(self, service: Service) -> Iterator[Metric]:
        yield _single(JOURNAL_UP, service.journal.answers)
        counts = service.figures.counts()
        if counts is not None:
            yield from self._counts(service, counts)
        yield _single(JOURNAL_ONLY, service.journal_only)

    def _counts(self, service: Service, counts: Counts) -> Iterator[Metric]:
        """As they were when the journal was last counted."""
        held, pending = JOURNAL_ENTRIES.family(), JOURNAL_PENDING.family()
        for state in EntryState:
            held.add_metric([state.value], float(counts.entries.get(state, 0)))
        for target, number in (dict.fromkeys([ANY, *self._urls()], 0) | dict(counts.pending)).items():
            pending.add_metric(["any" if target == ANY else target], float(number))
        yield from (held, pending)
        yield _single(JOURNAL_BYTES, counts.bytes)
        oldest = counts.oldest_pending
        yield _single(JOURNAL_OLDEST, 0.0 if oldest is None else max(service.journal.clock() - oldest, 0.0))


def _single(declared: Declared[CounterMetricFamily] | Declared[GaugeMetricFamily], value: float) -> Metric:
    family = declared.family()
    family.add_metric([], float(value))
    return family
