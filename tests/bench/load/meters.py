"""What processes cost and hold, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Holding", "cpu_seconds", "family", "holding"]

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Holding:
    """Resident memory in MB and open descriptors of a process and its children."""

    memory_mb: float
    descriptors: int


def family(pid: int) -> list[int]:
    """`pid` and all its descendants that are alive."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, those that have ended included."""
    total = 0
    for member in family(pid):
        if fields := _stat(member):
            total += sum(int(field) for field in fields[11:15])
    return total / _TICK


def holding(pid: int) -> Holding:
    """What a process and its children hold now."""
    memory = descriptors = 0
    for member in family(pid):
        status = Path(f"/proc/{member}/status").read_text()
        memory += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        descriptors += len(os.listdir(f"/proc/{member}/fd"))
    return Holding(round(memory / 1024, 1), descriptors)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on, None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
