"""Reports: what is remembered of them, and what this side drops again and again."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any

import pytest

from pdbclient.errors import IncompleteResponse, Rejected
from pdbclient.sync import Entity, Mode, Selection, plan
from pdbclient.sync.policy import report_hours
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.run import reports as run_reports
from pdbclient.sync.state.store import State, state_path

from .conftest import SyncPair
from .fake import deactivation, report
from .report_steps import COLD, begin, listed, lose, memory, moved, pull, run, same


@pytest.fixture
def site(site: SyncPair) -> SyncPair:
    return begin(site)


# --- what is remembered


def test_a_pass_about_a_part_of_the_reports_says_nothing_about_the_rest(site: SyncPair) -> None:
    run(site.a, site, "r1", COLD, "web1")
    run(site.a, site, "r2", COLD, "db1")
    run(site.a, site, "r3", 20 * 3600, "web1")
    assert moved(site, Mode(Selection(certnames=("web*",), max_age=36_000))) == 1
    assert memory(site) == ReportMemory()
    assert moved(site) == 2
    assert memory(site).cursor is not None


def test_a_plan_changes_nothing_that_is_remembered(site: SyncPair) -> None:
    run(site.a, site, "r1", COLD)
    pull(site)
    run(site.a, site, "r2", COLD)
    lose(site.a, *[key for key, row in site.a.tables["reports"].items() if row["transaction_uuid"] == "r1"])
    before = memory(site)
    plans = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    assert len(plans[-1].pull) == 1
    assert memory(site) == before


def test_hours_with_reports_of_an_inactive_node_are_not_listed_again_until_it_is_back(site: SyncPair) -> None:
    for number in range(3):
        run(site.a, site, f"r{number}", COLD, "away")
    site.a.apply("deactivate node", deactivation("away", site.ago(COLD - 1)))
    assert moved(site) == 0
    listed(site)
    pull(site)
    assert listed(site) == []
    site.time.elapsed += 60
    run(site.a, site, "back", 0, "away")
    assert moved(site) == 4
    assert same(site)


def test_a_node_whose_report_stays_left_out_has_no_other_hour_listed_again(site: SyncPair) -> None:
    """Deactivated here before that report, and there after it."""
    for number in range(3, 20):
        run(site.a, site, f"r{number}", 3600 * number)
        run(site.b, site, f"own{number}", 3600 * number + 1)
    run(site.a, site, "d", 30 * 3600, "d")
    run(site.b, site, "own d", 35 * 3600, "d")
    site.a.apply("deactivate node", deactivation("d", site.ago(29 * 3600)))
    site.b.apply("deactivate node", deactivation("d", site.ago(34 * 3600)))
    mode = Mode(Selection(frozenset({Entity.REPORTS})), one_way=True)
    seen = []
    for number in range(5):
        site.time.elapsed += 700
        run(site.a, site, f"now{number}")
        moved(site, mode)
        seen.append(len(listed(site)))
    assert seen[0] > 17
    assert seen[-1] <= 1


def test_a_slice_that_is_done_is_not_done_again_after_a_pass_that_broke(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_hours.cut, "__defaults__", (3,))
    for number in range(5, 17):
        run(site.a, site, f"r{number}", 3600 * number)
    pull(site)
    config = site.config(site.b)
    path = state_path(config.state_dir, config.local)
    path.unlink()
    listed(site)
    asked: list[str] = []

    def broken(path: str, query: Any) -> Exception | None:
        if path == "/reports" and query[:2] == ["extract", ["hash"]]:
            asked.append(path)
        return IncompleteResponse("a", "cut") if len(asked) == 3 else None

    site.a.broken = broken
    assert site.pull(site.b).errors == ["reports: a: cut"]
    first = listed(site)
    site.a.broken = lambda path, query: None
    pull(site)
    second = listed(site)
    assert len(first) == 9
    assert sorted(first[:6] + second) == [*range(5, 17), 100]


# --- retention


def test_reports_that_this_side_drops_again_and_again_are_left_alone_and_told_once_a_pass(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    """report-ttl here is 2 days, the configuration believes 14."""
    for number in range(0, 200, 10):
        run(site.a, site, f"r{number}", 3600 * number)

    def collect_garbage() -> None:
        for key, row in list(site.b.tables["reports"].items()):
            if row["producer_timestamp"] < report("n", site.ago(2 * 86_400), "")["producer_timestamp"]:
                del site.b.tables["reports"][key]

    rounds = []
    for _ in range(5):
        rounds.append(moved(site))
        collect_garbage()
    assert rounds == [20, 16, 16, 7, 0], "younger than all that was here at first: not known to be dropped once"
    told = [record for record in caplog.records if "are not pulled: they were stored here before" in record.message]
    assert len(told) == 2
    assert told[0].levelno == logging.WARNING
    run(site.a, site, "late, and too old", 7 * 86_400)
    run(site.a, site, "late", 86_400)
    assert moved(site) == 1
    assert moved(site, Mode(audit=True)) == 17, "an audit tries it again"


def test_a_side_that_was_emptied_is_filled_however_often(site: SyncPair) -> None:
    for number in range(0, 200, 10):
        run(site.a, site, f"r{number}", 3600 * number)
    for _ in range(5):
        pull(site)
        assert same(site)
        site.b.tables["reports"].clear()


@pytest.mark.parametrize("rebuilt", [1, 3, 4])
def test_a_side_that_is_rebuilt_and_gets_a_report_before_the_pass_is_filled_however_often(
    site: SyncPair, rebuilt: int
) -> None:
    """It has nothing but what is new: that is no retention."""
    for number in range(1, 30):
        run(site.a, site, f"r{number}", 3 * 3600 * number)
    pull(site)
    for number in range(rebuilt):
        site.time.elapsed += 3600
        run(site.a, site, f"on{number}")
        site.b.tables["reports"].clear()
        run(site.b, site, f"own{number}")
        pull(site)
        pull(site)
    assert site.a.tables["reports"].keys() <= site.b.tables["reports"].keys()


def test_an_hour_that_is_filled_in_several_slices_is_filled_once(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_reports, "SLICE_ROWS", 2)
    site.b.apply("store report", report("n", site.ago(80 * 3600), "own"))
    lose(site.b, *[key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"] == "first"])
    pull(site)
    lose(site.b, *[key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"] == "first"])
    for number in range(9):
        run(site.a, site, f"late{number}", 100 * 3600 + number)
    assert moved(site) == 10
    assert set(memory(site).fills.values()) == {2}


def test_raising_the_retention_brings_the_older_ones_with_the_next_pass(site: SyncPair) -> None:
    site.options["report_ttl"] = 3 * 86_400.0
    for number in range(20):
        run(site.a, site, f"r{number}", 3600 * number)
    for _ in range(3):
        pull(site)
    run(site.a, site, "old", 5 * 86_400)
    site.time.elapsed += 3600
    assert moved(site) == 0
    site.options["report_ttl"] = 14 * 86_400.0
    assert moved(site) == 1


def test_a_report_that_an_operator_asks_for_comes_though_its_hour_counts_alike(site: SyncPair) -> None:
    for number in range(40):
        run(site.a, site, f"r{number}", COLD + number)
    site.b.refuses["bad"] = Rejected("b", 400, "no")
    bad = run(site.a, site, "bad", COLD + 20, "bad")
    for _ in range(6):
        pull_all(site)
        site.time.elapsed += 2000
    marked = sorted(key for key, row in site.b.tables["reports"].items() if row["transaction_uuid"] != "first")
    for number in range(1000):
        added = run(site.b, site, f"own{number}")
        when = site.a.tables["reports"][bad]["producer_timestamp"]
        lose(site.b, added)
        site.b.apply("store report", {**report("n", 0, f"own{number}"), "producer_timestamp": when})
        (own,) = site.b.tables["reports"].keys() - site.a.tables["reports"].keys()
        if marked[0] < own < marked[-1]:
            break
        lose(site.b, own)
    pull_all(site)
    del site.b.refuses["bad"]
    config = site.config(site.b)
    with closing(State(state_path(config.state_dir, config.local))) as opened:
        assert list(opened.left_alone(site.a.endpoint.url, Entity.REPORTS)) == [bad]
        opened.retry(site.a.endpoint.url, Entity.REPORTS, bad)
    pull_all(site)
    assert bad in site.b.tables["reports"]
    assert memory(site).asked == frozenset()


def test_a_report_that_an_operator_asks_for_while_others_of_its_slice_are_pulled_comes_with_the_next_pass(
    site: SyncPair,
) -> None:
    site.b.refuses["bad"] = Rejected("b", 400, "no")
    bad = run(site.a, site, "bad", COLD + 20, "bad")
    for _ in range(6):
        pull_all(site)
        site.time.elapsed += 2000
    config, submit = site.config(site.b), site.b.submit
    del site.b.refuses["bad"]
    # What came in lately is looked at each time.
    run(site.a, site, "later")
    pull_all(site)
    run(site.a, site, "other", site.time.elapsed + COLD + 3621)

    def retried(*arguments: Any, **options: Any) -> str:
        with closing(State(state_path(config.state_dir, config.local))) as opened:
            opened.retry(site.a.endpoint.url, Entity.REPORTS, bad)
        return submit(*arguments, **options)

    site.b.submit = retried  # type: ignore[method-assign]
    # Which works off all hours by their lists, adjacent ones together.
    pull(site, Mode(audit=True))
    assert bad not in site.b.tables["reports"]
    site.b.submit = submit  # type: ignore[method-assign]
    pull_all(site)
    assert bad in site.b.tables["reports"]
    assert memory(site).asked == frozenset()


def pull_all(site: SyncPair) -> None:
    """A pass in which something may be rejected."""
    site.pull(site.b)


def test_what_is_remembered_goes_with_the_hours_that_are_asked_for(site: SyncPair) -> None:
    site.options["report_ttl"] = 3 * 86_400.0
    for number in range(60):
        run(site.a, site, f"r{number}", 3600 * number)
        run(site.b, site, f"own{number}", 3600 * number + 1)
    sizes = []
    for _ in range(4):
        site.time.elapsed += 86_400
        pull(site)
        pull(site)
        sizes.append(len(memory(site).unequal))
    assert sizes[0] > 20
    assert sizes[-1] == 0


def test_an_hour_that_was_lost_in_the_middle_is_filled_however_often(site: SyncPair) -> None:
    hashes = [run(site.a, site, f"r{number}", 3600 * 10 * number) for number in range(1, 9)]
    for _ in range(6):
        pull(site)
        assert same(site)
        lose(site.b, *hashes[:4])
