"""What is delivered, in which order and how often: one set of tests for both databases."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import pytest

from pdbclient.journal.ledger import deliveries, entries
from pdbclient.journal.model import ANY, BACKOFF_LIMIT, LATE, Copy, CopyState, EntryState

from .store import CATALOG, DEACTIVATE, EXPIRE, FACTS, INPUTS, LEASE, REPORT, A, B, Store, command

HOUR = 3600.0
C = "https://c.example:8081"


def test_small_commands_go_first_then_catalogs_facts_inputs_and_reports(store: Store) -> None:
    names = [REPORT, INPUTS, FACTS, CATALOG, EXPIRE, DEACTIVATE]
    ids = {name: store.put(command(name)) for name in names}
    assert store.claim() == [ids[name] for name in (EXPIRE, DEACTIVATE, CATALOG, FACTS, INPUTS, REPORT)]


@pytest.mark.parametrize("name", [FACTS, CATALOG, INPUTS])
def test_what_is_replaced_goes_newest_first(store: Store, name: str) -> None:
    ids = [store.put(command(name, f"node{number}", number)) for number in range(5)]
    assert store.claim() == ids[::-1]


@pytest.mark.parametrize("name", [REPORT, DEACTIVATE, EXPIRE])
def test_reports_and_single_deeds_go_oldest_first_and_all_of_them(store: Store, name: str) -> None:
    ids = [store.put(command(name, "node", number)) for number in range(5)]
    assert store.claim(limit=3) == ids[:3]
    for entry in ids[:3]:
        store.taken(entry)
    assert store.claim() == ids[3:]


def test_a_command_of_a_name_from_the_future_goes_last_and_oldest_first(store: Store) -> None:
    later = [store.put(command("store plan", "node", number)) for number in range(2)]
    report = store.put(command(REPORT))
    assert store.claim() == [report, *later]


def test_a_target_gets_only_what_is_pending_to_it(store: Store) -> None:
    both, one, anybody = (store.put(command(REPORT), targets) for targets in ((A, B), (B,), (ANY,)))
    assert store.claim(A) == [both]
    assert store.claim(B) == [both, one]
    assert store.claim() == [anybody]


def test_what_was_just_put_in_belongs_to_who_put_it_in_until_the_lease_is_over(store: Store) -> None:
    entry = store.journal.append(command(), [ANY]).result()
    assert store.claim() == []
    store.now += LEASE
    assert store.claim() == [entry.id]


def test_what_is_claimed_is_not_claimed_again_until_the_lease_is_over(store: Store) -> None:
    entry = store.put(command())
    assert [claim.tries for claim in store.claims()] == [0]
    store.now += LEASE - 1
    assert store.claims() == []
    store.now += 1
    assert [(claim.entry, claim.target, claim.tries) for claim in store.claims()] == [(entry, ANY, 1)]


def test_a_claim_takes_no_more_than_its_limit(store: Store) -> None:
    ids = [store.put(command(REPORT)) for _ in range(5)]
    assert store.claim(limit=2) == ids[:2]
    assert store.claim(limit=2) == ids[2:4]
    assert store.claim(limit=2) == ids[4:]


def test_a_clock_that_is_set_back_an_hour_holds_up_nothing_beyond_its_lease(store: Store) -> None:
    first, second = store.put(command(REPORT)), store.put(command(REPORT))
    assert store.claim(limit=1) == [first]
    store.now -= HOUR
    # Both, as what is due in an hour can only be so by a clock that was wrong.
    assert store.claim() == [first, second]
    store.now += LEASE
    assert store.claim() == [first, second]


def test_a_clock_that_is_set_back_a_little_holds_nothing_up_for_longer_than_that(store: Store) -> None:
    entry = store.put(command())
    store.claim()
    store.now -= 60
    assert store.claim() == []
    store.now += 60 + LEASE
    assert store.claim() == [entry]


def test_a_clock_that_jumps_ahead_ends_leases_and_nothing_else(store: Store) -> None:
    entry = store.put(command())
    store.claim()
    store.now += HOUR
    assert store.claim() == [entry]
    assert store.taken(entry) is EntryState.DELIVERED


def test_a_journal_of_one_process_forgets_the_claims_of_the_dead_one(store: Store) -> None:
    entry = store.put(command())
    store.claim()
    store.journal.run(deliveries.forget_owners)
    assert store.claim() == [entry]


def test_each_failure_puts_it_off_twice_as_long_up_to_ten_minutes(store: Store) -> None:
    entry = store.put(command())
    pauses = []
    for _ in range(10):
        assert store.claim() == [entry]
        store.retry_later(entry)
        began = store.now
        while not store.claims(lease=0):
            store.now += 5
        # The look itself was one more attempt: it must not count here.
        store.journal.run(lambda tx: tx.execute("UPDATE deliveries SET tries = tries - 1, due = 0, owner = ''"))
        pauses.append(store.now - began)
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_failure_that_was_not_its_fault_puts_it_off_not_at_all(store: Store) -> None:
    entry = store.put(command())
    store.claim()
    store.release(entry)
    assert store.claim() == [entry]


def test_putting_off_one_target_leaves_the_other_claimed(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    store.claim(A)
    store.claim(B)
    store.release(entry, B)
    assert (store.claim(A), store.claim(B)) == ([], [entry])


def test_nothing_can_be_put_off_that_is_not_pending_any_more(store: Store) -> None:
    entry = store.put(command())
    store.taken(entry)
    assert store.release(entry) is False
    store.now += BACKOFF_LIMIT
    assert store.claim() == []


# --- how a debt ends ---------------------------------------------------------------------------------------------


def test_in_failover_one_server_is_enough(store: Store) -> None:
    entry = store.put(command())
    assert store.taken(entry, A, "0f1e") is EntryState.DELIVERED
    store.now += LEASE
    assert store.claim() == []
    (copy,) = store.show(entry).copies
    assert (copy.server, copy.state, copy.uuid) == (A, CopyState.ACCEPTED, "0f1e")


def test_in_failover_the_verdict_of_one_server_stands(store: Store) -> None:
    entry = store.put(command())
    assert store.rejected(entry, A, "HTTP 400: no such thing") is EntryState.PARKED
    store.now += LEASE
    assert store.claim() == []
    assert [copy.reason for copy in store.show(entry).copies] == ["HTTP 400: no such thing"]


def test_with_broadcast_every_server_must_have_it(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    assert store.taken(entry, A) is EntryState.PENDING
    assert (store.claim(A), store.claim(B)) == ([], [entry])
    assert store.taken(entry, B) is EntryState.DELIVERED


def test_with_broadcast_one_that_rejects_it_does_not_keep_it_from_the_other(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    assert store.rejected(entry, A) is EntryState.PENDING
    assert store.taken(entry, B) is EntryState.DELIVERED
    assert store.copies(entry) == {A: CopyState.REJECTED, B: CopyState.ACCEPTED}


def test_with_broadcast_what_all_reject_is_parked(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    assert store.settle(entry, Copy(A, CopyState.REJECTED), Copy(B, CopyState.REJECTED)) is EntryState.PARKED


def test_what_one_server_rejected_and_another_one_took_is_the_newest_of_its_node_again(store: Store) -> None:
    def lacked_by_b() -> list[int]:
        return store.lacking(B)

    older = store.put(command(CATALOG, at=1))
    store.taken(older, A)
    entry = store.put(command(CATALOG, at=2))
    assert store.rejected(entry, A) is EntryState.PARKED
    assert lacked_by_b() == [older]
    assert store.taken(entry, A) is EntryState.DELIVERED
    assert lacked_by_b() == [entry]


def test_settling_nothing_leaves_it_pending(store: Store) -> None:
    entry = store.put(command())
    assert store.settle(entry) is EntryState.PENDING
    assert store.claim() == [entry]


def test_what_is_gone_cannot_be_settled_and_leaves_no_trace(store: Store) -> None:
    entry = store.put(command())
    store.drop(entry)
    assert store.taken(entry) is None
    assert store.journal.run(lambda tx: tx.rows("SELECT * FROM copies")) == []


def test_a_second_answer_keeps_the_uuid_of_the_first_when_it_brings_none(store: Store) -> None:
    entry = store.put(command())
    store.taken(entry, A, "0f1e")
    store.settle(entry, Copy(A, CopyState.CONFIRMED, None, store.now))
    (copy,) = store.show(entry).copies
    assert (copy.state, copy.uuid) == (CopyState.CONFIRMED, "0f1e")


@pytest.mark.parametrize(
    "reason", ["zero \0 byte", "half \ud800 of one", "x" * 100_000, "'; DROP TABLE entries; --", "%s"]
)
def test_whatever_a_server_gives_as_its_reason_is_noted(store: Store, reason: str) -> None:
    entry = store.put(command())
    assert store.rejected(entry, A, reason) is EntryState.PARKED
    (copy,) = store.show(entry).copies
    assert copy.reason == reason.replace("\0", "\ufffd").replace("\ud800", "?")


# --- what a newer one replaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [FACTS, CATALOG, INPUTS])
def test_a_newer_one_that_is_shown_supersedes_the_older_ones_of_the_node_for_good(store: Store, name: str) -> None:
    old = [store.put(command(name, "node", number)) for number in range(3)]
    other = store.put(command(name, "other", 0))
    new = store.put(command(name, "node", 3))
    late = store.put(command(name, "node", 1))
    store.taken(new)
    assert store.claim() == [other]
    assert [store.state(entry) for entry in old] == [EntryState.PENDING] * 3
    store.shown(new)
    assert store.ids() == [other, new]
    assert store.counts().pending == {ANY: 1}
    assert store.counts().bytes == sum(store.show(entry).size for entry in (other, new))
    assert late not in store.ids()


@pytest.mark.parametrize("name", [FACTS, CATALOG, INPUTS])
def test_while_a_newer_one_is_not_shown_the_one_before_waits_and_then_it_is_tried(store: Store, name: str) -> None:
    """J10: PuppetDB discarded the newer one after its 200, and the older one was never tried."""
    oldest, old, new = (store.put(command(name, "node", number)) for number in range(3))
    store.taken(new)
    store.now += LATE - 1
    assert store.claim() == []
    store.now += 1
    assert store.claim() == [old]
    store.taken(old)
    store.now += LATE
    assert store.claim() == [oldest]
    store.shown(old)
    assert store.ids() == [old, new]


@pytest.mark.parametrize("name", [FACTS, CATALOG, INPUTS])
def test_a_deactivation_is_not_sent_beside_a_newer_record_and_goes_when_that_is_shown(
    store: Store, name: str
) -> None:
    """PuppetDB works off both at once, and may leave the node deactivated."""
    dead, record = store.put(command(DEACTIVATE, "node", 1)), store.put(command(name, "node", 2))
    other = store.put(command(DEACTIVATE, "other", 1))
    older = store.put(command(name, "other", 0))
    assert store.claim() == [other, older, record]
    assert store.claim() == [], "the record is under way"
    store.taken(record)
    assert store.claim() == [], "the record is in the queue"
    store.shown(record)
    assert dead not in store.ids()
    assert store.counts().pending == {ANY: 2}


def test_a_deactivation_is_sent_when_the_newer_record_comes_to_nothing(store: Store) -> None:
    rejected, discarded, failing = (store.put(command(DEACTIVATE, f"node{n}", 1)) for n in range(3))
    records = [store.put(command(CATALOG, f"node{n}", 2)) for n in range(3)]
    assert store.claim() == records[::-1]
    store.rejected(records[0])
    store.taken(records[1])
    store.retry_later(records[2])
    assert store.claim() == [rejected, failing]
    store.now += LATE
    assert discarded in store.claim()


def test_with_broadcast_whoever_lacks_a_deactivation_that_goes_gets_what_is_shown(store: Store) -> None:
    dead = store.put(command(DEACTIVATE, "node", 1), (A, B))
    store.taken(dead, A)
    record = store.put(command(CATALOG, "node", 2), (A,))
    store.taken(record, A)
    store.shown(record)
    assert (store.ids(), store.counts().pending) == ([record], {B: 1})


def test_the_deactivation_of_the_same_time_stays(store: Store) -> None:
    """It wins over an equal record."""
    dead, record = store.put(command(DEACTIVATE, "node", 1)), store.put(command(CATALOG, "node", 1))
    assert store.claim() == [dead, record]
    store.taken(record)
    store.shown(record)
    assert store.ids() == [dead, record]


def test_what_shows_something_newer_still_supersedes_nothing_of_the_journal(store: Store) -> None:
    """Whether the server would show this one itself is not known."""
    old, new = (store.put(command(FACTS, "node", number)) for number in range(2))
    store.taken(old)
    store.taken(new)
    store.shown(new, itself=False)
    assert store.ids() == [old, new]


def test_what_was_delivered_goes_when_a_newer_one_is_shown(store: Store) -> None:
    """J20: all of them were kept."""
    for number in range(4):
        for node in range(10):
            entry = store.put(command(FACTS, f"node{node}", number))
            store.taken(entry)
            store.shown(entry)
    assert len(store.ids()) == 10


def test_so_much_goes_at_once_that_others_need_not_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of an older format has hundreds of each node."""
    monkeypatch.setattr(deliveries, "COMPACTED", 3)
    ids = [store.put(command(FACTS, "node", number)) for number in range(6)]
    for entry in ids:
        store.taken(entry)

    assert compact(store, ids[5], 0) == ids[2]
    assert store.ids() == ids[3:]
    assert compact(store, ids[5], ids[2]) is None
    assert store.ids() == ids[5:]


