"""What differs between two in-memory PuppetDBs, before and after passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pdbclient.errors import IncompleteResponse, NotSent
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.policy.model import Difference, Entity, Selection
from pdbclient.sync.run.diff import Diff, Scope, diff
from pdbclient.sync.run.seed import outstanding
from pdbclient.sync.state.store import State, state_path

from .conftest import SyncPair
from .fake import FakePuppetDB, catalog, deactivation, facts, report

pytestmark = pytest.mark.releases
HOUR = 3_600_000


def compare(site: SyncPair, local: FakePuppetDB, scope: Scope | None = None) -> Diff:
    config = site.config(local)
    return diff(config, config.remotes[0].endpoint, scope, connect=site.connect, clock=site.clock)


def counted(found: Diff) -> dict[str, dict[str, int]]:
    return {
        str(part.entity): {str(kind): number for kind, number in part.counts.items() if number}
        for part in found.entities
        if part.counts
    }


def both(site: SyncPair) -> tuple[FakePuppetDB, FakePuppetDB]:
    return site.a, site.b


def run(site: SyncPair, servers: Iterable[FakePuppetDB], certname: str, seconds: float) -> None:
    """What one agent run leaves behind, on each of `servers`."""
    for server in servers:
        server.apply("replace facts", facts(certname, site.ago(seconds), seconds))
        server.apply("replace catalog", catalog(certname, site.ago(seconds), seconds, f"u{seconds}"))
        server.apply("store report", report(certname, site.ago(seconds), f"r{seconds}"))


def test_two_empty_servers_are_equal(site: SyncPair) -> None:
    found = compare(site, site.a)
    assert found.equal
    assert counted(found) == {}
    assert [part.entity for part in found.entities] == list(Entity)


def test_what_each_side_has_alone_or_newer_is_told_from_both_sides(site: SyncPair) -> None:
    run(site, both(site), "same", 1000)
    run(site, [site.a], "only-a", 100)
    run(site, [site.b], "only-b", 200)
    run(site, both(site), "newer-a", 3000)
    run(site, [site.a], "newer-a", 300)
    from_b = compare(site, site.b)
    assert not from_b.equal
    assert counted(from_b) == {
        "facts": {"missing_here": 1, "missing_there": 1, "newer_there": 1},
        "catalogs": {"missing_here": 1, "missing_there": 1, "newer_there": 1},
        "reports": {"missing_here": 2, "missing_there": 1},
    }
    assert counted(compare(site, site.a)) == {
        "facts": {"missing_here": 1, "missing_there": 1, "newer_here": 1},
        "catalogs": {"missing_here": 1, "missing_there": 1, "newer_here": 1},
        "reports": {"missing_here": 1, "missing_there": 2},
    }
    facts_of = next(part for part in from_b.entities if part.entity is Entity.FACTS)
    assert (facts_of.here, facts_of.there) == (3, 3)
    newer = next(each for each in facts_of.examples if each.difference is Difference.NEWER_THERE)
    assert newer.certname == "newer-a"
    assert newer.here is not None
    assert newer.there is not None
    assert newer.there.millis - newer.here.millis == 2_700_000


def test_after_a_pass_each_way_nothing_differs(site: SyncPair) -> None:
    run(site, [site.a], "only-a", 100)
    run(site, [site.b], "only-b", 50_000)
    site.pull(site.a)
    site.pull(site.b)
    assert counted(compare(site, site.a)) == {}


def test_it_changes_nothing_and_needs_no_state_file(site: SyncPair) -> None:
    run(site, [site.a], "only-a", 100)
    compare(site, site.b)
    assert not site.b.submitted
    assert not (site.directory / "state").exists()


def test_a_deactivation_that_one_side_lacks_is_told(site: SyncPair) -> None:
    run(site, both(site), "old", 1000)
    site.a.apply("deactivate node", deactivation("old", site.ago(10)))
    assert counted(compare(site, site.b)) == {"nodes": {"missing_here": 1}}
    assert counted(compare(site, site.a)) == {"nodes": {"missing_there": 1}}


def test_records_of_a_node_that_is_dead_where_they_are_do_not_count(site: SyncPair) -> None:
    run(site, [site.a], "dead", 1000)
    site.a.apply("deactivate node", deactivation("dead", site.ago(10)))
    found = compare(site, site.b)
    assert found.equal
    assert counted(found) == {
        "nodes": {"unknown": 1},
        "facts": {"not_active": 1},
        "catalogs": {"not_active": 1},
        "reports": {"not_active": 1},
    }


def test_other_content_at_the_same_time_is_unequal_until_a_pass_settles_it(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(10), "one"))
    site.b.apply("replace facts", facts("n", site.ago(10), "other"))
    assert counted(compare(site, site.a)) == {"facts": {"unequal": 1}}
    site.pull(site.a)
    site.pull(site.b)
    assert compare(site, site.a).equal


def test_a_hash_that_no_transfer_preserves_is_known_by_its_content_from_both_sides(site: SyncPair) -> None:
    for side in both(site):
        side.mangles.add("n")
    site.a.apply("replace facts", facts("n", site.ago(10), "x"))
    site.b.apply("replace facts", facts("n", site.ago(10), "x"))
    for side in both(site):
        found = compare(site, side)
        assert found.equal
        assert counted(found) == {"facts": {"same_content": 1}}


def test_a_record_that_cannot_be_read_in_full_is_not_taken_for_the_same(site: SyncPair) -> None:
    for side in both(site):
        side.mangles.add("n")
        side.apply("replace facts", facts("n", site.ago(10), "x"))
    plain = site.a._answer

    def without_facts(table: str, query: object, params: object) -> list[dict[str, object]]:
        rows = plain(table, query, params)  # type: ignore[arg-type]
        return [{name: value for name, value in row.items() if name != "facts"} for row in rows]

    site.a._answer = without_facts  # type: ignore[method-assign]
    assert counted(compare(site, site.b)) == {"facts": {"unequal": 1}}


def test_what_was_pulled_and_stayed_unequal_is_known_to_the_side_that_pulled_it(site: SyncPair) -> None:
    config = site.config(site.b)
    site.a.apply("replace facts", facts("n", site.ago(10), "one"))
    site.b.apply("replace facts", facts("n", site.ago(10), "other"))
    there = next(iter(compare(site, site.b).entities[list(Entity).index(Entity.FACTS)].examples)).there
    assert there is not None
    path = state_path(config.state_dir, config.local)
    path.parent.mkdir(parents=True)
    state = State(path)
    state.remember_unequal(site.a.endpoint.url, Entity.FACTS, {"n": there})
    state.close()
    found = compare(site, site.b)
    assert found.equal
    assert counted(found) == {"facts": {"known_unequal": 1}}


def test_the_selection_narrows_what_is_compared(site: SyncPair) -> None:
    run(site, [site.a], "web1", 100)
    run(site, [site.a], "web2", 50_000)
    run(site, [site.a], "db1", 100)
    assert counted(compare(site, site.b, Scope(Selection(frozenset({Entity.FACTS}))))) == {
        "facts": {"missing_here": 3}
    }
    named = compare(site, site.b, Scope(Selection(certnames=("web*",))))
    assert {entity: kinds["missing_here"] for entity, kinds in counted(named).items()} == {
        "facts": 2,
        "catalogs": 2,
        "reports": 2,
    }
    young = compare(site, site.b, Scope(Selection(certnames=("web*",), max_age=3600.0)))
    assert {entity: kinds["missing_here"] for entity, kinds in counted(young).items()} == {
        "facts": 1,
        "catalogs": 1,
        "reports": 1,
    }


def test_what_may_still_be_on_its_way_is_left_out_when_asked(site: SyncPair) -> None:
    run(site, [site.a], "fresh", 100)
    run(site, both(site), "old", 10_000)
    run(site, [site.a], "old", 50)
    assert not compare(site, site.b).equal
    assert counted(compare(site, site.b, Scope(min_age=600.0))) == {}
    run(site, [site.a], "late", 700)
    assert not compare(site, site.b, Scope(min_age=600.0)).equal


def test_reports_past_the_retention_are_not_compared(site: SyncPair) -> None:
    site.a.apply("store report", report("n", site.ago(20 * 86_400), "r"))
    assert counted(compare(site, site.b)) == {}


def test_an_hour_with_equal_marks_and_other_members_is_found_by_the_full_comparison(site: SyncPair) -> None:
    made = [report("n", site.ago(7200 + number), f"r{number}") for number in range(6)]
    for payload in made:
        site.a.apply("store report", payload)
        site.b.apply("store report", payload)
    inner = sorted(site.a.tables["reports"])[1:-1]
    del site.a.tables["reports"][inner[0]]
    del site.b.tables["reports"][inner[1]]
    assert counted(compare(site, site.b)) == {}
    assert counted(compare(site, site.b, Scope(full=True))) == {"reports": {"missing_here": 1, "missing_there": 1}}


def test_a_zone_of_half_hours_hides_no_report_and_counts_none_twice(site: SyncPair) -> None:
    for number in range(5):
        run(site, both(site) if number % 2 else [site.a], f"n{number}", 3000.0 * number + 10)
    plain = site.b._answer

    def shifted(table: str, query: object, params: object) -> list[dict[str, object]]:
        rows = plain(table, query, params)  # type: ignore[arg-type]
        return [{**row, "to_string": f"{row['to_string'][:-3]}+05:30"} if "to_string" in row else row for row in rows]

    site.b._answer = shifted  # type: ignore[method-assign]
    assert counted(compare(site, site.b))["reports"] == {"missing_here": 3}


def test_a_broken_listing_is_an_error_and_no_difference(site: SyncPair) -> None:
    run(site, [site.a], "n", 10)
    site.a.broken = lambda path, query: IncompleteResponse("a", "broke off") if path == "/factsets" else None
    found = compare(site, site.b)
    parts = {part.entity: part for part in found.entities}
    assert "broke off" in str(parts[Entity.FACTS].error)
    assert (found.equal, found.complete, parts[Entity.FACTS].equal) == (False, False, False)
    assert not parts[Entity.FACTS].counts, "half a listing would look like mass absence"
    assert parts[Entity.CATALOGS].counts == {Difference.MISSING_HERE: 1}, "the others are compared"
    site.a.broken = lambda path, query: None
    site.a.down = NotSent("a", "refused")
    with pytest.raises(NotSent):
        compare(site, site.b)


def test_the_document_is_whole(site: SyncPair) -> None:
    run(site, [site.a], "n", 10)
    scope = Scope(Selection(frozenset({Entity.FACTS})))
    document = compare(site, site.b, scope).as_json()
    stored = site.a.tables["factsets"]["n"]
    assert document == {
        "local": site.b.endpoint.url,
        "remote": site.a.endpoint.url,
        "equal": False,
        "entities": {
            "facts": {
                "equal": False,
                "error": None,
                "here": 0,
                "there": 1,
                "differences": {"missing_here": 1},
                "examples": [
                    {
                        "difference": "missing_here",
                        "certname": "n",
                        "here": None,
                        "there": {"producer_timestamp": stored["producer_timestamp"], "hash": stored["hash"]},
                    }
                ],
            }
        },
    }
    without = compare(site, site.b, replace(scope, examples=0)).as_json()
    assert without["entities"]["facts"]["examples"] == []
    assert without["entities"]["facts"]["differences"] == {"missing_here": 1}


def test_a_report_of_the_future_is_counted_once_wherever_it_is_in_its_hour(site: SyncPair) -> None:
    hour = (site.ago(-60) // HOUR + 1) * HOUR
    for number, minutes in enumerate((-70, -1, 1, 2, 59, 61, 300)):
        site.b.apply("store report", report("n1", hour + minutes * 60_000, f"u{number}"))
    for full in (False, True):
        part = compare(site, site.a, Scope(full=full, examples=20)).entities[-1]
        assert sum(part.counts.values()) == len({found.key for found in part.examples}) == 7
        assert part.counts[Difference.FUTURE] >= 5


@pytest.mark.parametrize("wrong", [20 * 86_400, 7200, -7200, -20 * 86_400])
def test_records_are_judged_by_the_local_server_s_clock_and_not_by_this_machine_s(site: SyncPair, wrong: int) -> None:
    for number in range(5):
        site.b.apply("store report", report("n1", site.ago(600 + number), f"u{number}"))
        site.b.apply("replace facts", facts(f"n{number}", site.ago(600)))
    clock = Clock(wall=lambda: site.clock.wall() + wrong, monotonic=site.clock.monotonic, stop=site.time)
    config = site.config(site.a)
    found = diff(config, site.b.endpoint, connect=site.connect, clock=clock)
    assert counted(found) == {"facts": {"missing_here": 5}, "reports": {"missing_here": 5}}
    lacking = outstanding(config, site.b.endpoint, Selection(), connect=site.connect, clock=clock)
    assert lacking == 10
