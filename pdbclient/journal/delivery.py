"""Delivery in the background: what servers are owed, as soon as they are well, no faster than they can take it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import JournalError, Rejected, ServerError, TransportError
from pdbclient.http.failover import Failover
from pdbclient.http.outcome import Operation
from pdbclient.http.route import write_order
from pdbclient.journal import entries, owing
from pdbclient.journal.journal import Journal
from pdbclient.journal.model import ANY, REPLACED, Claim, Copy, CopyState, Entry, EntryState
from pdbclient.journal.packing import Damaged
from pdbclient.wire.command import Command

__all__ = ["Delivery", "Pace"]

log = logging.getLogger("pdbclient.journal")

PAUSE = 1.0
"""Seconds between two looks for work when there was none."""
BATCH = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `rate` commands a second, `allowance` of them now, as of `at` (monotonic seconds). Pure."""

    rate: float
    allowance: float = 0.0
    at: float = 0.0

    def at_time(self, now: float) -> Pace:
        """The pace at a later time: what was not used is kept for a second at most."""
        return Pace(self.rate, min(self.allowance + (now - self.at) * self.rate, max(self.rate, 1.0)), now)

    def used(self, commands: int) -> Pace:
        """The pace after so many commands."""
        return Pace(self.rate, self.allowance - commands, self.at)


class Delivery:
    """A thread for each target: any server, and each of them for what broadcast owes it in particular."""

    def __init__(self, journal: Journal, failover: Failover, config: ClientConfig) -> None:
        self._journal = journal
        self._failover = failover
        self._rate = config.journal_rate
        servers = write_order((*config.server_urls, *config.submit_only_server_urls))
        self._closed = threading.Event()
        self._work = {target: threading.Event() for target in (ANY, *(server.url for server in servers))}
        candidates: list[tuple[str, Sequence[Endpoint]]] = [(ANY, servers)]
        candidates += [(server.url, (server,)) for server in servers]
        self._threads = [
            threading.Thread(target=self._run, args=pair, name="pdbclient-delivery", daemon=True)
            for pair in candidates
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something to deliver."""
        for event in self._work.values():
            event.set()

    def close(self) -> None:
        """End the threads; deliveries under way are waited for."""
        self._closed.set()
        self.wake()
        for thread in self._threads:
            thread.join()

    def _run(self, target: str, servers: Sequence[Endpoint]) -> None:
        work = self._work[target]
        pace = Pace(self._rate, at=time.monotonic())
        troubled = False
        while not self._closed.is_set():
            pace = pace.at_time(time.monotonic())
            done = 0
            server = next((s for s in servers if self._failover.registry.usable(s, Operation.COMMAND)), None)
            try:
                if server is not None and pace.allowance >= 1:
                    done = self._deliver(target, server, min(int(pace.allowance), BATCH))
                troubled = False
            except JournalError as error:
                if not troubled:
                    log.error("nothing can be delivered: %s", error)
                troubled = True
            pace = pace.used(done)
            if not done:
                # Only the pause is sure: what another process put in wakes nobody here.
                work.wait(PAUSE)
                work.clear()
            elif pace.allowance < 1:
                self._closed.wait(1 / self._rate)

    def _deliver(self, target: str, server: Endpoint, limit: int) -> int:
        """Send at most `limit` of what is owed; how many were sent."""
        now = self._journal.clock()
        claims = self._journal.run(owing.claim, target, limit, now, now + self._journal.lease)
        if not claims:
            return 0
        found = self._journal.run(entries.fetch, [claim.entry for claim in claims])
        taken: dict[tuple[str, str], str] = {}
        notes: list[Future[EntryState | None]] = []
        done = len(claims)
        for number, claim in enumerate(claims):
            entry = found.get(claim.entry)
            if self._closed.is_set() or not self._failover.registry.usable(server, Operation.COMMAND):
                self._give_back(claims[number:])
                done = number
                break
            if isinstance(entry, Entry) and not _is_replaced(entry.command, taken):
                note = self._send(claim, entry, server)
                if note is not None:
                    notes.append(note)
                    taken[entry.command.name, entry.command.certname] = entry.command.producer_timestamp
            elif isinstance(entry, Damaged):
                self._park(claim, server, entry)
        for note in notes:
            note.result()
        return done

    def _send(self, claim: Claim, entry: Entry, server: Endpoint) -> Future[EntryState | None] | None:
        """What notes that the server took it, under way: the next one is sent meanwhile. None if it did not."""
        command, now = entry.command, self._journal.clock()
        about = f"{command.name} for {command.certname} ({entry.uuid})"
        try:
            uuid = self._failover.submit_to(server, command, alone=claim.target == ANY)
        except Rejected as error:
            log.error("parked: %s: %s", about, error)
            reason = f"HTTP {error.status}: {error.reason}"
            self._journal.run(owing.settle, entry.id, [Copy(server.url, CopyState.REJECTED, None, now, reason)])
        except (TransportError, ServerError) as error:
            log.info("not delivered yet: %s: %s", about, error)
            # While the server is well all the same, it is this command that it does not manage.
            counted = self._failover.registry.usable(server, Operation.COMMAND)
            self._journal.run(owing.put_off, entry.id, now, target=claim.target, counted=counted)
        else:
            log.info("delivered: %s to %s", about, server)
            return self._journal.start(owing.settle, entry.id, [Copy(server.url, CopyState.ACCEPTED, uuid, now)])
        return None

    def _park(self, claim: Claim, server: Endpoint, damage: Damaged) -> None:
        reason = f"damaged in the journal: {damage}"
        log.error("parked: entry %d: %s", claim.entry, reason)
        copy = Copy(server.url, CopyState.REJECTED, None, self._journal.clock(), reason)
        self._journal.run(owing.settle, claim.entry, [copy])

    def _give_back(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._journal.run(owing.put_off, claim.entry, self._journal.clock(), target=claim.target, counted=False)


def _is_replaced(command: Command, taken: Mapping[tuple[str, str], str]) -> bool:
    """Whether a newer one of the same claims was taken just now: that has settled this one too."""
    newer = taken.get((command.name, command.certname), "")
    return command.name in REPLACED and command.producer_timestamp < newer
