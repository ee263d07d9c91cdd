"""Ends the wait for a server that is silent, which libpq does not: its timeouts are for networks, not for servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf

from pdbclient.journal.rounds import Rounds

__all__ = ["Watchdog"]


class Watchdog:
    """Shuts a socket down on which somebody has waited for too long. For one wait at a time."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watched: int | None = None
        self._until = self._wakes = inf
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pdbclient-watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def over(self, descriptor: int, limit: float) -> Iterator[None]:
        """Watch over a wait for this socket, which stays open meanwhile. After `limit` seconds, it meets the end."""
        with self._condition:
            self._watched, self._until = descriptor, time.monotonic() + limit
            if self._until < self._wakes:
                self._condition.notify()
        try:
            yield
        finally:
            with self._condition:
                self._watched = None

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        rounds = Rounds("a wait for PostgreSQL could not be ended")
        with self._condition:
            while not self._closed:
                now = time.monotonic()
                if self._watched is not None and now >= self._until:
                    descriptor, self._watched = self._watched, None
                    with rounds.each():
                        _shut_down(descriptor)
                # While waits follow each other, nobody wakes it: it looks when the first of them would be over.
                self._wakes = self._until if now < self._until else inf
                self._condition.wait(None if self._wakes == inf else self._wakes - now)


def _shut_down(descriptor: int) -> None:
    # On a connection that is gone already, which is no socket any more: whoever waits sees that, too.
    with suppress(OSError):
        connection = socket.socket(fileno=descriptor)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        finally:
            # It is libpq's to close.
            connection.detach()
