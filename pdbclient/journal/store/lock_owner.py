"""Who has a journal's file: the process that appends to it and delivers from it, usually a gateway."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["lock_owner"]

_LOCKS = Path("/proc/locks")


def lock_owner(path: Path) -> int | None:
    """The pid of the process that holds the journal at `path`; None when nobody does, or it cannot be told.

    It looks and takes no lock itself, not even for a moment: a gateway that starts just then would find it in use.
    """
    file = path.resolve()
    lock = file.with_name(f"{file.name}.lock")
    try:
        status = os.stat(lock)
        text = lock.read_text().strip()
        held = _is_locked(status, _LOCKS.read_text())
    except (OSError, ValueError):
        return None
    return int(text) if held and text.isdigit() else None


def _is_locked(status: os.stat_result, locks: str) -> bool:
    """Whether a line like `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF` is about this file."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    lines = (line.split() for line in locks.splitlines())
    return any(len(words) > 5 and words[1] == "FLOCK" and words[5] == device for words in lines)
