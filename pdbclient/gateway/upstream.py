"""The PuppetDBs behind the gateway: the shared HTTP layer, which blocks, for handlers that must not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from pdbclient.config.model import ClientConfig, Endpoint, Timeouts
from pdbclient.errors import Misrouted, NotFound, ServerError, TransportError
from pdbclient.http.failover import Accepted, Answered, Failover
from pdbclient.http.freshness import Freshness
from pdbclient.http.memory import Memory
from pdbclient.http.session import Page, Session
from pdbclient.wire import Command

__all__ = ["Answer", "Upstream", "timeouts_below"]

log = logging.getLogger("pdbclient.gateway")

T = TypeVar("T")

HELD = 1024 * 1024
"""How much of an answer is held before any of it is passed on: until then, another server can still be asked."""
STREAM_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be passed on: the whole of it in `start`, or its beginning, and the rest by `Upstream.more`."""

    endpoint: Endpoint
    failed_over: bool
    freshness: Freshness
    headers: Mapping[str, str]
    start: bytes
    rest: _Rest | None


@dataclass(frozen=True, slots=True)
class _Rest:
    chunks: Iterator[bytes]
    answered: Answered[_Beginning]


@dataclass(frozen=True, slots=True)
class _Beginning:
    headers: Mapping[str, str]
    start: bytes
    chunks: Iterator[bytes] | None


def timeouts_below(limits: Timeouts) -> Timeouts:
    """The limits behind a gateway, for which Puppet waits `limits.attempt` seconds (`server_url_timeout`).

    It answers before that, and no server's silence takes the time that the next one needs; else Puppet would give up
    on the gateway, and pay for the outage itself. 0 means that Puppet waits for ever.
    """
    if not limits.attempt:
        return limits
    operation = min(limits.operation, limits.attempt * 5 / 6)
    share = operation * 2 / 5
    return Timeouts(limits.attempt, min(limits.connect, share), min(limits.read, share), operation)


class Upstream:
    """Ordered failover over the servers of `config`, for coroutines. `memory` is what an earlier one knew of them."""

    def __init__(self, config: ClientConfig, memory: Memory | None = None) -> None:
        self._failover = Failover(replace(config, timeouts=timeouts_below(config.timeouts)), memory=memory)
        self._threads = ThreadPoolExecutor(config.gateway_concurrency, "pdbclient-gateway")
        self._failover.watch(config.gateway_health_interval)

    @property
    def memory(self) -> Memory:
        """What is known of the servers."""
        return self._failover.memory

    async def run(self, call: Callable[[], T]) -> T:
        """Run something that blocks, or takes long, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def submit(self, command: Command) -> Accepted:
        """Submit a command. Raises `Rejected` or `AllEndpointsFailed`."""
        return await self.run(lambda: self._failover.submit(command))

    async def ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Pass a query on. Raises `Rejected`, `NotFound` or `AllEndpointsFailed`."""

        def begin(session: Session, within: float) -> _Beginning:
            try:
                return _begun(session.relay(method, target, body=body, headers=headers, within=within))
            except Misrouted as error:
                if error.status != 404 or target.startswith("/pdb/"):
                    raise
                # Outside of PuppetDB's own API, a 404 without JSON is how the server says it.
                raise _not_found(error) from error

        what = f"{method} {target[:200]}"
        answered = await self.run(lambda: self._failover.read(what, begin, timeout=STREAM_LIMIT, streamed=True))
        beginning = answered.value
        rest = None
        if beginning.chunks is None:
            self._failover.completed(answered)
        else:
            rest = _Rest(beginning.chunks, answered)
        return Answer(
            answered.endpoint, answered.failed_over, answered.freshness, beginning.headers, beginning.start, rest
        )

    async def more(self, rest: _Rest) -> bytes:
        """The next piece of an answer; nothing when it has ended, and is whole.

        Raises `TransportError` when it breaks off: what was passed on of it must not look like the whole.
        """
        try:
            chunk = await self.run(lambda: next(rest.chunks, b""))
        except (TransportError, ServerError) as error:
            self._failover.broke(rest.answered, error)
            raise
        if not chunk:
            self._failover.completed(rest.answered)
        return chunk

    async def drop(self, rest: _Rest) -> None:
        """Read no further: whoever asked has gone."""
        close = getattr(rest.chunks, "close", None)
        if close is not None:
            await self.run(close)

    def close(self) -> None:
        """End its threads and close its connections."""
        self._failover.close()
        self._threads.shutdown()


def _begun(page: Page) -> _Beginning:
    """Read the beginning of an answer, or all of it when that is no more."""
    pieces: list[bytes] = []
    size = 0
    for chunk in page.chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > HELD:
            return _Beginning(page.headers, b"".join(pieces), page.chunks)
    return _Beginning(page.headers, b"".join(pieces), None)


def _not_found(error: ServerError) -> NotFound:
    found = NotFound(error.endpoint, error.status, error.reason)
    found.headers, found.body = error.headers, error.body
    return found
