"""One-way passes, for a migration or a restore: the remote is right."""

from __future__ import annotations

import pytest

from pdbclient.errors import SafetyBrake
from pdbclient.sync import Difference, Entity, EntityPlan, Mode, PassResult, Selection, Version, plan, reconcile
from pdbclient.sync.policy.classify import Nodes, ReportRow, Terms
from pdbclient.sync.policy.liveness import deactivated_first
from pdbclient.sync.policy.model import Liveness, NodeStatus

from .conftest import SyncPair
from .fake import catalog, deactivation, expiration, facts, inputs, report
from .plans import plan_deactivations, plan_records, plan_reports

pytestmark = pytest.mark.releases

ONE_WAY = Mode(one_way=True)
TERMS = Terms(10_000, one_way=True)
ACTIVE = NodeStatus(Liveness.ACTIVE)
DEAD = NodeStatus(Liveness.INACTIVE, deactivated=500)
DEAD_LATER = NodeStatus(Liveness.INACTIVE, deactivated=600)
EXPIRED = NodeStatus(Liveness.INACTIVE, expired=500)
GONE = NodeStatus(Liveness.GONE, deactivated=500)


def nothing(key: str, version: Version) -> Difference | None:
    return None


def pull(site: SyncPair, mode: Mode = ONE_WAY) -> PassResult:
    return reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


@pytest.mark.parametrize("entity", [Entity.FACTS, Entity.CATALOGS])
@pytest.mark.parametrize(
    ("there", "here", "pulled"),
    [
        (Version(2, "a"), None, True),
        (Version(2, "a"), Version(1, "z"), True),
        (Version(1, "a"), Version(1, "z"), True),
        (Version(1, "z"), Version(1, "a"), True),
        (Version(1, "a", "u1"), Version(1, "a", "u2"), True),
        (Version(1, "a"), Version(1, "a"), False),
        # the server would not take an older one
        (Version(1, "z"), Version(2, "a"), False),
    ],
)
def test_at_equal_times_the_remotes_content_is_taken_whatever_the_hash(
    entity: Entity, there: Version, here: Version | None, pulled: bool
) -> None:
    nodes = Nodes({"n": ACTIVE}, {"n": ACTIVE})
    ours = {} if here is None else {"n": here}
    made = plan_records(entity, {"n": there}, ours, nodes, TERMS, nothing)
    assert (bool(made.pull), list(made.skipped)) == (pulled, [])


@pytest.mark.parametrize(
    ("there", "here", "millis", "carried"),
    [
        (DEAD, DEAD, 500, True),
        (DEAD, DEAD_LATER, 500, True),
        # such data would make the node active here
        (DEAD, DEAD, 501, False),
        (DEAD, NodeStatus(Liveness.INACTIVE, 500, 399), 400, False),
        (DEAD, NodeStatus(Liveness.INACTIVE, 500, 400), 400, True),
        (DEAD, None, 400, False),
        (DEAD, ACTIVE, 400, False),
        (DEAD, EXPIRED, 400, False),
        (GONE, DEAD, 400, False),
        (EXPIRED, DEAD, 400, False),
    ],
)
def test_data_of_a_node_deactivated_there_come_only_where_it_is_deactivated_too(
    there: NodeStatus, here: NodeStatus | None, millis: int, carried: bool
) -> None:
    nodes = Nodes({"n": there}, {"n": here} if here else {})
    for terms, expected in ((TERMS, carried), (Terms(10_000), False)):
        records = plan_records(Entity.FACTS, {"n": Version(millis, "a")}, {}, nodes, terms, nothing)
        reports = plan_reports([ReportRow("h", "n", millis)], set(), nodes, terms, nothing)
        for made in (records, reports):
            assert bool(made.pull) is expected
            assert [why for _, why in made.skipped] == ([] if expected else [Difference.NOT_ACTIVE])


def test_a_node_deactivated_there_is_made_here_and_one_about_to_be_purged_is_not() -> None:
    nodes = Nodes({"dead": DEAD, "gone": GONE, "expired": EXPIRED}, {})
    made = plan_deactivations(nodes, {}, TERMS, nothing)
    assert (dict(made.pull), list(made.skipped)) == ({"dead": Version(500, "")}, [("gone", Difference.NOT_ACTIVE)])


def test_the_brake_counts_active_nodes_and_not_those_made_for_the_purpose() -> None:
    there = {f"n{number}": DEAD for number in range(200)}
    made = plan_deactivations(Nodes(there, {}), {}, TERMS, nothing)
    assert len(made.pull) == 200
    here = {f"n{number}": ACTIVE for number in range(60)}
    with pytest.raises(SafetyBrake, match="60 of 60 active nodes"):
        plan_deactivations(Nodes(there, here), {}, TERMS, nothing)


