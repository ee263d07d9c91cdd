"""An open journal: whatever is to be written goes through a thread which commits for all who wait, or several.

Every wait for it ends: with the seconds that whoever waits has, else with those of the journal itself.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from pdbclient.config.journal_place import without_password
from pdbclient.errors import JournalError
from pdbclient.journal.ledger import deliveries, entries
from pdbclient.journal.model import Entry, Listed
from pdbclient.journal.place import driver_fault
from pdbclient.journal.store.committer import Committer, Outage
from pdbclient.journal.store.database import Database, Transaction, Unreachable
from pdbclient.journal.store.packing import Damaged, pack
from pdbclient.journal.store.sqlite import SqliteDatabase
from pdbclient.wire.command import Command

__all__ = ["Journal"]

log = logging.getLogger("pdbclient.journal")

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that anybody waits for the journal at most."""
OPENING = 600.0
"""Seconds that a journal may take to be opened: all that is pending in it is looked at."""
READ_SILENCE = 2.5
"""Seconds that a transaction may take before nobody waits any more who only reads: there is an answer without."""
CONFIRMED = 100
"""Entries that are confirmed in one transaction: several statements for each."""
CONNECTIONS = 6
"""To a PostgreSQL that is written to, at most; one that is near has one as a rule."""
BODIES = 20
BODY_BYTES = 32 * 1024 * 1024
"""Entries that are read at once to be sent one after the other, and bytes of them as they are stored; always one."""


