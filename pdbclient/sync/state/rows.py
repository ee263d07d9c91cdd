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

from pdbclient.sync.policy.model import Entity, EntityResult
from pdbclient.sync.state.file import failed, useless

__all__ = ["check_rows", "read_result", "read_rows"]

# The years of which a server's database can have a record, 4713 BC to 294276; our own times: 1970 to 9999.
_Millis = Annotated[int, msgspec.Meta(ge=-210_866_803_200_000, le=9_224_318_015_999_999)]
_Wall = Annotated[float, msgspec.Meta(ge=0.0, le=253_402_300_799.0)]
_Number = Annotated[int, msgspec.Meta(ge=0)]
_Flag = Annotated[int, msgspec.Meta(ge=0, le=1)]


class _Table(NamedTuple):
    """Columns that are read, and the type of a list of rows."""

    columns: str
    rows: Any


_TABLES: Mapping[str, _Table] = MappingProxyType(
    {
        "unequal": _Table(
            "remote, entity, key, millis, hash, uuid, same",
            list[tuple[str, Entity, str, _Millis, str, str, _Flag]],
        ),
        "refused": _Table(
            "remote, entity, key, millis, hash, uuid, tries, retry_at, reason, dropped",
            list[tuple[str, Entity, str, _Millis, str, str, _Number, _Wall, str, _Flag]],
        ),
        "verified_hour": _Table(
            "start, fingerprint, verified_at, partial, fills", list[tuple[_Millis, str, _Wall, _Flag, _Number]]
        ),
        "left_out": _Table("certname", list[tuple[str]]),
        "cursor": _Table("millis", list[tuple[_Millis]]),
        "anchor": _Table("hash, certname, millis", list[tuple[str, str, _Millis]]),
        "seen": _Table("entity, records", list[tuple[Entity, _Number]]),
        "pass": _Table(
            "remote, last_success, last_failure, last_error, worked, failed_after_working, result",
            list[tuple[str, _Wall | None, _Wall | None, str | None, _Flag, _Flag, str | None]],
        ),
        "entity_pass": _Table("entity, last_success, last_error", list[tuple[Entity, _Wall | None, str | None]]),
        "server": _Table("url, version, answers", list[tuple[str, str, str]]),
        "listed": _Table("entity, at", list[tuple[Entity, _Wall]]),
        "under_way": _Table("entity", list[tuple[Entity]]),
        "expired": _Table("remote, certname, millis, age", list[tuple[str, str, _Millis, int]]),
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


def check_rows(path: Path, db: sqlite3.Connection) -> None:
    """Read all there is. Raises `SyncError` as `read_rows` does."""
    for table in _TABLES:
        for row in read_rows(path, db, table):
            if table == "pass":
                read_result(path, row[-1])
