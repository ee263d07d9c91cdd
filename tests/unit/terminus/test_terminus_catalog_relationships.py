"""The edges of a catalog: from relationship parameters, by every name, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.catalog import catalog_payload
from pdbclient.terminus.names import TYPES, TypeNames
from tests.unit.terminus.catalog_parts import catalog, edges, payload, resource

FORMAT = (
    "doesn't seem to be in the correct format. Resource references should be formatted as: Classname['title'] or "
    "Modulename::Classname['title'] (take careful note of the capitalization)."
)


@pytest.mark.parametrize(
    ("parameter", "edge"),
    [
        ("before", "Notify[a] before Notify[b]"),
        ("notify", "Notify[a] notifies Notify[b]"),
        ("require", "Notify[b] required-by Notify[a]"),
        ("subscribe", "Notify[b] subscription-of Notify[a]"),
    ],
)
def test_each_metaparameter_has_its_direction(parameter: str, edge: str) -> None:
    assert edges(resource("Notify[a]", {parameter: "Notify[b]"}), resource("Notify[b]")) == [edge]


def test_containment_comes_first_and_nothing_twice() -> None:
    document = catalog(
        resource("Notify[a]", {"before": ["Notify[b]", ["Notify[b]", "Notify[bee]"]]}),
        resource("Notify[b]", {"name": "bee"}),
        edges=[
            {"source": "Notify[a]", "target": "Notify[b]"},
            {"source": "Notify[a]", "target": {"type": "Notify", "title": "b"}},
            {"source": "Notify[a]", "target": "Notify[b]", "relationship": "before"},
        ],
    )
    ends = {"source": {"type": "Notify", "title": "a"}, "target": {"type": "Notify", "title": "b"}}
    assert catalog_payload(document, producer=None)["edges"] == [
        {**ends, "relationship": "contains"},
        {**ends, "relationship": "before"},
    ]


@pytest.mark.parametrize("reference", ["File[/a]", "File[/a/]", "File[/a///]"])
@pytest.mark.parametrize("title", ["/a", "/a/"])
def test_trailing_slashes_of_a_file_do_not_matter(title: str, reference: str) -> None:
    file = resource(f"File[{title}]", {"path": "/a"} if title == "/a/" else {})
    assert edges(file, resource("Notify[x]", {"require": reference})) == [f"File[{title}] required-by Notify[x]"]


def test_a_file_is_found_by_its_title_without_slashes_when_its_path_is_another() -> None:
    file = resource("File[/a]", {"path": "/b"})
    assert edges(file, resource("Notify[x]", {"require": "File[/a/]"})) == ["File[/a] required-by Notify[x]"]


def test_a_title_that_fits_no_pattern_of_its_type_names_nothing() -> None:
    with pytest.raises(InvalidCommand, match="doesn't seem to be in the catalog"):
        payload(resource("Sshkey[a]"), resource("Notify[x]", {"require": "Sshkey[@]"}))


@pytest.mark.parametrize("title", ["br[ack]et", "line\nbreak", "ü ☃", "x]\n[y"])
def test_titles_may_hold_anything(title: str) -> None:
    assert edges(resource(f"Notify[{title}]"), resource("Notify[x]", {"require": f"Notify[{title}]"})) == [
        f"Notify[{title}] required-by Notify[x]"
    ]


def test_an_exec_is_not_found_by_its_command() -> None:
    with pytest.raises(InvalidCommand, match="doesn't seem to be in the catalog"):
        payload(resource("Exec[a]", {"command": "/c"}), resource("Exec[b]", {"command": "/d", "require": "Exec[/c]"}))


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("notify[b]", FORMAT),
        ("Foo::bar[b]", FORMAT),
        ("Notify", FORMAT),
        (5, FORMAT),
        (None, FORMAT),
        ("Package[bar]", "doesn't seem to be in the catalog"),
        ("Notify[b] and more", "doesn't seem to be in the catalog"),
    ],
)
def test_a_wrong_reference_is_refused_in_the_stock_words(reference: object, why: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        payload(resource("Notify[b]"), resource("Notify[a]", {"require": [reference]}))
    shown = "" if reference is None else reference
    assert refused.value.path == "$.resources[1].parameters.require"
    assert refused.value.reason == f"Invalid relationship: Notify[a] {{ require => {shown} }}, because {shown} {why}"


def test_a_reference_to_what_is_only_exported_is_refused() -> None:
    exported = resource("Notify[x]", exported=True, virtual=True)
    with pytest.raises(InvalidCommand) as refused:
        payload(exported, resource("Notify[y]", {"require": "Notify[x]"}))
    assert refused.value.reason == (
        "Invalid relationship: Notify[y] { require => Notify[x] }, because Notify[x] is exported but not collected"
    )


def test_what_is_only_exported_has_no_edges_and_is_not_marked() -> None:
    exported = resource("Notify[x]", {"require": "Notify[elsewhere]"}, exported=True, virtual=True)
    (made,) = payload(exported)["resources"]
    assert (made["exported"], "virtual" in made, edges(exported)) == (True, False, [])


def test_an_exported_resource_that_may_be_collected_has_its_edges() -> None:
    exported = resource("Notify[x]", {"require": "Notify[y]"}, exported=True)
    assert edges(exported, resource("Notify[y]")) == ["Notify[y] required-by Notify[x]"]


def test_an_exported_resource_that_refers_elsewhere_was_not_collected() -> None:
    """Puppet Server's v4 answer does not tell, but Puppet would not have compiled it otherwise."""
    exported = resource("Notify[x]", {"require": ["Notify[y]", "Notify[elsewhere]"]}, exported=True)
    assert edges(exported, resource("Notify[y]")) == []