def test_those_that_must_stay_keep_none_that_can_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """B called the newer one bad, or does not show it yet: it gets the older ones. Those of A go all the same."""
    monkeypatch.setattr(deliveries, "COMPACTED", 3)
    ids = [store.put(command(FACTS, "node", number), (B,) if number < 6 else (A,)) for number in range(12)]
    for entry in ids[6:]:
        store.taken(entry)
    store.rejected(ids[11], B)
    store.shown(ids[11])
    assert store.ids() == [*ids[:6], ids[11]]


def compact(store: Store, shown: int, after: int) -> int | None:
    return store.journal.run(deliveries.compact, [shown], after, store.journal.writer)


def test_what_takes_longer_than_somebody_has_is_left_for_the_next_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "COMPACTED", 1)
    compact = deliveries.compact

    def slowly(*args: Any) -> Any:
        time.sleep(0.02)
        return compact(*args)

    ids = [store.put(command(FACTS, "node", number)) for number in range(200)]
    for entry in ids:
        store.taken(entry)
    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "compact", slowly)
        store.journal.confirm(A, {ids[-1]: True}, 1.0)
    left = store.ids()
    assert left[-1] == ids[-1]
    assert len(left) > 1
    store.journal.confirm(A, {ids[-1]: True}, 60.0)
    assert store.ids() == ids[-1:]


