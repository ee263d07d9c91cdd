"""An open journal: whatever is to be read or written goes through one thread, which commits for all who wait."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from pdbclient.config.journal_place import without_password
from pdbclient.errors import JournalBusy, JournalError
from pdbclient.journal import deliveries, entries
from pdbclient.journal.database import Database, Transaction, Unreachable
from pdbclient.journal.model import Entry
from pdbclient.journal.packing import pack
from pdbclient.journal.sqlite import SqliteDatabase
from pdbclient.wire.command import Command

__all__ = ["Journal"]

P = ParamSpec("P")
T = TypeVar("T")

BATCH = 128
"""Transactions of callers at most that share one commit."""


class Journal:
    """A journal on `database`. Thread-safe; not to be used in a forked child.

    `clock` gives seconds since 1970. `lease` is how long, in seconds, whoever appends or claims an entry has for it
    before another process may deliver it. `owner` names this process where work is under way.
    """

    def __init__(self, database: Database, *, lease: float = 120.0, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lease = lease
        self.writer = socket.gethostname()
        self._database = database
        self._pid = os.getpid()
        self.owner = f"{self.writer}/{self._pid}"
        self._condition = threading.Condition()
        self._waiting: deque[tuple[Callable[[Transaction], Any], Future[Any]]] = deque()
        self._closed = False
        self._holders = 1
        self._thread = threading.Thread(target=self._work, name="pdbclient-journal", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, location: str, *, beside: bool = False, lease: float = 120.0) -> Self:
        """The journal at `location`: a file's path, or a `postgresql://` URL. It is made when it is missing.

        A file belongs to one process at a time; `beside` it, another may look and mend, in short transactions.
        Raises `JournalError` and its kinds.
        """
        if "://" in location:
            # Imported here: a site whose journal is a file needs no driver for PostgreSQL.
            try:
                from pdbclient.journal.postgresql import PostgresqlDatabase
            except ImportError as error:
                why = f"needs psycopg, which cannot be loaded ({error}): pip install 'pdbclient[postgresql]'"
                raise JournalError(f"{without_password(location)}: {why}") from error

            shared = PostgresqlDatabase(location)
            return cls(shared, lease=lease, clock=shared.clock)
        journal = cls(SqliteDatabase(Path(location), beside=beside), lease=lease)
        if not beside:
            try:
                journal.run(deliveries.forget_owners)
            except BaseException:
                journal.close()
                raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self) -> Self:
        """The same journal for one more holder; each of them closes it."""
        with self._condition:
            self._holders += 1
        return self

    def append(self, command: Command, targets: Sequence[str]) -> Future[Entry]:
        """Put `command` in, pending for `targets`; done when it is on disk. Whoever calls this sends it first."""
        packed, now = pack(command), self.clock()
        return self.start(entries.append, packed, tuple(targets), now, now + self.lease, self.owner, self.writer)

    def run(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(transaction, …)` and wait for what it gives; it is durable then. Raises `JournalError`."""
        return self.start(work, *args, **kwargs).result()

    def start(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `run`, without waiting."""
        future: Future[T] = Future()
        with self._condition:
            if self._closed or self._pid != os.getpid():
                raise JournalError("this journal is closed, or was opened before the process forked")
            self._waiting.append((partial(_called, work, args, kwargs), future))
            self._condition.notify()
        return future

    def close(self) -> None:
        """Finish what waits, and let go of the journal, when nobody else holds it."""
        with self._condition:
            self._holders -= 1
            if self._holders > 0:
                return
            self._closed = True
            self._condition.notify()
        if self._pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            # Whoever waits for one of these can give up until here, not any more afterwards.
            wanted = [each for each in batch if each[1].set_running_or_notify_cancel()]
            if wanted:
                self._commit(wanted)
        self._database.close()

    def _next(self) -> list[tuple[Callable[[Transaction], Any], Future[Any]]]:
        with self._condition:
            while not self._waiting and not self._closed:
                self._condition.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]

    def _commit(self, batch: Sequence[tuple[Callable[[Transaction], Any], Future[Any]]]) -> None:
        """One commit for all; when that fails, each has one of its own, so that nobody pays for another's fault.

        But not when the database is away: they would wait for it one after the other.
        """
        try:
            results = self._database.transact(lambda tx: [work(tx) for work, _ in batch])
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            if len(batch) == 1 or isinstance(error, Unreachable | JournalBusy):
                for _, future in batch:
                    future.set_exception(error)
            else:
                for each in batch:
                    self._commit([each])
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)


def _called(work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], transaction: Transaction) -> T:
    return work(transaction, *args, **kwargs)
