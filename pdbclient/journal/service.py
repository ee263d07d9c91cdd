"""A journal at work for one configuration: submission, delivery, exported resources, upkeep."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import JournalError, ServerError, TransportError
from pdbclient.http.failover import Accepted, Failover
from pdbclient.http.outcome import Operation
from pdbclient.http.session import Session
from pdbclient.http.staleness import Freshness
from pdbclient.journal import upkeep
from pdbclient.journal.audit import Audit
from pdbclient.journal.database import Unreachable
from pdbclient.journal.delivery import Delivery
from pdbclient.journal.exported import Exported
from pdbclient.journal.figures import Figures
from pdbclient.journal.journal import Journal
from pdbclient.journal.submission import Submitter, lease_for
from pdbclient.wire.command import Command

__all__ = ["Service"]

log = logging.getLogger("pdbclient.journal")

ROUND = 5.0
PRUNE_EVERY = 60.0
PRUNED_AT_ONCE = 500
PREPARING = 30.0


class Service:
    """Keeps what goes through `failover` in `journal`, which it then owns. Threads run until `close`."""

    def __init__(self, journal: Journal, failover: Failover, config: ClientConfig) -> None:
        self.journal = journal
        self.figures = Figures(journal)
        self.stale_answers = 0
        self._failover = failover
        self._config = config
        self._delivery = Delivery(journal, failover, config)
        self._submitter = Submitter(journal, config, self._delivery.wake)
        self._exported = Exported(
            journal,
            failover.registry,
            config.server_urls,
            budget=config.stale_exported_budget,
            serve=config.stale_exported == "serve",
            stale=self._count_stale,
        )
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._keep, name="pdbclient-upkeep", daemon=True)]
        self._threads += [
            threading.Thread(target=self._audit, args=(server,), name="pdbclient-audit", daemon=True)
            for server in config.server_urls
        ]
        for thread in self._threads:
            thread.start()

    @classmethod
    def start(cls, failover: Failover, config: ClientConfig, before: Self | None = None) -> Self | None:
        """The service that `config` asks for, if any; it shares the journal of the one before when that is the same.

        Raises `JournalError`.
        """
        if config.journal is None:
            return None
        if before is not None and before._config.journal == config.journal:
            journal = before.journal.share()
        else:
            journal = Journal.open(config.journal, lease=lease_for(config))
        return cls(journal, failover, config)

    @property
    def journal_only(self) -> int:
        """How many commands no server took at once."""
        return self._submitter.journal_only

    def close(self) -> None:
        """End the threads, and let go of the journal."""
        self._closed.set()
        self._delivery.close()
        self._submitter.close()
        for thread in self._threads:
            thread.join()
        self._exported.close()
        self.journal.close()

    def submit(self, command: Command, send: Callable[[Command], Accepted]) -> Accepted:
        """As `Submitter.submit`."""
        return self._submitter.submit(command, send)

    def bring_up(self, session: Session, within: float) -> Freshness:
        """As `Exported.bring_up`."""
        return self._exported.bring_up(session, within)

    def _count_stale(self) -> None:
        self.stale_answers += 1

    def _keep(self) -> None:
        """Retention, and the next server made ready when the first one is out."""
        rounds = 0
        while not self._closed.wait(ROUND):
            try:
                if rounds % (PRUNE_EVERY // ROUND) == 0:
                    self._prune()
                self._prepare()
            except Unreachable as error:
                # The journal says that itself.
                log.debug("upkeep of the journal: %s", error)
            except JournalError as error:
                log.error("upkeep of the journal: %s", error)
            rounds += 1

    def _audit(self, server: Endpoint) -> None:
        """Whether a server shows what it took, and has what it showed; each in a thread, for some are silent."""
        heal, rate = self._config.journal_heal == "heal", self._config.journal_rate
        audit = Audit(self.journal, self._failover.session(server), heal=heal, rate=rate, stop=self._closed)
        away = False
        while not self._closed.wait(ROUND):
            was_away, away = away, not self._failover.registry.usable(server, Operation.QUERY)
            if away:
                continue
            if was_away:
                audit.came_back()
            try:
                audit.round()
            except Unreachable as error:
                log.debug("what %s holds could not be noted: %s", server, error)
            except JournalError as error:
                log.error("what %s holds could not be noted: %s", server, error)

    def _prune(self) -> None:
        before, limit = self.journal.clock() - self._config.journal_max_age, PRUNED_AT_ONCE
        max_bytes = self._config.journal_max_bytes
        dropped, pruned = 0, limit
        while pruned == limit and not self._closed.is_set():
            # In small bites: whoever submits meanwhile waits for one of them at most.
            pruned = self.journal.run(upkeep.prune, before, max_bytes, limit, self.journal.writer)
            dropped += pruned
        if dropped:
            log.info("%d entries left the journal, by age or size", dropped)

    def _prepare(self) -> None:
        """Bring up the server that is asked in the place of the first, before anybody asks it."""
        first = self._failover.next_in_line(Operation.QUERY)[0]
        if first == self._config.server_urls[0]:
            return
        try:
            self._exported.prepare(self._failover.session(first), PREPARING)
        except (TransportError, ServerError) as error:
            log.debug("not brought up to date: %s", error)