def test_nor_so_many_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "COMPACTED_BYTES", 250)
    ids = [store.put(command(FACTS, "node", number, os.urandom(100))) for number in range(6)]
    store.taken(ids[5])
    assert compact(store, ids[5], 0) == ids[1]
    assert store.ids() == ids[2:]
    store.shown(ids[5])
    assert store.ids() == ids[5:]


def test_what_waits_is_tried_in_the_end_however_often_newer_ones_are_taken(store: Store) -> None:
    """PuppetDB may discard each of them."""
    old = store.put(command(FACTS, "node", 0))
    for number in range(1, 3):
        store.taken(store.put(command(FACTS, "node", number)))
        store.now += LATE / 2
    assert store.claim() == [old]


def test_of_equal_timestamps_the_last_one_stays(store: Store) -> None:
    ids = [store.put(command(FACTS, "node", 7)) for _ in range(3)]
    for entry in ids:
        store.taken(entry)
    store.shown(*ids)
    assert store.ids() == ids[2:]


def test_what_is_parked_stays_for_whoever_looks_into_it(store: Store) -> None:
    bad, new = (store.put(command(FACTS, "node", number)) for number in range(2))
    store.rejected(bad)
    store.taken(new)
    store.shown(new)
    assert store.ids() == [bad, new]


