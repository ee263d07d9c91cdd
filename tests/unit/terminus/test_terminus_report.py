"""A report as Puppet has it -> `store report` 8; each defect of the stock processor that is not repeated, by name."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.report import report_payload
from pdbclient.wire.command import Command

UUID = "1d11a7eb-5ce2-4a38-b5f3-139b5fa2d6d5"
TIME = "2026-01-31T12:00:00.674999999+02:00"
WIRE = "2026-01-31T12:00:00.674+02:00"


def _event(status: str = "success", **members: Any) -> dict[str, Any]:
    event = {
        **{"audited": False, "property": "ensure", "previous_value": "absent", "desired_value": "present"},
        **{"historical_value": None, "message": "created", "name": "created", "status": status, "time": TIME},
        **{"redacted": False, "corrective_change": False},
    }
    return {**event, **members}


def _command(report: dict[str, Any]) -> Command:
    payload = report_payload(report, producer=None).payload
    return Command.create("store report", payload, now=datetime(2026, 1, 31, tzinfo=UTC))


def _status(title: str = "/x", *events: dict[str, Any], **members: Any) -> dict[str, Any]:
    status = {
        **{"title": title, "file": "/site.pp", "line": 3, "resource": f"File[{title}]", "resource_type": "File"},
        **{"provider_used": "posix", "containment_path": ["Stage[main]", f"File[{title}]"], "time": TIME},
        **{"evaluation_time": 0.1, "tags": ["file"], "failed": False, "failed_to_restart": False, "changed": True},
        **{"out_of_sync": True, "skipped": False, "change_count": 1, "out_of_sync_count": 1},
        **{"events": list(events), "corrective_change": False},
    }
    return {**status, **members}


def _report(*statuses: dict[str, Any], **members: Any) -> dict[str, Any]:
    report = {
        **{"host": "n1.example", "time": TIME, "configuration_version": 1795620226, "transaction_uuid": UUID},
        **{"report_format": 12, "puppet_version": "7.23.0", "status": "changed", "transaction_completed": True},
        **{"noop": False, "noop_pending": False, "environment": "production", "corrective_change": False},
        **{"catalog_uuid": UUID, "cached_catalog_status": "not_used"},
        "logs": [_log()],
        "metrics": {"time": _metric("time", ["total", "Total", 0.25], ["config_retrieval", "Config retrieval", 1])},
        "resource_statuses": {f"File[{status.get('title')}]": status for status in statuses},
    }
    return {**report, **members}


def _log(**members: Any) -> dict[str, Any]:
    log = {"level": "notice", "message": "ü", "source": "Puppet", "tags": ["notice"], "time": TIME}
    return {**log, "file": None, "line": None, **members}


def _metric(name: str, *values: object) -> dict[str, Any]:
    return {"name": name, "label": name.capitalize(), "values": list(values)}


def _payload(report: dict[str, Any], **options: Any) -> Any:
    payload = report_payload(report, producer="primary.example", **options).payload
    Command.create("store report", payload, now=datetime(2026, 2, 1, tzinfo=UTC))  # PuppetDB would take it
    return payload


def test_the_payload_has_the_stock_fields() -> None:
    """Each from its place in Puppet's report."""
    assert _payload(_report(_status("/x", _event()))) == {
        **{"certname": "n1.example", "puppet_version": "7.23.0", "report_format": 12, "status": "changed"},
        **{"configuration_version": "1795620226", "environment": "production", "producer": "primary.example"},
        **{"transaction_uuid": UUID, "catalog_uuid": UUID, "code_id": None, "job_id": None},
        **{"cached_catalog_status": "not_used", "noop": False, "noop_pending": False, "corrective_change": False},
        **{"start_time": WIRE, "end_time": "2026-01-31T12:00:00.924+02:00"},
        "logs": [
            {**{"file": None, "line": None, "level": "notice", "message": "ü", "source": "Puppet"}}
            | {"tags": ["notice"], "time": WIRE}
        ],
        "metrics": [
            {"category": "time", "name": "config_retrieval", "value": 1},
            {"category": "time", "name": "total", "value": 0.25},
        ],
        "resources": [
            {
                **{"skipped": False, "timestamp": WIRE, "resource_type": "File", "resource_title": "/x"},
                **{"file": "/site.pp", "line": 3, "containment_path": ["Stage[main]", "File[/x]"]},
                "corrective_change": False,
                "events": [
                    {
                        **{"status": "success", "timestamp": WIRE, "name": "created", "property": "ensure"},
                        **{"new_value": "present", "old_value": "absent", "corrective_change": False},
                        "message": "created",
                    }
                ],
            }
        ],
    }


