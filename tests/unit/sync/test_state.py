"""The state file: what it remembers, and which files it refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import SyncError
from pdbclient.sync.policy.expiry import Expired
from pdbclient.sync.policy.model import Difference, Entity, Outcome, PassResult, Version
from pdbclient.sync.policy.report_hours import ReportMemory, Total
from pdbclient.sync.state import file as state_file
from pdbclient.sync.state.lock import InstanceLock
from pdbclient.sync.state.store import PassRecord, Refused, ServerRecord, State, state_path

OLD, NEW = Version(1000, "aa"), Version(2000, "bb", "u")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sync.sqlite"


def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    memory = ReportMemory(7, {5: "x"}, {5: 2}, {"m": 3}, frozenset([4]), 1.5, 5, Total(1, 2, 3, 4))
    state = State(path)
    state.remember_unequal("r", Entity.FACTS, {"n": NEW})
    state.remember_reports("r", lambda _: ReportMemory(cursor=1))
    state.remember_reports("r", lambda before: replace(memory, cursor=7 * (before.cursor or 0)))
    state.remember_seen("r", Entity.NODES, 7)
    state.close()
    state = State(path)
    assert state.unequal("r", Entity.FACTS) == {"n": NEW}
    assert state.unequal("r", Entity.CATALOGS) == {}
    assert state.unequal("other", Entity.FACTS) == {}
    assert (state.reports("r"), state.reports("other")) == (memory, ReportMemory())
    assert (state.seen("r", Entity.NODES), state.seen("r", Entity.FACTS)) == (7, 0)
    state.close()


def test_every_failure_doubles_the_wait_and_more_and_the_third_one_quarantines(path: Path) -> None:
    state = State(path)
    verdicts = []
    for _ in range(3):
        state.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=1000.0)
        refused = state.refused("r", Entity.FACTS)["n"]
        verdicts.append((refused.verdict(1059.0), refused.verdict(1061.0), refused.verdict(1301.0)))
    assert verdicts == [
        (Difference.WAITING, None, None),
        (Difference.WAITING, Difference.WAITING, None),
        (Difference.QUARANTINED, Difference.QUARANTINED, Difference.QUARANTINED),
    ]
    state.close()


def test_another_version_of_a_refused_record_starts_afresh_and_success_forgets_it(path: Path) -> None:
    state = State(path)
    for _ in range(3):
        state.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=0.0)
    state.remember_refused("r", Entity.FACTS, {"n": (NEW, "why")}, now=0.0)
    assert state.refused("r", Entity.FACTS)["n"].tries == 1
    state.forget_refused("r", Entity.FACTS, ["n"])
    assert state.refused("r", Entity.FACTS) == {}
    state.close()


def test_what_an_operator_dropped_during_a_pass_stays_dropped_whatever_the_pass_finds(path: Path) -> None:
    state = State(path)
    for key in ("n", "m"):
        state.remember_refused("r", Entity.FACTS, {key: (OLD, "why")}, now=0.0)
        state.drop("r", Entity.FACTS, key)
    before = state.refused("r", Entity.FACTS)
    state.remember_refused("r", Entity.FACTS, {"n": (OLD, "again")}, now=5000.0)
    state.remember_unequal("r", Entity.FACTS, {"m": OLD})
    assert state.refused("r", Entity.FACTS) == before
    assert state.unequal("r", Entity.FACTS) == {}
    # Another version is another matter.
    state.remember_refused("r", Entity.FACTS, {"n": (NEW, "again")}, now=5000.0)
    state.remember_unequal("r", Entity.FACTS, {"m": NEW})
    assert not state.refused("r", Entity.FACTS)["n"].dropped
    assert state.unequal("r", Entity.FACTS) == {"m": NEW}
    state.close()


@pytest.mark.parametrize("step", [-3600.0, -86_400.0])
def test_a_clock_that_is_set_back_makes_nothing_wait_for_the_time_it_lost(path: Path, step: float) -> None:
    state = State(path)
    state.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=1e6)
    refused = state.refused("r", Entity.FACTS)["n"]
    assert refused.verdict(1e6) is Difference.WAITING
    assert refused.verdict(1e6 + step) is None
    state.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=1e6 + step)
    refused = state.refused("r", Entity.FACTS)["n"]
    assert [refused.verdict(1e6 + step + seconds) for seconds in (0, 299, 301)] == [
        Difference.WAITING,
        Difference.WAITING,
        None,
    ]
    state.close()


def test_a_record_that_is_retried_is_as_if_it_had_never_failed(path: Path) -> None:
    state = State(path)
    for _ in range(3):
        state.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=0.0)
    state.remember_unequal("r", Entity.CATALOGS, {"n": NEW})
    state.retry("r", Entity.FACTS, "n")
    state.retry("r", Entity.CATALOGS, "n")
    state.retry("r", Entity.CATALOGS, "never heard of")
    assert (state.refusals(), state.unequals()) == ([], [])
    state.close()


def test_a_report_that_is_retried_has_its_hour_compared_again(path: Path) -> None:
    hour = 3_600_000
    state = State(path)
    state.remember_refused("r", Entity.REPORTS, {"h": (Version(5 * hour + 10, "h"), "why")}, now=0.0)
    memory = ReportMemory(
        7, {start * hour: "x" for start in (4, 5, 6)}, {5 * hour: 1}, total=Total(0, 9 * hour, 1, 1)
    )
    for scope in ("r", "r 3600", "rs", "s"):
        state.remember_reports(scope, lambda _: memory)
    state.retry("r", Entity.REPORTS, "h")
    again = replace(memory, asked=frozenset([5 * hour + 10]))
    assert [state.reports(scope) for scope in ("r", "r 3600", "rs", "s")] == [again, again, memory, memory]
    state.close()


def test_a_dropped_record_is_left_alone_until_there_is_another_version(path: Path) -> None:
    state = State(path)
    state.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=0.0)
    state.remember_unequal("r", Entity.CATALOGS, {"n": NEW})
    for entity in (Entity.FACTS, Entity.CATALOGS, Entity.INPUTS):
        state.drop("r", entity, "n")
    assert state.refused("r", Entity.FACTS)["n"] == Refused(OLD, 1, 60.0, "why", dropped=True)
    assert {(entity, each.version) for _, entity, _, each in state.refusals()} == {
        (Entity.FACTS, OLD),
        (Entity.CATALOGS, NEW),
    }
    assert all(each.verdict(1e12) is Difference.DROPPED for *_, each in state.refusals())
    assert state.unequals() == []
    state.remember_refused("r", Entity.FACTS, {"n": (NEW, "why")}, now=0.0)
    assert state.refused("r", Entity.FACTS)["n"].verdict(0.0) is Difference.WAITING
    state.close()


def passed(*errors: str) -> PassResult:
    return PassResult("r", Outcome.DONE, {}, errors, 5)


def test_the_last_success_stays_when_a_later_pass_fails(path: Path) -> None:
    state = State(path)
    assert (state.last_pass("r"), state.remotes()) == (None, [])
    state.remember_pass(passed("early"), 5.0)
    assert state.last_pass("r") == PassRecord(None, 5.0, "early", False, False, passed("early").as_json())
    state.remember_pass(passed(), 10.0)
    assert state.last_pass("r") == PassRecord(10.0, 5.0, None, True, False, passed().as_json())
    state.remember_pass(passed("no", "way"), 20.0)
    assert state.last_pass("r") == PassRecord(10.0, 20.0, "no; way", True, True, passed("no", "way").as_json())
    state.remember_pass(passed(), 30.0)
    assert state.last_pass("r") == PassRecord(30.0, 20.0, None, True, True, passed().as_json())
    assert (state.last_pass("other"), state.remotes()) == (None, ["r"])
    state.close()


def test_a_power_cut_loses_nothing_that_was_written(path: Path) -> None:
    """Rollback journal and every sync; the setting is the promise, tests/faults/test_sync_powercut.py the cut."""
    state = State(path)
    assert state._db.execute("PRAGMA synchronous").fetchone() == (3,)
    assert state._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    state.close()


SCHEMA_1 = """
CREATE TABLE unequal (remote TEXT, entity TEXT, key TEXT, millis INTEGER, hash TEXT, uuid TEXT,
    PRIMARY KEY (remote, entity, key)) WITHOUT ROWID;
