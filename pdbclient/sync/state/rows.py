"""What the rows of the state file may be. A row that is anything else is damage, in a file that is sound for SQLite.

Nothing else reads the file, so damage has one set of words; and all of it is read when the file is opened, so it is
met before a pass begins, not in the middle of one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec

from pdbclient.sync.policy.model import Count, Entity, EntityResult, Millis, Wall
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.state.file import failed, useless

__all__ = ["check_rows", "read_memory", "read_result", "read_rows", "write_memory"]

_Flag = Annotated[int, msgspec.Meta(ge=0, le=1)]


_memory = msgspec.json.Decoder(ReportMemory).decode


class _Table(NamedTuple):
    """Columns that are read, and the type of a list of rows."""

    columns: str
    rows: Any


_TABLES: Mapping[str, _Table] = MappingProxyType(
    {
        "unequal": _Table(
            "remote, entity, key, millis, hash, uuid, same",
            list[tuple[str, Entity, str, Millis, str, str, _Flag]],
        ),
        "refused": _Table(
            "remote, entity, key, millis, hash, uuid, tries, retry_at, reason, dropped",
            list[tuple[str, Entity, str, Millis, str, str, Count, Wall, str, _Flag]],
        ),
        "reports": _Table("scope, memory", list[tuple[str, str]]),
        "seen": _Table("entity, records", list[tuple[Entity, Count]]),
        "pass": _Table(
            "remote, last_success, last_failure, last_error, worked, failed_after_working, result",
            list[tuple[str, Wall | None, Wall | None, str | None, _Flag, _Flag, str | None]],
        ),
        "entity_pass": _Table("entity, last_success, last_error", list[tuple[Entity, Wall | None, str | None]]),
        "server": _Table("url, version, answers", list[tuple[str, str, str]]),
        "listed": _Table("entity, at", list[tuple[Entity, Wall]]),
        "under_way": _Table("entity", list[tuple[Entity]]),
        "expired": _Table("remote, certname, millis, age", list[tuple[str, str, Millis, int]]),
    }
)


class _Result(TypedDict, total=False):
    """What is shown of `PassResult.as_json`; an older version may have left it out."""

    elapsed_ms: int
    entities: dict[str, EntityResult]


def read_rows(path: Path, db: sqlite3.Connection, table: str, where: str = "", *values: object) -> list[Any]:
    """The rows of a table of the file at `path`. Raises `SyncError` when they cannot be read, or are none."""
    columns, rows = _TABLES[table]
    try:
        found = db.execute(f"SELECT {columns} FROM {table} {where}", values).fetchall()
    except sqlite3.Error as error:
        raise failed(path, "read", error) from error
    try:
        return list(msgspec.convert(found, rows))
    except msgspec.ValidationError as error:
        raise useless(path, f"is damaged: table {table} ({columns}): {error}") from error


def read_result(path: Path, text: str | None) -> dict[str, Any]:
    """The document of the latest pass; empty where there is none. Raises `SyncError` as `read_rows` does."""
    try:
        document = json.loads(text) if text else {}
        msgspec.convert(document, _Result)
    except (ValueError, RecursionError) as error:
        raise useless(path, f"is damaged: the result in table pass: {error}") from error
    return dict(document)


def read_memory(path: Path, text: str) -> ReportMemory:
    """What is remembered of reports. Raises `SyncError` as `read_rows` does."""
    try:
        return _memory(text)
    except (ValueError, RecursionError) as error:
        raise useless(path, f"is damaged: the memory in table reports: {error}") from error


def write_memory(memory: ReportMemory) -> str:
    """As `read_memory` reads it."""
    return msgspec.json.encode(memory).decode()


def check_rows(path: Path, db: sqlite3.Connection) -> None:
    """Read all there is. Raises `SyncError` as `read_rows` does."""
    for table in _TABLES:
        for row in read_rows(path, db, table):
            if table == "pass":
                read_result(path, row[-1])
            elif table == "reports":
                read_memory(path, row[-1])
