"""Payloads and the verdicts on them: the unit tests ask this package, the integration tests a PuppetDB."""

from __future__ import annotations

from typing import Any

from pdbclient.wire import VERSIONS
from tests.unit.wire.wire_payloads import (
    BY_COMMAND,
    STAMP,
    UUID,
    catalog,
    deactivation,
    event,
    expiration,
    facts,
    inputs,
    log,
    report,
    report_resource,
    resource,
    without,
)

CATALOG, INPUTS, FACTS, REPORT, DEACTIVATE, EXPIRE = VERSIONS


def edge(**members: Any) -> dict[str, Any]:
    spec = {"type": "File", "title": "/a"}
    return {"source": spec, "target": spec, "relationship": "contains"} | members


def tagged(*tags: Any) -> dict[str, Any]:
    return catalog(resources=[resource(tags=list(tags))], edges=[])


def of(name: str, **members: Any) -> Any:
    """A report with one resource, event or log that has these members."""
    if name == "resource":
        return report(resources=[report_resource(**members)])
    if name == "event":
        return report(resources=[report_resource(events=[event(**members)])])
    return report(logs=[log(**members)])


# Accepted with 200, then thrown into the dead letter office.
REFUSED = [
    (CATALOG, catalog(version=1), "$.version", "got `int`"),
    (CATALOG, catalog(version=None), "$.version", "got `null`"),
    (CATALOG, without(catalog(), "version"), "$", "`version`"),
    (CATALOG, without(catalog(), "producer"), "$", "`producer`"),
    (CATALOG, without(catalog(), "code_id"), "$", "`code_id`"),
    (CATALOG, without(catalog(), "catalog_uuid"), "$", "`catalog_uuid`"),
    (CATALOG, without(catalog(), "resources"), "$", "`resources`"),
    (CATALOG, without(catalog(), "edges"), "$", "`edges`"),
    (CATALOG, catalog(edges=None), "$.edges", "got `null`"),
    (CATALOG, catalog(job_id=5), "$.job_id", "got `int`"),
    (
        CATALOG,
        catalog(resources=[resource(), resource()], edges=[]),
        "$.resources[1]",
        "File[/a] is in the catalog twice",
    ),
    (CATALOG, catalog(edges=[edge(target={"type": "File", "title": "/x"})]), "$.edges[0].target", "File[/x]"),
    (CATALOG, catalog(edges=[edge(source={"type": "User", "title": "/a"})]), "$.edges[0].source", "User[/a]"),
    (
        CATALOG,
        catalog(edges=[edge(source={"type": "File", "title": "/a", "x": 1})]),
        "$.edges[0].source",
        "`x`",
    ),
    (CATALOG, catalog(edges=[edge(relationship="near")]), "$.edges[0].relationship", "near"),
    (CATALOG, tagged("a", "A"), "$.resources[0].tags[1]", "'A' is not a tag"),
    (CATALOG, tagged(""), "$.resources[0].tags[0]", "'' is not a tag"),
    (CATALOG, tagged(".a"), "$.resources[0].tags[0]", "not a tag"),
    (CATALOG, tagged("a b"), "$.resources[0].tags[0]", "not a tag"),
    (CATALOG, tagged("a\nb"), "$.resources[0].tags[0]", "not a tag"),
    (CATALOG, tagged("a\n"), "$.resources[0].tags[0]", "not a tag"),
    (CATALOG, tagged("Ü"), "$.resources[0].tags[0]", "not a tag"),
    (CATALOG, tagged(None), "$.resources[0].tags[0]", "got `null`"),
    (FACTS, facts(values=[1]), "$.values", "got `array`"),
    (FACTS, facts(x=1), "$", "`x`"),
    (FACTS, without(facts(), "environment"), "$", "`environment`"),
    (FACTS, without(facts(), "producer"), "$", "`producer`"),
    (FACTS, facts(package_inventory=[["a", "1"]]), "$.package_inventory[0]", "length 3"),
    (FACTS, facts(package_inventory=[["a", 1, "apt"]]), "$.package_inventory[0][1]", "got `int`"),
    (REPORT, report(x=1), "$", "`x`"),
    (REPORT, report(environment=None), "$.environment", "got `null`"),
    (REPORT, report(job_id=1), "$.job_id", "got `int`"),
    (REPORT, report(type="x"), "$.type", "'x'"),
    (REPORT, report(type=None), "$.type", "null"),
    (REPORT, report(metrics=[{"category": "c", "name": "n", "value": "1"}]), "$.metrics[0].value", "`str`"),
    (REPORT, report(start_time="2026-01-31T12:00:00"), "$.start_time", "zone"),
    (REPORT, of("resource", x=1), "$.resources[0]", "`x`"),
    (REPORT, of("resource", containment_path=[None]), "$.resources[0].containment_path[0]", "`null`"),
    (REPORT, of("resource", timestamp="now"), "$.resources[0].timestamp", "'now'"),
    (REPORT, of("event", status=None), "$.resources[0].events[0].status", "`null`"),
    (REPORT, of("event", x=1), "$.resources[0].events[0]", "`x`"),
    (REPORT, of("event", timestamp="2016-10-14T10:07:38-0500"), "$.resources[0].events[0].timestamp", "0500"),
    (REPORT, of("log", source=None), "$.logs[0].source", "`null`"),
    (REPORT, of("log", time="x"), "$.logs[0].time", "'x'"),
    (DEACTIVATE, deactivation(x=1), "$", "`x`"),
    (EXPIRE, expiration(expire={"facts": None}), "$.expire.facts", "`null`"),
    (EXPIRE, expiration(expire={}), "$.expire", "`facts`"),
    (EXPIRE, expiration(expire={"facts": True, "x": 1}), "$.expire", "`x`"),
]

