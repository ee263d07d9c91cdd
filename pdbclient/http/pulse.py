"""Slow is not dead, and dead is not slow: the health of one server, asked beside the requests that it keeps waiting.

A request that has been silent for a second has its server asked how it is, again and again until the request ends.
A server that answers is slow, which is no reason to leave it. One that does not is dead: every request that waits for
it ends there and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from pdbclient.errors import CallerLeft
from pdbclient.http.outcome import Operation, Outcome, ends_waiting
from pdbclient.http.worker import Worker

__all__ = ["Pulse", "Waiting"]

SILENCE = 1.0
"""Seconds after which a request that waits has its server asked."""
GAP = 2.0
"""Seconds between two such questions, from end to beginning."""


class Waiting:
    """One request that may have to wait. `given_up` is what the server's status met, once it is to wait no more.

    Without a pulse, nothing is asked about its server.
    """

    def __init__(
        self,
        operation: Operation = Operation.QUERY,
        pulse: Pulse | None = None,
        caller: threading.Event | None = None,
    ) -> None:
        self.operation = operation
        self.silent = False
        self.given_up: Outcome | None = None
        self._pulse = pulse
        self._caller = caller

    def __call__(self, seconds: float) -> None:
        """It has waited for so long. Raises `CallerLeft`, or `ConnectionAbortedError` when the server is given up."""
        if self._caller is not None and self._caller.is_set():
            raise CallerLeft("whoever asked has gone")
        self.silent = seconds >= SILENCE
        if not self.silent:
            # Something came in since: it lives after all.
            self.given_up = None
        elif self._pulse is not None:
            self._pulse.wake()
        if self.given_up is not None:
            raise ConnectionAbortedError(self.given_up.detail)


class Pulse:
    """Asks one server how it is, by `ask`, which says what it met. Thread-safe."""

    def __init__(self, ask: Callable[[], Outcome]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: Future[Outcome] | None = None
        self._asked_at = float("-inf")
        # Without a lock: a request may end in a collection of garbage, in whichever thread and line that comes.
        self._waiting: set[Waiting] = set()
        self._worker = Worker("pdbclient-pulse", self._step)

    def waiting(self, operation: Operation, caller: threading.Event | None = None) -> Waiting:
        """A request that begins. `caller` is set when whoever asked has gone."""
        waiting = Waiting(operation, self, caller)
        self._waiting.add(waiting)
        return waiting

    def ended(self, waiting: Waiting) -> None:
        """This request waits no more."""
        self._waiting.discard(waiting)

    def wake(self) -> None:
        """A request waits in silence."""
        if not self._worker.running:
            self._worker.wake()

    def ask(self) -> Outcome:
        """How the server is, now. Whoever asks meanwhile gets the same answer; whoever waits in vain is given up."""
        with self._lock:
            asking, first = self._asking, self._asking is None
            if asking is None:
                asking = self._asking = Future()
        if not first:
            return asking.result()
        try:
            outcome = self._ask()
            asking.set_result(outcome)
        except BaseException as error:
            asking.set_exception(error)
            raise
        finally:
            with self._lock:
                self._asking, self._asked_at = None, time.monotonic()
        for waiting in self._silent():
            if ends_waiting(outcome, waiting.operation):
                waiting.given_up = outcome
        return outcome

    def close(self) -> None:
        """End its thread."""
        self._worker.close()

    def _silent(self) -> list[Waiting]:
        return [waiting for waiting in list(self._waiting) if waiting.silent]

    def _step(self) -> float | None:
        if not self._silent():
            return None
        due = self._asked_at + GAP - time.monotonic()
        if due <= 0:
            self.ask()
            due = GAP
        return due