def test_a_plan_reckons_with_its_own_deactivations() -> None:
    nodes = Nodes({"n": DEAD}, {"m": ACTIVE}, frozenset({"x"}))
    after = deactivated_first(nodes, EntityPlan(Entity.NODES, {"n": Version(500, "")}))
    assert after == Nodes(nodes.there, {"m": ACTIVE, "n": DEAD}, frozenset({"x"}))


def test_a_restore_brings_everything_with_dead_nodes_dead_from_the_start(site: SyncPair) -> None:
    for name in ("live", "dead"):
        site.a.apply("configure expiration", expiration(name, site.ago(600)))
        site.a.apply("replace facts", facts(name, site.ago(500)))
        site.a.apply("replace catalog", catalog(name, site.ago(500)))
        site.a.apply("replace catalog inputs", inputs(name, site.ago(500)))
        site.a.apply("store report", report(name, site.ago(500), "r"))
    site.a.apply("deactivate node", deactivation("dead", site.ago(50)))
    states = []
    apply = site.b.apply

    def watched(name: str, payload: dict[str, object]) -> None:
        apply(name, payload)
        states.append(site.b.nodes["dead"].deactivated if "dead" in site.b.nodes else None)

    site.b.apply = watched  # type: ignore[method-assign]
    planned = plan(site.config(site.b), site.a.endpoint, mode=ONE_WAY, connect=site.connect, clock=site.clock)
    result = pull(site)
    assert result.ok
    expected = {entity.value: 2 for entity in Entity} | {"nodes": 1}
    assert moved(result) == expected
    assert {part.entity.value: len(part.pull) for part in planned} == expected
    assert site.b.tables == site.a.tables
    assert site.b.nodes == site.a.nodes
    assert None not in states, "the dead node was active for a moment"
    assert moved(pull(site)) == {}


def test_the_remote_wins_a_conflict_at_equal_times_in_one_pass_and_then_it_is_quiet(site: SyncPair) -> None:
    for number in range(8):
        when = site.ago(100 + number)
        site.a.apply("replace facts", facts(f"n{number}", when, "theirs"))
        site.b.apply("replace facts", facts(f"n{number}", when, "ours"))
    assert moved(pull(site)) == {"facts": 8}
    assert site.b.tables == site.a.tables
    assert moved(pull(site)) == {}


def test_a_conflict_whose_hash_does_not_survive_is_pulled_once(site: SyncPair) -> None:
    when = site.ago(100)
    site.a.apply("replace facts", facts("n", when, "theirs"))
    site.b.mangles.add("n")
    site.b.apply("replace facts", facts("n", when, "ours"))
    assert moved(pull(site)) == {"facts": 1}
    result = pull(site)
    assert (moved(result), result.entities[Entity.FACTS].unequal) == ({}, 1)


def test_a_node_whose_deactivation_is_not_taken_gets_no_data(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("dead", site.ago(500)))
    site.a.apply("deactivate node", deactivation("dead", site.ago(50)))
    site.b.discards.add("dead")
    result = pull(site)
    assert (moved(result), result.entities[Entity.NODES].failed) == ({}, 1)
    assert [command.name for command in site.b.submitted] == ["deactivate node"]


def test_without_its_deactivations_a_one_way_pass_brings_no_dead_node(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("dead", site.ago(500)))
    site.a.apply("deactivate node", deactivation("dead", site.ago(50)))
    only_facts = Selection(entities=frozenset({Entity.FACTS}))
    assert moved(pull(site, Mode(only_facts, one_way=True))) == {}
    assert site.b.nodes == {}


def test_a_node_purged_here_comes_back_one_way_and_not_between_two_that_pull_from_each_other(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("dead", site.ago(500)))
        side.apply("deactivate node", deactivation("dead", site.ago(50)))
    site.b.purge("dead")
    assert moved(pull(site, Mode())) == {}
    assert moved(pull(site)) == {"nodes": 1, "facts": 1}
    assert site.b.nodes["dead"].deactivated == site.a.nodes["dead"].deactivated


def test_the_configuration_can_make_one_way_the_rule(site: SyncPair) -> None:
    site.options["one_way"] = True
    site.a.apply("deactivate node", deactivation("dead", site.ago(50)))
    assert moved(site.pull(site.b)) == {"nodes": 1}
