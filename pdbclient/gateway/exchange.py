"""One request of one client: read, checked, handed on to the servers, and answered as a PuppetDB would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from aiohttp import web

from pdbclient.config.model import Endpoint
from pdbclient.errors import (
    AllEndpointsFailed,
    CallerLeft,
    InvalidCommand,
    JournalError,
    ServerError,
    StaleAnswer,
    TransportError,
)
from pdbclient.gateway import addresses, header_names
from pdbclient.gateway.addresses import Goal, Refusal
from pdbclient.gateway.budget import Reservation
from pdbclient.gateway.completion import Completion
from pdbclient.gateway.compression import MOST_UNPACKED, SMALLEST, USUALLY_UNPACKED, Gzip, TooLarge, wants_gzip
from pdbclient.gateway.endings import failures_of, note_taken
from pdbclient.gateway.intake import HEADERS, Refused, command_from, is_about_exported, seconds_to_wait
from pdbclient.gateway.report import report_command
from pdbclient.gateway.rules import Rules
from pdbclient.gateway.upstream import Answer, NoThread, Upstream
from pdbclient.http.failover import Accepted
from pdbclient.http.staleness import Freshness
from pdbclient.http.via import HEADER, LIMIT, came_through, gateways
from pdbclient.observe.traffic import Ending, Kind, UnderWay
from pdbclient.wire import Command

__all__ = ["Exchange", "plain"]

log = logging.getLogger("pdbclient.gateway")

T = TypeVar("T")

BODY_PATIENCE = 30.0
"""Seconds that a client may take to send a body, or to take a piece of an answer."""
MEMORY_PATIENCE = 5.0
"""Seconds that a request waits for memory for its body."""
_NOT_PASSED = frozenset(
    {"connection", "content-encoding", "content-length", "date", "keep-alive", "server", "transfer-encoding", "vary"}
)
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
_PASSED_TO_SERVER = ("Accept", "Content-Type")
_HOST = re.compile(r"[!-~]*", re.ASCII).fullmatch
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII).fullmatch
# What a header may not have in it: control characters, and what no encoding can write (a byte that was no UTF-8).
_UNSENDABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]+[ \t]*")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of one client, whose certificate has the name `certname`.

    `become` is called for a request that turns out to be of another kind: it waits for a place among those.
    """

    request: web.BaseRequest
    certname: str
    upstream: Upstream
    rules: Rules
    memory: Reservation
    under_way: UnderWay
    become: Callable[[Kind], Awaitable[None]]

    async def answer(self) -> web.StreamResponse:
        """The answer, whatever is met."""
        try:
            return await self._answer()
        except Refused as error:
            self.under_way.note(Ending.REFUSED if error.status < 500 else Ending.OVERLOADED)
            return _json(error.status, {"error": error.reason})
        except InvalidCommand as error:
            self.under_way.note(Ending.REFUSED)
            log.warning("refused: %s", error)
            return _json(400, {"error": str(error)})
        except ServerError as error:
            ending = Ending.REJECTED if error.status < 500 else Ending.SERVER_ERROR
            self.under_way.note(ending, error.endpoint, failures_of(error.attempts))
            return self._handed_on(error)
        except StaleAnswer as error:
            self.under_way.note(Ending.STALE, error.endpoint, stale=True)
            log.error("%s", error)
            # Not a 5xx: Puppet would go on to the next of its server_urls, and take there what is refused here.
            return _json(409, {"error": str(error)})
        except JournalError as error:
            self.under_way.note(Ending.UNAVAILABLE)
            return _json(503, {"error": str(error)})
        except AllEndpointsFailed as error:
            self.under_way.note(Ending.UNAVAILABLE, failures=failures_of(error.attempts))
            log.log(logging.DEBUG if error.in_outage else logging.WARNING, "%s", error)
            return _json(503, {"error": str(error)})
        except CallerLeft:
            self.under_way.note(Ending.CLIENT_LEFT)
            return plain(503, "ending\n")
        except NoThread as error:
            self.under_way.note(Ending.OVERLOADED)
            log.warning("%s", error)
            return plain(503, f"the gateway cannot work on it: {error}\n")

    async def _answer(self) -> web.StreamResponse:
        came_through.set(self._before())
        method, (path, _, query) = self.request.method, self.request.raw_path.partition("?")
        if not _HOST(self.request.headers.get("Host", "")):
            return plain(400, "Bad Host: its name has characters in it that no name of a host has\n")
        match addresses.goal(method, path):
            case Goal.COMMAND:
                return await self._command(query)
            case Goal.NO_COMMAND:
                # PuppetDB looks at the command before it looks at the address.
                await self._checked(query, self.upstream.run)
                self.under_way.note(Ending.REFUSED)
                return _refusal(addresses.NOT_FOUND)
            case Goal.REPORT:
                return await self._report()
            case Goal.METRICS:
                response = web.Response(body=await self.upstream.metrics(), headers=_METRICS)
                self.under_way.note(Ending.ANSWERED)
                return response
            case Goal.SERVER:
                return await self._passed_on()
            case refusal:
                self.under_way.note(Ending.REFUSED)
                return _refusal(refusal)

    def _before(self) -> tuple[str, ...]:
        """The gateways that the request has come through. Raises `Refused` when this one is among them."""
        if HEADER not in self.request.headers:
            return ()
        before = gateways(", ".join(self.request.headers.getall(HEADER)))
        if self.upstream.name in before or len(before) > LIMIT:
            log.warning("a loop: a request came back from %s (%s)", self.certname, self.request.remote)
            who = "this gateway itself, or another one that has it among its servers"
            why = f"a loop: the request comes from {who}: take the gateway's other name out of server_urls there"
            raise Refused(508, why)
        return before

    async def _command(self, query: str) -> web.StreamResponse:
        return self._taken(*await self._checked(query, self.upstream.submit))

    async def _checked(self, query: str, then: Callable[[Callable[[], tuple[Command, float]]], Awaitable[T]]) -> T:
        """What `then` makes, in a thread, of the command in the body: it reads all of it, and there may be a lot."""
        body = await self._body()
        given = self.request.headers
        headers = {name: value for name in HEADERS if (value := given.get(name)) is not None}
        if "Accept" in headers:
            headers["Accept"] = self._line("Accept")
        check = partial(self._made, query, headers, body, datetime.now(UTC))
        said, allowed = headers.get("X-Uncompressed-Length", ""), self.rules.max_body_bytes
        # Whatever is said: no memory for more than it can be.
        most = min(allowed, MOST_UNPACKED * len(body))
        first = int(said) if said.isascii() and said.isdigit() and len(said) < 15 else USUALLY_UNPACKED * len(body)
        for limit in sorted({min(first, most), most}):
            # Memory for what it says that it is unpacked to, or usually is; for the most only where needed.
            await self._reserve(len(body) + limit if "Content-Encoding" in headers else len(body))
            with suppress(TooLarge):
                return await then(partial(check, limit))
        raise Refused(413, f"a body that unpacks to more than {allowed} bytes (gateway_max_body_bytes)")

    def _made(
        self, query: str, headers: Mapping[str, str], body: bytes, now: datetime, limit: int
    ) -> tuple[Command, float]:
        command = command_from(query, headers, body, now=now, limit=limit)
        seconds = seconds_to_wait(query)
        if seconds and self.rules.command_broadcast:
            raise Refused(400, "secondsToWaitForCompletion: with command_broadcast the gateway does not wait")
        return command, seconds

    def _line(self, name: str) -> str:
        """All lines of a header as the one that they stand for; empty without any."""
        return ", ".join(self.request.headers.getall(name, ()))

    async def _report(self) -> web.StreamResponse:
        """A report as Puppet's own `http` report processor posts it (`reporturl`)."""
        if self.request.method != "POST":
            return plain(405, "a report is posted\n", Allow="POST")
        body, now, unchanged = await self._body(), datetime.now(UTC), self.rules.include_unchanged_resources

        def make() -> tuple[Command, float]:
            command = report_command(body, producer=self.certname, include_unchanged=unchanged, now=now)
            for warning in command.warnings:
                log.warning("%s", warning)
            return command, 0.0

        return self._taken(*await self.upstream.submit(make))

    def _taken(self, accepted: Accepted, completion: Completion | None) -> web.StreamResponse:
        note_taken(self.under_way, accepted)
        if completion is not None:
            return _json(completion.status, dict(completion.document), _taken_by(accepted))
        uuid = accepted.journalled or next(iter(accepted.uuids.values()))
        return _json(200, {"uuid": uuid}, _taken_by(accepted))

    async def _passed_on(self) -> web.StreamResponse:
        request = self.request
        body = await self._body() if request.body_exists else None
        if self.under_way.kind is not Kind.EXPORTED and is_about_exported("", body):
            await self.become(Kind.EXPORTED)
        headers = {name: _octets(self._line(name)) for name in _PASSED_TO_SERVER if name in request.headers}
        puppet = request.headers.get("User-Agent", "").startswith("Puppet/")
        exported = self.under_way.kind is Kind.EXPORTED
        ask = self.upstream.ask(request.method, request.raw_path, body, headers, puppet=puppet, exported=exported)
        answer = await ask
        stale = answer.about_exported and answer.freshness.stale
        self.under_way.note(Ending.ANSWERED, answer.endpoint.url, failures_of(answer.attempts), stale=stale)
        headers = _end_to_end(answer.headers) | _origin(answer.endpoint, answer.failed_over, answer.freshness)
        if answer.about_exported:
            headers[header_names.STALE] = str(stale).lower()
        gzip = Gzip() if wants_gzip(self._line("Accept-Encoding")) and request.method != "HEAD" else None
        headers["Vary"] = "Accept-Encoding"
        if answer.rest is not None:
            return await self._streamed(answer, headers, gzip)
        body = answer.start
        if gzip is not None and len(body) >= SMALLEST:
            headers["Content-Encoding"] = "gzip"
            body = await self.upstream.run(lambda: gzip.all(answer.start))
        return web.Response(body=body, headers=headers)

    async def _streamed(self, answer: Answer, headers: dict[str, str], gzip: Gzip | None) -> web.StreamResponse:
        """Pass on an answer of any size. When it breaks off, so does the connection: no client takes it for whole."""
        assert answer.rest is not None
        if gzip is not None:
            headers["Content-Encoding"] = "gzip"
        response = web.StreamResponse(headers=headers)
        if self.request.version < (1, 1):
            # Its end is that of the connection.
            response.force_close()
        else:
            response.enable_chunked_encoding()
        whole = False
        try:
            await response.prepare(self.request)
            chunk = answer.start
            while chunk:
                await self._write(
                    response, chunk if gzip is None else await self.upstream.run(partial(gzip.more, chunk))
                )
                chunk = await self.upstream.more(answer.rest)
            if gzip is not None:
                await self._write(response, gzip.end())
            whole = True
        except (TransportError, ServerError, CallerLeft, NoThread) as error:
            self.under_way.ending = Ending.CUT_OFF
            log.warning("%s %s: cut off: %s", self.request.method, self.request.path, error)
        except (ConnectionError, TimeoutError) as error:
            self.under_way.ending = Ending.CLIENT_LEFT
            log.info("%s %s: the client took no more: %r", self.request.method, self.request.path, error)
        finally:
            if not whole:
                answer.rest.close()
            if not whole and self.request.transport is not None:
                _reset(self.request.transport)
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(BODY_PATIENCE):
            await response.write(data)

    async def _body(self) -> bytes:
        """The body. It takes memory as it comes in: whoever only says how much it will be takes none from others."""
        request, content = self.request, self.request.content
        self._allowed(request.content_length or 0)
        try:
            # Before HTTP/1.1 nobody waits for leave, nor knows what is said then.
            if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            if content.is_eof():
                # All of it is there already, as it is of most commands: no timer, no pieces.
                body = content.read_nowait()
                await self._reserve(self._allowed(len(body)))
                return body
            async with asyncio.timeout(BODY_PATIENCE):
                pieces: list[bytes] = []
                size = 0
                async for chunk in content.iter_any():
                    pieces.append(chunk)
                    size += len(chunk)
                    await self._reserve(self._allowed(size))
        except ConnectionError as error:
            raise CallerLeft(f"the client left before its body was there: {error}") from error
        except web.RequestPayloadError as error:
            # Whoever sent it has gone, as a rule: nobody will read this.
            raise Refused(400, f"the body broke off: {error}") from error
        except TimeoutError as error:
            self.request.protocol.force_close()
            raise Refused(408, f"the body took longer than {BODY_PATIENCE:.0f} s") from error
        return b"".join(pieces)

    def _allowed(self, size: int) -> int:
        limit = self.rules.max_body_bytes
        if size > limit:
            raise Refused(413, f"a body of more than {limit} bytes (gateway_max_body_bytes)")
        return size

    async def _reserve(self, size: int) -> None:
        try:
            await self.memory.grow(size, MEMORY_PATIENCE)
        except TimeoutError as error:
            total = self.rules.max_total_bytes
            why = f"the bodies of other requests take what they may of {total} bytes (gateway_max_total_bytes)"
            raise Refused(503, why) from error

    def _handed_on(self, error: ServerError) -> web.Response:
        """A server's own verdict on the request, as it gave it."""
        headers = _end_to_end(error.headers)
        for attempt in error.attempts:
            if (endpoint := attempt.endpoint).url == error.endpoint:
                headers |= _origin(endpoint, endpoint.order > 0, self.upstream.registry.freshness(endpoint))
        if 300 <= error.status < 400:
            # To a dashboard that the gateway does not have: what PuppetDB before 8.5 says to an unknown address.
            headers = {name: value for name, value in headers.items() if name.startswith(header_names.PREFIX)}
            return _refusal(addresses.NOT_FOUND, headers)
        return web.Response(status=error.status, body=error.body, headers=headers)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection so that it looks like no end of an answer, not even to a client of HTTP/1.0."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        # It has ended already.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a server that are meant for the client: control characters as blanks, as RFC 9110, 5.5 says."""
    passed = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED and _TOKEN(name)}
    return {name: _UNSENDABLE.sub(" ", value).strip() for name, value in passed.items()}


