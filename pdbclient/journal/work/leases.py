"""Work on a journal that one process does at a time, others when it is done or dead: a row with an owner and an end.

The owner puts the end off while it lives. One that was frozen, or could not reach the journal, for longer than that
must not go on: `Lease.require`.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from pdbclient.errors import JournalBusy, JournalError
from pdbclient.journal.journal import Journal
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.database import Transaction

__all__ = ["Lease", "Leased", "hold"]

log = logging.getLogger("pdbclient.journal")

LEASE = 60.0
"""Seconds after which the work of an owner that died on another host is for others."""
RENEWED_EVERY = 15.0
UNKNOWN = "-"
"""The namespace of a process that cannot see its own: nobody says of it that it died."""


class Leased(JournalBusy):
    """Another process is at this work; `owner` says which, as host and pid."""

    def __init__(self, name: str, owner: str) -> None:
        self.owner = owner
        free = f"it is free again when that is done, or at the latest {LEASE:.0f} s after that process died"
        super().__init__(f"{name}: another process is at it ({owner}): {free}")


class Lease:
    """What one owner holds: the work `name`."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal, self._name = journal, name
        # A pid alone is not enough: two of these can be at work in one process, and pids are alike in containers.
        self._owner = f"{journal.owner} {_pid_namespace()} {secrets.token_hex(4)}"
        self._until = float("-inf")

    def require(self) -> None:
        """Raise `JournalError` when others may be at it by now."""
        if monotonic() >= self._until:
            why = f"this process did not get on for more than {LEASE:.0f} s, and another one may be at it by now"
            raise JournalError(f"{self._name}: broken off: {why}")

    def take(self) -> str | None:
        """Have it for `LEASE` seconds from now on; None, or who else has it. Raises `JournalError`."""
        began, now = monotonic(), self._journal.clock()
        owner = self._journal.run(_take, self._name, self._owner, now, now + LEASE)
        if owner != self._owner and self._has_died(owner):
            self._journal.run(_give_back, self._name, owner)
            owner = self._journal.run(_take, self._name, self._owner, now, now + LEASE)
        self._until = began + LEASE if owner == self._owner else float("-inf")
        return None if owner == self._owner else owner.partition(" ")[0]

    def _has_died(self, owner: str) -> bool:
        """Whether it was a process of this host that is no more: nobody need wait for its end."""
        who, namespace, _ = owner.split(" ")
        host, _, pid = who.rpartition("/")
        here = namespace != UNKNOWN and (host, namespace) == (self._journal.writer, _pid_namespace())
        return here and not _lives(int(pid))

    def give_back(self) -> None:
        """Let others have it. Raises `JournalError`."""
        self._until = float("-inf")
        self._journal.run(_give_back, self._name, self._owner)


@contextmanager
def hold(journal: Journal, name: str) -> Iterator[Lease]:
    """Do the work `name` (a noun) in this block, as nobody else does. Raises `Leased` and `JournalError`."""
    lease, over = Lease(journal, name), threading.Event()

    def renew() -> None:
        rounds = Rounds(f"{name}: that it goes on could not be noted")
        while not over.wait(RENEWED_EVERY):
            with rounds.each():
                if lease.take() is not None:
                    return

    if (other := lease.take()) is not None:
        raise Leased(name, other)
    thread = threading.Thread(target=renew, name="pdbclient-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        try:
            lease.give_back()
        except JournalError as error:
            log.warning("%s: that it is over could not be noted: %s", name, error)


def _pid_namespace() -> str:
    """In which container pids are told apart, or in none; `UNKNOWN` where that cannot be seen."""
    try:
        # Of /proc, a service may see its own processes only (ProcSubset=pid, ProtectProc=invisible).
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return UNKNOWN


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's.
        return True
    return True


def _take(tx: Transaction, name: str, owner: str, now: float, until: float) -> str:
    """Who has it now: `owner`, unless another one's time is not over yet. Times are in seconds since 1970."""
    tx.execute(
        "INSERT INTO leases (name, owner, until) VALUES (:name, :owner, :until) ON CONFLICT (name) DO UPDATE"
        " SET owner = excluded.owner, until = excluded.until"
        # One that ends later than any can was taken by a clock that has since been set back.
        " WHERE leases.owner = excluded.owner OR leases.until <= :now OR leases.until > :never",
        name=name,
        owner=owner,
        now=now,
        until=until,
        never=until + LEASE,
    )
    return str(tx.rows("SELECT owner FROM leases WHERE name = :name", name=name)[0][0])


def _give_back(tx: Transaction, name: str, owner: str) -> None:
    tx.execute("DELETE FROM leases WHERE name = :name AND owner = :owner", name=name, owner=owner)
