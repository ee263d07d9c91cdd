"""The journal's tables, for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["APPLICATION_ID", "SCHEMA", "statements"]

SCHEMA = 1
APPLICATION_ID = 0x7064626A  # "pdbj"

_TABLES = """
CREATE TABLE entries (
    id {identity},
    uuid TEXT NOT NULL,
    received {float} NOT NULL,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    certname TEXT NOT NULL,
    producer_timestamp TEXT NOT NULL,
    encoding TEXT NOT NULL,
    length {integer} NOT NULL,
    packing TEXT NOT NULL,
    size {integer} NOT NULL,
    checksum {bytes} NOT NULL,
    body {bytes} NOT NULL
);
CREATE INDEX entries_of_node ON entries (certname, name, producer_timestamp);
CREATE INDEX entries_by_state ON entries (state, id);

CREATE TABLE owed (
    target TEXT NOT NULL,
    lane INTEGER NOT NULL,
    rank {integer} NOT NULL,
    entry {integer} NOT NULL,
    due {float} NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (target, lane, rank)
){clustered};
CREATE INDEX owed_entry ON owed (entry, target);

CREATE TABLE copies (
    entry {integer} NOT NULL,
    server TEXT NOT NULL,
    state TEXT NOT NULL,
    uuid TEXT,
    at {float} NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (entry, server)
){clustered};
CREATE INDEX copies_accepted ON copies (server, entry) WHERE state = 'accepted';
CREATE INDEX copies_confirmed ON copies (server, entry) WHERE state = 'confirmed';

CREATE TABLE newest (
    certname TEXT NOT NULL,
    name TEXT NOT NULL,
    producer_timestamp TEXT NOT NULL,
    entry {integer} NOT NULL,
    PRIMARY KEY (certname, name)
){clustered};
CREATE INDEX newest_entry ON newest (entry);

CREATE TABLE sizes (writer TEXT PRIMARY KEY, bytes {integer} NOT NULL);
"""

_TYPES = {
    "sqlite": {
        "identity": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "integer": "INTEGER",
        "float": "REAL",
        "bytes": "BLOB",
        "clustered": " WITHOUT ROWID",
    },
    "postgresql": {
        "identity": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "integer": "BIGINT",
        "float": "DOUBLE PRECISION",
        "bytes": "BYTEA",
        "clustered": "",
    },
}


def statements(dialect: str) -> Iterator[str]:
    """The statements that make the tables, in the `dialect` `sqlite` or `postgresql`."""
    for statement in _TABLES.format_map(_TYPES[dialect]).split(";"):
        if statement.strip():
            yield statement
