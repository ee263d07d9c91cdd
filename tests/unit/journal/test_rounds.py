"""Loops in the background outlive whatever one of their rounds meets, and a machine that has no thread for once."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pdbclient.client import Client
from pdbclient.config.model import Endpoint
from pdbclient.errors import CallerLeft, JournalError
from pdbclient.http.sender import caller_left
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger.exported_sql import Behind
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.database import Unreachable
from pdbclient.journal.work import leases, service, submission
from pdbclient.journal.work.audit import Audit
from pdbclient.journal.work.delivery import Delivery
from pdbclient.journal.work.exported import Exported
from pdbclient.journal.work.leases import Lease, hold
from pdbclient.journal.work.service import Service
from pdbclient.journal.work.submission import _Notes

from ..http.fake import Rig
from ..http.fake import command as submitted
from .store import REPORT, Store, command
from .test_journal_submission import all_entries, client_of, until

NO_THREAD = "can't start new thread"


class Failing:
    """Calls `real`, but for the first few times, and counts."""

    def __init__(self, real: Callable[..., Any], error: Exception, times: int = 1) -> None:
        self.real, self.error, self.times = real, error, times
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.real(*args, **kwargs)


Threads = Callable[[str, int], list[str]]
"""Lets the next few threads with such a name not start; gives the names of those that did not."""


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    start = threading.Thread.start

    def fail(pattern: str, times: int) -> list[str]:
        not_started: list[str] = []

        def starting(thread: threading.Thread) -> None:
            if re.fullmatch(pattern, thread.name) and len(not_started) < times:
                not_started.append(thread.name)
                raise RuntimeError(NO_THREAD)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", starting)
        return not_started

    return fail


# -- what is said


def test_what_rounds_meet_is_said_once_until_one_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pdbclient.journal")
    rounds = Rounds("the work", quiet=(Unreachable,))
    for error in (JournalError("a"), JournalError("b"), ValueError("c"), None, ValueError("d"), Unreachable("e")):
        with rounds.each():
            if error is not None:
                raise error
    said = [(each.levelname, each.getMessage(), bool(each.exc_info)) for each in caplog.records]
    assert said == [
        ("ERROR", "the work: a", False),
        ("DEBUG", "the work: b", False),
        ("ERROR", "the work: c", True),
        ("ERROR", "the work: d", True),
        ("DEBUG", "the work: e", False),
    ]


# -- each loop


@pytest.mark.parametrize("error", [ValueError("damaged"), FileNotFoundError("/proc"), MemoryError()])
@pytest.mark.parametrize(("owner", "method"), [(Service, "_prepare"), (Service, "_prune"), (Audit, "round")])
def test_upkeep_and_audit_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, error: Exception
) -> None:
    """One error that nobody had thought of ended their thread for good, and with it all healing and compaction."""
    monkeypatch.setattr(service, "ROUND", 0.01)
    monkeypatch.setattr(service, "PRUNE_EVERY", 0.01)
    rounds = Failing(lambda *_: None, error, times=3)
    monkeypatch.setattr(owner, method, lambda *args: rounds(*args))
    with client_of(Rig(), tmp_path):
        until(lambda: rounds.calls > 10)


class TakingServer:
    """One server, as delivery knows it: it takes all."""

    def __init__(self, store: Store) -> None:
        self.sent: list[str] = []
        self.endpoint = Endpoint("a.example", 8081)
        self.registry = SimpleNamespace(usable=lambda *_: True)
        store.journal.clock = time.time
        self.config = SimpleNamespace(
            server_urls=(self.endpoint,),
            submit_only_server_urls=(),
            journal_rate=50.0,
            timeouts=SimpleNamespace(attempt=10.0),
        )

    def deliver(self, _: Endpoint, command: Any, limit: float, *, alone: bool) -> str:
        assert limit
        assert alone
        self.sent.append(command.certname)
        return "uuid"


@pytest.fixture
def servers(store: Store) -> TakingServer:
    return TakingServer(store)


@pytest.fixture
def delivery(store: Store, servers: TakingServer) -> Iterator[Callable[[], Delivery]]:
    made: list[Delivery] = []

    def make() -> Delivery:
        made.append(Delivery(store.journal, cast(Any, servers), cast(Any, servers.config)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_delivery_goes_on_when_there_was_no_thread_for_it(
    store: Store, servers: TakingServer, delivery: Callable[[], Delivery], threads: Threads
) -> None:
    """It ended for good, without a word, until the gateway was restarted."""
    for at in range(3):
        store.put(command(REPORT, f"n{at}", at))
    not_started = threads(r"pdbclient-deliver(_\d+)?", 2)
    delivery()
    until(lambda: len(set(servers.sent)) == 3)
    assert sorted(servers.sent) == ["n0", "n1", "n2"], "each of them once"
    assert len(not_started) == 2


def test_delivery_goes_on_whatever_a_round_meets(
    store: Store, servers: TakingServer, delivery: Callable[[], Delivery]
) -> None:
    usable = Failing(lambda *_: True, ValueError("on purpose"))
    servers.registry.usable = usable
    store.put(command(REPORT, "n", 1))
    delivery()
    until(lambda: servers.sent == ["n"])


def test_work_that_one_process_does_is_renewed_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.01)
    with hold(store.journal, "work") as lease:
        take = Failing(lambda: Lease.take(lease), ValueError("on purpose"))
        monkeypatch.setattr(lease, "take", take)
        until(lambda: take.calls > 3)


# -- the end


def hanging(began: threading.Event, seconds: float = 20.0) -> Callable[..., Any]:
    """As a session whose server does not answer: it goes on until whoever asked has gone."""

    def hang(*_: Any, **__: Any) -> Any:
        began.set()
        left, end = caller_left.get(), time.monotonic() + seconds
        while time.monotonic() < end:
            if left is not None and left.is_set():
                raise CallerLeft("whoever asked has gone")
            time.sleep(0.01)

    return hang


@contextmanager
def quickly() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


def test_the_end_waits_for_no_server_that_audit_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "ROUND", 0.01)
    began = threading.Event()
    monkeypatch.setattr(Audit, "round", hanging(began))
    client = client_of(Rig(), tmp_path)
    assert began.wait(20)
    with quickly():
        client.close()
    assert "ERROR" not in caplog.text


@pytest.mark.parametrize("hangs", [True, False])
def test_the_end_waits_for_no_server_that_is_being_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """SIGTERM took 28 s: the next server, which does not show what it took, was asked again and again meanwhile."""
    monkeypatch.setattr(service, "ROUND", 0.01)
    began, rig = threading.Event(), Rig()
    servers = tuple(reversed(rig.config.server_urls))
    monkeypatch.setattr(rig.failover, "next_in_line", lambda _: servers)
    with client_of(rig, tmp_path) as client:
        client.submit(submitted())
        behind = Behind(1, 0, awaited=all_entries(client))
    monkeypatch.setattr(Exported, "_look", lambda *_: behind)
    ask = hanging(began)

    def advance(*args: object) -> bool:
        began.set()
        return bool(hangs and ask(*args))

    monkeypatch.setattr(Exported, "_advance", advance)
    client = client_of(rig, tmp_path)
    assert began.wait(20)
    with quickly():
        client.close()


def test_deliveries_that_hang_are_broken_off_and_left_to_the_next_process(
    store: Store, servers: TakingServer, delivery: Callable[[], Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()
    monkeypatch.setattr(servers, "deliver", hanging(began, 30.0))
    entry = store.put(command(REPORT, "n", 1))
    made = delivery()
    assert began.wait(20)
    with quickly():
        made.close()
    assert store.state(entry) is EntryState.PENDING
    store.now = time.time() + 5
    assert store.claim() == [entry], "at once: nobody has it any more"


# -- what became of commands


@pytest.mark.parametrize("no_thread", [False, True])
def test_what_could_not_be_noted_is_noted_later_whatever_kept_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: Threads, no_thread: bool
) -> None:
    """It was never noted, and closing failed, before the journal and the threads were let go of."""
    monkeypatch.setattr(submission, "AGAIN", 0.01)
    rig = Rig()
    with client_of(rig, tmp_path) as client:
        notes = client._journal and client._journal._submitter._notes
        assert isinstance(notes, _Notes)
        entry = _put(client)
        if no_thread:
            threads("pdbclient-notes", 1)
        error = JournalError("on purpose") if no_thread else MemoryError()
        start = notes._journal.start
        failing = Failing(start, error, times=2)
        monkeypatch.setattr(
            notes._journal,
            "start",
            lambda work, *args: (failing if work is submission._conclude else start)(work, *args),
        )
        done = notes.start(entry, [])
        assert done.wait(20)
        assert failing.calls == 3
    with Journal.open(str(tmp_path / "journal")):
        pass


def _put(client: Client) -> int:
    client.submit(submitted())
    (entry,) = all_entries(client)
    assert entry.state is EntryState.DELIVERED
    return entry.id


def test_a_service_that_cannot_begin_lets_go_of_all(tmp_path: Path, threads: Threads) -> None:
    rig, before = Rig(), set(threading.enumerate())
    not_started = threads("pdbclient-notes|pdbclient-audit", 1)
    with pytest.raises(RuntimeError, match=NO_THREAD):
        client_of(rig, tmp_path)
    assert not_started
    until(lambda: not [each for each in set(threading.enumerate()) - before if "pdbclient-" in each.name])
    with client_of(rig, tmp_path):
        pass


# -- the one thread that commits


def test_the_thread_that_commits_goes_on_whatever_it_meets(store: Store) -> None:
    """All who wait with the one that it was about are told, and the next ones served."""
    held, go = threading.Event(), threading.Event()

    def hold_up(_: object) -> None:
        held.set()
        go.wait(20)

    first = store.journal.start(hold_up)
    assert held.wait(20)
    wrong, beside = store.journal.start(lambda _: 1), store.journal.start(lambda _: 2)
    wrong.set_result(3)
    go.set()
    first.result(20)
    assert isinstance(beside.exception(20), Exception)
    assert store.journal.run(lambda _: 4) == 4