def test_without_edges_no_relationship_is_checked() -> None:
    assert payload(resource("Notify[a]", {"require": "nonsense"}), include_edges=False)["edges"] == []


def test_an_unknown_native_type_may_be_referred_to_by_any_value_of_one_resource() -> None:
    unknown = resource("Registry_key[a]", {"path": "HKLM", "ensure": "present"})
    other = resource("Registry_key[b]", {"path": "HKCU", "ensure": "present"})
    user = resource("Notify[x]", {"require": ["Registry_key[HKLM]", "Registry_key[HKCU]"]})
    assert edges(unknown, other, user) == [
        "Registry_key[b] required-by Notify[x]",
        "Registry_key[a] required-by Notify[x]",
    ]
    with pytest.raises(InvalidCommand, match="doesn't seem to be in the catalog"):
        payload(unknown, other, resource("Notify[x]", {"require": "Registry_key[present]"}))


def test_a_defined_type_is_found_by_title_and_alias_only() -> None:
    with pytest.raises(InvalidCommand, match="doesn't seem to be in the catalog"):
        payload(
            resource("Site::Vhost[a]", {"docroot": "/w"}, kind="unknown"),
            resource("Notify[x]", {"require": "Site::Vhost[/w]"}),
        )


def test_a_type_can_be_made_known() -> None:
    types = {**TYPES, "Registry_key": TypeNames(("path",))}
    made = payload(resource("Registry_key[a]", {"path": "HKLM"}), types=types)
    assert made["resources"][0]["parameters"]["alias"] == ["HKLM"]


names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_any_title_can_be_required(titles: list[str], data: st.DataObject) -> None:
    links = {title: data.draw(st.lists(st.sampled_from(titles), max_size=3)) for title in titles}
    resources: list[dict[str, Any]] = [
        {"type": "Notify", "title": title, "parameters": {"require": [f"Notify[{other}]" for other in links[title]]}}
        for title in titles
    ]
    made = catalog_payload(catalog(*resources), producer=None)["edges"]
    assert isinstance(made, list)
    found = {(edge["source"]["title"], edge["target"]["title"]) for edge in made}
    assert found == {(other, title) for title in titles for other in links[title]}
    assert len(made) == len(found)
