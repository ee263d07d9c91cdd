"""The journal in a PostgreSQL database, which several processes, on several machines, share.

They keep out of each other's way by row locks alone: `FOR UPDATE SKIP LOCKED` where work is handed out, `FOR UPDATE`
where an entry's state is decided. Through a connection pooler, only one that keeps sessions (not transactions) apart.

Of several hosts in the URL the first is used that can be written to, and the next one when that is over. A host that
does not answer is left within seconds.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pdbclient.config.journal_place import without_password
from pdbclient.errors import JournalError, JournalFull
from pdbclient.journal.store.connection import SILENCE, Connection
from pdbclient.journal.store.database import Kept, Transaction, Unreachable
from pdbclient.journal.store.schema import APPLICATION_ID, SCHEMA, migration, statements
from pdbclient.journal.store.watchdog import Watchdog

__all__ = ["PostgresqlDatabase"]

log = logging.getLogger("pdbclient.journal")

T = TypeVar("T")

ATTEMPTS = 6
"""Of a transaction that another one's got into the way of."""
MAKING = 600.0
"""The same while its tables are made or migrated, or another process does that."""
CONNECT_SECONDS = 6
"""For all hosts of the URL together; but two for each."""
CLOCK_SECONDS = 60.0
"""After so long the server's clock is read again."""
_TABLES = ("entries", "deliveries", "copies", "newest", "sizes", "paces", "leases", "replicas", "pruned")
_PARAMETERS = {
    # A statement that the server passed over, as one before it had failed, psycopg takes for prepared, and each
    # transaction with it would fail.
    "prepare_threshold": None,
    "application_name": "pdbclient-journal",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # Of several hosts, the one that is no standby.
    "target_session_attrs": "read-write",
    "client_encoding": "utf8",
}
# Who is cut off in a transaction has its locks taken away before others give up waiting for them; where the server
# has only a part of what it was sent last, by keepalives.
_SETTINGS = """
SET lock_timeout = '4s';
SET statement_timeout = '6s';
SET idle_in_transaction_session_timeout = '3s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 1;
SET tcp_keepalives_count = 3;
SET default_transaction_isolation = '{isolation}';
"""


class _InTheWay(Exception):
    """Another transaction was in the way of this one, which can be done again."""


class _Left(Exception):
    """The host is gone, or cannot be written to any more; nothing was committed there."""

    def __init__(self, why: JournalError) -> None:
        self.why = why
        super().__init__(str(why))


class _Transaction:
    skip_locked = " FOR UPDATE SKIP LOCKED"
    locked = " FOR UPDATE"
    # Not before it was vacuumed.
    reuses_room = False

    def __init__(self, connection: Connection, part: str) -> None:
        self._connection = connection
        self.part = part

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.rows(_converted(sql), values)

    def execute(self, sql: str, **values: Any) -> None:
        self._connection.execute(_converted(sql), values)

    def among(self, name: str) -> str:
        return f"= ANY(:{name})"

    def several(self, values: Sequence[Any]) -> Any:
        return list(values)

    def require_room(self, size: int) -> None:
        """Its administrator's concern, and none of this machine's disk."""

    def damage(self) -> list[str]:
        # PostgreSQL checks its pages itself as it reads them, where its administrator had it do so.
        return []


