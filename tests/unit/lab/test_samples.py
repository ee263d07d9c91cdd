"""Samples of a jar become payloads of today's wire formats."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pdbclient.errors import LabError
from pdbclient.lab.samples import Samples

FOLDER = "puppetlabs/puppetdb/benchmark/samples"
NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)
CATALOG = {
    "certname": "host-0",
    "resources": [
        {"type": "Class", "title": "main", "exported": False, "tags": [], "parameters": {}, "file": None},
        {"type": "File", "title": "/x", "exported": False, "tags": ["host-0"], "parameters": {}, "line": 3},
    ],
    "edges": [{"source": {"type": "Class", "title": "main"}, "target": {"type": "File", "title": "/x"}}],
    "hash": "old",
}
FACTS = {
    "certname": "pg1.vm",
    "values": {"hostname": "pg1", "fqdn": "pg1.vm", "trusted": {"certname": "pg1.vm"}, "kernel": "Linux"},
    "package_inventory": [["bash", "5", "apt"]],
}
EVENT = {"status": "failure", "timestamp": "2015-01-01T00:00:00Z", "property": "mode", "message": "pg1.vm"}
REPORT: dict[str, Any] = {
    "certname": "pg1.vm",
    "puppet_version": "3.7.4",
    "status": "changed",
    "noop": False,
    "noop_pending": False,
    "corrective_change": False,
    "metrics": [],
    "logs": [{"time": "2015-01-01T00:00:00Z", "message": "on pg1.vm"}],
    "resources": [
        {"resource_title": f"r{n}", "timestamp": "2015-01-01T00:00:00Z", "events": [EVENT] if n == 0 else []}
        for n in range(6)
    ],
}


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    jar = tmp_path / "puppetdb.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for kind, sample in (("catalogs", CATALOG), ("facts", FACTS), ("reports", REPORT)):
            archive.writestr(f"{FOLDER}/{kind}/one.json", json.dumps(sample))
    return Samples(jar)


def test_no_trace_of_the_samples_own_name_is_left(samples: Samples) -> None:
    name = "web1.example.com"
    payloads = [samples.catalog(name, 0, NOON), samples.facts(name, 0, NOON), samples.report(name, 0, NOON)]
    for payload in payloads:
        text = json.dumps(payload)
        assert payload["certname"] == name
        assert "pg1" not in text
        assert "host-0" not in text
        assert payload["producer_timestamp"] == "2026-03-04T12:00:00.123Z"


def test_a_catalog_exports_two_resources_of_the_node_contained_in_its_main_class(samples: Samples) -> None:
    catalog = samples.catalog("web1.example.com", 3, NOON)
    exported = [(r["type"], r["title"]) for r in catalog["resources"] if r["exported"]]
    assert exported == [("Sshkey", "web1.example.com"), ("File", "/etc/haproxy/conf.d/web1.example.com.cfg")]
    main = {"type": "Class", "title": "main"}
    contained = [(e["target"]["type"], e["target"]["title"]) for e in catalog["edges"] if e["source"] == main]
    assert contained == [("File", "/x"), *exported]
    assert "hash" not in catalog
    assert "file" not in catalog["resources"][0]


def test_facts_differ_from_machine_to_machine_and_not_from_call_to_call(samples: Samples) -> None:
    one, two = (samples.facts(f"web{n}.example.com", n, NOON)["values"] for n in (1, 2))
    differing = {name for name in one if one[name] != two[name]}
    assert {"hostname", "fqdn", "ipaddress", "macaddress", "uuid", "trusted"} <= differing
    assert one["kernel"] == two["kernel"]
    assert samples.facts("web1.example.com", 1, NOON)["values"] == one


def test_everything_in_a_report_happens_just_before_it_is_sent(samples: Samples) -> None:
    report = samples.report("web1.example.com", 0, NOON)
    start, end = report["start_time"], report["end_time"]
    assert start < end < report["producer_timestamp"]
    moments = [r["timestamp"] for r in report["resources"]] + [log["time"] for log in report["logs"]]
    moments += [event["timestamp"] for r in report["resources"] for event in r["events"]]
    assert all(start <= moment <= end for moment in moments)


def test_a_report_has_events_and_keeps_those_of_the_sample(samples: Samples) -> None:
    events = [r["events"] for r in samples.report("web1.example.com", 0, NOON)["resources"]]
    assert [len(some) for some in events] == [1, 1, 1, 1, 0, 0]
    assert events[0][0]["property"] == "mode"


def test_every_report_is_one_of_its_own_unless_its_transaction_is_given(samples: Samples) -> None:
    made = {samples.report("a.example.com", 0, NOON)["transaction_uuid"] for _ in range(3)}
    assert len(made) == 3
    assert samples.report("a.example.com", 0, NOON, transaction_uuid="x")["transaction_uuid"] == "x"


def test_a_payload_may_be_changed_without_changing_the_next_one(samples: Samples) -> None:
    samples.catalog("a.example.com", 0, NOON)["resources"][1]["tags"].append("changed")
    samples.facts("a.example.com", 0, NOON)["package_inventory"].clear()
    assert samples.catalog("a.example.com", 0, NOON)["resources"][1]["tags"] == ["a.example.com"]
    assert samples.facts("a.example.com", 0, NOON)["package_inventory"] == [["bash", "5", "apt"]]


def test_a_time_in_another_zone_is_sent_in_utc(samples: Samples) -> None:
    from datetime import timezone

    there = NOON.astimezone(timezone(timedelta(hours=5)))
    assert samples.facts("a", 0, there)["producer_timestamp"] == "2026-03-04T12:00:00.123Z"


def test_a_jar_without_samples_or_none_at_all_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.jar", "w"):
        pass
    with pytest.raises(LabError, match="holds no sample catalogs, facts, reports"):
        Samples(tmp_path / "empty.jar")
    with pytest.raises(LabError, match="cannot be read"):
        Samples(tmp_path / "none.jar")
