"""The one thread that commits for all: what it does when the database does not, and how a journal is opened."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from pdbclient.errors import JournalBusy, JournalCorrupt, JournalError, JournalFull
from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries
from pdbclient.journal.model import ANY
from pdbclient.journal.store import committer
from pdbclient.journal.store.committer import MOST_KEPT
from pdbclient.journal.store.database import Kept, Transaction, Unreachable
from pdbclient.journal.store.postgresql import _converted

from .store import Store, command

T = TypeVar("T")
SECRET = "-".join(["s3", "cret"])


class Database:
    """Runs what it is given without any database; as many transactions as `failures` fail with `error`."""

    def __init__(self) -> None:
        self.error: BaseException = JournalError("no")
        self.failures = 0
        self.transactions = 0
        self.closed = False
        self.heard = 0.0
        self.go = threading.Event()
        self.go.set()

    def transact(self, work: Callable[[Transaction], T]) -> T:
        self.go.wait(10)
        self.transactions += 1
        if self.failures:
            self.failures -= 1
            raise self.error
        return work(cast(Transaction, None))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def journal(database: Database) -> Iterator[Journal]:
    with Journal(database) as made:
        yield made


def number(_: Transaction, given: int) -> int:
    return given


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def back(journal: Journal) -> bool:
    return eventually(lambda: journal.answers)


def waiting(journal: Journal, database: Database) -> list[Any]:
    """Ten that wait together, behind one that is under way."""
    database.go.clear()
    first = journal.start(number, 0)
    while journal._commits._waiting:
        pass
    futures = [first, *(journal.start(number, n) for n in range(1, 11))]
    database.go.set()
    return futures


def test_those_who_wait_at_the_same_time_share_a_commit(journal: Journal, database: Database) -> None:
    assert [future.result(10) for future in waiting(journal, database)] == list(range(11))
    assert database.transactions == 2


@pytest.mark.parametrize("error", [Unreachable("away"), JournalBusy("kept")])
def test_a_database_that_is_away_is_waited_for_once_by_all_together(
    journal: Journal, database: Database, error: JournalError
) -> None:
    futures = waiting(journal, database)
    futures[0].result(10)
    database.error, database.failures = error, 2
    database.transactions = 0
    futures = waiting(journal, database)
    assert [future.exception(10) for future in futures] == [error] * 11
    # The one under way and, once for all, the question whether it is back.
    assert database.transactions == 2
    assert back(journal)
    assert journal.run(number, 7) == 7


def test_while_the_database_is_away_everybody_is_told_at_once_and_the_journal_finds_it_back_by_itself(
    journal: Journal, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """J2: every command of a run waited for a journal that was known to be down."""
    database.error, database.failures = Unreachable("away"), 10_000
    with pytest.raises(Unreachable, match="away"):
        journal.run(number, 1)
    asked = database.transactions
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(Unreachable, match="away"):
            journal.start(number, 1)
    assert time.monotonic() - began < 0.5
    assert database.transactions <= asked + 2
    assert not journal.answers
    database.failures = 0
    assert back(journal)
    assert journal.run(number, 7) == 7
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2, "when it began, and when it ended"
    assert "nothing is accepted until it does: away" in told[0]


@pytest.fixture
def several(database: Database) -> Iterator[tuple[Journal, list[Database]]]:
    """A journal on three connections."""
    databases = [database, Database(), Database()]
    with Journal(database, more=databases[1:]) as made:
        yield made, databases
        for each in databases:
            each.go.set()


def busy(journal: Journal, *lines: int) -> bool:
    """Whether these of its connections are at something."""
    return eventually(lambda: all(journal._commits._lines[line].batch for line in lines))


def test_of_several_connections_the_first_is_used_as_long_as_it_is_free(
    several: tuple[Journal, list[Database]],
) -> None:
    journal, databases = several
    assert [journal.run(number, n) for n in range(10)] == [*range(10)]
    assert [each.transactions for each in databases] == [10, 0, 0]


def test_nobody_waits_for_long_behind_another_one_as_long_as_a_connection_is_free(
    several: tuple[Journal, list[Database]],
) -> None:
    """Over a way of 150 ms, all commands of a gateway waited for each other's round trips, and were refused."""
    journal, databases = several
    databases[0].go.clear()
    slow = journal.start(number, 0)
    assert busy(journal, 0)
    began = time.monotonic()
    # The first of these before anybody could know that it is slow: that one waited for all of it.
    assert [journal.run(number, n) for n in range(5)] == [*range(5)]
    assert time.monotonic() - began < 5
    assert not slow.done()
    databases[0].go.set()
    assert slow.result(10) == 0


