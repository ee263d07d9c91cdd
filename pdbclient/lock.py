"""One process at a time: an flock'ed file that names its holder.

The kernel drops the lock with the process, however it ends, so a stale file blocks nobody.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["LockHeld", "hold"]


class LockHeld(Exception):
    """Another process has the lock: `pid`, unless it did not get to write that down."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"pid {'unknown' if pid is None else pid}")


def hold(path: Path) -> int:
    """Take the lock; it is held until the descriptor that is returned is closed. Raises `LockHeld` and `OSError`.

    The file stays afterwards: removing it would let a third process lock a new one beside a waiting second.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        os.close(fd)
        raise LockHeld(int(text) if text.isdigit() else None) from None
    except BaseException:
        os.close(fd)
        raise
    return fd
