"""Servers with different node-ttl: what expires and is purged here is not pulled again for ever."""

from __future__ import annotations

import pytest

from pdbclient.sync import Difference, Entity, Mode, PassResult, plan, reconcile
from pdbclient.sync.policy.expiry import Expired, too_old
from pdbclient.sync.policy.model import Selection
from pdbclient.sync.run.diff import diff

from .conftest import SyncPair
from .fake import Row, catalog, facts, report
from .fake_store import DAY


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


def run_agent(site: SyncPair, certname: str, *, on_both: bool = False) -> None:
    for side in (site.a, site.b) if on_both else (site.a,):
        side.apply("replace facts", facts(certname, site.ago(5)))
        side.apply("replace catalog", catalog(certname, site.ago(4)))
        side.apply("store report", report(certname, site.ago(2), "r"))


@pytest.fixture
def different(site: SyncPair) -> SyncPair:
    """A keeps silent nodes for 60 days, B for 2, and purges them after 3 more."""
    site.a.node_ttl, site.b.node_ttl = 60 * DAY, 2 * DAY
    site.a.node_purge_ttl = site.b.node_purge_ttl = 3 * DAY
    site.options["node_purge_ttl"] = 3 * 86_400.0
    run_agent(site, "silent")
    run_agent(site, "other")
    assert site.pull(site.b).ok
    return site


def days(site: SyncPair, number: int, *, mode: Mode | None = None) -> list[dict[str, int]]:
    """What the passes of so many days moved, one every 16 hours; the node `other` is at work."""
    found = []
    for _ in range(3 * number // 2):
        site.time.elapsed += 16 * 3600
        run_agent(site, "other", on_both=True)
        for side in (site.a, site.b):
            side.expire()
            side.purge_nodes()
        result = reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]
        assert result.ok, result.errors
        found.append(moved(result))
    return [each for each in found if each]


def test_a_node_that_expired_and_was_purged_here_is_not_pulled_again(
    different: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    assert days(different, 6) == []
    assert "silent" not in different.b.nodes
    caplog.clear()
    assert days(different, 14) == []
    told = [record.getMessage() for record in caplog.records if "node-ttl" in record.getMessage()]
    assert len(told) == 3 * 14 // 2
    assert told[0].startswith("1 nodes of https://a.example.com:8081 are not pulled (silent)")
    listed = plan(
        different.config(different.b), different.a.endpoint, connect=different.connect, clock=different.clock
    )
    reasons = {part.entity: dict(part.skipped).get("silent") for part in listed}
    assert reasons[Entity.FACTS] == reasons[Entity.CATALOGS] == Difference.PURGED


def test_diff_tells_what_passes_leave_alone(different: SyncPair) -> None:
    days(different, 8)
    config = different.config(different.b)
    found = diff(config, different.a.endpoint, connect=different.connect, clock=different.clock)
    assert found.equal
    assert {part.entity: dict(part.counts) for part in found.entities if part.counts} == {
        entity: {Difference.PURGED: 1} for entity in (Entity.FACTS, Entity.CATALOGS, Entity.REPORTS)
    }


def test_a_node_whose_status_is_unusable_for_a_while_is_not_forgotten_meanwhile(different: SyncPair) -> None:
    days(different, 6)
    plain, odd = different.a._rows, {"certname": "silent", "deactivated": "then"}

    def spoilt(table: str) -> list[Row]:
        return [{**row, **odd} if table == "nodes" and row["certname"] == "silent" else row for row in plain(table)]

    different.a._rows = spoilt  # type: ignore[method-assign]
    assert days(different, 2) == []
    different.a._rows = plain  # type: ignore[method-assign]
    assert days(different, 2) == []
    assert "silent" not in different.b.nodes


def test_a_purged_node_without_a_record_at_the_remote_or_with_ones_of_any_year_stays_away() -> None:
    purged = {name: Expired(1000 * DAY, 3 * DAY) for name in ("none", "ancient", "young")}
    purged["was ancient"] = Expired(1000 * DAY, 800_000 * DAY)
    newest = {"ancient": -700_000 * DAY, "young": 1010 * DAY, "was ancient": -799_000 * DAY}
    assert too_old(purged, newest, 1010 * DAY) == {"none", "ancient", "was ancient"}


@pytest.mark.parametrize("entities", [{Entity.FACTS}, {Entity.CATALOGS, Entity.NODES}, {Entity.REPORTS}])
def test_a_part_of_the_entities_is_no_other(different: SyncPair, entities: set[Entity]) -> None:
    mode = Mode(Selection(frozenset(entities)))
    assert days(different, 14, mode=mode) == []


def test_a_node_that_is_at_work_again_comes_back_with_all_that_it_has(different: SyncPair) -> None:
    assert days(different, 6) == []
    run_agent(different, "silent")
    result = different.pull(different.b)
    assert moved(result) == {"facts": 1, "catalogs": 1, "reports": 2}
    assert different.b.liveness("silent") == "active"
    assert days(different, 1) == []
    assert different.b.liveness("silent") == "active"


def test_it_stops_again_when_the_node_is_silent_again(different: SyncPair) -> None:
    days(different, 6)
    run_agent(different, "silent")
    assert different.pull(different.b).ok
    assert days(different, 14) == []
    assert "silent" not in different.b.nodes


def test_data_that_comes_late_for_an_expired_node_is_not_what_expired(different: SyncPair) -> None:
    """Cut off from B the node works on at A: B expires it by what it lacks, and stores what comes then beside the
    flag that stays, and purges it with that.
    """
    days(different, 2)
    different.time.elapsed += 86_400
    run_agent(different, "silent")
    different.time.elapsed += 3600
    different.b.expire()
    assert different.b.nodes["silent"].expired is not None
    assert moved(different.pull(different.b))["facts"] == 1
    for _ in range(13):
        different.time.elapsed += 6 * 3600
        run_agent(different, "silent")
        different.time.elapsed += 5
        different.b.purge_nodes()
        assert different.pull(different.b).ok
    assert different.b.liveness("silent") == "active"


def test_a_node_that_the_remote_gives_up_too_is_forgotten_and_a_new_one_of_that_name_is_new(
    different: SyncPair,
) -> None:
    days(different, 6)
    different.a.purge("silent")
    assert different.pull(different.b).ok
    different.a.apply("replace facts", facts("silent", different.ago(5 * 86_400)))
    assert moved(different.pull(different.b)) == {"facts": 1}


def test_an_audit_takes_nothing_for_granted(different: SyncPair) -> None:
    days(different, 6)
    different.b.node_ttl = 60 * DAY
    assert days(different, 2) == []
    mode = Mode(audit=True)
    result = reconcile(different.config(different.b), mode=mode, connect=different.connect, clock=different.clock)[0]
    assert moved(result) == {"facts": 1, "catalogs": 1, "reports": 1}
    assert days(different, 10) == []
    assert different.b.liveness("silent") == "active"


def test_what_the_local_server_lost_otherwise_is_pulled_again(different: SyncPair) -> None:
    empty = SyncPair(different.directory).b.backup()
    days(different, 1)
    different.b.restore(empty)
    assert moved(different.pull(different.b))["facts"] == 2


def test_servers_alike_know_nothing_of_this(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    site.options["node_purge_ttl"] = 3 * 86_400.0
    for side in (site.a, site.b):
        side.node_ttl, side.node_purge_ttl = 2 * DAY, 3 * DAY
    run_agent(site, "silent", on_both=True)
    run_agent(site, "other", on_both=True)
    days(site, 8)
    assert "silent" not in site.a.nodes
    assert "node-ttl" not in caplog.text
