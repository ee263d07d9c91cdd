"""What the metrics of all daemons have in common: the text form of Prometheus, and when certificates expire."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["certificate_expiry", "exposition"]


def exposition(*collectors: Collector) -> bytes:
    """All of it, as `text/plain; version=0.0.4`."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)


def certificate_expiry(earliest: Mapping[str, float]) -> Metric:
    """When the first certificate, or revocation list, of each setting's file ends, in seconds since 1970."""
    ends = GaugeMetricFamily(
        "pdbclient_certificate_expiry_timestamp_seconds",
        "When the first of the certificates, or revocation lists, in the file of this setting expires (Unix time)",
        labels=["setting"],
    )
    for setting, at in earliest.items():
        ends.add_metric([setting], at)
    return ends
