"""A process that ends at any moment: what it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pdbclient.errors import JournalBusy, JournalCorrupt
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import ANY
from pdbclient.journal.store.database import Transaction
from pdbclient.wire import Command

from .journal import acknowledged_by, apart, appending, look, numbered, put, require_sound

KILLS = int(os.environ.get("PDBCLIENT_JOURNAL_KILLS", "20"))


def crash_rounds(path: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kill a process under load again and again. How many were acknowledged, and how many kills hit a transaction."""
    chance = random.Random(seed)
    acknowledged: dict[int, int] = {}
    first = hot = 0
    for _ in range(kills):
        with appending(path, first) as process:
            time.sleep(chance.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            told = acknowledged_by(process.stdout.readlines())
        assert not acknowledged.keys() & told.keys(), "an id was given twice"
        acknowledged |= told
        first = max(acknowledged.values(), default=0) + 1000
        side = path.with_name(f"{path.name}-journal")
        hot += side.read_bytes()[:8].strip(b"\0") != b""
        with Journal.open(str(path)) as journal:
            require_sound(journal, acknowledged)
    return len(acknowledged), hot


@pytest.mark.timeout(60 + 10 * KILLS)
def test_nothing_that_was_acknowledged_is_lost_by_a_kill_and_nothing_is_half_there(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    acknowledged, hot = crash_rounds(tmp_path / "journal.db", KILLS, seed)
    print(f"{KILLS} kills (seed {seed}), {hot} of them in a transaction: {acknowledged} acknowledged, 0 lost")
    assert acknowledged > KILLS


@pytest.fixture
def interrupted(tmp_path: Path) -> tuple[Path, dict[int, int]]:
    """The files of a process that died while a large transaction was half written, and what it had acknowledged."""
    path = tmp_path / "journal.db"
    copy = tmp_path / "copy.db"
    with Journal.open(str(path)) as journal:
        ids = [journal.append(numbered(number), [ANY]).result().id for number in range(1, 40)]

        def half(tx: Transaction) -> None:
            # More than SQLite keeps in memory: a part is in the file already, and undone by the side file alone.
            tx.execute("UPDATE entries SET body = randomblob(1000000)")
            shutil.copy(path, copy)
            shutil.copy(f"{path}-journal", f"{copy}-journal")

        journal.run(half)
    return copy, dict(zip(ids, range(1, 40), strict=True))


def test_what_a_crash_left_half_done_is_undone_when_it_is_opened(interrupted: tuple[Path, dict[int, int]]) -> None:
    path, acknowledged = interrupted
    with Journal.open(str(path)) as journal:
        require_sound(journal, acknowledged)
    # Once undone, and closed without another word, it is an ordinary journal again.
    assert look(path) == len(acknowledged)


def test_a_look_beside_undoes_it_just_as_well(interrupted: tuple[Path, dict[int, int]]) -> None:
    path, acknowledged = interrupted
    with Journal.open(str(path), beside=True) as journal:
        require_sound(journal, acknowledged)
    assert look(path) == len(acknowledged)


def test_a_side_file_that_was_deleted_after_a_crash_is_missed(interrupted: tuple[Path, dict[int, int]]) -> None:
    path, _ = interrupted
    side = Path(f"{path}-journal")
    kept = side.read_bytes()
    side.unlink()
    before = path.read_bytes()
    with pytest.raises(JournalCorrupt, match=r"copy\.db: its side file copy\.db-journal is gone.*Put it back"):
        Journal.open(str(path))
    assert path.read_bytes() == before
    assert not side.exists()
    side.write_bytes(kept)
    assert look(path) == 39


def test_a_copy_without_its_side_file_is_opened_once_an_empty_one_says_that_it_was_closed(tmp_path: Path) -> None:
    path, copy = tmp_path / "journal.db", tmp_path / "copy.db"
    put(path, 1, 2, 3)
    shutil.copy(path, copy)
    with pytest.raises(JournalCorrupt, match="touch"):
        Journal.open(str(copy))
    Path(f"{copy}-journal").touch()
    assert look(copy) == 3


def test_a_file_that_was_deleted_while_its_side_file_was_left_is_not_made_anew(
    interrupted: tuple[Path, dict[int, int]],
) -> None:
    path, _ = interrupted
    path.unlink()
    for _ in range(2):
        with pytest.raises(JournalCorrupt, match=r"is gone, but its side file .* put the file back"):
            Journal.open(str(path))
    assert not path.exists()


def dies(path: Path, line: int) -> bool:
    """Open the journal in a process that dies before this line of the code that makes it. False: no such line."""
    pid = os.fork()
    if pid == 0:
        left = line

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.endswith(("/journal/store/sqlite.py", "/journal/store/file.py")):
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            Journal.open(str(path))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def test_a_process_that_dies_while_it_makes_the_journal_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    made = []
    for line in itertools.count():
        path = tmp_path / f"journal{line}.db"
        if not dies(path, line):
            break
        made.append(path.exists())
        assert put(path, 1) == [1]
        assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(f"{path.name}.new")) == []
    assert made == sorted(made)
    assert made.count(False) > 20, "it was killed while it made the file"
    assert made.count(True) > 5, "it was killed after it had made it, before it was open"


def test_every_commit_is_made_durable_by_the_means_of_a_rollback_journal(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path / "journal.db")) as journal:
        pragmas = journal.run(
            lambda tx: [tx.rows(f"PRAGMA {name}")[0][0] for name in ("synchronous", "journal_mode", "fullfsync")]
        )
    assert pragmas[:2] == [2, "persist"]


