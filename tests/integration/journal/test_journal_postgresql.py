"""A journal that several processes share: what only PostgreSQL has."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pdbclient.errors import JournalBusy, JournalError, JournalFull
from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries, entries, upkeep
from pdbclient.journal.model import ANY, Copy, CopyState, EntryState
from pdbclient.journal.store.connection import SILENCE, Connection
from pdbclient.journal.store.database import Transaction, Unreachable
from pdbclient.journal.store.schema import SCHEMA, migration
from tests.faults.proxy import BlackHole, Proxy
from tests.unit.journal.old_format import add_inputs, make_file, make_tables, require_all, require_inputs
from tests.unit.journal.store import CATALOG, REPORT, A, B, Store, command

from .server import DatabaseServer, frozen, name_of, running

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]

WORKER = """
import json, os, sys
from pdbclient.errors import JournalError
from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries, entries
from pdbclient.journal.model import ANY, Copy, CopyState
from tests.unit.journal.store import command

what, count = sys.argv[1], int(sys.argv[2])
done = []
with Journal.open(os.environ["JOURNAL"]) as journal:
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "open":
        pass
    elif what == "claim":
        idle = 0
        while idle < 5:
            now = journal.clock()
            claims = journal.run(deliveries.claim, ANY, 7, now, now + 120, journal.owner)
            idle = 0 if claims else idle + 1
            for claim in claims:
                done.append(claim.entry)
                copy = Copy("https://a", CopyState.ACCEPTED, None, now)
                journal.start(deliveries.ack, claim.entry, [copy])
    else:
        numbers = range(count) if what == "up" else range(count - 1, -1, -1)
        futures = [journal.append(command("replace facts", f"node{n}", n), [ANY]) for n in numbers]
        done = [future.result().id for future in futures]
