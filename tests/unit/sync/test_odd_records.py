"""Records with stamps of any year, and those that cannot be used: left alone by name, and nothing else with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pdbclient.errors import Rejected
from pdbclient.sync import Entity, Outcome, PassResult, Version
from pdbclient.sync.policy.expiry import Expired
from pdbclient.sync.policy.report_hours import HOUR, ReportMemory, Total
from pdbclient.sync.run.diff import Diff, Scope, diff
from pdbclient.sync.state.store import State, state_path
from pdbclient.wire.summary import to_millis

from .conftest import SyncPair
from .fake import FakePuppetDB, Row, catalog, deactivation, facts, report
from .machine_truth import _versions

PATHS = ((Entity.FACTS, "factsets"), (Entity.CATALOGS, "catalogs"), (Entity.REPORTS, "reports"))


def stamped(year: str) -> int:
    return to_millis(f"{year}-06-01T00:00:00.000Z")


def run(server: FakePuppetDB, certname: str, millis: int, uuid: str) -> None:
    server.apply("replace facts", facts(certname, millis))
    server.apply("replace catalog", catalog(certname, millis))
    server.apply("store report", report(certname, millis, uuid))


def compare(site: SyncPair, local: FakePuppetDB) -> Diff:
    config = site.config(local)
    return diff(config, config.remotes[0].endpoint, Scope(full=True), connect=site.connect, clock=site.clock)


def counted(found: Diff) -> dict[str, dict[str, int]]:
    assert found.complete
    return {
        str(part.entity): {str(kind): n for kind, n in part.counts.items()} for part in found.entities if part.counts
    }


def moved(result: PassResult) -> dict[Entity, int]:
    return {entity: part.transferred for entity, part in result.entities.items() if part.transferred}


def test_a_record_of_any_year_is_carried_or_told_by_passes_and_by_diff_alike(site: SyncPair) -> None:
    site.options["report_ttl"] = 0.0
    for year in ("1903", "1969", "2999"):
        run(site.a, f"n{year}", stamped(year), year)
    run(site.a, "n", site.ago(60), "now")
    for _ in range(3):
        result = site.pull(site.b)
        assert result.ok
        held = {entity: part.held for entity, part in result.entities.items() if part.held}
        # Each time: the cursor had gone past the report.
        assert held == {Entity.FACTS: 1, Entity.CATALOGS: 1, Entity.REPORTS: 1}
    assert moved(result) == {}
    assert set(site.b.tables["factsets"]) == {"n", "n1903", "n1969"}
    assert len(site.b.tables["reports"]) == 3
    expected = {name: {"future": 1} for name in ("facts", "catalogs", "reports")}
    assert counted(compare(site, site.b)) == counted(compare(site, site.a)) == expected


@pytest.mark.parametrize("year", ["2999", "+12999"])
def test_a_deactivation_or_facts_of_the_far_future_stop_nothing(site: SyncPair, year: str) -> None:
    """`deactivate node` as of the year 12999 ended every pass of both sides."""
    run(site.a, "n", site.ago(60), "now")
    run(site.b, "n", site.ago(60), "now")
    site.a.apply("deactivate node", deactivation("n", stamped(year)))
    site.a.apply("replace facts", facts("far", stamped(year)))
    run(site.a, "other", site.ago(50), "other")
    result = site.pull(site.b)
    assert result.ok
    assert moved(result) == {Entity.FACTS: 1, Entity.CATALOGS: 1, Entity.REPORTS: 1}
    assert [result.entities[entity].held for entity in (Entity.NODES, Entity.FACTS)] == [1, 1]
    assert site.pull(site.a).ok
    assert counted(compare(site, site.b)) == {"nodes": {"future": 1}, "facts": {"future": 1}}


@pytest.mark.parametrize("year", ["0001", "-0001", "-0500", "-4000"])
def test_what_is_remembered_of_a_record_long_before_is_no_damage(site: SyncPair, year: str) -> None:
    """Once it was refused (no command has such a year), every command called the state file damaged."""
    site.options["report_ttl"] = 0.0
    for name, millis in (("n", site.ago(60)), ("odd", stamped(year))):
        run(site.a, name, millis, name)
    site.b.mangles.add("odd")
    for _ in range(4):
        result = site.pull(site.b)
        assert result.outcome is Outcome.DONE
        assert not result.errors
        site.time.elapsed += 3600
    assert set(site.b.tables["factsets"]) >= {"n"}
    left = {"same_content": 1} if year == "0001" else {"quarantined": 1}
    assert {entity: kinds for entity, kinds in counted(compare(site, site.b)).items() if entity != "reports"} == {
        "facts": left,
        "catalogs": left,
    }


@pytest.mark.parametrize("year", ["-4712", "-0001", "+12999", "+294276"])
def test_what_is_remembered_of_any_year_can_be_read_again(tmp_path: Path, year: str) -> None:
    path, millis = tmp_path / "state.sqlite", stamped(year)
    hour, version = millis - millis % HOUR, Version(millis, "aa")
    total = Total(hour, millis, 1, 1)
    memory = ReportMemory(millis, {hour: "x"}, {hour: 1}, {"n": millis}, frozenset([millis]), 1.5, hour, total)
    expired = {"n": Expired(millis, -millis)}
    with closing(State(path)) as state:
        state.remember_unequal("r", Entity.FACTS, {"n": version})
        state.remember_reports("r", lambda _: memory)
        state.remember_expired("r", expired, ())
    with closing(State(path)) as state:
        assert state.reports("r") == memory
        assert state.unequal("r", Entity.FACTS) == {"n": version}
        assert state.expired("r") == expired


def test_a_record_of_the_future_brings_no_dead_node_back_to_life(site: SyncPair) -> None:
    """It is not carried itself; older ones of that node were, and made the node active."""
    run(site.b, "n", site.ago(600), "old")
    site.b.apply("deactivate node", deactivation("n", site.ago(60)))
    run(site.a, "n", site.ago(300), "newer")
    site.a.apply("replace facts", facts("n", stamped("2999")))
    assert moved(site.pull(site.b)) == {}
    assert site.b.nodes["n"].deactivated is not None
    found = counted(compare(site, site.b))
    assert found["facts"] == {"future": 1}
    assert found["catalogs"] == {"dead": 1}


def spoil(server: FakePuppetDB, path: str, certname: str, column: str, value: object) -> None:
    """Let a server have, or only show, something else in one of its rows."""

    def spoilt(rows: list[Row]) -> list[Row]:
        return [{**row, column: value} if row.get("certname") == certname and column in row else row for row in rows]

    has, shows = server._rows, server._answer
    if path == "nodes":
        # It tells by the column itself which nodes are active.
        server._rows = lambda table: spoilt(has(table)) if table == path else has(table)  # type: ignore[method-assign]
        return
    server._answer = lambda table, *asked: (  # type: ignore[method-assign]
        spoilt(shows(table, *asked)) if table == path else shows(table, *asked)
    )


ODD: tuple[Any, ...] = (None, 17, "yesterday", "2026-02-30T00:00:00.000Z", {})
SPOILT = [
    *((entity, path, "producer_timestamp", value) for entity, path in PATHS for value in ODD),
    *((Entity.CATALOGS, "catalogs", "hash", value) for value in ODD if not isinstance(value, str)),
    *((Entity.NODES, "nodes", "deactivated", value) for value in ODD if value is not None),
]


@pytest.mark.parametrize("side", ["here", "there"])
@pytest.mark.parametrize(("entity", "path", "column", "value"), SPOILT)
def test_one_unusable_record_is_skipped_named_and_counted(
    site: SyncPair, caplog: pytest.LogCaptureFixture, entity: Entity, path: str, column: str, value: Any, side: str
) -> None:
    spoilt = site.a if side == "there" else site.b
    run(spoilt, "odd", site.ago(60), "odd")
    for name in ("n1", "n2"):
        run(site.a, name, site.ago(60), name)
    spoil(spoilt, path, "odd", column, value)
    result = site.pull(site.b)
    assert result.ok, result.errors
    assert result.entities[entity].transferred == (0 if entity is Entity.NODES else 2)
    assert set(site.b.tables["factsets"]) >= {"n1", "n2"}
    if side == "there" or entity is not Entity.REPORTS:
        assert result.entities[entity].unusable == 1
        assert any("odd" in message and "no such record" in message for message in caplog.messages) or (
            entity is Entity.REPORTS
        )
    found = compare(site, site.b)
    assert counted(found)[str(entity)].get("unusable") == 1
    assert not found.equal


@pytest.mark.parametrize("memory", ["refused", "unequal"])
def test_what_is_left_alone_is_judged_anew_by_what_both_sides_show(site: SyncPair, memory: str) -> None:
    """A local database stalled for a minute; all came later, and some of it waited for ever by `sync status`."""
    for server in (site.a, site.b):
        run(server, "equal", site.ago(600), "equal")
        server.apply("deactivate node", deactivation("equal", site.ago(60)))
    run(site.a, "differs", site.ago(500), "differs")
    site.b.refuses["differs"] = Rejected(str(site.b.endpoint), 400, "no")
    config = site.config(site.b)
    remote = site.a.endpoint.url

    def version(entity: Entity, server: FakePuppetDB) -> dict[str, Version]:
        return {key: each for key, each in _versions(server, entity).items() if not key.startswith("differs")}

    site.pull(site.b)
    with closing(State(state_path(config.state_dir, config.local))) as state:
        for entity in (Entity.NODES, Entity.FACTS, Entity.CATALOGS, Entity.REPORTS):
            known = version(entity, site.b)
            assert known
            gone = {"gone": Version(site.ago(700), "0" * 40)}
            if memory == "unequal":
                state.remember_unequal(remote, entity, known | gone)
            else:
                state.remember_refused(remote, entity, {key: (v, "no") for key, v in (known | gone).items()}, 0.0)
    site.pull(site.b)
    with closing(State(state_path(config.state_dir, config.local))) as state:
        left = {entity: set(state.left_alone(remote, entity)) for entity in Entity}
    reports = {key for key, row in site.a.tables["reports"].items() if row["certname"] == "differs"}
    expected = {Entity.FACTS: {"differs"}, Entity.CATALOGS: {"differs"}, Entity.REPORTS: reports}
    assert left == {entity: set() for entity in Entity} | expected


ODD_CONTENTS = {
    "tags: null": (Entity.CATALOGS, "null"),
    "tags: a text": (Entity.CATALOGS, '"x"'),
    "5,000 digits": (Entity.FACTS, "9" * 5000),
    "1,500 deep": (Entity.FACTS, "[" * 1500 + "]" * 1500),
    "100,000 deep": (Entity.FACTS, "[" * 100_000 + "]" * 100_000),
}


def show_raw(side: FakePuppetDB, text: str) -> None:
    """Where the fake has `@odd@`, the server shows `text`."""
    rows = side.rows

    def raw(path: str, **options: Any) -> Iterator[bytes]:
        return (row.replace(b'"@odd@"', text.encode()) for row in rows(path, **options))

    side.rows = raw  # type: ignore[method-assign]


@pytest.mark.parametrize("odd", ODD_CONTENTS)
def test_a_record_too_odd_to_be_compared_by_its_content_leaves_the_others_theirs(
    site: SyncPair, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It failed its whole entity in `diff`, or crashed the pass before what it had submitted was settled."""
    entity, text = ODD_CONTENTS[odd]
    when = site.ago(60)
    for side, value in ((site.a, "1"), (site.b, "2")):
        for name in ("good", "odd"):
            if entity is Entity.FACTS:
                side.apply("replace facts", facts(name, when, ["@odd@", value] if name == "odd" else value))
                continue
            payload = catalog(name, when, value)
            payload["resources"][0]["tags"] = "@odd@" if name == "odd" else ["b", "a"]
            side.apply("replace catalog", payload)
        show_raw(side, text)
    found = compare(site, site.b)
    assert counted(found)[str(entity)] == {"unequal": 2}
    for side in (site.a, site.b) if odd != "5,000 digits" else ():  # which the fake cannot store
        side.mangles.add("good")
        result = site.pull(side)
        assert (result.outcome, result.errors) == (Outcome.DONE, [])
    assert not [record for record in caplog.records if record.exc_info]