def test_resources_are_kept_with_events_or_when_skipped() -> None:
    """In the report's order; a failure without an event is left out, as in the stock processor."""
    statuses = [
        *(_status("a", _event()), _status("unchanged"), _status("skipped", skipped=True), _status("f", failed=True)),
    ]
    report = _report(*statuses)
    assert [r["resource_title"] for r in _payload(report)["resources"]] == ["a", "skipped"]
    everything = _payload(report, include_unchanged_resources=True)["resources"]
    assert [r["resource_title"] for r in everything] == ["a", "unchanged", "skipped", "f"]


def test_an_integer_job_id_becomes_text() -> None:
    """The stock processor sends the number, and PuppetDB refuses the report."""
    assert _payload(_report(job_id=42))["job_id"] == "42"


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_resource_without_a_status_is_left_out(nothing: Any) -> None:
    """The stock processor crashes on it, and the report is lost."""
    report = _report(_status("a", _event()))
    report["resource_statuses"]["File[/gone]"] = nothing
    assert [r["resource_title"] for r in _payload(report)["resources"]] == ["a"]


@pytest.mark.parametrize("value", [None, "3", True, float("nan"), float("inf"), []], ids=repr)
def test_a_metric_that_is_no_number_is_left_out_with_a_warning(value: object) -> None:
    """PuppetDB would refuse the whole report."""
    metrics = {"events": _metric("events", ["failure", "Failure", value], ["total", "Total", 1])}
    report = report_payload(_report(metrics=metrics), producer=None)
    assert report.payload["metrics"] == [{"category": "events", "name": "total", "value": 1}]
    (warning,) = report.warnings
    assert "events" in warning
    assert "n1.example" in warning
    assert "\n" not in warning


def test_a_metric_that_is_no_triple_is_left_out_with_a_warning() -> None:
    """Whatever stands there instead."""
    report = report_payload(_report(metrics={"x": _metric("x", "text", ["a"], {"a": 1})}), producer=None)
    assert (report.payload["metrics"], len(report.warnings)) == ([], 3)


def test_a_log_without_a_source_is_puppets() -> None:
    """That is what Puppet itself says for it; the stock processor sends null, and PuppetDB refuses the report."""
    assert _payload(_report(logs=[_log(source=None)]))["logs"][0]["source"] == "Puppet"


def test_a_log_without_message_or_tags_does_not_cost_the_report() -> None:
    """Empty text, no tags."""
    (log,) = _payload(_report(logs=[_log(message=None, tags=None)]))["logs"]
    assert (log["message"], log["tags"]) == ("", [])


def test_flags_are_true_false_or_null() -> None:
    """PuppetDB needs `skipped`."""
    (resource,) = _payload(_report(_status("a", _event(corrective_change=None), skipped=None)))["resources"]
    assert resource["skipped"] is False
    assert resource["events"][0]["corrective_change"] is None


def test_missing_events_are_none() -> None:
    """Not a crash."""
    (resource,) = _payload(_report(_status("a", events=None, skipped=True)))["resources"]
    assert resource["events"] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, ""), ("x", "x"), (True, "true"), (420, "420"), (2**70, str(2**70)), (0.1, "0.1"), (1e20, "1.0e+20")),
        *((1e15, "1.0e+15"), (1e-5, "1.0e-05"), (["0644", 1], '["0644", 1]'), ([], "[]"), ([None], "[nil]")),
        ({"a": {"b": [True]}}, '{"a"=>{"b"=>[true]}}'),
        (['q"\\ #{x} #$y #z\n\x1b ü \u2028'], '["q\\"\\\\ \\#{x} \\#$y #z\\n\\e ü \\u2028"]'),
    ],
    ids=repr,
)
def test_values_of_events_are_written_as_ruby_writes_them(value: object, text: str) -> None:
    """`to_s`: lists and hashes as `inspect` gives them."""
    (resource,) = _payload(_report(_status("a", _event(desired_value=value, previous_value=value))))["resources"]
    assert resource["events"][0]["new_value"] == resource["events"][0]["old_value"] == text


@pytest.mark.parametrize(
    ("statuses", "noop"),
    [(["noop"], True), (["noop", "noop"], True), (["noop", "success"], False), (["audit"], False), ([], False)],
)
def test_a_run_that_does_not_say_is_noop_when_all_its_events_are(statuses: list[str], noop: bool) -> None:
    """And there is one."""
    resources = [_status(str(at), _event(status)) for at, status in enumerate(statuses)]
    assert _payload(_report(*resources, noop=None))["noop"] is noop
    assert _payload(_report(*resources, noop=not noop))["noop"] is (not noop)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("2026-01-31T12:00:00.674999999+02:00", "2026-01-31T12:00:00.674+02:00"),
        ("2026-01-31 12:00:00.674999999 +02:00", "2026-01-31T12:00:00.674+02:00"),
        ("2026-01-31 12:00:00.999999 Z", "2026-01-31T12:00:00.999Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31 12:00:00 UTC", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31T12:00:00.9999999-00:00", "2026-01-31T12:00:00.999Z"),
        ("2026-01-31 12:00:00.5 -0330", "2026-01-31T12:00:00.500-03:30"),
    ],
)
def test_times_are_cut_to_milliseconds_and_keep_their_zone(text: str, wire: str) -> None:
    """As JSON has them, and as Ruby's YAML has them."""
    assert _payload(_report(time=text))["start_time"] == wire