def test_what_was_tried_again_for_nobody_is_what_it_was(store: Store) -> None:
    """It was pending for ever, for no one."""
    entry = store.put(command(CATALOG), (A, B, C))
    store.taken(entry, A)
    store.taken(entry, B)
    store.rejected(entry, C)
    store.retry(entry, (A, B))
    assert (store.state(entry), store.counts().pending) == (EntryState.DELIVERED, {})


@pytest.mark.parametrize("first", [True, False])
def test_inputs_that_are_none_supersede_nothing(store: Store, first: bool) -> None:
    """J11: as PuppetDB, which keeps the real ones."""
    real = store.put(command(INPUTS, "node", 1, b'{"inputs": [["hiera", "a"]]}'))
    void = store.put(command(INPUTS, "node", 2, b'{"inputs": []}'))
    if first:
        store.taken(real)
    store.taken(void)
    assert store.claim() == ([] if first else [real])
    store.shown(void, itself=False)
    assert store.ids() == [real, void]
    newest = "SELECT entry FROM newest"
    assert store.journal.run(lambda tx: tx.rows(newest)) == [(real,)]
    store.drop(real)
    assert store.journal.run(lambda tx: tx.rows(newest)) == []


@pytest.mark.parametrize("name", [REPORT, DEACTIVATE, EXPIRE])
def test_a_report_or_a_single_deed_is_never_superseded(store: Store, name: str) -> None:
    old, new = (store.put(command(name, "node", number)) for number in range(2))
    store.taken(new)
    assert store.state(old) is EntryState.PENDING
    assert store.claim() == [old]


