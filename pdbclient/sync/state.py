"""What the reconciler remembers between passes, in one SQLite file per configuration.

All of it is an optimisation or a courtesy: without the file the next pass lists more and tries rejected
records again. So a file that cannot be trusted is refused with that advice, never repaired or replaced
silently.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pdbclient.config.model import Endpoint
from pdbclient.errors import SyncError
from pdbclient.sync.model import Entity, Skip, Version

__all__ = ["Refused", "State", "state_path"]

SCHEMA = 1
APPLICATION_ID = 0x70646273  # "pdbs"
TRIES = 3
RETRY_FIRST = 60.0
RETRY_FACTOR = 5.0

_TABLES = """
CREATE TABLE unequal (remote TEXT, entity TEXT, key TEXT, millis INTEGER, hash TEXT, uuid TEXT,
    PRIMARY KEY (remote, entity, key)) WITHOUT ROWID;
CREATE TABLE refused (remote TEXT, entity TEXT, key TEXT, millis INTEGER, hash TEXT, uuid TEXT, tries INTEGER,
    retry_at REAL, reason TEXT, PRIMARY KEY (remote, entity, key)) WITHOUT ROWID;
CREATE TABLE verified_hour (remote TEXT, start INTEGER, fingerprint TEXT,
    PRIMARY KEY (remote, start)) WITHOUT ROWID;
CREATE TABLE seen (remote TEXT, entity TEXT, records INTEGER, PRIMARY KEY (remote, entity)) WITHOUT ROWID;
CREATE TABLE pass (remote TEXT PRIMARY KEY, last_success REAL, last_failure REAL, last_error TEXT)
    WITHOUT ROWID;
"""


def state_path(state_dir: Path, local: Endpoint) -> Path:
    """The state file of the reconciler beside `local`."""
    return state_dir / f"sync-{local.host.replace(':', '_')}-{local.port}.sqlite"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that the local server did not take. `retry_at` is in seconds since the epoch."""

    version: Version
    tries: int
    retry_at: float
    reason: str

    def verdict(self, now: float) -> Skip | None:
        """Whether to leave the record alone at `now`."""
        if self.tries >= TRIES:
            return Skip.QUARANTINED
        return Skip.WAITING if now < self.retry_at else None


