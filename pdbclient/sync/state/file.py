"""The state file itself: its tables, its versions, and which files are refused.

Rollback journal and every sync that there is: a pass writes rarely, and what it wrote must survive a power cut. To
commit is to remove the rollback journal; only EXTRA makes that durable, else it may be back, and undo. Operators'
commands write beside a running daemon, so whoever finds the file in use waits a while.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pdbclient.errors import SyncError

__all__ = ["NoRoom", "failed", "in_memory", "open_state", "useless"]

SCHEMA = 5
APPLICATION_ID = 0x70646273  # "pdbs"
BUSY_TIMEOUT = 10.0

_TABLES = """
CREATE TABLE unequal (remote TEXT, entity TEXT, key TEXT, millis INTEGER, hash TEXT, uuid TEXT,
    PRIMARY KEY (remote, entity, key)) WITHOUT ROWID;
CREATE TABLE refused (remote TEXT, entity TEXT, key TEXT, millis INTEGER, hash TEXT, uuid TEXT, tries INTEGER,
    retry_at REAL, reason TEXT, dropped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (remote, entity, key)) WITHOUT ROWID;
CREATE TABLE seen (remote TEXT, entity TEXT, records INTEGER, PRIMARY KEY (remote, entity)) WITHOUT ROWID;
CREATE TABLE pass (remote TEXT PRIMARY KEY, last_success REAL, last_failure REAL, last_error TEXT,
    worked INTEGER NOT NULL DEFAULT 0, failed_after_working INTEGER NOT NULL DEFAULT 0, result TEXT)
    WITHOUT ROWID;
"""

# Since schema 3: how each entity's passes go, and what a server of some version was found to answer.
_SINCE_3 = """
CREATE TABLE entity_pass (remote TEXT, entity TEXT, last_success REAL, last_error TEXT,
    PRIMARY KEY (remote, entity)) WITHOUT ROWID;
