"""An entity that a server cannot answer about fails by name; the others are reconciled, compared, counted, judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pdbclient.errors import Forbidden, IncompleteResponse, NotFound, Rejected, ServerError
from pdbclient.observe.exposition import exposition
from pdbclient.sync.policy.model import Entity, Mode, Outcome, PassResult, Selection
from pdbclient.sync.run.diff import diff
from pdbclient.sync.run.reconciler import plan
from pdbclient.sync.run.seed import outstanding, seed
from pdbclient.sync.service.metrics import Counted, SyncMetrics
from pdbclient.sync.state.status import RemoteStatus, read_status

from .conftest import SyncPair
from .fake import FakePuppetDB, catalog, deactivation, expiration, facts, inputs, report

JOIN = ServerError("https://a.example.com:8081", 500, 'ERROR: missing FROM-clause entry for table "certnames"')
ERRORS = [
    JOIN,
    Rejected("a", 400, "Unsupported query parameter"),
    NotFound("a", 404, "no such address"),
    Forbidden("a", 403, "denied"),
    IncompleteResponse("a", "the answer breaks off"),
]
UUID = "11111111-2222-4333-8444-555555555555"
QUERIES: dict[Entity, Callable[[str, Any], bool]] = {
    Entity.EXPIRATION: lambda path, query: path == "/nodes" and "expires_facts_updated" in str(query),
    Entity.FACTS: lambda path, query: path == "/factsets",
    Entity.CATALOGS: lambda path, query: path == "/catalogs",
    Entity.INPUTS: lambda path, query: path == "/catalog-inputs",
    Entity.REPORTS: lambda path, query: path == "/reports",
}


def fill(site: SyncPair, server: FakePuppetDB) -> None:
    """One of everything."""
    server.apply("configure expiration", expiration("n", site.ago(50)))
    server.apply("replace facts", facts("n", site.ago(40)))
    server.apply("replace catalog", catalog("n", site.ago(30)))
    server.apply("replace catalog inputs", inputs("n", site.ago(20)))
    server.apply("store report", report("n", site.ago(10), UUID))


def breaks(server: FakePuppetDB, entity: Entity, error: Exception) -> None:
    server.broken = lambda path, query: error if QUERIES[entity](path, query) else None


def status(site: SyncPair) -> RemoteStatus:
    return read_status(site.config(site.b), site.clock.wall())[0]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("entity", QUERIES)
@pytest.mark.parametrize("side", ["remote", "local"])
def test_the_others_are_done_and_it_is_named(site: SyncPair, entity: Entity, error: Exception, side: str) -> None:
    fill(site, site.a)
    breaks(site.a if side == "remote" else site.b, entity, error)
    result = site.pull(site.b)
    assert (result.outcome, result.ok) == (Outcome.DONE, False)
    assert len(result.errors) == 1
    assert result.errors[0].startswith(f"{entity}: ")
    moved = {each for each, part in result.entities.items() if part.transferred}
    assert moved == set(QUERIES) - {entity}
    found = status(site)
    assert {each for each, part in found.entities.items() if part.last_error} == {entity}
    assert found.entities[entity].last_success is None
    assert all(part.last_success for each, part in found.entities.items() if each is not entity)
    text = exposition(SyncMetrics([found], {}), Counted()).decode()
    assert f'entity_succeeded{{entity="{entity}",remote="{site.a.endpoint.url}"}} 0.0' in text
    assert text.count("pdbclient_sync_entity_success_time{") == len(Entity) - 1


def test_it_is_done_once_the_server_answers_and_the_status_says_when(site: SyncPair) -> None:
    fill(site, site.a)
    breaks(site.a, Entity.FACTS, JOIN)
    assert not site.pull(site.b).ok
    first = site.clock.wall()
    site.a.broken = lambda path, query: None
    site.time.wait(100)
    assert site.pull(site.b).ok
    part = status(site).entities[Entity.FACTS]
    assert part.last_error is None
    assert part.last_success is not None
    assert part.last_success > first
    breaks(site.a, Entity.FACTS, JOIN)
    site.time.wait(100)
    assert not site.pull(site.b).ok
    again = status(site).entities[Entity.FACTS]
    assert (again.last_success, again.last_error) == (part.last_success, str(JOIN)), "when it was last done stays"


def test_a_comparison_says_what_it_could_not_compare_and_is_never_equal_then(site: SyncPair) -> None:
    breaks(site.a, Entity.EXPIRATION, JOIN)
    found = diff(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    assert (found.equal, found.complete) == (False, False)
    assert {part.entity: part.error for part in found.entities if part.error} == {Entity.EXPIRATION: str(JOIN)}
    assert [each["error"] for each in found.as_json()["entities"].values()].count(None) == len(Entity) - 1
    site.a.broken = lambda path, query: None
    found = diff(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    assert (found.equal, found.complete) == (True, True)


@pytest.mark.parametrize("entity", QUERIES)
def test_a_dry_run_plans_the_others(site: SyncPair, entity: Entity) -> None:
    fill(site, site.a)
    breaks(site.a, entity, JOIN)
    parts = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    assert {part.entity for part in parts if part.error} == {entity}
    assert {part.entity for part in parts if part.pull} == set(QUERIES) - {entity}


@pytest.mark.parametrize("entity", QUERIES)
def test_an_empty_server_is_seeded_with_the_others(
    site: SyncPair, entity: Entity, caplog: pytest.LogCaptureFixture
) -> None:
    fill(site, site.a)
    breaks(site.a, entity, JOIN)
    config = site.config(site.b)
    lacking = outstanding(config, site.a.endpoint, Selection(), connect=site.connect, clock=site.clock)
    assert lacking == len(QUERIES) - 1
    assert f"how many {entity} are lacking cannot be told" in caplog.text
    results: list[PassResult] = list(
        seed(config, site.a.endpoint, Mode(seed=True), connect=site.connect, clock=site.clock)
    )
    assert sum(part.transferred for part in results[0].entities.values()) == len(QUERIES) - 1
    assert len(results) == 2, "until nothing moves"
    assert not results[-1].ok


def test_without_the_nodes_there_is_no_pass_and_the_status_names_them(site: SyncPair) -> None:
    fill(site, site.a)
    site.a.broken = lambda path, query: JOIN if path == "/nodes" and "deactivated" in str(query) else None
    result = site.pull(site.b)
    assert (result.outcome, result.errors) == (Outcome.UNREACHABLE, [str(JOIN)])
    assert {entity: part.last_error for entity, part in status(site).entities.items()} == {Entity.NODES: str(JOIN)}
    assert site.b.submitted == []


def test_dead_nodes_stay_dead_while_their_newest_records_are_not_known(site: SyncPair) -> None:
    """A node that is dead here and active there comes back only for a record that is newer than its death."""
    fill(site, site.a)
    site.b.apply("replace facts", facts("n", site.ago(60)))
    site.b.apply("deactivate node", deactivation("n", site.ago(55)))
    site.a.apply("replace facts", facts("m", site.ago(15)))

    def newest(path: str, query: Any) -> Exception | None:
        return JOIN if path == "/catalogs" and "max" in str(query) else None

    site.a.broken = newest
    result = site.pull(site.b)
    assert [error.partition(":")[0] for error in result.errors] == [Entity.NODES]
    assert set(site.b.tables["factsets"]) == {"n", "m"}
    assert site.b.nodes["n"].deactivated is not None
    site.a.broken = lambda path, query: None
    assert site.pull(site.b).ok
    assert site.b.nodes["n"].deactivated is None
