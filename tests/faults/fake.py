"""A tiny HTTPS server that sends exactly the bytes it is told to: also those no HTTP library would send.

Mutual TLS, HTTP/1.1 with kept connections, a thread per connection. What it takes for PuppetDB's own behaviour is in
`tests/versions.py`, version by version, and is put to real servers in the integration tests.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from pdbclient.config.model import TlsFiles
from pdbclient.gateway.client_auth import certname_of_peer
from tests.versions import PUPPETDB_7_12, STARTING, STARTING_STATUS, Refusal, Release

__all__ = [
    "Answer",
    "Fake",
    "Reply",
    "Request",
    "answer",
    "chunked",
    "healthy",
    "of",
    "queued",
    "refused",
    "starting",
]

TEXT = "text/plain;charset=utf-8"
HTML = "text/html;charset=iso-8859-1"
_PARAMETERS_OF_SOME = {"origin", "timeout"}
_LISTS = re.compile(
    r"(/(nodes|factsets|catalogs|catalog-inputs|reports|facts|resources|events|environments|producers|inventory|edges"
    r"|fact-names|fact-paths|fact-contents|packages|package-inventory|event-counts|aggregate-event-counts))?"
    r"|/facts/[^/]+(/[^/]+)?|/resources/[^/]+(/.+)?|/nodes/[^/]+/(facts|resources|reports)(/.+)?"
)
"""The queries that an empty PuppetDB answers with no rows; without anything, PQL or AST."""
_ONE = re.compile(r"/(node|factset|catalog|environment|producer)s/([^/]+)")
"""Those about one thing, of which it knows none. A report has no address of its own."""


@dataclass(frozen=True)
class Request:
    """One request as it came. Header names are in lower case; `connection` counts from 1."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def is_command(self) -> bool:
        return self.target.startswith("/pdb/cmd/v1")

    @property
    def is_query(self) -> bool:
        return self.target.startswith("/pdb/query/v4")


@dataclass(frozen=True)
class Answer:
    """The pieces of an answer, sent one by one as they come; then the connection is kept, or closed."""

    pieces: Iterable[bytes]
    close: bool = False


Reply = Answer | Callable[[Request], Answer]


