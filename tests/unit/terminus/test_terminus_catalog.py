"""The payload of a catalog: what it is made of, and which documents are taken."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.catalog import catalog_inputs_payload, catalog_payload
from pdbclient.wire import Command
from tests.unit.terminus.catalog_parts import UUID, catalog, parameters, payload, resource

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRANSACTION = "11111111-2222-4333-8444-555555555555"

BROKEN_TYPE = {"__ptype": "Pcore::StructType", "elements": 5}


def test_it_has_what_the_command_needs_and_nothing_else() -> None:
    assert payload(resource("Notify[a]"), transaction_uuid=TRANSACTION) == {
        "certname": "node1.example",
        "version": "1700000000",
        "environment": "production",
        "transaction_uuid": TRANSACTION,
        "catalog_uuid": UUID,
        "code_id": None,
        "job_id": None,
        "producer": "primary.example",
        "resources": [
            {
                "type": "Notify",
                "title": "a",
                "tags": ["class"],
                "exported": False,
                "kind": "compilable_type",
                "parameters": {},
            }
        ],
        "edges": [],
    }


def test_the_command_takes_it_and_adds_the_producer_timestamp() -> None:
    made = payload(resource("Notify[a]", {"require": "Notify[b]"}), resource("Notify[b]"))
    command = Command.create("replace catalog", made, now=NOW)
    assert (command.version, command.producer_timestamp) == (9, "2026-01-02T03:04:05.000Z")


def test_puppet_servers_v4_answer_is_unwrapped() -> None:
    document = catalog(resource("Notify[a]"))
    wrapped = {"catalog": document, "logs": []}
    assert catalog_payload(wrapped, producer=None) == catalog_payload(document, producer=None)


def test_the_agents_cache_gives_the_servers_payload() -> None:
    """It writes the main class with a capital and leaves out what the server calls the main stage."""
    server = catalog(
        resource("Stage[main]", {"name": "main"}),
        resource("Class[main]", {"name": "main"}),
        edges=[{"source": "Stage[main]", "target": "Class[main]"}],
    )
    agent = catalog(
        resource("Stage[main]"),
        resource("Class[Main]", {"name": "main"}),
        edges=[{"source": "Stage[main]", "target": "Class[Main]"}],
    )
    assert catalog_payload(agent, producer=None) == catalog_payload(server, producer=None)


def test_the_requests_environment_wins() -> None:
    assert payload(environment="testing")["environment"] == "testing"


def test_without_a_catalog_uuid_the_transactions_is_taken() -> None:
    made = catalog_payload(catalog(catalog_uuid=None), producer=None, transaction_uuid=TRANSACTION)
    assert made["catalog_uuid"] == TRANSACTION


@pytest.mark.parametrize(("own", "given", "sent"), [(None, None, None), (None, "5", "5"), (7, "5", "7")])
def test_the_catalogs_job_id_wins_and_is_text(own: int | None, given: str | None, sent: str | None) -> None:
    assert catalog_payload(catalog(job_id=own), producer=None, job_id=given)["job_id"] == sent


def test_file_and_line_go_out_when_known() -> None:
    (made,) = payload(resource("Notify[a]", file="/site.pp", line=3))["resources"]
    assert (made["file"], made["line"]) == ("/site.pp", 3)


def test_lists_of_metaparameters_are_sorted_by_their_text() -> None:
    tags = ["z", 10, "B", "a", 9, "é"]
    made = parameters(resource("Notify[a]", {"tag": tags, "audit": ["b", "a"], "message": ["b", "a"]}))
    assert made == {"tag": [10, 9, "B", "a", "z", "é"], "audit": ["a", "b"], "message": ["b", "a"]}


def test_the_namevar_becomes_an_alias_after_the_users() -> None:
    made = parameters(resource("Notify[a]", {"name": "x", "alias": ["z", ["y", None]]}))
    assert made == {"name": "x", "alias": ["x", "y", "z"]}


def test_an_exec_has_only_its_users_aliases() -> None:
    assert parameters(resource("Exec[a]", {"command": "/bin/true"})) == {"command": "/bin/true"}
    assert parameters(resource("Exec[a]", {"command": "c", "alias": "b"})) == {"command": "c", "alias": ["b"]}


def test_a_composite_namevar_gives_no_alias() -> None:
    assert parameters(resource("Package[a]", {"name": "x", "alias": "b"})) == {"name": "x", "alias": "b"}


def test_the_document_is_not_changed() -> None:
    document = catalog(
        resource("Notify[a]", {"alias": "b", "tag": ["z", "a"], "message": "pw"}, sensitive_parameters=["message"]),
        edges=[{"source": "Notify[a]", "target": "Notify[a]"}],
    )
    before = copy.deepcopy(document)
    catalog_payload(document, producer=None)
    assert document == before


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "$"),
        ({"catalog": 5}, "$"),
        (catalog(name=None), "$.name"),
        (catalog(resources=5), "$.resources"),
        (catalog(resources=["Notify[a]"]), "$.resources[0]"),
        (catalog({"type": "Notify"}), "$.resources[0]"),
        (catalog({"title": "a"}), "$.resources[0]"),
        (catalog(resource("Notify[a]") | {"parameters": ["x"]}), "$.resources[0].parameters"),
        (catalog(resource("Notify[a]", tags="class")), "$.resources[0].tags"),
        (catalog(resource("Notify[a]", {}, sensitive_parameters="pw")), "$.resources[0].sensitive_parameters"),
        (catalog(edges={}), "$.edges"),
        (catalog(edges=[{"source": "Notify[a]"}]), "$.edges[0].target"),
        (catalog(edges=[{"source": "Notify", "target": "Notify[a]"}]), "$.edges[0].source"),
        (catalog(resource("Notify[a]", {"m": BROKEN_TYPE})), "$.resources[0].parameters"),
    ],
)  # fmt: skip
def test_what_is_no_catalog_is_refused_with_its_place(document: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        catalog_payload(document, producer=None)
    assert refused.value.path == path


def test_a_refusal_never_shows_a_value() -> None:
    for wrong in ({"parameters": "hunter2"}, {"tags": "hunter2"}, {"type": None, "parameters": {"pw": "hunter2"}}):
        with pytest.raises(InvalidCommand) as refused:
            payload(resource("Notify[a]") | wrong)
        assert "hunter2" not in str(refused.value)


def test_inputs_are_the_hiera_keys_each_once() -> None:
    made = catalog_inputs_payload("node1.example", UUID, ["b", "a", "b"])
    assert made == {"certname": "node1.example", "catalog_uuid": UUID, "inputs": [["hiera", "b"], ["hiera", "a"]]}
    Command.create("replace catalog inputs", made, now=NOW)


def test_inputs_take_the_recorders_counts() -> None:
    made = catalog_inputs_payload("node1.example", UUID, {"a": 3, "b": 1})
    assert made is not None
    assert made["inputs"] == [["hiera", "a"], ["hiera", "b"]]


def test_without_lookups_there_are_no_inputs() -> None:
    assert catalog_inputs_payload("node1.example", UUID, []) is None
