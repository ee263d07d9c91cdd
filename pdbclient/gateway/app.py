"""What the gateway answers: commands, queries, status, and what a PuppetDB says to everything else."""

from __future__ import annotations

import asyncio
import html
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from aiohttp import web

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import (
    AllEndpointsFailed,
    InvalidCommand,
    JournalError,
    ServerError,
    StaleAnswer,
    TransportError,
)
from pdbclient.gateway.door import certname_of_peer
from pdbclient.gateway.intake import Refused, command_from
from pdbclient.gateway.report import report_command
from pdbclient.gateway.upstream import Answer, Upstream
from pdbclient.http.freshness import Freshness
from pdbclient.http.via import HEADER, LIMIT, came_through, gateways
from pdbclient.wire import Command

__all__ = ["METRICS_PATH", "REPORT_PATH", "App", "Rules"]

log = logging.getLogger("pdbclient.gateway")

COMMAND_PATH = "/pdb/cmd/v1"
QUERY_PATH = "/pdb/query/v4"
REPORT_PATH = "/pdbclient/v1/report"
METRICS_PATH = "/pdbclient/v1/metrics"
PASSED_ON = {
    "/pdb/meta/v1/": ("GET", "HEAD", "POST"),
    "/status/v1/services": ("GET",),
    "/status/v1/simple": ("GET",),
    "/metrics/v2": ("GET", "POST"),
}
"""What else is passed on, with the methods that PuppetDB has for it."""

BODY_PATIENCE = 30.0
"""Seconds that a client may take to send a body, or to take a piece of an answer."""
WAITING_PER_PLACE = 4

