"""Who is answered when: the clients that may use the gateway, so many at a time, until it ends or is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from typing import Literal

from aiohttp import web

from pdbclient.gateway import addresses
from pdbclient.gateway.budget import MemoryBudget, Reservation
from pdbclient.gateway.client_auth import certname_of_peer, refusal_of_local
from pdbclient.gateway.exchange import Exchange, Rules, plain
from pdbclient.gateway.intake import is_about_exported
from pdbclient.gateway.upstream import Upstream
from pdbclient.observe.traffic import Ending, Kind, UnderWay

__all__ = ["App"]

log = logging.getLogger("pdbclient.gateway")

WAITING_PER_PLACE = 4


class App:
    """Answers requests."""

    def __init__(self, upstream: Upstream, rules: Rules) -> None:
        self._upstream, self._rules = upstream, rules
        # Apart, like the threads: of these, none must wait for those that wait for the journal.
        self._doors = {kind: _Door(upstream.places) for kind in Kind}
        self._memory = MemoryBudget(rules.max_total_bytes)
        self._busy: set[web.RequestHandler] = set()
        self._idle = asyncio.Event()
        self._last: Collection[web.RequestHandler] | None = None
        self._heir: App | None = None

    async def end(self, connections: Collection[web.RequestHandler], heir: App | None) -> None:
        """Take on no more requests, and return when the answers to those under way are out.

        Whatever these connections, or those that are still in their TLS handshake, ask from now on is answered by
        `heir`, and then they end. Without one, these end at once when they are idle, and the others are refused.
        """
        self._last, self._heir = frozenset(connections), heir
        if heir is None:
            # aiohttp's own shutdown waits for idle ones too, and does not hear what they ask meanwhile.
            for connection in self._last - self._busy:
                connection.force_close()
        if self._busy:
            await self._idle.wait()

    @property
    def over(self) -> bool:
        """Whether nobody answers here any more, nor in its place."""
        return self._last is not None and (self._heir is None or self._heir.over)

    def answers(self, connection: web.RequestHandler) -> bool:
        """Whether a request of this connection is under way here, or at the heir."""
        return connection in self._busy or (self._heir is not None and self._heir.answers(connection))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request."""
        connection = request.protocol
        if self._last is not None and self._heir is not None:
            response = await self._heir.handle(request)
            response.force_close()
            return response
        if self._last is not None and connection not in self._last:
            # It was in its TLS handshake when the end began: what let it in does not hold any more.
            connection.force_close()
            return plain(503, "ending\n")
        self._busy.add(connection)
        self._idle.clear()
        try:
            response = await self._answer(request)
        finally:
            self._busy.discard(connection)
            if not self._busy:
                self._idle.set()
        if self._last is not None:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        kind = _kind(request, path)
        answer = self._counted(kind, request, path)
        # A command goes on when its client has left, and keeps its place and its memory until it is done.
        return await (asyncio.shield(asyncio.ensure_future(answer)) if kind is Kind.COMMAND else answer)

    async def _counted(self, kind: Kind, request: web.BaseRequest, path: str) -> web.StreamResponse:
        with self._upstream.traffic.request(kind) as under_way:
            who, why = self._who(request, path)
            if why is not None:
                under_way.note(Ending.REFUSED)
                log.warning("%s may not use this gateway: %s (from %s)", who, why, request.remote)
                return plain(403, f"{who} may not use this gateway: {why}\n")
            return await self._through(self._doors[kind], request, who, under_way)

    def _who(self, request: web.BaseRequest, path: str) -> tuple[str, str | None]:
        """Who asks, and why it may not."""
        transport, headers = request.transport, request.headers
        if transport is not None and transport.get_extra_info("sslcontext") is None:
            host, origin, commands = headers.get("Host", ""), headers.get("Origin"), self._rules.local_commands
            return "a program of this machine", refusal_of_local(path, host, origin, commands=commands)
        certname = certname_of_peer(transport.get_extra_info("peercert")) if transport is not None else None
        allowed = certname is not None and certname.lower() in self._rules.allowed
        return str(certname), None if allowed else "it is not in gateway_allow"

    async def _through(
        self, door: _Door, request: web.BaseRequest, certname: str, under_way: UnderWay
    ) -> web.StreamResponse:
        under_way.note(Ending.OVERLOADED)
        if door.full:
            return plain(503, "the gateway has more requests than it can hold\n")
        try:
            # Without a timer where nobody has to wait: it costs more than the door itself.
            async with asyncio.timeout(self._rules.patience) if door.locked() else contextlib.nullcontext():
                await door.acquire()
        except TimeoutError:
            return plain(503, "the gateway has more requests than it can work on\n")
        try:
            under_way.note(Ending.INTERNAL_ERROR)
            with Reservation(self._memory) as memory:
                return await Exchange(request, certname, self._upstream, self._rules, memory, under_way).answer()
        finally:
            door.release()


def _kind(request: web.BaseRequest, path: str) -> Kind:
    if path in (addresses.COMMAND_PATH, addresses.REPORT_PATH):
        return Kind.COMMAND
    if path == addresses.METRICS_PATH:
        return Kind.OWN
    return Kind.EXPORTED if is_about_exported(request.raw_path, None) else Kind.QUERY


class _Door(asyncio.Semaphore):
    """Lets so many requests in at a time; some more may wait before it."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self._most = WAITING_PER_PLACE * places
        self._before = 0

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return self._before >= self._most

    async def acquire(self) -> Literal[True]:
        """As any semaphore's."""
        self._before += 1
        try:
            return await super().acquire()
        finally:
            self._before -= 1
