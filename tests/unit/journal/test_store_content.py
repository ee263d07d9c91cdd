"""What the journal holds and tells of it: one set of tests for both databases."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

from pdbclient.config.model import NODE_TTL
from pdbclient.errors import InvalidCommand, JournalError
from pdbclient.journal.ledger import deliveries, entries, exported_sql, holdings, upkeep
from pdbclient.journal.model import ANY, CopyState, Entry, EntryState, Listed
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.packing import Damaged, pack, unpack
from pdbclient.wire.command import Command

from .store import CATALOG, DEACTIVATE, FACTS, LEASE, ON_DISK, REPORT, START, A, B, Store, command, stamp

ENTIRE = 1 << 60
"""Bytes that nothing here reaches."""


BODIES = {
    "empty": b"",
    "small": b'{"a":1}',
    "compressible": b'{"a":"' + b"x" * 50_000 + b'"}',
    "random": os.urandom(50_000),
    "10 MB": os.urandom(1_000_000) * 10,
    "every byte": bytes(range(256)) * 4,
    "U+0000 escaped": b'{"a":"\\u0000"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_comes_back_byte_by_byte(store: Store, body: bytes) -> None:
    entry = store.put(command(body=body))
    store.reopen()
    assert store.fetch(entry).command == command(body=body)


def test_a_gzip_body_comes_back_as_the_same_gzip_bytes(store: Store) -> None:
    sent = command(body=b'{"a":"' + b"x" * 5000 + b'"}').gzipped()
    entry = store.put(sent)
    back = store.fetch(entry).command
    assert (back, back.length) == (sent, 5008)
    assert store.show(entry).size == len(sent.body)


def test_a_body_that_is_not_compressed_yet_takes_less_room_in_the_journal(store: Store) -> None:
    entry = store.put(command(body=BODIES["compressible"]))
    assert store.show(entry).size < 1000
    assert store.show(entry).length == len(BODIES["compressible"])


@pytest.mark.parametrize("certname", ["ü / % + & ' \" ; 日本語 🎉", "x" * 300, "%s %(a)s :name", "UPPER.case"])
def test_any_certname_comes_back_and_finds_its_entries(store: Store, certname: str) -> None:
    entry = store.put(command(certname=certname))
    store.put(command(certname="another"))
    assert store.fetch(entry).command.certname == certname
    assert [row.id for row in store.journal.run(entries.listing, certname=certname)] == [entry]


@pytest.mark.parametrize("certname", ["a\0b", "half \ud800"])
def test_a_certname_that_a_database_cannot_hold_is_refused_before_anything_is_written(
    store: Store, certname: str
) -> None:
    with pytest.raises(InvalidCommand, match=r"valid Unicode without U\+0000"):
        store.journal.append(command(certname=certname), [ANY])
    assert store.ids() == []


@pytest.mark.parametrize("version", [-1, 2**31, 2**70])
def test_a_version_that_a_database_cannot_hold_is_refused(store: Store, version: int) -> None:
    with pytest.raises(InvalidCommand, match="out of range"):
        store.journal.append(Command.ready(FACTS, version, "node", stamp(0), b"{}"), [ANY])


def test_what_is_in_it_is_there_after_it_was_closed(store: Store) -> None:
    entry = store.put(command())
    before = store.show(entry)
    store.reopen()
    assert store.show(entry) == before
    assert store.claim() == [entry]


def test_an_entry_tells_everything_about_its_command(store: Store) -> None:
    entry = store.journal.append(command(CATALOG, "node", 7), [ANY]).result()
    assert store.show(entry.id) == Listed(
        *(entry.id, entry.uuid, START, EntryState.PENDING, CATALOG, 5, "node", stamp(7), "identity", 7, 7)
    )


def test_an_entry_is_found_by_its_id_its_own_uuid_and_a_servers(store: Store) -> None:
    store.put(command(REPORT))
    entry = store.put(command(REPORT), (A, B))
    store.taken(entry, B, "0f1e2d3c-0000-4000-8000-000000000000")
    listed = store.show(entry)
    assert store.show(listed.uuid) == listed
    assert store.show("0f1e2d3c-0000-4000-8000-000000000000") == listed
    for nothing in ("999", "0f1e2d3c", "", "٣", "1" * 30):
        assert store.journal.run(entries.show, nothing) is None


def test_uuids_are_unique_and_grow_with_the_time(store: Store) -> None:
    found = []
    for _ in range(20):
        found.append(store.show(store.put(command(REPORT))).uuid)
        store.now += 0.01
    assert sorted(set(found)) == found
    assert {uuid.UUID(each).version for each in found} == {7}


def test_a_listing_goes_page_by_page_and_by_state_and_time(store: Store) -> None:
    ids = []
    for number in range(6):
        ids.append(store.put(command(REPORT, f"node{number % 2}", number)))
        store.now += 10
    store.taken(ids[1])
    store.rejected(ids[2])

    def listed(**how: object) -> list[int]:
        return [row.id for row in store.journal.run(entries.listing, **how)]  # type: ignore[arg-type]

    assert listed(limit=4) == ids[:4]
    assert listed(after=ids[3], limit=4) == ids[4:]
    assert listed(state=EntryState.DELIVERED) == [ids[1]]
    assert listed(state=EntryState.PARKED) == [ids[2]]
    assert listed(certname="node0") == ids[::2]
    assert listed(since=START + 40) == ids[4:]
    assert listed(certname="node1", state=EntryState.PENDING, since=START + 30) == [ids[3], ids[5]]
    assert [row.id for row in store.journal.run(entries.listed, [ids[3], 999, ids[0]])] == [ids[0], ids[3]]


def test_counts_tell_states_debts_bytes_and_the_oldest_debt(store: Store) -> None:
    assert store.counts().bytes == 0
    assert store.counts().oldest_pending is None
    ids = [store.put(command(REPORT, body=os.urandom(100)), (A, B)) for _ in range(3)]
    store.now += 5
    ids.append(store.put(command(REPORT, body=os.urandom(100))))
    store.taken(ids[0], A)
    store.taken(ids[0], B)
    store.taken(ids[1], B)
    counts = store.counts()
    assert counts.entries == {EntryState.PENDING: 3, EntryState.DELIVERED: 1}
    assert counts.pending == {A: 2, B: 1, ANY: 1}
    assert (counts.bytes, counts.oldest_pending) == (400, START)
    store.drop(*ids[:3])
    assert (store.counts().bytes, store.counts().oldest_pending) == (100, START + 5)


def test_the_bytes_that_are_counted_are_those_that_are_there(store: Store) -> None:
    ids = [store.put(command(REPORT, body=os.urandom(number * 37))) for number in range(20)]
    store.drop(*ids[3:9])
    store.reopen()
    real = store.journal.run(lambda tx: tx.rows("SELECT sum(length(body)), sum(size) FROM entries"))[0]
    assert [store.counts().bytes] * 2 == [int(each) for each in real]


# --- what a server lacks -----------------------------------------------------------------------------------------


def test_a_server_lacks_the_newest_of_each_node_that_it_did_not_take(store: Store) -> None:
    old, new = (store.put(command(CATALOG, "a", number)) for number in range(2))
    other = store.put(command(CATALOG, "b", 0))
    gone = store.put(command(DEACTIVATE, "c", 0))
    store.put(command(FACTS, "a", 0))
    store.put(command(REPORT, "a", 0))
    assert store.lacking() == [gone, other, new]
    store.taken(new, A)
    assert (store.lacking(), store.lacking(B)) == ([gone, other], [gone, other, new])
    store.journal.run(exported_sql.enrol, [B])
    store.journal.run(exported_sql.advance, B, new, 0)
    assert store.lacking(B) == [gone, other]
    store.shown(new)
    assert old not in store.ids()


def test_the_newest_is_that_of_the_latest_timestamp_and_of_equal_ones_the_last(store: Store) -> None:
    store.put(command(CATALOG, "a", 9))
    last = store.put(command(CATALOG, "a", 9))
    store.put(command(CATALOG, "a", 5))
    assert store.lacking() == [last]


def test_what_was_just_put_in_is_not_lacking_before_its_first_attempt_is_over(store: Store) -> None:
    entry = store.journal.append(command(CATALOG), [ANY]).result().id
    assert store.lacking() == []
    store.now += LEASE
    assert store.lacking() == [entry]


def test_of_a_node_that_has_expired_nothing_is_lacking(store: Store) -> None:
    """J16; but a node is alive that still sends facts or reports, though its catalogs do not compile any more."""
    for name in ("gone", "deactivated", "alive", "reporting"):
        store.put(command(CATALOG, name, 0))
    deactivated = store.put(command(DEACTIVATE, "deactivated", 0))
    store.put(command(FACTS, "alive", 200))
    store.put(command(REPORT, "reporting", 200))
    store.now += NODE_TTL + 100
    store.put(command(CATALOG, "of a clock that is behind", 0))
    lacking = store.lacking(B, store.now - NODE_TTL)
    names = {entry.certname for entry in store.journal.run(entries.listed, lacking)}
    assert names == {"deactivated", "alive", "reporting", "of a clock that is behind"}
    assert deactivated in lacking


def test_one_that_a_server_called_bad_gives_way_to_the_one_before_until_it_is_tried_again(store: Store) -> None:
    old, new = (store.put(command(CATALOG, "a", number)) for number in range(2))
    store.rejected(new)
    assert store.lacking(B) == [old]
    store.retry(new)
    assert store.lacking(B) == [new]
    store.rejected(new)
    store.rejected(old)
    assert store.lacking(B) == []


def test_when_the_newest_is_dropped_the_one_before_counts_again(store: Store) -> None:
    first, second, third = (store.put(command(CATALOG, "a", number)) for number in range(3))
    store.drop(third)
    assert store.lacking() == [second]
    store.drop(first, second)
    assert store.lacking() == []


def test_what_was_seen_on_a_server_is_confirmed_and_not_lacking(store: Store) -> None:
    taken, seen = store.put(command(CATALOG, "a")), store.put(command(CATALOG, "b"))
    store.taken(taken, A, "0f1e")
    store.now += 10
    held = store.journal.run(holdings.unconfirmed, A, 0, store.now, 10)
    assert [row.id for row in held] == [taken]
    assert store.journal.run(holdings.unconfirmed, A, 0, store.now - 10, 10) == []
    store.shown(seen, taken, 999)
    assert store.journal.run(holdings.unconfirmed, A, 0, store.now, 10) == []
    assert [row.id for row in store.journal.run(holdings.confirmed, A, 1 << 40, 10)] == [taken, seen]
    assert [row.id for row in store.journal.run(holdings.confirmed, A, 1 << 40, 1)] in ([taken], [seen])
    assert store.journal.run(holdings.confirmed, B, 1 << 40, 10) == []
    assert store.lacking() == []
    (copy,) = store.show(taken).copies
    assert (copy.state, copy.uuid, copy.at) == (CopyState.CONFIRMED, "0f1e", store.now)


def test_what_was_taken_by_a_clock_that_was_ahead_is_asked_about_when_that_is_right_again(store: Store) -> None:
    """Nobody asked for as long as the clock had been ahead."""
    store.now += 10 * 86400
    ahead = store.put(command(REPORT, at=1))
    store.taken(ahead)
    store.now -= 10 * 86400
    entry = store.put(command(REPORT, at=2))
    store.taken(entry)
    assert [row.id for row in store.journal.run(holdings.unconfirmed, A, 0, store.now - 3, 10)] == [ahead]
    store.now += 4
    assert [row.id for row in store.journal.run(holdings.unconfirmed, A, 0, store.now - 3, 10)] == [ahead, entry]


def test_confirming_what_is_gone_leaves_no_trace(store: Store) -> None:
    entry = store.put(command(CATALOG))
    store.drop(entry)
    store.shown(entry)
    assert store.journal.run(lambda tx: tx.rows("SELECT count(*) FROM copies")) == [(0,)]


def test_the_newest_id_is_that_of_the_last_entry(store: Store) -> None:
    assert store.journal.run(holdings.newest_id) == 0
    store.put(command())
    last = store.put(command())
    assert store.journal.run(holdings.newest_id) == last


# --- retention and verification ----------------------------------------------------------------------------------


def prune(store: Store, before: float = 0.0, most: int = ENTIRE, limit: int = 100) -> int:
    return store.journal.run(upkeep.prune, before, most, limit, store.journal.writer, (A, B))


def aged(store: Store) -> list[int]:
    """Ten reports of 100 bytes, ten seconds apart, all delivered."""
    ids = []
    for number in range(10):
        ids.append(store.put(command(REPORT, at=number, body=os.urandom(100))))
        store.taken(ids[-1])
        store.now += 10
    return ids


def test_what_is_too_old_is_pruned_oldest_first(store: Store) -> None:
    ids = aged(store)
    assert prune(store, START + 40, limit=3) == 3
    assert store.ids() == ids[3:]
    assert prune(store, START + 40) == 1
    assert prune(store, START + 40) == 0
    assert store.ids() == ids[4:]


def test_no_more_bytes_are_pruned_at_once_than_others_can_wait_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = aged(store)
    monkeypatch.setattr(upkeep, "PRUNED_BYTES", 250)
    assert (prune(store, store.now), prune(store, most=0)) == (2, 2)
    monkeypatch.setattr(upkeep, "PRUNED_BYTES", 50)
    assert prune(store, most=0) == 1
    assert store.ids() == ids[5:]


def test_what_is_too_much_is_pruned_oldest_first(store: Store) -> None:
    ids = aged(store)
    assert prune(store, most=700) == 3
    assert store.ids() == ids[3:]
    assert store.counts().bytes == 700
    assert prune(store, most=0) == 7
    assert store.counts().bytes == 0


def test_what_no_server_has_is_never_pruned_but_what_was_called_bad_has_an_age(store: Store) -> None:
    pending = store.put(command(REPORT, body=os.urandom(500)))
    parked = store.put(command(REPORT, body=os.urandom(500)))
    store.rejected(parked)
    one = store.put(command(FACTS, at=0))
    store.taken(one)
    assert prune(store, most=0) == 1
    assert store.ids() == [pending, parked]
    store.now += 10**9
    assert prune(store, store.now, most=0) == 1
    assert store.ids() == [pending]
    assert store.state(pending) is EntryState.PENDING


def test_what_cannot_go_pushes_nothing_out_that_can(store: Store) -> None:
    """J9: twenty parked ones above the limit evicted every delivered one."""
    for number in range(20):
        store.rejected(store.put(command(REPORT, at=number, body=os.urandom(100))))
    ids = aged(store)
    assert prune(store, most=1000) == 0
    assert prune(store, most=700) == 3
    assert store.ids()[20:] == ids[3:]


@pytest.mark.parametrize("state", ["taken", "shown"])
def test_with_broadcast_what_one_server_has_may_go_though_the_other_is_away(store: Store, state: str) -> None:
    """J9: neither age nor size applied while one server was away."""
    store.journal.run(exported_sql.enrol, [A, B])
    ids = []
    for number in range(10):
        ids.append(store.put(command(REPORT, at=number, body=os.urandom(100)), (A, B)))
        getattr(store, state)(ids[-1])
        store.now += 10
    alone = store.put(command(REPORT, at=11, body=os.urandom(100)), (A, B))
    assert prune(store, most=800) == 2
    assert prune(store, START + 40) == 2
    assert store.ids() == [*ids[4:], alone]
    assert store.counts().pending == {A: 1, B: 7}


def test_what_only_a_server_has_that_is_never_asked_goes_by_age_and_size_as_well(store: Store) -> None:
    """A submit-only one, or one that is not configured any more, while another one is away."""
    store.journal.run(exported_sql.enrol, [A])
    ids = []
    for number in range(10):
        ids.append(store.put(command(REPORT, at=number, body=os.urandom(100)), (A, B)))
        store.taken(ids[-1], B)
        store.now += 10
    both = store.put(command(REPORT, at=11, body=os.urandom(100)), (A, B))
    store.taken(both, A)
    store.taken(both, B)
    assert prune(store, most=800) == 3
    assert prune(store, START + 50) == 2
    assert store.ids() == [*ids[5:], both]


def test_what_only_a_server_has_that_is_not_configured_any_more_stays_while_it_is_pending(store: Store) -> None:
    """No configured server ever had it, and it was dropped by size, and for room."""
    entry = store.put(command(REPORT, body=os.urandom(1000)), (A, B))
    store.taken(entry, A)
    assert store.journal.run(upkeep.prune, store.now + 1, 0, 100, store.journal.writer, [B]) == 0
    assert store.journal.run(upkeep.make_room, 10, store.journal.writer, [B]) == 0
    assert store.ids() == [entry]
    assert store.journal.run(upkeep.prune, store.now + 1, 0, 100, store.journal.writer, [A, B]) == 1


def test_what_only_a_server_has_that_is_not_configured_any_more_goes_by_its_age_alone(store: Store) -> None:
    """A server was replaced: size and a full disk took the last copy of what it had taken."""
    gone = "https://gone.example:8081"
    last = [store.put(command(REPORT, at=number, body=os.urandom(100))) for number in range(20)]
    for number, entry in enumerate(last):
        store.taken(entry, gone)
        if number % 2:
            store.shown(entry, server=gone)
    bad = store.put(command(REPORT, at=21, body=os.urandom(100)))
    store.rejected(bad, gone)
    store.rejected(bad, A)
    ids = aged(store)
    assert store.journal.run(upkeep.make_room, 1001, store.journal.writer, [A, B]) == 0
    assert prune(store, most=1000) == 0, "what cannot go pushes nothing out that can"
    assert prune(store, most=700) == 3
    assert prune(store, most=0) == len(ids) - 3
    assert store.ids() == [*last, bad]
    store.shown(*last[:5])
    assert prune(store, most=200) == 3
    assert prune(store, store.now + 1) == 18, "and so does what was called bad"
    assert store.ids() == []


def test_what_a_server_lost_that_had_it_alone_makes_room_for_nothing(store: Store) -> None:
    """It is what a recovery needs: by size it went first, as nobody had it."""
    store.journal.run(exported_sql.enrol, [A])
    entry = store.put(command(CATALOG))
    store.taken(entry, A)
    store.shown(entry)
    store.journal.run(exported_sql.forget, A)
    assert prune(store, most=0) == 0
    assert store.journal.run(upkeep.make_room, 1, store.journal.writer, [A, B]) == 0
    assert store.lacking(A) == [entry]


def test_of_a_quiet_node_the_newest_goes_by_its_age_too(store: Store) -> None:
    entry = store.put(command(CATALOG))
    store.shown(entry)
    store.shown(entry, server=B)
    assert prune(store, store.now) == 0
    assert prune(store, store.now + 1) == 1


def test_what_was_lost_is_not_parked_by_what_another_server_says(store: Store) -> None:
    """A recovery then left it out, and called that done."""
    entry = store.put(command(CATALOG))
    store.taken(entry, A)
    store.shown(entry)
    store.journal.run(exported_sql.forget, A)
    assert store.rejected(entry, B) is EntryState.DELIVERED
    assert store.lacking(A) == [entry]


def test_what_was_put_in_by_a_clock_that_was_ahead_keeps_nothing_that_is_old(store: Store) -> None:
    store.now += 10**8
    for number in range(5):
        store.taken(store.put(command(REPORT, at=number)))
    store.now -= 10**8
    old = store.put(command(REPORT, at=9))
    store.taken(old)
    assert prune(store, START + 1, limit=3) == 1
    assert old not in store.ids()


def test_no_room_is_made_where_it_would_not_be_enough(store: Store) -> None:
    ids = aged(store)
    assert store.journal.run(upkeep.make_room, 1001, store.journal.writer, [A]) == 0
    assert store.ids() == ids


def test_reports_that_every_server_shows_go_first_and_what_nodes_are_rebuilt_from_goes_last(store: Store) -> None:
    store.journal.run(exported_sql.enrol, [A, B])
    body = os.urandom(100)
    catalog = store.put(command(CATALOG, body=body))
    reports = [store.put(command(REPORT, at=number, body=body)) for number in range(4)]
    store.shown(catalog, *reports)
    store.shown(catalog, *reports[1:3], server=B)
    for left in ([0, 2, 3], [0, 3], [3], []):
        assert prune(store, most=100 * (len(left) + 1)) == 1
        assert store.ids() == [catalog, *(reports[number] for number in left)]
    assert prune(store, most=0) == 1


def test_until_when_retention_dropped_something_is_known(store: Store) -> None:
    assert store.journal.run(upkeep.kept_since) == {}
    aged(store)
    store.taken(store.put(command(FACTS)))
    prune(store, START + 40)
    assert store.journal.run(upkeep.kept_since) == {REPORT: START + 30}
    prune(store, most=0)
    assert store.journal.run(upkeep.kept_since) == {FACTS: START + 100, REPORT: START + 90}
    store.reopen()
    assert store.journal.run(upkeep.kept_since)[REPORT] == START + 90


def test_pruning_an_empty_journal_prunes_nothing(store: Store) -> None:
    assert prune(store, store.now, most=0) == 0


def test_a_sound_journal_is_verified_page_by_page(store: Store) -> None:
    ids = aged(store)
    first = store.journal.run(upkeep.verify, 0, 6)
    assert (first.entries, first.last, first.damaged) == (6, ids[5], {})
    second = store.journal.run(upkeep.verify, ids[5], 6)
    assert (second.entries, second.last, second.damaged) == (4, None, {})
    assert store.journal.run(upkeep.structure) == []


def test_a_journal_with_large_bodies_is_verified_few_of_them_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "VERIFIED_BYTES", 2500)
    ids = [store.put(command(body=os.urandom(size))) for size in (1000, 1000, 1000, 9000, 1000)]
    pages: list[int] = []
    after: int | None = 0
    while after is not None:
        verified = store.journal.run(upkeep.verify, after, 100)
        pages.append(verified.entries)
        assert verified.last in (None, ids[sum(pages) - 1])
        after = verified.last
    assert pages == [2, 1, 1, 1]


def test_bodies_are_read_few_at_a_time_by_their_size_and_unpacked_by_whoever_wants_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J5: twenty whole bodies in the journal's own thread, whatever their size."""
    monkeypatch.setattr("pdbclient.journal.journal.BODY_BYTES", 2500)
    made = [command(REPORT, body=os.urandom(size)) for size in (1000, 1000, 1000, 9000, 1000)]
    wanted = store.journal.run(entries.listed, [store.put(each) for each in made])
    store.drop(wanted[-1].id)
    asked: list[int] = []
    threads: set[threading.Thread] = set()
    fetch = entries.fetch

    def fetched(tx: Transaction, ids: Sequence[int]) -> dict[int, entries.Stored]:
        asked.append(len(ids))
        return fetch(tx, ids)

    def unpacked(*args: Any) -> Command:
        threads.add(threading.current_thread())
        return unpack(*args)

    monkeypatch.setattr(entries, "fetch", fetched)
    monkeypatch.setattr(entries, "unpack", unpacked)
    found = store.journal.bodies(wanted)
    first, stored = next(found)
    assert (first, asked) == (wanted[0], [2])
    assert isinstance(stored, Entry)
    assert stored.command == made[0]
    rest = [None if each is None else isinstance(each, Entry) and each.command for _, each in found]
    assert rest == [*made[1:4], None]
    assert asked == [2, 1, 1, 1]
    assert threads == {threading.current_thread()}


