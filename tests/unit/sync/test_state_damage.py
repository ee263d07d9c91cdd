"""A state file that SQLite takes and that says what cannot be, and a disk without room: in words, and nothing is lost
that need not be.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pdbclient.errors import SyncError
from pdbclient.sync import Entity, EntityResult, Outcome, PassResult, Reconciler, Version
from pdbclient.sync.policy.expiry import Expired
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.state import opened
from pdbclient.sync.state.status import read_status
from pdbclient.sync.state.store import ServerRecord, State, state_path

from .conftest import SyncPair
from .fake import facts, report

R = "https://a.example.com:8081"

DAMAGE = {
    "unknown entity": "UPDATE unequal SET entity = 'nodez'",
    "unknown entity refused": "UPDATE refused SET entity = 'nodez'",
    "unknown entity seen": "UPDATE seen SET entity = ''",
    "unknown entity of a pass": "UPDATE entity_pass SET entity = 'nodez'",
    "time that is a text": "UPDATE unequal SET millis = 'yesterday'",
    "time that is nothing": "UPDATE refused SET millis = NULL",
    "time that cannot be shown": f"UPDATE refused SET millis = {2**62}",
    "time long before": f"UPDATE unequal SET millis = -{2**62}",
    "hash that is nothing": "UPDATE unequal SET hash = NULL",
    "hash that is a blob": "UPDATE unequal SET hash = x'ff00'",
    "key that is no text": "UPDATE refused SET key = CAST(x'ff' AS TEXT)",
    "tries that are a text": "UPDATE refused SET tries = 'three'",
    "tries below none": "UPDATE refused SET tries = -1",
    "tries that are nothing": "UPDATE refused SET tries = NULL",
    "retry at no time": "UPDATE refused SET retry_at = 9e999",
    "retry at a text": "UPDATE refused SET retry_at = 'soon'",
    "no reason": "UPDATE refused SET reason = NULL",
    "dropped or not": "UPDATE refused SET dropped = 7",
    "memory of reports that is nothing": "UPDATE reports SET memory = NULL",
    "memory of reports that is cut off": "UPDATE reports SET memory = substr(memory, 1, 40)",
    "memory of reports that is nested deep": "UPDATE reports SET memory = '" + "[" * 100_000 + "'",
    "cursor": 'UPDATE reports SET memory = \'{"cursor": "far"}\'',
    "cursor that is half": "UPDATE reports SET memory = '{\"cursor\": 1.5}'",
    "cursor that cannot be shown": "UPDATE reports SET memory = '{\"cursor\": 9000000000000000000}'",
    "hour": 'UPDATE reports SET memory = \'{"unequal": {"noon": "x"}}\'',
    "hour's marks": 'UPDATE reports SET memory = \'{"unequal": {"1": null}}\'',
    "hour's fills": 'UPDATE reports SET memory = \'{"fills": {"1": -1}}\'',
    "round's time": "UPDATE reports SET memory = '{\"round_began\": 1e300}'",
    "total that is half": 'UPDATE reports SET memory = \'{"total": {"start": 1}}\'',
    "records": "UPDATE seen SET records = 'all'",
    "records below none": "UPDATE seen SET records = -5",
    "server's version": "UPDATE server SET version = NULL",
    "server's answers": "UPDATE server SET answers = x'00'",
    "success beyond all calendars": "UPDATE pass SET last_success = 1e300",
    "success before": "UPDATE pass SET last_success = -1.0",
    "failure": "UPDATE pass SET last_failure = 'never'",
    "worked": "UPDATE pass SET worked = 'yes'",
    "entity's success": "UPDATE entity_pass SET last_success = 'yes'",
    "entity's error": "UPDATE entity_pass SET last_error = x'00'",
    "result that is no JSON": "UPDATE pass SET result = '{\"elapsed_ms\": 1'",
    "result that is empty JSON": "UPDATE pass SET result = '   '",
    "result that is a list": "UPDATE pass SET result = '[1]'",
    "result that is null": "UPDATE pass SET result = 'null'",
    "result that is a blob": "UPDATE pass SET result = x'7b7d'",
    "result that is nested deep": "UPDATE pass SET result = '" + "[" * 100_000 + "'",
    "result with entities that are a list": "UPDATE pass SET result = '{\"entities\": []}'",
    "result with an entity that is a number": 'UPDATE pass SET result = \'{"entities": {"facts": 1}}\'',
    "result with numbers that are texts": 'UPDATE pass SET result = \'{"entities": {"facts": {"failed": "x"}}}\'',
    "result with no end": 'UPDATE pass SET result = \'{"entities": {"facts": {"failed": Infinity}}}\'',
    "result with a duration that is a text": 'UPDATE pass SET result = \'{"elapsed_ms": "long"}\'',
    **{f"no table {table}": f"DROP TABLE {table}" for table in ("unequal", "refused", "reports", "seen", "pass")},
    "unknown entity under way": "UPDATE under_way SET entity = 'nodez'",
    "expiry at a text": "UPDATE expired SET millis = 'then'",
    "age that is nothing": "UPDATE expired SET age = NULL",
    "no table under_way": "DROP TABLE under_way",
    "no table expired": "DROP TABLE expired",
    "no table entity_pass": "DROP TABLE entity_pass",
    "no table server": "DROP TABLE server",
    "a column less": "ALTER TABLE refused DROP COLUMN dropped",
    "another column": "ALTER TABLE pass RENAME COLUMN result TO results",
    "a column more": "ALTER TABLE seen ADD COLUMN more TEXT",
    "a view in a table's place": "DROP TABLE seen; CREATE VIEW seen AS SELECT 1 AS remote, 2 AS entity, 3 AS records",
}


def fill(path: Path) -> None:
    """A row in each table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(State(path)) as state:
        version = Version(1_700_000_000_000, "aa", "u")
        state.remember_unequal(R, Entity.FACTS, {"n": version})
        state.remember_refused(R, Entity.CATALOGS, {"n": (version, "why")}, 1_700_000_000.0)
        hours = {1_699_999_200_000: "x"}
        state.remember_reports(R, lambda _: ReportMemory(1_700_000_000_000, hours, left_out={"m": 1}))
        state.remember_seen(R, Entity.NODES, 7)
        state.remember_under_way(Entity.REPORTS)
        state.remember_expired(R, {"n": Expired(1_700_000_000_000, -5)}, ())
        state.remember_server(R, ServerRecord("8.8.1", frozenset({"origin"})))
        state.remember_pass(PassResult(R, Outcome.DONE, {Entity.FACTS: EntityResult(1, 1)}, (), 5), 1_700_000_000.0)


