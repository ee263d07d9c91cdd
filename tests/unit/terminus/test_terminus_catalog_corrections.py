"""What the stock terminus gets wrong in a catalog, each defect with the test that it is not made here."""

from __future__ import annotations

import json

import pytest

from pdbclient.errors import InvalidCommand
from tests.unit.terminus.catalog_parts import edges, parameters, payload, resource

REDACTED = "#<Sensitive [value redacted]>"


def sensitive(value: object) -> dict[str, object]:
    return {"__ptype": "Sensitive", "__pvalue": value}


def test_a_sensitive_namevar_never_reaches_the_alias() -> None:
    made = resource("Notify[a]", {"name": "hunter2", "tag": "x"}, sensitive_parameters=["name"])
    assert parameters(made) == {"tag": "x"}


def test_the_alias_of_the_namevar_outlives_a_sensitive_alias() -> None:
    made = resource("Notify[a]", {"name": "n", "alias": "hunter2"}, sensitive_parameters=["alias"])
    assert parameters(made) == {"name": "n", "alias": ["n"]}


def test_a_redacted_name_can_still_be_referred_to() -> None:
    named = resource("Notify[a]", {"name": "hunter2"}, sensitive_parameters=["name"])
    assert edges(named, resource("Notify[b]", {"require": "Notify[hunter2]"})) == ["Notify[a] required-by Notify[b]"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (sensitive("hunter2"), REDACTED),
        ([1, sensitive(["hunter2"])], [1, REDACTED]),
        ({"k": {"l": sensitive({"m": "hunter2"})}}, {"k": {"l": REDACTED}}),
        ({"__ptype": "Hash", "__pvalue": [1, sensitive("hunter2")]}, {"1": REDACTED}),
        ({"__ptype": "Deferred", "name": "f", "arguments": [sensitive("hunter2")]},
         f"Deferred({{'name' => 'f', 'arguments' => [{REDACTED}]}})"),
        ({"__ptype": "Hash", "__pvalue": [[sensitive("hunter2")], 1]}, {f"[{REDACTED}]": 1}),
    ],
)  # fmt: skip
def test_what_is_sensitive_within_a_value_is_one_stable_placeholder(value: object, sent: object) -> None:
    made = parameters(resource("Notify[a]", {"message": value}))
    assert made == {"message": sent}
    assert "hunter2" not in json.dumps(made)


def test_sensitive_keys_of_one_hash_stay_apart() -> None:
    pairs = {"__ptype": "Hash", "__pvalue": [sensitive("x"), 1, sensitive("y"), 2]}
    made = parameters(resource("Notify[a]", {"message": pairs}))
    assert made["message"] == {REDACTED: 1, "#<Sensitive [value redacted]:2>": 2}


def test_a_sensitive_alias_among_others_is_the_placeholder() -> None:
    assert parameters(resource("Notify[a]", {"alias": ["z", sensitive("hunter2")]})) == {"alias": [REDACTED, "z"]}


def test_the_root_directory_is_a_file_like_others() -> None:
    root, other = resource("File[/]"), resource("File[/x]", {"require": "File[/]"})
    assert edges(root, other) == ["File[/] required-by File[/x]"]


def test_the_root_directory_is_found_by_its_path() -> None:
    named = resource("File[root]", {"path": "/"})
    assert edges(named, resource("File[/x]", {"require": "File[/]"})) == ["File[root] required-by File[/x]"]


def test_a_composite_namevar_resolves_by_its_name() -> None:
    named = resource("Package[foo]", {"name": "bar"})
    assert edges(named, resource("Notify[x]", {"require": "Package[bar]"})) == ["Package[foo] required-by Notify[x]"]


def test_a_composite_namevar_is_told_apart_by_its_other_parts() -> None:
    """As Puppet's own catalog does: without a provider it is the one without a provider."""
    named = (
        resource("Package[foo]", {"name": "bar"}),
        resource("Package[gem]", {"name": "bar", "provider": "gem"}),
    )
    assert edges(*named, resource("Notify[x]", {"require": "Package[bar]"})) == ["Package[foo] required-by Notify[x]"]
    with pytest.raises(InvalidCommand, match="doesn't seem to be in the catalog"):
        payload(named[1], resource("Notify[x]", {"require": "Package[bar]"}))


def test_a_composite_namevar_resolves_by_its_title_pattern() -> None:
    named = resource("Sshkey[k]", {"name": "host", "type": "rsa"})
    found = edges(named, resource("Notify[x]", {"require": "Sshkey[host@rsa]"}))
    assert found == ["Sshkey[k] required-by Notify[x]"]


def test_nested_aliases_of_a_composite_namevar_resolve() -> None:
    named = resource("Package[p]", {"alias": [["a", ["b"]]]})
    assert edges(named, resource("Notify[x]", {"require": "Package[b]"})) == ["Package[p] required-by Notify[x]"]


def test_a_file_with_a_slash_and_another_path_resolves_by_its_title() -> None:
    named = resource("File[/p/]", {"path": "/q"})
    assert edges(named, resource("Notify[x]", {"require": "File[/p/]"})) == ["File[/p/] required-by Notify[x]"]