# Accepted with 200; the database cannot store them, so they are retried for hours.
STUCK = [
    (FACTS, facts(values={"n" * 1025: 1}), f"$.values['{'n' * 79}]", "has 1025 characters"),
    (CATALOG, catalog(transaction_uuid="TX-1"), "$.transaction_uuid", "regex"),
    (CATALOG, catalog(resources=[resource(title=None)], edges=[]), "$.resources[0].title", "got `null`"),
    (CATALOG, catalog(resources=[resource(exported="true")], edges=[]), "$.resources[0].exported", "got `str`"),
    (CATALOG, catalog(resources=[without(resource(), "exported")], edges=[]), "$.resources[0]", "`exported`"),
    (CATALOG, catalog(resources=[resource(parameters=[1])], edges=[]), "$.resources[0].parameters", "got `list`"),
    (
        CATALOG,
        catalog(resources=[resource(), resource(title="/b", line="5")], edges=[]),
        "$.resources[1].line",
        "got `str`",
    ),
    (CATALOG, catalog(resources=[resource(line=2**31)], edges=[]), "$.resources[0].line", "<= 2147483647"),
    (INPUTS, inputs(inputs=[["hiera"]]), "$.inputs[0]", "length 2"),
    (INPUTS, inputs(inputs=[["hiera", "a", "b"]]), "$.inputs[0]", "length 2"),
    (INPUTS, inputs(catalog_uuid=None), "$.catalog_uuid", "got `null`"),
    (REPORT, report(report_format=2**15), "$.report_format", "32767"),
    (REPORT, report(catalog_uuid="x"), "$.catalog_uuid", "regex"),
    (REPORT, of("resource", line=2**31), "$.resources[0].line", "2147483647"),
]

# Accepted, and nothing is done.
IGNORED = [
    (INPUTS, inputs(inputs=[]), "$.inputs", "length >= 1"),
]

# Stored by the server and refused here, where the meaning would be a guess.
STRICTER = [
    (CATALOG, catalog(resources=[resource(title=5)], edges=[]), "$.resources[0].title", "got `int`"),
    (CATALOG, catalog(resources=[resource(line=5.0)], edges=[]), "$.resources[0].line", "got `float`"),
    (CATALOG, catalog(producer_timestamp="2026-01-31T12:00:00"), "$.producer_timestamp", "zone"),
    (FACTS, facts(producer_timestamp="2026-01-31"), "$.producer_timestamp", "zone"),
]

# Stored.
TAKEN = [
    (FACTS, facts(values={"n" * 1024: 1})),
    *((name, make()) for name, make in BY_COMMAND.items()),
    (CATALOG, catalog(x=1)),
    (CATALOG, catalog(environment=None, transaction_uuid=None, catalog_uuid=None, producer=None)),
    (CATALOG, without(without(catalog(), "environment"), "transaction_uuid")),
    (CATALOG, catalog(transaction_uuid=UUID.replace("-", ""))),
    (CATALOG, catalog(resources=[], edges=[])),
    (CATALOG, catalog(resources=[resource(kind="x", y=[1], file=None, line=-1)], edges=[])),
    (CATALOG, catalog(resources=[without(resource(), "parameters")], edges=[])),
    (CATALOG, catalog(resources=[resource(parameters=None, title="")], edges=[])),
    (CATALOG, catalog(edges=[edge(x=1)])),
    (CATALOG, tagged("ü", "日本", "²", "a:b.c-d", "_", "9", "a")),
    (CATALOG, tagged()),
    (CATALOG, catalog(producer_timestamp="2026-11-23T09:00:00.123456789+02:00")),
    (FACTS, facts(environment=None, producer=None, package_inventory=None)),
    (FACTS, facts(values={}, timestamp=STAMP)),
    (FACTS, facts(values={"": 1})),
    (REPORT, report(resources=None, metrics=None, logs=None, type="plan")),
    (REPORT, without(report(), "job_id")),
    (REPORT, of("resource", containment_path=None, events=None, skipped=True)),
    (REPORT, of("event", new_value={"a": [1, None]}, old_value=2**70)),
    (REPORT, without(of("event"), "x")),
    (REPORT, of("log", tags=None, line=2**70)),
]
