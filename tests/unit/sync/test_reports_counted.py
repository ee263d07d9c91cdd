"""Old reports are counted, not asked for by the hour, as long as a server has as many of them as before."""

from __future__ import annotations

from typing import Any

import pytest

from pdbclient.sync import Mode
from pdbclient.sync.policy import report_hours
from pdbclient.sync.run import report_survey
from pdbclient.wire.summary import HOUR_FORMAT

from .conftest import SyncPair
from .fake import FakePuppetDB, report
from .report_steps import begin, listed, lose, moved, pull, run, same

DAY = 86_400.0
OLD = "2026-09-21T11"
"""Three hours before the clock begins."""


@pytest.fixture
def site(site: SyncPair) -> SyncPair:
    """In rest, with five old hours of reports on both sides, and all of them compared."""
    begin(site)
    for number in range(3, 8):
        run(site.a, site, f"r{number}", 3600 * number)
    pull(site)
    pull(site)
    forget(site)
    return site


def forget(site: SyncPair) -> None:
    for server in (site.a, site.b):
        server.queries.clear()


def asked(server: FakePuppetDB, first: list[Any]) -> list[Any]:
    """The queries about reports that ask for this first."""
    queries = [query for path, query in server.queries if path == "/reports" and query[0] == "extract"]
    return [query for query in queries if query[1][0] == first]


def hours_asked(server: FakePuppetDB) -> list[bool]:
    """For each question about hours of reports, whether old ones were among them."""
    return [
        query[2][3][2] < OLD for query in asked(server, ["function", "to_string", "producer_timestamp", HOUR_FORMAT])
    ]


def numbers_asked(server: FakePuppetDB) -> int:
    return len(asked(server, ["function", "count"]))


def test_a_pass_in_rest_asks_for_a_number_and_the_hours_of_now(site: SyncPair) -> None:
    assert moved(site) == 0
    for server in (site.a, site.b):
        assert (numbers_asked(server), hours_asked(server)) == (1, [False])


def test_an_old_report_that_came_late_has_all_hours_asked_for_once(site: SyncPair) -> None:
    site.time.elapsed += 60
    run(site.a, site, "late", 3600 * 5)
    assert moved(site) == 1
    assert all(True in hours_asked(server) for server in (site.a, site.b))
    for _ in range(2):
        pull(site)
    forget(site)
    assert moved(site) == 0
    assert [hours_asked(server) for server in (site.a, site.b)] == [[False], [False]]
    assert same(site)


def test_what_is_lost_here_is_seen_by_its_number_and_comes_again(site: SyncPair) -> None:
    lose(site.b, *[key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"] == "r4"])
    assert moved(site) == 1
    assert True in hours_asked(site.b)
    assert same(site)


def test_hours_that_only_this_side_has_are_counted_too(site: SyncPair) -> None:
    """The remote is younger: without that, all hours here were asked for in every pass."""
    for number in range(30, 33):
        run(site.b, site, f"own{number}", 3600 * number)
    pull(site)
    forget(site)
    assert moved(site) == 0
    assert hours_asked(site.b) == [False]


def test_hours_that_the_remote_has_dropped_are_forgotten(site: SyncPair) -> None:
    site.a.tables["reports"] = {
        key: row for key, row in site.a.tables["reports"].items() if row["transaction_uuid"] not in ("r6", "r7")
    }
    pull(site)
    pull(site)
    forget(site)
    assert moved(site) == 0
    assert [hours_asked(server) for server in (site.a, site.b)] == [[False], [False]]


def test_what_a_number_does_not_show_is_found_in_the_rotation_which_ends(site: SyncPair) -> None:
    """One of this side's own reports went, and another one of another hour came: as many as before."""
    for number in (20, 30):
        run(site.a, site, f"r{number}", 3600 * number)
    run(site.b, site, "own", 3600 * 20)
    for _ in range(3):
        pull(site)
    lose(site.b, *[key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"] == "own"])
    site.b.apply("store report", report("n", site.ago(3600 * 30), "other"))
    forget(site)
    assert moved(site) == 0
    assert hours_asked(site.b) == [False]
    site.time.elapsed += DAY + 1
    for _ in range(4):
        assert moved(site) == 0
    listed(site)
    forget(site)
    assert moved(site) == 0
    assert listed(site) == []
    assert hours_asked(site.b) == [False]


def test_the_rotation_asks_for_the_hours_that_are_next(site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_hours, "SLICE_ROWS", 2)
    monkeypatch.setattr(report_survey, "SLICE_ROWS", 2)
    site.time.elapsed += DAY
    forget(site)
    asked_for = []
    for _ in range(8):
        assert moved(site) == 0
        assert (numbers_asked(site.a), numbers_asked(site.b)) == (1, 1)
        asked_for.append(len(hours_asked(site.a)))
        forget(site)
    assert asked_for[0] > 1
    assert asked_for[-1] == 1, "it has an end"


def test_an_audit_asks_for_all_hours(site: SyncPair) -> None:
    pull(site, Mode(audit=True))
    for server in (site.a, site.b):
        assert (numbers_asked(server), True in hours_asked(server)) == (0, True)


def test_a_report_that_is_lost_here_while_another_one_comes_late_is_found_in_the_rotation(site: SyncPair) -> None:
    lose(site.b, *[key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"] == "r4"])
    site.b.apply("store report", report("n", site.ago(3600 * 6), "other"))
    assert moved(site) == 0, "as many as before"
    site.time.elapsed += DAY + 1
    assert sum(moved(site) for _ in range(3)) == 1
    assert {row["transaction_uuid"] for row in site.a.tables["reports"].values()} <= {
        row["transaction_uuid"] for row in site.b.tables["reports"].values()
    }