def test_facts_do_not_supersede_a_catalog(store: Store) -> None:
    old, new = store.put(command(CATALOG, "node", 0)), store.put(command(FACTS, "node", 1))
    store.taken(new)
    assert store.state(old) is EntryState.PENDING


def test_a_newer_one_that_was_rejected_supersedes_nothing(store: Store) -> None:
    old, new = (store.put(command(FACTS, "node", number)) for number in range(2))
    store.rejected(new)
    assert store.claim() == [old]
    assert store.state(old) is EntryState.PENDING


@pytest.mark.parametrize("name", [CATALOG, FACTS, INPUTS])
def test_an_older_one_waits_while_a_newer_one_is_under_way_and_goes_when_that_backs_off(
    store: Store, name: str
) -> None:
    """7.12.1 drops the newer one when both are in its queue; and one that no server manages keeps nobody."""
    old, new = (store.put(command(name, "node", number)) for number in range(2))
    other = store.put(command(name, "other"))
    assert store.claim() == [other, new]
    assert store.claim() == []
    store.retry_later(new)
    assert store.claim() == [old]
    store.now += LEASE
    assert store.claim() == [other, new], "whoever was under way is dead"


def test_an_older_one_waits_while_a_newer_one_is_submitted(store: Store) -> None:
    old = store.put(command(FACTS, "node", 1))
    new = store.journal.append(command(FACTS, "node", 2), [ANY]).result()
    assert store.claim() == []
    store.release(new.id)
    assert store.claim() == [new.id]
    store.rejected(new.id)
    assert store.claim() == [old]


def test_what_was_given_back_counts_no_try(store: Store) -> None:
    """J18: the first real failure waited for ten minutes after some of those."""
    entry = store.put(command())
    for _ in range(7):
        assert [claim.tries for claim in store.claims()] == [0]
        store.release(entry)
    store.claim()
    store.retry_later(entry)
    store.now += 5
    assert store.claim() == [entry]


def test_a_lease_of_an_hour_is_kept(store: Store) -> None:
    """J18: with `operation_timeout` above ten minutes, what was just put in could be claimed at once."""
    entry = store.put(command())
    assert store.claim(lease=3600) == [entry]
    assert store.claim(lease=3600) == []


def test_what_another_process_claimed_since_is_left_to_it(store: Store) -> None:
    """A process that was frozen until its lease was over says late what became of its attempt."""
    entry = store.put(command(), (A, B))
    assert store.claim(A) == [entry]
    store.now += LEASE
    until = store.now + LEASE
    assert store.journal.run(deliveries.claim, A, 10, store.now, until, "another") != []
    assert store.release(entry) is True
    store.retry_later(entry, A)
    assert (store.claim(A), store.claim(B)) == ([], [entry])


def test_an_older_one_that_arrives_late_supersedes_nothing(store: Store) -> None:
    new, old = store.put(command(FACTS, "node", 9)), store.put(command(FACTS, "node", 1))
    store.taken(old)
    assert store.claim() == [new]


