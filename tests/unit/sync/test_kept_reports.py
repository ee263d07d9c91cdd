"""Reports that one server keeps beyond report-ttl and the other does not: from 8.5 on the newest of each node stays.

Neither passes nor `diff` stumble over them: nothing is pulled, in pass after pass, and nothing is a difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pdbclient.sync import Entity, Mode, reconcile
from pdbclient.sync.run.diff import Scope, diff

from ...versions import OPENVOXDB_8_15, PUPPETDB_7_12, PUPPETDB_8_4, PUPPETDB_8_8
from .conftest import SyncPair
from .fake import FakePuppetDB, catalog, facts, report

DAY = 86_400.0
PAIRS = (
    (OPENVOXDB_8_15, PUPPETDB_7_12),
    (PUPPETDB_8_4, PUPPETDB_8_8),
    (PUPPETDB_8_8, PUPPETDB_7_12),
    (PUPPETDB_8_8, OPENVOXDB_8_15),
)


@pytest.fixture(params=PAIRS, ids=[f"{a}--{b}" for a, b in PAIRS])
def site(quick_path: Path, request: pytest.FixtureRequest) -> SyncPair:
    """Both have the reports of a node that ran for the last time 20 days ago, and of one that still runs."""
    site = SyncPair(quick_path, *request.param)
    for side in (site.a, site.b):
        for certname, last in (("idle", 20), ("busy", 0)):
            for day in range(last, 30):
                side.apply("store report", report(certname, site.ago(day * DAY + 60), f"run-{certname}-{day}"))
            for command, make in (("replace facts", facts), ("replace catalog", catalog)):
                side.apply(command, make(certname, site.ago(60)))
    return site


def collect_garbage(*sides: FakePuppetDB) -> None:
    for side in sides:
        for _ in range(40):
            side.purge_reports()


def kept(side: FakePuppetDB) -> list[str]:
    """The runs of the idle node whose reports are still there."""
    return [row["transaction_uuid"] for row in side.tables["reports"].values() if row["certname"] == "idle"]


def transferred(site: SyncPair, mode: Mode | None = None) -> int:
    total = 0
    for side in (site.a, site.b):
        result = reconcile(site.config(side), mode=mode, connect=site.connect, clock=site.clock)[0]
        assert not result.errors, result
        total += result.entities[Entity.REPORTS].transferred + result.entities[Entity.REPORTS].failed
    return total


def assert_equal(site: SyncPair) -> None:
    for here, there in ((site.b, site.a), (site.a, site.b)):
        for full in (False, True):
            found = diff(site.config(here), there.endpoint, Scope(full=full), connect=site.connect, clock=site.clock)
            assert found.equal, found


def test_the_newest_report_of_each_node_stays_where_the_release_keeps_it(site: SyncPair) -> None:
    collect_garbage(site.a, site.b)
    for side in (site.a, site.b):
        assert kept(side) == (["run-idle-20"] if side.release.keeps_newest else [])


def test_what_one_side_keeps_is_not_pulled_and_no_difference(site: SyncPair) -> None:
    collect_garbage(site.a, site.b)
    for _ in range(6):
        site.time.elapsed += DAY / 4
        assert transferred(site) == 0
        assert_equal(site)
    assert transferred(site, Mode(audit=True)) == 0


def test_what_one_side_has_collected_and_the_other_not_yet_is_not_pulled_and_no_difference(site: SyncPair) -> None:
    for side in (site.a, site.b):
        collect_garbage(side)
        assert transferred(site) == 0
        assert_equal(site)
    assert transferred(site, Mode(audit=True)) == 0


def test_what_is_kept_does_not_stop_what_is_new(site: SyncPair) -> None:
    collect_garbage(site.a, site.b)
    assert transferred(site) == 0
    for number, side in enumerate((site.a, site.b)):
        side.apply("store report", report("idle", site.ago(30 + number), f"again-{number}"))
    assert transferred(site) == 2
    site.time.elapsed += DAY
    collect_garbage(site.a, site.b)
    assert transferred(site) == 0
    assert_equal(site)