_NOT_PASSED = frozenset(
    {"connection", "content-encoding", "content-length", "date", "keep-alive", "server", "transfer-encoding", "vary"}
)
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_PASSED_TO_SERVER = ("Accept", "Content-Type", "Host")


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the configuration the answers depend on."""

    allowed: Collection[str]
    concurrency: int
    max_body_bytes: int
    include_unchanged_resources: bool

    @classmethod
    def of(cls, config: ClientConfig, allowed: Collection[str]) -> Rules:
        """The rules of a configuration."""
        return cls(
            allowed,
            config.gateway_concurrency,
            config.gateway_max_body_bytes,
            config.include_unchanged_resources,
        )


class App:
    """Answers requests."""

    def __init__(self, upstream: Upstream, rules: Rules) -> None:
        self._upstream, self._rules = upstream, rules
        self._places = asyncio.Semaphore(rules.concurrency)
        self._waiting = 0
        self._busy: set[web.RequestHandler] = set()
        self._idle = asyncio.Event()
        self._last: Collection[web.RequestHandler] | None = None

    async def end(self, connections: Collection[web.RequestHandler]) -> None:
        """Serve nobody but these any more; close those that are idle, and return when the others' answers are out."""
        # aiohttp's own shutdown waits for idle ones too, and does not hear what they ask meanwhile.
        self._last = frozenset(connections)
        for connection in self._last - self._busy:
            connection.force_close()
        if self._busy:
            await self._idle.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request."""
        connection = request.protocol
        if self._last is not None and connection not in self._last:
            # It was in its TLS handshake when the end began: what let it in does not hold any more.
            connection.force_close()
            return _text(503, "ending\n")
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
        transport = request.transport
        certname = certname_of_peer(transport.get_extra_info("peercert")) if transport is not None else None
        if certname is None or certname.lower() not in self._rules.allowed:
            log.warning("%s may not use this gateway: not in gateway_allow (from %s)", certname, request.remote)
            return _text(403, f"{certname} may not use this gateway: it is not in gateway_allow\n")
        if self._waiting >= WAITING_PER_PLACE * self._rules.concurrency:
            return _text(503, "the gateway has more requests than it can hold\n")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await _Exchange(request, certname, self._upstream, self._rules).answer()
        finally:
            self._places.release()


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request of one client, whose certificate has the name `certname`."""

    request: web.BaseRequest
    certname: str
    upstream: Upstream
    rules: Rules

    async def answer(self) -> web.StreamResponse:
        try:
            return await self._answer()
        except Refused as error:
            return _json(error.status, {"error": error.reason})
        except InvalidCommand as error:
            log.warning("refused: %s", error)
            return _json(400, {"error": str(error)})
        except ServerError as error:
            return self._handed_on(error)
        except StaleAnswer as error:
            log.error("%s", error)
            # Not a 5xx: Puppet would go on to the next of its server_urls, and take there what is refused here.
            return _json(409, {"error": str(error)})
        except JournalError as error:
            log.error("%s", error)
            return _json(503, {"error": str(error)})
        except AllEndpointsFailed as error:
            log.warning("%s", error)
            return _json(503, {"error": str(error)})

    async def _answer(self) -> web.StreamResponse:
        came_through.set(self._before())
        method, (path, _, query) = self.request.method, self.request.raw_path.partition("?")
        if path == COMMAND_PATH:
            return await self._command(query)
        if path == REPORT_PATH:
            return await self._report()
        if path == METRICS_PATH:
            metrics = await self.upstream.metrics()
            return web.Response(body=metrics, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        if _is_at_or_below(path, QUERY_PATH) and _is_plain(path):
            if method not in ("GET", "POST"):
                return _text(400, "PuppetDB queries must be made via GET/POST")
            return await self._passed_on()
        for top, methods in PASSED_ON.items():
            if path.startswith(top) and _is_plain(path):
                if method in methods:
                    return await self._passed_on()
                # Not asked for: the server's 403 would pass for one that our certificate met, and shut it out.
                return _text(403, f"Forbidden request: {path} (method {method})\n")
        return self._nowhere(path)

    def _before(self) -> tuple[str, ...]:
        """The gateways that the request has come through. Raises `Refused` when this one is among them."""
        before = gateways(", ".join(self.request.headers.getall(HEADER, ())))
        if self.upstream.name in before or len(before) > LIMIT:
            log.warning("a loop: a request came back from %s (%s)", self.certname, self.request.remote)
            who = "this gateway itself, or another one that has it among its servers"
            why = f"a loop: the request comes from {who}: take the gateway's other name out of server_urls there"
            raise Refused(508, why)
        return before

    async def _command(self, query: str) -> web.StreamResponse:
        body, now, limit = await self._body(), datetime.now(UTC), self.rules.max_body_bytes
        # In a thread: all of the body is read, of which there may be a lot.
        headers = self.request.headers
        command = await self.upstream.run(lambda: command_from(query, headers, body, now=now, limit=limit))
        return await self._submitted(command)

    async def _report(self) -> web.StreamResponse:
        """A report as Puppet's own `http` report processor posts it (`reporturl`)."""
        if self.request.method != "POST":
            return _text(405, "a report is posted\n", Allow="POST")
        body, now, unchanged = await self._body(), datetime.now(UTC), self.rules.include_unchanged_resources
        command = await self.upstream.run(
            lambda: report_command(body, producer=self.certname, include_unchanged=unchanged, now=now)
        )
        for warning in command.warnings:
            log.warning("%s", warning)
        return await self._submitted(command)

    async def _submitted(self, command: Command) -> web.StreamResponse:
        accepted = await self.upstream.submit(command)
        if accepted.journalled is not None:
            return _json(200, {"uuid": accepted.journalled}, {"X-Pdbclient-Journalled": "true"})
        endpoint, uuid = next(iter(accepted.uuids.items()))
        failed_over = accepted.attempts[0].endpoint not in accepted.uuids
        return _json(200, {"uuid": uuid}, _origin(endpoint, failed_over))

    async def _passed_on(self) -> web.StreamResponse:
        request = self.request
        body = await self._body() if request.body_exists else None
        headers = {name: request.headers[name] for name in _PASSED_TO_SERVER if name in request.headers}
        answer = await self.upstream.ask(request.method, request.raw_path, body, headers)
        headers = _end_to_end(answer.headers) | _origin(answer.endpoint, answer.failed_over, answer.freshness)
        if answer.about_exported:
            headers["X-Pdbclient-Stale"] = str(answer.freshness.stale).lower()
        if answer.rest is None:
            return web.Response(body=answer.start, headers=headers)
        if request.version < (1, 1):
            # Such a client could not tell a broken answer from a whole one.
            await self.upstream.drop(answer.rest)
            return _text(505, "an answer of this size needs HTTP/1.1\n")
        return await self._streamed(answer, headers)

    async def _streamed(self, answer: Answer, headers: Mapping[str, str]) -> web.StreamResponse:
        """Pass on an answer of any size. When it breaks off, so does the connection: no client takes it for whole."""
        assert answer.rest is not None
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        whole = False
        try:
            await response.prepare(self.request)
            chunk = answer.start
            while chunk:
                async with asyncio.timeout(BODY_PATIENCE):
                    await response.write(chunk)
                chunk = await self.upstream.more(answer.rest)
            whole = True
        except TransportError as error:
            log.warning("%s %s: cut off: %s", self.request.method, self.request.path, error)
        except (ConnectionError, TimeoutError) as error:
            log.info("%s %s: the client took no more: %r", self.request.method, self.request.path, error)
            await self.upstream.drop(answer.rest)
        finally:
            if not whole and self.request.transport is not None:
                self.request.transport.abort()
        return response

    async def _body(self) -> bytes:
        limit = self.rules.max_body_bytes
        if (self.request.content_length or 0) > limit:
            raise Refused(413, f"a body of more than {limit} bytes (gateway_max_body_bytes)")
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                async for chunk in self.request.content.iter_any():
                    pieces.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        raise Refused(413, f"a body of more than {limit} bytes (gateway_max_body_bytes)")
        except (ConnectionError, web.RequestPayloadError) as error:
            # Whoever sent it has gone, as a rule: nobody will read this.
            raise Refused(400, f"the body broke off: {error}") from error
        except TimeoutError as error:
            self.request.protocol.force_close()
            raise Refused(408, f"the body took longer than {BODY_PATIENCE:.0f} s") from error
        return b"".join(pieces)

    def _handed_on(self, error: ServerError) -> web.Response:
        """A server's own verdict on the request, as it gave it."""
        headers = _end_to_end(error.headers)
        for attempt in error.attempts:
            if (endpoint := attempt.endpoint).url == error.endpoint:
                headers |= _origin(endpoint, endpoint.order > 0, self.upstream.memory.freshness(endpoint))
        return web.Response(status=error.status, body=error.body, headers=headers)

    def _nowhere(self, path: str) -> web.StreamResponse:
        """What a PuppetDB says to an address that it does not have."""
        if path == "/":
            return web.Response(status=302, headers={"Location": "/pdb/dashboard/index.html"})
        if _is_at_or_below(path, "/pdb") and _is_plain(path):
            location = f"https://{self.request.host}{self.request.raw_path}/dashboard/index.html"
            return web.Response(status=302, headers={"Location": location})
        body = f"<html><body><h2>HTTP ERROR 404 Not Found</h2><p>{html.escape(path)}</p></body></html>\n"
        return web.Response(status=404, text=body, content_type="text/html")


def _is_at_or_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _is_plain(path: str) -> bool:
    """Whether the path means what it seems to: no way up, not even an encoded one."""
    return not {".", ".."} & set(unquote(path).split("/"))


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED}


def _origin(endpoint: Endpoint, failed_over: bool, freshness: Freshness | None = None) -> dict[str, str]:
    """The headers that say where an answer came from, and what that server may lack."""
    headers = {"X-Pdbclient-Server": endpoint.url, "X-Pdbclient-Failed-Over": str(failed_over).lower()}
    if freshness is not None:
        headers["X-Pdbclient-Missing"] = str(freshness.missing)
        if freshness.since is not None:
            headers["X-Pdbclient-Missing-Since"] = freshness.since
    return headers


def _json(status: int, document: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=json.dumps(document).encode(), headers={**_JSON, **(headers or {})})


def _text(status: int, text: str, **headers: str) -> web.Response:
    return web.Response(status=status, text=text, headers=headers)