class PostgresqlDatabase:
    """The database at `url`; the journal's tables are made in it when it has none.

    Raises `Unreachable`, and `JournalError` for a database that cannot be used. None of them holds the password.

    `isolation` is that of its transactions: with `repeatable read`, all that one reads is of the same moment. Of
    several of a process, those with another `number` than 0 are connected when they are first needed.
    """

    def __init__(self, url: str, *, isolation: str = "read committed", number: int = 0) -> None:
        self._where = without_password(url)
        self._isolation = isolation
        self._part = f"#{number}" if number else ""
        self._parameters = self._parsed(url)
        self._connection: Connection | None = None
        self._clock = (0.0, 0.0)
        self._watchdog = Watchdog()
        try:
            if number == 0:
                self._connected()
        except BaseException:
            self.close()
            raise

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """As `Database.transact`. `work` is called again when others were in the way, or the host left."""
        attempts = Retrying(
            retry=retry_if_exception_type(_InTheWay),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(0.02, max=0.5),
            reraise=True,
        )
        try:
            result: T = attempts(self._transact_somewhere, work)
        except _InTheWay as error:
            raise JournalError(f"{self._where}: other processes were in the way {ATTEMPTS} times: {error}") from error
        return result

    @property
    def heard(self) -> float:
        """As `Database.heard`."""
        connection = self._connection
        return 0.0 if connection is None else connection.heard

    def clock(self) -> float:
        """Seconds since 1970 by the server's clock: all who share the journal go by the same one. For any thread."""
        server, own = self._clock
        return server + time.monotonic() - own

    def close(self) -> None:
        """As `Database.close`."""
        self._leave()
        self._watchdog.close()

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _transact_somewhere(self, work: Callable[[Transaction], T]) -> T:
        """On the host that there is, or when that is gone, once more, on the first that can be written to."""
        try:
            return self._transact(work)
        except _Left:
            pass
        try:
            return self._transact(work)
        except _Left as error:
            raise error.why from error

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        connection = self._begun()
        began, committing = time.monotonic(), False
        try:
            with connection.without_waiting():
                result = work(_Transaction(connection, self._part))
                committing = True
                commit = connection.execute("COMMIT")
            # A transaction that failed before is rolled back by a COMMIT, without an error.
            if commit.statusmessage != "COMMIT":
                raise JournalError(f"{self._where}: the transaction ended with {commit.statusmessage}")
        except BaseException as error:
            self._roll_back(connection)
            if isinstance(error, errors.ReadOnlySqlTransaction):
                self._leave()
                raise _Left(self._explained(error)) from error
            if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.UniqueViolation):
                raise _InTheWay(_first_line(error)) from error
            if isinstance(error, psycopg.Error):
                why = self._explained(error)
                # Neither after a silence nor when it may be committed.
                if isinstance(why, Unreachable) and not committing and time.monotonic() - began < SILENCE:
                    raise _Left(why) from error
                raise why from error
            raise
        return result

    def _begun(self) -> Connection:
        """A connection in a new transaction. One that broke while nothing was under way is replaced, silently."""
        kept = self._connection is not None and not self._connection.closed
        connection = self._connected()
        began = time.monotonic()
        try:
            self._begin(connection)
        except psycopg.OperationalError as error:
            self._leave()
            # When it was silent, whoever waits has waited long enough.
            if not kept or time.monotonic() - began >= SILENCE:
                raise self._explained(error) from error
            connection = self._connected()
            try:
                self._begin(connection)
            except psycopg.Error as again:
                self._leave()
                raise self._explained(again) from again
        return connection

    def _begin(self, connection: Connection) -> None:
        connection.execute("BEGIN")
        if time.monotonic() - self._clock[1] > CLOCK_SECONDS:
            self._read_clock(connection)

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            # Closing it ends the transaction just as well.
            self._leave()

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = Connection.connect(autocommit=True, **self._parameters)
                self._connection.watchdog = self._watchdog
                self._prepare(self._connection)
            except psycopg.Error as error:
                self._leave()
                raise self._explained(error) from error
            except BaseException:
                self._leave()
                raise
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        connection.execute(_SETTINGS.format(isolation=self._isolation))
        self._read_clock(connection)
        names = ("synchronous_commit", "server_encoding", "fsync")
        asked = ", ".join(f"current_setting('{name}')" for name in names)
        settings = dict(zip(names, connection.execute(f"SELECT {asked}").fetchall()[0], strict=True))
        if settings["synchronous_commit"] not in ("on", "remote_apply"):
            connection.execute("SET synchronous_commit = on")
        if settings["server_encoding"] != "UTF8":
            why = f"is encoded in {settings['server_encoding']}: make it with ENCODING 'UTF8'"
            raise JournalError(f"{self._where}: the database {why}")
        if settings["fsync"] != "on":
            _tell(f"{self._where}: the server runs with fsync = off: a power cut can lose what it was given")
        if not self._is_ready(connection):
            connection.patience = MAKING
            connection.execute("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            # Two processes may find the database empty at once.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (APPLICATION_ID,))
            self._require_tables(connection)
            connection.execute("COMMIT")
            connection.patience = SILENCE

    def _is_ready(self, connection: Connection) -> bool:
        if _one(connection, "SELECT to_regclass('pdbclient_journal')") is None:
            return False
        return bool(_one(connection, "SELECT max(format) FROM pdbclient_journal") == SCHEMA)

    def _require_tables(self, connection: Connection) -> None:
        if _one(connection, "SELECT current_schema()") is None:
            raise JournalError(f"{self._where}: no schema of the search_path exists: make one for this user")
        if _one(connection, "SELECT to_regclass('pdbclient_journal')") is None:
            found = "SELECT min(name) FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL"
            there = _one(connection, found, [*_TABLES])
            if there is not None:
                why = f"has a table {there!r} that is no journal's: give the journal a database of its own"
                raise JournalError(f"{self._where}: {why}")
            for statement in statements("postgresql"):
                connection.execute(statement)
            connection.execute("CREATE TABLE pdbclient_journal (format INTEGER NOT NULL)")
            connection.execute("INSERT INTO pdbclient_journal VALUES (%s)", (SCHEMA,))
        version = _one(connection, "SELECT max(format) FROM pdbclient_journal")
        if not isinstance(version, int) or not 1 <= version <= SCHEMA:
            why = f"was written by a newer version of pdbclient (format {version}, this one reads up to {SCHEMA})"
            raise JournalError(f"{self._where}: {why}: use that version, or another database")
        if version < SCHEMA:
            for statement in migration("postgresql", version):
                connection.execute(statement)
            connection.execute("UPDATE pdbclient_journal SET format = %s", (SCHEMA,))
            log.info("%s: migrated from the format %d to %d", self._where, version, SCHEMA)

    def _read_clock(self, connection: Connection) -> None:
        began = time.monotonic()
        server = _one(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")
        self._clock = (server, (began + time.monotonic()) / 2)

    def _parsed(self, url: str) -> dict[str, Any]:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            pass
        else:
            hosts = str(given.get("hostaddr") or given.get("host") or "").split(",")
            return {"connect_timeout": max(CONNECT_SECONDS // len(hosts), 2)} | _PARAMETERS | given
        # Not raised in there: what libpq says repeats the part of the URL that it does not like, a password maybe.
        raise JournalError(f"{self._where}: is no URL of PostgreSQL: postgresql://USER:PASSWORD@HOST:PORT/DATABASE")

    def _explained(self, error: psycopg.Error) -> JournalError:
        what = f"{self._where}: {self._masked(_first_line(error))}"
        match error:
            case errors.DiskFull():
                return JournalFull(f"{what}: make room on the database server's disk; nothing was accepted meanwhile")
            case errors.LockNotAvailable():
                return Kept(f"{what}: another session has kept a row for too long")
            case errors.QueryCanceled():
                return Kept(f"{what}: the database is too slow for it: see its load, and its disk")
            case errors.InsufficientPrivilege():
                advice = "let this user own the database, or a schema in it (GRANT CREATE ON SCHEMA …)"
                return JournalError(f"{what}: {advice}")
            case errors.ReadOnlySqlTransaction():
                return JournalError(f"{what}: this server is a standby, or read-only: name the primary")
            case psycopg.OperationalError() if self._connection is None or self._connection.closed:
                return Unreachable(f"{what}: see whether the server runs and takes connections from here")
            case _:
                return JournalError(what)

    def _masked(self, text: str) -> str:
        for name in ("password", "sslpassword"):
            secret = self._parameters.get(name)
            text = text.replace(secret, "***") if secret else text
        return without_password(text)


@cache
def _tell(warning: str) -> None:
    """Once, however many connections meet it."""
    log.warning(warning)


@cache
def _converted(sql: str) -> str:
    """Parameters as psycopg has them. Statements are few, and none is made of foreign text."""
    return re.sub(r"(?<!:):([a-z_]+)", r"%(\1)s", sql.replace("%", "%%"))


def _one(connection: Connection, sql: str, *values: Any) -> Any:
    row = connection.execute(sql, values or None).fetchone()
    return None if row is None else row[0]


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
