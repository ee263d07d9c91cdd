"""Reports that one server keeps beyond report-ttl and the other does not: from 8.5 on the newest of each node stays.

Neither passes nor `diff` stumble over them: nothing is pulled, in pass after pass, and nothing is a difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pdbclient.sync import Difference, Entity, Mode, Selection, reconcile
from pdbclient.sync.run.diff import Scope, diff
from pdbclient.sync.run.seed import outstanding

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


@pytest.mark.parametrize("hours", [1, 23, 24, 36, 24 * 14])
def test_every_report_that_the_local_server_keeps_is_carried_once_and_no_other_at_any_report_ttl(
    quick_path: Path, hours: int
) -> None:
    """A `report-ttl` of a day or less once carried nothing, and `diff` called that equal."""
    site = SyncPair(quick_path)
    site.options["report_ttl"] = hours * 3600.0
    site.b.report_ttl = hours * 3_600_000
    oldest, number = site.ago(hours * 3600 + 2 * 86_400), 0
    config = site.config(site.b)
    for _ in range(8):
        # What is made meanwhile comes behind the last hour's, at any time of two days.
        for millis in (site.ago(60), oldest, site.ago(hours * 1800)):
            site.a.apply("store report", report("n", millis, f"u{number}"))
            number += 1
        full = Scope(full=True)
        missing = diff(config, site.a.endpoint, full, connect=site.connect, clock=site.clock).entities[-1].counts
        carried = transferred(site)
        assert carried == missing[Difference.MISSING_HERE] > 0
        assert outstanding(config, site.a.endpoint, Selection(), connect=site.connect, clock=site.clock) == 0
        kept = site.b.tables["reports"].keys()
        for _ in range(40):
            site.b.purge_reports()
        assert site.b.tables["reports"].keys() == kept, "none that is dropped at once"
        assert transferred(site) == 0
        assert diff(config, site.a.endpoint, full, connect=site.connect, clock=site.clock).equal
        site.time.elapsed += 7.3 * 3600
