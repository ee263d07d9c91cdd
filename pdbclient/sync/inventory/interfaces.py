"""What the reconciler needs from the outside: a server to ask, a clock to read. Tests put fakes in their
place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pdbclient.config.model import Endpoint
from pdbclient.wire.command import Command

__all__ = ["Answer", "Clock", "Connect", "Server"]


class Answer(Protocol):
    """A JSON document with the headers that came with it (looked up without regard to case)."""

    @property
    def value(self) -> Any: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class Server(Protocol):
    """One PuppetDB, always the same one, asked from several threads. `within` is in seconds.

    Errors are those of `pdbclient.errors` for one attempt.
    """

    @property
    def endpoint(self) -> Endpoint: ...

    def rows(
        self,
        path: str,
        *,
        query: str | list[Any] | None = None,
        params: Mapping[str, str] | None = None,
        within: float | None = None,
    ) -> Iterator[bytes]:
        """The rows of a query as their exact bytes: all of them, or an error."""
        ...

    def document(self, path: str, *, within: float | None = None) -> Answer:
        """The JSON document at an absolute path."""
        ...

    def submit(self, command: Command, *, within: float | None = None) -> str:
        """Queue a command; its uuid there. 200 means queued, not applied."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


Connect = Callable[[Endpoint], Server]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the reconciler sees it, in seconds. `stop` ends every wait early, and the pass at its next
    step.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    stop: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> bool:
        """Wait; whether the process was asked to stop."""
        return self.stop.wait(seconds)
