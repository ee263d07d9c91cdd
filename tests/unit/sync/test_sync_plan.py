"""The precedence rules: as a table, and as properties of two servers that follow them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdbclient.errors import SafetyBrake
from pdbclient.sync import Difference, Entity, Mode, Version, plan
from pdbclient.sync.policy.brakes import active_among, brake_deactivations, brake_empty
from pdbclient.sync.policy.classify import Nodes, ReportRow, Terms
from pdbclient.sync.policy.liveness import dead_for_good
from pdbclient.sync.policy.model import Liveness, NodeStatus

from ...soak import rounds
from ...versions import Release, micros
from .conftest import MEMORY, PAIRS, SyncPair
from .fake import FakePuppetDB, catalog, deactivation, expiration, facts, inputs, report
from .plans import plan_deactivations, plan_records, plan_reports

LATEST = 10_000
TERMS = Terms(LATEST)
ACTIVE = NodeStatus(Liveness.ACTIVE)
DEAD = NodeStatus(Liveness.INACTIVE, deactivated=500)
EXPIRED = NodeStatus(Liveness.INACTIVE, expired=500)
GONE = NodeStatus(Liveness.GONE, deactivated=500)
GONE_EXPIRED = NodeStatus(Liveness.GONE, expired=500)


def stored_otherwise(key: str, version: Version) -> Difference:
    return Difference.KNOWN_UNEQUAL


def nothing(key: str, version: Version) -> Difference | None:
    return None


def sides(there: NodeStatus | None, here: NodeStatus | None, newest_there: int | None = None) -> Nodes:
    nodes = Nodes({"n": there} if there else {}, {"n": here} if here else {})
    newest = {} if newest_there is None else {"n": newest_there}
    return Nodes(nodes.there, nodes.here, dead_for_good(nodes, newest))


@pytest.mark.parametrize(
    ("there", "here", "pulled"),
    [
        (Version(2, "a"), None, True),
        (Version(2, "a"), Version(1, "z"), True),
        (Version(1, "z"), Version(2, "a"), False),
        (Version(1, "a"), Version(1, "a"), False),
        (Version(1, "b"), Version(1, "a"), True),
        (Version(1, "a"), Version(1, "b"), False),
        # the hash of a catalog comes back every run: the newer run's identifiers are to be everywhere
        (Version(2, "a", "u1"), Version(1, "a", "u2"), True),
        (Version(1, "a", "u2"), Version(1, "a", "u1"), True),
        (Version(1, "a", "u1"), Version(1, "a", "u2"), False),
        (Version(1, "a", "u1"), Version(1, "a"), True),
    ],
)
def test_the_newer_record_wins_and_at_equal_times_the_greater_hash(
    there: Version, here: Version | None, pulled: bool
) -> None:
    ours = {} if here is None else {"n": here}
    made = plan_records(Entity.CATALOGS, {"n": there}, ours, sides(ACTIVE, ACTIVE), TERMS, nothing)
    assert dict(made.pull) == ({"n": there} if pulled else {})
    assert list(made.skipped) == []


@pytest.mark.parametrize(
    ("there", "here", "newest", "why"),
    [
        (ACTIVE, None, 400, None),
        (ACTIVE, ACTIVE, 400, None),
        (DEAD, None, 400, Difference.NOT_ACTIVE),
        (DEAD, ACTIVE, 400, Difference.NOT_ACTIVE),
        (EXPIRED, ACTIVE, 400, Difference.NOT_ACTIVE),
        (GONE, ACTIVE, 400, Difference.NOT_ACTIVE),
        # it came after the listing of nodes, with this record
        (None, ACTIVE, 400, None),
        (ACTIVE, DEAD, 400, Difference.DEAD),
        (ACTIVE, DEAD, 500, Difference.DEAD),
        (ACTIVE, DEAD, 501, None),
        (ACTIVE, DEAD, None, Difference.DEAD),
        # expired is only what this server's clock thought of missing data, until the node is about to be purged
        (ACTIVE, EXPIRED, 400, None),
        (ACTIVE, GONE_EXPIRED, 400, Difference.DEAD),
        (ACTIVE, GONE_EXPIRED, 501, None),
    ],
)
def test_data_moves_only_for_nodes_active_at_the_source_that_are_not_dead_for_good_here(
    there: NodeStatus | None, here: NodeStatus | None, newest: int | None, why: Difference | None
) -> None:
    nodes = sides(there, here, newest)
    made = plan_records(Entity.FACTS, {"n": Version(400, "a")}, {}, nodes, TERMS, nothing)
    assert [reason for _, reason in made.skipped] == ([] if why is None else [why])
    assert bool(made.pull) is (why is None)
    reports = plan_reports([ReportRow("h", "n", 400)], set(), nodes, TERMS, nothing)
    assert [reason for _, reason in reports.skipped] == ([] if why is None else [why])


def test_a_record_from_the_future_is_held_and_the_last_believed_one_is_not() -> None:
    there = {"n": Version(LATEST + 1, "a"), "m": Version(LATEST, "a")}
    nodes = Nodes({"n": ACTIVE, "m": ACTIVE}, {})
    made = plan_records(Entity.FACTS, there, {}, nodes, TERMS, nothing)
    assert list(made.pull) == ["m"]
    assert list(made.skipped) == [("n", Difference.FUTURE)]
    assert made.held == 1


def test_what_the_memory_objects_to_is_not_pulled() -> None:
    there, here = {"n": Version(1, "b")}, {"n": Version(1, "a")}
    made = plan_records(
        Entity.FACTS, there, here, sides(ACTIVE, ACTIVE), TERMS, lambda k, v: Difference.KNOWN_UNEQUAL
    )
    assert list(made.skipped) == [("n", Difference.KNOWN_UNEQUAL)]
    made = plan_records(Entity.FACTS, there, {}, sides(ACTIVE, ACTIVE), TERMS, lambda k, v: Difference.QUARANTINED)
    assert list(made.skipped) == [("n", Difference.QUARANTINED)]


@pytest.mark.parametrize("here", [{}, {"n": Version(0, "a")}], ids=["nothing here", "an older one here"])
def test_what_was_pulled_before_and_is_not_here_any_more_is_pulled_again(here: dict[str, Version]) -> None:
    there = {"n": Version(1, "b")}
    made = plan_records(
        Entity.FACTS, there, here, sides(ACTIVE, ACTIVE), TERMS, lambda k, v: Difference.KNOWN_UNEQUAL
    )
    assert made.pull == there


def test_missing_reports_are_pulled_newest_first_and_extra_ones_here_do_not_matter() -> None:
    rows = [ReportRow("h1", "n", 1), ReportRow("h3", "n", 3), ReportRow("h2", "n", 2)]
    made = plan_reports(rows, {"h2", "h9"}, sides(ACTIVE, None), TERMS, nothing)
    assert list(made.pull) == ["h3", "h1"]
    assert made.certnames == {"h3": "n", "h1": "n"}


@pytest.mark.parametrize(
    ("there", "here", "newest_here", "why"),
    [
        (DEAD, ACTIVE, 499, None),
        (DEAD, ACTIVE, 500, None),
        (DEAD, ACTIVE, 501, Difference.SUPERSEDED),
        (DEAD, ACTIVE, None, None),
        (DEAD, EXPIRED, 400, None),
        (DEAD, NodeStatus(Liveness.INACTIVE, deactivated=499), 400, None),
        (DEAD, None, None, Difference.UNKNOWN),
    ],
)
def test_a_deactivation_moves_to_a_node_known_here_without_a_newer_record(
    there: NodeStatus, here: NodeStatus | None, newest_here: int | None, why: Difference | None
) -> None:
    newest = {} if newest_here is None else {"n": newest_here}
    made = plan_deactivations(sides(there, here), newest, TERMS, nothing)
    assert dict(made.pull) == ({"n": Version(500, "")} if why is None else {})
    assert [reason for _, reason in made.skipped] == ([] if why is None else [why])


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (ACTIVE, ACTIVE),
        (EXPIRED, ACTIVE),
        (DEAD, DEAD),
        (DEAD, NodeStatus(Liveness.INACTIVE, 501)),
    ],
)
def test_neither_expiry_nor_a_node_about_to_be_purged_nor_an_older_deactivation_moves(
    there: NodeStatus, here: NodeStatus
) -> None:
    made = plan_deactivations(sides(there, here), {}, TERMS, nothing)
    assert (dict(made.pull), list(made.skipped)) == ({}, [])


def test_a_node_about_to_be_purged_there_may_have_been_purged_here() -> None:
    made = plan_deactivations(sides(GONE, ACTIVE), {}, TERMS, nothing)
    assert (dict(made.pull), list(made.skipped)) == ({}, [("n", Difference.NOT_ACTIVE)])


def test_a_deactivation_from_the_future_is_held() -> None:
    future = NodeStatus(Liveness.INACTIVE, LATEST + 1)
    made = plan_deactivations(sides(future, ACTIVE), {}, TERMS, nothing)
    assert list(made.skipped) == [("n", Difference.FUTURE)]


def brake(
    planned: list[str], here: dict[str, NodeStatus], allowed: int | None = None, done: Collection[str] = ()
) -> None:
    brake_deactivations(planned, here, len(active_among(here, here)), allowed, done)


@pytest.mark.parametrize(
    ("active", "dead", "braked"),
    [(100, 50, False), (100, 51, True), (2000, 100, False), (2000, 101, True)],
)
def test_the_brake_is_at_fifty_nodes_or_five_in_a_hundred(active: int, dead: int, braked: bool) -> None:
    here = {f"n{number}": ACTIVE for number in range(active)}
    planned = [f"n{number}" for number in range(dead)]
    if not braked:
        brake(planned, here)
        return
    with pytest.raises(SafetyBrake, match=f"{dead} of {active}"):
        brake(planned, here)


@pytest.mark.parametrize(
    ("active", "dead", "braked"),
    [
        *((1, 1, False), (2, 2, False), (3, 2, False), (3, 3, True), (5, 3, True), (6, 3, False)),
        *((40, 20, False), (40, 21, True), (40, 40, True), (99, 49, False), (99, 50, True)),
    ],
)
def test_a_small_site_has_a_brake_at_half_of_it(active: int, dead: int, braked: bool) -> None:
    test_the_brake_is_at_fifty_nodes_or_five_in_a_hundred(active, dead, braked)


@pytest.mark.parametrize(
    ("dead", "allowed", "braked"), [(40, 40, False), (40, 39, True), (41, 40, True), (3, 2, True)]
)
def test_who_says_how_many_may_go_is_taken_at_that_word(dead: int, allowed: int, braked: bool) -> None:
    here = {f"n{number}": ACTIVE for number in range(50)}
    planned = [f"n{number}" for number in range(dead)]
    if not braked:
        brake(planned, here, allowed)
        return
    with pytest.raises(SafetyBrake, match=f"more than {allowed}: none was.*--allow-deactivations {dead}`"):
        brake(planned, here, allowed)


def test_what_a_pass_has_deactivated_already_counts_for_its_brake() -> None:
    here = {f"n{number}": DEAD if number < 8 else ACTIVE for number in range(20)}
    done = [f"n{number}" for number in range(8)]
    brake(["n8", "n9"], here, None, done)
    with pytest.raises(SafetyBrake, match=r"11 of 20 .* more than 10: 8 were, the others were not"):
        brake(["n8", "n9", "n10"], here, None, done)


def test_nodes_that_are_dead_here_already_do_not_count_for_the_brake() -> None:
    here = {f"n{number}": DEAD for number in range(200)}
    brake(list(here), here)


@pytest.mark.parametrize(
    ("there", "here", "before", "braked"),
    [(0, 5, 5, True), (0, 5, 0, False), (0, 0, 5, False), (1, 5, 5, False)],
)
def test_the_brake_for_an_empty_remote_needs_something_to_have_been_there(
    there: int, here: int, before: int, braked: bool
) -> None:
    if not braked:
        brake_empty(Entity.NODES, there, here, before)
        return
    with pytest.raises(SafetyBrake, match="no nodes at all"):
        brake_empty(Entity.NODES, there, here, before)


# --- Properties: whatever happened on two servers, two passes settle it.

AGES = st.sampled_from([10, 20, 30, 4000, 9000, 5 * 86_400, 20 * 86_400])
CERTNAMES = st.sampled_from(["a.example.com", "b.example.com"])
ACTS = st.sampled_from(
    [
        *("facts", "facts", "catalog", "catalog", "inputs", "inputs", "expiration", "report"),
        *("deactivate", "expire", "purge"),
    ]
)
STEP = st.tuples(st.booleans(), st.booleans(), ACTS, CERTNAMES, AGES, st.integers(0, 2))


def act(site: SyncPair, side: FakePuppetDB, name: str, certname: str, age: int, value: int) -> None:
    when = site.ago(age)
    match name:
        case "facts":
            side.apply("replace facts", facts(certname, when, value))
        case "catalog":
            side.apply("replace catalog", catalog(certname, when, value % 2, f"u{value}"))
        case "inputs":
            side.apply("replace catalog inputs", inputs(certname, when, f"u{value}"))
        case "expiration":
            side.apply("configure expiration", expiration(certname, when, value > 0))
        case "report":
            side.apply("store report", report(certname, when, f"r{value}"))
        case "deactivate":
            side.apply("deactivate node", deactivation(certname, when))
        case "expire" if certname in side.nodes:
            side.nodes[certname].expired = when
        case "purge" if certname in side.nodes:
            side.purge(certname)


def listed(site: SyncPair) -> set[str]:
    """Certnames (or report hashes) that a plan of either side leaves alone, with a reason.

    Of an audit: another one does not list again the hours of reports that were compared before.
    """
    audit = Mode(audit=True)
    return {
        key
        for local, remote in ((site.a, site.b), (site.b, site.a))
        for part in plan(site.config(local), remote.endpoint, mode=audit, connect=site.connect, clock=site.clock)
        for key, _ in part.skipped
    }


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(rounds(300, 3600))
@settings(max_examples=rounds(40, 2000), deadline=None)
@given(steps=st.lists(STEP, max_size=14), mangled=st.sets(CERTNAMES), releases=st.sampled_from(PAIRS))
def test_passes_each_way_leave_everything_equal_or_listed_and_nothing_to_do(
    steps: list[tuple[bool, bool, str, str, int, int]], mangled: set[str], releases: tuple[Release, Release]
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        site = SyncPair(Path(directory), *releases)
        site.a.mangles = site.b.mangles = mangled
        for on_a, on_b, name, certname, age, value in steps:
            for chosen, side in ((on_a, site.a), (on_b, site.b)):
                if chosen:
                    act(site, side, name, certname, age, value)
        known = {side.endpoint: set(side.nodes) for side in (site.a, site.b)}
        results = [site.pull(site.a), site.pull(site.b)]
        if mangled or any(name in ("expire", "deactivate") for _, _, name, *_ in steps):
            # A hash that changes on the way may travel back once. And a node that the other side's own pass
            # brings back to life has data there that was left alone until then.
            results += [site.pull(site.a), site.pull(site.b)]
        assert all(result.ok for result in results)
        again = [site.pull(site.a), site.pull(site.b)]
        assert [sum(r.transferred for r in result.entities.values()) for result in again] == [0, 0]
        for side in (site.a, site.b):
            assert known[side.endpoint] <= set(side.nodes), "a node was deleted"
        left_alone = listed(site)
        for table in ("factsets", "catalogs", "catalog-inputs"):
            for certname in site.a.tables[table].keys() | site.b.tables[table].keys():
                versions = [
                    (
                        micros(row["producer_timestamp"]),
                        row.get("hash"),
                        row.get("transaction_uuid"),
                        row.get("catalog_uuid"),
                    )
                    for side in (site.a, site.b)
                    if (row := side.tables[table].get(certname)) is not None
                ]
                same = len(versions) == 2 and versions[0] == versions[1]
                assert same or certname in left_alone, (table, certname, versions)
        horizon = site.ago(13 * 86_400)
        ours, theirs = (
            {key for key, row in side.tables["reports"].items() if row["producer_timestamp"] >= stamp(horizon)}
            for side in (site.a, site.b)
        )
        assert (ours ^ theirs) <= left_alone
        for certname in site.a.nodes.keys() & site.b.nodes.keys():
            expiries = [
                text and micros(text)
                for text in (side.nodes[certname].expires_facts_updated for side in (site.a, site.b))
            ]
            assert expiries[0] == expiries[1] or certname in left_alone, (certname, expiries)
            dead = [side.nodes[certname].deactivated for side in (site.a, site.b)]
            assert dead[0] == dead[1] or certname in left_alone or waits_for_purge(site, certname)


def waits_for_purge(site: SyncPair, certname: str) -> bool:
    return any(side.liveness(certname) == "gone" for side in (site.a, site.b))


def stamp(millis: int) -> str:
    return facts("n", millis)["producer_timestamp"]  # type: ignore[no-any-return]
