"""A query record becomes the command that stores the same thing, every number in the text it came in."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.errors import InvalidCommand, NotPreserved
from pdbclient.wire import Command
from pdbclient.wire.record import (
    catalog_command,
    catalog_inputs_command,
    deactivation_command,
    expiration_command,
    factset_command,
    report_command,
)
from pdbclient.wire.report_hash import report_hash
from pdbclient.wire.timestamp import from_millis, to_millis
from tests.unit.wire.wire_payloads import NOW, STAMP, UUID, event, log

# All of these change when they pass through a double or through another JSON library.
NUMBERS = "[1e22,-0.0,1.0,100.50,1E-5,1180591620717411303424,0.1000000000000000055,20000000.0]"


def catalog_row(**members: Any) -> dict[str, Any]:
    return {
        "certname": "a",
        "hash": "c" * 40,
        "version": "1",
        "environment": "production",
        "transaction_uuid": UUID,
        "catalog_uuid": UUID,
        "code_id": None,
        "job_id": "7",
        "producer": "p",
        "producer_timestamp": STAMP,
        "resources": {
            "href": "/x",
            "data": [
                {
                    "certname": "a",
                    "resource": "d" * 40,
                    "type": "File",
                    "title": "/a",
                    "tags": ["b", "a"],
                    "exported": True,
                    "file": None,
                    "line": None,
                    "parameters": {"n": "NUMBERS"},
                },
                {
                    "resource": "e" * 40,
                    "type": "File",
                    "title": "/b",
                    "tags": [],
                    "exported": False,
                    "file": "site.pp",
                    "line": 3,
                    "parameters": {},
                },
            ],
        },
        "edges": {
            "href": "/x",
            "data": [
                {
                    "certname": "a",
                    "source_type": "File",
                    "source_title": "/a",
                    "target_type": "File",
                    "target_title": "/b",
                    "relationship": "notifies",
                }
            ],
        },
    } | members


def factset_row(**members: Any) -> dict[str, Any]:
    return {
        "certname": "a",
        "hash": "f" * 40,
        "timestamp": STAMP,
        "environment": None,
        "producer": None,
        "producer_timestamp": STAMP,
        "facts": {"href": "/x", "data": [{"name": "n", "value": "NUMBERS"}, {"name": "o", "value": {"x": 1}}]},
        "package_inventory": [["bash", "5", "apt"]],
    } | members


def event_row(**members: Any) -> dict[str, Any]:
    return {
        "report": "r",
        "certname": "a",
        "run_start_time": STAMP,
        "containing_class": "X",
        "resource_type": "File",
        "resource_title": "/a",
        "file": None,
        "line": None,
        "containment_path": ["Stage[main]"],
        **event(),
    } | members


def report_row(**members: Any) -> dict[str, Any]:
    found = {
        "receive_time": STAMP,
        "certname": "a",
        "puppet_version": "8",
        "report_format": 12,
        "configuration_version": "1",
        "start_time": STAMP,
        "end_time": STAMP,
        "producer_timestamp": STAMP,
        "producer": None,
        "corrective_change": None,
        "noop": False,
        "noop_pending": None,
        "transaction_uuid": UUID,
        "catalog_uuid": UUID,
        "code_id": None,
        "job_id": None,
        "cached_catalog_status": None,
        "status": "changed",
        "environment": "production",
        "type": "agent",
        "resources": None,
        "metrics": {"href": "/x", "data": [{"category": "c", "name": "n", "value": "NUMBERS"}]},
        "logs": {"href": "/x", "data": [log()]},
        "resource_events": {"href": "/x", "data": [event_row()]},
    } | members
    return {"hash": report_hash(found)} | found


def row(record: dict[str, Any]) -> bytes:
    return json.dumps(record).replace('"NUMBERS"', NUMBERS).encode()


def body(command: Command) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(command.body)
    return decoded


def test_a_catalog_loses_what_only_queries_have_and_gets_nested_edges() -> None:
    command = catalog_command(row(catalog_row()))
    sent = body(command)
    assert "hash" not in sent
    first, second = sent["resources"]
    assert sorted(first) == ["exported", "parameters", "tags", "title", "type"]
    assert (second["file"], second["line"], first["tags"]) == ("site.pp", 3, ["b", "a"])
    assert sent["edges"] == [
        {
            "source": {"type": "File", "title": "/a"},
            "target": {"type": "File", "title": "/b"},
            "relationship": "notifies",
        }
    ]
    assert {name: sent[name] for name in ("version", "job_id", "producer")} == {
        "version": "1",
        "job_id": "7",
        "producer": "p",
    }
    assert (command.certname, command.producer_timestamp, command.length) == ("a", STAMP, len(command.body))


@pytest.mark.parametrize(
    ("build", "record"),
    [(catalog_command, catalog_row()), (factset_command, factset_row()), (report_command, report_row())],
)
def test_numbers_keep_their_text(build: Callable[[bytes], Command], record: dict[str, Any]) -> None:
    assert NUMBERS.encode() in build(row(record)).body


@pytest.mark.parametrize(
    ("build", "record"),
    [
        (catalog_command, catalog_row()),
        (factset_command, factset_row(facts={"data": [{"name": "n", "value": 1}]})),
        (report_command, report_row(metrics={"data": []})),
    ],
)
def test_the_command_of_a_record_passes_the_checks_of_a_new_one(
    build: Callable[[bytes], Command], record: dict[str, Any]
) -> None:
    command = build(json.dumps(record).encode())
    again = Command.from_bytes(command.name, command.body, now=NOW)
    assert again == command


def test_null_data_is_an_empty_list_but_metrics_and_logs_stay_null() -> None:
    none = {"href": "/x", "data": None}
    catalog = body(catalog_command(row(catalog_row(resources=none, edges=none))))
    assert (catalog["resources"], catalog["edges"]) == ([], [])
    report = body(report_command(row(report_row(resource_events=none, metrics=none, logs=none))))
    assert (report["resources"], report["metrics"], report["logs"]) == ([], None, None)
    assert body(factset_command(row(factset_row(facts=none))))["values"] == {}


@pytest.mark.parametrize(
    ("build", "record", "member"),
    [
        (catalog_command, catalog_row(), "resources"),
        (catalog_command, catalog_row(), "edges"),
        (factset_command, factset_row(), "facts"),
        (report_command, report_row(), "resource_events"),
        (report_command, report_row(), "metrics"),
        (report_command, report_row(), "logs"),
    ],
)
def test_a_record_that_was_not_expanded_is_refused_and_not_taken_for_empty(
    build: Callable[[bytes], Command], record: dict[str, Any], member: str
) -> None:
    with pytest.raises(InvalidCommand, match="data") as refusal:
        build(row(record | {member: {"href": "/x"}}))
    assert (refusal.value.path, refusal.value.certname) == (f"$.{member}", "a")


@pytest.mark.parametrize("packages", [None, []])
def test_packages_are_sent_only_when_there_are_any(packages: object) -> None:
    assert "package_inventory" not in body(factset_command(row(factset_row(package_inventory=packages))))
    assert body(factset_command(row(factset_row())))["package_inventory"] == [["bash", "5", "apt"]]


def test_a_factset_becomes_values_and_keeps_nulls() -> None:
    sent = body(factset_command(row(factset_row())))
    assert sorted(sent) == [
        "certname",
        "environment",
        "package_inventory",
        "producer",
        "producer_timestamp",
        "values",
    ]
    assert (sent["environment"], sent["producer"], sent["values"]["o"]) == (None, None, {"x": 1})


def test_events_are_gathered_under_their_resource_and_skipped_ones_apart() -> None:
    events = [
        event_row(property="a"),
        event_row(property="b"),
        event_row(resource_title="/b", line=1),
        event_row(property="c"),
        event_row(status="skipped", property=None),
    ]
    sent = body(report_command(row(report_row(resource_events={"data": events}))))
    assert [
        (r["resource_title"], r["line"], r["skipped"], [e["property"] for e in r["events"]])
        for r in sent["resources"]
    ] == [
        ("/a", None, False, ["a", "b", "c"]),
        ("/b", 1, False, ["ensure"]),
        ("/a", None, True, [None]),
    ]
    resource = sent["resources"][0]
    assert resource["containment_path"] == ["Stage[main]"]
    assert sorted(resource["events"][0]) == sorted(event())


def test_an_event_without_a_name_stays_without_one() -> None:
    nameless = event_row()
    del nameless["name"]
    sent = body(report_command(row(report_row(resource_events={"data": [nameless]}))))
    assert "name" not in sent["resources"][0]["events"][0]


def test_a_report_keeps_its_type_unless_it_has_none() -> None:
    assert body(report_command(row(report_row(type="plan"))))["type"] == "plan"
    assert "type" not in body(report_command(row(report_row(type=None))))
    sent = body(report_command(row(report_row())))
    assert not {"hash", "receive_time", "resource_events"} & set(sent)


TIMES = ("start_time", "end_time", "producer_timestamp")


def shown_of(**hashed: str) -> dict[str, Any]:
    """A report as a server shows it that keeps microseconds, and hashed these: times rounded up, small letters."""
    original = report_row(**hashed)
    later = {name: from_millis(to_millis(original[name]) + 1) for name in hashed if name in TIMES}
    return {**original, **later, "transaction_uuid": original["transaction_uuid"].lower()}


@pytest.mark.parametrize("rounded", [names for size in range(4) for names in combinations(TIMES, size)])
@pytest.mark.parametrize("uuid", [UUID, UUID.upper()])
def test_a_report_is_copied_as_it_was_hashed_and_not_as_it_is_shown(rounded: tuple[str, ...], uuid: str) -> None:
    stamp = "2026-11-28T23:59:59.999Z"
    shown = shown_of(**dict.fromkeys(rounded, stamp), transaction_uuid=uuid)
    command = report_command(row(shown))
    sent = body(command)
    assert report_hash(sent) == shown["hash"]
    assert {sent[name] for name in rounded} <= {stamp}
    assert sent["transaction_uuid"] == uuid
    assert command.producer_timestamp == sent["producer_timestamp"]


def test_a_report_of_which_no_copy_would_be_the_same_is_not_copied() -> None:
    with pytest.raises(NotPreserved, match=r"\$\.hash: a copy would not have the hash 9999") as refusal:
        report_command(row(report_row(hash="9" * 40)))
    assert refusal.value.certname == "a"


def test_a_report_whose_time_nobody_can_hash_is_one_unusable_record() -> None:
    with pytest.raises(InvalidCommand) as refusal:
        report_command(row(report_row() | {"start_time": "+12999-01-01T00:00:00.000Z"}))
    assert not isinstance(refusal.value, NotPreserved)
    assert refusal.value.certname == "a"


def test_inputs_expirations_and_deactivations_carry_the_times_of_their_record() -> None:
    inputs = {"certname": "a", "catalog_uuid": UUID, "producer_timestamp": STAMP, "inputs": [["hiera", "x"]]}
    assert body(catalog_inputs_command(row(inputs | {"x": 1}))) == inputs
    node = {"certname": "a", "expires_facts": False, "expires_facts_updated": STAMP, "deactivated": None}
    expire = {"certname": "a", "expire": {"facts": False}, "producer_timestamp": STAMP}
    assert body(expiration_command(row(node))) == expire
    assert body(deactivation_command("a", STAMP)) == {"certname": "a", "producer_timestamp": STAMP}


def test_a_timestamp_passes_as_it_is_and_as_utc_in_the_query() -> None:
    command = deactivation_command("a", "2026-01-31T13:00:00.123456+02:00")
    assert body(command)["producer_timestamp"] == "2026-01-31T13:00:00.123456+02:00"
    assert command.producer_timestamp == "2026-01-31T11:00:00.123Z"
    with pytest.raises(InvalidCommand, match="zone"):
        deactivation_command("a", "yesterday")


@pytest.mark.parametrize(
    ("broken", "certname"),
    [
        (b"", "?"),
        (b"[]", "?"),
        (b"{", "?"),
        (b'{"certname": "a"}', "a"),
        (b'{"certname": 5}', "5"),
        (b'{"certname": "a", "facts": {"data": [' + b"[" * 100_000, "?"),
        (row(factset_row(producer_timestamp=None)), "a"),
        (row(factset_row())[:-1], "?"),
        (row(factset_row()).replace(b'"/x"', b'"\xff"'), "a"),
        (row(factset_row()).replace(b'"x": 1', b'"x": "\xff"'), "a"),
        (row(factset_row()).replace(b'"name": "n"', b'"name": "\xff"'), "a"),
    ],
    ids=range(11),
)
def test_a_broken_record_is_refused(broken: bytes, certname: str) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        factset_command(broken)
    assert refusal.value.certname == certname
    assert refusal.value.command == "replace facts"


number_texts = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(st.lists(number_texts, min_size=1))
def test_any_number_keeps_its_text_through_decoding_and_encoding(numbers: list[str]) -> None:
    text = f"[{', '.join(numbers)}]"
    record = json.dumps(factset_row()).replace('"NUMBERS"', text).encode()
    assert text.encode() in factset_command(record).body
