"""The daemon's metrics, in the text form of Prometheus, under the names that Puppet Enterprise has for its sync,
where Prometheus has no other rule: a counter does not say so in its name.

What the state file holds survives a restart: the last passes, and what differs. The counters begin at 0 with the
daemon.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from pdbclient.errors import SafetyBrake
from pdbclient.observe.exposition import CERTIFICATE_EXPIRY, Declared, certificate_expiry, counter, gauge
from pdbclient.sync.policy.model import Entity, PassResult
from pdbclient.sync.state.status import RemoteStatus

__all__ = ["METRICS", "PREFIX", "Counted", "SyncMetrics"]

PREFIX = "pdbclient_sync_"

PASSES = counter(f"{PREFIX}passes", "Passes, by how they ended", "remote", "outcome")
FAILED_REQUESTS = counter(f"{PREFIX}failed_requests", "Requests that failed, also those tried again", "remote")
TRANSFERRED = counter(f"{PREFIX}records_transferred", "Records pulled and stored", "remote", "entity")
FAILED = counter(f"{PREFIX}records_failed", "Records that the local server did not take", "remote", "entity")
SUCCEEDED = gauge(f"{PREFIX}last_sync_succeeded", "1 when the last pass succeeded", "remote")
WORKED = gauge(f"{PREFIX}sync_has_worked_once", "1 when a pass ever succeeded", "remote")
BROKEN = gauge(f"{PREFIX}sync_has_failed_after_working", "1 when a pass failed after one had succeeded", "remote")
SUCCESS = gauge(f"{PREFIX}last_successful_sync_time", "When a pass last succeeded (Unix time)", "remote")
FAILURE = gauge(f"{PREFIX}last_failed_sync_time", "When a pass last failed (Unix time)", "remote")
LAG = gauge(f"{PREFIX}seconds_since_last_successful_sync", "Seconds since a pass last succeeded", "remote")
SINCE_FAILURE = gauge(f"{PREFIX}seconds_since_last_failed_sync", "Seconds since a pass last failed", "remote")
DURATION = gauge(f"{PREFIX}sync_duration", "Seconds that the last pass took", "remote")
TRANSFER = gauge(
    f"{PREFIX}record_transfer_duration", "Seconds that a record took in the last pass, the mean", "remote"
)
DURATIONS = {
    entity: gauge(f"{PREFIX}{name}_sync_duration", f"Seconds that {entity} took in the last pass", "remote")
    for entity, name in (
        (Entity.NODES, "nodes"),
        (Entity.EXPIRATION, "fact_expiration"),
        (Entity.FACTS, "factsets"),
        (Entity.CATALOGS, "catalogs"),
        (Entity.INPUTS, "catalog_inputs"),
        (Entity.REPORTS, "reports"),
    )
}
"""Puppet Enterprise's names, and ours for what it does not sync."""
ENTITY_SUCCEEDED = gauge(
    f"{PREFIX}entity_succeeded", "1 when the entity was done in the last pass that came to it", "remote", "entity"
)
ENTITY_SUCCESS = gauge(
    f"{PREFIX}entity_success_time", "When the entity was last done (Unix time)", "remote", "entity"
)
BRAKED = gauge(
    f"{PREFIX}entity_braked", "1 when a safety brake kept the entity from being done in that pass", "remote", "entity"
)
DIVERGENCE = gauge(
    f"{PREFIX}divergence", "Records that differ and are left so, by the reason", "remote", "entity", "kind"
)

METRICS: tuple[Declared[Any], ...] = (
    *(PASSES, FAILED_REQUESTS, TRANSFERRED, FAILED, SUCCEEDED, WORKED, BROKEN, SUCCESS, FAILURE, LAG, SINCE_FAILURE),
    *(DURATION, TRANSFER, *DURATIONS.values(), ENTITY_SUCCEEDED, ENTITY_SUCCESS, BRAKED, DIVERGENCE),
    CERTIFICATE_EXPIRY,
)
"""All of them."""

_LEFT = ("unequal", "tied", "held", "unusable")
"""What the last pass found that differs and stays so, as `EntityResult` names it."""


