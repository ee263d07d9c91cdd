"""The daemon's metrics: names, labels and values, read back as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pdbclient.errors import Rejected, SafetyBrake
from pdbclient.observe.exposition import CERTIFICATE_EXPIRY, exposition
from pdbclient.sync import EntityResult, Outcome, PassResult
from pdbclient.sync.policy.model import Entity
from pdbclient.sync.service.metrics import METRICS, PREFIX, Counted, SyncMetrics
from pdbclient.sync.state.status import RemoteStatus, read_status
from pdbclient.sync.state.store import EntityRecord

from .conftest import SyncPair
from .fake import facts

A, B = "https://a.example.com:8081", "https://b.example.com:8081"
NOW = 1_790_000_000.0

PASS = PassResult(
    A,
    Outcome.DONE,
    {
        Entity.FACTS: EntityResult(transferred=8, failed=2, unequal=3, held=1, elapsed_ms=1500, transfer_seconds=2.0),
        Entity.INPUTS: EntityResult(tied=4, unusable=6, elapsed_ms=20),
    },
    (),
    2500,
    failed_requests=5,
)
WELL = RemoteStatus(
    remote=A,
    now=NOW,
    last_success=NOW - 30,
    last_failure=NOW - 600,
    last_error=None,
    worked=True,
    failed_after_working=False,
    last_pass=PASS.as_json(),
    quarantined={Entity.FACTS: 2},
    waiting={Entity.REPORTS: 1},
    cursor_age=12.0,
)
NEW = RemoteStatus(B, NOW, None, None, None, False, False, {}, {}, {}, None)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(*remotes: RemoteStatus, counted: Counted | None = None) -> Samples:
    text = exposition(SyncMetrics(remotes, {}), counted or Counted()).decode()
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("last_sync_succeeded", 1.0),
        ("sync_has_worked_once", 1.0),
        ("sync_has_failed_after_working", 0.0),
        ("last_successful_sync_time", NOW - 30),
        ("last_failed_sync_time", NOW - 600),
        ("seconds_since_last_successful_sync", 30.0),
        ("seconds_since_last_failed_sync", 600.0),
        ("sync_duration", 2.5),
        ("factsets_sync_duration", 1.5),
        ("catalog_inputs_sync_duration", 0.02),
        ("nodes_sync_duration", 0.0),
        ("catalogs_sync_duration", 0.0),
        ("reports_sync_duration", 0.0),
        ("fact_expiration_sync_duration", 0.0),
        ("record_transfer_duration", 0.2),
    ],
)
def test_what_the_state_holds_of_a_remote_is_shown(name: str, expected: float) -> None:
    assert value(read(WELL), name, remote=A) == expected


def test_a_pass_that_failed_is_shown_as_such() -> None:
    failed = replace(WELL, last_error="refused", last_failure=NOW - 1, failed_after_working=True)
    samples = read(failed)
    assert value(samples, "last_sync_succeeded", remote=A) == 0.0
    assert value(samples, "sync_has_failed_after_working", remote=A) == 1.0
    assert value(samples, "seconds_since_last_successful_sync", remote=A) == 30.0


def test_a_pass_in_which_a_record_failed_succeeded_and_that_record_has_metrics_of_its_own(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(50)))
    site.b.refuses["n"] = Rejected("b", 400, "no")
    counted = Counted()
    counted.add(site.pull(site.b))
    samples = read(*read_status(site.config(site.b), site.clock.wall()), counted=counted)
    remote = site.a.endpoint.url
    assert value(samples, "last_sync_succeeded", remote=remote) == 1.0
    assert value(samples, "divergence", remote=remote, entity="facts", kind="waiting") == 1.0
    assert value(samples, "records_failed_total", remote=remote, entity="facts") == 1.0


def test_of_a_remote_without_a_pass_only_that_is_shown() -> None:
    samples = read(NEW)
    assert value(samples, "sync_has_worked_once", remote=B) == 0.0
    names = {name for (name, labels) in samples if ("remote", B) in labels}
    assert names == {"sync_has_worked_once", "sync_has_failed_after_working", "divergence"}


@pytest.mark.parametrize(
    ("entity", "kind", "expected"),
    [
        ("facts", "quarantined", 2.0),
        ("reports", "waiting", 1.0),
        ("facts", "unequal", 3.0),
        ("facts", "held", 1.0),
        ("catalog_inputs", "tied", 4.0),
        ("catalog_inputs", "unusable", 6.0),
        ("catalogs", "unequal", 0.0),
    ],
)
def test_what_differs_and_stays_so_is_a_gauge_by_entity_and_kind(entity: str, kind: str, expected: float) -> None:
    assert value(read(WELL, NEW), "divergence", remote=A, entity=entity, kind=kind) == expected


def test_each_remote_has_its_own_label() -> None:
    samples = read(WELL, replace(WELL, remote=B, last_success=NOW - 5))
    assert value(samples, "seconds_since_last_successful_sync", remote=A) == 30.0
    assert value(samples, "seconds_since_last_successful_sync", remote=B) == 5.0


def test_counters_add_up_over_the_passes_of_this_process() -> None:
    counted = Counted()
    counted.add(PASS)
    counted.add(PASS)
    counted.add(PassResult(A, Outcome.UNREACHABLE, {}, ("gone",), 3000, failed_requests=1))
    samples = read(counted=counted)
    assert value(samples, "failed_requests_total", remote=A) == 11.0
    assert value(samples, "passes_total", remote=A, outcome="done") == 2.0
    assert value(samples, "passes_total", remote=A, outcome="unreachable") == 1.0
    assert value(samples, "records_transferred_total", remote=A, entity="facts") == 16.0
    assert value(samples, "records_failed_total", remote=A, entity="facts") == 4.0


def test_every_metric_has_the_prefix_and_says_what_it_means() -> None:
    counted = Counted()
    counted.add(PASS)
    families = list(text_string_to_metric_families(exposition(SyncMetrics([WELL], {}), counted).decode()))
    assert {family.name for family in families} == {each.name for each in METRICS}
    for family in families:
        assert family.name.startswith(PREFIX) or family.name == CERTIFICATE_EXPIRY.name
        assert len(family.documentation.split()) > 2


def test_a_result_of_an_older_version_without_details_is_shown_without_them() -> None:
    bare: Mapping[str, object] = {"remote": A, "ok": True, "elapsed_ms": 1000}
    samples = read(replace(WELL, last_pass=bare))
    assert value(samples, "sync_duration", remote=A) == 1.0
    assert value(samples, "factsets_sync_duration", remote=A) == 0.0
    assert value(samples, "record_transfer_duration", remote=A) is None


def test_an_entity_that_a_safety_brake_holds_is_told_from_one_that_failed() -> None:
    entities = {
        Entity.NODES: EntityRecord(NOW, str(SafetyBrake("40 of 50 nodes would be deactivated"))),
        Entity.FACTS: EntityRecord(NOW, "HTTP 500"),
        Entity.REPORTS: EntityRecord(NOW, None),
    }
    samples = read(replace(WELL, entities=entities))
    for entity, braked, succeeded in (("nodes", 1.0, 0.0), ("facts", 0.0, 0.0), ("reports", 0.0, 1.0)):
        assert value(samples, "entity_braked", remote=A, entity=entity) == braked
        assert value(samples, "entity_succeeded", remote=A, entity=entity) == succeeded