CREATE TABLE server (url TEXT PRIMARY KEY, version TEXT, answers TEXT) WITHOUT ROWID;
"""

# Since schema 4: what may wait in the local queue still, which nodes expired here alone, what differs in
# its hash only, and when all records of an entity were listed.
_SINCE_4 = """
CREATE TABLE under_way (entity TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE expired (remote TEXT, certname TEXT, millis INTEGER, age INTEGER, PRIMARY KEY (remote, certname))
    WITHOUT ROWID;
ALTER TABLE unequal ADD COLUMN same INTEGER NOT NULL DEFAULT 0;
CREATE TABLE listed (remote TEXT, entity TEXT, at REAL, PRIMARY KEY (remote, entity)) WITHOUT ROWID;
"""

# Since schema 5: what is remembered of reports in one piece; what was, is made anew by the next pass.
_SINCE_5 = """
CREATE TABLE reports (scope TEXT PRIMARY KEY, memory TEXT) WITHOUT ROWID;
DROP TABLE IF EXISTS verified_hour;
DROP TABLE IF EXISTS left_out;
DROP TABLE IF EXISTS cursor;
DROP TABLE IF EXISTS anchor;
"""

_FROM_1 = """
ALTER TABLE refused ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pass ADD COLUMN worked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pass ADD COLUMN failed_after_working INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pass ADD COLUMN result TEXT;
UPDATE pass SET worked = last_success IS NOT NULL,
    failed_after_working = last_success IS NOT NULL AND coalesce(last_failure > last_success, 0);
"""

_ELSEWHERE = {
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
}
_STEPS = {0: _TABLES, 1: _FROM_1}
"""What makes a file of that schema (0: an empty one) one of schema 2."""


class NoRoom(SyncError):
    """The disk does not take what is to be written: full, read-only, gone. The file is none the worse for it."""


def open_state(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to the state file at `path`, in autocommit mode; a missing file is made.

    Read-only: nothing is made or written, and a missing file reads as an empty one. Raises `SyncError` for a file
    that is damaged, foreign or from a newer version, which stays as it is.
    """
    try:
        db = _connect(path, read_only)
    except sqlite3.Error as error:
        raise failed(path, "opened", error) from error
    except OSError as error:
        raise _hidden(path, error) from error
    try:
        if read_only:
            db = _readable(path, db)
            db.execute("PRAGMA query_only = ON")
        else:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = EXTRA")
            _prepare(path, db)
        _check_columns(path, db)
    except sqlite3.Error as error:
        db.close()
        raise failed(path, "used", error) from error
    except OSError as error:
        db.close()
        raise _hidden(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def failed(path: Path, doing: str, error: sqlite3.Error) -> SyncError:
    """What it comes to that the file cannot be (opened, read, written …): is it in use, or the disk, or the file?"""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    # A file that is cut off is not the disk's fault.
    kind = sqlite3.SQLITE_CORRUPT if code == sqlite3.SQLITE_IOERR_SHORT_READ else code & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SyncError(f"{path}: cannot be {doing}: {error}")
    if kind in _ELSEWHERE:
        why = "See that there is room on that disk, and that this user may write there"
        return NoRoom(f"{path}: cannot be {doing}: {error}. {why}")
    return useless(path, f"is damaged: {error}")


def in_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    """A copy that nothing else sees."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.backup(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def useless(path: Path, why: str) -> SyncError:
    """The error for a file that cannot be trusted."""
    return SyncError(
        f"{path}: {why}. Move the file away (or go back to the pdbclient that wrote it): "
        f"without it the next pass only takes longer"
    )


def _hidden(path: Path, error: OSError) -> SyncError:
    return SyncError(f"{path}: cannot be looked at: {error.strerror}")


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    target = f"{path.absolute().as_uri()}?mode={'rw' if read_only else 'rwc'}"
    if read_only and not path.exists():
        target = "file::memory:"
    # Read-only opens for writing too, if it may: after a kill in mid-commit that is needed to read at all.
    return sqlite3.connect(target, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def _readable(path: Path, db: sqlite3.Connection) -> sqlite3.Connection:
    """The file as this version sees it; one of an older schema is read into memory and changed there."""
    if _version(path, db) == SCHEMA:
        return db
    copy = in_memory(db)
    db.close()
    _prepare(path, copy)
    return copy


def _prepare(path: Path, db: sqlite3.Connection) -> None:
    """Make the tables, or take over an older schema: all of it or nothing."""
    if _version(path, db) == SCHEMA:
        return
    with db:
        db.execute("BEGIN IMMEDIATE")
        # Another process may have been faster.
        version = _version(path, db)
        if version != SCHEMA:
            since = (_SINCE_3 if version < 3 else "") + (_SINCE_4 if version < 4 else "") + _SINCE_5
            for statement in (_STEPS.get(version, "") + since).split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")


def _check_columns(path: Path, db: sqlite3.Connection) -> None:
    """Raise `SyncError` unless the tables are those of this schema; a missing file has none."""
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        return
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(_TABLES + _SINCE_3 + _SINCE_4 + _SINCE_5)
        for table, columns in _columns(model).items():
            if (found := _columns(db).get(table)) != columns:
                raise useless(path, f"is damaged: table {table} has the columns {found}, not {columns}")


def _columns(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table, in order."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        table: [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))]
        for (table,) in tables
    }


def _version(path: Path, db: sqlite3.Connection) -> int:
    """The schema of the file, 0 for an empty one. Raises `SyncError` for what is no state file, or a newer one."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        return 0
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise useless(path, "is not a state file of the reconciler")
    if version not in range(SCHEMA + 1):
        raise useless(path, f"is of schema {version}, this pdbclient knows {SCHEMA}")
    if (check := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise useless(path, f"is damaged: {check}")
    # Of a page that is cut off SQLite takes the rest for zeros.
    if path.stat().st_size % db.execute("PRAGMA page_size").fetchone()[0]:
        raise useless(path, "is damaged: it is cut off")
    return version
