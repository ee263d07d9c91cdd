"""The journal's tables, for SQLite and PostgreSQL, and how an older journal becomes one of this format."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["APPLICATION_ID", "SCHEMA", "STATISTICS", "migration", "statements"]

SCHEMA = 2
"""The number of this format. One that is not in the list is of a newer version, and nothing is done with it.

1: as commit 709fb8b wrote it.
2: `owed` is `deliveries`, which says who is at work on each (`owner`). Older ones are dropped when a newer one is
   shown, so that none is `superseded`. Void ones are marked (small ones: larger ones are compressed). `paces`,
   `leases` and `replicas` are for all who share, `pruned` says what retention took.
"""
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
    body {bytes} NOT NULL,
    void INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entries_uuid ON entries (uuid);
CREATE INDEX entries_of_node ON entries (certname, name, producer_timestamp);
CREATE INDEX entries_pending ON entries (certname, name, producer_timestamp) WHERE state = 'pending';
CREATE INDEX entries_by_state ON entries (state, received, size);

CREATE TABLE deliveries (
    target {text} NOT NULL,
    lane INTEGER NOT NULL,
    rank {integer} NOT NULL,
    entry {integer} NOT NULL,
    due {float} NOT NULL,
    tries INTEGER NOT NULL,
    owner {text} NOT NULL DEFAULT '',
    PRIMARY KEY (target, lane, rank)
){clustered};
CREATE INDEX deliveries_entry ON deliveries (entry, target);

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

CREATE TABLE paces (server {text} PRIMARY KEY, allowance {float} NOT NULL, at {float} NOT NULL){clustered};

CREATE TABLE replicas (server {text} PRIMARY KEY, after {integer} NOT NULL, resets {integer} NOT NULL){clustered};

CREATE TABLE pruned (name {text} PRIMARY KEY, received {float} NOT NULL){clustered};
CREATE TABLE leases (name {text} PRIMARY KEY, owner {text} NOT NULL, until {float} NOT NULL){clustered};
"""

STATISTICS = (
    ("copies", "copies", "1500000 2 1"),
    ("copies", "copies_accepted", "100000 50000 1"),
    ("copies", "copies_confirmed", "1400000 700000 1"),
    ("deliveries", "deliveries", "100000 50000 20000 1"),
    ("deliveries", "deliveries_entry", "100000 2 1"),
    ("entries", "entries_by_state", "1000000 300000 1 1"),
    ("entries", "entries_of_node", "1000000 200 70 1"),
    ("entries", "entries_pending", "100000 20 7 1"),
    ("entries", "entries_uuid", "1000000 1"),
    ("newest", "newest", "15000 3 1"),
    ("newest", "newest_entry", "15000 1"),
)
"""What SQLite is told of a large journal with much that is pending (`sqlite_stat1`: the rows of an index, and how
many of them have the same first column, the same first two, ...). Without, it takes all indices for equally good, and
reads all that is pending for one entry. It is never counted: plans must not change while a journal grows.
"""

_MIGRATIONS = {
    1: """
ALTER TABLE owed RENAME TO deliveries;
ALTER TABLE deliveries ADD COLUMN owner {text} NOT NULL DEFAULT '';
DROP INDEX owed_entry;
CREATE INDEX deliveries_entry ON deliveries (entry, target);
CREATE TABLE paces (server {text} PRIMARY KEY, allowance {float} NOT NULL, at {float} NOT NULL){clustered};
ALTER TABLE entries ADD COLUMN void INTEGER NOT NULL DEFAULT 0;
UPDATE entries SET void = 1 WHERE name = 'replace catalog inputs' AND encoding = 'identity' AND packing = 'none'
    AND ({holds_no_inputs});
DELETE FROM newest WHERE name = 'replace catalog inputs';
INSERT INTO newest (certname, name, producer_timestamp, entry)
    SELECT certname, name, producer_timestamp, id FROM entries AS own
    WHERE name = 'replace catalog inputs' AND state <> 'parked' AND void = 0 AND NOT EXISTS (
        SELECT 1 FROM entries AS newer WHERE newer.certname = own.certname AND newer.name = own.name
        AND newer.state <> 'parked' AND newer.void = 0 AND (newer.producer_timestamp > own.producer_timestamp
            OR newer.producer_timestamp = own.producer_timestamp AND newer.id > own.id)
    );
DELETE FROM copies WHERE state = 'superseded';
UPDATE entries SET state = 'delivered' WHERE state = 'superseded';
DROP INDEX entries_by_state;
CREATE INDEX entries_by_state ON entries (state, received, size);
CREATE TABLE replicas (server {text} PRIMARY KEY, after {integer} NOT NULL, resets {integer} NOT NULL){clustered};
CREATE TABLE pruned (name {text} PRIMARY KEY, received {float} NOT NULL){clustered};
CREATE TABLE leases (name {text} PRIMARY KEY, owner {text} NOT NULL, until {float} NOT NULL){clustered};
""",
}
"""By the format that they begin with: what makes the next one of it."""

_TYPES = {
    "sqlite": {
        "identity": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "text": "TEXT",
        "integer": "INTEGER",
        "float": "REAL",
        "bytes": "BLOB",
        "clustered": " WITHOUT ROWID",
        "holds_no_inputs": """
            instr(body, CAST('"inputs":[]' AS BLOB)) OR instr(body, CAST('"inputs": []' AS BLOB))
        """,
    },
    "postgresql": {
        "identity": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        # Compared byte by byte whatever the database's language is: timestamps are, and must be, ordered that way.
        "text": 'TEXT COLLATE "C"',
        "integer": "BIGINT",
        "float": "DOUBLE PRECISION",
        "bytes": "BYTEA",
        "clustered": "",
        "holds_no_inputs": """
            position('"inputs":[]'::bytea IN body) > 0 OR position('"inputs": []'::bytea IN body) > 0
        """,
    },
}


def statements(dialect: str) -> Iterator[str]:
    """The statements that make the tables, in the `dialect` `sqlite` or `postgresql`."""
    return _split(_TABLES, dialect)


def migration(dialect: str, version: int) -> Iterator[str]:
    """The statements that make a journal of the format `version`, an older one, one of `SCHEMA`."""
    for before in range(version, SCHEMA):
        yield from _split(_MIGRATIONS[before], dialect)


def _split(text: str, dialect: str) -> Iterator[str]:
    for statement in text.format_map(_TYPES[dialect]).split(";"):
        if statement.strip():
            yield statement
