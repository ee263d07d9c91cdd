"""Retention and verification. Every function is part of one transaction of `Journal`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from pdbclient.journal.ledger.entries import damage, drop, fetch
from pdbclient.journal.model import ANY, FIRST_MOMENT, LAST_MOMENT, is_moment
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.packing import Damaged

__all__ = ["ROOM", "Verified", "kept_since", "left_behind", "make_room", "prune", "structure", "verify"]

ROOM = 50
"""Entries that are dropped at once when the disk is full."""
PRUNED_BYTES = 64 * 1024 * 1024
"""Bytes that are dropped in one transaction; but always one entry."""

_Row = tuple[int, float, str, int]
"""Id, seconds since 1970 when it was received, command, bytes."""
_COLUMNS = "e.id, e.received, e.name, e.size"

VERIFIED_BYTES = 64 * 1024 * 1024
"""Bytes of stored bodies that are read at once; but always one."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A stretch of the journal that was read again: up to the id `last` (None: to its end), and what is damaged."""

    entries: int
    last: int | None
    damaged: dict[int, str]


def prune(tx: Transaction, before: float, max_bytes: int, limit: int, writer: str, servers: Collection[str]) -> int:
    """Drop at most `limit` entries that are older than `before`, or too many bytes.

    `before` is in seconds since 1970. What is pending, and none of `servers` (URLs) has, is never dropped; all else
    goes by its age, what was called bad, too. Of what they have or had, `max_bytes` are kept; what is over goes as in
    `make_room`: not what only others have that are not configured any more, nor what all that had it call bad now.
    The number dropped, which is no more than others can wait for: while it is not 0, there may be more to do.
    """
    chosen = _old(tx, before, limit, servers)
    if len(chosen) < limit:
        over = _bytes_that_can_go(tx, max_bytes, servers) - max_bytes - sum(row[3] for row in chosen)
        chosen += [row for row in _expendable(tx, over, limit, servers) if row not in set(chosen)][
            : limit - len(chosen)
        ]
    sums = accumulate(row[3] for row in chosen)
    return _retire(tx, chosen[: max(sum(size <= PRUNED_BYTES for size in sums), 1)], writer)


def make_room(tx: Transaction, needed: int, writer: str, servers: Collection[str]) -> int:
    """Drop `needed` bytes of what `servers` (URLs) have, for a disk that is full; the number of entries dropped.

    The oldest first: of reports that every server shows, then of other reports, then of what nodes are rebuilt from.
    None where that makes no room, or not enough.
    """
    chosen = _expendable(tx, needed, ROOM, servers) if tx.reuses_room else []
    return _retire(tx, chosen, writer) if sum(row[3] for row in chosen) >= needed else 0


def kept_since(tx: Transaction) -> dict[str, float]:
    """When the newest entry was received that retention dropped, by command, in seconds since 1970."""
    return dict(tx.rows("SELECT name, received FROM pruned ORDER BY name"))


def left_behind(tx: Transaction, servers: Collection[str]) -> int:
    """How many entries only others than `servers` (URLs) have, which are not configured any more."""
    if not _others(tx, servers):
        return 0
    sql = f"SELECT count(*) FROM entries AS e WHERE e.state = 'delivered' AND NOT {_on(tx)}"
    return int(tx.rows(sql, servers=tx.several(list(servers)))[0][0])


def _bytes_that_can_go(tx: Transaction, enough: int, servers: Collection[str]) -> int:
    """The bytes of what some server has; all bytes, where those are not more than `enough`."""
    total = int(tx.rows("SELECT coalesce(sum(bytes), 0) FROM sizes")[0][0])
    if total <= enough:
        return total
    alone = f"e.state = 'parked' OR e.state = 'pending' AND NOT {_on(tx)}"
    if _others(tx, servers):  # else all that is delivered can go, and need not be read
        alone += f" OR e.state = 'delivered' AND NOT {_on(tx)}"
    sql = f"SELECT coalesce(sum(e.size), 0) FROM entries AS e WHERE {alone}"
    return total - int(tx.rows(sql, servers=tx.several(list(servers)))[0][0])


def _on(tx: Transaction) -> str:
    """The condition that one of `:servers` has the entry `e`."""
    return (
        "EXISTS (SELECT 1 FROM copies WHERE copies.entry = e.id AND copies.state <> 'rejected'"
        f" AND copies.server {tx.among('servers')})"
    )


def _others(tx: Transaction, servers: Collection[str]) -> bool:
    """Whether others than `servers` have something."""
    for state in ("accepted", "confirmed"):
        # One after the other, without reading all copies. The state stands in the text: only then is the index used.
        sql = f"SELECT min(server) FROM copies WHERE state = '{state}' AND server > :server"
        server = ""
        while (server := tx.rows(sql, server=server)[0][0]) is not None:
            if server not in servers:
                return True
    return False


def _old(tx: Transaction, before: float, limit: int, servers: Collection[str]) -> list[_Row]:
    """The oldest of those put in before then that may go."""
    states = {"delivered": "", "parked": ""}
    if tx.rows("SELECT 1 FROM deliveries WHERE target > :any LIMIT 1", any=ANY):
        states["pending"] = f" AND {_on(tx)}"  # else there is none: any server will do, and has not taken it
    found: list[_Row] = []
    for state, condition in states.items():
        found += tx.rows(
            f"SELECT {_COLUMNS} FROM entries AS e WHERE e.state = '{state}' AND e.received < :before{condition}"
            " ORDER BY e.received, e.id LIMIT :limit",
            before=before,
            limit=limit,
            servers=tx.several(list(servers)),
        )
    return sorted(found)[:limit]