def test_with_broadcast_the_older_one_waits_for_the_server_that_took_the_newer_one(store: Store) -> None:
    _, new = (store.put(command(FACTS, "node", number), (A, B)) for number in range(2))
    store.taken(new, A)
    assert (store.claim(A), store.claim(B)) == ([], [new])


def test_with_broadcast_what_one_server_shows_is_all_that_the_other_one_gets(store: Store) -> None:
    _, new = (store.put(command(FACTS, "node", number), (A, B)) for number in range(2))
    store.taken(new, A)
    store.shown(new, server=A)
    assert store.ids() == [new]
    assert (store.state(new), store.claim(B)) == (EntryState.PENDING, [new])


def test_a_server_for_which_only_the_older_one_is_pending_gets_the_newer_one_in_its_place(store: Store) -> None:
    """It was put in by another configuration."""
    old = store.put(command(FACTS, "node", 1), (A, B))
    new = store.put(command(FACTS, "node", 2))
    store.taken(new, A)
    assert store.state(new) is EntryState.DELIVERED
    store.shown(new, server=A)
    assert store.ids() == [new]
    assert (store.state(new), store.claim(B), store.claim(A)) == (EntryState.PENDING, [new], [])
    assert old not in store.ids()


def test_where_the_newer_one_was_taken_and_is_not_shown_the_older_one_stays_pending(store: Store) -> None:
    """That server may discard it, though another one shows it."""
    old, new = (store.put(command(FACTS, "node", number), (A, B)) for number in range(2))
    store.taken(new, A)
    store.taken(new, B)
    store.shown(new, server=A)
    assert store.ids() == [old, new]
    assert store.claim(B) == []
    store.now += LATE
    assert store.claim(B) == [old]
    store.shown(new, server=B)
    assert store.ids() == [new]


def test_where_the_newer_one_was_called_bad_the_older_one_stays_pending(store: Store) -> None:
    old, new = (store.put(command(FACTS, "node", number), (A, B)) for number in range(2))
    store.rejected(new, B)
    store.taken(new, A)
    store.shown(new, server=A)
    assert store.ids() == [old, new]
    assert store.claim(B) == [old]


def test_what_is_seen_on_a_server_is_not_pending_for_it_any_more(store: Store) -> None:
    one, both, bad = store.put(command(REPORT)), store.put(command(REPORT), (A, B)), store.put(command(CATALOG))
    store.rejected(bad, B)
    store.shown(one, both, bad)
    assert [store.state(entry) for entry in (one, both, bad)] == [
        EntryState.DELIVERED,
        EntryState.PENDING,
        EntryState.DELIVERED,
    ]
    assert store.counts().pending == {B: 1}
    assert store.lacking("https://c.example:8081") == [bad]


# --- another configuration ---------------------------------------------------------------------------------------


def reconfigure(store: Store, *targets: str, servers: Sequence[str] = (), limit: int = 100) -> dict[str, int]:
    return store.journal.run(deliveries.reconfigure, targets, servers or targets, limit, store.now)


def test_what_is_pending_for_a_renamed_server_is_so_for_its_new_name(store: Store) -> None:
    """J8: two dead URLs, restarted with the right ones: two pending for ever."""
    one, other = store.put(command(REPORT), (A, B)), store.put(command(FACTS), (A, B))
    store.taken(other, A)
    assert reconfigure(store, A, C) == {B: 2}
    assert store.counts().pending == {A: 1, C: 2}
    assert store.claim(C) == [other, one]
    assert reconfigure(store, A, C) == {}


