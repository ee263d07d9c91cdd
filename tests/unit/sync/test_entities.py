"""Catalog inputs and the expiration of facts: what PuppetDB replaces only by something strictly newer."""

from __future__ import annotations

import json

import pytest

from pdbclient.config.settings import SYNC_ENTITIES
from pdbclient.errors import Rejected
from pdbclient.sync import Difference, Entity, PassResult, Version, plan
from pdbclient.sync.policy.classify import Nodes, Terms
from pdbclient.sync.policy.model import Liveness, NodeStatus
from pdbclient.sync.run.verify import Verdict, judge_first

from .conftest import SyncPair
from .fake import catalog, deactivation, expiration, facts, inputs, report
from .plans import plan_records

pytestmark = pytest.mark.releases

ONE = "11111111-0000-4000-8000-000000000000"
TWO = "22222222-0000-4000-8000-000000000000"


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


def left_alone(site: SyncPair) -> dict[Entity, list[tuple[str, Difference]]]:
    plans = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    return {part.entity: list(part.skipped) for part in plans if part.skipped}


def test_the_configuration_names_the_entities_in_the_order_of_a_pass() -> None:
    assert tuple(Entity) == SYNC_ENTITIES


def test_a_pass_goes_through_all_entities_in_their_order(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("old", site.ago(500)))
    site.a.apply("deactivate node", deactivation("old", site.ago(50)))
    site.a.apply("store report", report("n", site.ago(5), "r"))
    site.a.apply("replace catalog inputs", inputs("n", site.ago(5)))
    site.a.apply("replace catalog", catalog("n", site.ago(5)))
    site.a.apply("replace facts", facts("n", site.ago(5)))
    site.a.apply("configure expiration", expiration("n", site.ago(9)))
    result = site.pull(site.b)
    assert result.ok
    assert list(result.entities) == list(Entity)
    assert [command.name for command in site.b.submitted] == [
        "deactivate node",
        "configure expiration",
        "replace facts",
        "replace catalog",
        "replace catalog inputs",
        "store report",
    ]
    assert site.a.tables == site.b.tables
    assert site.b.nodes == site.a.nodes
    assert moved(site.pull(site.b)) == moved(site.pull(site.a)) == {}


@pytest.mark.parametrize("entity", [Entity.INPUTS, Entity.EXPIRATION])
@pytest.mark.parametrize(
    ("there", "here", "pulled", "why"),
    [
        (Version(2, "a"), None, True, None),
        (Version(2, "a"), Version(1, "z"), True, None),
        (Version(1, "z"), Version(2, "a"), False, None),
        (Version(1, "a"), Version(1, "a"), False, None),
        (Version(1, "b"), Version(1, "a"), False, Difference.TIED),
        (Version(1, "a"), Version(1, "b"), False, Difference.TIED),
    ],
)
@pytest.mark.parametrize("one_way", [False, True])
def test_only_the_strictly_newer_one_is_pulled_and_a_tie_is_listed_by_both_sides(
    entity: Entity, there: Version, here: Version | None, pulled: bool, why: Difference | None, one_way: bool
) -> None:
    active = {"n": NodeStatus(Liveness.ACTIVE)}
    ours = {} if here is None else {"n": here}
    terms = Terms(10, one_way=one_way)
    made = plan_records(entity, {"n": there}, ours, Nodes(active, active), terms, lambda key, version: None)
    assert bool(made.pull) is pulled
    assert [reason for _, reason in made.skipped] == ([] if why is None else [why])


