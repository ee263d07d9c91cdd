"""Who is answered when: the clients that may use the gateway, so many at a time, until it ends or is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Literal, Self

from aiohttp import web

from pdbclient.gateway import addresses
from pdbclient.gateway.budget import MemoryBudget, Reservation
from pdbclient.gateway.client_auth import certname_of_peer, refusal_of_local
from pdbclient.gateway.exchange import Exchange, plain
from pdbclient.gateway.intake import Refused, is_about_exported
from pdbclient.gateway.rules import Rules
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
        self._read_memory = MemoryBudget(rules.max_read_bytes, self._memory)
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
            if (transport := request.transport) is None:
                under_way.note(Ending.CLIENT_LEFT)
                return plain(503, "ending\n")
            in_clear = transport.get_extra_info("sslcontext") is None
            who, why = self._local(request, path) if in_clear else self._peer(transport)
            if why is not None:
                under_way.note(Ending.REFUSED)
                log.warning("%s may not use this gateway: %s (from %s)", who, why, request.remote)
                return plain(403, f"{who} may not use this gateway: {why}\n")
            memory = self._memory if kind is Kind.COMMAND and not in_clear else self._read_memory
            with Reservation(memory) as reserved:
                return await self._through(request, who, reserved, under_way)

    def _local(self, request: web.BaseRequest, path: str) -> tuple[str, str | None]:
        """Who asks in clear text, and why it may not."""
        headers, commands = request.headers, self._rules.local_commands
        why = refusal_of_local(path, headers.get("Host", ""), headers.get("Origin"), commands=commands)
        return "a program of this machine", why

    def _peer(self, transport: asyncio.Transport) -> tuple[str, str | None]:
        """Who asks with a certificate, and why it may not."""
        certname = certname_of_peer(transport.get_extra_info("peercert"))
        if certname is None:
            return "a client without a common name in its certificate", "gateway_allow is a list of such names"
        return certname, None if certname.lower() in self._rules.allowed else "it is not in gateway_allow"

    async def _through(
        self, request: web.BaseRequest, certname: str, memory: Reservation, under_way: UnderWay
    ) -> web.StreamResponse:
        with _Place(self._doors, self._rules.patience, under_way) as place:
            try:
                await place.take(under_way.kind)
            except Refused as error:
                under_way.note(Ending.OVERLOADED)
                return plain(error.status, f"{error.reason}\n")
            exchange = Exchange(request, certname, self._upstream, self._rules, memory, under_way, place.take)
            return await exchange.answer()


def _kind(request: web.BaseRequest, path: str) -> Kind:
    if path in (addresses.COMMAND_PATH, addresses.REPORT_PATH):
        return Kind.COMMAND
    if path == addresses.METRICS_PATH:
        return Kind.OWN
    # One whose body has the query is told when that is read.
    return Kind.EXPORTED if is_about_exported(request.raw_path, None) else Kind.QUERY


class _Place:
    """What a request has of the door of its kind: a context that gives it back."""

    def __init__(self, doors: Mapping[Kind, _Door], patience: float, under_way: UnderWay) -> None:
        self._doors, self._patience, self._under_way = doors, patience, under_way
        self._door: _Door | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._door is not None:
            self._door.release()
            self._door = None

    async def take(self, kind: Kind) -> None:
        """Have a place of this kind, which the request is from now on, and none of another. Raises `Refused`."""
        self.__exit__(None, None, None)
        self._under_way.kind = kind
        door = self._doors[kind]
        if door.full:
            raise Refused(503, "the gateway has more requests than it can hold")
        try:
            # Without a timer where nobody has to wait: it costs more than the door itself.
            async with asyncio.timeout(self._patience) if door.locked() else contextlib.nullcontext():
                await door.acquire()
        except TimeoutError as error:
            raise Refused(503, "the gateway has more requests than it can work on") from error
        self._door = door


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
