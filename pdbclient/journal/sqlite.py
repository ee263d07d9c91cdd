"""The journal in a file: SQLite, one process at a time, every commit on disk before it returns.

Rollback journal and not WAL: before 3.51.3, WAL can lose what was committed when several connections are open (the
`WAL-reset` bug), and `pdbclient journal status` is such a connection.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from pdbclient.errors import JournalBusy, JournalCorrupt, JournalError, JournalFull
from pdbclient.journal.database import Transaction
from pdbclient.journal.schema import APPLICATION_ID, SCHEMA, statements
from pdbclient.lock import LockHeld, hold

__all__ = ["SqliteDatabase"]

T = TypeVar("T")

WAIT = 30.0
"""Seconds to wait for another process that reads or writes."""
PAGE = 4096
HEADER = 100
MAGIC = b"SQLite format 3\0"


class _Transaction:
    skip_locked = ""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def among(self, name: str) -> str:
        return f"IN (SELECT value FROM json_each(:{name}))"

    def several(self, values: Sequence[Any]) -> Any:
        return json.dumps(list(values))


class SqliteDatabase:
    """The file at `path`, made when it is missing. Holds `path.lock` unless `beside` another process that has it.

    Raises `JournalBusy`, `JournalCorrupt`, and `JournalError` for a file that cannot be opened, is another user's,
    or from a newer version. Nothing is ever repaired or made anew in the place of something else.
    """

    def __init__(self, path: Path, *, beside: bool = False) -> None:
        self._path = path
        self._lock = -1
        if not beside:
            self._lock = self._locked()
        try:
            self._connection = self._open(must_exist=beside)
        except BaseException:
            self._unlock()
            raise

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """As `Database.transact`."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            result = work(_Transaction(self._connection))
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise self._explained(error) from error
            raise
        return result

    def close(self) -> None:
        """As `Database.close`."""
        self._connection.close()
        self._unlock()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._explained(error) from error

    def _locked(self) -> int:
        lock = self._path.with_name(f"{self._path.name}.lock")
        try:
            return hold(lock)
        except LockHeld as error:
            why = f"{self._path}: another process has this journal open: {error}; only one may at a time"
            raise JournalBusy(why, error.pid) from None
        except OSError as error:
            raise _unusable(self._path, error) from error

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self, *, must_exist: bool) -> sqlite3.Connection:
        try:
            exists = _require_sound(self._path)
            if not exists and must_exist:
                raise JournalError(f"{self._path}: there is no journal yet")
            if not exists:
                self._make()
            connection = _connect(self._path)
        except OSError as error:
            raise _unusable(self._path, error) from error
        except sqlite3.Error as error:
            raise self._explained(error) from error
        try:
            self._require_ours(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._explained(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """Make the file beside its place and move it there: a half-made journal is never found."""
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with closing(_connect(new)) as connection:
                connection.execute("BEGIN")
                for statement in statements("sqlite"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
                connection.execute("COMMIT")
            with open(new, "rb+") as file:
                os.fsync(file.fileno())
            os.rename(new, self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            new.unlink(missing_ok=True)
            new.with_name(f"{new.name}-journal").unlink(missing_ok=True)

    def _require_ours(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise JournalError(f"{self._path}: is an SQLite file, but no journal: name another file")
        if version != SCHEMA:
            why = f"was written by another version of pdbclient (format {version}, this one reads {SCHEMA})"
            raise JournalError(f"{self._path}: {why}: use that version, or move the file away to begin anew")
        # Reads the table of tables: a file with a damaged beginning ends here.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("SELECT max(id) FROM entries").fetchone()

    def _explained(self, error: sqlite3.Error) -> JournalError:
        code = getattr(error, "sqlite_errorcode", 0) or 0
        what = f"{self._path}: {error}"
        match code & 0xFF:
            case sqlite3.SQLITE_FULL:
                return JournalFull(f"{what}: make room on that file system; nothing was accepted meanwhile")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return JournalCorrupt(f"{what}: {ADVICE}")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return JournalError(f"{what}: the file and its directory must be writable")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return JournalBusy(f"{what}: another process has kept it for more than {WAIT:.0f} s", None)
            case sqlite3.SQLITE_IOERR:
                return JournalError(f"{what}: the disk failed, or is full: see the system's log")
            case _:
                return JournalError(what)


ADVICE = (
    "it is left as it is. Restore it, or move it away to begin anew; "
    "`pdbclient journal verify` tells what can still be read of it"
)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16384")
    except BaseException:
        connection.close()
        raise
    return connection


def _require_sound(path: Path) -> bool:
    """Whether the file is there. Raises for what SQLite itself would take, or take for an empty database."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if path.with_name(f"{path.name}-journal").exists():
            why = "is gone, but its side file (-journal) is still there"
            raise JournalCorrupt(f"{path}: {why}: put the file back, or move the side file away too") from None
        return False
    if not stat.S_ISREG(status.st_mode):
        raise JournalError(f"{path}: is no file")
    if status.st_uid != os.geteuid():
        raise JournalError(f"{path}: belongs to the user {status.st_uid}, not {os.geteuid()}: run as that user")
    with open(path, "rb") as file:
        header = file.read(HEADER)
    if not header.startswith(MAGIC):
        raise JournalCorrupt(f"{path}: is no journal (or its beginning is damaged): {ADVICE}")
    pages, page = int.from_bytes(header[28:32], "big"), int.from_bytes(header[16:18], "big")
    if status.st_size < pages * (65536 if page == 1 else page) and not _hot(path):
        raise JournalCorrupt(f"{path}: is cut off: {status.st_size} bytes of {pages * page}: {ADVICE}")
    return True


def _hot(path: Path) -> bool:
    """Whether a transaction is to be rolled back first, which restores the file's length."""
    try:
        with open(path.with_name(f"{path.name}-journal"), "rb") as file:
            return file.read(8).strip(b"\0") != b""
    except FileNotFoundError:
        return False


def _unusable(path: Path, error: OSError) -> JournalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalFull(f"{path}: {error.strerror}: make room on that file system")
    return JournalError(f"{path}: cannot be opened: {error.strerror}")
