"""Facts as Puppet has them -> `replace facts` 5; every defect of the stock terminus that is not repeated, by name."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.facts import facts_payload, local_trusted
from pdbclient.terminus.puppet_file import read
from pdbclient.wire.command import Command

NOW = datetime(2026, 1, 31, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "name": "n1.example",
    "values": {"os": {"family": "Debian"}, "n": 2**70, "clientcert": "n1.example"},
    "timestamp": "2026-01-31T12:00:00.123456789+01:00",
    "expiration": "2026-01-31T12:30:00.000000000+01:00",
}


def _with(**values: object) -> dict[str, Any]:
    return {**FACTS, "values": {**FACTS["values"], **values}}


def test_the_payload_has_the_stock_fields_and_can_be_sent() -> None:
    """Name, values, environment, producer; the command stamps it. Puppet's own times do not go."""
    payload = facts_payload(FACTS, producer="primary.example", environment="production")
    assert payload == {
        "certname": "n1.example",
        "values": {**FACTS["values"], "trusted": local_trusted("n1.example")},
        "environment": "production",
        "producer": "primary.example",
    }
    command = Command.create("replace facts", payload, now=NOW)
    assert (command.certname, command.warnings) == ("n1.example", ())
    assert b"1180591620717411303424" in command.body


def test_without_a_certificate_the_trusted_data_is_that_of_a_local_node() -> None:
    """As Puppet's own for facts that come without a request: no extensions, host and domain from the certname."""
    assert local_trusted("n1.example.com") == {
        "authenticated": "local",
        "certname": "n1.example.com",
        "extensions": {},
        "hostname": "n1",
        "domain": "example.com",
        "external": {},
    }
    assert local_trusted("bare")["domain"] is None


def test_trusted_data_takes_the_place_of_a_fact_of_that_name() -> None:
    """The stock terminus sends the key twice, the node's own claim first."""
    trusted = {"authenticated": "remote", "certname": "n1.example"}
    payload = facts_payload(_with(trusted={"certname": "forged"}), producer=None, trusted=trusted)
    body = Command.create("replace facts", payload, now=NOW).body
    assert body.count(b'"trusted"') == 1
    assert b"forged" not in body
    unknown: Any = facts_payload(_with(trusted={"certname": "forged"}), producer=None)["values"]
    assert unknown["trusted"]["certname"] == "n1.example"


def test_the_package_inventory_becomes_a_field() -> None:
    """And is no fact any more."""
    packages = [["bash", "5.2", "apt"]]
    payload = facts_payload(_with(_puppet_inventory_1={"packages": packages}), producer=None)
    assert payload["package_inventory"] == packages
    assert "_puppet_inventory_1" not in str(payload["values"])


@pytest.mark.parametrize(
    "inventory",
    [
        *(None, {}, [], [["a", "1", "apt"]], {"packages": None}, {"packages": {}}, {"packages": [["a", "1"]]}),
        *({"packages": [["a", None, "apt"]]}, {"packages": ["abc"]}, "packages", 1),
    ],
    ids=repr,
)
def test_a_null_or_malformed_inventory_is_left_out(inventory: object) -> None:
    """The stock terminus sends null or what is there, and PuppetDB refuses all the facts."""
    payload = facts_payload(_with(_puppet_inventory_1=inventory), producer=None)
    assert "package_inventory" not in payload
    assert "_puppet_inventory_1" not in str(payload["values"])
    Command.create("replace facts", payload, now=NOW)


def test_an_empty_inventory_is_one() -> None:
    """A node without packages."""
    payload = facts_payload(_with(_puppet_inventory_1={"packages": []}), producer=None)
    assert payload["package_inventory"] == []


def test_the_original_is_not_changed() -> None:
    """Whoever has the facts goes on with them."""
    facts = _with(trusted={}, _puppet_inventory_1={"packages": []})
    before = deepcopy(facts)
    facts_payload(facts, producer=None)
    assert facts == before


def test_symbols_become_text() -> None:
    """As keys and as values."""
    document = read(b"--- !ruby/object:Puppet::Node::Facts\nname: a\nvalues:\n  :key: :value\n").document
    values: Any = facts_payload(document, producer=None)["values"]
    assert values["key"] == "value"


def test_the_timestamp_that_old_puppets_keep_among_the_values_is_no_fact() -> None:
    """Puppet takes it out too when it reads its file."""
    values: Any = facts_payload(_with(_timestamp="2026-01-31"), producer=None)["values"]
    assert "_timestamp" not in values


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        *(({"values": {}}, "$.name"), ({"name": "", "values": {}}, "$.name"), ({"name": 1, "values": {}}, "$.name")),
        *(({"name": "a"}, "$.values"), ({"name": "a", "values": []}, "$.values")),
    ],
)
def test_what_is_no_facts_is_refused_with_the_place(facts: dict[str, object], path: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidCommand) as caught:
        facts_payload(facts, producer=None)
    assert caught.value.path == path


def test_a_number_that_json_cannot_hold_is_refused_by_the_command() -> None:
    """With its place."""
    payload = facts_payload(_with(load=float("inf")), producer=None)
    with pytest.raises(InvalidCommand, match=r"\$\.values\.load"):
        Command.create("replace facts", payload, now=NOW)
