"""A pass over many records asks for groups first, and lists what differs; everything when its turn has come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdbclient.sync import Entity, Mode, PassResult, reconcile
from pdbclient.sync.inventory import groups
from pdbclient.sync.inventory.kinds import CATALOGS, FACTS, INPUTS, Kind
from pdbclient.sync.run import records

from .conftest import SyncPair
from .fake import FakePuppetDB, catalog, facts, inputs

DAY = 86_400.0


@pytest.fixture(autouse=True)
def _many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with thousands of nodes."""
    monkeypatch.setattr(records, "MANY", 0)
    monkeypatch.setattr(groups, "FEW", 0)


def fill(site: SyncPair, number: int = 30) -> None:
    for n in range(number):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(f"n{n}", site.ago(1000 + 600 * n)))
            side.apply("replace catalog", catalog(f"n{n}", site.ago(1000 + 600 * n)))
            side.apply("replace catalog inputs", inputs(f"n{n}", site.ago(1000 + 600 * n)))


def pull(site: SyncPair, mode: Mode | None = None) -> PassResult:
    for server in (site.a, site.b):
        server.queries.clear()
    result = reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]
    assert result.ok, result
    return result


def converged(site: SyncPair) -> None:
    fill(site)
    pull(site)


def moved(result: PassResult) -> dict[Entity, int]:
    return {entity: part.transferred for entity, part in result.entities.items() if part.transferred}


def listings(server: FakePuppetDB, *kinds: Kind) -> list[Any]:
    """The queries for rows of facts and catalogs: neither for groups nor for certain nodes."""
    columns = [kind.listing[1] for kind in kinds or (FACTS, CATALOGS, INPUTS) if kind.listing]
    return [
        query
        for _, query in server.queries
        if query[:2] in [["extract", each] for each in columns] and not named(query)
    ]


def named(query: Any) -> bool:
    return '["in", "certname"' in json.dumps(query)


def in_full(server: FakePuppetDB) -> int:
    return sum(query in (FACTS.listing, CATALOGS.listing, INPUTS.listing) for _, query in server.queries)


def test_a_converged_pass_lists_nothing(site: SyncPair) -> None:
    converged(site)
    assert moved(pull(site)) == {}
    assert [listings(site.a), listings(site.b)] == [[], []]


def test_what_changed_is_listed_by_the_minute_and_pulled(site: SyncPair) -> None:
    converged(site)
    site.a.apply("replace facts", facts("n7", site.ago(5)))
    site.a.apply("replace catalog", catalog("new", site.ago(5)))
    site.a.apply("replace catalog inputs", inputs("n9", site.ago(5)))
    assert moved(pull(site)) == {Entity.FACTS: 1, Entity.CATALOGS: 1, Entity.INPUTS: 1}
    for server in (site.a, site.b):
        assert in_full(server) == 0
        (of_facts,) = listings(server, FACTS)
        # When it ran before, and now.
        assert json.dumps(of_facts).count('">="') == 2
    assert moved(pull(site)) == {}
    assert listings(site.b) == []


def test_only_rows_of_differing_groups_cross_the_wire(site: SyncPair) -> None:
    converged(site)
    site.a.apply("replace facts", facts("n7", site.ago(5)))
    sent: list[bytes] = []
    rows = site.a.rows

    def counted(path: str, *, query: Any = None, **options: Any) -> Any:
        for row in rows(path, query=query, **options):
            if query in listings(site.a, FACTS):
                sent.append(row)
            yield row

    site.a.rows = counted  # type: ignore[method-assign]
    assert moved(pull(site)) == {Entity.FACTS: 1}
    assert len(sent) == 1


def test_where_most_differs_all_is_listed(site: SyncPair) -> None:
    converged(site)
    for n in range(20):
        site.a.apply("replace facts", facts(f"n{n}", site.ago(5)))
    assert moved(pull(site)) == {Entity.FACTS: 20}
    assert in_full(site.a) == 1