def test_those_who_are_woken_together_share_the_connections(several: tuple[Journal, list[Database]]) -> None:
    """Whoever waited for one commit asks again at once: all of them waited for the next one, on one connection."""
    journal, databases = several
    took = []

    def slow(_: Transaction) -> None:
        time.sleep(0.4)
        took.append(threading.get_ident())

    databases[0].go.clear()
    first = journal.start(slow)
    assert busy(journal, 0)
    waiting = [journal.start(slow)]
    assert eventually(lambda: any(line.batch for line in journal._commits._lines[1:]))
    waiting += [journal.start(slow)]
    assert busy(journal, 0, 1, 2)
    databases[0].go.set()
    for each in (first, *waiting):
        each.result(10)
    assert len(set(took)) == 3


def test_a_connection_that_cannot_be_had_takes_nothing_from_the_others(
    several: tuple[Journal, list[Database]], caplog: pytest.LogCaptureFixture
) -> None:
    """With too few left (`max_connections`) one transaction of 0.1 s took the journal away, for good."""
    caplog.set_level("INFO")
    journal, databases = several
    for each in databases[1:]:
        each.error, each.failures = Unreachable("too many connections"), 10_000
    databases[0].go.clear()
    waiting = [journal.start(number, 0)]
    assert busy(journal, 0)
    waiting += [journal.start(number, n) for n in (1, 2)]
    assert eventually(lambda: databases[1].transactions + databases[2].transactions > 0)
    assert journal.answers
    assert not any(each.done() for each in waiting)
    databases[0].go.set()
    assert [each.result(10) for each in waiting] == [0, 1, 2]
    assert [journal.run(number, n) for n in range(50)] == [*range(50)]
    asked = databases[1].transactions + databases[2].transactions
    assert asked == 1, "not again and again, and by one of them only"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "those that there are go on: too many connections" in caplog.text


