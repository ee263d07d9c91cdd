"""Passes about some entities, some nodes, or nothing old."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pdbclient.sync import Difference, Entity, Mode, Outcome, PassResult, Selection, Version, plan, reconcile
from pdbclient.sync.policy.classify import Nodes, ReportRow, Terms
from pdbclient.sync.policy.model import Liveness, NodeStatus
from pdbclient.sync.state.store import State, state_path

from .conftest import SyncPair
from .fake import FakePuppetDB, catalog, deactivation, facts, report
from .plans import plan_deactivations, plan_records, plan_reports

ACTIVE = NodeStatus(Liveness.ACTIVE)
WEB = Selection(certnames=("web*.example.com", "db[12]"))


def nothing(key: str, version: Version) -> Difference | None:
    return None


def pull(site: SyncPair, selection: Selection) -> PassResult:
    mode = Mode(selection)
    return reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


def state_of(site: SyncPair, local: FakePuppetDB) -> State:
    config = site.config(local)
    return State(state_path(config.state_dir, config.local), read_only=True)


@pytest.mark.parametrize(
    ("certname", "selected"),
    [
        ("web1.example.com", True),
        ("web.example.com", True),
        ("web1.example.org", False),
        ("db1", True),
        ("db3", False),
        ("Web1.example.com", False),
    ],
)
def test_certnames_are_matched_as_shell_patterns_with_regard_to_case(certname: str, selected: bool) -> None:
    assert WEB.names(certname) is selected
    assert Selection().names(certname)


@pytest.mark.parametrize(
    ("selection", "name"),
    [
        (Selection(), ""),
        (Selection(entities=frozenset(Entity) - {Entity.INPUTS}), ""),
        (Selection(certnames=("*",)), "0 *"),
        (Selection(certnames=("web*", "db*")), "0 db* web*"),
        (Selection(max_age=1e5), "100000"),
        (Selection(certnames=("a",), max_age=1.5), "1.5 a"),
    ],
)
def test_a_selection_has_a_name_by_what_is_left_out_of_an_entity(selection: Selection, name: str) -> None:
    assert selection.name == name


@pytest.mark.parametrize(
    "selection",
    [Selection(certnames=("web*",)), Selection(max_age=86400.0), Selection(entities=frozenset({Entity.REPORTS}))],
)
def test_a_lasting_selection_is_remembered_as_the_whole_is(site: SyncPair, selection: Selection) -> None:
    """Every pass listed all there was, as an audit does, and reports that are dropped here came again each time."""
    for number in range(12):
        for name in ("web1", "db1"):
            site.a.apply("store report", report(name, site.ago(5000 * number + 60), f"{name}{number}"))
    mode = Mode(selection)

    def asked() -> int:
        site.a.queries.clear()
        result = reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]
        assert result.ok
        return sum(query[:2] == ["extract", ["hash"]] for path, query in site.a.queries if path == "/reports")

    first = asked()
    asked()
    assert first > 0
    assert asked() == 0, "no hour is listed in full"
    # Another selection begins anew, and the whole is no other's.
    assert site.pull(site.b).ok
    wanted = {key for key, row in site.a.tables["reports"].items()}
    assert set(site.b.tables["reports"]) == wanted


def test_what_is_not_selected_is_neither_pulled_nor_listed() -> None:
    terms = Terms(10_000, earliest=100, selection=WEB)
    names = {"web1.example.com": 100, "web2.example.com": 99, "other": 200, "db1": 20_000}
    nodes = Nodes(dict.fromkeys(names, ACTIVE), {})
    there = {name: Version(millis, "a") for name, millis in names.items()}
    made = plan_records(Entity.FACTS, there, {}, nodes, terms, nothing)
    assert (list(made.pull), list(made.skipped)) == (["web1.example.com"], [("db1", Difference.FUTURE)])
    rows = [ReportRow(name, name, millis) for name, millis in names.items()]
    made = plan_reports(rows, set(), nodes, terms, nothing)
    assert (list(made.pull), list(made.skipped)) == (["web1.example.com"], [("db1", Difference.FUTURE)])
    dead = {name: NodeStatus(Liveness.INACTIVE, deactivated=millis) for name, millis in names.items()}
    made = plan_deactivations(Nodes(dead, dict.fromkeys(names, ACTIVE)), {}, terms, nothing)
    assert (list(made.pull), list(made.skipped)) == (["web1.example.com"], [("db1", Difference.FUTURE)])


def fill(site: SyncPair) -> None:
    for number in range(4):
        name = f"n{number}"
        site.a.apply("replace facts", facts(name, site.ago(100 * 10**number)))
        site.a.apply("replace catalog", catalog(name, site.ago(100 * 10**number)))
        site.a.apply("store report", report(name, site.ago(100 * 10**number), "r"))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(entities=frozenset({Entity.CATALOGS})), {"catalogs": 4}),
        (Selection(certnames=("n[01]",)), {"facts": 2, "catalogs": 2, "reports": 2}),
        (Selection(max_age=5000.0), {"facts": 2, "catalogs": 2, "reports": 2}),
        (Selection(frozenset({Entity.FACTS, Entity.REPORTS}), ("n0", "n3"), 5000.0), {"facts": 1, "reports": 1}),
    ],
)
def test_a_pass_and_its_plan_keep_to_the_selection(
    site: SyncPair, selection: Selection, expected: dict[str, int]
) -> None:
    fill(site)
    planned = plan(site.config(site.b), site.a.endpoint, mode=Mode(selection), connect=site.connect, clock=site.clock)
    assert {str(part.entity): len(part.pull) for part in planned if part.pull} == expected
    assert {part.entity for part in planned} == selection.entities
    assert moved(pull(site, selection)) == expected
    assert moved(pull(site, selection)) == {}
    assert moved(site.pull(site.b)) == {
        name: 4 - expected.get(name, 0) for name in ("facts", "catalogs", "reports") if expected.get(name, 0) < 4
    }


def test_a_selective_pass_notes_how_much_the_remote_has_in_all(site: SyncPair) -> None:
    """Where all passes are selective, there was no brake when the remote was emptied."""
    fill(site)
    assert pull(site, Selection(certnames=("n0",))).ok
    state = state_of(site, site.b)
    assert [state.seen(site.a.endpoint.url, entity) for entity in (Entity.NODES, Entity.FACTS)] == [4, 4]
    state.close()
    for name in list(site.a.nodes):
        site.a.purge(name)
    assert pull(site, Selection(certnames=("n0",))).outcome is Outcome.REFUSED


def test_the_brakes_hold_in_a_selective_pass_too(site: SyncPair) -> None:
    fill(site)
    site.pull(site.b)
    for name in list(site.a.nodes):
        site.a.purge(name)
    result = pull(site, Selection(certnames=("nobody",)))
    assert result.outcome is Outcome.REFUSED
    assert "no nodes at all" in result.errors[0]


def test_deactivations_are_left_alone_when_nodes_are_not_selected(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("n", site.ago(500)))
    site.a.apply("deactivate node", deactivation("n", site.ago(50)))
    assert moved(pull(site, Selection(entities=frozenset(Entity) - {Entity.NODES}))) == {}
    assert moved(site.pull(site.b)) == {"nodes": 1}


def test_the_configuration_selects_for_passes_that_do_not_say_so_themselves(site: SyncPair) -> None:
    fill(site)
    config = replace(site.config(site.b), entities=("facts", "catalogs"), certnames=("n[012]",), max_age=5000.0)
    assert Mode.configured(config) == Mode(Selection(frozenset({Entity.FACTS, Entity.CATALOGS}), ("n[012]",), 5000.0))
    assert moved(reconcile(config, connect=site.connect, clock=site.clock)[0]) == {"facts": 2, "catalogs": 2}
    assert moved(reconcile(config, mode=Mode(), connect=site.connect, clock=site.clock)[0])["facts"] == 2