def _expendable(tx: Transaction, needed: int, limit: int, servers: Collection[str]) -> list[_Row]:
    """At most `limit` entries that servers have, of `needed` bytes, in the order of `make_room`."""
    chosen: dict[int, _Row] = {}
    reports = partial(_had, condition=" AND e.name = 'store report'")
    for some in (_shown_by_all, reports, _had):
        for row in some(tx, limit, sorted(servers)) if needed > 0 else ():
            if needed > 0 and len(chosen) < limit and row[0] not in chosen:
                chosen[row[0]] = row
                needed -= row[3]
    return list(chosen.values())


def _shown_by_all(tx: Transaction, limit: int, servers: Sequence[str]) -> list[_Row]:
    sql = "SELECT min(entry) FROM copies WHERE server = :server AND state = 'confirmed'"
    first = {server: tx.rows(sql, server=server)[0][0] for server in servers}
    # Not of those that are never asked, or are new.
    servers = [server for server in servers if first[server] is not None]
    if not servers:
        return []
    return tx.rows(
        f"SELECT {_COLUMNS} FROM copies JOIN entries AS e ON e.id = copies.entry"
        # Of the first of one server's: all of them would take long where another server shows few.
        " WHERE copies.entry IN (SELECT entry FROM copies WHERE server = :server AND state = 'confirmed'"
        "  AND entry >= :first ORDER BY entry LIMIT :looked) AND copies.server = :server AND e.name = 'store report'"
        " AND (SELECT count(*) FROM copies AS each WHERE each.entry = copies.entry AND each.state = 'confirmed'"
        f"  AND each.server {tx.among('servers')}) = :number ORDER BY copies.entry LIMIT :limit",
        server=servers[0],
        servers=tx.several(servers),
        number=len(servers),
        first=max(first[server] for server in servers),
        looked=100 * limit,
        limit=limit,
    )


def _had(tx: Transaction, limit: int, servers: Sequence[str], condition: str = "") -> list[_Row]:
    """The oldest entries that some server has, also those that are pending for another one."""
    found = tx.rows(
        f"SELECT {_COLUMNS} FROM entries AS e WHERE e.state = 'delivered' AND {_on(tx)}{condition}"
        " ORDER BY e.received, e.id LIMIT :limit",
        servers=tx.several(servers),
        limit=limit,
    )
    for server in servers:
        for state in ("accepted", "confirmed"):
            found += tx.rows(
                # The state stands in the text: only then is the partial index used.
                f"SELECT {_COLUMNS} FROM copies JOIN entries AS e ON e.id = copies.entry"
                f" WHERE copies.server = :server AND copies.state = '{state}'{condition}"
                " ORDER BY copies.entry LIMIT :limit",
                server=server,
                limit=limit,
            )
    return sorted(set(found))[:limit]


def _retire(tx: Transaction, rows: Sequence[_Row], writer: str) -> int:
    newest: dict[str, float] = {}
    for _, received, name, _ in rows:
        if is_moment(received):
            newest[name] = max(received, newest.get(name, received))
    for name, received in sorted(newest.items()):
        tx.execute(
            "INSERT INTO pruned (name, received) VALUES (:name, :received) ON CONFLICT (name) DO UPDATE"
            " SET received = excluded.received WHERE excluded.received > pruned.received"
            " OR NOT pruned.received BETWEEN :first AND :last",
            name=name,
            received=received,
            first=FIRST_MOMENT,
            last=LAST_MOMENT,
        )
    return drop(tx, [row[0] for row in rows], writer)


def structure(tx: Transaction) -> list[str]:
    """What is wrong with the database itself: damage that no checksum of an entry can show. Reads all of it."""
    wrong = [
        f"{name} was dropped until {at!r}, which is no time"
        for name, at in kept_since(tx).items()
        if not is_moment(at)
    ]
    return tx.damage() + wrong


def verify(tx: Transaction, after: int, limit: int) -> Verified:
    """Read at most `limit` entries after the id `after`, or `VERIFIED_BYTES`, and compare their checksums.

    What is not in a checksum must be something that can be, at least.
    """
    sql = "SELECT id, coalesce(length(body), 0) FROM entries WHERE id > :after ORDER BY id LIMIT :limit"
    rows = tx.rows(sql, after=after, limit=limit)
    sums = accumulate(size for _, size in rows)
    ids = [entry for entry, _ in rows[: max(sum(size <= VERIFIED_BYTES for size in sums), 1)]]
    found = fetch(tx, ids)
    damaged = damage(tx, ids)
    # In an index, and not in the table, or the other way round.
    damaged |= {entry: f"entry {entry}: cannot be found again" for entry in ids if entry not in found}
    damaged |= {entry: str(each) for entry, stored in found.items() if isinstance(each := stored.unpacked(), Damaged)}
    ended = len(ids) == len(rows) < limit
    return Verified(len(ids), None if ended else ids[-1], damaged)
