"""Server processes that outlive the command that started them, and are never confused with another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.account import Account

__all__ = ["ProcessRecord", "ServerProcess", "spawn", "tail", "wait_for_end"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# A server must be neither our child (it would stay a zombie as long as we live) nor of our session (Ctrl-C
# would reach it). A launcher that starts it and ends at once gives both, without forking this, maybe
# threaded, process.
_LAUNCHER = """\
import os, subprocess, sys
uid, gid, log = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
null = subprocess.DEVNULL
child = subprocess.Popen(sys.argv[4:], stdin=null, stdout=out, stderr=out, start_new_session=True)
print(child.pid, flush=True)
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """Identity of a process: its pid, its start time in ticks since boot, and the boot."""

    pid: int
    start_time: int
    boot_id: str


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time (fields 3 and 22 of /proc/PID/stat), None when the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Field 2, the name, may itself hold spaces and parentheses: count from the last closing one.
    fields = text.rpartition(")")[2].split()
    # The main thread of a killed JVM is a zombie some time before the last of the others (their number is field 20)
    # has ended; until then the ports are taken.
    if fields[0] in "ZX" and int(fields[17]) <= 1:
        return None
    return fields[0], int(fields[19])


def _identify(pid: int) -> ProcessRecord | None:
    found = _stat(pid)
    return ProcessRecord(pid, found[1], _BOOT_ID.read_text().strip()) if found else None


class ServerProcess:
    """The process written down in one pid file; every look goes to the disk, so all labs see the same."""

    def __init__(self, record_file: Path) -> None:
        self.record_file = record_file

    def _record(self) -> ProcessRecord | None:
        try:
            return ProcessRecord(**json.loads(self.record_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise LabError(f"{self.record_file} is damaged ({error}): end the lab's processes by hand") from error

    def _state(self) -> tuple[int, str] | None:
        record = self._record()
        if record is None or record.boot_id != _BOOT_ID.read_text().strip():
            return None
        found = _stat(record.pid)
        if found is None or found[1] != record.start_time:
            return None
        return record.pid, found[0]

    @property
    def pid(self) -> int | None:
        """The pid, or None when that very process is gone (another one with its number does not count)."""
        state = self._state()
        return state[0] if state else None

    @property
    def frozen(self) -> bool:
        """Whether the process is stopped by SIGSTOP."""
        state = self._state()
        return state is not None and state[1] in "Tt"

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False when the process is gone."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def write(self, pid: int) -> None:
        """Record, atomically, a process just started; one that has ended already leaves no record."""
        record = _identify(pid)
        if record is None:
            self.record_file.unlink(missing_ok=True)
            return
        temporary = self.record_file.with_suffix(".new")
        temporary.write_text(
            json.dumps({"pid": record.pid, "start_time": record.start_time, "boot_id": record.boot_id})
        )
        temporary.replace(self.record_file)

    def forget(self) -> None:
        """Remove the record of a process that has ended."""
        self.record_file.unlink(missing_ok=True)


def spawn(
    command: Sequence[str | Path], *, account: Account, cwd: Path, log: Path, prefix: Sequence[str] = ()
) -> int:
    """Start a server detached from us, its output appended to `log`, and return its pid.

    `prefix` is a command that runs another one, its arguments: it is run as ourselves, the server as `account`.
    Raises `LabError` when the program cannot be executed.
    """
    done = subprocess.run(
        [
            *prefix,
            sys.executable,
            "-I",
            "-S",
            "-c",
            _LAUNCHER,
            str(account.uid),
            str(account.gid),
            str(log),
            *map(str, command),
        ],
        cwd=cwd,
        env=account.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"cannot start {command[0]}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return int(done.stdout)


def wait_for_end(process: ServerProcess, seconds: float) -> bool:
    """Wait until the process is gone; False when `seconds` were not enough."""
    deadline = time.monotonic() + seconds
    while process.pid is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, indented and headed by its path, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"{log}: cannot be read: {error.strerror}"
    last = text.splitlines()[-lines:] or ["(empty)"]
    return "\n".join([f"last lines of {log}:", *(f"  {line}" for line in last)])