def _octets(value: str) -> str:
    """A client's header for the server, byte by byte: aiohttp reads it as UTF-8, requests writes Latin-1."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _taken_by(accepted: Accepted) -> dict[str, str]:
    """The headers that say who has a command."""
    if accepted.journalled is not None:
        return {header_names.JOURNALLED: "true"}
    return _origin(next(iter(accepted.uuids)), accepted.attempts[0].endpoint not in accepted.uuids)


def _origin(endpoint: Endpoint, failed_over: bool, freshness: Freshness | None = None) -> dict[str, str]:
    """The headers that say where an answer came from, and what that server may lack."""
    headers = {header_names.SERVER: endpoint.url, header_names.FAILED_OVER: str(failed_over).lower()}
    if freshness is not None:
        headers[header_names.MISSING] = str(freshness.missing)
        if freshness.since is not None:
            headers[header_names.MISSING_SINCE] = freshness.since
    return headers


def _json(status: int, document: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=json.dumps(document).encode(), headers={**_JSON, **(headers or {})})


def _refusal(refusal: Refusal, headers: Mapping[str, str] | None = None) -> web.Response:
    lines = {"Content-Type": refusal.content_type, **(headers or {})}
    return web.Response(status=refusal.status, body=refusal.body.encode(), headers=lines)


def plain(status: int, text: str, **headers: str) -> web.Response:
    """An answer in plain text."""
    return web.Response(status=status, text=text, headers=headers)