def spoil(path: Path, statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(statements)
        db.commit()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_is_said_with_the_advice_to_move_the_file_away(
    tmp_path: Path, damage: str, read_only: bool
) -> None:
    path = tmp_path / "state.sqlite"
    fill(path)
    State(path, read_only=read_only).close()
    spoil(path, DAMAGE[damage])
    before = path.read_bytes()
    with pytest.raises(SyncError, match=r"is damaged: .*Move the file away") as caught:
        State(path, read_only=read_only)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_cut_off_anywhere_is_said_to_be_damaged_or_reads_as_an_empty_one(
    tmp_path: Path, read_only: bool
) -> None:
    path = tmp_path / "state.sqlite"
    fill(path)
    whole = path.read_bytes()
    for size in (0, 1, 15, 16, 99, 100, 512, 4095, 4096, 4097, 6000, *range(8192, len(whole), 4096), len(whole) - 1):
        path.write_bytes(whole[:size])
        if size <= 1:
            # What SQLite has made, and nothing written to.
            State(path, read_only=read_only).close()
            continue
        with pytest.raises(SyncError, match=r"is damaged: .*Move the file away"):
            State(path, read_only=read_only)


@pytest.mark.parametrize("damage", ["time that is a text", "no table seen", "result that is no JSON"])
def test_damage_that_comes_while_a_reconciler_runs_ends_its_passes_in_words_until_the_file_is_moved_away(
    site: SyncPair, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = site.config(site.b)
    path = state_path(config.state_dir, config.local)
    fill(path)
    with Reconciler(config, connect=site.connect, clock=site.clock) as reconciler:
        assert reconciler.run_once(site.a.endpoint).ok
        # What it had is settled by now.
        spoil(path, f"INSERT INTO unequal VALUES ('{site.a.endpoint.url}', 'facts', 'n', 1, 'h', '', 0)")
        spoil(path, DAMAGE[damage])
        site.a.apply("replace facts", facts("new", site.ago(5)))
        if damage != "result that is no JSON":
            result = reconciler.run_once(site.a.endpoint)
            assert not result.ok
            assert "Move the file away" in "; ".join(result.errors)
            assert result.outcome is not Outcome.CRASHED
        path.rename(path.with_suffix(".away"))
        assert reconciler.run_once(site.a.endpoint).ok
        assert "new" in site.b.tables["factsets"]
    assert read_status(config, site.clock.wall())[0].succeeded
    assert not [record for record in caplog.records if record.exc_info]


# --- a disk without room


def full(reconciler: Reconciler, room: int = 0) -> None:
    """From now on the file cannot grow, but for `room` pages."""
    assert reconciler._state is not None
    (pages,) = reconciler._state._file.execute("PRAGMA page_count").fetchone()
    reconciler._state._file.execute(f"PRAGMA max_page_count = {pages + room}")


def freed(reconciler: Reconciler) -> None:
    assert reconciler._state is not None
    reconciler._state._file.execute("PRAGMA max_page_count = 1000000")


def submitted(site: SyncPair) -> int:
    return len(site.b.submitted)


def many(site: SyncPair, number: int) -> list[str]:
    """Facts at the remote that no transfer preserves: too many for what room a file has."""
    names = [f"n{each:04}-{'x' * 200}" for each in range(number)]
    for name in names:
        site.a.apply("replace facts", facts(name, site.ago(5)))
        site.b.mangles.add(name)
    return names


def test_what_is_known_to_be_unequal_is_not_pulled_again_while_the_disk_is_full(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    config = site.config(site.b)
    with Reconciler(config, connect=site.connect, clock=site.clock) as reconciler:
        assert reconciler.run_once(site.a.endpoint).ok
        succeeded = site.clock.wall()
        names = many(site, 200)
        site.a.apply("store report", report(names[0], site.ago(50), "r"))
        full(reconciler)
        site.time.elapsed += 60
        first = reconciler.run_once(site.a.endpoint)
        assert (first.ok, first.outcome) == (False, Outcome.DONE)
        assert any("database or disk is full" in error and "room on that disk" in error for error in first.errors)
        assert set(site.b.tables["factsets"]) == set(names), "what was pulled stands"
        assert len(site.b.tables["reports"]) == 1, "the other entities have their turn"
        sent = submitted(site)
        for _ in range(3):
            site.time.elapsed += 60
            again = reconciler.run_once(site.a.endpoint)
            assert not again.ok
            assert again.entities[Entity.FACTS].unequal
        assert submitted(site) == sent
        found = read_status(config, site.clock.wall())[0]
        assert found.last_success == succeeded
        freed(reconciler)
        site.time.elapsed += 60
        assert reconciler.run_once(site.a.endpoint).ok
        assert submitted(site) == sent
    with closing(State(state_path(config.state_dir, config.local), read_only=True)) as state:
        assert state.unequal(R, Entity.FACTS).keys() == set(names)
    assert read_status(config, site.clock.wall())[0].last_success == site.clock.wall()
    assert not [record for record in caplog.records if record.exc_info]


def test_what_the_server_does_not_take_waits_and_is_quarantined_while_the_disk_is_full(site: SyncPair) -> None:
    config = site.config(site.b)
    with Reconciler(config, connect=site.connect, clock=site.clock) as reconciler:
        assert reconciler.run_once(site.a.endpoint).ok
        names = many(site, 200)
        site.b.discards.update(names)
        full(reconciler)
        for _ in range(6):
            assert not reconciler.run_once(site.a.endpoint).ok
            site.time.elapsed += 86_400
        assert submitted(site) == 3 * len(names)


def test_a_pass_is_recorded_where_there_is_room_for_that(site: SyncPair) -> None:
    config = site.config(site.b)
    with Reconciler(config, connect=site.connect, clock=site.clock) as reconciler:
        assert reconciler.run_once(site.a.endpoint).ok
        many(site, 400)
        full(reconciler, room=3)
        site.time.elapsed += 60
        assert not reconciler.run_once(site.a.endpoint).ok
    found = read_status(config, site.clock.wall())[0]
    assert not found.succeeded
    assert "disk is full" in (found.last_error or "")


def test_an_operator_is_told_that_there_is_no_room(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    fill(path)
    with closing(State(path)) as state:
        state._file.execute("PRAGMA max_page_count = 1")
        state._file.execute("PRAGMA query_only = ON")
        with pytest.raises(SyncError, match=r"cannot be written: .* room on that disk"):
            state.drop(R, Entity.FACTS, "n")


def test_what_is_kept_is_said_once_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "state.sqlite"
    fill(path)
    with closing(State(path, keeps=True)) as state:
        state._file.execute("PRAGMA query_only = ON")
        for number in range(1500):
            state.remember_seen(R, Entity.NODES, number)
        assert state.seen(R, Entity.NODES) == 1499
        assert len(state._unwritten) <= 1000
        assert len(caplog.records) == 1
        state._file.execute("PRAGMA query_only = OFF")
        state.flush()
        assert state.seen(R, Entity.NODES) == 1499
    with closing(State(path, read_only=True)) as state:
        assert state.seen(R, Entity.NODES) == 1499


def test_the_result_of_a_pass_of_an_older_version_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    fill(path)
    old = {"remote": R, "ok": True, "elapsed_ms": 5, "entities": {"facts": {"transferred": 1}, "files": {}}}
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE pass SET result = ?", (json.dumps(old),))
        db.commit()
    with closing(State(path)) as state:
        found = state.last_pass(R)
    assert found is not None
    assert found.result == old


def test_who_does_not_keep_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    fill(path)
    with closing(State(path)) as state:
        state._file.execute("PRAGMA query_only = ON")
        with pytest.raises(SyncError, match="cannot be written"):
            state.remember_seen(R, Entity.NODES, 8)
        state._file.execute("PRAGMA query_only = OFF")
        state.remember_seen(R, Entity.FACTS, 9)
        assert (state.seen(R, Entity.NODES), state.seen(R, Entity.FACTS)) == (7, 9)


def test_a_disk_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what it had can be read, to go on with it in memory."""
    path = tmp_path / "state.sqlite"
    fill(path)

    def gone(db: sqlite3.Connection) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(opened, "in_memory", gone)
    with closing(State(path, keeps=True)) as state:
        state._file.execute("PRAGMA query_only = ON")
        with pytest.raises(SyncError, match="disk I/O error"):
            state.remember_seen(R, Entity.NODES, 8)
        state._file.execute("PRAGMA query_only = OFF")
        assert state.seen(R, Entity.NODES) == 7


def test_a_file_that_is_moved_away_while_it_is_opened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.sqlite"
    State(path).close()
    monkeypatch.setattr("pdbclient.sync.state.file._check_columns", lambda *_: path.with_name("gone").stat())
    for read_only in (True, False):
        with pytest.raises(SyncError, match=r"state.sqlite: cannot be looked at: No such file"):
            State(path, read_only=read_only)
