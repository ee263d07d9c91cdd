"""A journal as commit 709fb8b wrote it, format 1, for either database.

In it are: facts that were delivered, two catalogs of which the older one is superseded (this format has no such
state any more), facts that were rejected,
reports pending for any server and for one of two, a deactivation that failed once, and a report under way.
"""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg import sql

from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries, upkeep

from .store import LEASE, REPORT, A, B, Store, command

__all__ = ["add_inputs", "make_file", "make_tables", "require_all", "require_inputs"]

HERE = Path(__file__).parent
WRITTEN = 1_800_000_000.0
"""When it was written, by the clock of then."""
STATES = {
    1: (EntryState.DELIVERED, {A: "accepted"}),
    2: (EntryState.DELIVERED, {}),
    3: (EntryState.DELIVERED, {A: "confirmed"}),
    4: (EntryState.PARKED, {A: "rejected"}),
    5: (EntryState.PENDING, {}),
    6: (EntryState.PENDING, {A: "accepted"}),
    7: (EntryState.PENDING, {}),
    8: (EntryState.PENDING, {}),
}
"""By id, and what is known of it on each server."""


def make_file(path: Path) -> None:
    """Put it at `path`, as after it was closed."""
    path.write_bytes(gzip.decompress((HERE / "format-1.gz").read_bytes()))
    path.with_name(f"{path.name}-journal").touch()


def add_inputs(path: Path) -> None:
    """Put inputs of a node in, and void ones after them, which count as its newest."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for body in (b'{"inputs": [["hiera", "a"]]}', b'{"inputs": []}', b'{"other": 1, "inputs":[]}'):
            entry = connection.execute(
                "INSERT INTO entries (uuid, received, state, name, version, certname, producer_timestamp, encoding,"
                " length, packing, size, checksum, body)"
                " SELECT uuid, received, 'delivered', 'replace catalog inputs', 1, 'inputs.example',"
                " '2026-01-01T00:00:0' || (SELECT count(*) FROM entries) || '.000Z', 'identity',"
                " :length, 'none', :length, x'00', :body FROM entries WHERE id = 1 RETURNING id",
                {"length": len(body), "body": body},
            ).fetchone()[0]
            connection.execute(
                "INSERT OR REPLACE INTO newest"
                " SELECT certname, name, producer_timestamp, id FROM entries WHERE id = ?",
                (entry,),
            )
    # SQLite took it away, as what wrote it never does.
    path.with_name(f"{path.name}-journal").touch()


def require_inputs(journal: Journal) -> None:
    """The void ones do not count."""
    rows = "SELECT void FROM entries WHERE certname = 'inputs.example' ORDER BY id"
    assert journal.run(lambda tx: tx.rows(rows)) == [(0,), (1,), (1,)]
    newest = "SELECT entry FROM newest WHERE certname = 'inputs.example'"
    assert journal.run(lambda tx: tx.rows(newest)) == [(9,)]


def make_tables(url: str, file: Path) -> None:
    """The same in PostgreSQL; `file` is one of `make_file`."""
    with closing(sqlite3.connect(file)) as source, psycopg.connect(url) as connection:
        connection.execute((HERE / "format-1.sql").read_text())
        for table in ("entries", "owed", "copies", "newest", "sizes"):
            rows = source.execute(f"SELECT * FROM {table}")
            columns = sql.SQL(", ").join(sql.Identifier(column[0]) for column in rows.description)
            places = sql.SQL(", ").join(sql.Placeholder() for _ in rows.description)
            # The identity column too.
            text = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})")
            statement = text.format(sql.Identifier(table), columns, places)
            connection.cursor().executemany(statement, rows.fetchall())
        connection.execute("SELECT setval(pg_get_serial_sequence('entries', 'id'), (SELECT max(id) FROM entries))")
        connection.execute("CREATE TABLE pdbclient_journal (format INTEGER NOT NULL)")
        connection.execute("INSERT INTO pdbclient_journal VALUES (1)")


def require_all(store: Store) -> None:
    """All that it held is there, and goes on as before."""
    listed = store.journal.run(entries.listing)
    assert {e.id: (e.state, {c.server: c.state for c in e.copies}) for e in listed} == STATES
    assert store.journal.run(upkeep.verify, 0, 1000).damaged == {}
    assert store.journal.run(upkeep.structure) == []
    store.now = WRITTEN + LEASE
    assert [(c.entry, c.tries) for c in store.claims()] == [(7, 1), (5, 0), (8, 0)]
    assert store.claim(B) == [6]
    assert store.taken(7) is EntryState.DELIVERED
    assert store.put(command(REPORT)) == 9