def answer(body: bytes | Any = b"", status: int = 200, **headers: str) -> Answer:
    """An answer with Content-Length; a `body` that is not bytes is sent as JSON. `Retry_After="5"` is a header."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(data))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return Answer([f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + data])


def chunked(chunks: Iterable[bytes], *, end: bool = True, **headers: str) -> Answer:
    """An answer in chunks, without the last, empty one (and then closed) unless `end`."""

    def pieces() -> Iterable[bytes]:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        yield f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{more}\r\n".encode()
        for chunk in chunks:
            yield f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
        if end:
            yield b"0\r\n\r\n"

    # What is given as a list can be sent many times over.
    return Answer(list(pieces()) if isinstance(chunks, list) else pieces(), close=not end)


def queued(_: Request | None = None) -> Answer:
    """What PuppetDB says to a command that it has queued."""
    return answer({"uuid": str(uuid.uuid4())})


def healthy(request: Request, release: Release = PUPPETDB_7_12) -> Answer:
    """What a PuppetDB of this release that is well and empty says, to known addresses and to others."""
    path, _, params = request.target.partition("?")
    if request.is_command:
        return queued()
    if path == "/status/v1/services/puppetdb-status":
        return answer({"state": "running", "status": {"queue_depth": 0}})
    if path == "/pdb/meta/v1/version":
        return answer({"version": release.version})
    if path == "/pdb/meta/v1/version/latest" and release.has_latest:
        return answer({"newer": False, "version": release.version, "link": None})
    entity = path.removeprefix("/pdb/query/v4")
    if request.is_query and (one := _ONE.fullmatch(entity)):
        return answer({"error": f"No information is known about {one[1]} {unquote(one[2])}"}, 404)
    if request.is_query and _LISTS.fullmatch(entity):
        strange = (dict(parse_qsl(params)).keys() | _in_body(request)) & _PARAMETERS_OF_SOME - release.parameters
        if strange:
            return answer(f"Unsupported query parameter '{min(strange)}'".encode(), 400, Content_Type=TEXT)
        return answer([])
    if path.startswith("/pdb/"):
        return refused(release.unknown)
    return answer(b"<html>\n<body><h2>HTTP ERROR 404 Not Found</h2></body></html>", 404, Content_Type=HTML)


def _in_body(request: Request) -> set[str]:
    """The parameters of a query that are there."""
    body = json.loads(request.body or b"{}")
    return set(body) if isinstance(body, dict) else set()


def starting(request: Request) -> Answer:
    """What every PuppetDB says from when it listens until it runs."""
    if request.target.startswith("/status/"):
        return answer({"state": STARTING_STATUS, "status": "Service has not started"}, 503)
    return refused(STARTING)


def of(release: Release) -> Callable[[Request], Answer]:
    """A reply: a healthy PuppetDB of this release."""
    return lambda request: healthy(request, release)


def refused(refusal: Refusal) -> Answer:
    """The answer of `tests/versions.py`; one without a Content-Type has none."""
    lines = {"Content-Type": refusal.content_type, "Location": f"https://localhost{refusal.location}"}
    given = {"Content-Type": refusal.content_type is not None, "Location": bool(refusal.location)}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if given[name])
    length = f"Content-Length: {len(refusal.body)}\r\n"
    return Answer([f"HTTP/1.1 {refusal.status} Status\r\n{head}{length}\r\n".encode() + refusal.body])


class Fake:
    """The server. `reply` decides about commands and queries, `otherwise` (a healthy PuppetDB) about whatever else.

    `requests` has those that came in whole, `certnames` who came. `early` answers a command as soon as its headers
    are there, and closes.
    Leaving the context ends every thread and connection.
    """

    def __init__(self, tls: TlsFiles, reply: Reply = healthy, *, client_cas: TlsFiles | None = None) -> None:
        self.reply: Reply = reply
        self.otherwise: Reply | None = None
        self.early: Answer | None = None
        self.requests: list[Request] = []
        self.connections = 0
        self.certnames: set[str | None] = set()
        assert tls.cert is not None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls.cert, tls.key)
        self._context.load_verify_locations((client_cas or tls).ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}

    def require_certificate(self, required: bool) -> None:
        """Whether clients must present a certificate; so it is at first."""
        self._context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_NONE

    @property
    def commands(self) -> list[Request]:
        """The commands that came."""
        return [request for request in self.requests if request.is_command]

    @property
    def queries(self) -> list[Request]:
        """The queries that came."""
        return [request for request in self.requests if request.is_query]

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, name=f"fake-{self.port}")
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            living = dict(self._open)
        for sock, thread in living.items():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # As Jetty does; without it, what was said last can get lost in a close.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            thread = threading.Thread(
                target=self._serve, args=(sock, self.connections), name=f"fake-{self.port}-link"
            )
            with self._lock:
                self._open[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            # A duplicate, so that `__exit__` can shut down what TLS has taken over.
            with (
                contextlib.closing(sock.dup()) as own,
                self._context.wrap_socket(own, server_side=True) as tls,
                tls.makefile("rb") as lines,
            ):
                self.certnames.add(certname_of_peer(tls.getpeercert()))
                while self._one(tls, lines, number):
                    pass
        except OSError:
            # The client has gone, or never got through the handshake: nothing left to serve.
            pass
        finally:
            with self._lock:
                self._open.pop(sock, None)
            sock.close()

    def _one(self, tls: ssl.SSLSocket, lines: Any, number: int) -> bool:
        request = _head(lines, number)
        if request is not None and request.is_command and self.early is not None:
            for piece in self.early.pieces:
                tls.sendall(piece)
            return False
        request = request and _whole(request, lines)
        if request is None:
            return False
        self.requests.append(request)
        scripted = request.is_command or request.is_query
        reply = self.reply if scripted else self.otherwise or healthy
        told = reply(request) if callable(reply) else reply
        for piece in told.pieces:
            tls.sendall(piece)
        return not told.close


def _head(lines: Any, number: int) -> Request | None:
    start = lines.readline().split()
    if len(start) != 3:
        return None
    headers = {}
    while (line := lines.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Request(start[0].decode(), start[1].decode(), headers, b"", number)


def _whole(request: Request, lines: Any) -> Request | None:
    length = int(request.headers.get("content-length", "0"))
    body = lines.read(length)
    return replace(request, body=body) if len(body) == length else None
