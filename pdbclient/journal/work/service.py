"""A journal at work for one configuration: submission, delivery, exported resources, upkeep."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self, TypeVar

from pdbclient.config.journal_place import without_password
from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import CallerLeft, JournalError, ServerError, TransportError
from pdbclient.http.failover import Accepted, Failover
from pdbclient.http.outcome import Operation
from pdbclient.http.sender import caller_left
from pdbclient.http.session import Session
from pdbclient.http.staleness import Freshness
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import deliveries, entries, exported_sql, holdings, upkeep
from pdbclient.journal.model import ANY, EntryState
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.database import Unreachable
from pdbclient.journal.work.age import JUMP, Age
from pdbclient.journal.work.audit import Audit
from pdbclient.journal.work.delivery import Delivery
from pdbclient.journal.work.exported import Exported
from pdbclient.journal.work.figures import Figures
from pdbclient.journal.work.submission import Submitter, Taken, lease_for, targets_of, urls_of
from pdbclient.wire.command import Command

__all__ = ["Service"]

log = logging.getLogger("pdbclient.journal")

T = TypeVar("T")

ROUND = 5.0
PRUNE_EVERY = 60.0
PRUNED_AT_ONCE = 500
MOVED_AT_ONCE = 50
PREPARING = 30.0
QUIET = (Unreachable, CallerLeft)
"""The journal says the first one itself; the other one means that this is being closed."""


class Service:
    """Keeps what goes through `failover` in `journal`, which it then owns. Threads run until `close`."""

    def __init__(self, journal: Journal, failover: Failover, config: ClientConfig, age: Age | None = None) -> None:
        self.journal = journal
        self.figures = Figures(journal)
        self._failover = failover
        self._config = config
        self._closed, self._ending = threading.Event(), ExitStack()
        self._suspects: set[Endpoint] = set()
        self._ending.callback(journal.close)
        try:
            self._reconfigure()
            self._age, self._jumped = age or self._begun(), False
            self._begin()
        except BaseException:
            self.close()
            raise

    @classmethod
    def start(cls, failover: Failover, config: ClientConfig, before: Self | None = None) -> Self | None:
        """The service that `config` asks for, if any; it shares the journal of the one before when that is the same.

        Raises `JournalError`.
        """
        if before is not None and before._config.journal == config.journal:
            return cls(before.journal.share(lease_for(config)), failover, config, before._age)
        journal = None if config.journal is None else Journal.open(config.journal, lease=lease_for(config))
        if before is not None:
            before._say_what_is_left()
        return None if journal is None else cls(journal, failover, config)

    @property
    def journal_only(self) -> int:
        """How many commands no server took at once."""
        return self._submitter.journal_only

    def close(self) -> None:
        """End the threads, and let go of the journal. That takes a few seconds at most, whatever they wait for."""
        self._closed.set()
        self._ending.close()

    def submit(self, command: Command, send: Callable[[Command, Taken], Accepted]) -> Accepted:
        """As `Submitter.submit`."""
        return self._submitter.submit(command, send)

    def answer(self, session: Session, within: float, ask: Callable[[float], T]) -> tuple[T, Freshness]:
        """As `Exported.answer`."""
        return self._exported.answer(session, within, ask)

    def _begin(self) -> None:
        """Begin with each part of the work; `close` ends what was begun, the last one first."""
        journal, failover, config = self.journal, self._failover, self._config
        self._exported = Exported(
            journal,
            failover.registry,
            config.server_urls,
            budget=config.stale_exported_budget,
            serve=config.stale_exported == "serve",
            aged=self._aged,
            node_ttl=config.node_ttl,
            unsure=lambda: self._submitter.unnoted,
            lost=self._suspects.add,
            stop=self._closed,
        )
        self._ending.callback(self._exported.close)
        threads = [threading.Thread(target=self._keep, name="pdbclient-upkeep", daemon=True)]
        threads += [
            threading.Thread(target=self._audit, args=(server,), name="pdbclient-audit", daemon=True)
            for server in config.server_urls
        ]
        for thread in threads:
            thread.start()
            self._ending.callback(thread.join)
        delivery = Delivery(journal, failover, config)
        self._ending.callback(delivery.close)
        self._submitter = Submitter(journal, config, delivery.wake)
        self._ending.callback(self._submitter.close)

    def _keep(self) -> None:
        """Retention, and the next server made ready when the first one is out."""
        # What is asked for nobody any more is broken off.
        caller_left.set(self._closed)
        rounds, number = Rounds("upkeep of the journal", quiet=QUIET), 0
        while not self._closed.wait(ROUND):
            with rounds.each():
                if number % (PRUNE_EVERY // ROUND) == 0:
                    # Again: the gateway that was there before a reload may have put something in since.
                    self._reconfigure()
                    self._prune()
                self._prepare()
            number += 1

    def _audit(self, server: Endpoint) -> None:
        """Whether a server shows what it took, and has what it showed; each in a thread, for some are silent."""
        heal, rate = self._config.journal_heal == "heal", self._config.journal_rate
        session, node_ttl = self._failover.session(server), self._config.node_ttl
        audit = Audit(self.journal, session, heal=heal, rate=rate, node_ttl=node_ttl, stop=self._closed)
        caller_left.set(self._closed)
        rounds, away = Rounds(f"what {server} holds could not be noted", quiet=QUIET), False
        while not self._closed.wait(ROUND):
            with rounds.each():
                was_away, away = away, not self._failover.registry.usable(server, Operation.QUERY)
                if away:
                    continue
                if was_away or server in self._suspects:
                    self._suspects.discard(server)
                    audit.came_back()
                audit.round()

    def _reconfigure(self) -> None:
        """What is pending for servers of another configuration is so by this one from now on; and said."""
        targets, servers = targets_of(self._config), urls_of(self._config)
        self.journal.run(exported_sql.enrol, [server.url for server in self._config.server_urls])
        moved: Counter[str] = Counter()
        while now := self.journal.run(deliveries.reconfigure, targets, servers, MOVED_AT_ONCE, self.journal.clock()):
            moved.update(now)
        for target, number in sorted(moved.items()):
            log.warning(
                "%d commands were pending for %s, which is not configured any more: now they are for %s, as far as "
                "that lacks them",
                number,
                target or "any server",
                "any server" if ANY in targets else ", ".join(targets),
            )

    def _say_what_is_left(self) -> None:
        """Another configuration leaves this journal: what is pending in it is delivered by nobody any more."""
        where = without_password(self._config.journal or "")
        try:
            pending = self.journal.run(entries.counts).entries.get(EntryState.PENDING, 0)
        except JournalError as error:
            log.warning("the journal %s is left, and what is pending in it could not be seen: %s", where, error)
            return
        if not pending:
            log.info("the journal %s is left, with nothing pending in it", where)
            return
        advice = "start a gateway with that journal again; `pdbclient journal status` with it shows what there is"
        log.warning(
            "%d commands are pending in the journal %s, which is left: what is not delivered when the last requests"
            " under the old configuration have ended stays there. To have it delivered, %s",
            pending,
            where,
            advice,
        )

    def _begun(self) -> Age:
        newest = self.journal.run(holdings.newest)
        return Age.begin(self.journal.clock(), newest.received if newest else None, time.monotonic())

    def _aged(self) -> float:
        """The time by which entries are old, and nodes expire."""
        clock = self.journal.clock()
        self._age = self._age.later(clock, time.monotonic())
        ahead = clock - self._age.at
        if ahead >= JUMP and not self._jumped:
            log.warning(
                "the clock is %.1f days ahead of the time that has passed here: see whether it is right. It jumped,"
                " or nothing ran meanwhile; retention makes up for that bit by bit",
                ahead / 86400,
            )
        self._jumped = ahead >= JUMP
        return self._age.at

    def _prune(self) -> None:
        before, limit = self._aged() - self._config.journal_max_age, PRUNED_AT_ONCE
        max_bytes, servers = self._config.journal_max_bytes, urls_of(self._config)
        dropped, pruned = 0, limit
        while pruned and not self._closed.is_set():
            # In small bites: whoever submits meanwhile waits for one of them at most.
            pruned = self.journal.run(upkeep.prune, before, max_bytes, limit, self.journal.writer, servers)
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
