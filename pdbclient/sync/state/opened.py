"""The open state file: what is read from it, and durable transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pdbclient.errors import SyncError
from pdbclient.sync.state.file import open_state

__all__ = ["OpenState"]


class OpenState:
    """The file at `path`, for one thread."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open `path`, or make it. Read-only: nothing is written, and a missing file reads as an empty one.

        Raises `SyncError` for a file that is damaged, foreign, or from a newer version.
        """
        self._path = path
        self.read_only = read_only
        self._db = open_state(path, read_only=read_only)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _rows(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise SyncError(f"{self._path}: cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db:
                # At once for writing: what is read inside is still so when it is written back.
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.Error as error:
            raise SyncError(f"{self._path}: cannot be written: {error}") from error
