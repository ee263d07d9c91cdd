"""Submitting with a journal, over fake servers and a real SQLite file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdbclient.client import Client
from pdbclient.errors import AllEndpointsFailed, JournalError, JournalFull, Rejected
from pdbclient.journal import CopyState, EntryState, Journal
from pdbclient.journal.ledger import deliveries, entries, upkeep
from pdbclient.journal.model import Copy, Entry, Listed
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.work import service, submission
from pdbclient.journal.work.service import Service
from pdbclient.journal.work.submission import Submitter
from pdbclient.wire import Command

from ..http.fake import Rig, command


def client_of(rig: Rig, path: Path, **settings: object) -> Client:
    return Client(replace(rig.config, journal=str(path / "journal"), **settings), failover=rig.failover)  # type: ignore[arg-type]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig, tmp_path: Path) -> Iterator[Client]:
    with client_of(rig, tmp_path) as client:
        yield client


def journal_of(client: Client) -> Journal:
    assert client._journal is not None
    return client._journal.journal


def all_entries(client: Client) -> list[Listed]:
    return journal_of(client).run(entries.listing)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.02)


def back(rig: Rig) -> None:
    """Let the prober find all servers well: twice, as writes want it."""
    for seconds in (60, 6):
        rig.clock.now += seconds
        rig.prober.ask()


def test_what_a_server_takes_is_in_the_journal_with_its_uuid_there(client: Client) -> None:
    done = client.submit(command())
    (entry,) = all_entries(client)
    assert (entry.state, entry.certname) == (EntryState.DELIVERED, "node1")
    assert [(copy.server, copy.state, copy.uuid) for copy in entry.copies] == [
        ("https://a:8081", CopyState.ACCEPTED, "uuid-a")
    ]
    assert (done.uuid, done.journalled) == ("uuid-a", None)


def test_with_every_server_down_the_command_is_accepted_under_the_journals_uuid(client: Client, rig: Rig) -> None:
    for session in rig.session.values():
        session.replies.append("refused")
    done = client.submit(command())
    (entry,) = all_entries(client)
    assert (done.uuids, done.uuid, done.journalled) == ({}, entry.uuid, entry.uuid)
    assert entry.state is EntryState.PENDING
    assert not entry.copies


def test_what_no_server_took_is_delivered_when_one_is_back(client: Client, rig: Rig) -> None:
    for session in rig.session.values():
        session.replies.append("refused")
    sent = command(body=b'{"exact": 1.0}')
    client.submit(sent)
    back(rig)
    until(lambda: all_entries(client)[0].state is EntryState.DELIVERED)
    assert rig.session["a"].commands == [sent, sent]


def test_a_rejected_command_is_parked_with_the_reason_and_the_caller_told(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append("400")
    with pytest.raises(Rejected):
        client.submit(command())
    (entry,) = all_entries(client)
    assert entry.state is EntryState.PARKED
    assert [(copy.state, copy.reason) for copy in entry.copies] == [
        (CopyState.REJECTED, "HTTP 400: as PuppetDB says")
    ]
    client.submit(command("node2"))
    assert all_entries(client)[1].state is EntryState.DELIVERED


def test_a_command_that_cannot_be_put_on_disk_is_not_sent(client: Client, rig: Rig) -> None:
    def full(*_: object) -> None:
        raise JournalError("no room")

    journal = journal_of(client)
    journal._commits._first.database.transact = full  # type: ignore[method-assign, assignment]
    with pytest.raises(JournalError, match="no room"):
        client.submit(command())
    assert rig.asked == []


def test_a_client_ends_with_what_it_noted_on_disk(rig: Rig, tmp_path: Path) -> None:
    with client_of(rig, tmp_path) as client:
        client.submit(command())
    with Journal.open(str(tmp_path / "journal")) as journal:
        assert journal.run(entries.counts).entries == {EntryState.DELIVERED: 1}


@pytest.mark.parametrize("ending", [False, True])
def test_what_could_not_be_noted_is_noted_as_soon_as_it_can_be(rig: Rig, tmp_path: Path, ending: bool) -> None:
    """J7: an acknowledged command looked as if it were under way, and was kept from whoever asks, for the lease."""
    failures = 3

    def failing(work: Callable[[Transaction], Any]) -> Any:
        nonlocal failures
        if rig.session["a"].commands and failures:
            failures -= 1
            raise JournalError("on purpose")
        return transact(work)

    with client_of(rig, tmp_path) as client:
        journal = journal_of(client)
        transact = journal._commits._first.database.transact
        journal._commits._first.database.transact = failing  # type: ignore[method-assign]
        client.submit(command())
        if not ending:
            until(lambda: not failures and all_entries(client)[0].state is EntryState.DELIVERED, 10)
        until(lambda: failures < 3)
        failures = 0
    with Journal.open(str(tmp_path / "journal")) as journal:
        assert [entry.state for entry in journal.run(entries.listing)] == [EntryState.DELIVERED]
    assert rig.session["a"].commands == [command()]


def test_the_next_client_delivers_what_the_last_one_could_not(rig: Rig, tmp_path: Path) -> None:
    for session in rig.session.values():
        session.replies.append("refused")
    with client_of(rig, tmp_path) as client:
        client.submit(command())
    with client_of(Rig(), tmp_path) as client:
        until(lambda: all_entries(client)[0].state is EntryState.DELIVERED)


def test_what_is_pending_for_servers_of_an_older_configuration_is_for_the_new_ones_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """J8: two dead URLs, started again with the right ones: two were pending for ever, without a line in the log."""
    old, right = "https://old:8081", "https://older:8081"
    with Journal.open(str(tmp_path / "journal")) as journal:
        ids = [journal.append(command(f"node{number}"), (old, right)).result().id for number in range(3)]
        had = [Copy(old, CopyState.ACCEPTED)]
        for entry in ids:
            journal.run(deliveries.ack, entry, had)
    rig = Rig(command_broadcast=True)
    with client_of(rig, tmp_path) as client:
        until(lambda: all(entry.state is EntryState.DELIVERED for entry in all_entries(client)))
        assert [[copy.server for copy in entry.copies] for entry in all_entries(client)] == [
            ["https://a:8081", "https://b:8081", old]
        ] * 3
    assert (
        "3 commands were pending for https://older:8081, which is not configured any more: now they are for "
        "https://a:8081, https://b:8081, as far as that lacks them"
    ) in caplog.messages
    caplog.clear()
    with client_of(Rig(command_broadcast=True), tmp_path):
        pass
    assert caplog.messages == []


def test_broadcast_owes_a_command_to_every_server_that_did_not_take_it(tmp_path: Path) -> None:
    rig = Rig(command_broadcast=True)
    rig.session["b"].replies.append("refused")
    with client_of(rig, tmp_path) as client:
        client.submit(command())
        (entry,) = all_entries(client)
        assert entry.state is EntryState.PENDING
        assert [copy.server for copy in entry.copies] == ["https://a:8081"]
        back(rig)
        until(lambda: all_entries(client)[0].state is EntryState.DELIVERED)
        assert [copy.server for copy in all_entries(client)[0].copies] == ["https://a:8081", "https://b:8081"]
    assert len(rig.session["a"].commands) == 1


def test_with_a_journal_too_few_successes_are_no_failure(tmp_path: Path) -> None:
    rig = Rig(command_broadcast=True, min_successful_submissions=2)
    rig.session["b"].replies.append("refused")
    with client_of(rig, tmp_path) as client:
        done = client.submit(command())
        assert done.journalled is not None
        (entry,) = all_entries(client)
        assert [(copy.server, copy.state) for copy in entry.copies] == [("https://a:8081", CopyState.ACCEPTED)]


def test_a_poison_command_is_parked_in_delivery_and_blocks_nothing(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for session in rig.session.values():
        session.replies.extend(["refused", "refused"])
    with client_of(rig, tmp_path) as client:
        client.submit(command("bad"))
        client.submit(command("good", second=1))
        # Newest first: the good one is sent before the bad one.
        rig.session["a"].replies.extend(["ok", "413"])
        with caplog.at_level(logging.ERROR):
            back(rig)
            until(lambda: [entry.state for entry in all_entries(client)] == [EntryState.PARKED, EntryState.DELIVERED])
    assert [record.message for record in caplog.records if "parked" in record.message] != []


def test_of_many_facts_of_a_node_only_the_newest_is_delivered_and_of_reports_all(rig: Rig, tmp_path: Path) -> None:
    for session in rig.session.values():
        # Once more when all are shut out: a forced attempt.
        session.replies.extend(["refused", "refused"])
    with client_of(rig, tmp_path) as client:
        for second in range(3):
            client.submit(command(second=second))
            client.submit(command(second=second, name="store report"))
        back(rig)
        waits, is_there = [EntryState.PENDING, EntryState.PENDING], EntryState.DELIVERED
        # The older facts wait whether the newest ones are shown.
        expected = [waits[0], is_there, waits[1], *[is_there] * 3]
        until(lambda: [entry.state for entry in all_entries(client)] == expected)
    delivered = rig.session["a"].commands[2:]
    assert [(each.name, each.producer_timestamp[-7:-5]) for each in delivered] == [
        ("replace facts", "02"),
        ("store report", "00"),
        ("store report", "01"),
        ("store report", "02"),
    ]


def test_many_threads_share_a_client_with_a_journal(client: Client) -> None:
    def submit(number: int) -> None:
        for each in range(20):
            client.submit(command(f"node{number}", second=each))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal_of(client).run(entries.counts).entries == {EntryState.DELIVERED: 320}


def test_without_a_journal_an_outage_is_an_error_as_before(rig: Rig) -> None:
    for session in rig.session.values():
        session.replies.append("refused")
    with Client(rig.config, failover=rig.failover) as client, pytest.raises(AllEndpointsFailed):
        client.submit(command())


def test_exact_bytes_are_delivered_whatever_their_encoding(rig: Rig, tmp_path: Path) -> None:
    for session in rig.session.values():
        session.replies.append("refused")
    big = Command.ready("replace facts", 5, "node1", "2026-01-01T00:00:00.000Z", b'{"x": "' + b"y" * 100_000 + b'"}')
    with client_of(rig, tmp_path, gzip_min_bytes=10) as client:
        client.submit(big)
        back(rig)
        until(lambda: all_entries(client)[0].state is EntryState.DELIVERED)
    first, second = rig.session["a"].commands
    assert first == second
    assert second.encoding == "gzip"


def pruned_at(client: Client, clock: float) -> int:
    """Let retention look at a clock that shows this: how many entries there are then."""
    service = client._journal
    assert service is not None
    service.journal.clock = lambda: clock
    service._prune()
    return len(all_entries(client))


def test_a_clock_that_jumps_drops_nothing_and_is_told_once(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """J18: with 15 days more on the clock, all delivered entries were dropped."""
    now, day = time.time(), 86400
    for number in range(3):
        client.submit(command(f"node{number}"))
    assert pruned_at(client, now) == 3
    assert pruned_at(client, now + 15 * day) == 3
    assert pruned_at(client, now + 15 * day) == 3
    assert [message for message in caplog.messages if "days ahead" in message] == [
        "the clock is 15.0 days ahead of the time that has passed here: see whether it is right. It jumped, or"
        " nothing ran meanwhile; retention makes up for that bit by bit"
    ]
    assert pruned_at(client, now - 15 * day) == 3


def test_nor_does_one_that_has_jumped_when_the_process_starts(client: Client) -> None:
    client.submit(command())
    assert pruned_at(client, time.time() + 15 * 86400) == 1


def test_a_service_that_cannot_start_lets_go_of_the_journal(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise JournalError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Service, "_reconfigure", fail)
        with pytest.raises(JournalError, match="no answer"):
            client_of(rig, tmp_path)
    with client_of(rig, tmp_path) as client:
        client.submit(command())


def test_what_becomes_pending_for_other_servers_later_is_found_later(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a reload, the gateway that was there before takes commands until it has ended."""
    monkeypatch.setattr(service, "ROUND", 0.01)
    monkeypatch.setattr(service, "PRUNE_EVERY", 0.05)
    with client_of(rig, tmp_path) as client:
        journal = journal_of(client)
        entry = journal.append(command(), ["https://gone.example:8081"]).result()
        journal.run(deliveries.release, entry.id, 0.0, journal.owner)
        until(lambda: all_entries(client)[0].state is EntryState.DELIVERED)
    assert rig.session["a"].commands == [command()]


