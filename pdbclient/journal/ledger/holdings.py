"""What each server has of the journal. Every function is part of one transaction of `Journal`."""

from __future__ import annotations

from pdbclient.journal.ledger.entries import listed
from pdbclient.journal.model import CATALOG, LATE, Listed
from pdbclient.journal.store.database import Transaction

__all__ = ["confirmed", "newest", "newest_id", "some_confirmed", "taken_catalogs", "unconfirmed"]

LAST = 20
"""Entries that may be the last one: some may be damaged."""


def newest_id(tx: Transaction) -> int:
    """The id of the last entry that was put in; 0 for an empty journal."""
    return int(tx.rows("SELECT coalesce(max(id), 0) FROM entries")[0][0])


def newest(tx: Transaction) -> Listed | None:
    """The last entry that was put in and is not damaged; None where there is none among the last ones."""
    ids = tx.rows("SELECT id FROM entries ORDER BY id DESC LIMIT :limit", limit=LAST)
    found = listed(tx, [entry for (entry,) in ids])
    return found[-1] if found else None


def taken_catalogs(tx: Transaction, server: str, limit: int) -> list[Listed]:
    """The newest catalogs, at most `limit`, that `server` took or was seen to hold, of nodes that sent none since."""
    rows = tx.rows(
        "SELECT newest.entry FROM newest JOIN copies ON copies.entry = newest.entry"
        " WHERE newest.name = :name AND copies.server = :server AND copies.state <> 'rejected'"
        " ORDER BY newest.entry DESC LIMIT :limit",
        name=CATALOG,
        server=server,
        limit=limit,
    )
    return listed(tx, [entry for (entry,) in rows])


def unconfirmed(tx: Transaction, server: str, after: int, before: float, limit: int) -> list[Listed]:
    """Entries with ids above `after` that `server` accepted before `before` and was not seen to hold, by id.

    `before` is in seconds since 1970. What was accepted long after that was so by a clock that has been set back.
    """
    rows = tx.rows(
        # The state stands in the text: only then is the partial index used.
        "SELECT entry FROM copies WHERE server = :server AND state = 'accepted' AND entry > :after"
        " AND (at < :before OR at > :never) ORDER BY entry LIMIT :limit",
        server=server,
        after=after,
        before=before,
        never=before + LATE,
        limit=limit,
    )
    return listed(tx, [entry for (entry,) in rows])


def confirmed(tx: Transaction, server: str, until: int, limit: int) -> list[Listed]:
    """The newest entries, at most `limit` of those with ids up to `until`, that `server` was seen to hold; by id.

    Without damaged ones; none: there are no more.
    """
    while True:
        rows = tx.rows(
            "SELECT entry FROM copies WHERE server = :server AND state = 'confirmed' AND entry <= :until"
            " ORDER BY entry DESC LIMIT :limit",
            server=server,
            until=until,
            limit=limit,
        )
        found = listed(tx, [entry for (entry,) in rows])
        if found or len(rows) < limit:
            return found
        until = rows[-1][0] - 1


def some_confirmed(tx: Transaction, server: str, after: int, until: int, limit: int) -> list[Listed]:
    """Of the entries with ids above `after` and up to `until` that `server` was seen to hold at most `limit`; by id.

    As even in their ids as there are any, so that what a server lost of a while is among them. Without damaged ones.
    """
    sql = (
        "SELECT max(entry) FROM copies WHERE server = :server AND state = 'confirmed'"
        " AND entry > :after AND entry <= :until"
    )
    places = {until - (until - after) * n // limit for n in range(limit)}
    found = {tx.rows(sql, server=server, after=after, until=place)[0][0] for place in places if place > after}
    return listed(tx, sorted(found - {None}))
