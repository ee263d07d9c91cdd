"""Reports: what is listed, and that nothing gets lost by what is not."""

from __future__ import annotations

import pytest

from pdbclient.errors import IncompleteResponse
from pdbclient.sync import Entity, Mode
from pdbclient.sync.inventory import reports as report_inventory
from pdbclient.sync.inventory.reports import RECEIVED_ROWS
from pdbclient.sync.policy import report_hours

from .conftest import SyncPair
from .fake import report
from .report_steps import COLD, begin, listed, lose, memory, moved, pull, run, same

pytestmark = pytest.mark.releases


@pytest.fixture
def site(site: SyncPair) -> SyncPair:
    return begin(site)


# --- the cursor


def test_new_reports_are_found_by_when_they_were_received_and_no_hour_is_listed(site: SyncPair) -> None:
    for number in range(5):
        run(site.a, site, f"old{number}", 600 * number)
    assert moved(site) == 5
    listed(site)
    for number in range(3):
        site.time.elapsed += 60
        run(site.a, site, f"new{number}")
        assert moved(site) == 1
    assert moved(site) == 0
    assert (same(site), listed(site)) == (True, [])


def test_an_hour_that_is_over_is_listed_once_if_it_is_not_alike(site: SyncPair) -> None:
    run(site.a, site, "x")
    run(site.b, site, "own")
    pull(site)
    site.time.elapsed += 2 * 3600
    listed(site)
    pull(site)
    assert listed(site) == [2]
    pull(site)
    assert listed(site) == []


def test_an_hour_that_is_alike_when_it_is_over_is_listed_in_the_rotation_only(site: SyncPair) -> None:
    run(site.a, site, "x")
    pull(site)
    site.time.elapsed += 2 * 3600
    listed(site)
    pull(site)
    assert listed(site) == []
    site.time.elapsed += 86_400
    pull(site)
    assert 26 in listed(site)


def test_a_report_that_comes_late_is_found_by_the_next_pass_and_no_hour_is_listed(site: SyncPair) -> None:
    for number in range(50):
        run(site.a, site, f"r{number}", 3600 * number)
    moved(site)
    pull(site)
    listed(site)
    site.time.elapsed += 700
    for number in range(10, 20):
        run(site.a, site, f"late{number}", 3600 * number)
    assert moved(site) == 10
    assert listed(site) == []
    assert moved(site) == 0
    assert (same(site), listed(site)) == (True, [])


def test_the_queue_of_the_remote_may_lag_behind_the_receive_time(site: SyncPair) -> None:
    """What was received before the cursor and stored after it, by more than the overlap: the counts tell."""
    pull(site)
    site.time.elapsed += 3000
    run(site.a, site, "cursor is here")
    pull(site)
    slow = run(site.a, site, "slow", 5)
    site.a.received[slow] = site.ago(2000)
    assert moved(site) == 1
    assert same(site)


def test_a_remote_clock_that_is_set_back_loses_no_report(site: SyncPair) -> None:
    run(site.a, site, "before")
    pull(site)
    for number in range(3):
        site.time.elapsed += 60
        site.a.received[run(site.a, site, f"after{number}")] = site.ago(7200)
        assert moved(site) == 1
    assert same(site)


def test_a_receive_time_of_the_future_does_not_hide_what_is_received_until_then(site: SyncPair) -> None:
    site.a.received[run(site.a, site, "future")] = site.ago(-86_400)
    pull(site)
    found = memory(site).cursor
    assert found is not None
    assert found <= site.ago(-60)
    listed(site)
    site.time.elapsed += 60
    run(site.a, site, "now")
    assert moved(site) == 1
    assert listed(site) == []


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_our_own_clock_may_be_set_back_or_forth_by_an_hour(site: SyncPair, step: float) -> None:
    for number in range(10):
        run(site.a, site, f"r{number}", 1800 * number)
    pull(site)
    pull(site)
    site.time.elapsed += step
    run(site.a, site, "after", 0)
    assert moved(site) == 1
    site.time.elapsed += 60
    run(site.a, site, "again", 0)
    assert moved(site) == 1
    assert same(site)
    site.time.elapsed += 2 * 86_400
    listed(site)
    pull(site)
    assert len(listed(site)) >= 6, "the audit is not kept waiting by what was noted for later than now"


def test_the_cursor_stays_when_a_pass_breaks_before_the_new_reports_are_settled(site: SyncPair) -> None:
    run(site.a, site, "old")
    pull(site)
    before = memory(site).cursor
    site.time.elapsed += 900
    run(site.a, site, "new")
    site.a.broken = lambda path, query: (
        IncompleteResponse("a", "cut") if path == "/reports" and query[0] == "and" else None
    )
    result = site.pull(site.b)
    assert result.entities[Entity.REPORTS].failed == 1
    site.a.broken = lambda path, query: None
    site.b.down = IncompleteResponse("b", "gone")
    site.pull(site.b)
    assert memory(site).cursor != before, "a report that fails alone is remembered as such"
    site.b.down = None
    before = memory(site).cursor
    site.time.elapsed += 900
    run(site.a, site, "newer")
    site.b.broken = lambda path, query: (
        IncompleteResponse("b", "cut") if path == "/reports" and "newer" in str(site.b.submitted[-1].body) else None
    )
    site.pull(site.b)
    assert memory(site).cursor == before
    site.b.broken = lambda path, query: None
    assert moved(site) <= 1
    assert same(site)


