"""The journal in a file: SQLite, one process at a time, every commit on disk before it returns.

Rollback journal and not WAL: before 3.51.3, WAL can lose what was committed when several connections are open (the
`WAL-reset` bug), and `pdbclient journal status` is such a connection. Its side file (-journal) is kept between
transactions and never removed: one that is not there was taken away, and with it maybe what undoes half a
transaction after a crash.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from pdbclient.errors import JournalBusy, JournalCorrupt, JournalError, JournalFull
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.file import ADVICE, moved, no_room, require_sound, side_file, sync_directory, unusable
from pdbclient.journal.store.schema import APPLICATION_ID, SCHEMA, STATISTICS, migration, statements
from pdbclient.lock import LockHeld, hold

__all__ = ["SqliteDatabase"]

log = logging.getLogger("pdbclient.journal")

T = TypeVar("T")

WAIT = 4.0
"""Seconds to wait for another process that reads or writes: whoever submits waits as long, and is told then."""
WAIT_BESIDE = 30.0
"""The same for one that is only beside the process that has the journal."""
PAGE = 4096
RESERVE = 1 << 20
"""Bytes of the side file: for the transaction that makes room on a full disk."""
MARGIN = 1 << 20
"""Bytes that new entries leave free: what comes of those that are there must be noted, or none can ever go."""
MOST_DAMAGES = 20


class _Transaction:
    skip_locked = ""
    locked = ""
    part = ""
    reuses_room = True

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._pages: int | None = None

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def execute(self, sql: str, **values: Any) -> None:
        self._connection.execute(sql, values)

    def among(self, name: str) -> str:
        return f"IN (SELECT value FROM json_each(:{name}))"

    def several(self, values: Sequence[Any]) -> Any:
        return json.dumps(list(values))

    def require_room(self, size: int) -> None:
        disk = os.statvfs(self._path)
        ((free,),), ((pages,),) = self.rows("PRAGMA freelist_count"), self.rows("PRAGMA page_count")
        # What this transaction adds to the file is not taken from the disk yet.
        self._pages = pages if self._pages is None else self._pages
        size += (pages - self._pages) * PAGE
        if free * PAGE + disk.f_bavail * disk.f_frsize < size + MARGIN:
            why = "next to nothing is free: make room on that file system; nothing was accepted meanwhile"
            raise JournalFull(f"{self._path}: {why}")

    def damage(self) -> list[str]:
        found = [line for (line,) in self.rows(f"PRAGMA integrity_check({MOST_DAMAGES})")]
        return [] if found == ["ok"] else found


class SqliteDatabase:
    """The file at `path`, made when it is missing. Holds `path.lock` unless `beside` another process that has it.

    Raises `JournalBusy`, `JournalCorrupt`, and `JournalError` for a file that cannot be opened, is another user's,
    or from a newer version; an older one is migrated. Nothing is ever repaired, or made anew in the place of
    something else.
    """

    def __init__(self, path: Path, *, beside: bool = False) -> None:
        # One lock, whatever names and links lead to the file.
        self._path = path.resolve()
        self._lock = -1
        self._opened: os.stat_result | None = None
        self._wait = WAIT_BESIDE if beside else WAIT
        if not beside:
            self._lock = self._locked()
        try:
            self._connection = self._open(beside)
        except BaseException:
            self._unlock()
            raise

    heard = 0.0

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """As `Database.transact`."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            result = work(_Transaction(self._connection, self._path))
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError | OSError):
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
            raise unusable(self._path, error) from error

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self, beside: bool) -> sqlite3.Connection:
        try:
            exists = require_sound(self._path, beside=beside, growing=beside)
            if exists is None and beside:
                raise JournalError(f"{self._path}: there is no journal yet")
            if exists is None:
                self._make()
            connection = _connect(self._path, self._wait)
        except OSError as error:
            raise unusable(self._path, error) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._explained(error) from error
        try:
            self._look(connection, beside)
            self._opened = os.stat(self._path)
        except OSError as error:
            connection.close()
            raise unusable(self._path, error) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            connection.close()
            raise self._explained(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """Make the file beside its place and move it there: a half-made journal is never found."""
        new = self._path.with_name(f"{self._path.name}.new")
        for left in (new, side_file(new)):
            left.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with closing(_connect(new, self._wait)) as connection:
                connection.execute("BEGIN")
                for statement in statements("sqlite"):
                    connection.execute(statement)
                _tell_statistics(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
                connection.execute("COMMIT")
            with open(new, "rb+") as file:
                os.fsync(file.fileno())
            side_file(new).unlink()
            _make_side_file(self._path)
            os.rename(new, self._path)
            sync_directory(self._path)
        finally:
            for left in (new, side_file(new)):
                left.unlink(missing_ok=True)

    def _look(self, connection: sqlite3.Connection, beside: bool) -> None:
        # Reads the table of tables: a file with a damaged beginning ends here. Nobody writes meanwhile.
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("SELECT max(id) FROM entries").fetchone()
        if beside:
            require_sound(self._path, beside=True)
        connection.execute("COMMIT")
        if beside:
            return
        _reserve(self._path)
        version = require_sound(self._path)
        if version is not None and version < SCHEMA:
            self._migrate(connection, version)
        self._update_statistics(connection)

    def _update_statistics(self, connection: sqlite3.Connection) -> None:
        """As `STATISTICS` has them; where there is no room for that, as they were."""
        if _statistics(connection) == STATISTICS:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            _tell_statistics(connection)
            connection.execute("COMMIT")
            connection.execute("ANALYZE sqlite_schema")
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            log.info("%s: SQLite works without statistics, slower where much is pending: %s", self._path, error)

    def _migrate(self, connection: sqlite3.Connection, version: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in migration("sqlite", version):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
        log.info("%s: migrated from the format %d to %d", self._path, version, SCHEMA)

    def _explained(self, error: sqlite3.Error | UnicodeDecodeError | OSError) -> JournalError:
        if isinstance(error, UnicodeDecodeError):
            # SQLite's own message, which repeats what is damaged, could not be made text.
            return JournalCorrupt(f"{self._path}: malformed: {ADVICE}")
        # SQLite says of it that it is read-only, or that the disk failed.
        if self._opened is not None and (what := moved(self._path, self._opened)):
            return JournalError(f"{self._path}: {what}; nothing was accepted meanwhile")
        if isinstance(error, OSError):
            return unusable(self._path, error)
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        what = f"{self._path}: {error}"
        match code:
            case sqlite3.SQLITE_FULL:
                return JournalFull(f"{what}: make room on that file system; nothing was accepted meanwhile")
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN if missing := no_room(self._path):
                why = f"there are no free {missing} on that file system: make room there"
                return JournalFull(f"{what}: {why}; nothing was accepted meanwhile")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return JournalCorrupt(f"{what}: {ADVICE}")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return JournalError(f"{what}: the file, its side file (-journal) and its directory must be writable")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return JournalBusy(f"{what}: another process has kept it for more than {self._wait:.0f} s", None)
            case sqlite3.SQLITE_IOERR:
                why = "the disk failed, or a limit was met (quota, ulimit): see the system's log"
                return JournalError(f"{what}: {why}; nothing was accepted meanwhile")
            case _:
                return JournalError(what)


def _statistics(connection: sqlite3.Connection) -> tuple[tuple[str, str, str], ...]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone():
        return ()
    return tuple(connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx"))


def _tell_statistics(connection: sqlite3.Connection) -> None:
    connection.execute("ANALYZE paces")  # makes the table of statistics
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", STATISTICS)


def _connect(path: Path, wait: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        # Text that was damaged is found by the checksum of its entry, and must not hide the others.
        connection.text_factory = lambda raw: str(raw, errors="replace")
        # What a crash left half done is undone with the first page that is read, which is before the journal mode is
        # set. So locked, SQLite keeps the side file all the same; else a crash right then would leave none.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(f"PRAGMA page_size = {PAGE}")
        (mode,) = connection.execute("PRAGMA journal_mode = PERSIST").fetchone()
        if mode != "persist":
            raise JournalError(f"{path}: its journal mode is {mode} and cannot be changed: end what else has it open")
        connection.execute("PRAGMA locking_mode = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16384")
    except BaseException:
        connection.close()
        raise
    return connection


def _reserve(path: Path) -> None:
    """Let the side file have room for a small transaction: on a full disk, entries can be dropped with that alone."""
    with open(side_file(path), "rb+") as file:
        if os.fstat(file.fileno()).st_size < RESERVE:
            try:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
            except OSError as error:
                log.warning("%s: no room can be reserved for a full disk: %s", path, error.strerror)


def _make_side_file(path: Path) -> None:
    try:
        os.close(os.open(side_file(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    sync_directory(path)
