"""One process per state file."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from pdbclient.errors import SyncError
from pdbclient.lock import LockHeld, hold

__all__ = ["InstanceLock"]


class InstanceLock:
    """Held while inside the block. Raises `SyncError` with the holder's pid when another process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> InstanceLock:
        try:
            self._fd = hold(self._path)
        except LockHeld as error:
            why = f"another reconciler with this configuration is running: {error}"
            raise SyncError(f"{self._path}: {why}") from None
        except OSError as error:
            raise SyncError(f"{self._path}: cannot be opened: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