class Journal:
    """A journal on `database`. Thread-safe; not to be used in a forked child.

    `reader` is the same database once more, for what only reads and may take long: it waits for no writer there, and
    holds none up. `more` are the same once more for what is written, where several at once can. `clock` gives
    seconds since 1970. `lease` is how long, in seconds, whoever appends or claims an entry has for it before another
    process may deliver it. `patience` is how many seconds anybody waits at most (None: as long as it takes). `owner`
    names this process where work is under way.
    """

    def __init__(
        self,
        database: Database,
        reader: Database | None = None,
        *,
        more: Sequence[Database] = (),
        lease: float = 120.0,
        patience: float | None = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.lease = lease
        self.writer = socket.gethostname()
        self.owner = f"{self.writer}/{os.getpid()}"
        self._patience = patience
        self._lock = threading.Lock()
        self._holders = 1
        outage = Outage()
        self._commits = Committer(database, "pdbclient-journal", outage, more)
        try:
            self._reads = None if reader is None else Committer(reader, "pdbclient-journal-reads", outage)
        except BaseException:
            self._commits.close()
            raise

    @classmethod
    def open(
        cls, location: str, *, beside: bool = False, lease: float = 120.0, patience: float | None = PATIENCE
    ) -> Self:
        """The journal at `location`: a file's path, or a `postgresql://` URL. It is made when it is missing.

        A file belongs to one process at a time; `beside` it, another may look and mend, in short transactions.
        Raises `JournalError` and its kinds.
        """
        if "://" in location:
            if (why := driver_fault()) is not None:
                raise JournalError(f"{without_password(location)}: {why}")
            # Imported here: a site whose journal is a file needs no driver for PostgreSQL.
            from pdbclient.journal.store.postgresql import PostgresqlDatabase

            with ExitStack() as opened:

                def connection(**options: Any) -> PostgresqlDatabase:
                    made = PostgresqlDatabase(location, **options)
                    opened.callback(made.close)
                    return made

                shared, reader = connection(), connection(isolation="repeatable read")
                more = [connection(number=number) for number in range(1, CONNECTIONS)]
                journal = cls(shared, reader, more=more, lease=lease, patience=patience, clock=shared.clock)
                opened.pop_all()
            return journal
        # No reader: in a file, a commit waits until nobody reads.
        journal = cls(SqliteDatabase(Path(location), beside=beside), lease=lease, patience=patience)
        if not beside:
            try:
                _outcome(journal.start(deliveries.forget_owners), OPENING)
            except BaseException:
                journal.close()
                raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self, lease: float) -> Self:
        """The same journal for one more holder, with this `lease` from now on; each of them closes it."""
        with self._lock:
            self._holders += 1
            self.lease = lease
        return self

    @property
    def answers(self) -> bool:
        """Whether the database answers, as far as is known. While it does not, everything here fails at once."""
        return self._commits.down is None

    def append(
        self, command: Command, targets: Sequence[str], work: Callable[..., Entry] = entries.append
    ) -> Future[Entry]:
        """Put `command` in, pending for `targets`; done when it is on disk. Whoever calls this sends it first.

        `work` is in the place of `entries.append`.
        """
        packed, now = pack(command), self.clock()
        args = (packed, tuple(targets), now, now + self.lease, self.owner, self.writer)
        return self._commits.start(partial(_called, work, args, {}), new=True)

    def fetch(self, ids: Sequence[int]) -> dict[int, Entry | Damaged]:
        """These entries as far as they are still there; `Damaged` in the place of one that is not what was written.

        All of them are in memory then. Raises `JournalError`.
        """
        return {entry: each.unpacked() for entry, each in self._stored(ids).items()}

    def bodies(self, some: Sequence[Listed]) -> Iterator[tuple[Listed, Entry | Damaged | None]]:
        """As `fetch`, each after the other, of which few are in memory at a time; None for one that is gone."""
        at = 0
        while at < len(some):
            sums = accumulate(entry.size for entry in some[at : at + BODIES])
            few = some[at : at + max(sum(size <= BODY_BYTES for size in sums), 1)]
            stored = self._stored([entry.id for entry in few])
            for entry in few:
                found = stored.pop(entry.id, None)
                yield entry, None if found is None else found.unpacked()
            at += len(few)

    def _stored(self, ids: Sequence[int]) -> dict[int, entries.Stored]:
        return self.wait((self._reads or self._commits).start(partial(entries.fetch, ids=ids)))

    def confirm(self, server: str, held: Mapping[int, bool], seconds: float | None = None) -> None:
        """Note that the server at this URL was seen to hold these entries; True: itself, not something newer.

        What is replaced by one that was itself seen is dropped, as far as that is done within `seconds`: what is left
        goes with the next one that is seen.
        """
        end = time.monotonic() + (math.inf if seconds is None else seconds)
        ids = [*held]
        for start in range(0, len(ids), CONFIRMED):
            few = ids[start : start + CONFIRMED]
            self.wait(self.start(deliveries.confirm, server, few, self.clock()), seconds)
        shown = [entry for entry, itself in held.items() if itself]
        after: int | None = 0
        while shown and after is not None and time.monotonic() < end:
            after = self.wait(self.start(deliveries.compact, shown, after, self.writer), seconds)

    def run(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(transaction, …)` and wait for what it gives; it is durable then. Raises `JournalError`."""
        return self.wait(self.start(work, *args, **kwargs))

    def start(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `run`, without waiting."""
        return self._commits.start(partial(_called, work, args, kwargs))

    def read(
        self,
        seconds: float,
        work: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `run`, for what only reads; `seconds` at most. It sees all that was started before."""
        end = time.monotonic() + seconds
        if self._reads is not None:
            before = self._commits.all_before(READ_SILENCE)
            # Cancelling is for those who started it.
            if wait(before, max(min(seconds, self._patience or seconds), 0.0)).not_done:
                raise Unreachable(_late(seconds))
        return self.wait(self.start_read(work, *args, **kwargs), end - time.monotonic())

    def start_read(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """As `start`, for what only reads: it may not see yet what is being written."""
        return (self._reads or self._commits).start(partial(_called, work, args, kwargs), READ_SILENCE)

    def wait(self, future: Future[T], seconds: float | None = None) -> T:
        """What was started comes to, within `seconds`, and never longer than anybody waits. Raises `JournalError`.

        What was not begun by then is not done any more; of what was, nobody knows.
        """
        limits = [limit for limit in (seconds, self._patience) if limit is not None]
        return _outcome(future, max(min(limits), 0.0) if limits else None)

    def close(self) -> None:
        """Finish what waits, and let go of the journal, when nobody else holds it. It takes a few seconds at most."""
        with self._lock:
            self._holders -= 1
            if self._holders > 0:
                return
        if self._reads is not None:
            self._reads.close()
        if left := self._commits.close():
            log.error("the journal was closed while it did not answer: %d transactions were given up", left)


def _outcome(future: Future[T], limit: float | None) -> T:
    try:
        return future.result(limit)
    except TimeoutError:
        if future.cancel() or not future.done():
            raise Unreachable(_late(limit)) from None
        return future.result()


def _late(seconds: float | None) -> str:
    return f"the journal did not answer within {seconds:.1f} s: see its disk, or its database"


def _called(work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], transaction: Transaction) -> T:
    return work(transaction, *args, **kwargs)
