"""Records whose certname cannot be used fail alone: servers before 7.9 stored some (PDB-5282)."""

from __future__ import annotations

from typing import Any

import pytest

from pdbclient.sync import Difference, Entity, PassResult, plan
from pdbclient.sync.policy.classify import Nodes, Terms
from pdbclient.sync.policy.liveness import dead_for_good
from pdbclient.sync.policy.model import Liveness, NodeStatus

from .conftest import SyncPair
from .fake import FakeNode, FakePuppetDB, catalog, facts, inputs, report
from .plans import plan_deactivations


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


def nameless(server: FakePuppetDB, name: Any, millis: int) -> None:
    """Records that the server took before it knew better."""
    server.nodes[name] = FakeNode()
    for table, row in (
        ("factsets", {**facts("x", millis), "hash": "h1"}),
        ("catalogs", {**catalog("x", millis), "hash": "h2"}),
        ("catalog-inputs", inputs("x", millis)),
        ("reports", {**report("x", millis, "r"), "hash": "h3"}),
    ):
        server.tables[table][name] = {**row, "certname": name}


@pytest.mark.parametrize("name", ["", None])
def test_a_record_without_a_certname_is_refused_and_the_others_arrive(
    site: SyncPair, name: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        site.a.apply("replace facts", facts(f"n{number}", site.ago(5)))
        site.a.apply("replace catalog", catalog(f"n{number}", site.ago(5)))
        site.a.apply("replace catalog inputs", inputs(f"n{number}", site.ago(5)))
        site.a.apply("store report", report(f"n{number}", site.ago(5), "r"))
    nameless(site.a, name, site.ago(50))
    plans = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    skipped = {part.entity: list(part.skipped) for part in plans if part.skipped}
    assert skipped == {
        Entity.FACTS: [("", Difference.NAMELESS)],
        Entity.CATALOGS: [("", Difference.NAMELESS)],
        Entity.INPUTS: [("", Difference.NAMELESS)],
        Entity.REPORTS: [("h3", Difference.NAMELESS)],
    }
    result = site.pull(site.b)
    assert result.ok
    assert moved(result) == {"facts": 3, "catalogs": 3, "catalog_inputs": 3, "reports": 3}
    assert set(site.b.nodes) == {"n0", "n1", "n2"}
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("without a usable certname" in message for message in warned) == 4


@pytest.mark.parametrize("name", ["", None])
def test_a_node_without_a_certname_is_never_deactivated(site: SyncPair, name: Any) -> None:
    for side in (site.a, site.b):
        nameless(side, name, site.ago(50))
    site.a.nodes[name].deactivated = site.ago(5)
    assert moved(site.pull(site.b)) == {}
    assert site.b.nodes[name].deactivated is None


@pytest.mark.parametrize("name", ["", None])
def test_a_nameless_record_here_disturbs_nothing(site: SyncPair, name: Any) -> None:
    nameless(site.b, name, site.ago(50))
    site.a.apply("replace facts", facts("n", site.ago(5)))
    assert moved(site.pull(site.b)) == {"facts": 1}


def test_the_reason_is_given_for_a_deactivation_too() -> None:
    dead = NodeStatus(Liveness.INACTIVE, deactivated=500)
    nodes = Nodes({"": dead}, {"": NodeStatus(Liveness.ACTIVE)})
    made = plan_deactivations(nodes, {}, Terms(1000), lambda key, version: None)
    assert list(made.skipped) == [("", Difference.NAMELESS)]
    assert dead_for_good(nodes, {}) == frozenset()
