"""The journal's tables, for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["APPLICATION_ID", "SCHEMA", "statements"]

SCHEMA = 1
APPLICATION_ID = 0x7064626A  # "pdbj"

_TABLES = """
CREATE TABLE entries (
    id {identity},
    uuid {text} NOT NULL,
    received {float} NOT NULL,
    state {text} NOT NULL,
    name {text} NOT NULL,
    version INTEGER NOT NULL,
    certname {text} NOT NULL,
    producer_timestamp {text} NOT NULL,
    encoding {text} NOT NULL,
    length {integer} NOT NULL,
    packing {text} NOT NULL,
    size {integer} NOT NULL,
    checksum {bytes} NOT NULL,
    body {bytes} NOT NULL
);
CREATE INDEX entries_uuid ON entries (uuid);
CREATE INDEX entries_of_node ON entries (certname, name, producer_timestamp);
CREATE INDEX entries_pending ON entries (certname, name, producer_timestamp) WHERE state = 'pending';
CREATE INDEX entries_by_state ON entries (state, id);

CREATE TABLE owed (
    target {text} NOT NULL,
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
    server {text} NOT NULL,
    state {text} NOT NULL,
    uuid {text},
    at {float} NOT NULL,
    reason {text} NOT NULL,
    PRIMARY KEY (entry, server)
){clustered};
CREATE INDEX copies_accepted ON copies (server, entry) WHERE state = 'accepted';
CREATE INDEX copies_confirmed ON copies (server, entry) WHERE state = 'confirmed';

CREATE TABLE newest (
    certname {text} NOT NULL,
    name {text} NOT NULL,
    producer_timestamp {text} NOT NULL,
    entry {integer} NOT NULL,
    PRIMARY KEY (certname, name)
){clustered};
CREATE INDEX newest_entry ON newest (entry);

CREATE TABLE sizes (writer {text} PRIMARY KEY, bytes {integer} NOT NULL);
"""

_TYPES = {
    "sqlite": {
        "identity": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "text": "TEXT",
        "integer": "INTEGER",
        "float": "REAL",
        "bytes": "BLOB",
        "clustered": " WITHOUT ROWID",
    },
    "postgresql": {
        "identity": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        # Compared byte by byte whatever the database's language is: timestamps are, and must be, ordered that way.
        "text": 'TEXT COLLATE "C"',
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