class State:
    """The open state file. For one thread; every method that writes is one durable transaction."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open `path`, or make it. Read-only: nothing is written, and a missing file reads as an empty one.

        Raises `SyncError` for a file that is damaged, foreign, or from a newer version.
        """
        self._path = path
        try:
            self._db = self._connect(read_only)
        except sqlite3.Error as error:
            raise self._useless(f"cannot be used: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def unequal(self, remote: str, entity: Entity) -> dict[str, Version]:
        """Records that were pulled and still differ, by key: hashes that no transfer preserves."""
        rows = self._db.execute(
            "SELECT key, millis, hash, uuid FROM unequal WHERE remote = ? AND entity = ?", (remote, entity)
        )
        return {key: Version(millis, text, uuid) for key, millis, text, uuid in rows}

    def refused(self, remote: str, entity: Entity) -> dict[str, Refused]:
        """Records that the local server did not take, by key."""
        rows = self._db.execute(
            "SELECT key, millis, hash, uuid, tries, retry_at, reason FROM refused WHERE remote = ? AND entity = ?",
            (remote, entity),
        )
        return {
            key: Refused(Version(millis, text, uuid), tries, retry_at, reason)
            for key, millis, text, uuid, tries, retry_at, reason in rows
        }

    def remember_unequal(self, remote: str, entity: Entity, versions: Mapping[str, Version]) -> None:
        """Remember pulled versions that still differ from what is here."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO unequal VALUES (?, ?, ?, ?, ?, ?)",
                [(remote, entity, key, *version) for key, version in versions.items()],
            )

    def remember_refused(
        self, remote: str, entity: Entity, versions: Mapping[str, tuple[Version, str]], now: float
    ) -> None:
        """Count one more failure (version, reason) per key; another version of a record starts again at
        one.
        """
        before = self.refused(remote, entity)
        rows = []
        for key, (version, reason) in versions.items():
            old = before.get(key)
            tries = old.tries + 1 if old is not None and old.version == version else 1
            retry_at = now + RETRY_FIRST * RETRY_FACTOR ** (tries - 1)
            rows.append((remote, entity, key, *version, tries, retry_at, reason))
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def forget_refused(self, remote: str, entity: Entity, keys: Iterable[str]) -> None:
        """These were taken after all."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM refused WHERE remote = ? AND entity = ? AND key = ?",
                [(remote, entity, key) for key in keys],
            )

    def verified_hours(self, remote: str) -> dict[int, str]:
        """Hours (start in ms) whose full report lists were equal, with both sides' fingerprint of that
        moment.
        """
        rows = self._db.execute("SELECT start, fingerprint FROM verified_hour WHERE remote = ?", (remote,))
        return dict(rows.fetchall())

    def remember_hours(self, remote: str, fingerprints: Mapping[int, str], oldest: int) -> None:
        """Remember verified hours, and forget those before `oldest` (ms)."""
        with self._transaction():
            self._db.execute("DELETE FROM verified_hour WHERE remote = ? AND start < ?", (remote, oldest))
            self._db.executemany(
                "INSERT OR REPLACE INTO verified_hour VALUES (?, ?, ?)",
                [(remote, start, fingerprint) for start, fingerprint in fingerprints.items()],
            )

    def seen(self, remote: str, entity: Entity) -> int:
        """How many records of `entity` the remote last reported, 0 if it was never asked."""
        row = self._db.execute(
            "SELECT records FROM seen WHERE remote = ? AND entity = ?", (remote, entity)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def remember_seen(self, remote: str, entity: Entity, records: int) -> None:
        """Note how many records of `entity` the remote reports."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (remote, entity, records))

    def remember_pass(self, remote: str, now: float, error: str | None) -> None:
        """Note when a pass ended, and why it failed if it did."""
        column = "last_success" if error is None else "last_failure"
        with self._transaction():
            self._db.execute(
                f"INSERT INTO pass (remote, {column}, last_error) VALUES (?, ?, ?) "
                f"ON CONFLICT (remote) DO UPDATE "
                f"SET {column} = excluded.{column}, last_error = excluded.last_error",
                (remote, now, error),
            )

    def last_pass(self, remote: str) -> tuple[float | None, float | None, str | None]:
        """When a pass last succeeded, last failed, and the error if the latest one failed."""
        row = self._db.execute(
            "SELECT last_success, last_failure, last_error FROM pass WHERE remote = ?", (remote,)
        ).fetchone()
        return (None, None, None) if row is None else (row[0], row[1], row[2])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db:
                yield
        except sqlite3.Error as error:
            raise SyncError(f"{self._path}: cannot be written: {error}") from error

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        new = not self._path.exists()
        if read_only:
            target = "file::memory:" if new else f"{self._path.absolute().as_uri()}?mode=ro"
            db = sqlite3.connect(target, uri=True)
        else:
            db = sqlite3.connect(self._path)
        try:
            # Rollback journal and full sync: a pass writes rarely, and what it wrote must survive a power
            # cut.
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        with closing(db.execute("SELECT count(*) FROM sqlite_master")) as tables:
            empty = tables.fetchone()[0] == 0
        if empty and version == 0:
            db.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
            return
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise self._useless("is not a state file of the reconciler")
        if version != SCHEMA:
            raise self._useless(f"is of schema {version}, this pdbclient knows {SCHEMA}")
        if (check := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise self._useless(f"is damaged: {check}")

    def _useless(self, why: str) -> SyncError:
        return SyncError(
            f"{self._path}: {why}. Move the file away (or go back to the pdbclient that wrote it): "
            f"without it the next pass only takes longer"
        )
