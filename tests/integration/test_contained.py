"""`tests/contained`: nothing that a test run starts outlives it, also when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CONTAINED = Path(__file__).parents[1] / "contained"
SERVER = "import time; time.sleep(300)"
# A test run, which starts a server that is neither its child nor of its session.
_RUN = f"""
import subprocess, sys, time
launch = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
subprocess.run([sys.executable, "-c", launch, sys.executable, "-c", "{SERVER}", sys.argv[1]])
"""


def _there(mark: str) -> list[int]:
    """The servers with this `mark`, whatever their namespace."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[1:] == [b"-c", SERVER.encode(), mark.encode(), b""]:
            found.append(int(file.parent.name))
    return found


def _until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not (so := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return so


@pytest.fixture
def mark() -> str:
    return f"contained-{os.getpid()}-{time.monotonic_ns()}"


def _started(mark: str, end: str) -> subprocess.Popen[bytes]:
    command = [str(CONTAINED), sys.executable, "-c", _RUN + end, mark]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_started_ends_with_a_run_that_is_broken_off(mark: str, number: signal.Signals) -> None:
    run = _started(mark, "time.sleep(200)")
    try:
        assert _until(lambda: len(_there(mark)) == 1)
        # As a terminal does, at Ctrl-C.
        os.killpg(run.pid, number)
        assert run.wait(20) != 0
        assert _until(lambda: not _there(mark))
    finally:
        run.kill()
        run.wait()


def test_what_was_started_ends_when_the_first_process_alone_is_killed(mark: str) -> None:
    run = _started(mark, "time.sleep(200)")
    try:
        assert _until(lambda: len(_there(mark)) == 1)
    finally:
        run.kill()
        run.wait()
    assert _until(lambda: not _there(mark))


@pytest.mark.parametrize("code", [0, 1, 5])
def test_its_exit_code_is_that_of_the_run(mark: str, code: int) -> None:
    run = _started(mark, f"sys.exit({code})")
    assert run.wait(30) == code
    assert _until(lambda: not _there(mark))
