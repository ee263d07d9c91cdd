"""The PuppetDBs behind the gateway: the shared HTTP layer, for handlers that must not block.

Whatever waits for a server has a thread of its own. There are as many as the servers have places, commands and
queries apart: those that one server keeps waiting leave enough for all the others. Queries of exported resources,
which wait for the journal, have threads of their own, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from pdbclient.config.model import ClientConfig, Endpoint, Timeouts
from pdbclient.errors import JournalError, Rejected, ServerError, TransportError
from pdbclient.gateway.completion import Completion, not_yet, submit_and_wait
from pdbclient.gateway.metrics import GatewayMetrics
from pdbclient.gateway.refusals import JournalRefusals
from pdbclient.http.failover import Accepted, Answered, Failover
from pdbclient.http.outcome import Attempt, Operation
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.sender import caller_left
from pdbclient.http.session import Page, Session
from pdbclient.http.staleness import Freshness
from pdbclient.http.tls_dates import earliest
from pdbclient.journal.work.service import Service
from pdbclient.journal.work.submission import Taken
from pdbclient.observe.exposition import exposition
from pdbclient.observe.traffic import Traffic
from pdbclient.wire import Command

__all__ = ["Answer", "NoThread", "Upstream", "timeouts_below"]

log = logging.getLogger("pdbclient.gateway")

T = TypeVar("T")

HELD = 1024 * 1024
"""How much of an answer is held before any of it is passed on: until then, another server can still be asked."""
HANDS = 4
"""Threads for what waits for no server: reports that are decoded, figures that are counted."""


class NoThread(Exception):
    """There is no thread to be had for a request: this gateway is ending, or this machine has none left."""


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
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rest:
    chunks: Iterator[bytes]
    answered: Answered[_Beginning]
    left: threading.Event

    def close(self) -> None:
        """Read no further: nobody waits for it. Nothing here waits for the server either."""
        self.left.set()
        close = getattr(self.chunks, "close", None)
        if close is not None:
            # One that is read in a thread at this moment sees for itself that nobody waits.
            with contextlib.suppress(ValueError):
                close()


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
    return replace(limits, connect=min(limits.connect, share), read=min(limits.read, share), operation=operation)


class Upstream:
    """Ordered failover over the servers of `config`, for coroutines, with the journal where there is one.

    What the one `before` knew of the servers is not forgotten; it shares its journal, what it counted, and its `name`
    among gateways, by which one sees that a request comes from itself. Raises `JournalError`.
    """

    def __init__(self, config: ClientConfig, before: Upstream | None = None) -> None:
        registry = None if before is None else before.registry
        self._tls = config.tls
        self._query_limits = (config.timeouts.query, timeouts_below(config.timeouts).operation)
        config = _below(config)
        places, servers = config.gateway_concurrency, len(config.server_urls) + len(config.submit_only_server_urls)
        self.places = places * servers
        self.name: str = secrets.token_hex(8) if before is None else before.name
        self.traffic: Traffic = Traffic() if before is None else before.traffic
        self._refusals: JournalRefusals = JournalRefusals() if before is None else before._refusals
        self._failover = Failover(config, registry=registry, places=places, gateway=self.name)
        if self._failover.registry is not registry:
            self._failover.registry.listen(_watched(self.traffic, config))
        self._queried: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        self._commands = ThreadPoolExecutor(self.places, "pdbclient-commands")
        self._queries = ThreadPoolExecutor(self.places, "pdbclient-queries")
        self._exported = ThreadPoolExecutor(self.places, "pdbclient-exported-queries")
        self._hands = ThreadPoolExecutor(HANDS, "pdbclient-hands")
        try:
            journal = None if before is None else before._journal
            self._journal: Service | None = Service.start(self._failover, config, journal)
        except BaseException:
            self._failover.close()
            raise
        self._failover.watch(config.gateway_health_interval)

    @property
    def registry(self) -> ServerRegistry:
        """What is known of the servers."""
        return self._failover.registry

    @property
    def journal(self) -> Service | None:
        """The journal at work, where there is one."""
        return self._journal

    async def run(self, call: Callable[[], T]) -> T:
        """Run something that takes long, but waits for no server, in a thread."""
        return await _run(self._hands, call)

    async def submit(self, make: Callable[[], tuple[Command, float]]) -> tuple[Accepted, Completion | None]:
        """Submit the command that `make` gives, in the thread that will wait for the servers.

        With it come the seconds that a server is to wait until it has processed the command, 0: not at all; then its
        words are in the answer. Raises what `make` raises; `Rejected` or `AllEndpointsFailed`; with a journal,
        `JournalError` instead.
        """
        return await _run(self._commands, lambda: self._submitted(*make()))

    def _submitted(self, command: Command, seconds: float) -> tuple[Accepted, Completion | None]:
        completions: list[Completion] = []

        def attempt(session: Session, within: float) -> str:
            completions.append(submit_and_wait(session, command, seconds, within))
            return str(completions[-1].document["uuid"])

        def send(command: Command, taken: Taken) -> Accepted:
            return self._failover.submit(command, taken, attempt if seconds else None)

        journal = self._journal
        if journal is None:
            accepted = send(command, lambda server, uuid: None)
        else:
            try:
                accepted = journal.submit(command, send)
            except JournalError as error:
                self._refusals.met(error)
                raise
            except Rejected:
                self._refusals.over()
                raise
            self._refusals.over()
        if not seconds:
            return accepted, None
        return accepted, completions[-1] if accepted.journalled is None else not_yet(accepted.journalled)

    async def metrics(self) -> bytes:
        """As `exposition`, for coroutines."""
        return await _run(self._hands, self.exposition)

    def exposition(self) -> bytes:
        """What is counted, for Prometheus."""
        expiry = earliest(self._tls)
        return exposition(GatewayMetrics(self.registry, self.traffic.snapshot(), self._journal, expiry))

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        puppet: bool,
        exported: bool,
    ) -> Answer:
        """Pass a query on. Raises `ServerError` and its kinds, `AllEndpointsFailed`, `StaleAnswer`.

        `puppet`: for Puppet, which does not wait for longer than `server_url_timeout`. `exported`: it is about
        exported resources. A query ends with the coroutine that waits for it.
        """
        left = threading.Event()
        self._queried.add(left)
        journal = self._journal if exported else None

        def begin(session: Session, within: float) -> _Beginning:
            def ask(within: float) -> _Beginning:
                return _begun(session.relay(method, target, body=body, headers=headers, within=within))

            if journal is None:
                return ask(within)
            beginning, freshness = journal.answer(session, within, ask)
            return replace(beginning, freshness=freshness)

        what = f"{method} {target[:200]}"
        limit = self._query_limits[puppet]

        def read() -> Answered[_Beginning]:
            caller_left.set(left)
            return self._failover.read(what, begin, timeout=limit, streamed=True)

        answered = await self._read(read, left, self._queries if journal is None else self._exported)
        beginning = answered.value
        rest = None
        if beginning.chunks is None:
            self._failover.completed(answered)
        else:
            rest = _Rest(beginning.chunks, answered, left)
        return Answer(
            answered.endpoint,
            answered.failed_over,
            beginning.freshness or answered.freshness,
            beginning.headers,
            beginning.start,
            rest,
            about_exported=journal is not None,
            attempts=answered.attempts,
        )

    async def more(self, rest: _Rest) -> bytes:
        """The next piece of an answer; nothing when it has ended, and is whole.

        Raises `TransportError` when it breaks off: what was passed on of it must not look like the whole.
        """
        try:
            chunk = await self._read(lambda: next(rest.chunks, b""), rest.left, self._queries)
        except (TransportError, ServerError) as error:
            self._failover.broke(rest.answered, error)
            raise
        if not chunk:
            self._failover.completed(rest.answered)
        return chunk

    async def _read(self, call: Callable[[], T], left: threading.Event, threads: ThreadPoolExecutor) -> T:
        """Run what waits for a server that was asked something; `left` is set when nobody waits for it any more."""
        try:
            return await _run(threads, call)
        except asyncio.CancelledError:
            left.set()
            raise

    def abandon(self) -> None:
        """End the queries that are under way."""
        for left in list(self._queried):
            left.set()

    def close(self) -> None:
        """End its threads, each after what it has begun, and close its connections."""
        for threads in (self._commands, self._queries, self._exported, self._hands):
            threads.shutdown()
        if self._journal is not None:
            self._journal.close()
        self._failover.close()


async def _run(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """Run it in one of the threads, in a copy of the context. Raises `NoThread`."""
    context = contextvars.copy_context()
    try:
        future = asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(call))
    except RuntimeError as error:
        # It has ended, or this machine has no thread left.
        raise NoThread(str(error)) from error
    return await future


def _watched(traffic: Traffic, config: ClientConfig) -> Callable[[Endpoint, Operation, bool, str], None]:
    """What tells `traffic` of the servers of a new registry."""
    noted = traffic.watch([each.url for each in (*config.server_urls, *config.submit_only_server_urls)])
    return lambda endpoint, operation, healthy, why: noted(endpoint.url, operation, healthy, why)


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
