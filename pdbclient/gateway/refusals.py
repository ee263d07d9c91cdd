"""Commands that the journal does not take: the log is told when that begins and ends, however many they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pdbclient.errors import JournalError

__all__ = ["JournalRefusals"]

log = logging.getLogger("pdbclient.gateway")

REMIND = 600.0
"""Seconds after which a lasting one is told again."""


class JournalRefusals:
    """Whether the journal takes commands, as the last one of them found. Thread-safe. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told = 0.0
        self._commands = 0

    def met(self, error: JournalError) -> None:
        """A command was refused for this."""
        now = self._clock()
        with self._lock:
            first = self._since is None
            if self._since is None:
                self._since, self._told, self._commands = now, now, 0
            self._commands += 1
            since, commands = self._since, self._commands
            remind = now - self._told >= REMIND
            if remind:
                self._told = now
        if first:
            log.error("the journal takes no commands, which are refused until it does: %s", error)
        elif remind:
            log.error(
                "the journal still takes no commands, after %.0f s, %d refused: %s", now - since, commands, error
            )
        else:
            log.debug("%s", error)

    def over(self) -> None:
        """A command was taken."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            seconds = self._clock() - since
            log.warning("the journal takes commands again, after %.0f s; %d were refused", seconds, self._commands)