@pytest.mark.parametrize("entity", [Entity.INPUTS, Entity.EXPIRATION])
@pytest.mark.parametrize("at", [1, 11], ids=["now", "stamped in the future"])
@pytest.mark.parametrize("there", [Liveness.ACTIVE, Liveness.INACTIVE])
@pytest.mark.parametrize("here", [Liveness.ACTIVE, Liveness.INACTIVE])
@pytest.mark.parametrize("side", ["a", "b"])
def test_a_tie_is_one_whatever_becomes_of_its_node_and_its_time(
    entity: Entity, at: int, there: Liveness, here: Liveness, side: str
) -> None:
    """The side that has the greater content said nothing of one that was stamped in the future."""
    theirs, ours = {"n": Version(at, side)}, {"n": Version(at, "ab".replace(side, ""))}
    nodes = Nodes({"n": NodeStatus(there, 1)}, {"n": NodeStatus(here, 1)})
    made = plan_records(entity, theirs, ours, nodes, Terms(10), lambda key, version: None)
    assert not made.pull
    assert made.skipped == [("n", Difference.TIED)]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (None, Verdict.MISSING),
        (Version(4, "b"), Verdict.MISSING),
        (Version(5, "b"), Verdict.APPLIED),
        (Version(5, "c"), Verdict.SUPERSEDED),
        (Version(6, "a"), Verdict.SUPERSEDED),
    ],
)
def test_what_came_first_at_the_same_time_stands_and_is_a_tie_of_the_next_pass(
    found: Version | None, verdict: Verdict
) -> None:
    assert judge_first(Version(5, "b"), found) is verdict


def test_newer_catalog_inputs_and_expirations_replace_older_ones_both_ways(site: SyncPair) -> None:
    site.a.apply("replace catalog inputs", inputs("n", site.ago(50), ONE))
    site.b.apply("replace catalog inputs", inputs("n", site.ago(10), TWO, ("x", "y")))
    site.a.apply("configure expiration", expiration("n", site.ago(10), expires=True))
    site.b.apply("configure expiration", expiration("n", site.ago(50), expires=False))
    assert moved(site.pull(site.a)) == {"catalog_inputs": 1}
    assert moved(site.pull(site.b)) == {"fact_expiration": 1}
    assert site.a.tables == site.b.tables
    assert site.a.nodes == site.b.nodes
    assert site.a.nodes["n"].expires_facts is True


def test_times_that_differ_below_a_millisecond_count_as_equal(site: SyncPair) -> None:
    """Servers store microseconds, or do not; what they show is cut to milliseconds."""
    ours, theirs = inputs("n", site.ago(5), ONE), inputs("n", site.ago(5), ONE)
    theirs["producer_timestamp"] = theirs["producer_timestamp"].replace("Z", "321Z")
    site.b.apply("replace catalog inputs", ours)
    site.a.apply("replace catalog inputs", theirs)
    assert moved(site.pull(site.b)) == {}
    assert left_alone(site) == {}


def test_ties_are_neither_pulled_nor_a_failure_and_both_sides_list_them(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    when = site.ago(60)
    for side, uuid, expires in ((site.a, ONE, True), (site.b, TWO, False)):
        side.apply("replace catalog inputs", inputs("n", when, uuid))
        side.apply("configure expiration", expiration("n", when, expires))
    for side in (site.a, site.b):
        caplog.clear()
        result = site.pull(side)
        assert result.ok
        assert moved(result) == {}
        assert {entity: part.tied for entity, part in result.entities.items() if part.tied} == {
            Entity.EXPIRATION: 1,
            Entity.INPUTS: 1,
        }
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warned) == 2
        assert "not pulled, same time, other content; PuppetDB keeps whichever it got first: n" in warned[1]
    assert left_alone(site) == {Entity.EXPIRATION: [("n", Difference.TIED)], Entity.INPUTS: [("n", Difference.TIED)]}


def test_neither_moves_for_a_node_that_is_not_active_at_the_remote(site: SyncPair) -> None:
    site.a.apply("replace catalog inputs", inputs("n", site.ago(50)))
    site.a.apply("configure expiration", expiration("n", site.ago(50)))
    site.a.apply("deactivate node", deactivation("n", site.ago(5)))
    assert moved(site.pull(site.b)) == {}
    assert site.b.nodes == {}