@pytest.mark.parametrize(
    ("time", "total", "end"),
    [
        ("2026-01-31T23:59:59.9995+05:30", 0.0005, "2026-02-01T00:00:00.000+05:30"),
        ("2026-01-31T23:59:59.999499999+05:30", 0.0005, "2026-01-31T23:59:59.999+05:30"),
        ("2026-12-31T23:59:59.000Z", 3601, "2027-01-01T01:00:00.000Z"),
        ("2026-01-31T12:00:00.100Z", None, "2026-01-31T12:00:00.100Z"),
        ("2026-01-31T12:00:00.100Z", "1", "2026-01-31T12:00:00.100Z"),
    ],
)
def test_the_end_is_the_start_and_the_total_time(time: str, total: object, end: str) -> None:
    """Exactly, also below a millisecond; a total that is no number counts nothing."""
    report = _report(time=time, metrics={"time": _metric("time", ["total", "Total", total])})
    assert _payload(report)["end_time"] == end


def test_a_report_of_a_failed_run_has_no_metrics_and_takes_no_time() -> None:
    """It has no catalog either."""
    report = _report(metrics={}, status="failed", configuration_version=None)
    payload = _payload(report)
    assert (payload["end_time"], payload["metrics"], payload["configuration_version"]) == (WIRE, [], "")


@pytest.mark.parametrize(("length", "warned"), [(2488, ""), (2489, "no more than 2704"), (2692, "no more than 2704")])
def test_a_resource_close_to_the_limit_of_the_index_is_warned_of(length: int, warned: str) -> None:
    """In bytes: 8 of the timestamp, those of type and title."""
    command = _command(_report(_status("é" * (length // 2) + "x" * (length % 2), _event())))
    assert bool(command.warnings) is bool(warned)
    assert all(warned in warning and f"{length + 12} bytes" in warning for warning in command.warnings)


def test_a_resource_over_the_limit_of_the_index_is_sent_and_said_to_be_lost() -> None:
    """One line, with the place of the resource and not the whole title."""
    command = _command(_report(_status("x" * 2693, _event())))
    (warning,) = command.warnings
    assert "will not have its events" in warning
    assert "/site.pp:3" in warning
    assert len(warning) < 300
    assert len(json.loads(command.body)["resources"]) == 1


def test_a_large_resource_that_is_not_sent_is_not_warned_of() -> None:
    """The stock processor warns of it at every run."""
    assert _command(_report(_status("x" * 3000))).warnings == ()


def test_the_original_is_not_changed() -> None:
    """Whoever has the report goes on with it."""
    report = _report(_status("a", _event()), job_id=1)
    before = deepcopy(report)
    report_payload(report, producer=None)
    assert report == before


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"host": None}, "$.host"),
        ({"environment": None}, "$.environment"),
        ({"time": None}, "$.time"),
        ({"time": "2026-01-31T12:00:00"}, "$.time"),
        ({"time": "2026-02-30T12:00:00Z"}, "$.time"),
        ({"metrics": {"time": _metric("time", ["total", "Total", 1e300])}}, "$.time"),
        ({"logs": {}}, "$.logs"),
        ({"logs": ["x"]}, "$.logs[0]"),
        ({"logs": [_log(time=1)]}, "$.logs[0].time"),
        ({"logs": [_log(tags="x")]}, "$.logs[0].tags"),
        ({"metrics": []}, None),
        ({"metrics": [1]}, "$.metrics"),
        ({"metrics": {"time": 1}}, "$.metrics.time"),
        ({"resource_statuses": [1]}, "$.resource_statuses"),
        ({"resource_statuses": {"a": 1}}, "$.resource_statuses['a']"),
        ({"resource_statuses": {"a": _status("a", _event(time="now"))}}, "$.resource_statuses['a'].events[0].time"),
    ],
    ids=repr,
)
def test_what_is_no_report_is_refused_with_the_place(members: dict[str, Any], path: str | None) -> None:
    """Before anything is sent; an empty list where Puppet has an object is an empty one."""
    if path is None:
        _payload(_report(**members))
        return
    with pytest.raises(InvalidCommand) as caught:
        report_payload(_report(**members), producer=None)
    assert caught.value.path == path


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
