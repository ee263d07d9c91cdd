"""One process per configuration: an flock'ed file that names its holder.

The kernel drops the lock with the process, however it ends, so a stale file blocks nobody.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from pdbclient.errors import SyncError

__all__ = ["InstanceLock"]


class InstanceLock:
    """Held while inside the block. Raises `SyncError` with the holder's pid when another process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> InstanceLock:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SyncError(f"{self._path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise SyncError(
                f"{self._path}: another reconciler with this configuration is running: pid {holder}"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a new one beside a waiting second.
        os.close(self._fd)
