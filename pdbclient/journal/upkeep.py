"""Retention and verification. Every function is part of one transaction of `Journal`."""

from __future__ import annotations

from dataclasses import dataclass

from pdbclient.journal.database import Transaction
from pdbclient.journal.entries import drop, fetch
from pdbclient.journal.packing import Damaged

__all__ = ["Verified", "prune", "structure", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """A stretch of the journal that was read again: up to the id `last` (None: to its end), and what is damaged."""

    entries: int
    last: int | None
    damaged: dict[int, str]


def prune(tx: Transaction, before: float, max_bytes: int, limit: int, writer: str) -> int:
    """Drop at most `limit` entries that some server has and that are older than `before`, or too many bytes.

    `before` is in seconds since 1970. What no server has is never dropped. The number dropped: `limit` means that
    there may be more to do.
    """
    size = int(tx.rows("SELECT coalesce(sum(bytes), 0) FROM sizes")[0][0])
    going = []
    for state in ("delivered", "superseded"):
        rows = tx.rows(
            f"SELECT id, received, size FROM entries WHERE state = '{state}' ORDER BY id LIMIT :limit", limit=limit
        )
        going += rows
    chosen = []
    for entry, received, bytes_ in sorted(going)[:limit]:
        if received >= before and size <= max_bytes:
            break
        chosen.append(entry)
        size -= bytes_
    return drop(tx, chosen, writer)


def structure(tx: Transaction) -> list[str]:
    """What is wrong with the database itself: damage that no checksum of an entry can show. Reads all of it."""
    return tx.damage()


def verify(tx: Transaction, after: int, limit: int) -> Verified:
    """Read the `limit` entries after the id `after` and compare their checksums."""
    ids = [
        entry
        for (entry,) in tx.rows(
            "SELECT id FROM entries WHERE id > :after ORDER BY id LIMIT :limit", after=after, limit=limit
        )
    ]
    found = fetch(tx, ids)
    damaged = {entry: str(each) for entry, each in sorted(found.items()) if isinstance(each, Damaged)}
    return Verified(len(ids), ids[-1] if len(ids) == limit else None, damaged)