CREATE TABLE refused (remote TEXT, entity TEXT, key TEXT, millis INTEGER, hash TEXT, uuid TEXT, tries INTEGER,
    retry_at REAL, reason TEXT, PRIMARY KEY (remote, entity, key)) WITHOUT ROWID;
CREATE TABLE verified_hour (remote TEXT, start INTEGER, fingerprint TEXT,
    PRIMARY KEY (remote, start)) WITHOUT ROWID;
CREATE TABLE seen (remote TEXT, entity TEXT, records INTEGER, PRIMARY KEY (remote, entity)) WITHOUT ROWID;
CREATE TABLE pass (remote TEXT PRIMARY KEY, last_success REAL, last_failure REAL, last_error TEXT)
    WITHOUT ROWID;
PRAGMA application_id = 1885626995;
PRAGMA user_version = 1;
INSERT INTO unequal VALUES ('r', 'facts', 'n', 2000, 'bb', 'u');
INSERT INTO refused VALUES ('r', 'facts', 'm', 1000, 'aa', '', 2, 300.0, 'why');
INSERT INTO verified_hour VALUES ('r', 5, '3 a b t');
INSERT INTO seen VALUES ('r', 'nodes', 7);
INSERT INTO pass VALUES ('r', 10.0, 20.0, 'no');
INSERT INTO pass VALUES ('s', 10.0, NULL, NULL);
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_schema_1_is_taken_over(path: Path, read_only: bool) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA_1)
    before = path.read_bytes()
    state = State(path, read_only=read_only)
    assert state.unequal("r", Entity.FACTS) == {"n": NEW}
    assert state.refused("r", Entity.FACTS) == {"m": Refused(OLD, 2, 300.0, "why")}
    assert state.seen("r", Entity.NODES) == 7
    assert state.reports("r") == ReportMemory()
    assert state.last_pass("r") == PassRecord(10.0, 20.0, "no", True, True)
    assert state.last_pass("s") == PassRecord(10.0, None, None, True, False)
    state.close()
    assert (path.read_bytes() == before) is read_only
    state = State(path)
    state.remember_reports("r", lambda _: ReportMemory(cursor=1))
    assert state.reports("r") == ReportMemory(cursor=1)
    state.close()


