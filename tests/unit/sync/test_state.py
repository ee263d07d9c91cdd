"""The state file: what it remembers, and which files it refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import SyncError
from pdbclient.sync.lock import InstanceLock
from pdbclient.sync.model import Entity, Skip, Version
from pdbclient.sync.state import State, state_path

OLD, NEW = Version(1000, "aa"), Version(2000, "bb", "u")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sync.sqlite"


def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    state = State(path)
    state.remember_unequal("r", Entity.FACTS, {"n": NEW})
    state.remember_hours("r", {5: "x"}, oldest=0)
    state.remember_seen("r", Entity.NODES, 7)
    state.close()
    state = State(path)
    assert state.unequal("r", Entity.FACTS) == {"n": NEW}
    assert state.unequal("r", Entity.CATALOGS) == {}
    assert state.unequal("other", Entity.FACTS) == {}
    assert state.verified_hours("r") == {5: "x"}
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
        (Skip.WAITING, None, None),
        (Skip.WAITING, Skip.WAITING, None),
        (Skip.QUARANTINED, Skip.QUARANTINED, Skip.QUARANTINED),
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


def test_verified_hours_past_the_horizon_are_forgotten(path: Path) -> None:
    state = State(path)
    state.remember_hours("r", {5: "x", 9: "y"}, oldest=0)
    state.remember_hours("r", {12: "z"}, oldest=9)
    assert state.verified_hours("r") == {9: "y", 12: "z"}
    state.close()


def test_the_last_success_stays_when_a_later_pass_fails(path: Path) -> None:
    state = State(path)
    state.remember_pass("r", 10.0, None)
    state.remember_pass("r", 20.0, "no")
    assert state.last_pass("r") == (10.0, 20.0, "no")
    state.remember_pass("r", 30.0, None)
    assert state.last_pass("r") == (30.0, 20.0, None)
    assert state.last_pass("other") == (None, None, None)
    state.close()


def test_a_power_cut_loses_nothing_that_was_written(path: Path) -> None:
    """Rollback journal and full sync; the setting is the promise, the cut itself is SQLite's own test."""
    state = State(path)
    assert state._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert state._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
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
        "import sys; from pathlib import Path; from pdbclient.sync.lock import InstanceLock\n"
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
