"""How much a journal holds, for those who cannot wait for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait

from pdbclient.errors import JournalError
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import Counts
from pdbclient.journal.store.database import Transaction

__all__ = ["Figures"]

WAIT = 0.2
"""Seconds to wait for figures that are quickly had."""
QUICK = 0.005
"""Seconds that counting may take where somebody waits for it."""
REST = 100.0
"""So many times what it took is waited until the next counting: writers wait for it, where there is one thread."""


class Figures:
    """The counts of `journal`: as they are, where that is quickly known; else as they last were. Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._counting: Future[Counts] | None = None
        self._counts: Counts | None = None
        self._took = self._again_at = 0.0
        # Whoever asks first finds them.
        self._count()

    def counts(self) -> Counts | None:
        """The counts; None when they have never been known."""
        counting = self._count()
        if counting is not None and self._took < QUICK:
            wait([counting], WAIT)
        return self._counts

    def _count(self) -> Future[Counts] | None:
        """What is being counted, now or since before."""
        with self._lock:
            if self._counting is None and time.monotonic() >= self._again_at:
                try:
                    self._counting = self._journal.start_read(self._counted)
                except JournalError:
                    # Said by the journal itself; they stay as they were.
                    return None
                self._counting.add_done_callback(self._done)
            return self._counting

    def _counted(self, tx: Transaction) -> Counts:
        began = time.monotonic()
        self._counts = entries.counts(tx)
        self._took = time.monotonic() - began
        self._again_at = time.monotonic() + REST * self._took
        return self._counts

    def _done(self, _: Future[Counts]) -> None:
        self._counting = None
