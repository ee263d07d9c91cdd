"""What the metrics of all daemons have in common: how one is declared, the text form of Prometheus, certificates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CERTIFICATE_EXPIRY", "Declared", "certificate_expiry", "counter", "exposition", "gauge", "histogram"]

F = TypeVar("F", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)


@dataclass(frozen=True, slots=True)
class Declared(Generic[F]):
    """One metric: its name (of a counter, Prometheus adds `_total`), what it means, its labels."""

    make: Callable[..., F]
    name: str
    meaning: str
    labels: tuple[str, ...]

    def family(self) -> F:
        """One that has no values yet."""
        return self.make(self.name, self.meaning, labels=self.labels)


def counter(name: str, meaning: str, *labels: str) -> Declared[CounterMetricFamily]:
    """Declare a counter."""
    return Declared(CounterMetricFamily, name, meaning, labels)


def gauge(name: str, meaning: str, *labels: str) -> Declared[GaugeMetricFamily]:
    """Declare a gauge."""
    return Declared(GaugeMetricFamily, name, meaning, labels)


def histogram(name: str, meaning: str, *labels: str) -> Declared[HistogramMetricFamily]:
    """Declare a histogram."""
    return Declared(HistogramMetricFamily, name, meaning, labels)


CERTIFICATE_EXPIRY = gauge(
    "pdbclient_certificate_expiry_timestamp_seconds",
    "When the first of the certificates, or revocation lists, in the file of this setting expires (Unix time)",
    "setting",
)


def certificate_expiry(earliest: Mapping[str, float]) -> Metric:
    """`CERTIFICATE_EXPIRY`, with the time (s since 1970) of each setting."""
    ends = CERTIFICATE_EXPIRY.family()
    for setting, at in earliest.items():
        ends.add_metric([setting], at)
    return ends


def exposition(*collectors: Collector) -> bytes:
    """All of it, as `text/plain; version=0.0.4`."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)