# --- one process at a time ---------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_has_it_also_while_that_one_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with appending(path, 0, threads=1) as process:
        for stop in (False, True):
            if stop:
                process.send_signal(signal.SIGSTOP)
            with pytest.raises(JournalBusy, match=f"pid {process.pid}; only one may at a time") as caught:
                Journal.open(str(path))
            assert caught.value.pid == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Journal.open(str(path)) as journal:
            assert journal.run(entries.counts).bytes >= 0


def test_another_name_of_the_same_file_does_not_get_round_the_lock(tmp_path: Path) -> None:
    path, link = tmp_path / "journal.db", tmp_path / "link.db"
    link.symlink_to(path)
    with Journal.open(str(path)) as journal:
        assert "JournalBusy" in apart(lambda: Journal.open(str(link)))
        assert journal.append(numbered(1), [ANY]).result().id == 1
    assert look(link) == 1


def test_a_look_beside_works_while_another_process_writes_and_also_mends(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with appending(path, 0, threads=4) as process:
        with Journal.open(str(path), beside=True) as journal:
            for _ in range(20):
                assert journal.run(entries.counts).bytes >= 0
                for row in journal.run(entries.listing, limit=1):
                    assert journal.run(entries.drop, [row.id], journal.writer) == 1
        assert process.poll() is None, process.stderr
        process.kill()
        process.wait()
    with Journal.open(str(path)) as journal:
        require_sound(journal, {})


def test_there_is_nothing_to_look_at_beside_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    message = apart(lambda: Journal.open(str(path), beside=True))
    assert message == f"JournalError: {path}: there is no journal yet"
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_of_a_dead_process_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    (tmp_path / "journal.db.lock").write_text("1\n")
    assert put(path, 1) == [1]


def test_a_forked_child_is_told_that_the_journal_is_its_parents(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path / "journal.db")) as journal:
        assert "before the process forked" in apart(lambda: journal.append(numbered(1), [ANY]))
        assert apart(journal.close) == "None"
        assert journal.append(numbered(2), [ANY]).result().id == 1


def test_one_that_another_program_changed_to_a_write_ahead_log_is_to_be_changed_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    put(path, 1)
    program = sqlite3.connect(path, isolation_level=None)
    try:
        program.execute("PRAGMA journal_mode = WAL")
        program.execute("DELETE FROM entries")
        message = apart(lambda: Journal.open(str(path)))
    finally:
        program.close()
    assert message.startswith(f"JournalError: {path}: another program has changed it to a write-ahead log")
    assert message.endswith(f"then: sqlite3 {path} 'PRAGMA journal_mode = PERSIST'")
    program = sqlite3.connect(path, isolation_level=None)
    program.execute("PRAGMA journal_mode = PERSIST")
    program.close()
    assert look(path) == 0


def test_who_opens_a_journal_that_grows_at_this_moment_does_not_call_it_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its length was looked up, another process put something in, and then its beginning named the new length."""
    place = tmp_path / "journal"
    with Journal.open(str(place)) as gateway:
        before, real = place.stat().st_size, os.stat
        left = [Command.ready("replace facts", 5, "n", "2026-01-01T00:00:00.000Z", os.urandom(200_000))]

        def stat(path: Any, **options: Any) -> os.stat_result:
            status = real(path, **options)
            if left and path == place and sys._getframe(1).f_code.co_name == "require_sound":
                gateway.append(left.pop(), (ANY,)).result()
            return status

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", stat)
            Journal.open(str(place), beside=True).close()
        assert place.stat().st_size > before
