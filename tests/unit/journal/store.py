"""An open journal with a clock that a test sets, and short words for what tests do with it."""

from __future__ import annotations

from collections.abc import Sequence

from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries, entries, exported_sql
from pdbclient.journal.model import ANY, Claim, Copy, CopyState, Counts, Entry, EntryState, Listed
from pdbclient.wire.command import Command

START = 1_767_225_600.0
"""The time that `stamp(0)` tells."""
A, B = "https://a.example:8081", "https://b.example:8081"
CATALOG, FACTS, INPUTS, REPORT = "replace catalog", "replace facts", "replace catalog inputs", "store report"
DEACTIVATE, EXPIRE = "deactivate node", "configure expiration"
LEASE = 120.0
ON_DISK = {
    "stamp": "UPDATE entries SET producer_timestamp = '2026-01-01T00:00:X3.000Z' WHERE id = {}",
    "state": "UPDATE entries SET state = 'delivereq' WHERE id = {}",
    "received": "UPDATE entries SET received = 3.26e28 WHERE id = {}",
    "received long ago": "UPDATE entries SET received = 112253500.0 WHERE id = {}",
    "time of a copy": "UPDATE copies SET at = 3.26e28 WHERE entry = {}",
    "copy": "UPDATE copies SET state = 'acceptee' WHERE entry = {}",
}
"""What was damaged on disk of one entry."""


def stamp(number: int) -> str:
    """A producer timestamp, later for greater numbers."""
    return f"2026-01-{1 + number // 86400:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"


def command(name: str = FACTS, certname: str = "node.example", at: int = 0, body: bytes = b'{"a":1}') -> Command:
    return Command.ready(name, 5, certname, stamp(at), body)


class Store:
    """`place` is a file or a URL; `now` what its clock shows."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.now = START
        self.journal = self._opened()

    def _opened(self) -> Journal:
        journal = Journal.open(self.place, lease=LEASE)
        journal.clock = lambda: self.now
        return journal

    def reopen(self) -> None:
        self.journal.close()
        self.journal = self._opened()

    def put(self, command: Command, targets: Sequence[str] = (ANY,)) -> int:
        """Append; nobody sends it, it is due at once."""
        entry = self.journal.append(command, targets).result()
        self.release(entry.id)
        return entry.id

    def release(self, entry: int, target: str | None = None) -> bool:
        return self.journal.run(deliveries.release, entry, self.now, self.journal.owner, target)

    def retry_later(self, entry: int, target: str = ANY) -> None:
        self.journal.run(deliveries.retry_later, entry, target, self.now, self.journal.owner)

    def claim(self, target: str = ANY, limit: int = 100, lease: float = LEASE) -> list[int]:
        return [claim.entry for claim in self.claims(target, limit, lease)]

    def claims(self, target: str = ANY, limit: int = 100, lease: float = LEASE) -> list[Claim]:
        return self.journal.run(deliveries.claim, target, limit, self.now, self.now + lease, self.journal.owner)

    def settle(self, entry: int, *copies: Copy) -> EntryState | None:
        return self.journal.run(deliveries.ack, entry, copies)

    def taken(self, entry: int, server: str = A, uuid: str | None = None) -> EntryState | None:
        return self.settle(entry, Copy(server, CopyState.ACCEPTED, uuid, self.now))

    def rejected(self, entry: int, server: str = A, reason: str = "HTTP 400: bad") -> EntryState | None:
        return self.settle(entry, Copy(server, CopyState.REJECTED, None, self.now, reason))

    def shown(self, *ids: int, server: str = A, itself: bool = True) -> None:
        """The server was seen to have these, or something newer in their place."""
        self.journal.confirm(server, dict.fromkeys(ids, itself))

    def retry(self, entry: int, targets: Sequence[str] = (ANY,)) -> bool:
        return self.journal.run(entries.retry, entry, targets, (A, B))

    def lacking(self, server: str = A, alive_since: float = 0.0) -> list[int]:
        """What is to be sent to a server before it is asked about exported resources."""
        found = self.journal.run(exported_sql.behind, server, self.now, alive_since, 10**9)
        return [entry.id for entry in reversed(found.missing)]

    def show(self, entry: int | str) -> Listed:
        found = self.journal.run(entries.show, str(entry))
        assert found is not None
        return found

    def state(self, entry: int) -> EntryState:
        return self.show(entry).state

    def damage(self, what: str, entry: int) -> None:
        """As if that had become so on disk."""
        self.journal.run(lambda tx: tx.execute(ON_DISK[what].format(entry)))

    def copies(self, entry: int) -> dict[str, CopyState]:
        return {copy.server: copy.state for copy in self.show(entry).copies}

    def fetch(self, entry: int) -> Entry:
        found = self.journal.fetch([entry])[entry]
        assert isinstance(found, Entry), found
        return found

    def ids(self) -> list[int]:
        return [row.id for row in self.journal.run(entries.listing, limit=10_000)]

    def drop(self, *ids: int) -> int:
        return self.journal.run(entries.drop, ids, self.journal.writer)

    def counts(self) -> Counts:
        return self.journal.run(entries.counts)