def test_when_too_many_reports_came_in_the_hours_are_listed_instead(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RECEIVED_ROWS >= 10_000
    monkeypatch.setattr(report_inventory, "RECEIVED_ROWS", 5)
    run(site.a, site, "old")
    pull(site)
    site.time.elapsed += 60
    for number in range(6):
        run(site.a, site, f"r{number}")
    listed(site)
    assert moved(site) == 6
    assert listed(site) == [0]


# --- databases that are not those of before


def test_of_a_remote_that_was_restored_from_a_backup_those_hours_are_listed_that_count_otherwise(
    site: SyncPair,
) -> None:
    for number in range(10):
        run(site.a, site, f"r{number}", 7200 * number, f"n{number}")
    backup = dict(site.a.tables["reports"])
    pull(site)
    pull(site)
    site.time.elapsed += 600
    for number in range(4):
        run(site.a, site, f"lost{number}", 7200 * number, f"n{number}")
    pull(site)
    pull(site)
    site.a.tables["reports"] = backup
    listed(site)
    assert moved(site) == 0
    assert listed(site) == [2, 4, 6]
    pull(site)
    assert listed(site) == [], "what they are now is remembered"
    run(site.a, site, "after", 0, "n0")
    assert moved(site) == 1


@pytest.mark.parametrize("number", [1, 5, 50])
def test_what_another_database_in_the_remotes_place_has_is_pulled_when_its_hours_are_cold(
    site: SyncPair, number: int
) -> None:
    """Even if that received it long ago: its hours count otherwise, or are compared in the rotation."""
    for at in range(10):
        run(site.a, site, f"r{at}", 600 * at)
    pull(site)
    pull(site)
    site.a.purge("n")
    for at in range(number):
        site.a.received[run(site.a, site, f"other{at}", 600 * at, "k")] = site.ago(86_400)
    for _ in range(4):
        pull(site)
        site.time.elapsed += 3600
    assert site.a.tables["reports"].keys() <= site.b.tables["reports"].keys()


def test_a_node_that_the_remote_purged_has_nothing_listed_but_its_hours(site: SyncPair) -> None:
    for number in range(3):
        run(site.a, site, f"r{number}", COLD + 3600 * number, f"n{number}")
    pull(site)
    pull(site)
    site.a.purge("n0")
    listed(site)
    pull(site)
    pull(site)
    assert listed(site) == []


def test_reports_that_are_lost_here_come_back_with_the_next_pass(site: SyncPair) -> None:
    """This side restored from a backup, its state file not: also of the hours that are left to the cursor."""
    hashes = [run(site.a, site, f"r{number}", 1200 * number) for number in range(20)]
    pull(site)
    site.time.elapsed += 1200
    pull(site)
    lose(site.b, *hashes[:9])
    assert moved(site) == 9
    assert same(site)
    site.b.tables["reports"].clear()
    assert moved(site) == 21
    assert same(site)


# --- the audit


def swap(site: SyncPair) -> None:
    """b loses a report and gets one that a has not, of the same hour, with a hash in between: it counts as before."""
    marked = sorted(key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"].startswith("r"))
    lost = marked[len(marked) // 2]
    when = site.b.tables["reports"][lost]["producer_timestamp"]
    for number in range(100):
        site.b.apply("store report", {**report("n", 0, f"own{number}"), "producer_timestamp": when})
        (added,) = set(site.b.tables["reports"]) - set(site.a.tables["reports"])
        if marked[0] < added < marked[-1]:
            break
        lose(site.b, added)
    lose(site.b, lost)


def test_equal_counts_of_different_reports_are_found_by_the_next_audit(site: SyncPair) -> None:
    site.options["audit_interval"] = 7200.0
    for number in range(20):
        run(site.a, site, f"r{number}", COLD)
    pull(site)
    site.time.elapsed += 1000
    run(site.a, site, "the cursor goes on")
    pull(site)
    swap(site)
    site.time.elapsed += 5900
    assert moved(site) == 0, "nothing tells that the hour changed"
    site.time.elapsed += 1400
    assert moved(site) == 1


def test_an_audit_trusts_neither_cursor_nor_hours(site: SyncPair) -> None:
    for number in range(20):
        run(site.a, site, f"r{number}", COLD)
    pull(site)
    site.time.elapsed += 1000
    run(site.a, site, "hot")
    pull(site)
    swap(site)
    assert moved(site) == 0
    listed(site)
    assert moved(site, Mode(audit=True)) == 1
    assert listed(site) == [0, 3, 100]


def test_the_rotation_lists_a_bounded_part_in_each_pass_and_leaves_no_hour_out(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_hours, "SLICE_ROWS", 10)
    for number in range(4, 16):
        for part in range(3):
            run(site.a, site, f"r{number} {part}", 3600 * number)
    pull(site)
    pull(site)
    site.time.elapsed += 86_500
    listed(site)
    seen: list[list[int]] = []
    for _ in range(6):
        pull(site)
        seen.append(listed(site))
        site.time.elapsed += 60
    assert all(sum(1 if hour == 124 else 3 for hour in each) <= 10 for each in seen)
    assert len({hour for each in seen for hour in each}) == sum(map(len, seen)) == 13
