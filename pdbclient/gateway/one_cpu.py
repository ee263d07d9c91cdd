"""The gateway's process keeps to one CPU: CPython runs one of its threads at a time, however many there are.

On several CPUs each system call of a thread wakes another one elsewhere, both want the interpreter, and one goes to
sleep again. That costs more than what they do: on one CPU a gateway answers more for less, also where all are busy
(`tests/bench/gateway.py` has the ratio). The kernel moves others away from a CPU on which somebody has to stay.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["keep_to_one_cpu"]

log = logging.getLogger("pdbclient.gateway")

_TRIAL = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})"
_PROCESSOR = 36
"""The CPU that a process runs on in `/proc/PID/stat`, counted from its state: field 39 of proc_pid_stat(5)."""


def keep_to_one_cpu() -> None:
    """Let this thread, and those that it starts from now on, run on the CPU that it is on.

    Nothing is done where the system knows no such thing, or Python runs its threads at once (PEP 703). A system that
    refuses it is named in the log: the gateway is slower then. It is tried by another process before, as a unit's
    `SystemCallFilter` kills whoever does what it forbids.
    """
    at_once = not getattr(sys, "_is_gil_enabled", lambda: True)()
    if at_once or not hasattr(os, "sched_setaffinity"):
        return
    try:
        cpu = _current()
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL, str(cpu)], check=True, capture_output=True, timeout=10
        )
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        log.info("this process is not kept to one CPU, which costs speed: %s", error)


def _current() -> int:
    """Where the kernel has put it: not on the busiest, then."""
    return int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[_PROCESSOR])
