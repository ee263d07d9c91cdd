"""Recovery of a server: what is sent again, in which order, and how it ends. Over a server in memory."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from pdbclient.errors import (
    Ambiguous,
    Busy,
    CallerLeft,
    DeadlineExceeded,
    JournalError,
    NotSent,
    Rejected,
    ServerError,
)
from pdbclient.http.sender import caller_left
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import CopyState, EntryState
from pdbclient.journal.work import recovery
from pdbclient.journal.work.leases import Lease, Leased, hold
from pdbclient.journal.work.recovered import Recovery
from pdbclient.journal.work.recovery import recover
from pdbclient.wire import timestamp
from pdbclient.wire.command import Command

from .server import FakeServer
from .store import CATALOG, DEACTIVATE, EXPIRE, FACTS, INPUTS, ON_DISK, REPORT, A, B, Store, command, stamp


@pytest.fixture
def puppetdb(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    for name, seconds in (("QUIET", 0.05), ("WINDOW", 0.1), ("LOOK_FIRST", 0.01), ("LOOK_LAST", 0.02)):
        monkeypatch.setattr(recovery, name, seconds)
    monkeypatch.setattr(recovery, "DEPTH_POLL", 0.01)
    return FakeServer(A)


def run(store: Store, puppetdb: FakeServer, **options: Any) -> Recovery:
    return recover(store.journal, puppetdb.session, **{"rate": 100_000, "node_ttl": 0.0, **options})


def sent(puppetdb: FakeServer) -> list[tuple[str, str, str]]:
    return [(c.name, c.certname, c.producer_timestamp) for c in puppetdb.commands]


def on_b(store: Store, sent: Command) -> int:
    """In the journal, and taken by the other server."""
    entry = store.put(sent)
    store.taken(entry, B)
    return entry


def test_a_server_that_lacks_everything_gets_the_newest_of_each_node_and_all_reports(
    store: Store, puppetdb: FakeServer
) -> None:
    for at in (1, 2, 3):
        for name in (FACTS, CATALOG, REPORT):
            on_b(store, command(name, "n", at))
    result = run(store, puppetdb)
    assert sent(puppetdb) == [
        (FACTS, "n", stamp(3)),
        (CATALOG, "n", stamp(3)),
        *((REPORT, "n", stamp(at)) for at in (1, 2, 3)),
    ]
    assert result == Recovery(A, False, 5, 0, {FACTS: 1, CATALOG: 1, REPORT: 3}, 5, 5)
    assert result.ok


def test_nodes_that_run_meanwhile_are_recovered_too(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twenty nodes that ran on the other server meanwhile, ten were on none of the pages: and all was well."""
    monkeypatch.setattr(recovery, "PAGE", 2)
    for number in range(20):
        on_b(store, command(FACTS, f"n{number}", 1))
    left = [f"n{number}" for number in range(19, -1, -1)]
    submit = puppetdb.submit

    def running(sent: Command, *, within: float | None = None) -> str:
        for _ in range(2):
            if left:
                on_b(store, command(FACTS, left.pop(), 2))
        return submit(sent)

    monkeypatch.setattr(puppetdb, "submit", running)
    result = run(store, puppetdb)
    assert puppetdb.newest == {(FACTS, f"n{number}"): stamp(2) for number in range(20)}
    assert result.ok


def test_what_never_ends_is_no_success(store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "SHORT_ROUND", 0.0)
    on_b(store, command(FACTS, "n0", 1))
    submit, numbers = puppetdb.submit, itertools.count(1)

    def running(sent: Command, *, within: float | None = None) -> str:
        on_b(store, command(FACTS, f"n{next(numbers)}", 1))
        return submit(sent)

    monkeypatch.setattr(puppetdb, "submit", running)
    result = run(store, puppetdb)
    assert (result.stopped, result.ok) == (True, False)


