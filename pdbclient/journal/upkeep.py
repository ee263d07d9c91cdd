"""Retention and verification. Every function is part of one transaction of `Journal`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from pdbclient.journal.database import Transaction
from pdbclient.journal.entries import drop, fetch
from pdbclient.journal.packing import Damaged

__all__ = ["Verified", "prune", "structure", "verify"]


VERIFIED_BYTES = 64 * 1024 * 1024
"""Bytes of stored bodies that are read at once; but always one."""


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
    """Read at most `limit` entries after the id `after`, or `VERIFIED_BYTES`, and compare their checksums."""
    sql = "SELECT id, coalesce(length(body), 0) FROM entries WHERE id > :after ORDER BY id LIMIT :limit"
    rows = tx.rows(sql, after=after, limit=limit)
    sums = accumulate(size for _, size in rows)
    ids = [entry for entry, _ in rows[: max(sum(size <= VERIFIED_BYTES for size in sums), 1)]]
    found = fetch(tx, ids)
    damaged = {entry: str(each) for entry in ids if isinstance(each := found[entry].unpacked(), Damaged)}
    ended = len(ids) == len(rows) < limit
    return Verified(len(ids), None if ended else ids[-1], damaged)