def test_a_file_of_schema_2_is_taken_over_with_all_that_it_has(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(state_file._TABLES)
        db.executescript(f"PRAGMA application_id = {state_file.APPLICATION_ID}; PRAGMA user_version = 2;")
        db.execute("INSERT INTO pass VALUES ('r', 10.0, 20.0, 'no', 1, 1, NULL)")
        db.commit()
    with closing(State(path)) as state:
        assert state.last_pass("r") == PassRecord(10.0, 20.0, "no", True, True)
        assert (state.entities("r"), state.server("https://r:8081")) == ({}, None)
        state.remember_server("https://r:8081", ServerRecord("8.8.1", frozenset({"timeout", "origin"})))
    with closing(State(path, read_only=True)) as state:
        assert state.server("https://r:8081") == ServerRecord("8.8.1", frozenset({"origin", "timeout"}))


def test_a_file_of_schema_3_is_taken_over_with_all_that_it_has(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(state_file._TABLES + state_file._SINCE_3)
        db.executescript(f"PRAGMA application_id = {state_file.APPLICATION_ID}; PRAGMA user_version = 3;")
        db.execute("INSERT INTO server VALUES ('https://r:8081', '8.8.1', 'origin')")
        db.commit()
    with closing(State(path, read_only=True)) as state:
        assert state.under_way() == frozenset()
    with closing(State(path)) as state:
        assert state.server("https://r:8081") == ServerRecord("8.8.1", frozenset({"origin"}))
        state.remember_under_way(Entity.FACTS)
    with closing(State(path)) as state:
        assert state.under_way() == {Entity.FACTS}


def test_a_file_of_schema_4_is_taken_over_but_for_what_it_knows_of_hours(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(state_file._TABLES + state_file._SINCE_3 + state_file._SINCE_4)
        for table in ("verified_hour", "left_out", "cursor", "anchor"):
            db.execute(f"CREATE TABLE {table} (remote TEXT)")
        db.executescript(f"PRAGMA application_id = {state_file.APPLICATION_ID}; PRAGMA user_version = 4;")
        db.execute("INSERT INTO under_way VALUES ('facts')")
        db.commit()
    with closing(State(path)) as state:
        assert (state.under_way(), state.reports("r")) == (frozenset([Entity.FACTS]), ReportMemory())
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables & {"verified_hour", "left_out", "cursor", "anchor"} == set()


def test_what_is_under_way_is_noted_until_it_is_seen(path: Path) -> None:
    state = State(path)
    for entity in (Entity.FACTS, Entity.REPORTS, Entity.FACTS):
        state.remember_under_way(entity)
    with closing(State(path, read_only=True)) as after_a_kill:
        assert after_a_kill.under_way() == {Entity.FACTS, Entity.REPORTS}
    state.forget_under_way(Entity.FACTS)
    state.forget_under_way(Entity.FACTS)
    assert state.under_way() == {Entity.REPORTS}
    state.close()


def test_nodes_that_expired_here_are_noted_for_each_remote(path: Path) -> None:
    state = State(path)
    state.remember_expired("r", {"n": Expired(9000, 700), "m": Expired(9000, 800)}, ())
    state.remember_expired("s", {"n": Expired(9000, 700)}, ())
    state.remember_expired("r", {"n": Expired(9500, 600)}, {"m", "unheard of"})
    assert state.expired("r") == {"n": Expired(9500, 600)}
    assert state.expired("s") == {"n": Expired(9000, 700)}
    state.close()


def test_a_file_is_taken_over_in_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA_1)
    before = path.read_bytes()
    monkeypatch.setattr(state_file, "_SINCE_3", state_file._SINCE_3 + "CREATE TABLE seen (a);")
    with pytest.raises(SyncError, match="already exists"):
        State(path)
    assert path.read_bytes() == before


def test_an_operator_may_write_beside_the_daemon(path: Path) -> None:
    daemon, operator = State(path), State(path)
    daemon.remember_refused("r", Entity.FACTS, {"n": (OLD, "why")}, now=0.0)
    operator.drop("r", Entity.FACTS, "n")
    daemon.remember_refused("r", Entity.FACTS, {"m": (OLD, "why")}, now=0.0)
    assert daemon.refused("r", Entity.FACTS)["n"].dropped
    assert operator.refused("r", Entity.FACTS).keys() == {"n", "m"}
    for state in (daemon, operator):
        assert state._db.execute("PRAGMA busy_timeout").fetchone() == (10_000,)
        state.close()


def test_a_file_that_stays_locked_is_told_as_such(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "BUSY_TIMEOUT", 0.0)
    state = State(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SyncError, match="cannot be written: database is locked"):
            state.remember_seen("r", Entity.NODES, 1)
        with pytest.raises(SyncError, match="cannot be read: database is locked"):
            state.seen("r", Entity.NODES)
    state.remember_seen("r", Entity.NODES, 1)
    assert state.seen("r", Entity.NODES) == 1
    state.close()


def test_after_a_kill_in_the_middle_of_a_write_the_file_reads_as_before_it(path: Path) -> None:
    state = State(path)
    state.remember_seen("r", Entity.NODES, 1)
    state.close()
    script = (
        "import os, signal, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.executescript('PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE; "
        "UPDATE seen SET records = 2; CREATE TABLE filler (a)')\n"
        "db.executemany('INSERT INTO filler VALUES (?)', [('x' * 500,)] * 500)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    assert path.with_name(path.name + "-journal").stat().st_size > 0
    state = State(path, read_only=True)
    assert state.seen("r", Entity.NODES) == 1
    state.close()


def _rubbish(path: Path) -> None:
    path.write_bytes(b"this is no database at all " * 100)


def _newer(path: Path) -> None:
    State(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (a)")
    db.close()


def _flipped(path: Path) -> None:
    State(path).close()
    data = bytearray(path.read_bytes())
    for position in range(4096, len(data), 64):
        data[position] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [_rubbish, _newer, _foreign, _flipped])
def test_a_file_that_cannot_be_trusted_is_refused_with_advice_and_left_as_it_is(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(SyncError, match="Move the file away") as caught:
        State(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_reading_only_makes_no_file_and_writes_to_none(path: Path) -> None:
    state = State(path, read_only=True)
    assert state.unequal("r", Entity.FACTS) == {}
    state.close()
    assert not path.exists()
    State(path).close()
    state = State(path, read_only=True)
    with pytest.raises(SyncError, match=r"cannot be written: .*readonly"):
        state.remember_seen("r", Entity.NODES, 1)
    state.close()


def test_each_local_server_has_a_state_file_of_its_own(tmp_path: Path) -> None:
    endpoints = [Endpoint("a", 1), Endpoint("a", 2), Endpoint("b", 1), Endpoint("::1", 1)]
    names = {state_path(tmp_path, endpoint).name for endpoint in endpoints}
    assert len(names) == 4
    assert not any(":" in name for name in names)


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys; from pathlib import Path; from pdbclient.sync.state.lock import InstanceLock\n"
        "with InstanceLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SyncError, match=f"pid {holder.pid}"), InstanceLock(path):
            pass
        holder.kill()
    with InstanceLock(path):
        assert path.read_text().strip().isdigit()