def test_what_left_the_journal_before_it_was_seen_is_not_counted_as_seen(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other server shows something newer meanwhile, which is what this one gets then."""
    entry = on_b(store, command(FACTS, "n", 1))
    submit = puppetdb.submit
    newer: list[int] = []

    def running(sent: Command, *, within: float | None = None) -> str:
        if not newer:
            newer.append(on_b(store, command(FACTS, "n", 2)))
            puppetdb.ignores.add(stamp(1))
            store.shown(newer[0], server=B)
            assert entry not in store.ids()
        return submit(sent)

    monkeypatch.setattr(puppetdb, "submit", running)
    result = run(store, puppetdb)
    assert puppetdb.newest == {(FACTS, "n"): stamp(2)}
    assert (result.replayed, result.verified, result.ok) == (2, 1, True)


def test_a_server_that_shows_nothing_is_not_recovered_though_all_that_it_got_was_replaced(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_b(store, command(FACTS, "n", 1))
    puppetdb.discards.add("n")
    submit, stamps = puppetdb.submit, itertools.count(2)

    def running(sent: Command, *, within: float | None = None) -> str:
        newer = on_b(store, command(FACTS, "n", next(stamps)))
        store.shown(newer, server=B)
        return submit(sent)

    monkeypatch.setattr(puppetdb, "submit", running)
    result = run(store, puppetdb)
    assert (result.verified, result.ok) == (0, False)


def test_exactly_what_it_lacks_is_sent(store: Store, puppetdb: FakeServer) -> None:
    for certname in ("older", "same", "newer", "none"):
        on_b(store, command(FACTS, certname, 10))
        on_b(store, command(REPORT, certname, 10))
    puppetdb.newest = {(FACTS, "older"): stamp(9), (FACTS, "same"): stamp(10), (FACTS, "newer"): stamp(11)}
    puppetdb.reports = {("same", stamp(10))}
    result = run(store, puppetdb)
    assert {(name, certname) for name, certname, _ in sent(puppetdb)} == {
        *((FACTS, certname) for certname in ("older", "none")),
        *((REPORT, certname) for certname in ("older", "newer", "none")),
    }
    assert (result.looked_at, result.had, result.replayed, result.verified) == (8, 3, 5, 5)


def test_the_very_bytes_are_sent(store: Store, puppetdb: FakeServer) -> None:
    body = b'{"certname": "n",  "producer_timestamp":null}' + b" " * 2000
    plain = command(FACTS, "n", 1, body)
    packed = replace(command(CATALOG, "n", 1, body).gzipped(), length=len(body))
    for each in (plain, packed):
        on_b(store, each)
    run(store, puppetdb)
    assert puppetdb.commands == [plain, packed]


def test_deactivations_come_first_so_that_no_decommissioned_node_is_active_for_a_moment(
    store: Store, puppetdb: FakeServer
) -> None:
    for name, at in ((FACTS, 1), (CATALOG, 1), (REPORT, 1), (DEACTIVATE, 2), (EXPIRE, 2), (INPUTS, 2)):
        on_b(store, command(name, "n", at))
    run(store, puppetdb)
    assert {name for name, _, _ in sent(puppetdb)[:2]} == {DEACTIVATE, EXPIRE}
    assert sent(puppetdb)[-1][0] == REPORT


def test_a_deactivation_that_newer_records_made_moot_is_not_sent(store: Store, puppetdb: FakeServer) -> None:
    on_b(store, command(DEACTIVATE, "n", 1))
    on_b(store, command(FACTS, "n", 2))
    on_b(store, command(DEACTIVATE, "m", 1))
    on_b(store, command(REPORT, "m", 2))
    puppetdb.newest = {(FACTS, "n"): stamp(2)}
    puppetdb.reports = {("m", stamp(2))}
    result = run(store, puppetdb)
    assert (sent(puppetdb), result.had) == ([], 3)


@pytest.mark.parametrize("name", [FACTS, CATALOG, INPUTS])
def test_a_deactivation_is_not_sent_at_once_with_what_made_it_moot(
    store: Store, puppetdb: FakeServer, name: str
) -> None:
    """PuppetDB works off both at once, and may leave the node deactivated."""
    on_b(store, command(DEACTIVATE, "n", 1))
    on_b(store, command(name, "n", 2))
    on_b(store, command(name, "m", 1))
    on_b(store, command(DEACTIVATE, "m", 2))
    run(store, puppetdb)
    assert [(command.name, command.certname) for command in puppetdb.commands] == [
        (DEACTIVATE, "m"),
        (name, "n"),
        (name, "m"),
    ]


def test_what_an_older_deactivation_hides_is_sent_again(store: Store, puppetdb: FakeServer) -> None:
    on_b(store, command(CATALOG, "n", 2))
    puppetdb.newest = {(CATALOG, "n"): stamp(2), (DEACTIVATE, "n"): stamp(1)}
    result = run(store, puppetdb)
    assert (len(puppetdb.commands), result.verified, result.ok) == (1, 1, True)
    assert puppetdb.newest == {(CATALOG, "n"): stamp(2)}


def test_what_is_parked_is_not_sent(store: Store, puppetdb: FakeServer) -> None:
    for name in (FACTS, REPORT):
        store.rejected(store.put(command(name, "n", 2)), B)
        on_b(store, command(name, "n", 1))
    run(store, puppetdb)
    # Of the facts, those before the rejected ones count.
    assert sent(puppetdb) == [(FACTS, "n", stamp(1)), (REPORT, "n", stamp(1))]


def test_the_journal_knows_afterwards_what_the_server_has(store: Store, puppetdb: FakeServer) -> None:
    there, lacking, owed = on_b(store, command(FACTS, "a", 1)), on_b(store, command(FACTS, "b", 1)), None
    owed = store.put(command(REPORT, "c", 1), [A])
    puppetdb.newest = {(FACTS, "a"): stamp(1)}
    puppetdb.reports = {("c", stamp(1))}
    run(store, puppetdb)
    for entry in (there, lacking):
        assert store.copies(entry) == {A: CopyState.CONFIRMED, B: CopyState.ACCEPTED}
    assert store.state(owed) is EntryState.DELIVERED
    assert store.counts().pending == {}
    assert next(copy.uuid for copy in store.show(lacking).copies if copy.server == A) == "uuid-1"


def test_a_second_recovery_finds_nothing_to_do_and_writes_nothing(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(5):
        on_b(store, command(REPORT, "n", at))
    run(store, puppetdb)
    noted = store.journal.run(entries.listing)
    store.now += 100
    result = run(store, puppetdb)
    assert (result.had, result.replayed, len(puppetdb.commands)) == (5, 0, 5)
    assert store.journal.run(entries.listing) == noted


@pytest.mark.parametrize("shown", [2, 1, None])
def test_when_a_server_makes_nothing_of_the_newest_the_one_before_is_tried(
    store: Store, puppetdb: FakeServer, shown: int | None
) -> None:
    """J10: the good catalog was in the journal, and never sent."""
    ids = [on_b(store, command(CATALOG, "n", at)) for at in range(4)]
    on_b(store, command(FACTS, "m", 9))
    puppetdb.ignores = {stamp(at) for at in range(4) if shown is None or at > shown}
    result = run(store, puppetdb)
    tried = [each.producer_timestamp for each in puppetdb.commands if each.name == CATALOG]
    assert tried == [stamp(at) for at in range(3, -1 if shown is None else shown - 1, -1)]
    assert puppetdb.newest.get((CATALOG, "n")) == (None if shown is None else stamp(shown))
    assert not result.ok, "what it made nothing of is missing all the same"
    assert (result.missing, result.verified) == (len(tried) - (shown is not None), 1 + (shown is not None))
    assert result.examples[0].id == ids[3]


def test_a_dry_run_asks_and_changes_nothing(store: Store, puppetdb: FakeServer) -> None:
    on_b(store, command(FACTS, "a", 1))
    on_b(store, command(REPORT, "b", 1))
    on_b(store, command(INPUTS, "c", 1, b'{"inputs": []}'))
    puppetdb.newest = {(FACTS, "a"): stamp(1)}
    noted = store.journal.run(entries.listing)
    result = run(store, puppetdb, dry_run=True)
    assert result == Recovery(A, True, 2, 1, {REPORT: 1})
    assert not result.ok
    assert puppetdb.commands == []
    assert store.journal.run(entries.listing) == noted
    puppetdb.reports = {("b", stamp(1))}
    assert run(store, puppetdb, dry_run=True).ok


def test_only_what_was_put_in_since_then_counts(store: Store, puppetdb: FakeServer) -> None:
    on_b(store, command(REPORT, "old", 1))
    on_b(store, command(FACTS, "old", 1))
    store.now += 100
    on_b(store, command(REPORT, "new", 1))
    on_b(store, command(FACTS, "new", 1))
    result = run(store, puppetdb, since=store.now)
    assert {certname for _, certname, _ in sent(puppetdb)} == {"new"}
    assert result.looked_at == 2


def test_it_ends_though_something_more_comes_in_each_time(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_b(store, command(REPORT, "n", 1))
    apply = puppetdb.apply

    def and_one_more(sent: Command) -> None:
        apply(sent)
        on_b(store, command(REPORT, "later", len(puppetdb.commands)))

    monkeypatch.setattr(puppetdb, "apply", and_one_more)
    assert run(store, puppetdb).looked_at == 2, "the last one came within seconds"


@pytest.mark.parametrize("number", [1, 3, 4, 7])
def test_every_page_is_looked_at(
    store: Store, puppetdb: FakeServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PAGE", 3)
    monkeypatch.setattr("pdbclient.journal.journal.BODIES", 2)
    for n in range(number):
        for name in (FACTS, DEACTIVATE, REPORT):
            on_b(store, command(name, f"n{n}", 1))
    # Where entries have left, ids have gaps.
    store.drop(*(store.put(command(REPORT, "gone", n)) for n in range(9)))
    on_b(store, command(REPORT, "last", 1))
    result = run(store, puppetdb)
    assert (result.looked_at, result.replayed, result.verified) == (3 * number + 1,) * 3
    assert len(set(sent(puppetdb))) == len(puppetdb.commands) == 3 * number + 1


def test_an_empty_journal_is_no_trouble(store: Store, puppetdb: FakeServer) -> None:
    assert run(store, puppetdb) == Recovery(A)


def test_what_the_server_calls_bad_is_told_and_noted_and_does_not_stop_the_rest(
    store: Store, puppetdb: FakeServer
) -> None:
    bad, good = on_b(store, command(FACTS, "bad", 1)), on_b(store, command(FACTS, "good", 1))
    puppetdb.refuses = {"bad": Rejected(A, 400, "no such version")}
    result = run(store, puppetdb)
    assert not result.ok
    assert (result.rejected, result.replayed, result.verified) == (1, 1, 1)
    assert [(r.entry.id, r.reason) for r in result.rejections] == [(bad, "HTTP 400: no such version")]
    assert store.copies(bad) == {A: CopyState.REJECTED, B: CopyState.ACCEPTED}
    assert store.state(bad) is EntryState.DELIVERED
    assert store.copies(good)[A] is CopyState.CONFIRMED


def test_what_the_server_fails_to_take_is_named_and_does_not_stop_the_rest(
    store: Store, puppetdb: FakeServer
) -> None:
    """J3: three recoveries stopped at 3 of 30."""
    ids = [on_b(store, command(FACTS, f"n{number}", 1)) for number in range(30)]
    puppetdb.refuses = {"n3": ServerError(A, 500, "no connection to the database")}
    result = run(store, puppetdb)
    assert not result.ok
    assert (result.replayed, result.verified, result.failed, result.missing) == (29, 29, 1, 0)
    assert [(failed.entry.id, failed.reason) for failed in result.failures] == [
        (ids[3], "no connection to the database")
    ]
    assert A not in store.copies(ids[3]), "it is tried again the next time"
    puppetdb.refuses = {}
    assert run(store, puppetdb).ok


@pytest.mark.parametrize("error", [ServerError(A, 500, "no database"), DeadlineExceeded(A, "silent")])
def test_a_server_that_fails_one_after_the_other_ends_it(store: Store, puppetdb: FakeServer, error: Any) -> None:
    for number in range(30):
        on_b(store, command(FACTS, f"n{number}", 1))
    sends = puppetdb.submit

    def until_the_tenth(sent: Command, *, within: float | None = None) -> str:
        if len(puppetdb.commands) == 10:
            raise error
        return sends(sent, within=within)

    puppetdb.submit = until_the_tenth  # type: ignore[assignment, method-assign]
    with pytest.raises(type(error)):
        run(store, puppetdb)
    assert len(puppetdb.commands) == 10


@pytest.mark.parametrize("number", [6, 60])
def test_however_many_bad_ones_stand_side_by_side_those_behind_them_are_sent(
    store: Store, puppetdb: FakeServer, number: int
) -> None:
    """Once the good ones between them are there, nothing else is lacking: every later recovery ended at the fifth."""
    for each in range(number):
        on_b(store, command(REPORT, f"bad{each}", each))
        on_b(store, command(REPORT, f"good{each}", each))
    puppetdb.refuses = {f"bad{each}": ServerError(A, 500, "boom") for each in range(number)}
    assert (run(store, puppetdb).replayed, len(puppetdb.commands)) == (number, number)
    for each in range(10):
        on_b(store, command(REPORT, f"new{each}", each))
    result = run(store, puppetdb)
    assert (result.replayed, result.verified, result.failed) == (10, 10, number)
    assert len({sent.certname for sent in puppetdb.commands}) == number + 10


def test_no_expired_node_is_made_active_to_see_whether_the_server_goes_on(store: Store, puppetdb: FakeServer) -> None:
    known, expired = on_b(store, command(FACTS, "known", 1)), on_b(store, command(FACTS, "gone", 1))
    store.taken(expired)
    store.taken(known)
    store.shown(known)
    store.now += 30 * 86400
    for each in range(6):
        on_b(store, command(DEACTIVATE, f"bad{each}", each))
    store.shown(expired)
    puppetdb.refuses = {f"bad{each}": ServerError(A, 500, "boom") for each in range(6)}
    puppetdb.newest[FACTS, "known"] = stamp(1)
    with suppress(ServerError):
        run(store, puppetdb, node_ttl=7 * 86400.0)
    assert "gone" not in {sent.certname for sent in puppetdb.commands}


def test_a_time_that_no_year_of_ours_has_keeps_nobody_from_the_others(store: Store, puppetdb: FakeServer) -> None:
    """I5: `+12999-01-01` of one node, which every PuppetDB takes, ended each look at the server."""
    for number in range(5):
        on_b(store, command(FACTS, f"good{number}", number))
    on_b(store, command(FACTS, "weird", 9))
    puppetdb.newest[FACTS, "weird"] = "+12999-01-01T00:00:00.000Z"
    result = run(store, puppetdb)
    assert (result.ok, result.had, result.replayed, result.verified) == (True, 1, 5, 5)


def test_what_is_damaged_in_the_journal_is_told_and_not_sent(store: Store, puppetdb: FakeServer) -> None:
    entry = on_b(store, command(FACTS, "n", 1))
    store.journal.run(lambda tx: tx.execute("UPDATE entries SET body = :body", body=b"other"))
    result = run(store, puppetdb)
    assert (result.rejected, result.replayed, puppetdb.commands) == (1, 0, [])
    assert [r.entry.id for r in result.rejections] == [entry]
    assert "damaged" in result.rejections[0].reason


@pytest.mark.parametrize("what", ON_DISK)
@pytest.mark.parametrize("name", [REPORT, CATALOG])
def test_what_is_damaged_on_disk_keeps_nobody_from_the_others(
    store: Store, puppetdb: FakeServer, name: str, what: str
) -> None:
    """One stamp that was none any more: none of a page was sent, each time."""
    ids = [on_b(store, command(name, f"n{n}", n)) for n in range(5)]
    store.damage(what, ids[2])
    result = run(store, puppetdb)
    assert (result.replayed, result.verified) == (4, 4)
    assert {each.certname for each in puppetdb.commands} == {"n0", "n1", "n3", "n4"}
    assert (result.ok, result.damaged) == (False, 1)
    assert f"entry {ids[2]}:" in result.damage[0]
    again = run(store, puppetdb, dry_run=True)
    assert (again.ok, again.lacked, again.damaged) == (False, {}, 1)


def test_what_does_not_become_visible_is_missing_after_a_while(store: Store, puppetdb: FakeServer) -> None:
    lost, good = on_b(store, command(FACTS, "lost", 1)), on_b(store, command(FACTS, "good", 1))
    puppetdb.discards = {"lost"}
    result = run(store, puppetdb)
    assert not result.ok
    assert (result.replayed, result.verified, result.missing) == (2, 1, 1)
    assert [entry.id for entry in result.examples] == [lost]
    assert store.copies(lost)[A] is CopyState.ACCEPTED
    assert store.copies(good)[A] is CopyState.CONFIRMED


def test_as_long_as_something_moves_it_waits(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        on_b(store, command(FACTS, f"n{n}", 1))
    waiting: list[Command] = []
    apply = puppetdb.apply
    monkeypatch.setattr(puppetdb, "apply", waiting.append)
    over = threading.Event()

    def slowly() -> None:
        # Each pause is shorter than the patience without news, all together are longer.
        while not over.wait(0.03):
            if waiting:
                apply(waiting.pop(0))

    thread = threading.Thread(target=slowly)
    thread.start()
    try:
        result = run(store, puppetdb)
    finally:
        over.set()
        thread.join()
    assert (result.verified, result.missing) == (5, 0)


@pytest.mark.parametrize("error", [Busy(A, 503, "maintenance", 0.01), Ambiguous(A, "reset")])
def test_a_server_that_is_busy_or_drops_a_connection_is_tried_again(
    store: Store, puppetdb: FakeServer, error: Any
) -> None:
    on_b(store, command(FACTS, "n", 1))
    puppetdb.meets = [error, error]
    assert run(store, puppetdb).ok
    assert len(puppetdb.commands) == 1


def test_a_server_that_goes_away_ends_it_and_what_was_replayed_stands(store: Store, puppetdb: FakeServer) -> None:
    first, second = on_b(store, command(REPORT, "a", 1)), on_b(store, command(REPORT, "b", 1))
    puppetdb.refuses = {"b": NotSent(A, "refused")}
    with pytest.raises(NotSent):
        run(store, puppetdb)
    assert store.copies(first)[A] is CopyState.ACCEPTED
    assert A not in store.copies(second)
    puppetdb.refuses = {}
    result = run(store, puppetdb)
    assert (result.had, result.replayed, result.ok) == (1, 1, True)


def test_nothing_is_sent_while_its_queue_is_long(store: Store, puppetdb: FakeServer) -> None:
    on_b(store, command(FACTS, "n", 1))
    puppetdb.depths = [0, 5000, 1001, 1000]
    assert run(store, puppetdb).ok
    assert puppetdb.depths == []


def test_first_its_queue_may_run_empty_so_that_nothing_is_sent_twice(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_b(store, command(FACTS, "n", 1))
    monkeypatch.setattr(recovery, "QUIET", 0.2)
    puppetdb.depths = [3, 2, 1, 0]
    document = puppetdb.document

    def then_visible(path: str, *, within: float | None = None) -> Any:
        if len(puppetdb.depths) == 1:
            puppetdb.newest[FACTS, "n"] = stamp(1)
        return document(path, within=within)

    monkeypatch.setattr(puppetdb, "document", then_visible)
    assert run(store, puppetdb).had == 1


def test_a_queue_that_does_not_move_holds_nothing_up(store: Store, puppetdb: FakeServer) -> None:
    on_b(store, command(FACTS, "n", 1))
    puppetdb.depths = [4] * 10_000
    began = time.monotonic()
    assert run(store, puppetdb).ok
    assert time.monotonic() - began < 5


def test_it_keeps_to_its_rate(store: Store, puppetdb: FakeServer) -> None:
    for n in range(30):
        on_b(store, command(REPORT, f"n{n}", 1))
    store.journal.clock = time.time
    began = time.monotonic()
    run(store, puppetdb, rate=20)
    assert time.monotonic() - began > 0.45, "what a second brings is there at once, the rest comes at the rate"


def test_it_ends_early_when_told_to(store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(9):
        on_b(store, command(REPORT, f"n{n}", 1))
    stop = threading.Event()
    apply = puppetdb.apply

    def and_stop(sent: Command) -> None:
        apply(sent)
        if len(puppetdb.commands) == 3:
            stop.set()

    monkeypatch.setattr(puppetdb, "apply", and_stop)
    result = run(store, puppetdb, stop=stop)
    assert result.stopped
    assert not result.ok
    assert result.replayed == len(puppetdb.commands) == 3
    assert run(store, puppetdb).replayed == 6


def test_told_to_end_it_waits_for_no_answer(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that the server leaves unanswered may take as long as a query: SIGTERM waited for that."""
    on_b(store, command(CATALOG, "n", 1))
    stop = threading.Event()

    def hanging(*_: object, **__: object) -> Iterator[Any]:
        stop.set()
        left, end = caller_left.get(), time.monotonic() + 20
        while time.monotonic() < end:
            if left is not None and left.is_set():
                raise CallerLeft("as a session does")
            time.sleep(0.01)
        yield from ()

    monkeypatch.setattr(puppetdb, "records", hanging)
    began = time.monotonic()
    assert run(store, puppetdb, stop=stop).stopped
    assert time.monotonic() - began < 10
    assert caller_left.get() is None


def test_a_queue_that_does_not_get_shorter_ends_it_with_words(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was waited for without an end, and so was nothing else of that server looked at by a gateway that heals."""
    monkeypatch.setattr(recovery, "SLOWEST", 1e6)
    on_b(store, command(CATALOG, "n", 1))
    puppetdb.depths = [0, *[1500 - n for n in range(50)], *[1451, 1460] * 5_000]
    with pytest.raises(Busy, match=r"14(51|60) commands wait in its queue, which has not got shorter for a while"):
        run(store, puppetdb)
    assert puppetdb.commands == []
    puppetdb.depths = []
    assert run(store, puppetdb).ok


def test_progress_tells_how_far_it_is(store: Store, puppetdb: FakeServer) -> None:
    for n in range(3):
        on_b(store, command(FACTS, f"n{n}", 1))
        on_b(store, command(REPORT, f"n{n}", 1))
    told: list[tuple[str, int, int]] = []
    run(store, puppetdb, progress=lambda *step: told.append(step))
    assert ("nodes", 3, 3) in told
    assert ("reports", 6, 6) in told
    assert [done for what, done, _ in told if what == "replayed"] == list(range(1, 7))
    assert told[-1] == ("verified", 6, 6)


CANNOT = ServerError(A, 500, 'ERROR: missing FROM-clause entry for table "certnames"')


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("name", [EXPIRE, FACTS, REPORT])
def test_what_a_server_cannot_be_asked_about_is_left_alone_and_named_and_the_rest_is_recovered(
    store: Store, puppetdb: FakeServer, name: str, dry_run: bool
) -> None:
    kinds = (EXPIRE, FACTS, CATALOG, REPORT)
    for kind in kinds:
        on_b(store, command(kind, "n", 1))
    puppetdb.cannot = {name: CANNOT}
    result = run(store, puppetdb, dry_run=dry_run)
    rest = {kind: 1 for kind in kinds if kind != name}
    assert (result.unknown, result.reasons, result.lacked) == ({name: 1}, {name: str(CANNOT)}, rest)
    assert {kind for kind, *_ in sent(puppetdb)} == (set() if dry_run else set(rest))
    assert not result.ok, "what was not seen is no success"
    puppetdb.cannot = {}
    assert run(store, puppetdb).ok


def test_nothing_that_is_lacking_is_not_nothing_when_not_all_could_be_asked(
    store: Store, puppetdb: FakeServer
) -> None:
    on_b(store, command(EXPIRE, "n", 1))
    puppetdb.newest = {(EXPIRE, "n"): stamp(1)}
    puppetdb.cannot = {EXPIRE: CANNOT}
    result = run(store, puppetdb, dry_run=True)
    assert (result.lacked, result.ok) == ({}, False)


# -- nodes that have expired

TTL = 7 * 86400.0


def at_the_end_of_january(store: Store) -> None:
    store.now = timestamp.to_millis("2026-01-31T00:00:00.000Z") / 1000


OLD, YOUNG = 86400, 28 * 86400
"""Seconds into that January."""


def test_a_node_that_is_silent_for_longer_than_node_ttl_is_left_out_and_counted(
    store: Store, puppetdb: FakeServer
) -> None:
    """J16: it was active, and its resources exported, until the server's next collection."""
    at_the_end_of_january(store)
    for at, certname in ((OLD, "gone"), (YOUNG, "alive")):
        for name in (FACTS, CATALOG, INPUTS, REPORT):
            on_b(store, command(name, certname, at))
    dry = run(store, puppetdb, node_ttl=TTL, dry_run=True)
    assert (dry.expired, sum(dry.lacked.values())) == (4, 4)
    result = run(store, puppetdb, node_ttl=TTL)
    assert {certname for _, certname, _ in sent(puppetdb)} == {"alive"}
    assert (result.looked_at, result.expired, result.replayed, result.ok) == (8, 4, 4, True)
    assert run(store, puppetdb, node_ttl=0.0).replayed == 4, "when asked for"


def test_when_nothing_at_all_is_young_the_clock_may_be_wrong_which_is_no_success(
    store: Store, puppetdb: FakeServer
) -> None:
    """The clock was eight days ahead: 0 of 3 were sent to an empty server, and that was called done."""
    for number in range(3):
        on_b(store, command(FACTS, f"n{number}", 1))
    store.now += TTL + 100
    for dry_run in (True, False):
        result = run(store, puppetdb, node_ttl=TTL, dry_run=dry_run)
        assert (result.expired, result.replayed, result.silent, result.ok) == (3, 0, True, False)
    assert run(store, puppetdb, node_ttl=0.0).ok


@pytest.mark.parametrize("young", [FACTS, CATALOG, INPUTS, REPORT])
def test_whatever_is_young_keeps_all_of_its_node(store: Store, puppetdb: FakeServer, young: str) -> None:
    at_the_end_of_january(store)
    for name in (FACTS, CATALOG, REPORT):
        on_b(store, command(name, "n", OLD))
    on_b(store, command(young, "n", YOUNG))
    result = run(store, puppetdb, node_ttl=TTL)
    assert (result.expired, result.replayed) == (0, {REPORT: 4, INPUTS: 4}.get(young, 3))


def test_a_deactivation_is_never_too_old_and_what_it_outdates_is_harmless(store: Store, puppetdb: FakeServer) -> None:
    at_the_end_of_january(store)
    for name, at in ((FACTS, OLD), (REPORT, OLD), (DEACTIVATE, OLD + 1), (REPORT, OLD + 2)):
        on_b(store, command(name, "n", at))
    result = run(store, puppetdb, node_ttl=TTL)
    assert sent(puppetdb) == [(DEACTIVATE, "n", stamp(OLD + 1)), (FACTS, "n", stamp(OLD)), (REPORT, "n", stamp(OLD))]
    assert result.expired == 1, "the report after it would make the node active"


def test_a_node_whose_expiration_was_configured_may_never_expire(store: Store, puppetdb: FakeServer) -> None:
    at_the_end_of_january(store)
    for name in (EXPIRE, FACTS):
        on_b(store, command(name, "n", OLD))
    result = run(store, puppetdb, node_ttl=TTL)
    assert (result.expired, result.replayed) == (0, 2)


def test_what_an_old_node_has_there_is_noted_as_ever(store: Store, puppetdb: FakeServer) -> None:
    at_the_end_of_january(store)
    entry = on_b(store, command(FACTS, "n", OLD))
    puppetdb.newest = {(FACTS, "n"): stamp(OLD)}
    result = run(store, puppetdb, node_ttl=TTL)
    assert (result.had, result.expired) == (1, 0)
    assert store.copies(entry)[A] is CopyState.CONFIRMED


# -- one at a time


def test_a_server_is_recovered_by_one_at_a_time(store: Store, puppetdb: FakeServer) -> None:
    """J17: three gateways healed 100 entries with 291 commands."""
    on_b(store, command(FACTS, "n", 1))
    with hold(store.journal, f"recovery of {A}"), pytest.raises(Leased):
        run(store, puppetdb)
    assert sent(puppetdb) == []
    with hold(store.journal, f"recovery of {B}"):
        assert run(store, puppetdb).replayed == 1


def test_one_that_another_process_may_have_taken_over_ends(
    store: Store, puppetdb: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        on_b(store, command(REPORT, f"n{n}", 1))
    take = Lease.take

    def for_no_time(lease: Lease) -> str | None:
        taken = take(lease)
        lease._until = 0.0
        return taken

    monkeypatch.setattr(Lease, "take", for_no_time)
    with pytest.raises(JournalError, match="another one may be at it"):
        run(store, puppetdb)
    assert sent(puppetdb) == []
