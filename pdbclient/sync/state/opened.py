"""The open state file: durable transactions, and what becomes of those that the disk does not take."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pdbclient.errors import SyncError
from pdbclient.sync.state.file import NoRoom, failed, in_memory, open_state
from pdbclient.sync.state.rows import check_rows, read_rows

__all__ = ["OpenState", "kept"]

_logger = logging.getLogger(__name__)

P = ParamSpec("P")
S = TypeVar("S", bound="OpenState")

KEPT = 1000
"""Transactions that wait for room on the disk. Of more, the oldest are lost with the process."""


class OpenState:
    """The file at `path`, for one thread."""

    def __init__(self, path: Path, *, read_only: bool = False, keeps: bool = False) -> None:
        """Open `path`, or make it. Read-only: nothing is written, and a missing file reads as an empty one.

        `keeps`: what the disk does not take of what passes remember is no error, but kept in memory. There it holds
        for this process, or passes would pull again and again what they cannot note; it is written with whatever
        comes next, once there is room.

        Raises `SyncError` for a file that is damaged, foreign, or from a newer version.
        """
        self._path = path
        self.read_only = read_only
        self._keeps = keeps
        self._file = self._db = open_state(path, read_only=read_only)
        self._unwritten: deque[Callable[[], None]] = deque(maxlen=KEPT)
        try:
            self._identity = _identity(path)
            if self._identity is not None:
                check_rows(path, self._file)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._file.close()

    def flush(self) -> None:
        """Write what could not be written yet. Raises `SyncError` where it still cannot be."""
        with self._on_disk():
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.popleft()
        if self._db is not self._file:
            self._db.close()
            self._db = self._file

    def moved(self) -> bool:
        """Whether the file at the path is not this one any more, as when an operator has moved it away."""
        return _identity(self._path) != self._identity

    def _remember(self, work: Callable[[], None]) -> None:
        """Have `work` write, which is one transaction, now or, where it is kept, when the disk takes it."""
        self._unwritten.append(work)
        try:
            try:
                self.flush()
            except NoRoom as error:
                if not self._keeps:
                    raise
                self._into_memory(error)
                work()
        except SyncError:
            self._unwritten.pop()
            raise

    def _into_memory(self, why: SyncError) -> None:
        if self._db is not self._file:
            return
        try:
            self._db = in_memory(self._file)
        except sqlite3.Error as error:
            raise failed(self._path, "read", error) from error
        _logger.error("%s. Until then what passes have to remember is kept in memory", why)

    def _rows(self, table: str, where: str = "", *values: object) -> list[Any]:
        return read_rows(self._path, self._db, table, where, *values)

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Inside, what is kept in memory is left out of account."""
        kept, self._db = self._db, self._file
        try:
            yield
        finally:
            self._db = kept

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that is done inside to `_db`, durably, or nothing. Raises `SyncError`."""
        try:
            with self._db:
                # At once for writing: what is read inside is still so when it is written back.
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.Error as error:
            raise failed(self._path, "written", error) from error


def kept(write: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """A method that writes, in one transaction, what passes remember: see `OpenState`'s `keeps`."""

    @wraps(write)
    def remember(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._remember(partial(write, self, *args, **kwargs))

    return remember


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SyncError(f"{path}: cannot be looked at: {error.strerror}") from error
    return found.st_dev, found.st_ino
