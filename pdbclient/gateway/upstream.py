"""The PuppetDBs behind the gateway: the shared HTTP layer, for handlers that must not block.

Commands go out from the event loop itself: they are many, and handing one to a thread costs as much as sending it.
Queries, whose answers may be long, and broadcasts have a thread each.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from pdbclient.config.model import ClientConfig, Endpoint, Timeouts
from pdbclient.errors import ServerError, TransportError
from pdbclient.gateway.intake import is_about_exported
from pdbclient.gateway.metrics import exposition
from pdbclient.http.exchange import AsyncSession
from pdbclient.http.failover import Accepted, Answered, Failover
from pdbclient.http.freshness import Freshness
from pdbclient.http.memory import Memory
from pdbclient.http.session import Page, Session
from pdbclient.http.tls import client_context
from pdbclient.journal.service import Service
from pdbclient.wire import Command

__all__ = ["Answer", "Upstream", "timeouts_below"]

log = logging.getLogger("pdbclient.gateway")

T = TypeVar("T")

HELD = 1024 * 1024
"""How much of an answer is held before any of it is passed on: until then, another server can still be asked."""
STREAM_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be passed on: the whole of it in `start`, or its beginning, and the rest by `Upstream.more`.

    `about_exported`: its server was brought up to date before, as far as `freshness` says.
    """

    endpoint: Endpoint
    failed_over: bool
    freshness: Freshness
    headers: Mapping[str, str]
    start: bytes
    rest: _Rest | None
    about_exported: bool = False


@dataclass(frozen=True, slots=True)
class _Rest:
    chunks: Iterator[bytes]
    answered: Answered[_Beginning]


@dataclass(frozen=True, slots=True)
class _Beginning:
    headers: Mapping[str, str]
    start: bytes
    chunks: Iterator[bytes] | None
    freshness: Freshness | None = None


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
    """Ordered failover over the servers of `config`, for coroutines, with the journal where there is one.

    What the one `before` knew of the servers is not forgotten; it shares its journal, and its `name` among gateways,
    by which one sees that a request comes from itself. Raises `JournalError`.
    """

    def __init__(self, config: ClientConfig, before: Upstream | None = None) -> None:
        memory = None if before is None else before.memory
        config = _below(config)
        self.name: str = secrets.token_hex(8) if before is None else before.name
        self._sessions = _sessions(config, self.name)
        self._failover = Failover(config, sessions=self._sessions, memory=memory)
        self._broadcast = config.command_broadcast
        self._threads = ThreadPoolExecutor(config.gateway_concurrency, "pdbclient-gateway")
        try:
            journal = None if before is None else before._journal
            self._journal: Service | None = Service.start(self._failover, config, journal)
        except BaseException:
            self._failover.close()
            raise
        self._failover.watch(config.gateway_health_interval)

    @property
    def memory(self) -> Memory:
        """What is known of the servers."""
        return self._failover.memory

    async def run(self, call: Callable[[], T]) -> T:
        """Run something that blocks, or takes long, in a thread."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(call))

    async def submit(self, command: Command) -> Accepted:
        """Submit a command. Raises `Rejected` or `AllEndpointsFailed`; with a journal, `JournalError` instead."""
        if self._journal is None:
            return await self._send(command)
        return await self._journal.submit_async(command, self._send)

    async def metrics(self) -> bytes:
        """What is counted, for Prometheus. Raises `JournalError`."""
        return await self.run(lambda: exposition(self.memory, self._journal))

    async def _send(self, command: Command) -> Accepted:
        if self._broadcast:
            return await self.run(lambda: self._failover.submit(command))

        def attempt(endpoint: Endpoint, within: float) -> Awaitable[str]:
            return self._sessions[endpoint].post(command, within)

        return await self._failover.submit_async(command, attempt)

    async def ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Pass a query on. Raises `Rejected`, `NotFound`, `AllEndpointsFailed`, or `StaleAnswer`."""
        journal = self._journal if is_about_exported(target, body) else None

        def begin(session: Session, within: float) -> _Beginning:
            began = time.monotonic()
            freshness = None if journal is None else journal.bring_up(session, within)
            within = max(within - (time.monotonic() - began), 0.001)
            page = session.relay(method, target, body=body, headers=headers, within=within)
            return replace(_begun(page), freshness=freshness)

        what = f"{method} {target[:200]}"
        answered = await self.run(lambda: self._failover.read(what, begin, timeout=STREAM_LIMIT, streamed=True))
        beginning = answered.value
        rest = None
        if beginning.chunks is None:
            self._failover.completed(answered)
        else:
            rest = _Rest(beginning.chunks, answered)
        return Answer(
            answered.endpoint,
            answered.failed_over,
            beginning.freshness or answered.freshness,
            beginning.headers,
            beginning.start,
            rest,
            about_exported=journal is not None,
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
        if self._journal is not None:
            self._journal.close()
        self._failover.close()
        self._threads.shutdown()


def _sessions(config: ClientConfig, name: str) -> dict[Endpoint, AsyncSession]:
    context = client_context(config.tls)
    endpoints = (*config.server_urls, *config.submit_only_server_urls)
    sessions = {e: AsyncSession(e, config.tls, config.timeouts, context=context) for e in endpoints}
    for session in sessions.values():
        session.gateway = name
    return sessions


def _below(config: ClientConfig) -> ClientConfig:
    """`config` with the limits of a gateway: whoever asks it does not wait longer than Puppet does."""
    timeouts = timeouts_below(config.timeouts)
    budget = min(config.stale_exported_budget, timeouts.operation / 2)
    return replace(config, timeouts=timeouts, stale_exported_budget=budget)


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
