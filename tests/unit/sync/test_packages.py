"""Factsets and the packages of their nodes, which are asked for apart, come as what they were together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pdbclient.sync import Entity
from pdbclient.sync.inventory.kinds import FACTS

from .conftest import SyncPair
from .fake import facts

BASH, OPENSSL = ["bash", "5.2", "apt"], ["openssl", "3.0", "apt"]


@pytest.fixture
def before_packages(site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something done at A each time before it is asked for packages, after it has given the facts."""
    rows, called = site.a.rows, list[Callable[[], object]]()

    def interrupted(path: str, **options: Any) -> Iterator[bytes]:
        if path == "/package-inventory":
            for each in called:
                each()
        return rows(path, **options)

    monkeypatch.setattr(site.a, "rows", interrupted)
    return called.append


def _same(site: SyncPair) -> bool:
    there, here = (side.tables["factsets"] for side in (site.a, site.b))
    return bool(there == here)


def test_each_node_gets_its_own(site: SyncPair) -> None:
    for name, packages in (("n", [BASH]), ("m", [BASH, OPENSSL]), ("bare", None)):
        site.a.apply("replace facts", facts(name, site.ago(5), 1, packages))
    assert site.pull(site.b).entities[Entity.FACTS].transferred == 3
    assert _same(site)
    assert site.b.tables["factsets"]["m"]["package_inventory"] == [BASH, OPENSSL]
    assert "package_inventory" not in site.b.tables["factsets"]["bare"]


@pytest.mark.parametrize(("old", "new"), [([BASH], [OPENSSL]), ([BASH], None), (None, [BASH])])
def test_facts_that_are_replaced_meanwhile_come_with_the_packages_that_came_with_them(
    site: SyncPair, before_packages: Callable[[Callable[[], object]], None], old: object, new: object
) -> None:
    site.a.apply("replace facts", facts("n", site.ago(9), 1, old))
    site.a.apply("replace facts", facts("other", site.ago(9), 1, [BASH]))
    before_packages(lambda: site.a.apply("replace facts", facts("n", site.ago(5), 2, new)))
    result = site.pull(site.b).entities[Entity.FACTS]
    assert (result.transferred, result.failed) == (2, 0)
    assert _same(site)


def test_facts_that_never_come_to_rest_fail_alone(
    site: SyncPair, before_packages: Callable[[Callable[[], object]], None]
) -> None:
    ages = iter(range(900, 0, -1))
    for name in ("n", "other"):
        site.a.apply("replace facts", facts(name, site.ago(1000), 1, [BASH]))
    before_packages(lambda: site.a.apply("replace facts", facts("n", site.ago(next(ages)), 1, [OPENSSL])))
    result = site.pull(site.b).entities[Entity.FACTS]
    assert (result.transferred, result.failed) == (1, 1)
    assert [command.certname for command in site.b.submitted] == ["other"]


def test_facts_that_are_gone_meanwhile_are_neither_pulled_nor_a_fault(
    site: SyncPair, before_packages: Callable[[Callable[[], object]], None]
) -> None:
    for name in ("n", "other"):
        site.a.apply("replace facts", facts(name, site.ago(9), 1, [BASH]))
    before_packages(lambda: site.a.tables["factsets"].pop("n", None))
    result = site.pull(site.b).entities[Entity.FACTS]
    assert (result.transferred, result.failed) == (1, 0)
    assert [command.certname for command in site.b.submitted] == ["other"]


