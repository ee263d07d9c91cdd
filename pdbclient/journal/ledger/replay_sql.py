"""What there is to replay, in pages. Every function is part of one short transaction of `Journal`.

Short, because a gateway may be at work on the same journal, and waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pdbclient.journal.ledger.entries import damage, listed
from pdbclient.journal.model import REPLACED, Listed
from pdbclient.journal.store.database import Transaction

__all__ = ["EXPIRED", "Extent", "Page", "before", "expired", "extent", "newest_page", "overtaken", "reports_page"]

Extent = tuple[int, int, int]

_NAMES = "'replace catalog', 'replace facts', 'replace catalog inputs', 'store report'"

# The names stand in the text: so the index of a node is used up to the time, and not its history read.
EXPIRED = f"""(
    own.name <> 'deactivate node'
    AND NOT EXISTS (
        SELECT 1 FROM entries AS young WHERE young.certname = own.certname
        AND young.name IN ({_NAMES}) AND young.producer_timestamp >= :since
    )
    AND NOT EXISTS (
        SELECT 1 FROM entries AS dead WHERE dead.certname = own.certname
        AND dead.name = 'deactivate node' AND dead.producer_timestamp >= own.producer_timestamp
    )
    AND NOT EXISTS (
        SELECT 1 FROM entries AS kept WHERE kept.certname = own.certname AND kept.name = 'configure expiration'
    )
)"""
"""Whether the entry `own` is of a node that has expired as of the producer timestamp `:since`: see `expired`."""


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, and what is wrong with those that cannot be read; the next page begins after the id `after`.

    `after` is None for the last page.
    """

    entries: Sequence[Listed]
    damaged: Sequence[str]
    after: int | None


def extent(tx: Transaction) -> Extent:
    """The first and the last id, and the number of entries that count as the newest of a node."""
    # Each by itself: both in one would read all of the table.
    first = tx.rows("SELECT coalesce(min(id), 0) FROM entries")[0][0]
    last = tx.rows("SELECT coalesce(max(id), 0) FROM entries")[0][0]
    return int(first), int(last), int(tx.rows("SELECT count(*) FROM newest")[0][0])


def newest_page(tx: Transaction, names: Sequence[str], after: int, until: int, limit: int) -> Page:
    """Newest entries of nodes for the commands `names`, with ids above `after` up to `until`, at most `limit`.

    Without those that servers called bad, and deactivations of nodes that have sent something since.
    """
    sql = (
        f"SELECT entry FROM newest WHERE entry > :after AND entry <= :until AND name {tx.among('names')}"
        " AND (name <> 'deactivate node' OR NOT EXISTS (SELECT 1 FROM newest AS alive"
        f"  WHERE alive.certname = newest.certname AND alive.name IN ({_NAMES})"
        "  AND alive.producer_timestamp > newest.producer_timestamp))"
        " ORDER BY entry LIMIT :limit"
    )
    rows = tx.rows(sql, after=after, until=until, names=tx.several(names), limit=limit)
    ids = [entry for (entry,) in rows]
    # One that is parked counts no more, but its row may still say so.
    found = [entry for entry in listed(tx, ids) if entry.state != "parked"]
    return Page(found, _damaged(tx, ids), ids[-1] if len(ids) == limit else None)


def reports_page(tx: Transaction, after: int, until: int, limit: int) -> Page:
    """The reports among the `limit` ids after `after`, up to `until`. As `newest_page`."""
    end = min(after + limit, until)
    # By the range of ids, however few of them are reports: the time that a page takes has a bound.
    rows = tx.rows(
        "SELECT id FROM entries WHERE id > :after AND id <= :end AND name = 'store report' AND state <> 'parked'",
        after=after,
        end=end,
    )
    ids = [entry for (entry,) in rows]
    return Page(listed(tx, ids), _damaged(tx, ids), end if end < until else None)


def before(tx: Transaction, ids: Sequence[int]) -> list[Listed]:
    """What counts when these entries do not: of each, where it is replaced, the one before it."""
    names = ", ".join(f"'{name}'" for name in REPLACED)
    rows = tx.rows(
        "SELECT (SELECT older.id FROM entries AS older"
        "  WHERE older.certname = own.certname AND older.name = own.name"
        "  AND older.state <> 'parked' AND older.void = 0 AND (older.producer_timestamp < own.producer_timestamp"
        "   OR older.producer_timestamp = own.producer_timestamp AND older.id < own.id)"
        "  ORDER BY older.producer_timestamp DESC, older.id DESC LIMIT 1)"
        f" FROM entries AS own WHERE own.id {tx.among('ids')} AND own.name IN ({names})",
        ids=tx.several(ids),
    )
    return listed(tx, [entry for (entry,) in rows if entry is not None])


def overtaken(tx: Transaction, ids: Sequence[int], taken_since: float) -> set[int]:
    """Those of these deactivations whose nodes have sent something since that a server shows.

    Or took at `taken_since` (seconds since 1970) or later, so that it may show it yet.
    """
    rows = tx.rows(
        f"SELECT own.id FROM entries AS own WHERE own.id {tx.among('ids')} AND EXISTS ("
        "  SELECT 1 FROM entries AS young WHERE young.certname = own.certname"
        f" AND young.name IN ({_NAMES}) AND young.producer_timestamp > own.producer_timestamp"
        "  AND young.void = 0 AND EXISTS (SELECT 1 FROM copies AS c WHERE c.entry = young.id"
        "   AND (c.state = 'confirmed' OR c.state = 'accepted' AND c.at >= :taken_since)))",
        ids=tx.several(ids),
        taken_since=taken_since,
    )
    return {entry for (entry,) in rows}


def expired(tx: Transaction, ids: Sequence[int], since: str) -> set[int]:
    """Those of these entries that would bring a node to life again of which there is nothing as of `since` or later.

    `since` is a producer timestamp. Not among them are deactivations, what is older than the deactivation of its
    node, and nodes whose expiration was configured: PuppetDB does not expire by their age those that never shall.
    """
    sql = f"SELECT own.id FROM entries AS own WHERE own.id {tx.among('ids')} AND {EXPIRED}"
    rows = tx.rows(sql, ids=tx.several(ids), since=since)
    return {entry for (entry,) in rows}


def _damaged(tx: Transaction, ids: Sequence[int]) -> list[str]:
    return list(damage(tx, ids).values())
