"""Which process a lab may signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.errors import LabError
from pdbclient.lab.account import Account
from pdbclient.lab.process import ServerProcess, spawn, tail, wait_for_end

MYSELF = Account("me", os.getuid(), os.getgid(), "/", switch=False)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "sleeper.json")
    process.write(spawn(["sleep", "60"], account=MYSELF, cwd=tmp_path, log=tmp_path / "log"))
    try:
        yield process
    finally:
        process.signal(signal.SIGKILL)


def test_a_spawned_process_is_neither_our_child_nor_of_our_session(sleeper: ServerProcess) -> None:
    pid = sleeper.pid
    assert pid is not None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[1]) != os.getpid()
    assert os.getsid(pid) == pid


def test_a_prefix_runs_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = ServerProcess(tmp_path / "prefixed.json")
    said = ["sh", "-c", "echo $WHERE"]
    process.write(spawn(said, account=MYSELF, cwd=tmp_path, log=log, prefix=("env", "WHERE=elsewhere")))
    assert wait_for_end(process, 5)
    assert log.read_text() == "elsewhere\n"


def test_a_killed_process_is_gone_at_once_even_before_anybody_collects_it(sleeper: ServerProcess) -> None:
    assert sleeper.signal(signal.SIGKILL)
    assert wait_for_end(sleeper, 5)
    assert not sleeper.signal(signal.SIGKILL)


def test_waiting_for_a_process_that_stays_gives_up(sleeper: ServerProcess) -> None:
    assert not wait_for_end(sleeper, 0.1)


def test_a_stopped_process_is_frozen_and_a_continued_one_is_not(sleeper: ServerProcess) -> None:
    assert not sleeper.frozen
    for number, expected in ((signal.SIGSTOP, True), (signal.SIGCONT, False)):
        sleeper.signal(number)
        deadline = time.monotonic() + 5
        while sleeper.frozen != expected and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sleeper.frozen is expected


@pytest.mark.parametrize("changed", [{"start_time": 1}, {"boot_id": "another boot"}])
def test_another_process_with_a_recycled_pid_is_never_signalled(
    sleeper: ServerProcess, changed: dict[str, object]
) -> None:
    record = json.loads(sleeper.record_file.read_text())
    pid = sleeper.pid
    sleeper.record_file.write_text(json.dumps({**record, **changed}))

    assert sleeper.pid is None
    assert not sleeper.frozen
    assert not sleeper.signal(signal.SIGKILL)

    sleeper.record_file.write_text(json.dumps(record))
    assert sleeper.pid == pid


def test_a_zombie_counts_as_gone(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "zombie.json")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process.write(child.pid)
        assert process.pid == child.pid
        child.kill()
        assert wait_for_end(process, 5)


def test_no_record_means_no_process_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "none.json")
    assert process.pid is None
    process.record_file.write_text("{")
    with pytest.raises(LabError, match=r"none\.json is damaged"):
        assert process.pid


def test_a_program_that_cannot_be_executed_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"cannot start /no/such/java: .*No such file"):
        spawn(["/no/such/java"], account=MYSELF, cwd=tmp_path, log=tmp_path / "log")


def test_the_tail_of_a_log_is_its_last_lines_under_its_path(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {n}" for n in range(100)))
    assert tail(log, 2) == f"last lines of {log}:\n  line 98\n  line 99"
    assert "cannot be read" in tail(tmp_path / "none")