def test_the_room_that_was_made_is_used_in_the_same_transaction(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twenty that waited for room, one took what another one had made."""
    client.submit(command())
    append, make_room = entries.append, upkeep.make_room
    full: list[Transaction] = []
    made: list[Transaction] = []
    used: list[Transaction] = []

    def appended(tx: Transaction, *args: Any) -> Entry:
        if not made:
            full.append(tx)
            raise JournalFull("no room")
        used.append(tx)
        return append(tx, *args)

    def room(tx: Transaction, needed: int, writer: str, servers: Collection[str]) -> int:
        made.append(tx)
        return make_room(tx, needed, writer, servers) or 1

    monkeypatch.setattr(entries, "append", appended)
    monkeypatch.setattr(upkeep, "make_room", room)
    monkeypatch.setattr(Journal.append, "__defaults__", (appended,))
    client.submit(command("node2"))
    assert full[-1:] == made == used


@pytest.fixture
def shared(rig: Rig, tmp_path: Path) -> Iterator[Submitter]:
    """Submission to a journal that other processes share, of which only the address is true."""
    config = replace(rig.config, journal="postgresql://puppetdb@localhost/journal")
    with Journal.open(str(tmp_path / "journal")) as journal:
        submitter = Submitter(journal, config, lambda: None)
        yield submitter
        submitter.close()


@pytest.mark.parametrize("down", [False, True])
def test_where_others_share_the_journal_nobody_is_told_before_they_can_know(
    shared: Submitter, rig: Rig, monkeypatch: pytest.MonkeyPatch, down: bool
) -> None:
    """For other gateways, what was acknowledged was under way still: they answered without it, and said nothing."""
    if down:
        for session in rig.session.values():
            session.replies.append("refused")
    over, conclude = threading.Event(), submission._conclude

    def late(*args: Any) -> bool:
        over.wait(10)
        return conclude(*args)

    monkeypatch.setattr(submission, "_conclude", late)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(shared.submit, command(), rig.failover.submit)
        try:
            with pytest.raises(TimeoutError):
                told.result(0.3)
        finally:
            over.set()
        assert (told.result(10).journalled is not None) == down


def test_nor_ever_when_it_cannot_be_noted_in_time(
    shared: Submitter, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Any) -> bool:
        raise JournalError("the database is gone")

    monkeypatch.setattr(submission, "NOTED_WITHIN", 0.2)
    conclude = submission._conclude
    monkeypatch.setattr(submission, "_conclude", cannot)
    with pytest.raises(JournalError, match=r"could not be noted within 0 s, which is tried again"):
        shared.submit(command(), rig.failover.submit)
    monkeypatch.setattr(submission, "_conclude", conclude)
    shared.close()
    (entry,) = shared._journal.run(entries.listing)
    assert entry.state is EntryState.DELIVERED