def test_what_all_have_that_are_left_is_delivered(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    store.taken(entry, A)
    assert reconfigure(store, A) == {B: 1}
    assert (store.state(entry), store.counts().pending) == (EntryState.DELIVERED, {})


def test_without_broadcast_any_server_may_have_what_a_lost_one_was_to_have(store: Store) -> None:
    nobodys, had = store.put(command(REPORT), (A, B)), store.put(command(FACTS), (A, B))
    store.taken(had, A)
    assert reconfigure(store, ANY, servers=[A, C]) == {B: 2}
    assert store.counts().pending == {A: 1}
    assert store.claim(A) == [nobodys]
    assert store.state(had) is EntryState.DELIVERED


def test_what_only_a_server_has_that_is_not_configured_any_more_nobody_has(store: Store) -> None:
    """X had it, Y was to have it; both were replaced by Z, which never got it."""
    entry = store.put(command(REPORT), (A, B))
    store.taken(entry, A)
    assert reconfigure(store, ANY, servers=[C]) == {B: 1}
    assert store.counts().pending == {ANY: 1}
    assert store.claim() == [entry]
    bad = store.put(command(REPORT))
    store.taken(bad, A)
    store.rejected(bad, B)
    assert store.journal.run(entries.retry, bad, (ANY,), [C]) is True
    assert store.claim() == [bad]


def test_without_broadcast_each_that_is_still_there_gets_what_it_was_to_have(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    assert reconfigure(store, ANY, servers=[A, B]) == {}
    assert (store.claim(A), store.claim(B)) == ([entry], [entry])


def test_with_broadcast_now_each_server_gets_what_any_was_to_have(store: Store) -> None:
    entry = store.put(command(REPORT))
    assert reconfigure(store, A, B) == {ANY: 1}
    assert store.counts().pending == {A: 1, B: 1}
    assert store.claim(A) == [entry]


def test_it_is_done_in_small_bites(store: Store) -> None:
    for _ in range(5):
        store.put(command(REPORT), (A, B))
    done = [reconfigure(store, C, limit=4) for _ in range(4)]
    assert done == [{A: 4}, {A: 1, B: 3}, {B: 2}, {}]
    assert store.counts().pending == {C: 5}


def test_what_is_pending_for_no_one_that_is_left_and_nobody_has_is_parked_not_lost(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    store.rejected(entry, A)
    assert reconfigure(store, A) == {B: 1}
    assert store.state(entry) is EntryState.PARKED


# --- tried again, dropped ----------------------------------------------------------------------------------------


def test_what_all_rejected_is_tried_again_at_all_of_them(store: Store) -> None:
    """J14: it was pending for any one server then."""
    entry = store.put(command(REPORT), (A, B))
    store.settle(entry, Copy(A, CopyState.REJECTED), Copy(B, CopyState.REJECTED))
    assert store.retry(entry, (A, B)) is True
    assert (store.claim(A), store.claim(B), store.claim()) == ([entry], [entry], [])


def test_what_is_parked_can_be_tried_again_at_any_server(store: Store) -> None:
    entry = store.put(command())
    store.rejected(entry)
    assert store.retry(entry) is True
    assert (store.state(entry), store.copies(entry)) == (EntryState.PENDING, {})
    assert store.claims()[0].tries == 0
    assert store.taken(entry, B) is EntryState.DELIVERED


def test_what_one_server_of_two_rejected_is_tried_again_there_alone(store: Store) -> None:
    entry = store.put(command(REPORT), (A, B))
    store.rejected(entry, A)
    store.taken(entry, B)
    assert store.retry(entry) is True
    assert store.state(entry) is EntryState.PENDING
    assert (store.claim(A), store.claim(B), store.claim()) == ([entry], [], [])
    assert store.taken(entry, A) is EntryState.DELIVERED


def test_only_what_was_rejected_can_be_tried_again(store: Store) -> None:
    pending, delivered = store.put(command(REPORT)), store.put(command(REPORT))
    store.taken(delivered)
    assert [store.retry(entry) for entry in (pending, delivered, 999)] == [False] * 3
    assert store.claim() == [pending]


def test_what_is_dropped_is_gone_with_its_debts_and_copies(store: Store) -> None:
    gone, stays = store.put(command(REPORT), (A, B)), store.put(command(REPORT), (A,))
    store.taken(gone, A)
    assert store.drop(gone, 999) == 1
    assert (store.ids(), store.claim(B), store.claim(A)) == ([stays], [], [stays])
    tables = store.journal.run(
        lambda tx: [tx.rows(f"SELECT count(*) FROM {name}")[0][0] for name in ("deliveries", "copies")]
    )
    assert tables == [1, 0]


def test_an_id_is_never_given_twice(store: Store) -> None:
    entry = store.put(command())
    store.drop(entry)
    store.reopen()
    assert store.put(command()) > entry