def test_inputs_alone_do_not_bring_a_dead_node_back(site: SyncPair) -> None:
    """The server counts only catalogs, factsets and reports against a deactivation, and so do we."""
    for side in (site.a, site.b):
        side.apply("replace facts", facts("n", site.ago(500)))
        side.apply("deactivate node", deactivation("n", site.ago(50)))
    site.a.apply("replace catalog inputs", inputs("n", site.ago(5)))
    assert moved(site.pull(site.b)) == {}
    assert moved(site.pull(site.a)) == {"nodes": 1}
    assert site.a.nodes["n"].deactivated == site.b.nodes["n"].deactivated is not None


def test_a_deactivation_that_the_local_server_rejects_fails_alone(site: SyncPair) -> None:
    for name in ("bad", "good"):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(name, site.ago(500)))
        site.a.apply("deactivate node", deactivation(name, site.ago(50)))
    site.b.refuses["bad"] = Rejected("b", 400, "no")
    result = site.pull(site.b)
    assert (result.entities[Entity.NODES].transferred, result.entities[Entity.NODES].failed) == (1, 1)
    assert (site.b.nodes["good"].deactivated is None, site.b.nodes["bad"].deactivated) == (False, None)


def test_inputs_from_the_future_are_held(site: SyncPair) -> None:
    site.a.apply("replace catalog inputs", inputs("n", site.ago(-3600)))
    result = site.pull(site.b)
    assert (moved(result), result.as_json()["held"]) == ({}, 1)


def test_a_remote_that_lost_all_its_inputs_is_told_and_the_other_entities_go_on(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace catalog inputs", inputs("n", site.ago(50)))
    site.pull(site.b)
    site.a.tables["catalog-inputs"].clear()
    site.a.apply("store report", report("n", site.ago(5), "r"))
    result = site.pull(site.b)
    assert [error.partition(":")[0] for error in result.errors] == ["catalog_inputs"]
    assert "reports no catalog_inputs at all, but had 1 before" in result.errors[0]
    assert moved(result) == {"reports": 1}
    assert site.b.tables["catalog-inputs"]


@pytest.mark.parametrize("command", ["replace catalog inputs", "replace catalog", "replace facts"])
def test_the_last_record_of_a_kind_may_go_with_its_node(site: SyncPair, command: str) -> None:
    """The brake looked as if the remote had been emptied, in every pass from then on."""
    payload = {
        "replace catalog inputs": inputs("n", site.ago(50)),
        "replace catalog": catalog("n", site.ago(50)),
        "replace facts": facts("n", site.ago(50)),
    }[command]
    for side in (site.a, site.b):
        for name in ("m1", "m2", "m3"):
            side.apply("store report", report(name, site.ago(50), "r"))
        side.apply(command, payload)
    site.pull(site.b)
    site.a.purge("n")
    for _ in range(3):
        assert site.pull(site.b).ok
        site.time.elapsed += 3600
    site.a.apply("deactivate node", deactivation("n", site.ago(5)))
    assert site.pull(site.b).ok


def test_the_last_expiration_may_go_with_its_node(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("m", site.ago(50)))
        side.apply("configure expiration", expiration("n", site.ago(50)))
    site.pull(site.b)
    site.a.purge("n")
    assert site.pull(site.b).ok


def test_inputs_that_are_queued_and_never_stored_fail(site: SyncPair) -> None:
    site.a.apply("replace catalog inputs", inputs("n", site.ago(5)))
    site.b.discards.add("n")
    result = site.pull(site.b)
    assert (result.entities[Entity.INPUTS].transferred, result.entities[Entity.INPUTS].failed) == (0, 1)


def test_the_inputs_arrive_as_they_were(site: SyncPair) -> None:
    site.a.apply("replace catalog inputs", inputs("n", site.ago(5), ONE, ("common", "b", "common")))
    site.pull(site.b)
    (command,) = site.b.submitted
    assert json.loads(command.body) == inputs("n", site.ago(5), ONE, ("common", "b", "common"))
