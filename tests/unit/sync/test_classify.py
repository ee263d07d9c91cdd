"""What differs between two servers: pure, and the same from both sides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.sync.policy.classify import (
    Found,
    Nodes,
    ReportRow,
    Terms,
    compare_nodes,
    compare_records,
    compare_reports,
    compare_unusable,
    planned,
)
from pdbclient.sync.policy.content import content
from pdbclient.sync.policy.liveness import flipped
from pdbclient.sync.policy.model import EXPLAINED, Difference, Entity, Liveness, NodeStatus, Version
from pdbclient.sync.run.diff import EntityDiff

ALIVE = NodeStatus(Liveness.ACTIVE)
DEAD = NodeStatus(Liveness.INACTIVE, deactivated=5)
GONE = NodeStatus(Liveness.GONE, deactivated=1)
EXPIRED = NodeStatus(Liveness.INACTIVE, expired=5)

LATEST = 10**12
TERMS = Terms(LATEST)

MIRROR = {
    Difference.MISSING_HERE: Difference.MISSING_THERE,
    Difference.MISSING_THERE: Difference.MISSING_HERE,
    Difference.NEWER_HERE: Difference.NEWER_THERE,
    Difference.NEWER_THERE: Difference.NEWER_HERE,
}


def kinds(found: Iterable[Found]) -> dict[str, Difference]:
    return {each.key: each.difference for each in found}


def nodes(there: Mapping[str, NodeStatus], here: Mapping[str, NodeStatus]) -> Nodes:
    return Nodes(there, here)


def records(
    here: Version | None,
    there: Version | None,
    entity: Entity = Entity.FACTS,
    known: Version | None = None,
    ours: NodeStatus = ALIVE,
    theirs: NodeStatus = ALIVE,
) -> Difference | None:
    ours_listed, theirs_listed = ({} if version is None else {"n": version} for version in (here, there))

    def memory(key: str, version: Version) -> Difference | None:
        return Difference.KNOWN_UNEQUAL if version == known else None

    sides = nodes({"n": theirs}, {"n": ours})
    found = compare_records(entity, ours_listed, theirs_listed, sides, TERMS, memory)
    return kinds(found).get("n")


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (Version(1, "a"), Version(1, "a"), None),
        (None, Version(1, "a"), Difference.MISSING_HERE),
        (Version(1, "a"), None, Difference.MISSING_THERE),
        (Version(2, "a"), Version(1, "b"), Difference.NEWER_HERE),
        (Version(1, "b"), Version(2, "a"), Difference.NEWER_THERE),
        (Version(1, "a"), Version(1, "b"), Difference.UNEQUAL),
        (Version(1, "a", "u1"), Version(1, "a", "u2"), Difference.UNEQUAL),
    ],
)
def test_a_record_differs_by_who_has_it_then_by_time_then_by_content(
    here: Version | None, there: Version | None, expected: Difference | None
) -> None:
    assert records(here, there) is expected


def test_the_same_hash_at_another_time_is_a_difference() -> None:
    assert records(Version(1, "a"), Version(2, "a")) is Difference.NEWER_THERE


@pytest.mark.parametrize("entity", [Entity.INPUTS, Entity.EXPIRATION])
def test_what_the_server_keeps_as_it_came_first_is_tied_at_equal_times(entity: Entity) -> None:
    assert records(Version(1, "a"), Version(1, "b"), entity) is Difference.TIED
    assert records(Version(1, "a"), Version(2, "b"), entity) is Difference.NEWER_THERE


def test_a_version_that_was_pulled_and_stayed_unequal_is_known_and_only_that_one() -> None:
    here, there = Version(1, "a"), Version(1, "b")
    assert records(here, there, known=there) is Difference.KNOWN_UNEQUAL
    assert records(here, there, known=Version(1, "c")) is Difference.UNEQUAL
    assert records(None, there, known=there) is Difference.MISSING_HERE


@pytest.mark.parametrize("status", [DEAD, GONE, EXPIRED])
def test_what_is_not_active_where_it_would_come_from_does_not_count(status: NodeStatus) -> None:
    assert records(None, Version(1, "a"), theirs=status) is Difference.NOT_ACTIVE
    assert records(Version(1, "a"), None, ours=status) is Difference.NOT_ACTIVE
    assert records(Version(2, "a"), Version(1, "b"), ours=status) is Difference.NOT_ACTIVE
    assert records(Version(2, "a"), Version(1, "b"), theirs=status) is Difference.NEWER_HERE


def test_a_record_of_a_node_that_came_after_the_listing_of_nodes_counts() -> None:
    found = compare_records(Entity.FACTS, {}, {"n": Version(1, "a")}, nodes({}, {}), TERMS)
    assert kinds(found) == {"n": Difference.MISSING_HERE}


def test_a_record_without_a_certname_which_nobody_can_submit_does_not_count() -> None:
    found = compare_records(Entity.FACTS, {}, {"": Version(1, "a")}, nodes({}, {}), TERMS)
    assert kinds(found) == {"": Difference.NAMELESS}


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (ALIVE, ALIVE, None),
        (DEAD, DEAD, None),
        (ALIVE, None, None),
        (ALIVE, DEAD, Difference.MISSING_HERE),
        (DEAD, ALIVE, Difference.MISSING_THERE),
        (DEAD, NodeStatus(Liveness.INACTIVE, deactivated=7), Difference.NEWER_THERE),
        (DEAD, NodeStatus(Liveness.INACTIVE, deactivated=3), Difference.NEWER_HERE),
        (None, DEAD, Difference.UNKNOWN),
        (DEAD, None, Difference.UNKNOWN),
        (ALIVE, GONE, Difference.NOT_ACTIVE),
        (ALIVE, EXPIRED, Difference.EXPIRED),
        (EXPIRED, NodeStatus(Liveness.INACTIVE, expired=9), None),
    ],
)
def test_nodes_differ_by_their_deactivation(
    here: NodeStatus | None, there: NodeStatus | None, expected: Difference | None
) -> None:
    sides = [{} if status is None else {"n": status} for status in (there, here)]
    assert kinds(compare_nodes(nodes(*sides), TERMS)).get("n") is expected


def test_reports_differ_by_their_hash_alone() -> None:
    here = [ReportRow("h1", "n", 1), ReportRow("h2", "n", 1)]
    there = [ReportRow("h1", "n", 1), ReportRow("h3", "n", 1), ReportRow("h4", "dead", 1)]
    found = compare_reports(here, there, nodes({"n": ALIVE, "dead": DEAD}, {"n": ALIVE}), TERMS)
    assert kinds(found) == {
        "h2": Difference.MISSING_THERE,
        "h3": Difference.MISSING_HERE,
        "h4": Difference.NOT_ACTIVE,
    }


@pytest.mark.parametrize(("millis", "selected"), [(9, False), (10, True), (19, True), (20, False)])
@pytest.mark.parametrize("older", [1, 15])
def test_what_is_selected_goes_by_the_newer_of_the_two(millis: int, selected: bool, older: int) -> None:
    terms = Terms(LATEST, 10, 20)
    older = min(older, millis - 1)
    for here, there in ((millis, older), (older, millis)):
        sides = nodes({"n": ALIVE}, {"n": ALIVE})
        found = compare_records(Entity.FACTS, {"n": Version(here, "")}, {"n": Version(there, "")}, sides, terms)
        assert bool(list(found)) is selected


@pytest.mark.parametrize("from_here", [True, False])
def test_what_is_stamped_in_the_future_is_so_on_both_sides_of_any_year(from_here: bool) -> None:
    """`diff` listed nothing from the year 2100 on."""
    for millis in (LATEST + 1, 40 * 10**12, 350 * 10**12):
        record = {"n": Version(millis, "a")}
        here, there = (record, {}) if from_here else ({}, record)
        found = compare_records(Entity.FACTS, here, there, nodes({"n": ALIVE}, {"n": ALIVE}), TERMS)
        assert kinds(found) == {"n": Difference.FUTURE}
        rows = [ReportRow("h", "n", millis)]
        sides = (rows, []) if from_here else ([], rows)
        assert kinds(compare_reports(*sides, nodes({"n": ALIVE}, {"n": ALIVE}), TERMS)) == {"h": Difference.FUTURE}


def test_what_a_node_has_that_is_dead_for_good_where_it_would_go_is_told_alike_from_both_sides() -> None:
    """Passes left it alone, and `diff` called the servers unequal for ever."""
    record = {"n": Version(3, "a")}
    sides = Nodes({"n": ALIVE}, {"n": DEAD}, dead=frozenset({"n"}))
    assert kinds(compare_records(Entity.FACTS, {}, record, sides, TERMS)) == {"n": Difference.DEAD}
    assert kinds(compare_records(Entity.FACTS, record, {}, flipped(sides), TERMS)) == {"n": Difference.DEAD}


def test_a_deactivation_that_a_newer_record_outdates_is_told_alike_from_both_sides() -> None:
    sides = Nodes({"n": DEAD}, {"n": ALIVE})
    assert kinds(compare_nodes(sides, TERMS, newest_here={"n": 6})) == {"n": Difference.SUPERSEDED}
    assert kinds(compare_nodes(flipped(sides), TERMS, newest_there={"n": 6})) == {"n": Difference.SUPERSEDED}
    assert kinds(compare_nodes(sides, TERMS, newest_here={"n": 5})) == {"n": Difference.MISSING_HERE}


def test_what_cannot_be_used_is_listed_and_never_pulled() -> None:
    found = list(compare_unusable(["b", "a"]))
    assert kinds(found) == {"a": Difference.UNUSABLE, "b": Difference.UNUSABLE}
    plan = planned(Entity.FACTS, found)
    assert (dict(plan.pull), plan.skipped) == ({}, [("a", Difference.UNUSABLE), ("b", Difference.UNUSABLE)])
    sides = Nodes({"n": DEAD}, {"n": ALIVE}, unusable=frozenset({"n"}))
    assert kinds(compare_nodes(sides, TERMS)) == {"n": Difference.UNUSABLE}


def test_examples_are_few_and_the_count_is_whole() -> None:
    diff = EntityDiff(Entity.FACTS, limit=2)
    for number in range(5):
        diff.add(Found(Difference.TIED, f"n{number}", f"n{number}", Version(1, "a"), Version(1, "b"), False))
    assert diff.equal
    diff.add(Found(Difference.UNEQUAL, "m", "m", Version(1, "a"), Version(1, "b"), False))
    assert not diff.equal
    assert diff.counts == {Difference.TIED: 5, Difference.UNEQUAL: 1}
    assert [each.key for each in diff.examples] == ["n0", "n1", "m"]


VERSIONS = st.builds(Version, st.integers(1, 3), st.sampled_from("ab"), st.sampled_from(["", "u"]))
SIDE = st.dictionaries(st.sampled_from("klmn"), VERSIONS)
STATUS = st.dictionaries(st.sampled_from("klmn"), st.sampled_from([ALIVE, DEAD, GONE, EXPIRED]))


@given(SIDE, SIDE, STATUS, STATUS, st.sampled_from([Entity.FACTS, Entity.INPUTS]))
def test_seen_from_the_other_side_the_same_records_differ_the_other_way_round(
    here: dict[str, Version],
    there: dict[str, Version],
    nodes_here: dict[str, NodeStatus],
    nodes_there: dict[str, NodeStatus],
    entity: Entity,
) -> None:
    ours = list(compare_records(entity, here, there, Nodes(nodes_there, nodes_here), TERMS))
    theirs = list(compare_records(entity, there, here, Nodes(nodes_here, nodes_there), TERMS))
    mirrored = [
        f._replace(
            difference=MIRROR.get(f.difference, f.difference), here=f.there, there=f.here, from_here=not f.from_here
        )
        for f in ours
    ]
    assert mirrored == theirs
    assert {f.key for f in ours} == {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}


@given(STATUS, STATUS)
def test_nodes_too_are_compared_alike_from_both_sides(
    here: dict[str, NodeStatus], there: dict[str, NodeStatus]
) -> None:
    ours = kinds(compare_nodes(Nodes(there, here), TERMS))
    theirs = kinds(compare_nodes(Nodes(here, there), TERMS))
    assert {key: MIRROR.get(kind, kind) for key, kind in ours.items()} == theirs


def test_content_is_the_same_whatever_order_a_server_lists_it_in() -> None:
    one = {
        "resources": [
            {"type": "File", "title": "/a", "tags": ["x", "y"], "parameters": {"list": [1, 2], "a": 1}},
            {"type": "File", "title": "/b", "tags": []},
        ],
        "edges": [{"source": 1}, {"source": 2}],
    }
    other = {
        "edges": [{"source": 2}, {"source": 1}],
        "resources": [
            {"type": "File", "title": "/b", "tags": []},
            {"title": "/a", "type": "File", "tags": ["y", "x"], "parameters": {"a": 1, "list": [1, 2]}},
        ],
    }
    assert content(json.dumps(one).encode()) == content(json.dumps(other).encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"values": {"a": [1, 2]}}', b'{"values": {"a": [2, 1]}}'),
        (b'{"values": {"a": 1}}', b'{"values": {"a": 1.0}}'),
        (b'{"values": {"a": 1}}', b'{"values": {"a": "1"}}'),
        (b'{"values": {"a": null}}', b'{"values": {}}'),
        (b'{"package_inventory": [["a", "1", "apt"]]}', b'{"package_inventory": [["a", "2", "apt"]]}'),
    ],
)
def test_other_values_are_other_content(one: bytes, other: bytes) -> None:
    assert content(one) != content(other)


def test_the_documentation_has_every_kind_of_difference_and_whether_it_counts() -> None:
    text = (Path(__file__).parents[3] / "docs/operate/reconciler.md").read_text()
    lines = [
        line.split("|") for line in text.splitlines() if line.startswith("| `") and line.endswith(("yes |", "no |"))
    ]
    told = {name: cells[3].strip() for cells in lines for name in re.findall(r"`(\w+)`", cells[1])}
    assert {str(kind): "no" if kind in EXPLAINED else "yes" for kind in Difference}.items() <= told.items()


def test_every_kind_of_difference_says_what_it_means() -> None:
    assert all(kind.meaning for kind in Difference)
    assert set(Difference) > EXPLAINED
