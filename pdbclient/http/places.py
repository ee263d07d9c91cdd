"""How many requests one server is sent at once: what it does not answer takes nothing from another server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Places"]

STALLED = 1.0
"""Seconds without a place taken or given back, after which nobody waits for one any more."""


class Places:
    """A bounded number of places. Thread-safe."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._moved_at = 0.0
        self._condition = threading.Condition()

    def take(self, look_up: Callable[[float], float], *, elsewhere: bool) -> bool:
        """Take a place. False: there is none, nor are they becoming free, and there is somewhere else to go.

        `look_up(since)` gives the seconds after which it is to be called again; it raises what ends the wait.
        """
        since = time.monotonic()
        with self._condition:
            while self._free == 0:
                pause = look_up(since)
                if elsewhere:
                    pause = min(pause, self._moved_at + STALLED - time.monotonic())
                    if pause <= 0:
                        return False
                self._condition.wait(pause)
            self._free -= 1
            self._moved_at = time.monotonic()
            return True

    def give_back(self) -> None:
        """Let the next one have it."""
        with self._condition:
            self._free += 1
            self._moved_at = time.monotonic()
            self._condition.notify()
