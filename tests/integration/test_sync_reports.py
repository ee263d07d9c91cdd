"""The reconciler's questions about reports, put to a real PuppetDB, and what it makes of the answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config import SyncConfig, load_sync_config
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.sync import Entity, reconcile
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.inventory.reports import compare, known_reports, newest_received, received_since
from pdbclient.sync.policy.classify import ReportRow
from pdbclient.wire import query
from pdbclient.wire.command import Command
from pdbclient.wire.timestamp import from_millis

pytestmark = pytest.mark.integration

NODE = "reporting.example.com"
DAY = 86_400_000


class ReportSite:
    """The pair; reports are submitted to the primary, and pulled from there to the replica."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.now = datetime.now(UTC)
        self.samples = Samples(lab.puppetdb_jar)
        self.config: SyncConfig = replace(load_sync_config(lab.sync_conf("replica")), state_dir=directory)
        self.there, self.here = (
            Session(endpoint, self.config.tls, self.config.timeouts)
            for endpoint in (self.config.remotes[0].endpoint, self.config.local)
        )
        self.budget = Budget(Clock(), 60)

    def ago(self, **age: float) -> int:
        """Milliseconds since 1970 of so long ago."""
        return int((self.now - timedelta(**age)).timestamp() * 1000)

    def run(self, *hours: float, **changes: Any) -> None:
        """Reports of so many hours ago, received by the primary now."""
        for number in hours:
            when = self.now - timedelta(hours=number)
            payload = {**self.samples.report(NODE, 1, when), **changes}
            self.there.submit(Command.create("store report", payload, now=self.now))
        self.lab.settle("primary")

    def pull(self) -> int:
        (result,) = reconcile(self.config)
        assert result.ok, result
        return result.entities[Entity.REPORTS].transferred

    def hashes(self, name: str) -> set[str]:
        return {row[0] for row in self.lab.sql(name, "select encode(hash, 'hex') from reports")}


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[ReportSite]:
    made = ReportSite(pair, tmp_path)
    yield made
    for session in (made.there, made.here):
        session.close()


def one_by_one(start: int, end: int) -> float:
    return math.inf


def all_listed(start: int, end: int) -> float:
    return 0.0


@pytest.mark.every_server
def test_reports_are_found_by_receive_time_by_producer_timestamp_and_by_hash(site: ReportSite) -> None:
    site.run(0, 30)
    site.run(31, type="plan")
    newest = newest_received(site.there, site.ago(days=14), site.budget)
    assert [row.at for row in newest] == sorted((row.at for row in newest), reverse=True)
    assert {row.report.hash for row in newest} == site.hashes("primary")
    assert len(newest) == 3, "plan reports are among them"
    last, first = newest[0].at, newest[-1].at

    def since(millis: int, start: int) -> set[str]:
        found = received_since(site.there, millis, start, site.budget)
        assert found is not None
        return {row.report.hash for row in found}

    assert since(first, site.ago(days=14)) == site.hashes("primary")
    assert since(last, site.ago(days=14)) == {newest[0].report.hash}
    assert since(last + 1, site.ago(days=14)) == set()
    assert len(since(first, site.ago(hours=1))) == 1

    rows = [row.report for row in newest]
    unknown = ReportRow("0" * 40, NODE, rows[0].millis)
    for ask in (one_by_one, all_listed):
        assert known_reports(site.there, [*rows, unknown], site.budget, ask) == site.hashes("primary")
        assert known_reports(site.here, rows, site.budget, ask) == set()

    seen = compare(site.there, site.here, site.ago(hours=31, minutes=1), site.ago(hours=1), site.budget)
    assert (seen.there, seen.here, len(seen.missing)) == (2, 0, 2)
    assert set(seen.missing) == {row for row in rows if row.millis < site.ago(hours=1)}


def test_the_question_for_new_reports_reads_no_day_before_those_that_changed(site: ReportSite) -> None:
    """Reports lie in a table per day, and nothing in them is in the order of the receive time."""
    site.run(0, 72)
    since, today = from_millis(site.ago(hours=1)), site.ago(hours=3)

    def tables(start: int) -> set[str]:
        ast = query.reports_received(since, from_millis(start))
        rows = site.there.records("/reports", query=ast, params={"explain": "analyze"})
        return {part for part in json.dumps(list(rows)).split('"') if part.startswith("reports_2") and len(part) < 19}

    old = f"reports_{datetime.fromtimestamp(site.ago(hours=72) / 1000, UTC):%Y%m%d}z"
    assert old in tables(site.ago(days=14))
    assert old not in tables(today)
    assert tables(today)


@pytest.mark.every_server("8.8.1+7.12.1")
def test_late_reports_come_with_the_next_pass_and_lost_ones_come_back(
    site: ReportSite, caplog: pytest.LogCaptureFixture
) -> None:
    site.run(0, 1, 5, 6, 30)
    assert [site.pull(), site.pull(), site.pull()] == [5, 0, 0]
    site.run(0, 7, 29)
    assert [site.pull(), site.pull()] == [3, 0]
    assert site.hashes("replica") == site.hashes("primary")

    site.lab.sql("replica", "delete from reports where producer_timestamp > now() - interval '2 hours'")
    assert [site.pull(), site.pull()] == [3, 0]
    assert site.hashes("replica") == site.hashes("primary")

    site.lab.sql("primary", "delete from reports where producer_timestamp > now() - interval '10 minutes'")
    site.run(0)
    assert site.pull() == 1
    assert site.pull() == 0
    assert not caplog.text
    assert site.hashes("replica") > site.hashes("primary")
