"""PuppetDBs that queue commands and show them later, on a clock that moves when somebody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from pdbclient.config.model import Endpoint
from pdbclient.wire.command import Command

__all__ = ["Clock", "FakeRemote"]

_PLACES = {
    ("/catalogs", "producer_timestamp"): "replace catalog",
    ("/factsets", "producer_timestamp"): "replace facts",
    ("/nodes", "deactivated"): "deactivate node",
}


class Clock:
    """Seconds since 1970 and monotonic ones at once; stands for the module `time` too."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.slept = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.now += seconds


class FakeRemote:
    """One of them, and the session with it. What it takes shows after `delay` seconds, None: never.

    It makes nothing of commands with a timestamp among `discards`.

    `verdict` may raise at each command, `silence` at each look: an error, or after it moved the clock.
    """

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float], delay: float | None = 0.0) -> None:
        self.endpoint = endpoint
        self.delay = delay
        self.taken: list[Command] = []
        self.discards: set[str] = set()
        self.looks = 0
        self.verdict: Callable[[Command], None] = lambda command: None
        self.silence: Callable[[], None] = lambda: None
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: list[tuple[float, Command]] = []
        self._shown: dict[tuple[str, str], str] = {}

    def show(self, command: Command) -> None:
        """It got this from somebody else."""
        with self._lock:
            self._apply(command)

    def hide(self, certname: str, since: str) -> None:
        """It worked off a deactivation and a newer catalog at once: both are there."""
        self._shown["deactivate node", certname] = since

    def _apply(self, command: Command) -> None:
        key, dead, stamp = (
            (command.name, command.certname),
            ("deactivate node", command.certname),
            command.producer_timestamp,
        )
        if key == dead and self._shown.get(("replace catalog", command.certname), "") > stamp:
            return
        if key != dead and self._shown.get(dead, stamp) < stamp:
            del self._shown[dead]
        self._shown[key] = max(stamp, self._shown.get(key, ""))

    def submit(self, command: Command, *, within: float | None = None) -> str:
        self.verdict(command)
        with self._lock:
            self.taken.append(command)
            if self.delay is not None and command.producer_timestamp not in self.discards:
                self._queue.append((self._clock() + self.delay, command))
            return f"uuid-{len(self.taken)}"

    def records(self, path: str, *, query: Any, within: float | None = None, params: Any = None) -> Iterator[Any]:
        self.looks += 1
        self.silence()
        with self._lock:
            # One look at the clock: what became due between two of them would be lost.
            now = self._clock()
            due = [command for when, command in self._queue if when <= now]
            self._queue = [each for each in self._queue if each[0] > now]
        for command in due:
            self.show(command)
        # The expiration of facts is asked for without an extract.
        condition, field = (query[2], query[1][1]) if query[0] == "extract" else (query, query[-1][1])
        certnames = condition[1][2][1]
        name = _PLACES.get((path, field)) if isinstance(field, str) else None
        with self._lock:
            found = [(certname, self._shown.get((name or "", certname))) for certname in certnames]
        for certname, stamp in found:
            if stamp is not None:
                yield {"certname": certname, field: stamp}
