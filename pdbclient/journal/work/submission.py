"""Submitting with a journal: on disk first, then to the servers, then noted what they said."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from types import MappingProxyType
from typing import Any

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import AllEndpointsFailed, JournalError, JournalFull, Rejected
from pdbclient.http.failover import Accepted
from pdbclient.http.outcome import Attempt, Kind
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import deliveries, entries, upkeep
from pdbclient.journal.model import ANY, Copy, CopyState, Entry
from pdbclient.journal.rounds import Rounds
from pdbclient.journal.store.database import Transaction
from pdbclient.wire.command import Command

__all__ = ["Submitter", "Taken", "copies_of", "lease_for", "targets_of", "urls_of"]

log = logging.getLogger("pdbclient.journal")

ROOM = 2
"""How many times what a command needs is made free on a disk that is full."""
PAGE = 4096
AGAIN = 1.0
"""Seconds until what could not be noted is tried again."""
NOTED_WITHIN = 5.0
"""Seconds that the caller of a command waits until its outcome is noted, where other processes go by that."""
NOTING_LIMIT = 5.0
"""Seconds that what is still to be noted has at the end."""


Taken = Callable[[Endpoint, str], None]
"""Told which server took a command, and the uuid there."""


def targets_of(config: ClientConfig) -> tuple[str, ...]:
    """For whom a new entry is pending: any server, or with broadcast each of them."""
    return tuple(urls_of(config)) if config.command_broadcast else (ANY,)


def urls_of(config: ClientConfig) -> list[str]:
    """All servers that are configured."""
    return [endpoint.url for endpoint in (*config.server_urls, *config.submit_only_server_urls)]


def lease_for(config: ClientConfig) -> float:
    """Seconds after which an attempt to deliver is surely over, if its process lives."""
    return max(120.0, 2 * config.timeouts.operation)


def copies_of(attempts: Sequence[Attempt], uuids: Mapping[Endpoint, str], at: float) -> list[Copy]:
    """What the attempts of one submission say about its copies; `at` is in seconds since 1970. Pure."""
    copies = []
    for attempt in attempts:
        url, outcome = attempt.endpoint.url, attempt.outcome
        if outcome.kind is Kind.ACCEPTED:
            copies.append(Copy(url, CopyState.ACCEPTED, uuids.get(attempt.endpoint), at))
        elif outcome.kind is Kind.REJECTED:
            copies.append(Copy(url, CopyState.REJECTED, None, at, f"HTTP {outcome.status}: {outcome.detail}"))
    return copies


class Submitter:
    """Puts a journal before the submission of commands for one configuration. `wake` tells delivery of work.

    `journal_only` counts the commands that no server took at once.
    """

    def __init__(self, journal: Journal, config: ClientConfig, wake: Callable[[], None]) -> None:
        self._journal = journal
        self._targets, self._servers = targets_of(config), urls_of(config)
        self._shared = config.journal is not None and "://" in config.journal
        self._limit = config.timeouts.operation / 2
        self._wake = wake
        self._notes = _Notes(journal, wake)
        self.journal_only = 0

    @property
    def unnoted(self) -> bool:
        """Whether the journal lacks what became of commands that somebody was told of."""
        return self._notes.left

    def close(self) -> None:
        """Note what is left to be noted, once more."""
        self._notes.close()

    def submit(self, command: Command, send: Callable[[Command, Taken], Accepted]) -> Accepted:
        """Submit by `send`. When no server takes the command, the journal has it, and its uuid is in `journalled`.

        `send` says at once which server took it, where it goes to several. Raises `JournalError` when it could not be
        put on disk (nothing was sent then), and `Rejected`.
        """
        entry = self._appended(command)

        def taken(server: Endpoint, uuid: str) -> None:
            """Others may see it there, while another server keeps us waiting."""
            copy = Copy(server.url, CopyState.ACCEPTED, uuid, self._journal.clock())
            try:
                self._journal.start(deliveries.ack, entry.id, [copy])
            except JournalError as error:
                # All is noted once more when the last one has answered, for as long as it takes.
                log.debug("not noted before the end: %s", error)

        try:
            accepted = send(command, taken)
        except (Rejected, AllEndpointsFailed) as error:
            return self._ended(entry, error)
        return self._taken(entry, accepted)

    def _appended(self, command: Command) -> Entry:
        journal, limit, needed = self._journal, self._limit, ROOM * (len(command.body) + PAGE)
        try:
            return journal.wait(journal.append(command, self._targets), limit)
        except JournalFull as full:
            error, gone = full, 0

        def append(tx: Transaction, *args: Any) -> Entry:
            """In one transaction: others who wait for room would take this one's."""
            nonlocal gone
            try:
                return entries.append(tx, *args)
            except JournalFull:
                gone = upkeep.make_room(tx, needed, journal.writer, self._servers)
                if not gone:
                    raise
            return entries.append(tx, *args)

        entry = journal.wait(journal.append(command, self._targets, append), limit)
        if gone:
            log.warning("%d entries that servers have left the journal, to make room: %s", gone, error)
        return entry

    def _taken(self, entry: Entry, accepted: Accepted) -> Accepted:
        self._conclude(entry, copies_of(accepted.attempts, accepted.uuids, self._journal.clock()))
        return accepted

    def _ended(self, entry: Entry, error: Rejected | AllEndpointsFailed) -> Accepted:
        self._conclude(entry, copies_of(error.attempts, {}, self._journal.clock()))
        if isinstance(error, Rejected):
            raise error
        command = entry.command
        self.journal_only += 1
        log.log(
            logging.DEBUG if error.in_outage else logging.WARNING,
            "%s for %s is in the journal only (%s), to be delivered: %s",
            command.name,
            command.certname,
            entry.uuid,
            error,
        )
        return Accepted(MappingProxyType({}), error.attempts, entry.uuid)

    def _conclude(self, entry: Entry, copies: Sequence[Copy]) -> None:
        """Note it, without waiting: what is not noted, because the process dies, is sent again, as the same bytes.

        Where several processes share the journal, nobody is told before: for the others it would still be under way,
        and their answers about exported resources would lack it without a word.
        """
        noted = self._notes.start(entry.id, copies)
        if self._shared and not noted.wait(NOTED_WITHIN):
            why = f"what became of it could not be noted within {NOTED_WITHIN:.0f} s, which is tried again"
            raise JournalError(f"{entry.command.name} for {entry.command.certname} ({entry.uuid}): {why}")


