"""What no hash covers: settled where the server takes it, listed where it does not."""

from __future__ import annotations

import pytest

from pdbclient.sync import Difference, Entity
from pdbclient.sync.run.diff import Diff, Scope, diff

from .conftest import SyncPair
from .fake import CATALOG_UUID, Row, catalog, facts, inputs, report

OF_CATALOGS = {
    "environment": ("production", "test"),
    "catalog_uuid": (CATALOG_UUID, CATALOG_UUID.replace("1e", "2f")),
    "code_id": (None, "c2"),
    "job_id": (None, "7"),
    "version": ("1", "2"),
    "producer": (None, "p2"),
}


def compare(site: SyncPair, *, full: bool = True) -> Diff:
    config = site.config(site.b)
    return diff(config, config.remotes[0].endpoint, Scope(full=full), connect=site.connect, clock=site.clock)


def counted(found: Diff) -> dict[Entity, dict[Difference, int]]:
    return {part.entity: dict(part.counts) for part in found.entities if part.counts}


@pytest.mark.parametrize("field", OF_CATALOGS)
def test_catalogs_of_one_time_and_hash_become_the_same_everywhere(site: SyncPair, field: str) -> None:
    less, greater = OF_CATALOGS[field]
    at = site.ago(50)
    site.a.apply("replace catalog", {**catalog("n", at, uuid="u"), field: greater})
    site.b.apply("replace catalog", {**catalog("n", at, uuid="u"), field: less})
    assert counted(compare(site, full=False)) == {Entity.CATALOGS: {Difference.UNEQUAL: 1}}
    assert site.pull(site.a).entities[Entity.CATALOGS].transferred == 0, "the other side has the greater one"
    assert site.pull(site.b).entities[Entity.CATALOGS].transferred == 1
    assert site.a.tables["catalogs"] == site.b.tables["catalogs"]
    assert site.pull(site.b).entities[Entity.CATALOGS].transferred == 0
    assert compare(site).equal


def test_so_does_who_sent_the_facts(site: SyncPair) -> None:
    at = site.ago(50)
    site.a.apply("replace facts", {**facts("n", at), "producer": "p2"})
    site.b.apply("replace facts", {**facts("n", at), "producer": "p1"})
    assert site.pull(site.b).entities[Entity.FACTS].transferred == 1
    assert site.a.tables["factsets"] == site.b.tables["factsets"]


@pytest.mark.releases
def test_other_inputs_of_one_catalog_are_listed_by_a_full_comparison(site: SyncPair) -> None:
    """PuppetDB keeps those that came first."""
    for name in ("same", "other"):
        site.a.apply("replace catalog inputs", inputs(name, site.ago(50), names=("x", "y")))
    site.b.apply("replace catalog inputs", inputs("same", site.ago(50), names=("y", "x")))
    site.b.apply("replace catalog inputs", inputs("other", site.ago(50), names=("x", "z")))
    assert site.pull(site.b).entities[Entity.INPUTS].transferred == 0
    assert counted(compare(site, full=False)) == {}
    found = compare(site)
    assert counted(found) == {Entity.INPUTS: {Difference.TIED: 1}}
    assert found.equal
    ((example,),) = (part.examples for part in found.entities if part.examples)
    assert example.certname == "other"


OUTCOMES: dict[str, object] = {"status": "failed", "noop": True, "corrective_change": True, "environment": "test"}


@pytest.mark.parametrize("field", OUTCOMES)
def test_another_outcome_of_one_report_is_listed_by_a_full_comparison(site: SyncPair, field: str) -> None:
    def fill(row: Row) -> Row:
        return {**row, field: OUTCOMES[field]}

    site.a.apply("store report", report("n", site.ago(50), "u"))
    site.b.apply("store report", fill(report("n", site.ago(50), "u")))
    site.a.apply("store report", report("n", site.ago(40), "v"))
    site.b.apply("store report", report("n", site.ago(40), "v"))
    assert site.a.tables["reports"].keys() == site.b.tables["reports"].keys(), "the hash does not cover it"
    assert site.pull(site.b).entities[Entity.REPORTS].transferred == 0
    assert counted(compare(site, full=False)) == {}
    found = compare(site)
    assert counted(found) == {Entity.REPORTS: {Difference.TIED: 1}}
    assert found.equal


def test_what_differs_in_its_hash_alone_is_told_once_and_warned_of_never(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    """A WARNING for each node and run: somebody's catalogs had keys that PuppetDB does not keep."""
    caplog.set_level("INFO")
    site.b.mangles = {f"n{number}" for number in range(8)}
    for name in site.b.mangles:
        site.a.apply("replace catalog", catalog(name, site.ago(50)))
    first = site.pull(site.b)
    assert (first.ok, first.entities[Entity.CATALOGS].unequal) == (True, 8)
    told = [record.levelname for record in caplog.records if "another hash" in record.getMessage()]
    assert told == ["INFO"]
    caplog.clear()
    again = site.pull(site.b)
    # Of some, the hash here is the greater one: there is nothing to pull.
    assert again.entities[Entity.CATALOGS].transferred == 0
    assert 0 < again.entities[Entity.CATALOGS].unequal < 8
    assert [record for record in caplog.records if "another hash" in record.getMessage()] == []
    assert counted(compare(site)) == {Entity.CATALOGS: {Difference.SAME_CONTENT: 8}}


def test_what_also_says_something_else_is_warned_of(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    site.a.apply("replace facts", facts("n", site.ago(50), "there"))
    site.b.mangles = {"n"}
    apply = site.b.apply

    def other(name: str, payload: Row) -> None:
        apply(name, {**payload, "values": {"v": "here"}} if name == "replace facts" else payload)

    site.b.apply = other  # type: ignore[method-assign]
    assert site.pull(site.b).entities[Entity.FACTS].unequal == 1
    assert any(record.levelname == "WARNING" and "another hash" in record.getMessage() for record in caplog.records)
    assert counted(compare(site)) == {Entity.FACTS: {Difference.KNOWN_UNEQUAL: 1}}