def test_one_of_several_connections_that_breaks_is_left_out_until_it_is_back(
    several: tuple[Journal, list[Database]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "CONNECT_AGAIN", 0.0)
    journal, databases = several
    databases[0].go.clear()
    slow = journal.start(number, 0)
    assert busy(journal, 0)
    assert journal.run(number, 1) == 1
    used = max(databases[1:], key=lambda each: each.transactions)
    used.error, used.failures = Unreachable("gone"), 2
    with pytest.raises(Unreachable, match="gone"):
        journal.run(number, 2)
    # The next ones go elsewhere, or wait until it is back: each connection is asked before it is given anything.
    assert [journal.run(number, n) for n in range(3)] == [0, 1, 2]
    assert journal.answers
    databases[0].go.set()
    assert slow.result(10) == 0


def further(journal: Journal, databases: list[Database]) -> tuple[Database, Database]:
    """Of three connections, with the first one busy: the one that is connected then, and the one that is not."""
    databases[0].go.clear()
    journal.start(number, 0)
    assert busy(journal, 0)
    assert journal.run(number, 1) == 1
    one, other = databases[1:]
    return (one, other) if one.transactions else (other, one)


def test_while_a_connection_is_being_made_the_others_go_on(several: tuple[Journal, list[Database]]) -> None:
    """A server that lets connections wait, as a pool may, kept what waited from one that was idle."""
    journal, databases = several
    connected, other = further(journal, databases)
    connected.go.clear()
    other.go.clear()
    waiting = [journal.start(number, 2)]
    assert eventually(lambda: any(line.batch for line in journal._commits._lines[1:]))
    waiting += [journal.start(number, 3)]
    assert eventually(lambda: journal._commits._connecting is not None)
    connected.go.set()
    assert [each.result(10) for each in waiting] == [2, 3]
    assert journal.run(number, 4) == 4


def test_a_connection_that_could_not_be_had_is_asked_for_again_for_those_who_wait(
    several: tuple[Journal, list[Database]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "CONNECT_AGAIN", 0.3)
    journal, databases = several
    for each in databases[1:]:
        each.error, each.failures = Unreachable("too many connections"), 1
    databases[0].go.clear()
    first = journal.start(number, 0)
    assert busy(journal, 0)
    assert journal.run(number, 1) == 1
    assert not first.done()


def test_a_reader_is_told_at_once_that_a_further_connection_is_silent(
    several: tuple[Journal, list[Database]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.journal.journal.READ_SILENCE", 0.2)
    databases = [Database() for _ in range(3)]
    with Journal(databases[0], Database(), more=databases[1:]) as journal:
        connected, _ = further(journal, databases)
        connected.go.clear()
        silent = journal.start(number, 2)
        assert eventually(lambda: any(line.batch for line in journal._commits._lines[1:]))
        databases[0].go.set()
        time.sleep(0.3)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="has not answered for"):
            journal.read(5.0, number, 3)
        assert time.monotonic() - began < 2
        connected.go.set()
        assert silent.result(10) == 2


def test_at_the_end_all_that_waits_is_done_by_the_first_one(several: tuple[Journal, list[Database]]) -> None:
    """It took a share, for others who had ended: of 128 some were given up."""
    journal, databases = several
    further(journal, databases)
    databases[0].go.set()
    assert eventually(lambda: len(journal._commits._idle) == 1 and databases[0].transactions == 1)
    databases[0].go.clear()
    journal.start(number, 0)
    assert busy(journal, 0)
    before = databases[0].transactions
    waiting = [journal.start(number, n) for n in range(128)]
    journal._commits.stop()
    time.sleep(0.2)
    databases[0].go.set()
    journal.close()
    assert [each.result(0) for each in waiting] == [*range(128)]
    assert databases[0].transactions <= before + 2


def test_the_end_waits_for_what_is_under_way_and_not_for_a_connection_that_is_being_made(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "SILENT", 0.3)
    databases = [database, Database(), Database()]
    journal = Journal(database, more=databases[1:])
    connected, other = further(journal, databases)
    connected.go.clear()
    other.go.clear()
    under_way = journal.start(number, 2)
    assert eventually(lambda: any(line.batch for line in journal._commits._lines[1:]))
    stuck = journal.start(number, 3)
    assert eventually(lambda: journal._commits._connecting is not None)
    assert eventually(lambda: not journal.answers), "the first one is silent"
    threading.Timer(0.5, connected.go.set).start()
    began = time.monotonic()
    journal.close()
    assert time.monotonic() - began < 3
    assert under_way.result(0) == 2
    assert stuck.done()
    for each in databases:
        each.go.set()


def test_who_reads_sees_what_was_started_before_on_any_connection(database: Database) -> None:
    databases = [database, Database()]
    reader = Database()
    with Journal(database, reader, more=databases[1:]) as journal:
        databases[0].go.clear()
        started = [journal.start(number, 0)]
        assert busy(journal, 0)
        assert journal.run(number, 1) == 1
        databases[1].go.clear()
        started += [journal.start(number, 2)]
        assert busy(journal, 0, 1)
        started += [journal.start(number, 3)]
        with pytest.raises(Unreachable, match="did not answer within 0"):
            journal.read(0.05, number, 7)
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(journal.read, 10.0, number, 7)
            for each in databases:
                time.sleep(0.1)
                assert reader.transactions == 0
                each.go.set()
            assert read.result(10) == 7
        assert [future.result(0) for future in started] == [0, 2, 3], "nobody's but a reader's time was over"


def test_an_outage_that_several_connections_meet_is_told_once(
    several: tuple[Journal, list[Database]], caplog: pytest.LogCaptureFixture
) -> None:
    journal, databases = several
    databases[0].go.clear()
    started = [journal.start(number, 0)]
    assert busy(journal, 0)
    assert journal.run(number, 1) == 1
    for each in databases:
        each.go.clear()
        each.error, each.failures = Unreachable("away"), 10_000
    started += [journal.start(number, 2), journal.start(number, 3)]
    assert eventually(lambda: any(line.batch for line in journal._commits._lines[1:]))
    for each in databases:
        each.go.set()
    assert [type(future.exception(10)) for future in started] == [Unreachable] * 3
    assert eventually(lambda: not journal.answers)
    with pytest.raises(Unreachable, match="away"):
        journal.start(number, 1)
    assert eventually(lambda: databases[0].transactions >= 3)
    for each in databases:
        each.failures = 0
    assert back(journal)
    assert eventually(lambda: len(caplog.messages) == 2)
    assert "nothing is accepted until it does: away" in caplog.messages[0]
    assert "answers again" in caplog.messages[1]


def test_without_a_thread_for_one_of_the_connections_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    databases, reader = [Database() for _ in range(3)], Database()
    start, left = threading.Thread.start, 0

    def refused(thread: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    before = threading.active_count()
    for enough in range(4):
        left = enough
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            with pytest.raises(RuntimeError, match="new thread"):
                Journal(databases[0], reader, more=databases[1:])
        assert eventually(lambda: threading.active_count() == before)


def test_a_database_that_is_far_away_and_answers_is_not_silent(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer counts, not each transaction."""
    monkeypatch.setattr(committer, "SILENT", 0.2)
    database.go.clear()
    journal.start(number, 0)
    for _ in range(10):
        database.heard = time.monotonic()
        assert journal.answers
        time.sleep(0.05)
    assert eventually(lambda: not journal.answers)
    database.go.set()
    assert back(journal)


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_what_others_keep_costs_those_that_need_it_and_takes_the_journal_from_nobody(
    journal: Journal, database: Database, kept: int
) -> None:
    """One row that was locked for long failed all who waited, and the journal was down for a moment."""
    tried = 0

    def keeps(_: Transaction) -> None:
        nonlocal tried
        tried += 1
        raise Kept("on purpose")

    database.go.clear()
    first = journal.start(number, 0)
    while journal._commits._waiting:
        time.sleep(0.001)
    others = [journal.start(number, 1)]
    waiting = [journal.start(keeps) for _ in range(kept)]
    others += [journal.start(number, 2)]
    database.go.set()
    assert first.result(10) == 0
    for each in waiting:
        with pytest.raises(Kept):
            each.result(10)
    assert others[0].result(10) == 1
    if kept < MOST_KEPT:
        assert others[1].result(10) == 2
    assert tried <= 1 + MOST_KEPT, "the rest is not tried: each would wait for as long"
    assert journal.answers
    assert journal.run(number, 7) == 7


def test_new_entries_need_nothing_that_others_keep(store: Store) -> None:
    """Innocent commands were refused, seconds after they came, behind a few notes that somebody kept waiting."""

    def keeps(_: Transaction) -> None:
        raise Kept("on purpose")

    go = threading.Event()
    first = store.journal.start(lambda _: go.wait(20))
    while store.journal._commits._waiting:
        time.sleep(0.001)
    kept = [store.journal.start(keeps) for _ in range(MOST_KEPT + 1)]
    new = [store.journal.append(command(), [ANY]) for _ in range(5)]
    go.set()
    first.result(20)
    assert all(isinstance(each.exception(20), Kept) for each in kept)
    assert [each.exception(20) for each in new] == [None] * 5


def test_behind_a_transaction_that_takes_too_long_nobody_waits(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.journal.store.committer.SILENT", 0.05)
    database.go.clear()
    stuck = journal.start(number, 1)
    assert eventually(lambda: not journal.answers)
    with pytest.raises(Unreachable, match="has not answered for"):
        journal.run(number, 2)
    database.go.set()
    assert stuck.result(10) == 1
    assert eventually(lambda: journal.answers)
    assert journal.run(number, 7) == 7


def test_who_waits_decides_for_how_long_and_what_was_not_begun_is_not_done(
    journal: Journal, database: Database
) -> None:
    database.go.clear()
    first = journal.start(number, 0)
    while journal._commits._waiting:
        pass
    second = journal.start(number, 1)
    for future in (first, second):
        with pytest.raises(Unreachable, match="did not answer within"):
            journal.wait(future, 0.01)
    assert second.cancelled()
    database.go.set()
    assert journal.wait(first, 10) == 0


def test_nobody_waits_longer_than_the_journals_own_patience(database: Database) -> None:
    with Journal(database, patience=0.01) as journal:
        database.go.clear()
        try:
            with pytest.raises(Unreachable, match=r"did not answer within 0\.0 s"):
                journal.run(number, 0)
        finally:
            database.go.set()


def test_a_journal_that_is_stuck_is_closed_all_the_same_and_what_is_left_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pdbclient.journal.store.committer.CLOSE_LIMIT", 0.05)
    database.go.clear()
    journal = Journal(database)
    journal.start(number, 0)
    while journal._commits._waiting:
        pass
    left = [journal.start(number, 1) for _ in range(3)]
    journal.close()
    assert "3 transactions were given up" in caplog.text
    assert [type(future.exception(1)) for future in left] == [Unreachable] * 3
    database.go.set()
    journal._commits._threads[0].join(10)
    assert database.closed


def test_a_reader_of_its_own_waits_for_no_writer_but_sees_what_was_started_before(database: Database) -> None:
    reader = Database()
    with Journal(database, reader) as journal:
        database.go.clear()
        try:
            assert journal.start_read(number, 1).result(10) == 1
            journal.start(number, 0)
            with pytest.raises(Unreachable):
                journal.read(0.05, number, 1)
        finally:
            database.go.set()
        assert journal.read(10, number, 2) == 2
    assert (database.closed, reader.closed) == (True, True)


@pytest.mark.parametrize("error", [JournalFull("full"), JournalCorrupt("bad page"), ValueError("a caller's own")])
def test_a_commit_that_fails_for_any_other_reason_is_tried_for_each_alone(
    journal: Journal, database: Database, error: Exception
) -> None:
    futures = waiting(journal, database)
    futures[0].result(10)
    # The first alone, then all together; of these the first one fails once more.
    database.error, database.failures = error, 3
    futures = waiting(journal, database)
    failed = [future.exception(10) for future in futures]
    assert failed == [error, error, *[None] * 9]


def test_the_thread_outlives_whatever_a_caller_raises(journal: Journal) -> None:
    def leave(_: Transaction) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        journal.run(leave)
    assert journal.run(number, 7) == 7


def test_a_cancelled_one_among_others_is_left_out(journal: Journal, database: Database) -> None:
    database.go.clear()
    first = journal.start(number, 0)
    while journal._commits._waiting:
        pass
    assert not first.cancel(), "it is under way"
    given_up, kept = journal.start(number, 1), journal.start(number, 2)
    assert given_up.cancel()
    database.go.set()
    assert (first.result(10), kept.result(10)) == (0, 2)


def test_nobody_is_left_waiting_when_all_that_waited_gave_up(journal: Journal, database: Database) -> None:
    database.go.clear()
    first = journal.start(number, 0)
    while journal._commits._waiting:
        pass
    assert journal.start(number, 1).cancel()
    database.go.set()
    first.result(10)
    assert journal.run(number, 7) == 7


def test_closing_lets_go_of_the_database(database: Database) -> None:
    Journal(database).close()
    assert database.closed


def test_what_is_called_when_something_is_done_may_close_the_journal(database: Database) -> None:
    journal = Journal(database)
    closed = threading.Event()

    def close(_: object) -> None:
        journal.close()
        closed.set()

    journal.start(number, 1).add_done_callback(close)
    assert closed.wait(10)
    journal._commits._threads[0].join(10)
    assert database.closed


def test_a_journal_that_cannot_forget_its_claims_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Transaction) -> None:
        raise JournalError("on purpose")

    path = str(tmp_path / "journal.db")
    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "forget_owners", fails)
        with pytest.raises(JournalError, match="on purpose"):
            Journal.open(path)
    Journal.open(path).close()


def test_without_a_driver_for_postgresql_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "pdbclient.journal.store.postgresql", raising=False)
    monkeypatch.delattr("pdbclient.journal.store.postgresql", raising=False)
    with pytest.raises(JournalError, match=r"pip install 'pdbclient\[postgresql\]'") as caught:
        Journal.open(f"postgresql://user:{SECRET}@127.0.0.1/journal")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("sql", "converted"),
    [
        ("SELECT :a, :long_name", "SELECT %(a)s, %(long_name)s"),
        ("SELECT 1::float8", "SELECT 1::float8"),
        ("SELECT 5 % 2", "SELECT 5 %% 2"),
    ],
)
def test_statements_are_put_into_the_drivers_own_form(sql: str, converted: str) -> None:
    assert _converted(sql) == converted