def test_what_groups_do_not_show_is_found_when_all_is_listed_again(site: SyncPair) -> None:
    """Two nodes of one minute, with each other's times: as many, the same hashes, the same newest."""
    for side, (first, second) in ((site.a, (1, 2)), (site.b, (2, 1))):
        side.apply("replace facts", facts("n1", site.ago(1000) // 60_000 * 60_000 + first))
        side.apply("replace facts", facts("n2", site.ago(1000) // 60_000 * 60_000 + second))
        side.apply("replace facts", facts("n3", site.ago(1000) // 60_000 * 60_000 + 3))
    there, here = ({row["hash"] for row in side.tables["factsets"].values()} for side in (site.a, site.b))
    assert there == here
    # As if all had been listed before that.
    site_b = {name: row for name, row in site.b.tables["factsets"].items()}
    site.b.tables["factsets"] = dict(site.a.tables["factsets"])
    pull(site)
    site.b.tables["factsets"] = site_b
    assert moved(pull(site)) == {}
    site.time.elapsed += DAY + 1
    assert moved(pull(site)) == {Entity.FACTS: 1}
    assert in_full(site.a) == 3


def test_an_audit_lists_all(site: SyncPair) -> None:
    converged(site)
    pull(site, Mode(audit=True))
    assert in_full(site.a) == 3


def test_after_the_clock_was_set_back_all_is_listed(site: SyncPair) -> None:
    converged(site)
    site.time.elapsed -= 3600
    pull(site)
    assert in_full(site.a) == 3


def test_what_did_not_become_equal_is_remembered_while_its_group_shows_nothing_of_it(site: SyncPair) -> None:
    """Neither the least nor the greatest hash of its minute: its group looks alike on both sides."""
    fill(site)
    site.b.mangles = {f"m{n}" for n in range(9)}
    minute = site.ago(500) // 60_000 * 60_000
    for n in range(9):
        site.a.apply("replace facts", facts(f"m{n}", minute))
    assert pull(site).entities[Entity.FACTS].unequal == 9
    hashes = sorted(row["hash"] for row in site.a.tables["factsets"].values() if row["certname"].startswith("m"))
    for name in [f"m{n}" for n in range(9)]:
        row = site.a.tables["factsets"][name]
        if row["hash"] in (hashes[0], hashes[-1]):
            site.b.tables["factsets"][name] = dict(row)
    left = {
        name
        for name, row in site.a.tables["factsets"].items()
        if row["hash"] != site.b.tables["factsets"][name]["hash"]
    }
    ours = sorted(site.b.tables["factsets"][f"m{n}"]["hash"] for n in range(9))
    if (ours[0], ours[-1]) != (hashes[0], hashes[-1]):
        # The mangled ones stick out: bring them between.
        for name in left:
            row = site.b.tables["factsets"][name]
            row["hash"] = hashes[0][:-1] + ("0" if hashes[0][-1] != "0" else "1") + name
    for _ in range(3):
        result = pull(site)
        assert moved(result) == {}
        assert result.entities[Entity.FACTS].unequal == len(left)
    site.time.elapsed += DAY + 1
    assert moved(pull(site)) == {}


def test_a_stamp_of_no_ordinary_year_is_looked_for_among_all(site: SyncPair) -> None:
    converged(site)
    site.a.apply("replace facts", {**facts("n7", site.ago(5)), "producer_timestamp": "1901-01-01T00:00:00.000Z"})
    site.a.apply("replace facts", {**facts("odd", site.ago(5)), "producer_timestamp": "1901-01-01T00:00:00.000Z"})
    assert moved(pull(site)) == {Entity.FACTS: 1}
    assert in_full(site.a) == 1


@pytest.mark.parametrize(
    "answer", [{"to_string": "2026-01-01T00 +00", "count": 1, "min": None, "max": "", "max_2": ""}]
)
def test_a_group_that_cannot_be_read_is_no_group(site: SyncPair, answer: dict[str, Any]) -> None:
    converged(site)
    site.a.apply("replace facts", facts("n7", site.ago(5)))
    rows = site.a.rows

    def odd(path: str, *, query: Any = None, **options: Any) -> Any:
        if path == "/factsets" and len(query) == 4:
            yield json.dumps(answer).encode()
        yield from rows(path, query=query, **options)

    site.a.rows = odd  # type: ignore[method-assign]
    assert moved(pull(site)) == {Entity.FACTS: 1}
    assert in_full(site.a) == 1


def test_few_records_are_just_listed(site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MANY", 2000)
    converged(site)
    pull(site)
    assert in_full(site.a) == 3