class Counted(Collector):
    """What the daemon counts while it runs. `add` and `collect` may be called from different threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes: Counter[tuple[str, str]] = Counter()
        self._failed_requests: Counter[str] = Counter()
        self._transferred: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()

    def add(self, result: PassResult) -> None:
        """Count a pass in."""
        with self._lock:
            self._passes[result.remote, str(result.outcome)] += 1
            self._failed_requests[result.remote] += result.failed_requests
            for entity, part in result.entities.items():
                self._transferred[result.remote, str(entity)] += part.transferred
                self._failed[result.remote, str(entity)] += part.failed

    def collect(self) -> Iterator[Metric]:
        """As metrics."""
        with self._lock:
            passes = PASSES.family()
            for (remote, outcome), number in self._passes.items():
                passes.add_metric([remote, outcome], number)
            requests = FAILED_REQUESTS.family()
            for remote, number in self._failed_requests.items():
                requests.add_metric([remote], number)
            transferred = TRANSFERRED.family()
            for (remote, entity), number in self._transferred.items():
                transferred.add_metric([remote, entity], number)
            failed = FAILED.family()
            for (remote, entity), number in self._failed.items():
                failed.add_metric([remote, entity], number)
        yield from (passes, requests, transferred, failed)


class SyncMetrics(Collector):
    """What the state file knows of the last passes, at one look, and when the TLS files end (s since 1970)."""

    def __init__(self, remotes: Sequence[RemoteStatus], expiry: Mapping[str, float]) -> None:
        self._remotes, self._expiry = remotes, expiry

    def collect(self) -> Iterator[Metric]:
        """As metrics."""
        yield from self._outcomes()
        yield from self._durations()
        yield from self._entities()
        yield self._divergence()
        yield certificate_expiry(self._expiry)

    def _outcomes(self) -> Iterator[Metric]:
        succeeded = SUCCEEDED.family()
        worked = WORKED.family()
        broken = BROKEN.family()
        success = SUCCESS.family()
        failure = FAILURE.family()
        lag = LAG.family()
        since = SINCE_FAILURE.family()
        for each in self._remotes:
            labels = [each.remote]
            if each.ran:
                succeeded.add_metric(labels, float(each.succeeded))
            worked.add_metric(labels, float(each.worked))
            broken.add_metric(labels, float(each.failed_after_working))
            if each.last_success is not None:
                success.add_metric(labels, each.last_success)
                lag.add_metric(labels, each.now - each.last_success)
            if each.last_failure is not None:
                failure.add_metric(labels, each.last_failure)
                since.add_metric(labels, each.now - each.last_failure)
        yield from (succeeded, worked, broken, success, failure, lag, since)

    def _durations(self) -> Iterator[Metric]:
        whole = DURATION.family()
        record = TRANSFER.family()
        for each in self._remotes:
            if not each.ran:
                continue
            whole.add_metric([each.remote], each.elapsed)
            if (mean := each.transfer_mean) is not None:
                record.add_metric([each.remote], mean)
        yield from (whole, record)
        for entity, declared in DURATIONS.items():
            part = declared.family()
            for each in self._remotes:
                if each.ran:
                    part.add_metric([each.remote], each.of(entity, "elapsed_ms") / 1000)
            yield part

    def _entities(self) -> Iterator[Metric]:
        succeeded = ENTITY_SUCCEEDED.family()
        success, braked = ENTITY_SUCCESS.family(), BRAKED.family()
        for each in self._remotes:
            for entity, part in each.entities.items():
                succeeded.add_metric([each.remote, str(entity)], float(part.last_error is None))
                braked.add_metric([each.remote, str(entity)], float(SafetyBrake.PREFIX in (part.last_error or "")))
                if part.last_success is not None:
                    success.add_metric([each.remote, str(entity)], part.last_success)
        yield from (succeeded, success, braked)

    def _divergence(self) -> Metric:
        kept = DIVERGENCE.family()
        for each in self._remotes:
            for entity in Entity:
                kept.add_metric([each.remote, str(entity), "quarantined"], each.quarantined.get(entity, 0))
                kept.add_metric([each.remote, str(entity), "waiting"], each.waiting.get(entity, 0))
                for kind in _LEFT:
                    kept.add_metric([each.remote, str(entity), kind], each.of(entity, kind))
        return kept
