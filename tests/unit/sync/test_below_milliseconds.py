"""Stamps with more than milliseconds, which servers store, hash and show each in its own way.

Whatever a pass makes of them: a report is never there twice, and what two servers cannot make equal is listed and
left alone.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pdbclient.sync import Entity, Mode, plan
from pdbclient.sync.run.diff import Diff, diff
from pdbclient.wire.summary import from_millis

from ...versions import (
    OPENVOXDB_8_15,
    OPENVOXDB_ROUNDS,
    PUPPETDB_7_12,
    PUPPETDB_8_8,
    Release,
)
from .conftest import SyncPair
from .fake import FakePuppetDB, Row, catalog, facts, report

FRACTIONS = ("123", "1230003", "1234", "1236", "123999", "1239995", "1239997", "123999999", "999999", "9999999")
"""Of a second, as they are sent: cut, rounded, and carried into the next second."""

OPENVOX = (OPENVOXDB_8_15, OPENVOXDB_ROUNDS)
PAIRS = (
    *((one, one) for one in OPENVOX),
    *((one, other) for one in OPENVOX for other in (PUPPETDB_7_12, PUPPETDB_8_8)),
    *((other, one) for one in OPENVOX for other in (PUPPETDB_7_12, PUPPETDB_8_8)),
    (PUPPETDB_7_12, PUPPETDB_8_8),
)
TABLES = ("factsets", "catalogs")
ROUNDS = 8
HOUR = 3600.0
RUN = "1b5ad2e0-0000-4000-8000-{:012d}"


@pytest.fixture(params=PAIRS, ids=[f"{a}--{b}" for a, b in PAIRS])
def site(quick_path: Path, request: pytest.FixtureRequest) -> SyncPair:
    a, b = request.param
    return SyncPair(quick_path, a, b)


def stamp(site: SyncPair, ago: float, fraction: str) -> str:
    """A time so many seconds ago, to the second, and that fraction of one."""
    return f"{from_millis(site.ago(ago))[:19]}.{fraction}Z"


def stamped(payload: Row, text: str) -> Row:
    return {**payload, **{name: text for name in ("start_time", "end_time", "producer_timestamp") if name in payload}}


def rest(site: SyncPair) -> None:
    """Passes each way until nothing is transferred, with an hour between them, and then audits that pull nothing."""
    for _ in range(ROUNDS):
        site.time.elapsed += HOUR
        if not submitted(site):
            break
    else:
        raise AssertionError(f"after {ROUNDS} rounds each way there still is something to transfer")
    for _ in range(4):
        # Once in these, everything is listed anew, as `audit_interval` has it.
        site.time.elapsed += 8 * HOUR
        assert not submitted(site), "pulled again, after everything had come to rest"


def submitted(site: SyncPair) -> list[str]:
    """What one pass each way sends."""
    before = {side: len(side.submitted) for side in (site.a, site.b)}
    for side in (site.a, site.b):
        result = site.pull(side)
        assert not result.errors, result
    return [f"{sent.name} of {sent.certname}" for side in (site.a, site.b) for sent in side.submitted[before[side] :]]


def runs(side: FakePuppetDB) -> Counter[tuple[str, str]]:
    """How often each run's report is there."""
    return Counter((row["certname"], row["transaction_uuid"]) for row in side.tables["reports"].values())


def assert_no_report_twice(site: SyncPair) -> None:
    for side in (site.a, site.b):
        twice = {run: count for run, count in runs(side).items() if count > 1}
        assert not twice, f"{side.endpoint} has reports more than once: {twice}"


def compared(site: SyncPair) -> list[Diff]:
    """What `sync diff` says, from either side."""
    ways = ((site.b, site.a), (site.a, site.b))
    config = site.config
    return [diff(config(here), there.endpoint, connect=site.connect, clock=site.clock) for here, there in ways]


def assert_equal_or_listed(site: SyncPair) -> None:
    """What one side has and the other has not is in the plan of a pass, as skipped with a reason."""
    for here, there in ((site.b, site.a), (site.a, site.b)):
        plans = plan(site.config(here), there.endpoint, mode=Mode(audit=True), connect=site.connect, clock=site.clock)
        listed = {each.entity: {key for key, _ in each.skipped} for each in plans}
        assert not [key for each in plans for key in each.pull], "still to be pulled"
        missing = set(runs(there)) - set(runs(here))
        told = {
            (row["certname"], row["transaction_uuid"])
            for key, row in there.tables["reports"].items()
            if key in listed[Entity.REPORTS]
        }
        assert missing <= told, f"missing at {here.endpoint} and not listed: {missing - told}"


def test_a_report_that_one_side_has_is_copied_once_or_listed(site: SyncPair) -> None:
    for number, fraction in enumerate(FRACTIONS):
        for ago in (10 * HOUR + number, 30.0 + number):
            payload = report(f"n{number}", 0, RUN.format(int(ago)))
            site.a.apply("store report", stamped(payload, stamp(site, ago, fraction)))
    rest(site)
    assert_no_report_twice(site)
    assert_equal_or_listed(site)