print(json.dumps(done))
"""


def workers(place: str, *jobs: tuple[str, int]) -> list[list[int]]:
    """Processes that have the journal open, then do their jobs at the same moment; what each of them did."""
    with ExitStack() as stack:
        started = []
        for what, count in jobs:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", WORKER, what, str(count)],
                env={**os.environ, "JOURNAL": place},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            line = process.stdout.readline()
            if line != "ready\n":
                raise AssertionError(process.communicate()[1])
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = []
        for process in started:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            results.append(json.loads(out))
        return results


def test_three_processes_that_claim_at_once_get_everything_and_nothing_twice(store: Store) -> None:
    expected = {store.put(command(REPORT, f"node{number}")) for number in range(400)}
    got = workers(store.place, ("claim", 0), ("claim", 0), ("claim", 0))
    counted = Counter(entry for each in got for entry in each)
    assert set(counted) == expected
    assert set(counted.values()) == {1}
    assert all(got), "one of them got nothing, so nothing was shown"
    assert store.counts().pending == {}
    assert store.counts().entries == {EntryState.DELIVERED: 400}


def test_two_processes_that_put_in_for_the_same_nodes_in_opposite_orders_both_succeed(store: Store) -> None:
    up, down = workers(store.place, ("up", 300), ("down", 300))
    assert len({*up, *down}) == 600
    newest = dict(store.journal.run(lambda tx: tx.rows("SELECT certname, entry FROM newest")))
    assert len(newest) == 300
    stored = store.journal.run(lambda tx: tx.rows("SELECT certname, max(id) FROM entries GROUP BY certname"))
    # Of equal timestamps either may count, but it must be one of that node's.
    owners = dict(store.journal.run(lambda tx: tx.rows("SELECT id, certname FROM entries")))
    assert {owners[entry] for entry in newest.values()} == {certname for certname, _ in stored}


def test_processes_that_find_the_database_empty_at_once_make_its_tables_once(place: str) -> None:
    assert workers(place, *[("open", 0)] * 4) == [[]] * 4
    with Journal.open(place) as journal:
        assert journal.run(lambda tx: tx.rows("SELECT format FROM pdbclient_journal")) == [(SCHEMA,)]


def other(store: Store) -> Journal:
    journal = Journal.open(store.place)
    journal.clock = lambda: store.now
    return journal


def test_what_two_servers_said_to_two_processes_at_once_adds_up(store: Store) -> None:
    with other(store) as second:
        for number in range(40):
            entry = store.put(command(REPORT, f"node{number}"), (A, B))
            one = store.journal.start(deliveries.ack, entry, [Copy(A, CopyState.ACCEPTED, at=store.now)])
            two = second.start(deliveries.ack, entry, [Copy(B, CopyState.ACCEPTED)])
            assert EntryState.DELIVERED in (one.result(), two.result())
            assert store.state(entry) is EntryState.DELIVERED


def test_a_deadlock_is_resolved_by_doing_one_of_the_two_again(store: Store) -> None:
    first, second = store.put(command(REPORT)), store.put(command(REPORT))
    meet = threading.Barrier(2, timeout=5)
    runs: list[int] = []

    def crosswise(tx: Transaction, one: int, then: int) -> None:
        runs.append(one)
        # Its answer is waited for: this one has the row then.
        tx.rows("UPDATE entries SET length = length + 1 WHERE id = :id RETURNING id", id=one)
        if len(runs) <= 2:
            meet.wait()
        tx.execute("UPDATE entries SET length = length + 1 WHERE id = :id", id=then)

    with other(store) as journal:
        futures = [store.journal.start(crosswise, first, second), journal.start(crosswise, second, first)]
        for future in futures:
            future.result(20)
    # What is done again may meet the other one once more.
    assert len(runs) >= 3
    assert store.show(first).length == store.show(second).length == 9


def test_a_row_that_another_session_keeps_is_busy_and_the_next_transaction_works(store: Store) -> None:
    entry = store.put(command())
    held, go = threading.Event(), threading.Event()

    def keep(tx: Transaction) -> None:
        tx.rows("SELECT 1 FROM entries WHERE id = :id FOR UPDATE", id=entry)
        held.set()
        go.wait(20)

    def wait_briefly(tx: Transaction) -> None:
        tx.execute("SET LOCAL lock_timeout = '100ms'")
        tx.rows("SELECT 1 FROM entries WHERE id = :id FOR UPDATE", id=entry)

    with other(store) as journal:
        kept = journal.start(keep)
        held.wait(10)
        with pytest.raises(JournalBusy):
            store.journal.run(wait_briefly)
        go.set()
        kept.result()
    assert store.taken(entry) is EntryState.DELIVERED


def test_who_is_cut_off_in_a_transaction_keeps_the_others_for_seconds_only(store: Store) -> None:
    """Between two statements of a pipeline no limit of the server's held, and the lock was kept for hours."""
    entry = store.put(command())
    held, go = threading.Event(), threading.Event()

    def keep(tx: Transaction) -> list[tuple[Any, ...]]:
        tx.rows("SELECT 1 FROM entries WHERE id = :id FOR UPDATE", id=entry)
        held.set()
        go.wait(30)
        return tx.rows("UPDATE entries SET length = length + 1 WHERE id = :id RETURNING length", id=entry)

    with other(store) as journal:
        kept = journal.start(keep)
        assert held.wait(10)
        assert store.taken(entry) is EntryState.DELIVERED
        go.set()
        # Back again, it does it anew, on another connection.
        assert kept.result(20) == [(store.show(entry).length,)]


# --- the server goes and comes -----------------------------------------------------------------------------------


def back(journal: Journal, seconds: float = 20.0) -> bool:
    """Whether the journal finds by itself, within that time, that its database answers again."""
    end = time.monotonic() + seconds
    assert journal._reads is not None
    while not (journal.answers and journal._reads.down is None) and time.monotonic() < end:
        time.sleep(0.02)
    return journal.answers


def end_sessions(server: DatabaseServer, place: str) -> None:
    server.sql(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(place)}'"
        " AND application_name = 'pdbclient-journal'"
    )


def test_a_connection_that_broke_while_idle_is_replaced_and_nobody_notices(
    server: DatabaseServer, store: Store
) -> None:
    first = store.put(command(REPORT))
    end_sessions(server, store.place)
    assert store.ids() == [first]
    assert store.put(command(REPORT)) > first


def test_a_connection_that_breaks_in_a_transaction_is_an_error_now_and_the_next_one_works(
    server: DatabaseServer, store: Store
) -> None:
    def broken(tx: Transaction) -> None:
        tx.execute("DELETE FROM entries")
        end_sessions(server, store.place)
        tx.rows("SELECT 1")

    entry = store.put(command())
    with pytest.raises(Unreachable, match="see whether the server runs"):
        store.journal.run(broken)
    assert back(store.journal)
    assert store.ids() == [entry]


