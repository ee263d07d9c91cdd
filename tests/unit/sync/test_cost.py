"""What a pass asks the servers: a converged pair costs its summary queries and no more."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pdbclient.sync import Entity

from .conftest import SyncPair
from .fake import FakePuppetDB, catalog, deactivation, facts, inputs, report


def fill(site: SyncPair) -> None:
    for number in range(30):
        name = f"n{number}"
        for side in (site.a, site.b):
            side.apply("replace facts", facts(name, site.ago(100)))
            side.apply("replace catalog", catalog(name, site.ago(100)))
            side.apply("replace catalog inputs", inputs(name, site.ago(100)))
            side.apply("store report", report(name, site.ago(7200), "r"))


def asked(server: FakePuppetDB) -> Counter[str]:
    found = Counter(path for path, _ in server.queries)
    server.queries.clear()
    return found


def test_a_pass_over_a_converged_pair_asks_each_side_each_summary_once(site: SyncPair) -> None:
    fill(site)
    site.pull(site.b)
    for server in (site.a, site.b):
        server.queries.clear()
    assert site.pull(site.b).ok
    for server in (site.a, site.b):
        # of the nodes their number, those that are not active, and the expirations
        assert asked(server).items() >= {"/nodes": 3, "/factsets": 1, "/catalogs": 1, "/catalog-inputs": 1}.items()


def test_inactive_nodes_are_listed_only_when_one_died_so_long_ago_that_it_may_be_purged(site: SyncPair) -> None:
    fill(site)

    def states() -> list[str]:
        site.a.queries.clear()
        assert site.pull(site.b).ok
        found = [query[2] for path, query in site.a.queries if path == "/nodes" and "deactivated" in query[1]]
        return ["flagged" if condition[0] == "and" else condition[2] for condition in found]

    assert states() == ["flagged"]
    for side in (site.a, site.b):
        side.apply("deactivate node", deactivation("n1", site.ago(50)))
    assert states() == ["flagged"]
    for side in (site.a, site.b):
        side.nodes["n2"].deactivated = site.ago(20 * 86_400)
    assert states() == ["flagged", "inactive"]


def test_the_nodes_are_looked_at_again_after_something_was_submitted(site: SyncPair) -> None:
    """A node may have been deactivated at the remote while its data came here and made it active."""
    fill(site)
    site.a.apply("replace facts", facts("n1", site.ago(5)))

    def deactivate(path: str, query: Any) -> Exception | None:
        if path == "/factsets" and query[0] == "and":
            site.a.apply("deactivate node", deactivation("n1", site.ago(1)))
        return None

    site.a.broken = deactivate
    result = site.pull(site.b)
    assert (result.entities[Entity.FACTS].transferred, result.entities[Entity.NODES].transferred) == (1, 1)
    assert site.b.nodes["n1"].deactivated == site.a.nodes["n1"].deactivated


def test_the_nodes_are_looked_at_again_after_a_long_pass(site: SyncPair) -> None:
    fill(site)

    def slow(path: str, query: Any) -> Exception | None:
        if path == "/catalogs":
            site.time.elapsed += 61
            site.a.apply("deactivate node", deactivation("n1", site.ago(1)))
        return None

    site.a.broken = slow
    assert site.pull(site.b).entities[Entity.NODES].transferred == 1


def test_a_deactivation_during_a_short_pass_that_moved_nothing_is_the_next_ones(site: SyncPair) -> None:
    fill(site)
    site.pull(site.b)

    def late(path: str, query: Any) -> Exception | None:
        if path == "/catalogs":
            site.a.apply("deactivate node", deactivation("n1", site.ago(1)))
        return None

    site.a.broken = late
    assert site.pull(site.b).entities[Entity.NODES].transferred == 0
    site.a.broken = lambda path, query: None
    assert site.pull(site.b).entities[Entity.NODES].transferred == 1


def test_each_entity_tells_how_long_it_took(site: SyncPair) -> None:
    fill(site)

    def slow(path: str, query: Any) -> Exception | None:
        if path == "/catalogs":
            site.time.elapsed += 7
        return None

    site.a.broken = slow
    result = site.pull(site.b)
    assert {entity: part.elapsed_ms for entity, part in result.entities.items()} == {
        entity: 7000 if entity is Entity.CATALOGS else 0 for entity in Entity
    }
    document = result.as_json()["entities"]
    assert document["catalogs"]["elapsed_ms"] == 7000
    assert set(document) == {str(entity) for entity in Entity}