DAMAGE = {
    "certname": "'another'",
    "name": "'store report'",
    "version": "7",
    "producer_timestamp": "'2020-01-01T00:00:00.000Z'",
    "encoding": "'gzip'",
    "length": "1",
    "packing": "'none'",
    "state": "'unheard of'",
}


@pytest.mark.parametrize("column", DAMAGE)
def test_an_entry_with_any_part_changed_is_damaged_and_the_others_can_be_read(store: Store, column: str) -> None:
    sound, bad = store.put(command(body=b"x" * 1000)), store.put(command(body=b"y" * 1000))
    store.journal.run(lambda tx: tx.execute(f"UPDATE entries SET {column} = {DAMAGE[column]} WHERE id = {bad}"))
    found = store.journal.fetch([sound, bad])
    assert isinstance(found[bad], Damaged)
    assert store.fetch(sound).command.body == b"x" * 1000
    assert list(store.journal.run(upkeep.verify, 0, 10).damaged) == [bad]


@pytest.mark.parametrize("what", ON_DISK)
def test_what_lists_entries_leaves_damaged_ones_out_and_names_each_once(
    store: Store, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    ids = [store.put(command(REPORT, f"n{n}", n)) for n in range(6)]
    for entry in ids:
        store.taken(entry)
    bad, good = ids[1:3], [ids[0], *ids[3:]]
    for entry in bad:
        store.damage(what, entry)
    entries._tell.cache_clear()
    for _ in range(2):
        assert [entry.id for entry in store.journal.run(entries.listed, ids)] == good
        assert [entry.id for entry in store.journal.run(entries.listing)] == good
    assert [entry.id for entry in store.journal.run(entries.listing, after=ids[0], limit=1)] == [ids[3]]
    assert [f"entry {entry}:" in caplog.text for entry in bad] == [True, True]
    assert len(caplog.records) == 2
    with pytest.raises(Damaged, match=f"entry {bad[0]}: "):
        store.journal.run(entries.show, str(bad[0]))
    assert list(store.journal.run(upkeep.verify, 0, 10).damaged) == bad
    assert sum(store.counts().entries.values()) == (4 if what == "state" else 6)
    assert store.taken(bad[0], B) is EntryState.DELIVERED, "what becomes of it is noted all the same"


def test_a_bit_flipped_in_when_an_entry_was_received_is_found_and_keeps_nothing_from_the_servers(
    store: Store,
) -> None:
    """No checksum has it: it ended what listed entries, or made all the others young for 53 years."""
    ids = [store.put(command(REPORT, at=number)) for number in range(64)]
    bits = int.from_bytes(struct.pack("<d", START), "little")
    for bit, entry in enumerate(ids):
        (at,) = struct.unpack("<d", (bits ^ 1 << bit).to_bytes(8, "little"))
        store.journal.run(_set_received, entry, at)
    # The lowest ones are less than a millisecond.
    assert list(store.journal.run(upkeep.verify, 0, 100).damaged) == ids[13:]
    assert store.ids() == ids[:13]
    assert (store.counts().oldest_pending or 0.0) == pytest.approx(START, abs=0.001)
    assert store.journal.run(holdings.newest) is None, "not by one of those that say nothing"
    store.now += 1
    last = store.put(command(REPORT, at=64))
    assert (found := store.journal.run(holdings.newest)) is not None
    assert found.id == last
    assert [isinstance(each, Entry) for each in store.journal.fetch(ids).values()] == [True] * 64
    assert store.claim() == [*ids, last]


def test_when_something_was_dropped_is_no_more_than_that_when_it_is_damaged(store: Store) -> None:
    ids = aged(store)
    prune(store, START + 10)
    assert store.journal.run(upkeep.structure) == []
    for damage in (3.26e28, -1e300):
        store.journal.run(_set_dropped, damage)
        (wrong,) = store.journal.run(upkeep.structure)
        assert "store report was dropped until" in wrong
    store.damage("received", ids[1])
    assert prune(store, most=700) == 2
    assert store.journal.run(upkeep.kept_since) == {REPORT: START + 20}


def test_a_body_with_one_bit_flipped_is_damaged(store: Store) -> None:
    for body in (b"y" * 100, b"z" * 1000):
        entry = store.put(command(body=body))
        stored = bytearray(pack(command(body=body)).body)
        stored[len(stored) // 2] ^= 4
        store.journal.run(_replace_body, entry, bytes(stored))
        (damage,) = store.journal.run(upkeep.verify, entry - 1, 10).damaged.values()
        assert "checksum" in damage


def _set_received(tx: Transaction, entry: int, at: float) -> None:
    tx.execute("UPDATE entries SET received = :at WHERE id = :entry", at=at, entry=entry)


def _set_dropped(tx: Transaction, until: float) -> None:
    tx.execute("UPDATE pruned SET received = :until", until=until)


def _replace_body(tx: Transaction, entry: int, body: bytes) -> None:
    tx.execute("UPDATE entries SET body = :body WHERE id = :entry", body=body, entry=entry)


# --- one writer for many -----------------------------------------------------------------------------------------


def test_many_threads_append_at_once_and_each_gets_its_own_entry(store: Store) -> None:
    def put(number: int) -> tuple[int, int]:
        return number, store.journal.append(command(REPORT, f"node{number}"), [ANY]).result().id

    with ThreadPoolExecutor(16) as pool:
        ids = dict(pool.map(put, range(400)))
    assert len(set(ids.values())) == 400
    assert all(store.show(ids[number]).certname == f"node{number}" for number in range(0, 400, 40))


def test_a_transaction_that_fails_leaves_nothing_and_harms_none_of_the_same_commit(store: Store) -> None:
    def half(tx: Transaction) -> NoReturn:
        tx.execute("DELETE FROM entries")
        raise ZeroDivisionError

    held, go = threading.Event(), threading.Event()

    def blocking(tx: Transaction) -> None:
        held.set()
        go.wait(10)

    store.journal.start(blocking)
    held.wait(10)
    good = [store.journal.append(command(REPORT), [ANY]) for _ in range(2)]
    bad = store.journal.start(half)
    good.append(store.journal.append(command(REPORT), [ANY]))
    go.set()
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert store.ids() == [future.result().id for future in good]


def test_a_statement_that_the_database_refuses_is_a_journal_error_and_leaves_nothing(store: Store) -> None:
    def half(tx: Transaction) -> None:
        tx.execute("DELETE FROM entries")
        tx.rows("SELECT 1 FROM nowhere")

    entry = store.put(command())
    with pytest.raises(JournalError, match="nowhere"):
        store.journal.run(half)
    assert store.ids() == [entry]


def test_who_swallows_the_databases_error_is_not_told_that_it_was_kept_unless_it_was(store: Store) -> None:
    entry = store.put(command())

    def careless(tx: Transaction) -> None:
        tx.execute("DELETE FROM entries")
        with contextlib.suppress(Exception):
            tx.rows("SELECT 1 FROM nowhere")

    try:
        store.journal.run(careless)
    except JournalError:
        assert store.ids() == [entry]
    else:
        assert store.ids() == []


def test_what_was_given_up_before_its_turn_is_not_done_and_stops_nothing(store: Store) -> None:
    held, go = threading.Event(), threading.Event()

    def blocking(tx: Transaction) -> None:
        held.set()
        go.wait(10)

    store.journal.start(blocking)
    held.wait(10)
    given_up = store.journal.append(command(REPORT, "given up"), [ANY])
    assert given_up.cancel()
    kept = store.journal.append(command(REPORT, "kept"), [ANY])
    go.set()
    with pytest.raises(CancelledError):
        given_up.result()
    assert store.ids() == [kept.result().id]


def test_closing_finishes_what_waits_and_takes_nothing_more(store: Store) -> None:
    futures = [store.journal.append(command(REPORT), [ANY]) for _ in range(50)]
    store.journal.close()
    assert len({future.result().id for future in futures}) == 50
    with pytest.raises(JournalError, match="closed"):
        store.journal.append(command(REPORT), [ANY])
    store.reopen()
    assert len(store.ids()) == 50


def test_each_of_several_holders_closes_it_and_the_last_one_in_earnest(store: Store) -> None:
    other = store.journal.share(5.0)
    assert other.lease == 5.0
    other.close()
    assert store.put(command())
    store.journal.close()
    with pytest.raises(JournalError, match="closed"):
        store.put(command())


def test_a_command_that_was_made_by_pdbclient_fits(store: Store) -> None:
    made = Command.create("deactivate node", {"certname": "node"}, now=datetime.now(UTC))
    assert store.fetch(store.put(made)).command == made


def test_forgetting_claims_makes_what_was_put_off_due_too(store: Store) -> None:
    entry = store.put(command())
    store.claim()
    store.retry_later(entry)
    store.journal.run(deliveries.forget_owners)
    assert store.claim() == [entry]