def test_a_connection_that_breaks_in_a_transaction_once_is_replaced_and_the_transaction_done_again(
    server: DatabaseServer, store: Store
) -> None:
    tries: list[int] = []

    def broken_once(tx: Transaction) -> list[tuple[int]]:
        tries.append(1)
        if len(tries) == 1:
            end_sessions(server, store.place)
        return tx.rows("SELECT 7")

    assert store.journal.run(broken_once) == [(7,)]
    assert len(tries) == 2


def test_what_may_be_committed_is_not_done_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    real = Connection.execute

    def loses_the_answer(self: Connection, query: Any, *args: Any) -> Any:
        result = real(self, query, *args)
        if query == "COMMIT" and tries:
            self.close()
            raise psycopg.OperationalError("the connection is lost")
        return result

    def put(tx: Transaction) -> None:
        tries.append(1)
        tx.execute("UPDATE entries SET length = length + 1")

    entry = store.put(command())
    before = store.show(entry).length
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "execute", loses_the_answer)
        with pytest.raises(Unreachable):
            store.journal.run(put)
        tries.clear()
    assert back(store.journal)
    assert store.show(entry).length == before + 1


def test_a_command_takes_few_round_trips(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal may be far away: at 150 ms, 16 for each command were 2.4 s."""
    waits: list[str] = []
    at_once_now: list[Connection] = []
    execute, rows, at_once = Connection.execute, Connection.rows, Connection.without_waiting

    def executed(self: Connection, query: Any, *args: Any) -> Any:
        waits.extend([] if at_once_now else [query])
        return execute(self, query, *args)

    def asked(self: Connection, sql: str, values: Any) -> Any:
        waits.append(sql)
        return rows(self, sql, values)

    @contextmanager
    def ended(self: Connection) -> Iterator[None]:
        with at_once(self):
            at_once_now.append(self)
            yield
            at_once_now.clear()
        waits.append("COMMIT")

    with monkeypatch.context() as patched:
        for name, replaced in (("execute", executed), ("rows", asked), ("without_waiting", ended)):
            patched.setattr(Connection, name, replaced)
        entry = store.journal.append(command(), [ANY]).result().id
        store.taken(entry)
    assert store.state(entry) is EntryState.DELIVERED
    assert waits.count("COMMIT") == 2
    assert len(waits) <= 7, waits


@pytest.mark.parametrize("before", range(9))
def test_what_was_passed_over_after_a_failure_is_done_the_next_time(store: Store, before: int) -> None:
    """psycopg took it for prepared, and every transaction with it failed from then on (seen with psycopg 3.3.9)."""

    def passed_over(tx: Transaction) -> None:
        tx.execute("INSERT INTO leases (name, owner, until) VALUES (:name, 'b', NULL)", name="x")
        tx.execute("DELETE FROM leases WHERE name = :name", name="a")

    def done(tx: Transaction) -> None:
        tx.execute("DELETE FROM leases WHERE name = :name", name="a")

    for number in range(3):
        for _ in range(before if number == 2 else 0):
            store.journal.run(done)
        with pytest.raises(JournalError, match="null value in column"):
            store.journal.run(passed_over)
    for _ in range(3):
        store.journal.run(done)


def test_a_transaction_that_takes_long_holds_nobody_up(store: Store, server: DatabaseServer, place: str) -> None:
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name_of(place)}'"
    assert server.sql(sessions) == [("2",)]
    slow = store.journal.start(lambda tx: tx.rows("SELECT pg_sleep(4)"))
    time.sleep(0.5)
    entries = [store.put(command(REPORT)) for _ in range(5)]
    assert not slow.done()
    assert server.sql(sessions) == [("3",)], "more connections only where they are needed"
    slow.result()
    assert store.ids() == entries


def test_without_a_connection_left_it_goes_on_with_those_that_it_has(
    store: Store,
    server: DatabaseServer,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One slow transaction asked for a third one, and what that met (`max_connections`) took the journal away."""
    monkeypatch.setattr("pdbclient.journal.store.committer.CONNECT_AGAIN", 0.1)
    name = name_of(place)
    server.sql(f"ALTER DATABASE {name} CONNECTION LIMIT 2")
    with caplog.at_level("INFO"):
        slow = store.journal.start(lambda tx: tx.rows("SELECT pg_sleep(2)"))
        waiting = []
        while not slow.done():
            waiting.append(store.journal.append(command(REPORT), [ANY]))
            time.sleep(0.05)
            assert store.journal.answers
    assert len([each.result(10) for each in waiting]) > 10
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert "no further connection to the journal, those that there are go on" in caplog.text
    server.sql(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    slow = store.journal.start(lambda tx: tx.rows("SELECT pg_sleep(4)"))
    time.sleep(0.2)
    store.put(command(REPORT))
    assert not slow.done()


def test_a_statement_that_fails_while_others_are_on_their_way_is_the_one_that_is_told(store: Store) -> None:
    entry = store.put(command())

    def fails(tx: Transaction) -> None:
        tx.execute("DELETE FROM entries")
        tx.execute("INSERT INTO leases (name, owner, until) VALUES ('a', 'b', NULL)")
        tx.execute("DELETE FROM copies")
        tx.rows("SELECT 1")

    def fails_at_its_end(tx: Transaction) -> None:
        tx.execute("DELETE FROM entries")
        tx.execute("INSERT INTO leases (name, owner, until) VALUES ('a', 'b', NULL)")

    for work in (fails, fails_at_its_end):
        with pytest.raises(JournalError, match="null value in column"):
            store.journal.run(work)
    assert store.ids() == [entry]


def test_a_session_that_became_read_only_is_left_and_nobody_notices(store: Store) -> None:
    """J2: after a failover the journal stayed with the old primary."""
    store.journal.run(lambda tx: tx.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    assert store.put(command(REPORT)) in store.ids()


def test_of_several_hosts_the_first_that_can_be_written_to_is_used_and_the_next_when_it_is_gone(
    server: DatabaseServer, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """J2: a URL with two hosts, the second one writable: nothing was accepted for a minute."""
    with (
        Proxy(server.postgres.node.postgres_port) as first,
        Proxy(server.postgres.node.postgres_port) as second,
        Proxy(server.postgres.node.postgres_port, BlackHole()) as dead,
    ):
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in (dead, first, second))
        with Journal.open(re.sub(r"127\.0\.0\.1:\d+", hosts, place)) as journal:
            assert journal.append(command(REPORT), [ANY]).result(10).id
            first.fault = BlackHole()
            first.reset_all()
            assert journal.append(command(REPORT), [ANY]).result(20).id


def test_a_server_that_is_read_only_is_passed_over_for_the_next(server: DatabaseServer, place: str) -> None:
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running(directory) as standby:
            standby.sql("ALTER SYSTEM SET default_transaction_read_only = on")
            standby.sql("SELECT pg_reload_conf()")
            # Both have the same user and database; the passwords differ, as those of two clusters made here do.
            standby.sql(
                f"SET default_transaction_read_only = off; ALTER ROLE puppetdb PASSWORD '{server.postgres.password}'"
            )
            standby.sql(f"SET default_transaction_read_only = off; CREATE DATABASE {name_of(place)} OWNER puppetdb")
            hosts = f"127.0.0.1:{standby.postgres.node.postgres_port},127.0.0.1:{server.postgres.node.postgres_port}"
            with Journal.open(re.sub(r"127\.0\.0\.1:\d+", hosts, place)) as journal:
                (entry,) = [journal.append(command(REPORT), [ANY]).result(10)]
    with Journal.open(place) as journal:
        assert [row.id for row in journal.run(entries.listing)] == [entry.id]


def test_a_server_that_is_frozen_is_left_within_seconds_and_found_again(server: DatabaseServer, store: Store) -> None:
    """J2: libpq waits for ever for a server that is stopped, on this machine or behind a proxy that answers."""
    first = store.put(command(REPORT))
    with frozen(server):
        began = time.monotonic()
        waiting = store.journal.append(command(REPORT), [ANY])
        assert isinstance(waiting.exception(20), Unreachable)
        assert time.monotonic() - began < SILENCE + 5
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(Unreachable):
                store.journal.append(command(REPORT), [ANY])
        assert time.monotonic() - began < 1
    assert back(store.journal)
    assert store.put(command(REPORT)) > first


def test_a_journal_whose_server_is_frozen_is_closed_within_seconds(server: DatabaseServer, place: str) -> None:
    journal = Journal.open(place)
    with frozen(server):
        waiting = journal.append(command(REPORT), [ANY])
        began = time.monotonic()
        journal.close()
        assert time.monotonic() - began < 12
        assert isinstance(waiting.exception(20), Unreachable)
        assert journal._reads is not None
        for thread in (*journal._commits._threads, *journal._reads._threads):
            thread.join(20)
            assert not thread.is_alive()


def test_a_statement_that_takes_too_long_is_ended_and_the_connection_kept(store: Store) -> None:
    def sleeps(tx: Transaction) -> None:
        tx.execute("SET LOCAL statement_timeout = '100ms'")
        tx.rows("SELECT pg_sleep(30)")

    with pytest.raises(JournalBusy, match="too slow for it"):
        store.journal.run(sleeps)
    assert back(store.journal)
    assert store.ids() == []


def test_a_reader_waits_for_no_writer(store: Store) -> None:
    """J5: what only looks stood in the one queue behind whoever writes."""
    held, go = threading.Event(), threading.Event()

    def keep(_: Transaction) -> None:
        held.set()
        go.wait(20)

    kept = store.journal.start(keep)
    assert held.wait(10)
    try:
        assert store.journal.start_read(entries.counts).result(10).bytes == 0
    finally:
        go.set()
    kept.result(10)


def test_what_was_acknowledged_outlives_the_kill_of_the_server(server: DatabaseServer, store: Store) -> None:
    ids = [store.put(command(REPORT)) for _ in range(20)]
    try:
        server.postgres.process.signal(signal.SIGQUIT)
        deadline = time.monotonic() + 20
        while server.postgres.process.pid is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(Unreachable):
            store.journal.append(command(REPORT), [ANY]).result()
    finally:
        server.postgres.process.forget()
        server.postgres.start()
    assert back(store.journal)
    assert store.ids() == ids
    assert store.put(command(REPORT)) > ids[-1]


def test_many_who_wait_for_a_server_that_is_away_wait_once_together(server: DatabaseServer) -> None:
    place = server.database()
    try:
        with Proxy(server.postgres.node.postgres_port) as proxy:
            through = re.sub(r":\d+/", f":{proxy.port}/", place) + "?connect_timeout=2"
            with Journal.open(through) as journal:
                proxy.fault = BlackHole()
                proxy.reset_all()
                began = time.monotonic()
                futures = [journal.append(command(REPORT), [ANY]) for _ in range(50)]
                for future in futures:
                    assert isinstance(future.exception(30), Unreachable)
                assert time.monotonic() - began < 10
                proxy.fault = None
                proxy.reset_all()
                assert back(journal)
                assert journal.append(command(REPORT), [ANY]).result(10).id
    finally:
        server.drop(place)


def test_every_process_goes_by_the_servers_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with Journal.open(store.place) as journal:
        (server,) = journal.run(lambda tx: tx.rows("SELECT extract(epoch FROM clock_timestamp())::float8"))[0]
        assert abs(journal.clock() - server) < 1


# --- what the database may not be --------------------------------------------------------------------------------


def refused(place: str) -> str:
    with pytest.raises(JournalError) as caught:
        Journal.open(place)
    return str(caught.value)


def test_a_database_with_somebody_elses_table_of_these_names_is_left_alone(
    server: DatabaseServer, place: str
) -> None:
    server.sql("CREATE TABLE copies (a integer)", name_of(place))
    assert "has a table 'copies' that is no journal's" in refused(place)
    assert server.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name_of(place)) == [("copies",)]


def test_a_journal_of_format_1_is_migrated_and_goes_on(place: str, tmp_path: Path) -> None:
    make_file(tmp_path / "journal")
    make_tables(place, tmp_path / "journal")
    # Two processes that find it at once: one of them does it.
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: Store(place), range(2))
    other.journal.close()
    try:
        require_all(one)
    finally:
        one.journal.close()


def test_inputs_of_which_puppetdb_keeps_nothing_are_marked(place: str, tmp_path: Path) -> None:
    make_file(tmp_path / "journal")
    add_inputs(tmp_path / "journal")
    make_tables(place, tmp_path / "journal")
    with Journal.open(place) as journal:
        require_inputs(journal)


def test_a_migration_that_fails_changes_nothing(
    place: str, tmp_path: Path, server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(tmp_path / "journal")
    make_tables(place, tmp_path / "journal")
    broken = [*migration("postgresql", 1), "INSERT INTO nowhere VALUES (1)"]
    with monkeypatch.context() as patched:
        patched.setattr("pdbclient.journal.store.postgresql.migration", lambda *_: iter(broken))
        assert "nowhere" in refused(place)
    assert server.sql("SELECT count(*) FROM owed", name_of(place)) == [("4",)]
    with Journal.open(place) as journal:
        assert len(journal.run(entries.listing)) == 8


def test_a_journal_from_a_newer_version_is_left_alone(store: Store) -> None:
    store.journal.run(lambda tx: tx.execute("UPDATE pdbclient_journal SET format = 99"))
    assert f"newer version of pdbclient (format 99, this one reads up to {SCHEMA})" in refused(store.place)


def test_a_user_who_may_not_make_tables_is_told_what_to_grant(server: DatabaseServer, place: str) -> None:
    server.sql("ALTER SCHEMA public OWNER TO postgres", name_of(place))
    server.sql("REVOKE CREATE ON SCHEMA public FROM public", name_of(place))
    server.sql(f"ALTER DATABASE {name_of(place)} OWNER TO postgres")
    assert "GRANT CREATE ON SCHEMA" in refused(place)


def test_a_database_that_is_read_only_is_a_standby_by_its_message(server: DatabaseServer, store: Store) -> None:
    server.sql(f"ALTER DATABASE {name_of(store.place)} SET default_transaction_read_only = on")
    message = refused(store.place)
    assert "read-only" in message or "read-write" in message


def test_a_database_of_another_encoding_is_refused(server: DatabaseServer) -> None:
    place = server.database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        assert "is encoded in LATIN1: make it with ENCODING 'UTF8'" in refused(place)
    finally:
        server.drop(place)


def test_timestamps_are_ordered_byte_by_byte_whatever_the_databases_language(store: Store) -> None:
    collations = store.journal.run(
        lambda tx: tx.rows(
            "SELECT DISTINCT collation_name FROM information_schema.columns"
            " WHERE data_type = 'text' AND table_schema = 'public'"
        )
    )
    assert collations == [("C",)]


@pytest.mark.parametrize(("found", "kept"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_a_commit_is_on_disk_whatever_the_server_would_do_by_itself(
    server: DatabaseServer, place: str, found: str, kept: str
) -> None:
    server.sql(f"ALTER DATABASE {name_of(place)} SET synchronous_commit = {found}")
    with Journal.open(place) as journal:
        assert journal.run(lambda tx: tx.rows("SHOW synchronous_commit")) == [(kept,)]
        assert journal.run(lambda tx: tx.rows("SHOW transaction_isolation")) == [("read committed",)]


def test_a_server_that_does_not_sync_is_warned_of(place: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pdbclient.journal"):
        Journal.open(place).close()
    assert "fsync = off: a power cut can lose what it was given" in caplog.text


# --- the password ------------------------------------------------------------------------------------------------

SECRET = "s3cret-p%40ss"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://puppetdb:{SECRET}@127.0.0.1:1/journal",
        f"postgresql://puppetdb:{SECRET}@nowhere.invalid/journal",
        f"postgresql://puppetdb:{SECRET}@127.0.0.1:port/journal",
        f"postgresql://puppetdb:{SECRET}@127.0.0.1/journal?nonsense=1",
        f"postgresql://puppetdb:{SECRET}%zz@127.0.0.1/journal",
        f"postgresql://127.0.0.1:1/journal?user=a&password={SECRET}",
        f"postgresql://puppetdb:{SECRET}/more@127.0.0.1:1/journal",
    ],
)
def test_the_password_is_in_no_error_and_no_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(JournalError) as caught:
        Journal.open(url)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "s3cret" not in shown
    assert "postgresql://" in str(caught.value)


def test_a_wrong_password_is_told_without_it(server: DatabaseServer, place: str) -> None:
    message = refused(server.url(name_of(place), SECRET))
    assert "authentication failed" in message
    assert "s3cret" not in message


# --- no room -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(server: DatabaseServer) -> Iterator[Path]:
    """A file system of 24 MB that the server can put a database on."""
    directory = server.postgres.node.home / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        directory.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        server.postgres.account.own(directory)
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)
        directory.rmdir()


def test_a_full_disk_of_the_server_is_told_before_anything_is_acknowledged_and_ends_with_it(
    server: DatabaseServer, small_disk: Path
) -> None:
    server.sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    place = server.database("TABLESPACE small")
    try:
        store = Store(place)
        acknowledged: list[int] = []

        def fill() -> None:
            while len(acknowledged) < 100:
                acknowledged.append(store.put(command(REPORT, body=os.urandom(500_000))))

        try:
            with pytest.raises(JournalFull, match="make room on the database server's disk"):
                fill()
            assert store.ids() == acknowledged
            with pytest.raises(JournalFull):
                store.put(command(REPORT, body=os.urandom(5_000_000)))
            subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
            acknowledged.append(store.put(command(REPORT, body=os.urandom(500_000))))
            assert store.ids() == acknowledged
            assert store.journal.run(upkeep.verify, 0, 1000).damaged == {}
        finally:
            store.journal.close()
    finally:
        server.drop(place)
        server.sql("DROP TABLESPACE small")


def test_there_nothing_is_dropped_that_makes_no_room(store: Store) -> None:
    """It makes none before it was vacuumed: on a full disk, all that was delivered went, for nothing."""
    for number in range(5):
        store.taken(store.put(command(REPORT, at=number, body=os.urandom(10_000))))
    assert store.journal.run(upkeep.make_room, 1000, store.journal.writer, [A]) == 0
    assert len(store.ids()) == 5


def test_all_that_one_look_reads_is_of_the_same_moment(store: Store) -> None:
    store.put(command(REPORT))

    def twice(tx: Transaction) -> list[int]:
        first = entries.counts(tx).entries[EntryState.PENDING]
        store.put(command(REPORT))
        return [first, entries.counts(tx).entries[EntryState.PENDING]]

    assert store.journal.wait(store.journal.start_read(twice)) == [1, 1]


# --- threads of one process --------------------------------------------------------------------------------------


def test_two_journals_under_load_lose_nothing_and_deliver_nothing_twice(store: Store) -> None:
    """Appending, claiming, settling and pruning at the same time, for the same nodes."""
    delivered: Counter[int] = Counter()
    lock, all_put = threading.Lock(), threading.Event()

    def deliver(journal: Journal) -> None:
        idle = 0
        # However quickly claims are made beside what is put in.
        while idle < 20 or not all_put.is_set():
            claims = journal.run(deliveries.claim, ANY, 5, store.now, store.now + 120, journal.owner)
            idle = 0 if claims else idle + 1
            for claim in claims:
                with lock:
                    delivered[claim.entry] += 1
                journal.run(deliveries.ack, claim.entry, [Copy(A, CopyState.ACCEPTED, at=store.now)])

    def put(journal: Journal, name: str) -> list[int]:
        futures = [journal.append(command(name, f"node{number % 7}", number), [ANY]) for number in range(150)]
        ids = [future.result().id for future in futures]
        for entry in ids:
            journal.run(deliveries.release, entry, store.now, journal.owner)
        return ids

    with other(store) as second, ThreadPoolExecutor(8) as pool:
        journals = (store.journal, second)
        puts = [pool.submit(put, journal, name) for journal in journals for name in (REPORT, CATALOG)]
        delivering = [pool.submit(deliver, journal) for journal in journals]
        try:
            ids = [entry for future in puts for entry in future.result()]
        finally:
            all_put.set()
        for future in delivering:
            future.result()
    assert set(delivered.values()) == {1}
    counts = store.counts()
    # Older catalogs wait until a newer one of their node is shown.
    assert counts.entries == {EntryState.DELIVERED: len(delivered), EntryState.PENDING: 600 - len(delivered)}
    assert len(ids) == 600
    reports = {row.id for row in store.journal.run(entries.listing, limit=1000) if row.name == REPORT}
    assert reports <= set(delivered)
    store.shown(*(set(delivered) - reports))
    assert store.counts().entries == {EntryState.DELIVERED: 300 + 7}
