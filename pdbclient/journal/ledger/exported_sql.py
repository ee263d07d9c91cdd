"""What a server is behind in, of the commands that decide about exported resources. One transaction of `Journal`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pdbclient.http.staleness import Freshness
from pdbclient.journal.ledger import entries, holdings
from pdbclient.journal.ledger.replay_sql import EXPIRED, overtaken
from pdbclient.journal.model import DEACTIVATION, DECIDING, Listed
from pdbclient.journal.store.database import Transaction
from pdbclient.wire.timestamp import from_millis

__all__ = ["Behind", "advance", "behind", "enrol", "forget", "to_send"]

PAGE = 1000

_REVIVES = """(
    newest.name IN ('replace facts', 'replace catalog inputs') AND EXISTS (
        SELECT 1 FROM newest AS dead WHERE dead.certname = newest.certname AND dead.name = 'deactivate node'
        AND dead.producer_timestamp < newest.producer_timestamp
        AND NOT EXISTS (
            SELECT 1 FROM newest AS alive WHERE alive.certname = dead.certname AND alive.name = 'replace catalog'
            AND alive.producer_timestamp > dead.producer_timestamp
        )
    )
)"""
"""What made a deactivated node active again, whose last catalog then counts again: it has sent no newer one yet.

A report does the same, but none comes without facts before it.
"""

_OPEN = f"""
SELECT own.id, here.state FROM (
    SELECT (
        SELECT one.id FROM entries AS one
        WHERE one.certname = newest.certname AND one.name = newest.name AND one.state <> 'parked'
        -- Not what nobody was told of yet: its first attempt is under way, and no server has taken it.
        AND NOT (
            EXISTS (
                SELECT 1 FROM deliveries AS d
                WHERE d.entry = one.id AND d.tries = 0 AND d.owner <> '' AND d.due > :now
            )
            AND NOT EXISTS (SELECT 1 FROM copies AS c WHERE c.entry = one.id AND c.state <> 'rejected')
        )
        -- Nor what the server called bad, or took and made nothing of.
        AND NOT EXISTS (
            SELECT 1 FROM copies AS c WHERE c.entry = one.id AND c.server = :server
            AND (c.state = 'accepted' AND c.at < :taken_since OR c.state = 'rejected')
        )
        ORDER BY one.producer_timestamp DESC, one.id DESC LIMIT 1
    ) AS id
    FROM newest WHERE newest.entry > :after AND (newest.name {{names}} OR {_REVIVES})
    AND NOT EXISTS (
        SELECT 1 FROM copies AS c
        WHERE c.entry = newest.entry AND c.server = :server AND c.state = 'confirmed'
    )
) AS counts
JOIN entries AS own ON own.id = counts.id
LEFT JOIN copies AS here ON here.entry = own.id AND here.server = :server
WHERE own.id > :after AND (
    here.state IS NULL AND NOT (own.received < :received_since AND {EXPIRED})
    OR here.state = 'accepted' AND (
        here.reason <> ''
        OR EXISTS (
            SELECT 1 FROM copies AS c WHERE c.entry = own.id AND c.server <> :server
            AND (c.state = 'confirmed' OR c.state = 'accepted' AND c.at <= here.at)
        )
        OR EXISTS (
            SELECT 1 FROM entries AS old JOIN copies AS c ON c.entry = old.id
            WHERE old.certname = own.certname AND old.name = own.name
            AND (old.producer_timestamp < own.producer_timestamp
                OR old.producer_timestamp = own.producer_timestamp AND old.id < own.id)
            AND c.server <> :server AND c.state <> 'rejected'
            AND NOT EXISTS (
                SELECT 1 FROM copies AS mine
                WHERE mine.entry = old.id AND mine.server = :server AND mine.state = 'confirmed'
            )
        )
    )
)
ORDER BY own.id DESC LIMIT :limit
"""
"""Of each node, the entry that counts for a server, where that lacks it, or took it and has to show it.

What nobody can have seen elsewhere it need not show: it took that before anybody was told, nobody else has it, and it
has what others had before. All states stand in the text: only then are the partial indexes used.
"""


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
        tx.execute(sql, server=server)


def forget(tx: Transaction, server: str) -> None:
    """It is not known any more what `server` has of what decides: it is looked at again, and asked.

    What it took, and was not seen to have, may be lost as well; sent again, it is the same.
    """
    tx.execute("UPDATE replicas SET after = 0, resets = resets + 1 WHERE server = :server", server=server)
    tx.execute(
        "DELETE FROM copies WHERE server = :server AND state <> 'rejected'"
        f" AND entry IN (SELECT entry FROM newest WHERE name {tx.among('names')})",
        server=server,
        names=tx.several(DECIDING),
    )


def advance(tx: Transaction, server: str, after: int, resets: int) -> None:
    """Note that `server` has what was put in up to the id `after`, unless something older counts again since."""
    sql = "UPDATE replicas SET after = :after WHERE server = :server AND resets = :resets AND after < :after"
    tx.execute(sql, server=server, after=after, resets=resets)


def behind(tx: Transaction, server: str, now: float, alive_since: float, patience: float) -> Behind:
    """What `server` needs, beyond what it was noted to have: in pages, the newest first.

    What it took and does not show is awaited for `patience` seconds; then the one before it counts. A deactivation is
    not among it where the node has sent something newer: PuppetDB may work off both at once (see `work.seen`). Nodes
    of which nothing is younger than `alive_since` have expired, and must not live again. Times are in seconds since
    1970.
    """
    noted = tx.rows("SELECT after, resets FROM replicas WHERE server = :server", server=server)
    after, resets = noted[0] if noted else (0, None)
    # What is put in later is looked at the next time.
    top = holdings.newest_id(tx)
    rows = tx.rows(
        _OPEN.format(names=tx.among("names")),
        server=server,
        after=after,
        names=tx.several(DECIDING),
        now=now,
        received_since=alive_since,
        since=from_millis(int(alive_since * 1000)),
        taken_since=now - patience,
        limit=PAGE,
    )
    missing, awaited = (
        entries.listed(tx, [entry for entry, state in rows if (state is None) is lacks]) for lacks in (True, False)
    )
    alive: dict[str, str] = {}
    for entry in (*missing, *awaited):
        if entry.name != DEACTIVATION:
            alive[entry.certname] = max(entry.producer_timestamp, alive.get(entry.certname, ""))
    dead = [entry for entry in missing if entry.name == DEACTIVATION]
    moot = {entry.id for entry in dead if alive.get(entry.certname, "") > entry.producer_timestamp}
    moot |= overtaken(tx, [entry.id for entry in dead], now - patience)
    return Behind(top, resets, [entry for entry in missing if entry.id not in moot], awaited)


def to_send(tx: Transaction, server: str, entry: int, again: bool) -> entries.Stored | None:
    """An entry to be sent, in whole; None when `server` got it meanwhile from somebody else, or it was dropped.

    `again`: although the server took it.
    """
    sql = "SELECT 1 FROM copies WHERE entry = :entry AND server = :server"
    if not again and tx.rows(sql, entry=entry, server=server):
        return None
    return entries.fetch(tx, [entry]).get(entry)
