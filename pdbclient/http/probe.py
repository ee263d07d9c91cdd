"""The background threads that ask servers how they are, so that user traffic never serves as a probe.

Two for each server, so that none of them is kept waiting by another, and each only while it has something to ask:
whether the server is healthy again when its circuit is open, or still healthy where that is to be known before
anybody needs it (`watch`); and whether a server that is back, but was written past, has caught up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial

from pdbclient.config.model import Endpoint
from pdbclient.errors import ServerError, TransportError
from pdbclient.http.outcome import Kind
from pdbclient.http.presence import newest
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.session import Session
from pdbclient.http.worker import Worker

__all__ = ["Prober"]

log = logging.getLogger("pdbclient.http")

LEAST_GAP = 1.0
"""Seconds until a server is asked again where that should be at once: this machine could not ask it."""
CONFIRM_LIMIT = 3.0
CONFIRM_GAP = 5.0
CONFIRM_BATCH = 500


class Prober:
    """Asks the servers of `sessions` what `registry` wants to know of them."""

    def __init__(self, registry: ServerRegistry, sessions: Mapping[Endpoint, Session]) -> None:
        self._registry = registry
        self._sessions = sessions
        self._interval: float | None = None
        self._asked_at = dict.fromkeys(sessions, float("-inf"))
        self._probes = {server: Worker("pdbclient-probe", partial(self._probe, server)) for server in sessions}
        self._confirms = {server: Worker("pdbclient-confirm", partial(self._confirm, server)) for server in sessions}

    def watch(self, interval: float) -> None:
        """From now on, ask every server in use how it is, too, every `interval` seconds."""
        self._interval = interval
        self._asked_at = dict.fromkeys(self._sessions, time.monotonic())
        self.wake()

    def wake(self) -> None:
        """There is something to ask, or something to ask sooner."""
        for server, worker in self._probes.items():
            if self._due(server) is not None:
                worker.wake()
        for server in self._registry.to_confirm(1):
            self._confirms[server].wake()

    def ensure(self, server: Endpoint) -> None:
        """The server is shut out: its thread is started, if that could not be done before."""
        if not self._probes[server].running:
            self._probes[server].wake()

    def ask(self) -> None:
        """One round, in the caller's thread: probe who is due, ask who is held back whether it has caught up."""
        for server in self._sessions:
            self._probe(server)
        for server in self._sessions:
            self._confirm(server)

    def close(self) -> None:
        """End the threads; a question under way is waited for (some seconds at most)."""
        for worker in (*self._probes.values(), *self._confirms.values()):
            worker.close()

    def _due(self, server: Endpoint) -> float | None:
        """Seconds until the server is to be asked; None: there is no need."""
        due = self._registry.next_probe(server)
        if self._interval is not None and self._registry.in_use(server):
            watched = max(self._asked_at[server] + self._interval - time.monotonic(), 0.0)
            due = watched if due is None else min(due, watched)
        return due

    def _probe(self, server: Endpoint) -> float | None:
        due = self._due(server)
        if due is None or due > 0:
            return due
        began = time.monotonic()
        outcome = self._sessions[server].ask()
        self._asked_at[server] = time.monotonic()
        if outcome.kind is not Kind.ACCEPTED:
            self._registry.check_failed(server, outcome, began)
        if outcome.kind is not Kind.LOCAL and self._registry.probed(server, outcome.kind is Kind.ACCEPTED):
            self.wake()
        due = self._due(server)
        return LEAST_GAP if due == 0 else due

    def _confirm(self, server: Endpoint) -> float | None:
        wanted = self._registry.to_confirm(CONFIRM_BATCH).get(server)
        if not wanted:
            return None
        self._registry.confirmed(server, self._held(server, wanted))
        return CONFIRM_GAP

    def _held(self, server: Endpoint, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """What the server holds of `wanted`: (command name, certname) -> producer timestamp."""
        certnames: dict[str, list[str]] = {}
        for name, certname in wanted:
            certnames.setdefault(name, []).append(certname)
        held: dict[tuple[str, str], str] = {}
        for name, names in certnames.items():
            try:
                for found, stamp in newest(self._sessions[server], name, names, within=CONFIRM_LIMIT):
                    held[name, found] = stamp
            except (TransportError, ServerError) as error:
                # What came in before is seen all the same.
                log.debug("has it caught up? %s", error)
        return held
