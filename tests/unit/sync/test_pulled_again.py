"""What the remote gives is looked at again before it is submitted: it is not always what it listed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pdbclient.sync import Entity, Mode, PassResult, reconcile
from pdbclient.sync.policy.model import Difference
from pdbclient.sync.run.reconciler import plan
from pdbclient.wire.summary import from_millis

from ...versions import PUPPETDB_7_12
from .conftest import SyncPair
from .fake import Row, catalog, deactivation, facts, inputs, report

Forge = Callable[[list[Row]], list[Row]]


def forge(site: SyncPair, path: str, change: Forge) -> None:
    """Whole records of `path` come from the remote as `change` makes them; listings stay as they are."""
    rows = site.a.rows

    def forged(where: str, *, query: Any = None, **options: Any) -> Iterator[bytes]:
        answer = rows(where, query=query, **options)
        if where != path or query[0] == "extract":
            yield from answer
            return
        for row in change([json.loads(each) for each in answer]):
            yield json.dumps(row).encode()

    site.a.rows = forged  # type: ignore[method-assign, assignment]


def fill(site: SyncPair, *certnames: str) -> None:
    for certname in certnames:
        site.a.apply("replace facts", facts(certname, site.ago(500)))
        site.a.apply("replace catalog", catalog(certname, site.ago(500)))
        site.a.apply("replace catalog inputs", inputs(certname, site.ago(500)))
        site.a.apply("store report", report(certname, site.ago(500), "r"))


def counts(result: PassResult, entity: Entity) -> tuple[int, int]:
    return result.entities[entity].transferred, result.entities[entity].failed


def changed(name: str, **fields: object) -> Forge:
    return lambda rows: [{**row, **fields} if row["certname"] == name else row for row in rows]


PATHS = {
    Entity.FACTS: "/factsets",
    Entity.CATALOGS: "/catalogs",
    Entity.INPUTS: "/catalog-inputs",
    Entity.REPORTS: "/reports",
}


@pytest.mark.parametrize("entity", PATHS)
def test_a_record_older_than_it_was_listed_is_not_submitted(
    entity: Entity, site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    fill(site, "n", "m")
    forge(site, PATHS[entity], changed("n", producer_timestamp=from_millis(site.ago(900))))
    result = site.pull(site.b)
    assert counts(result, entity) == (1, 1)
    assert sum(part.failed for part in result.entities.values()) == 1
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert " of n: failed" in told[0]
    assert "was listed as of" in told[0]


@pytest.mark.parametrize("entity", PATHS)
def test_a_record_of_another_node_than_it_was_listed_for_is_not_submitted(entity: Entity, site: SyncPair) -> None:
    fill(site, "n", "m")
    forge(site, PATHS[entity], changed("n", certname="victim"))
    result = site.pull(site.b)
    assert counts(result, entity) == (1, 1)
    assert "victim" not in site.b.nodes


@pytest.mark.parametrize("entity", PATHS)
def test_a_record_that_nobody_asked_for_is_not_submitted(entity: Entity, site: SyncPair) -> None:
    fill(site, "n", "m")
    stray = {"certname": "victim", "hash": "0" * 40}
    forge(site, PATHS[entity], lambda rows: [{**rows[0], **stray}, *rows])
    result = site.pull(site.b)
    assert counts(result, entity) == (2, 1)
    assert "victim" not in site.b.nodes


def test_a_server_that_answers_another_question_is_not_heard_to_the_end(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    fill(site, "n", "m")
    forge(site, "/factsets", lambda rows: [{**rows[0], "certname": f"x{number}"} for number in range(1000)])
    result = site.pull(site.b)
    assert result.entities[Entity.FACTS].transferred == 0
    assert result.entities[Entity.CATALOGS].transferred == 2
    assert sum(record.levelno == logging.ERROR for record in caplog.records) < 20


@pytest.mark.parametrize("entity", PATHS)
def test_a_record_that_comes_twice_is_submitted_once(entity: Entity, site: SyncPair) -> None:
    fill(site, "n")
    forge(site, PATHS[entity], lambda rows: rows * 2)
    assert counts(site.pull(site.b), entity) == (1, 0)
    assert len(site.b.submitted) == 4


def test_a_record_replaced_by_one_from_the_future_is_left_alone_and_counted_as_held(site: SyncPair) -> None:
    fill(site, "n", "m")

    def meanwhile(path: str, query: Any) -> Exception | None:
        if path == "/factsets" and query[0] == "and":
            site.a.apply("replace facts", facts("n", site.ago(-86_400)))
        return None

    site.a.broken = meanwhile
    result = site.pull(site.b)
    assert counts(result, Entity.FACTS) == (1, 0)
    assert result.entities[Entity.FACTS].held == 1
    assert "n" not in site.b.tables["factsets"]


def test_a_record_replaced_by_a_newer_one_comes_as_that(site: SyncPair) -> None:
    fill(site, "n")

    def meanwhile(path: str, query: Any) -> Exception | None:
        if path == "/factsets" and query[0] == "and":
            site.a.apply("replace facts", facts("n", site.ago(5), "new"))
        return None

    site.a.broken = meanwhile
    assert counts(site.pull(site.b), Entity.FACTS) == (1, 0)
    assert site.b.tables["factsets"]["n"]["values"] == {"v": "new"}


@pytest.mark.parametrize(
    ("command", "made"),
    [("replace facts", facts), ("replace catalog", catalog), ("replace catalog inputs", inputs)],
)
@pytest.mark.parametrize("ours", [5, 4, 6])
def test_a_record_that_both_sides_got_meanwhile_is_not_submitted_once_more(
    site: SyncPair, command: str, made: Any, ours: int
) -> None:
    """As a broadcast of commands brings it, between the listing and the transfer."""
    fill(site, "n")
    entity = {facts: Entity.FACTS, catalog: Entity.CATALOGS, inputs: Entity.INPUTS}[made]

    def meanwhile(path: str, query: Any) -> Exception | None:
        if path == PATHS[entity] and query[0] == "and":
            site.a.apply(command, made("n", site.ago(5)))
            site.b.apply(command, made("n", site.ago(ours)))
        return None

    site.a.broken = meanwhile
    result = site.pull(site.b)
    assert (result.ok, counts(result, entity)) == (True, (1 if ours > 5 else 0, 0))
    assert [sent.name for sent in site.b.submitted].count(command) == (1 if ours > 5 else 0)


def test_a_record_newer_than_the_node_s_deactivation_does_not_come_in_a_one_way_pass(site: SyncPair) -> None:
    """It would make the node active here, which is not what the pass believes of it."""
    fill(site, "n")
    site.a.apply("deactivate node", deactivation("n", site.ago(100)))

    def meanwhile(path: str, query: Any) -> Exception | None:
        if path == "/factsets" and query[0] == "and":
            site.a.tables["factsets"]["n"]["producer_timestamp"] = from_millis(site.ago(50))
        return None

    site.a.broken = meanwhile
    mode = Mode(one_way=True)
    result = reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]
    assert counts(result, Entity.FACTS) == (0, 0)
    assert counts(result, Entity.CATALOGS) == (1, 0)
    assert site.b.nodes["n"].deactivated is not None


def test_the_older_of_two_catalogs_that_a_node_has_is_neither_submitted_nor_failed(site: SyncPair) -> None:
    assert not PUPPETDB_7_12.one_catalog
    fill(site, "n")
    site.a.double_catalog("n", catalog("n", site.ago(900), "older"))
    assert counts(site.pull(site.b), Entity.CATALOGS) == (1, 0)
    assert [command.name for command in site.b.submitted].count("replace catalog") == 1


def test_what_contradicts_its_listing_again_and_again_is_quarantined(site: SyncPair) -> None:
    fill(site, "n")
    forge(site, "/factsets", changed("n", producer_timestamp=from_millis(site.ago(900))))
    for _ in range(3):
        assert counts(site.pull(site.b), Entity.FACTS) == (0, 1)
        site.time.elapsed += 7200
    planned = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    (facts_plan,) = (part for part in planned if part.entity is Entity.FACTS)
    assert list(facts_plan.skipped) == [("n", Difference.QUARANTINED)]