class _Notes:
    """Outcomes, each noted until it is: without, an acknowledged command would look as if it were under way."""

    def __init__(self, journal: Journal, wake: Callable[[], None]) -> None:
        self._journal, self._wake = journal, wake
        self._lock = threading.Lock()
        self._going: set[Future[bool]] = set()
        self._left: list[tuple[int, Sequence[Copy], threading.Event]] = []
        self._closed = threading.Event()
        self._troubled = False
        # Not when it is needed: there may be no thread to be had then.
        self._thread = threading.Thread(target=self._run, name="pdbclient-notes", daemon=True)
        self._thread.start()

    @property
    def left(self) -> bool:
        """Whether something could not be noted yet."""
        return bool(self._left)

    def start(self, entry: int, copies: Sequence[Copy]) -> threading.Event:
        """Note it as soon as the journal can; set when that is done."""
        done = threading.Event()
        self._start(entry, copies, done)
        return done

    def _start(self, entry: int, copies: Sequence[Copy], done: threading.Event) -> None:
        def noted(future: Future[bool]) -> None:
            error = future.exception()
            if error is not None:
                self._failed(entry, copies, done, error)
            else:
                self._troubled = False
                done.set()
                if future.result():
                    self._wake()
            with self._lock:
                self._going.discard(future)

        try:
            future = self._journal.start(_conclude, entry, copies, self._journal.clock(), self._journal.owner)
        except Exception as error:  # noqa: BLE001  # said, and tried again
            self._failed(entry, copies, done, error)
            return
        with self._lock:
            self._going.add(future)
        future.add_done_callback(noted)

    def close(self) -> None:
        """Try what is left once more, and say what is left then."""
        self._closed.set()
        self._thread.join()
        self._again()
        with self._lock:
            going = set(self._going)
        _, late = wait(going, NOTING_LIMIT)
        with self._lock:
            left = len(self._left) + len(late)
        if left:
            log.error("the journal could not note %d deliveries, which will be repeated", left)

    def _failed(self, entry: int, copies: Sequence[Copy], done: threading.Event, error: BaseException) -> None:
        with self._lock:
            self._left.append((entry, copies, done))
            if not self._troubled:
                log.error("the journal could not note a delivery, which is tried again: %s", error)
            self._troubled = True

    def _run(self) -> None:
        rounds = Rounds("what became of commands could not be noted")
        while not self._closed.wait(AGAIN):
            with rounds.each():
                if self._journal.answers:
                    self._again()

    def _again(self) -> None:
        with self._lock:
            left, self._left = self._left, []
        for each in left:
            self._start(*each)


def _conclude(tx: Transaction, entry: int, copies: Sequence[Copy], now: float, owner: str) -> bool:
    """Note what was said; what is still pending then is due at once. True when something is."""
    deliveries.ack(tx, entry, copies)
    return deliveries.release(tx, entry, now, owner)
