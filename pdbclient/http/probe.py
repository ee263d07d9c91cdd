"""The background threads that ask servers how they are, so that user traffic never serves as a probe.

`Prober` asks those whose circuit is open whether they are well again, and one that is back, but was written past,
whether it has caught up. It lives only while there is something to ask. `Watch` asks those that are in use.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from pdbclient.config.model import Endpoint
from pdbclient.errors import ServerError, TransportError
from pdbclient.http.memory import Memory
from pdbclient.http.outcome import Outcome
from pdbclient.http.session import Session
from pdbclient.http.shown import newest
from pdbclient.http.status import STATUS_PATH, read_status

__all__ = ["Prober", "Watch"]

log = logging.getLogger("pdbclient.http")

PROBE_LIMIT = 3.0
CONFIRM_GAP = 5.0
CONFIRM_BATCH = 500


class Prober:
    """Starts its thread when woken, lets it end when nothing is left to ask."""

    def __init__(self, memory: Memory, sessions: Mapping[Endpoint, Session]) -> None:
        self._memory = memory
        self._sessions = sessions
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = self._closed = False

    def wake(self) -> None:
        """There is something to ask, or something to ask sooner."""
        with self._condition:
            self._woken = True
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pdbclient-probe", daemon=True)
                self._thread.start()
            self._condition.notify()

    def ask(self) -> None:
        """One round, in the caller's thread: probe who is due, ask who is held back whether it has caught up."""
        for endpoint in self._memory.due():
            self._memory.probed(endpoint, self._well(endpoint))
        for endpoint, wanted in self._memory.to_confirm(CONFIRM_BATCH).items():
            self._memory.confirmed(endpoint, self._held(endpoint, wanted))

    def close(self) -> None:
        """End the thread; a probe under way is waited for (3 s at most)."""
        with self._condition:
            self._closed = True
            thread = self._thread
            self._condition.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self.ask()
            with self._condition:
                wait = self._pause()
                if wait is None and not self._woken:
                    self._thread = None
                    return
                if not self._woken and not self._closed:
                    self._condition.wait(wait)
                self._woken = False
                if self._closed:
                    self._thread = None
                    return

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None when nothing is left."""
        wait = self._memory.next_probe()
        if self._memory.to_confirm(1):
            wait = CONFIRM_GAP if wait is None else min(wait, CONFIRM_GAP)
        return wait

    def _well(self, endpoint: Endpoint) -> bool:
        try:
            _require_running(self._sessions[endpoint])
        except (TransportError, ServerError) as error:
            log.debug("probe: %s", error)
            return False
        return True

    def _held(self, endpoint: Endpoint, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """What the server holds of `wanted`: (command name, certname) -> producer timestamp."""
        certnames: dict[str, list[str]] = {}
        for name, certname in wanted:
            certnames.setdefault(name, []).append(certname)
        held: dict[tuple[str, str], str] = {}
        for name, names in certnames.items():
            try:
                for found, stamp in newest(self._sessions[endpoint], name, names, within=PROBE_LIMIT):
                    held[name, found] = stamp
            except (TransportError, ServerError) as error:
                # What came in before is seen all the same.
                log.debug("has it caught up? %s", error)
        return held


class Watch:
    """Asks every server in use how it is, every `interval` seconds: one that dies is known before anybody needs it.

    For a process that serves others, a gateway; a thread for each server, so that a silent one delays no other.
    `wake` is called when a server was shut out, which the prober then has to ask.
    """

    def __init__(
        self, memory: Memory, sessions: Mapping[Endpoint, Session], interval: float, wake: Callable[[], None]
    ) -> None:
        self._memory = memory
        self._interval = interval
        self._wake = wake
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(endpoint, session), name="pdbclient-watch", daemon=True)
            for endpoint, session in sessions.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads; checks under way are waited for (3 s at most)."""
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _run(self, endpoint: Endpoint, session: Session) -> None:
        while not self._closed.wait(self._interval):
            if self._memory.in_use(endpoint):
                self._check(endpoint, session)

    def _check(self, endpoint: Endpoint, session: Session) -> None:
        began = time.monotonic()
        try:
            _require_running(session)
        except (TransportError, ServerError) as error:
            log.debug("health check: %s", error)
            if self._memory.check_failed(endpoint, Outcome.of(error), began):
                self._wake()


def _require_running(session: Session) -> None:
    """Raise `TransportError` or `ServerError` unless PuppetDB says that it runs."""
    state = read_status(session.document(STATUS_PATH, within=PROBE_LIMIT).value).state
    if state != "running":
        raise ServerError(session.endpoint.url, 200, f"its state is {str(state)[:50]!r}, not 'running'")
