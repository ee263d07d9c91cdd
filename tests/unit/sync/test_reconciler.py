"""Whole passes between two in-memory PuppetDBs."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest

from pdbclient.errors import (
    Ambiguous,
    Busy,
    DeadlineExceeded,
    Forbidden,
    IncompleteResponse,
    Misrouted,
    NotSent,
    Rejected,
    ServerError,
    SyncError,
)
from pdbclient.sync import Difference, Mode, Outcome, PassResult, Reconciler, plan, reconcile
from pdbclient.sync.policy.model import Entity
from pdbclient.sync.state.lock import InstanceLock
from pdbclient.sync.state.store import State, state_path

from .conftest import SyncPair
from .fake import RECOGNISING, FakePuppetDB, catalog, deactivation, facts, report

pytestmark = pytest.mark.releases


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


def fill(site: SyncPair) -> None:
    """Different data on both sides."""
    for number in range(45):
        side = site.a if number % 3 else site.b
        name = f"n{number}.example.com"
        side.apply("replace facts", facts(name, site.ago(100 + number), number, [["bash", "5.2", "apt"]]))
        side.apply("replace catalog", catalog(name, site.ago(100 + number), number, f"u{number}"))
        side.apply("store report", report(name, site.ago(3600 * number), f"r{number}"))


def test_two_passes_make_both_sides_equal_and_a_second_round_transfers_nothing(site: SyncPair) -> None:
    fill(site)
    first = [site.pull(site.a), site.pull(site.b)]
    assert all(result.ok for result in first), first
    assert site.a.tables == site.b.tables
    assert [moved(result) for result in first] == [
        {"facts": 15, "catalogs": 15, "reports": 15},
        {"facts": 30, "catalogs": 30, "reports": 30},
    ]
    assert [moved(site.pull(side)) for side in (site.a, site.b)] == [{}, {}]


def test_the_remote_is_never_submitted_to(site: SyncPair) -> None:
    fill(site)
    site.pull(site.b)
    assert site.b.submitted
    assert not site.a.submitted


def test_packages_travel_with_the_facts(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(5), 1, [["bash", "5.2", "apt"]]))
    site.pull(site.b)
    assert site.b.tables["factsets"]["n"]["package_inventory"] == [["bash", "5.2", "apt"]]


def test_a_conflict_at_equal_times_ends_with_the_greater_hash_on_both_sides(site: SyncPair) -> None:
    when = site.ago(60)
    site.a.apply("replace facts", facts("n", when, "one"))
    site.b.apply("replace facts", facts("n", when, "two"))
    greater = max(side.tables["factsets"]["n"]["hash"] for side in (site.a, site.b))
    results = [site.pull(site.a), site.pull(site.b)]
    assert sum(moved(result).get("facts", 0) for result in results) == 1
    assert [side.tables["factsets"]["n"]["hash"] for side in (site.a, site.b)] == [greater, greater]
    assert [moved(site.pull(side)) for side in (site.a, site.b)] == [{}, {}]


def test_a_deactivation_is_submitted_before_any_data(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("old", site.ago(500)))
    site.a.apply("deactivate node", deactivation("old", site.ago(50)))
    site.a.apply("replace facts", facts("new", site.ago(10)))
    assert moved(site.pull(site.b)) == {"nodes": 1, "facts": 1}
    assert [command.name for command in site.b.submitted] == ["deactivate node", "replace facts"]
    assert site.b.nodes["old"].deactivated == site.a.nodes["old"].deactivated


def test_a_deactivation_is_not_undone_from_the_side_that_has_not_heard_of_it(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("old", site.ago(500), "older"))
    site.b.apply("replace facts", facts("old", site.ago(400), "newer"))
    site.b.apply("store report", report("old", site.ago(400), "r"))
    site.a.apply("deactivate node", deactivation("old", site.ago(50)))
    assert moved(site.pull(site.a)) == {}
    assert site.a.nodes["old"].deactivated is not None
    assert moved(site.pull(site.b)) == {"nodes": 1}


def test_a_node_that_ran_again_after_its_deactivation_comes_back_with_all_its_data(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("n", site.ago(500)))
    site.a.apply("deactivate node", deactivation("n", site.ago(300)))
    site.b.apply("store report", report("n", site.ago(400), "before"))
    site.b.apply("replace catalog", catalog("n", site.ago(100)))
    site.b.apply("replace facts", facts("n", site.ago(350)))
    assert moved(site.pull(site.a)) == {"facts": 1, "catalogs": 1, "reports": 1}
    assert site.a.nodes["n"].deactivated is None
    assert moved(site.pull(site.a)) == {}


def hide(side: FakePuppetDB, name: str, age: int, site: SyncPair) -> None:
    """PuppetDB worked off a deactivation and newer records at once."""
    side.nodes[name].deactivated = site.ago(age)


@pytest.mark.parametrize("kind", ["replace facts", "replace catalog"])
def test_a_node_that_an_older_deactivation_hides_is_made_active(
    site: SyncPair, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for side in (site.a, site.b):
        side.apply(kind, facts("n", site.ago(5)) if kind == "replace facts" else catalog("n", site.ago(5), 1, "u"))
        side.apply("replace facts", facts("other", site.ago(5)))
    hide(site.b, "n", 50, site)
    result = site.pull(site.b)
    assert result.ok
    assert site.b.nodes["n"].deactivated is None
    assert [command.name for command in site.b.submitted] == [kind]
    assert any("submitted again (n)" in message for message in caplog.messages)
    assert moved(site.pull(site.b)) == {}


def test_a_hidden_node_is_made_active_by_what_is_newer_at_the_remote_alone(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("n", site.ago(60)))
    site.a.apply("replace facts", facts("n", site.ago(5)))
    hide(site.b, "n", 70, site)
    assert moved(site.pull(site.b)) == {"facts": 1}
    assert site.b.nodes["n"].deactivated is None


def test_a_deactivation_leaves_a_server_that_never_purges(site: SyncPair) -> None:
    """node-purge-ttl 0: such a server lists no node as inactive."""
    for side in (site.a, site.b):
        side.purges = False
        side.apply("replace facts", facts("old", site.ago(40 * 86_400)))
        side.apply("replace facts", facts("older", site.ago(40 * 86_400)))
    site.a.apply("deactivate node", deactivation("old", site.ago(50)))
    site.a.apply("deactivate node", deactivation("older", site.ago(30 * 86_400)))
    assert moved(site.pull(site.b)) == {"nodes": 1}
    site.options["node_purge_ttl"] = 0.0
    assert moved(site.pull(site.b)) == {"nodes": 1}


@pytest.mark.parametrize(
    "error",
    [ServerError("b", 500, "Internal Server Error"), Rejected("b", 400, "no"), ServerError("b", 404, "what?")],
)
def test_a_deactivation_that_the_local_server_does_not_take_fails_alone(site: SyncPair, error: Exception) -> None:
    """All that came after it in the order of names stayed active, in every pass."""
    for number in range(7):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(f"n{number}", site.ago(6000)))
    for number in range(3):
        site.a.apply("deactivate node", deactivation(f"n{number}", site.ago(600)))
    site.b.refuses["n0"] = error
    result = site.pull(site.b)
    assert (result.outcome, result.entities[Entity.NODES].error) == (Outcome.DONE, None)
    assert [site.b.nodes[f"n{number}"].deactivated is None for number in range(3)] == [True, False, False]
    site.time.elapsed += 7200
    site.b.refuses.clear()
    assert site.pull(site.b).ok
    assert site.b.nodes["n0"].deactivated is not None


@pytest.mark.parametrize(
    "error", [Busy("b", 503, "maintenance", 1.0), Forbidden("b", 403, "no"), Misrouted("b", 404, "")]
)
def test_a_local_server_that_takes_no_deactivation_at_all_is_not_asked_for_the_others(
    site: SyncPair, error: Exception
) -> None:
    for number in range(7):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(f"n{number}", site.ago(6000)))
    for number in range(2):
        site.a.apply("deactivate node", deactivation(f"n{number}", site.ago(600)))
        site.b.refuses[f"n{number}"] = error
    result = site.pull(site.b)
    assert not result.ok
    assert result.entities[Entity.NODES].failed == 0, "none is to be quarantined"


def test_a_node_purged_here_and_dead_there_is_not_brought_back(site: SyncPair) -> None:
    for side in (site.a, site.b):
        side.apply("replace facts", facts("gone", site.ago(500)))
        side.apply("store report", report("gone", site.ago(500), "r"))
        side.apply("deactivate node", deactivation("gone", site.ago(50)))
    site.a.purge("gone")
    assert moved(site.pull(site.a)) == {}
    assert "gone" not in site.a.nodes


def test_an_expired_node_of_the_remote_is_neither_copied_nor_deactivated(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(500)))
    site.a.nodes["n"].expired = site.ago(5)
    assert moved(site.pull(site.b)) == {}
    assert site.b.nodes == {}


def test_a_record_from_the_future_is_held_and_counted(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(-3600)))
    site.a.apply("store report", report("n", site.ago(-7200), "r"))
    result = site.pull(site.b)
    assert moved(result) == {}
    assert result.as_json()["held"] == 2


def test_a_hash_that_no_transfer_preserves_is_pulled_once_and_then_listed(site: SyncPair) -> None:
    # Whichever hash is greater, one of the two directions has something to pull.
    for side in (site.a, site.b):
        side.mangles.add("n")
    site.a.apply("replace facts", facts("n", site.ago(5)))
    first = site.pull(site.b)
    assert moved(first) == {"facts": 1}
    assert first.as_json()["unequal"] == 1
    rounds = [site.pull(side) for side in (site.a, site.b, site.a, site.b)]
    assert sum(moved(result).get("facts", 0) for result in rounds) <= 1
    assert [moved(result) for result in rounds[2:]] == [{}, {}]
    assert all(result.ok for result in rounds)


def test_a_report_past_the_local_retention_is_not_pulled(site: SyncPair) -> None:
    site.options["report_ttl"] = 3 * 86400.0
    site.a.apply("replace facts", facts("n", site.ago(5)))
    kept = site.ago(3 * 86400) // 86_400_000 * 86_400_000
    site.a.apply("store report", report("n", kept - 1, "old"))
    site.a.apply("store report", report("n", kept, "young"))
    assert moved(site.pull(site.b))["reports"] == 1
    assert [row["transaction_uuid"] for row in site.b.tables["reports"].values()] == ["young"]


def test_equal_counts_of_different_reports_in_one_hour_are_noticed(site: SyncPair) -> None:
    """The marks of an hour can agree while each side lacks another report."""
    middle = site.ago(0) // 3_600_000 * 3_600_000 - 1_800_000
    uuids = [f"r{number}" for number in range(40)]
    for uuid in uuids:
        site.a.apply("store report", report("n", middle, uuid))
    hashes = sorted(site.a.tables["reports"])
    for side, missing in ((site.b, hashes[10]), (site.a, hashes[20])):
        side.tables["reports"] = {h: r for h, r in site.a.tables["reports"].items() if h != missing}
    site.b.nodes = {"n": site.a.nodes["n"]}
    assert moved(site.pull(site.b)) == {"reports": 1}
    assert moved(site.pull(site.a)) == {"reports": 1}
    assert site.a.tables["reports"].keys() == site.b.tables["reports"].keys()


def test_an_hour_that_is_alike_is_not_listed_while_the_cursor_finds_what_came_in(site: SyncPair) -> None:
    site.a.apply("store report", report("n", site.ago(7200), "r1"))
    for _ in range(2):
        site.pull(site.b)

    def listings() -> int:
        site.a.queries.clear()
        site.pull(site.b)
        asked = [query for path, query in site.a.queries if path == "/reports"]
        return sum(1 for query in asked if query[0] == "extract" and query[1] == ["hash"])

    assert listings() == 0
    site.a.apply("store report", report("n", site.ago(7200), "r2"))
    assert listings() == 0
    assert len(site.b.tables["reports"]) == 2, "found by when it was received"
    assert [listings(), listings()] == [0, 0]


def test_one_bad_record_in_a_batch_fails_alone(site: SyncPair) -> None:
    for number in range(20):
        site.a.apply("replace facts", facts(f"n{number}", site.ago(5)))

    def broken(path: str, query: Any) -> Exception | None:
        text = json.dumps(query)
        poisoned = path == "/factsets" and query[0] == "and" and '"n7"' in text
        return IncompleteResponse("a", "broke off") if poisoned else None

    site.a.broken = broken
    result = site.pull(site.b)
    assert (result.ok, result.outcome) == (False, Outcome.DONE)
    assert (result.entities[Entity.FACTS].transferred, result.entities[Entity.FACTS].failed) == (19, 1)
    assert "n7" not in site.b.tables["factsets"]


def test_a_remote_that_breaks_every_query_ends_the_entity_instead_of_failing_each_record(site: SyncPair) -> None:
    for number in range(200):
        site.a.apply("replace facts", facts(f"n{number}", site.ago(5)))
    site.a.broken = lambda path, query: (
        DeadlineExceeded("https://a", "no answer") if path == "/factsets" and query[0] == "and" else None
    )
    result = site.pull(site.b)
    assert result.errors == ["facts: https://a: no answer"]
    assert result.entities[Entity.FACTS].failed < 5
    # Some of them were fetched ahead.
    assert len([query for path, query in site.a.queries if path == "/factsets"]) < 15


def test_a_record_that_the_local_server_rejects_fails_alone_and_waits_before_it_is_tried_again(
    site: SyncPair,
) -> None:
    for name in ("good", "bad"):
        site.a.apply("replace facts", facts(name, site.ago(5)))
    site.b.refuses["bad"] = Rejected("b", 400, "no")
    first = site.pull(site.b)
    assert (first.entities[Entity.FACTS].transferred, first.entities[Entity.FACTS].failed) == (1, 1)
    again = site.pull(site.b)
    assert (again.entities[Entity.FACTS].transferred, again.entities[Entity.FACTS].failed) == (0, 0)


def test_a_record_that_is_queued_and_never_stored_is_quarantined_after_three_tries(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(5)))
    site.b.discards.add("n")
    for _ in range(3):
        result = site.pull(site.b)
        assert (result.entities[Entity.FACTS].transferred, result.entities[Entity.FACTS].failed) == (0, 1)
        site.time.elapsed += 86_400
    assert len(site.b.submitted) == 3
    assert site.pull(site.b).ok
    assert len(site.b.submitted) == 3
    plans = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    (skipped,) = (skipped for part in plans for skipped in part.skipped)
    assert skipped == ("n", Difference.QUARANTINED)
    site.b.discards.clear()
    site.a.apply("replace facts", facts("n", site.ago(1)))
    assert moved(site.pull(site.b)) == {"facts": 1}


def test_a_remote_that_suddenly_has_no_nodes_is_refused(site: SyncPair) -> None:
    fill(site)
    site.pull(site.b)
    for name in list(site.a.nodes):
        site.a.purge(name)
    result = site.pull(site.b)
    assert result.outcome is Outcome.REFUSED
    assert "no nodes at all" in result.errors[0]
    assert all(node.deactivated is None for node in site.b.nodes.values())


def test_a_new_remote_without_nodes_is_nothing_to_worry_about(site: SyncPair) -> None:
    site.b.apply("replace facts", facts("n", site.ago(5)))
    assert site.pull(site.b).ok


def test_too_many_deactivations_are_braked_and_the_other_entities_go_on(site: SyncPair) -> None:
    for number in range(60):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(f"n{number}", site.ago(500)))
        if number < 51:
            site.a.apply("deactivate node", deactivation(f"n{number}", site.ago(50)))
    site.a.apply("replace facts", facts("n55", site.ago(5)))
    result = site.pull(site.b)
    assert (result.ok, result.outcome) == (False, Outcome.DONE)
    assert result.errors[0].startswith("nodes: safety brake: 51 of 60 active nodes")
    assert moved(result) == {"facts": 1}
    assert all(node.deactivated is None for node in site.b.nodes.values())


def decommissioned(site: SyncPair, nodes: int, dead: int) -> None:
    for number in range(nodes):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(f"n{number}", site.ago(500)))
        if number < dead:
            site.a.apply("deactivate node", deactivation(f"n{number}", site.ago(50)))


def test_the_nodes_of_a_small_site_do_not_all_go_at_once_unless_somebody_says_so(site: SyncPair) -> None:
    decommissioned(site, nodes=40, dead=40)
    result = site.pull(site.b)
    assert result.errors[0].startswith("nodes: safety brake: 40 of 40 active nodes would be deactivated in one pass")
    assert "--allow-deactivations 40" in result.errors[0]
    assert not site.b.submitted

    def allowed(number: int) -> PassResult:
        mode = Mode(deactivations=number)
        return reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]

    assert not allowed(39).ok
    assert not site.b.submitted
    assert (allowed(40).ok, len(site.b.submitted)) == (True, 40)


def test_the_second_look_at_the_nodes_is_braked_with_the_first(site: SyncPair) -> None:
    decommissioned(site, nodes=40, dead=15)
    site.a.apply("replace facts", facts("n39", site.ago(5)))

    def meanwhile(path: str, query: Any) -> Exception | None:
        if path == "/factsets" and query[0] == "and":
            for number in range(15, 30):
                site.a.apply("deactivate node", deactivation(f"n{number}", site.ago(1)))
        return None

    site.a.broken = meanwhile
    result = site.pull(site.b)
    assert "30 of 40 active nodes would be deactivated in one pass, more than 20: 15 were" in result.errors[0]
    assert sum(node.deactivated is not None for node in site.b.nodes.values()) == 15


def test_a_deactivation_that_a_newer_record_here_contradicts_is_left_alone(site: SyncPair) -> None:
    site.a.apply("deactivate node", deactivation("n", site.ago(50)))
    site.b.apply("store report", report("n", site.ago(10), "r"))
    assert moved(site.pull(site.b)) == {}
    assert not site.b.submitted


def test_a_broken_summary_ends_its_entity_and_not_the_pass(site: SyncPair) -> None:
    fill(site)
    site.a.broken = lambda path, query: (
        IncompleteResponse("a", "cut") if path == "/catalogs" and query[0] == "extract" else None
    )
    result = site.pull(site.b)
    assert result.outcome is Outcome.DONE
    assert moved(result) == {"facts": 30, "reports": 30}
    assert result.errors == ["catalogs: a: cut"]


def test_an_unreachable_remote_is_told_as_such(site: SyncPair) -> None:
    site.a.down = NotSent("https://a", "connection refused")
    result = site.pull(site.b)
    assert (result.outcome, result.errors) == (
        Outcome.UNREACHABLE,
        ["https://a: connection refused"],
    )


def test_a_local_server_that_goes_away_in_the_middle_ends_the_pass(site: SyncPair) -> None:
    fill(site)
    site.b.refuses["n1.example.com"] = Ambiguous("https://b", "reset")
    result = site.pull(site.b)
    assert result.outcome is Outcome.DONE
    assert result.errors[0].startswith("facts: https://b: reset")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "starting"}, "not running"),
        ({"maintenance": True}, "maintenance mode"),
        ({"version": "6.9.0"}, "hash"),
    ],
)
def test_the_gate_refuses_a_remote_that_is_not_fit(site: SyncPair, change: dict[str, Any], reason: str) -> None:
    for name, value in change.items():
        setattr(site.a, name, value)
    result = site.pull(site.b)
    assert result.outcome is Outcome.REFUSED
    assert reason in result.errors[0]


def test_the_gate_refuses_clocks_that_are_too_far_apart(site: SyncPair) -> None:
    site.a.now = lambda: site.clock.wall() + 90
    result = site.pull(site.b)
    assert result.outcome is Outcome.REFUSED
    assert "clocks" in result.errors[0]
    site.a.now = lambda: site.clock.wall() + 59
    assert site.pull(site.b).ok


def test_the_gate_refuses_a_local_server_with_a_long_queue(site: SyncPair) -> None:
    site.b.depth = 1001
    assert site.pull(site.b).outcome is Outcome.REFUSED
    # No more than the limit: that is what `max_queue_depth` says.
    site.b.depth = 1000
    assert site.pull(site.b).ok
    site.a.depth, site.b.depth = 5000, 0
    assert site.pull(site.b).ok


def test_the_gate_refuses_the_local_server_as_its_own_remote(site: SyncPair) -> None:
    with Reconciler(site.config(site.a), connect=site.connect, clock=site.clock) as reconciler:
        result = reconciler.run_once(site.a.endpoint)
    assert result.outcome is Outcome.REFUSED
    assert "itself" in result.errors[0]


def test_an_entity_that_takes_too_long_is_cut_off_and_the_next_one_has_its_turn(site: SyncPair) -> None:
    fill(site)
    site.options["entity_time_limit"] = 30.0

    def slow(path: str, query: Any) -> Exception | None:
        if path == "/factsets" and query[0] == "and":
            site.time.elapsed += 20
        return None

    site.a.broken = slow
    result = site.pull(site.b)
    assert result.errors == ["facts: not finished within the entity time limit of 30 s"]
    assert result.entities[Entity.CATALOGS].transferred == 30


def test_a_stop_ends_the_pass_at_the_next_question_and_keeps_what_was_done(site: SyncPair) -> None:
    fill(site)
    asked = []

    def stop(path: str, query: Any) -> Exception | None:
        if path == "/package-inventory":
            asked.append(query)
            if len(asked) == 2:
                site.clock.stop.set()
        return None

    site.a.broken = stop
    result = site.pull(site.b)
    assert result.outcome is Outcome.STOPPED
    assert len(site.b.tables["factsets"]) == 15 + 20
    assert result.entities[Entity.FACTS].transferred == 20


def test_a_plan_changes_nothing_and_says_what_a_pass_then_does(site: SyncPair) -> None:
    fill(site)
    plans = plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    assert not site.b.submitted
    assert not site.directory.joinpath("state").exists()
    assert [p.entity for p in plans] == list(Entity)
    assert {p.entity: len(p.pull) for p in plans if p.pull} == {"facts": 30, "catalogs": 30, "reports": 30}
    assert moved(site.pull(site.b)) == {"facts": 30, "catalogs": 30, "reports": 30}


def test_a_second_process_is_refused_with_the_pid_of_the_first(site: SyncPair) -> None:
    config = site.config(site.b)
    path = state_path(config.state_dir, config.local)
    config.state_dir.mkdir()
    with (
        InstanceLock(path.with_suffix(".lock")),
        pytest.raises(SyncError, match=rf"pid {os.getpid()}"),
    ):
        reconcile(config, connect=site.connect, clock=site.clock)


def test_success_and_failure_of_passes_are_remembered(site: SyncPair) -> None:
    config = site.config(site.b)
    site.pull(site.b)
    site.a.down = NotSent("https://a", "refused")
    site.time.elapsed += 10
    site.pull(site.b)
    state = State(state_path(config.state_dir, config.local))
    record = state.last_pass(site.a.endpoint.url)
    state.close()
    assert record is not None
    assert record.last_success is not None
    assert record.last_failure is not None
    assert record.last_failure - record.last_success > 9
    assert record.last_error == "https://a: refused"


def events_and_requests(site: SyncPair, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a pass logs and asks of both sides, in the order in which it does: `start facts`, `ask /factsets`."""
    caplog.set_level(logging.DEBUG, logger="sync")
    seen: list[str] = []

    class Events(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.__dict__["phase"] == "entity":
                seen.append(f"{record.__dict__['event']} {record.__dict__['entity']}")

    def asked(path: str, query: Any) -> Exception | None:
        if query not in RECOGNISING:
            seen.append(f"ask {path}")
        return None

    for side in (site.a, site.b):
        side.broken = asked
    handler = Events()
    logging.getLogger("sync").addHandler(handler)
    try:
        site.pull(site.b)
    finally:
        logging.getLogger("sync").removeHandler(handler)
    return seen


def test_a_pass_that_finds_nothing_to_do_logs_one_line(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    fill(site)
    assert site.pull(site.b).ok
    caplog.set_level(logging.INFO)
    caplog.clear()
    result = site.pull(site.b)
    assert caplog.messages == [
        f"sync with {result.remote}: finished in {result.elapsed_ms} ms, 0 transferred, 0 failed"
    ]


LISTED = {
    "/nodes": {"nodes", "fact_expiration"},
    "/factsets": {"facts", "nodes"},
    "/catalogs": {"catalogs", "nodes"},
    "/catalog-inputs": {"catalog_inputs"},
    "/reports": {"reports", "nodes"},
}
"""The entities for which an address is asked: the newest records of nodes are, too."""


def test_what_an_entity_asks_lies_between_its_events(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    site.pull(site.b)
    asked: set[str] = set()
    under_way = ""
    for event in events_and_requests(site, caplog):
        what, name = event.split()
        if what == "ask":
            assert under_way in LISTED[name], f"{name} is asked for outside of its entity"
            asked.add(under_way)
        else:
            under_way = name if what == "start" else ""
    assert asked == set(Entity)


def test_the_time_of_the_nodes_is_that_of_their_listing_too(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sync")

    def slow(path: str, query: Any) -> Exception | None:
        if path == "/nodes" and "deactivated" in str(query):
            site.time.elapsed += 0.2
        return None

    site.a.broken = slow
    result = site.pull(site.b)
    (finished,) = (
        record.__dict__["elapsed"]
        for record in caplog.records
        if (record.__dict__.get("entity"), record.__dict__.get("event")) == ("nodes", "finished")
    )
    assert finished == result.entities[Entity.NODES].elapsed_ms == 200


def test_nodes_that_cannot_be_listed_are_an_entity_with_an_error(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    site.a.broken = lambda path, query: (
        DeadlineExceeded("https://a", "no answer") if path == "/nodes" and "deactivated" in str(query) else None
    )
    assert not site.pull(site.b).ok
    events = [(r.__dict__.get("phase"), r.__dict__.get("event")) for r in caplog.records if r.name == "sync"]
    assert events[-2:] == [("entity", "error"), ("sync", "error")]


def test_a_node_deactivated_during_a_pass_is_deactivated_at_its_end_and_counted_once(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="sync")
    for side in (site.a, site.b):
        for name in ("n", "later"):
            side.apply("replace facts", facts(name, site.ago(500)))
    site.a.apply("replace catalog", catalog("n", site.ago(400)))
    # Held back in each look: it is to be told once.
    site.a.apply("deactivate node", deactivation("later", site.ago(-3600)))

    def meanwhile(path: str, query: Any) -> Exception | None:
        if path == "/reports" and query not in RECOGNISING and site.a.nodes["n"].deactivated is None:
            site.a.apply("deactivate node", deactivation("n", site.ago(1)))
        return None

    site.a.broken = meanwhile
    result = site.pull(site.b)
    assert moved(result) == {"catalogs": 1, "nodes": 1}
    assert result.entities[Entity.NODES].held == 1
    ended = [
        r.__dict__["entity"]
        for r in caplog.records
        if (r.__dict__.get("phase"), r.__dict__.get("event")) == ("entity", "finished")
    ]
    assert ended.count("nodes") == 2
    assert ended[-1] == "nodes"
