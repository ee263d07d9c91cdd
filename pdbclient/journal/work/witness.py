"""Whether a server still had what it was seen to have, when it answered.

The audit looks for lost data every few minutes, and when a server was away. A database that is emptied or restored
in between would answer about exported resources as if nothing were missing. So it is asked one short question after
each such answer: for the newest catalogs that it took, and which of them it has. A backup that was restored lacks
these above all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pdbclient.http import presence
from pdbclient.http.session import Session
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import holdings
from pdbclient.journal.model import CATALOG, CopyState, Listed
from pdbclient.journal.work.audit import Loss, judge_loss
from pdbclient.journal.work.seen import Shown

__all__ = ["Witnesses"]

SAMPLE = 25
RENEWED = 5.0
"""Seconds after which those are asked for that a server took meanwhile."""


class Witnesses:
    """The newest catalogs that one server took. For any thread; `clock` gives monotonic seconds."""

    def __init__(self, journal: Journal, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal, self._url, self._clock = journal, url, clock
        self._lock = threading.Lock()
        self._some: Sequence[Listed] = ()
        self._seen: Mapping[str, str] = {}
        self._renewed = float("-inf")

    def lost(self, session: Session, within: float, patience: float) -> Loss | None:
        """What the session's server lacks of them now, where that means that it has lost data.

        The server has `within` seconds to say, the journal `patience`. Raises `JournalError`, and what the session
        raises.
        """
        some, before = self._now(patience), self._seen
        now: dict[str, str] = {}
        for certname, stamp in presence.newest(session, CATALOG, [each.certname for each in some], within=within):
            # Older servers can hold two catalogs of one node.
            now[certname] = max(stamp, now.get(certname, ""))
        had = [(each, max(self._confirmed(each), before.get(each.certname, ""))) for each in some]
        seen = [replace(each, producer_timestamp=stamp) for each, stamp in had if stamp]
        there = {(CATALOG, certname): stamp for certname, stamp in now.items()}
        loss = judge_loss(seen, Shown(there, frozenset(), {}), self._journal.clock())
        if loss is None:
            self._seen = now
        return loss

    def _confirmed(self, entry: Listed) -> str:
        """Its producer timestamp, where the server was seen to have it; else nothing."""
        confirmed = any(copy.server == self._url and copy.state is CopyState.CONFIRMED for copy in entry.copies)
        return entry.producer_timestamp if confirmed else ""

    def forget(self) -> None:
        """They are others from now on."""
        with self._lock:
            self._some, self._seen, self._renewed = (), {}, float("-inf")

    def _now(self, patience: float) -> Sequence[Listed]:
        with self._lock:
            if self._clock() < self._renewed + RENEWED:
                return self._some
            # Whoever comes meanwhile goes by those before.
            self._renewed = self._clock()
        some = self._journal.read(patience, holdings.taken_catalogs, self._url, SAMPLE)
        with self._lock:
            self._some = some
        return some