def test_a_report_that_both_sides_have_is_left_as_it_is(site: SyncPair) -> None:
    for number, fraction in enumerate(FRACTIONS):
        for ago in (10 * HOUR + number, 30.0 + number):
            payload = stamped(report(f"n{number}", 0, RUN.format(int(ago))), stamp(site, ago, fraction))
            for side in (site.a, site.b):
                side.apply("store report", payload)
    assert submitted(site) == []
    rest(site)
    assert_no_report_twice(site)
    assert all(sum(runs(side).values()) == 2 * len(FRACTIONS) for side in (site.a, site.b))


def test_a_report_at_the_end_of_an_hour_is_in_the_next_one_at_the_other_side(site: SyncPair) -> None:
    """`.9999999` is shown, and counted among the hour's, one millisecond later by a server that rounds it."""
    last = site.ago(10 * HOUR) // 3_600_000 * 3_600_000 - 1000
    for number, fraction in enumerate(("999", "999999", "9999995", "9999999")):
        payload = report(f"n{number}", 0, RUN.format(number))
        for side in (site.a, site.b):
            side.apply("store report", stamped(payload, f"{from_millis(last)[:19]}.{fraction}Z"))
    assert submitted(site) == []
    rest(site)
    assert_no_report_twice(site)


def test_reports_that_are_only_here_and_only_there(site: SyncPair) -> None:
    for number, fraction in enumerate(FRACTIONS):
        for index, side in enumerate((site.a, site.b)):
            for ago in (50 * HOUR, 5 * HOUR + number, 60.0 + number):
                payload = report(f"n{number}", 0, RUN.format(int(ago) * 10 + index))
                side.apply("store report", stamped(payload, stamp(site, ago, fraction)))
    rest(site)
    assert_no_report_twice(site)
    assert_equal_or_listed(site)


def test_a_report_whose_run_is_named_in_capitals_is_copied_once_or_listed(site: SyncPair) -> None:
    """Every version hashes a `transaction_uuid` as it came, and shows it in small letters."""
    payload = report("n", site.ago(HOUR), "ABCDEF00-0000-4000-8000-000000000000")
    site.a.apply("store report", payload)
    rest(site)
    assert_no_report_twice(site)
    assert_equal_or_listed(site)


def test_records_of_one_side_come_to_the_other_and_are_equal(site: SyncPair) -> None:
    for number, fraction in enumerate(FRACTIONS):
        for command, make in (("replace facts", facts), ("replace catalog", catalog)):
            site.a.apply(command, stamped(make(f"n{number}", 0), stamp(site, 30.0, fraction)))
    rest(site)
    assert {table: shown(site.a, table) for table in TABLES} == {table: shown(site.b, table) for table in TABLES}
    assert all(comparison.equal for comparison in compared(site))


def test_records_of_both_sides_with_other_content_are_settled_or_listed(site: SyncPair) -> None:
    for number, (fraction, other) in enumerate(product(FRACTIONS, repeat=2)):
        for side, value, text in ((site.a, "x", fraction), (site.b, "y", other)):
            for command, make in (("replace facts", facts), ("replace catalog", catalog)):
                side.apply(command, stamped(make(f"n{number}", 0, value), stamp(site, 30.0, text)))
    rest(site)
    assert_records_equal_or_listed(site)


def test_catalogs_that_differ_in_the_run_only_are_settled_or_listed(site: SyncPair) -> None:
    for number, texts in enumerate(product(FRACTIONS, repeat=2)):
        for index, (side, text) in enumerate(zip((site.a, site.b), texts, strict=True)):
            payload = catalog(f"n{number}", 0, "x", RUN.format(index))
            side.apply("replace catalog", stamped(payload, stamp(site, 30.0, text)))
    rest(site)
    assert_records_equal_or_listed(site)


def shown(side: FakePuppetDB, table: str) -> dict[str, tuple[Any, ...]]:
    return {
        key: (side.release.shown(row["producer_timestamp"]), row["hash"], row.get("transaction_uuid"))
        for key, row in side.tables[table].items()
    }


def assert_records_equal_or_listed(site: SyncPair) -> None:
    """What can be made equal is; else a pass lists it, one way or the other."""
    different = {
        key for table in TABLES for key, row in shown(site.a, table).items() if row != shown(site.b, table).get(key)
    }
    assert different or all(comparison.equal for comparison in compared(site))
    listed = {
        key
        for here, there in ((site.b, site.a), (site.a, site.b))
        for each in plan(
            site.config(here), there.endpoint, mode=Mode(audit=True), connect=site.connect, clock=site.clock
        )
        for key, _ in each.skipped
    }
    assert different <= listed, f"{sorted(different - listed)} differ, and nothing says so"


@pytest.mark.parametrize("release", [OPENVOXDB_8_15, OPENVOXDB_ROUNDS], ids=str)
def test_what_was_seen_of_openvoxdb(release: Release) -> None:
    assert release.shown(release.stored("2026-11-20T10:00:11.1239997Z")) == "2026-11-20T10:00:11.124Z"
    assert release.shown(release.stored("2026-11-20T10:00:11.9999999Z")) == "2026-11-20T10:00:12.000Z"
    assert release.shown(release.stored("2026-11-20T10:00:11.1230003Z")) == "2026-11-20T10:00:11.123Z"
