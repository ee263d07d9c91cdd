"""All that serves one configuration: its sockets, its TLS, its application, its servers behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pdbclient.config.model import ClientConfig, Endpoint, TlsFiles
from pdbclient.errors import ConfigError, Problem
from pdbclient.gateway.app import App
from pdbclient.gateway.clear_entrance import ClearEntrance
from pdbclient.gateway.client_auth import Handshake, allowed_certnames
from pdbclient.gateway.handover import sockets_for, without
from pdbclient.gateway.listen import (
    BACKLOG,
    Entrance,
    described,
    duplicates,
    is_loopback,
    most_handshakes,
)
from pdbclient.gateway.rules import Rules
from pdbclient.gateway.upstream import Upstream
from pdbclient.http.tls import server_context
from pdbclient.http.tls_check import tls_faults

__all__ = ["Server"]

log = logging.getLogger("pdbclient.gateway")

HANDSHAKE_LIMIT = 10.0
FEWEST = 8
"""Connections that may be in their TLS handshake at each address, however few descriptors there are."""
IDLE_LIMIT = 30.0
"""Seconds that a connection may be without a whole request head: kept and idle, or sending it slowly."""
HEADER_LIMIT = 16384
"""Bytes of each header: twice what PuppetDB takes by default."""
DRAIN_LIMIT = 25.0
CLOSE_LIMIT = 1.0
FLUSH_LIMIT = 0.3
"""Seconds for connections to which nothing is known to be still written: what may be in the last of the buffers."""


class Server:
    """One configuration in force. Made by `open`; after `prepare`, it serves from `start` to `stop`."""

    def __init__(
        self,
        config: ClientConfig,
        context: ssl.SSLContext,
        trust: tuple[bytes, ...],
        allowed: Collection[str],
        sockets: list[socket.socket],
        local: list[socket.socket],
        upstream: Upstream,
    ) -> None:
        self.config = config
        self._context = context
        self._sockets, self._local = sockets, local
        self._upstream = upstream
        self._entrances: list[Entrance] = []
        self._listeners: list[asyncio.Server] = []
        self._trust = trust
        self._app = App(upstream, Rules.of(config, allowed))
        self.summary = f"for {_names(allowed)}, in front of {', '.join(map(str, config.server_urls))}"

    @classmethod
    def open(
        cls, config: ClientConfig, before: Server | None = None, listening: Sequence[socket.socket] = ()
    ) -> Server:
        """A server for `config`; it takes over addresses and memory of the one before, which goes on meanwhile.

        `listening`: what else this process listens with, and may be taken over. It reads files and looks up names:
        not for the event loop. Raises `ConfigError`, `GatewayError` and `JournalError`; the one before is not touched
        then.
        """
        url = _require_url(config)
        # Before: a list that is replaced in between is then seen to be another one.
        trust = _trust_in(config.tls)
        context = server_context(config.tls)
        context.sslobject_class = Handshake
        allowed = allowed_certnames(config)
        with contextlib.ExitStack() as held:
            held_already = [*listening, *(() if before is None else before.sockets)]
            if before is not None and before.config.gateway_url == url:
                # Without a look at names: what was revoked must not stay in because nobody tells them.
                sockets = duplicates(before._sockets)
            else:
                sockets = sockets_for(url, "gateway_url", held_already)
            for sock in sockets:
                held.callback(sock.close)
            local = _local_sockets(config, before, without(held_already, sockets))
            for sock in local:
                held.callback(sock.close)
            _require_accepted(config, url, running=before is not None and before.config.gateway_url == url)
            upstream = Upstream(config, None if before is None else before._upstream)
            held.pop_all()
        return cls(config, context, trust, allowed, sockets, local, upstream)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What it listens with."""
        return (*self._sockets, *self._local)

    @property
    def upstream(self) -> Upstream:
        """The servers behind it."""
        return self._upstream

    async def prepare(self) -> None:
        """All of `start` that may fail: no connection is accepted yet. What it has done, `stop` undoes."""
        loop = asyncio.get_running_loop()
        self._http = web.Server(
            self._app.handle,
            request_factory=_request,
            handler_cancellation=True,  # a query ends when its client has left
            auto_decompress=False,  # a compressed command goes on as it is
            keepalive_timeout=IDLE_LIMIT,
            max_line_size=self.config.gateway_max_url_bytes,
            max_field_size=HEADER_LIMIT,
            lingering_time=2.0,
            access_log=None,
            logger=_http_log(),
        )
        most = max(FEWEST, most_handshakes() // len(self._sockets))
        self._entrances = [Entrance(sock, most, self._inside) for sock in self._sockets]
        for entrance in tuple(self._entrances):
            self._listeners.append(
                await loop.create_server(
                    self._http,
                    sock=entrance,
                    ssl=self._context,
                    backlog=BACKLOG,
                    ssl_handshake_timeout=HANDSHAKE_LIMIT,
                    ssl_shutdown_timeout=HANDSHAKE_LIMIT,
                    start_serving=False,
                )
            )
        # A part of what those in their TLS handshake have: for tools of this machine, of which there are few.
        most_clear = max(FEWEST, most_handshakes() // 2 // max(len(self._local), 1))
        for sock in self._local:
            entrance = ClearEntrance(sock, most_clear, self._busy)
            self._entrances.append(entrance)
            self._listeners.append(
                await loop.create_server(self._http, sock=entrance, backlog=BACKLOG, start_serving=False)
            )

    async def start(self) -> None:
        """Accept connections. It does not fail."""
        for listener in self._listeners:
            await listener.start_serving()
        log.info("listening at %s %s", described(self._sockets), self.summary)
        if self._local:
            what = "reads and submits" if self.config.gateway_local_commands else "reads"
            log.info("listening at %s in clear text: every program of this machine %s", described(self._local), what)
        if not all(map(is_loopback, self._sockets)):
            log.warning("%s: other machines can reach this address", described(self._sockets))

    def discard(self) -> None:
        """Let go of everything, in the place of `prepare`. It may take a while: not for the event loop."""
        for sock in self.sockets:
            sock.close()
        self._upstream.abandon()
        self._upstream.close()

    def _inside(self) -> set[int]:
        """The descriptors of the connections whose handshake is done."""
        return _descriptors(self._http.connections)

    def _busy(self) -> set[int]:
        """The descriptors of those with a request under way, or an answer."""
        return _descriptors(self._unsent())

    def _unsent(self) -> set[web.RequestHandler]:
        """The connections to which something is still to be written."""
        return {
            connection
            for connection in self._http.connections
            if self._app.answers(connection)
            or (connection.transport is not None and connection.transport.get_write_buffer_size() > 0)
        }

    async def stop(self, successor: Server | None = None) -> None:
        """Accept no more; what is under way has `DRAIN_LIMIT` seconds to end; then let go of everything.

        With a `successor`, it has all the time that it would have had. One that trusts whom this one trusts takes
        over the connections, too: no client loses one.
        """
        heir = successor._app if successor is not None and successor._trust == self._trust else None
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for sock in listener.sockets:
                loop.remove_reader(sock.fileno())
        for _ in range(2):
            # What was accepted just now becomes a connection first: asyncio would lose it, and its client wait.
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()
        for sock in (*self._entrances, *self.sockets):
            sock.close()
        unsent = self._unsent()
        ending = asyncio.ensure_future(self._app.end(self._http.connections, heir))
        if successor is not None:
            limit = max(DRAIN_LIMIT, self.config.timeouts.query)
            await _until(lambda: ending.done() or successor._app.over, limit)
        end = loop.time() + DRAIN_LIMIT
        await asyncio.wait([ending], timeout=DRAIN_LIMIT)
        ending.cancel()
        if heir is None:
            # An answer is out when its connection, which ends with it, is: until then it is in buffers of ours.
            await _until(lambda: unsent.isdisjoint(self._http.connections), end - loop.time())
            await _until(lambda: not self._http.connections, FLUSH_LIMIT)
        self._upstream.abandon()
        closing = loop.run_in_executor(None, self._upstream.close)
        if heir is not None:
            await _until(lambda: not self._http.connections or heir.over, IDLE_LIMIT)
            await _until(lambda: not any(map(heir.answers, self._http.connections)), self.config.timeouts.query)
        for connection in self._http.connections:
            transport = connection.transport
            connection.force_close()
            if transport is not None:
                # Not TLS's own way, for which nobody may be there any more.
                transport.abort()
        await self._http.shutdown(CLOSE_LIMIT)
        await closing


def _local_sockets(config: ClientConfig, before: Server | None, held: Sequence[socket.socket]) -> list[socket.socket]:
    if config.gateway_local_url is None:
        return []
    if before is not None and before.config.gateway_local_url == config.gateway_local_url:
        kept = [sock for sock in before._local if sock in held]
        if len(kept) == len(before._local):
            return duplicates(kept)
    return sockets_for(config.gateway_local_url, "gateway_local_url", held)


def _descriptors(connections: Iterable[web.RequestHandler]) -> set[int]:
    transports = (connection.transport for connection in connections)
    # Either is None of a connection that is ending.
    sockets = (transport.get_extra_info("socket") for transport in transports if transport is not None)
    return {sock.fileno() for sock in sockets if sock is not None}


async def _until(true: Callable[[], bool], limit: float) -> None:
    """Wait until it is so, for `limit` seconds at most."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    while not true() and loop.time() < end:
        await asyncio.sleep(0.05)


class _Request(web.BaseRequest):
    """A request, each answer to which goes through here, aiohttp's own ones included."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Say no more about ourselves than PuppetDB does."""
        response.headers.popall("Server", None)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    return _Request(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _require_url(config: ClientConfig) -> Endpoint:
    file = next((origin.rpartition(":")[0] for origin in config.origins.values() if ":" in origin), "puppetdb.conf")
    if config.gateway_url is None:
        why = "is missing from [pdbclient]: the gateway's own address, which is also the first of server_urls"
        raise ConfigError([Problem(file, None, "gateway_url", why)])
    if config.tls.cert is None:
        why = "is false, but the gateway is a server and needs its certificate"
        raise ConfigError([Problem(file, None, "verify_client_certificate", why)])
    return config.gateway_url


def _require_accepted(config: ClientConfig, url: Endpoint, *, running: bool) -> None:
    """Raises `ConfigError` where no client would accept the certificate: they would pass it by without a word.

    One that is `running` at that address takes up what is revoked now, whatever else is wrong: that is said.
    """
    faults = tls_faults(config.tls, datetime.now(UTC), url.host)
    if faults.errors and not running:
        raise ConfigError(faults.errors)
    for problem in faults.errors:
        log.error("no client will use this gateway: %s", problem)


def _trust_in(files: TlsFiles) -> tuple[bytes, ...]:
    """What decides whom a server lets into TLS: the CA, the revocation lists and their use. Raises `ConfigError`."""
    held = [files.revocation.encode()]
    for setting, path in (("ssl_ca_cert", files.ca), ("ssl_crl", files.crl)):
        try:
            held.append(b"" if path is None else path.read_bytes())
        except OSError as error:
            raise ConfigError([Problem(str(path), None, setting, f"cannot be read: {error.strerror}")]) from error
    return tuple(held)


def _names(allowed: Collection[str]) -> str:
    names = sorted(allowed)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _http_log() -> logging.Logger:
    """What aiohttp logs to: a client that speaks no HTTP is one line, and no traceback."""
    logger = logging.getLogger("pdbclient.gateway.http")
    if not logger.filters:
        logger.addFilter(_one_line)
    return logger


def _one_line(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args = f"{record.getMessage()}: {' '.join(error.message.split())}", ()
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
    return True