def test_a_package_that_is_none_fails_its_node_alone(site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("n", "other"):
        site.a.apply("replace facts", facts(name, site.ago(9), 1, [BASH]))
    rows = site.a.rows

    def broken(path: str, **options: Any) -> Iterator[bytes]:
        for row in rows(path, **options):
            yield row.replace(b'"5.2"', b"null") if path == "/package-inventory" and b'"n"' in row else row

    monkeypatch.setattr(site.a, "rows", broken)
    result = site.pull(site.b).entities[Entity.FACTS]
    assert (result.transferred, result.failed) == (1, 1)
    assert [command.certname for command in site.b.submitted] == ["other"]


def test_packages_of_few_nodes_are_in_memory_at_once(site: SyncPair) -> None:
    """Of a node there can be thousands."""
    site.options["batch_size"] = 100
    for number in range(50):
        site.a.apply("replace facts", facts(f"n{number:02}", site.ago(9), 1, [BASH]))
    assert site.pull(site.b).entities[Entity.FACTS].transferred == 50
    asked = [len(query[2][1][2][1]) for path, query in site.a.queries if path == "/package-inventory"]
    assert asked == [20, 20, 10]
    assert _same(site)


def test_facts_that_are_as_they_were_listed_take_two_questions(site: SyncPair) -> None:
    """The listing is the look before: over a long way, each further question costs a round trip."""
    for number in range(20):
        site.a.apply("replace facts", facts(f"n{number:02}", site.ago(9), 1, [BASH]))
    assert site.pull(site.b).entities[Entity.FACTS].transferred == 20
    paths = [path for path, query in site.a.queries if "n07" in str(query)]
    assert paths == ["/package-inventory", "/factsets"]
    assert _same(site)


def test_who_knows_no_versions_asks_for_them_first(
    site: SyncPair, before_packages: Callable[[Callable[[], object]], None]
) -> None:
    for name in ("n", "other"):
        site.a.apply("replace facts", facts(name, site.ago(9), 1, [BASH]))
    before_packages(lambda: site.a.apply("replace facts", facts("n", site.ago(5), 2, [OPENSSL])))
    rows = [json.loads(row) for row in FACTS.rows(site.a, ["n", "other"], lambda: 60.0)]
    assert {row["certname"]: row["package_inventory"] for row in rows} == {"n": [OPENSSL], "other": [BASH]}


def test_facts_that_come_before_their_turn_wait_for_their_packages(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were submitted without any, and counted as transferred."""
    site.options["batch_size"] = 100
    for number in range(50):
        site.a.apply("replace facts", facts(f"n{number:02}", site.ago(9), 1, [BASH]))
    site.a.apply("replace facts", facts("deactivated", site.ago(9), 1, [BASH]))
    site.b.apply("replace facts", facts("deactivated", site.ago(9), 1, [BASH]))
    rows = site.a.rows

    def of_all(path: str, *, query: Any = None, **options: Any) -> Iterator[bytes]:
        if path == "/factsets" and query[0] == "and":
            query = ["=", "node_state", "any"]
        return rows(path, query=query, **options)

    monkeypatch.setattr(site.a, "rows", of_all)
    assert site.pull(site.b).entities[Entity.FACTS].transferred == 50
    assert all(b"package_inventory" in command.body for command in site.b.submitted)
    assert _same(site)


@pytest.mark.parametrize("batch_size", [20, 500])
def test_a_pass_that_is_to_end_asks_no_further_questions(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """It was looked at once for a whole batch, which is many questions."""
    site.options["batch_size"] = batch_size
    for number in range(500):
        site.a.apply("replace facts", facts(f"n{number:03}", site.ago(9), 1, [BASH]))
    rows, after = site.a.rows, list[str]()

    def told(path: str, **options: Any) -> Iterator[bytes]:
        if site.time.is_set():
            after.append(path)
        elif path == "/package-inventory":
            site.time.set()
        return rows(path, **options)

    monkeypatch.setattr(site.a, "rows", told)
    result = site.pull(site.b).entities[Entity.FACTS]
    assert "asked to stop" in str(result.error)
    assert after == []


def test_the_time_of_an_entity_is_that_of_all_its_questions(site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> None:
    site.options |= {"batch_size": 500, "entity_time_limit": 100}
    for number in range(100):
        site.a.apply("replace facts", facts(f"n{number:02}", site.ago(9), 1, [BASH]))
    rows, limits = site.a.rows, list[float]()

    def slow(path: str, *, within: float, **options: Any) -> Iterator[bytes]:
        if path == "/package-inventory":
            limits.append(within)
            site.time.elapsed += 40
        return rows(path, within=within, **options)

    monkeypatch.setattr(site.a, "rows", slow)
    result = site.pull(site.b).entities[Entity.FACTS]
    assert "not finished within the entity time limit" in str(result.error)
    assert limits == [100, 60, 20]
