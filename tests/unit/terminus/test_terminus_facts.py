"""Facts as Puppet has them -> `replace facts` 5; every defect of the stock terminus that is not repeated, by name."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.facts import facts_payload, facts_warnings, local_trusted
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


BAD_PACKAGES: list[Any] = [
    *(["b", None, "apt"], ["b", 1, "apt"], ["b", "1"], ["b", "1", "apt", "x"], [], "b", None, {"name": "b"}),
    *([None, "1", "apt"], ["b", "1", ["apt"]]),
]


@pytest.mark.parametrize("bad", BAD_PACKAGES, ids=repr)
def test_packages_that_puppetdb_would_refuse_are_left_out_by_name_and_the_others_kept(bad: Any) -> None:
    """PuppetDB refuses all the facts for one of them."""
    facts = _with(_puppet_inventory_1={"packages": [["a", "1", "apt"], bad, ("c", "2", "gem"), bad]})
    payload = facts_payload(facts, producer=None)
    assert payload["package_inventory"] == [["a", "1", "apt"], ("c", "2", "gem")]
    Command.create("replace facts", payload, now=NOW)
    first, second = facts_warnings(facts)
    assert f"{bad!r}" in first
    assert "$.values._puppet_inventory_1.packages[1]" in first
    assert "packages[3]" in second
    assert "n1.example" in first


@pytest.mark.parametrize(
    "inventory", ["packages", 1, [["a", "1", "apt"]], {"packages": {}}, {"packages": "a"}], ids=repr
)
def test_an_inventory_that_is_none_is_told(inventory: object) -> None:
    """Not of null, which is how a node says that it has none."""
    (warning,) = facts_warnings(_with(_puppet_inventory_1=inventory))
    assert "$.values._puppet_inventory_1" in warning
    assert "n1.example" in warning
    assert facts_warnings(_with(_puppet_inventory_1=None)) == facts_warnings(_with()) == ()
    assert facts_warnings(_with(_puppet_inventory_1={"packages": None})) == facts_warnings(_with(x=1)) == ()


def test_many_bad_packages_are_one_line_more() -> None:
    """Three by name, then how many."""
    warnings = facts_warnings(_with(_puppet_inventory_1={"packages": [["a", None, "apt"]] * 500}))
    assert len(warnings) == 4
    assert "497 more" in warnings[-1]


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
