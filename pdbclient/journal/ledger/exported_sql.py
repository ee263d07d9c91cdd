"""What a server is behind in, of the commands that decide about exported resources. One transaction of `Journal`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pdbclient.http.staleness import Freshness
from pdbclient.journal.ledger import entries, holdings
from pdbclient.journal.model import Listed
from pdbclient.journal.store.database import Transaction

__all__ = ["DECIDING", "STILL_ALIVE", "TOLD", "Behind", "advance", "behind", "enrol", "forget", "still_missing"]

DECIDING = ("replace catalog", "deactivate node")
"""The commands that decide what a query of exported resources gives."""

STILL_ALIVE = 7 * 86400.0
"""Seconds, PuppetDB's default node-ttl: a node without a newer catalog has expired, and must not live again."""

TOLD = 1.0
"""Seconds: what a server took later than that after it was put in, others may have known before."""

PAGE = 1000

_UNDER_WAY = (
    "EXISTS (SELECT 1 FROM deliveries AS d"
    " WHERE d.entry = {entry} AND d.tries = 0 AND d.owner <> '' AND d.due > :now)"
)


_IGNORED = (
    "EXISTS (SELECT 1 FROM copies AS c WHERE c.entry = {entry} AND c.server = :server"
    " AND (c.state = 'accepted' AND c.at < :taken_since OR c.state = 'rejected'))"
)
"""It was taken, and PuppetDB made nothing of it; or called bad."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Where the journal ends (`top`), and what a server needs of it: `missing` is to be sent, `awaited` was taken.

    `resets` changes when something older counts again than what was looked at before; None: the server is not
    enrolled.
    """

    top: int
    resets: int | None
    missing: Sequence[Listed] = ()
    awaited: Sequence[Listed] = ()

    @property
    def entries(self) -> Sequence[Listed]:
        """Both."""
        return (*self.missing, *self.awaited)

    @property
    def freshness(self) -> Freshness:
        """What an answer lacks that the server gives now."""
        return Freshness(len(self.entries), min((entry.producer_timestamp for entry in self.entries), default=None))


def enrol(tx: Transaction, servers: Sequence[str]) -> None:
    """From now on it is written down how far each of `servers` is."""
    for server in servers:
        sql = "INSERT INTO replicas (server, after, resets) VALUES (:server, 0, 0) ON CONFLICT (server) DO NOTHING"
        tx.rows(sql, server=server)


def forget(tx: Transaction, server: str) -> None:
    """It is not known any more what `server` has of what decides: it is looked at again, and asked."""
    tx.rows("UPDATE replicas SET after = 0, resets = resets + 1 WHERE server = :server", server=server)
    tx.rows(
        "DELETE FROM copies WHERE server = :server AND state = 'confirmed'"
        f" AND entry IN (SELECT entry FROM newest WHERE name {tx.among('names')})",
        server=server,
        names=tx.several(DECIDING),
    )


def advance(tx: Transaction, server: str, after: int, resets: int) -> None:
    """Note that `server` has what was put in up to the id `after`, unless something older counts again since."""
    sql = "UPDATE replicas SET after = :after WHERE server = :server AND resets = :resets AND after < :after"
    tx.rows(sql, server=server, after=after, resets=resets)


def behind(tx: Transaction, server: str, now: float, aged: float, patience: float) -> Behind:
    """What `server` needs, beyond what it was noted to have: in pages, the newest first.

    What it took and does not show is awaited for `patience` seconds; then the one before it counts. `aged` is the
    time by which nodes expire. Times are in seconds since 1970.
    """
    noted = tx.rows("SELECT after, resets FROM replicas WHERE server = :server", server=server)
    after, resets = noted[0] if noted else (0, None)
    top, since, taken_since = holdings.newest_id(tx), aged - STILL_ALIVE, now - patience
    missing = holdings.lacking(tx, server, DECIDING, after, PAGE, now, since)
    missing += _overtaken(tx, server, after, now, since, taken_since)
    awaited = _awaited(tx, server, after, taken_since)
    return Behind(top, resets, entries.listed(tx, missing), entries.listed(tx, awaited))


def still_missing(tx: Transaction, server: str, entry: int) -> entries.Stored | None:
    """An entry to be sent, in whole; None when `server` got it meanwhile from somebody else, or it was dropped."""
    if tx.rows("SELECT 1 FROM copies WHERE entry = :entry AND server = :server", entry=entry, server=server):
        return None
    return entries.fetch(tx, [entry]).get(entry)


def _overtaken(tx: Transaction, server: str, after: int, now: float, since: float, taken_since: float) -> list[int]:
    """What `server` lacks of those nodes whose newest entry does not count: it is under way for the first time, or
    the server made nothing of it."""
    rows = tx.rows(
        "SELECT id FROM (SELECT (SELECT older.id FROM entries AS older"
        "  WHERE older.certname = newest.certname AND older.name = newest.name AND older.state <> 'parked'"
        f"  AND NOT {_UNDER_WAY.format(entry='older.id')} AND NOT {_IGNORED.format(entry='older.id')}"
        "  ORDER BY older.producer_timestamp DESC, older.id DESC LIMIT 1) AS id"
        f" FROM newest WHERE newest.entry > :after AND newest.name {tx.among('names')}"
        f" AND ({_UNDER_WAY.format(entry='newest.entry')} OR {_IGNORED.format(entry='newest.entry')})) AS overtaken"
        " WHERE id > :after AND NOT EXISTS (SELECT 1 FROM copies WHERE copies.entry = id AND copies.server = :server)"
        " AND EXISTS (SELECT 1 FROM entries WHERE entries.id = overtaken.id AND entries.received >= :since)",
        after=after,
        names=tx.several(DECIDING),
        server=server,
        now=now,
        since=since,
        taken_since=taken_since,
    )
    return [entry for (entry,) in rows]


def _awaited(tx: Transaction, server: str, after: int, taken_since: float) -> list[int]:
    """What `server` took after somebody had been told of it, or another server had it, and is not seen there.

    It is the same for whoever gave it: this process or another, now or before a restart.
    """
    rows = tx.rows(
        # The state stands in the text: only then is the partial index used.
        "SELECT here.entry FROM copies AS here JOIN entries ON entries.id = here.entry"
        " JOIN newest ON newest.certname = entries.certname AND newest.name = entries.name"
        " WHERE here.server = :server AND here.state = 'accepted' AND here.entry > :after"
        f" AND here.at >= :taken_since AND newest.entry = here.entry AND newest.name {tx.among('names')}"
        " AND (here.at > entries.received + :told OR EXISTS (SELECT 1 FROM copies AS there"
        "  WHERE there.entry = here.entry AND there.server <> here.server"
        "  AND (there.state = 'confirmed' OR there.state = 'accepted' AND there.at <= here.at)))"
        " ORDER BY here.entry DESC LIMIT :limit",
        server=server,
        after=after,
        taken_since=taken_since,
        names=tx.several(DECIDING),
        told=TOLD,
        limit=PAGE,
    )
    return [entry for (entry,) in rows]
