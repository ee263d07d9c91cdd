"""Filling a server from its peer: when it ends, and how much there is to do."""

from __future__ import annotations

from contextlib import closing

import pytest

from pdbclient.errors import NotSent, Rejected
from pdbclient.sync import EntityResult, Mode, Outcome, PassResult
from pdbclient.sync.policy.model import Entity, Selection
from pdbclient.sync.run.seed import goes_on, left_over, outstanding, seed
from pdbclient.sync.state.store import State, state_path

from .conftest import SyncPair
from .fake import catalog, facts, report

pytestmark = pytest.mark.releases


def fill(site: SyncPair, nodes: int = 7) -> None:
    for number in range(nodes):
        name = f"n{number}"
        site.a.apply("replace facts", facts(name, site.ago(100 + number), number))
        site.a.apply("replace catalog", catalog(name, site.ago(100 + number), number))
        site.a.apply("store report", report(name, site.ago(4000 * number + 5), f"r{number}"))


def seeded(site: SyncPair, mode: Mode | None = None) -> list[PassResult]:
    config = site.config(site.b)
    remote = config.remotes[0].endpoint
    return list(seed(config, remote, mode or Mode(seed=True), connect=site.connect, clock=site.clock))


def lacking(site: SyncPair, selection: Selection | None = None) -> int | None:
    config = site.config(site.b)
    remote = config.remotes[0].endpoint
    return outstanding(config, remote, selection or Selection(), connect=site.connect, clock=site.clock)


def ended(seconds: float, transferred: int, outcome: Outcome = Outcome.DONE) -> PassResult:
    return PassResult(
        "https://a:8081", outcome, {Entity.FACTS: EntityResult(transferred=transferred)}, (), int(seconds * 1000)
    )


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], True),
        ([ended(5, 0)], False),
        ([ended(5, 10)], True),
        ([ended(500, 10), ended(5, 10)], False),
        ([ended(500, 10), ended(120, 10)], True),
        ([ended(500, 10), ended(120, 0)], False),
        ([ended(5, 10, Outcome.STOPPED)], False),
        ([ended(5, 10, Outcome.UNREACHABLE)], False),
        ([ended(5, 10, Outcome.REFUSED)], False),
    ],
)
def test_it_goes_on_until_a_pass_finds_nothing_or_only_what_came_in_meanwhile(
    results: list[PassResult], expected: bool
) -> None:
    assert goes_on(results) is expected


def test_an_empty_server_has_it_all_after_a_seeding_and_the_last_pass_found_nothing(site: SyncPair) -> None:
    fill(site)
    results = seeded(site)
    assert all(result.ok for result in results)
    assert site.a.tables == site.b.tables
    assert not any(part.transferred for part in results[-1].entities.values())
    assert lacking(site) == 0


def test_a_seeding_that_was_stopped_goes_on_from_there(site: SyncPair) -> None:
    fill(site, 60)
    submit, once = site.b.submit, ["stop"]

    def stopping(*arguments: object, **options: object) -> str:
        # Several at once: it may never be 25 exactly.
        if len(site.b.submitted) >= 25 and once:
            once.clear()
            site.time.set()
        return submit(*arguments, **options)  # type: ignore[arg-type]

    site.b.submit = stopping  # type: ignore[method-assign]
    assert seeded(site)[-1].outcome is Outcome.STOPPED
    taken = len(site.b.submitted)
    assert 25 <= taken < 180
    site.time.clear()
    assert all(result.ok for result in seeded(site))
    assert site.a.tables == site.b.tables
    assert len(site.b.submitted) < 180 + 25


def test_a_remote_that_cannot_be_reached_ends_it(site: SyncPair) -> None:
    site.a.down = NotSent("a", "refused")
    (result,) = seeded(site)
    assert result.outcome is Outcome.UNREACHABLE


def test_how_much_there_is_to_do_counts_what_is_missing_or_older_here(site: SyncPair) -> None:
    fill(site)
    assert lacking(site) == 21
    site.b.apply("replace facts", facts("n0", site.ago(1), "newer"))
    site.b.apply("replace facts", facts("n1", site.ago(9000), "older"))
    assert lacking(site) == 20
    assert lacking(site, Selection(frozenset({Entity.FACTS}), ("n[0-2]",))) == 2
    assert lacking(site, Selection(frozenset({Entity.REPORTS}), max_age=6000.0)) == 2


def test_how_many_reports_of_some_nodes_are_missing_cannot_be_told_without_listing_them(site: SyncPair) -> None:
    fill(site)
    assert lacking(site, Selection(certnames=("n1",))) is None


def test_a_selection_is_all_that_is_seeded(site: SyncPair) -> None:
    fill(site)
    seeded(site, Mode(Selection(frozenset({Entity.FACTS}), ("n1", "n2")), seed=True))
    assert sorted(site.b.tables["factsets"]) == ["n1", "n2"]
    assert not site.b.tables["catalogs"]
    assert not site.b.tables["reports"]


def test_a_record_is_left_over_while_it_waits_and_once_it_is_quarantined_and_not_when_it_was_dropped(
    site: SyncPair,
) -> None:
    fill(site)
    site.b.refuses["n6"] = Rejected("b", 400, "no")
    mode = Mode(Selection(frozenset({Entity.REPORTS})), seed=True)
    for _ in range(6):
        last = seeded(site, mode)[-1]
        assert left_over(site.config(site.b), last, mode.selection, site.clock.wall()) == 1
        site.time.elapsed += 3600
    assert left_over(site.config(site.b), last, Selection(frozenset({Entity.FACTS})), site.clock.wall()) == 0, (
        "of another selection"
    )
    with closing(State(state_path(site.config(site.b).state_dir, site.b.endpoint))) as state:
        ((remote, entity, key, _),) = state.refusals()
        state.drop(remote, entity, key)
    assert left_over(site.config(site.b), last, mode.selection, site.clock.wall()) == 0


def test_a_seeding_has_no_time_limit_for_an_entity(site: SyncPair) -> None:
    fill(site, 40)
    site.options["entity_time_limit"] = 1.0
    submit = site.b.submit

    def slow(*arguments: object, **options: object) -> str:
        site.time.elapsed += 0.5
        return submit(*arguments, **options)  # type: ignore[arg-type]

    site.b.submit = slow  # type: ignore[method-assign]
    assert seeded(site)[0].ok
    assert site.a.tables == site.b.tables
