"""A daemon's status port: a page for people, the same as JSON and as metrics for programs; the same for all daemons.

It listens on 127.0.0.1 and nowhere else, in clear text and without a password: whoever may run programs on this
machine may look, and may have a pass made, which happens anyway. A page that a browser has loaded from elsewhere may
not, neither openly (`Origin`) nor by a name of its own that it has made to stand for the loopback (`Host`).
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qs, urlsplit

from pdbclient.errors import PdbError, StatusError
from pdbclient.loopback import host_in, is_loopback
from pdbclient.observe.page.document import Document, encode
from pdbclient.observe.page.html import HEADERS, error_page, page
from pdbclient.observe.status_client import ADDRESS

__all__ = ["Action", "Sources", "StatusPort"]

_logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds of a client's silence."""
POLL = 0.1
MOST = 16
"""Connections at a time: each has a thread and a descriptor. The oldest is cut for one more."""
ROOM = 1.0
"""Seconds that the next one waits until the oldest has ended."""
PAGE, STATUS, METRICS = "/", "/status", "/metrics"
_JSON = {"Content-Type": "application/json"}
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}

Action = Callable[[Mapping[str, list[str]]], tuple[int, Any]]
"""What a POST does with its query: the status and the document of the answer."""


class Sources(Protocol):
    """What the port shows. Called on the port's threads; what they raise as `PdbError` is a 503."""

    def document(self) -> Document:
        """The status document, as of now."""
        ...

    def metrics(self) -> bytes:
        """The text form of Prometheus."""
        ...


class StatusPort:
    """Answers on 127.0.0.1:`port` while inside the block; `port` 0: any that is free, told by `port`.

    `setting` names the port in errors. `actions` are what a POST does, by its path. `listening` listens there
    already: it uses a duplicate of that. Raises `StatusError` when the port cannot be had. After the block nothing of
    it is left, whatever clients do.
    """

    def __init__(
        self,
        port: int,
        sources: Sources,
        *,
        setting: str = "status_port",
        actions: Mapping[str, Action] = MappingProxyType({}),
        listening: socket.socket | None = None,
    ) -> None:
        try:
            self._server = _Server((ADDRESS, port), sources, actions, listening)
        except OSError as error:
            raise StatusError(f"{setting} {port}: cannot listen on {ADDRESS}: {_why(error, port)}") from error
        self.port = int(self._server.server_address[1])
        self.listening: socket.socket = self._server.socket
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="pdbclient-status-port", daemon=True
        )

    def __enter__(self) -> StatusPort:
        try:
            self._thread.start()
        except BaseException:
            # This machine has no thread left.
            self._server.server_close()
            raise
        _logger.info("status page at http://%s:%d/", ADDRESS, self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _why(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    if error.errno == errno.EACCES and port < 1024:
        return f"{error.strerror}: take a port from 1024 on, those below need a privilege"
    return str(error.strerror)


class _Server(ThreadingHTTPServer):
    # server_close waits for these threads, which is no wait once their connections are cut.
    daemon_threads = False
    # Whoever finds the backlog full comes back a second later only.
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        sources: Sources,
        actions: Mapping[str, Action],
        listening: socket.socket | None,
    ) -> None:
        self.sources, self.actions = sources, actions
        self.methods = {path: ("GET", "HEAD") for path in (PAGE, STATUS, METRICS)} | dict.fromkeys(actions, ("POST",))
        self.shown = "there are " + ", ".join(f"{methods[0]} {path}" for path, methods in self.methods.items())
        # In the order in which they came, and whether they are cut.
        self._clients: dict[Any, bool] = {}
        self._room = threading.Semaphore(MOST)
        super().__init__(address, _Handler, bind_and_activate=listening is None)
        if listening is not None:
            self.socket.close()
            self.socket = listening.dup()
        # As whoever it is handed over to wants it; and a client that has gone again holds up nobody.
        self.socket.setblocking(False)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            # No descriptor, say: it stays in the backlog, and would be asked for again at once.
            time.sleep(POLL)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            for oldest in [client for client, cut in list(self._clients.items()) if not cut][:1]:
                self._clients[oldest] = True
                _cut(oldest)
            if not self._room.acquire(timeout=ROOM):
                _logger.debug("the status port has %d clients that do not end: one more is not answered", MOST)
                super().shutdown_request(request)
                return
        self._clients[request] = False
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        if self._clients.pop(request, None) is not None:
            self._room.release()

    def server_close(self) -> None:
        for client in list(self._clients):
            _cut(client)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.debug("a request to the status port broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version = "pdbclient"
    sys_version = ""

    def do_GET(self) -> None:
        path = _parts(self.path).path
        wanted = self.server.methods.get(path)
        if (refusal := self._refusal()) is not None:
            _logger.warning("the status port refused %s %s: %s", self.command, self.path, refusal)
            self._send(403, _json({"error": refusal}))
        elif wanted is None:
            self._send(404, _json({"error": self.server.shown}))
        elif self.command not in wanted:
            self._send(405, _json({"error": self.server.shown}), {**_JSON, "Allow": ", ".join(wanted)})
        else:
            self._answer(path)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _refusal(self) -> str | None:
        """Why whoever asks may not, if so."""
        hosts = self.headers.get_all("Host", [])
        # A whole URL as the target is where the request goes, whatever Host says.
        hosts += filter(None, [_parts(self.path).netloc])
        if not hosts or not all(is_loopback(host_in(host.strip())) for host in hosts):
            return f"this port is for programs of this machine, which call it {ADDRESS}, [::1] or localhost"
        origins = self.headers.get_all("Origin", [])
        if not all(is_loopback(host_in(_parts(origin.strip()).netloc)) for origin in origins):
            return "this port is for programs of this machine, not for pages in a browser"
        return None

    def _answer(self, path: str) -> None:
        try:
            answer = self._made(path)
        except PdbError as error:
            answer = _failed(path, 503, str(error))
        except Exception:
            # A defect of ours; the client gets an answer, and the log the reason.
            _logger.exception("the status port could not answer %s", self.path)
            answer = _failed(path, 500, "see the log")
        self._send(*answer)

    def _made(self, path: str) -> tuple[int, bytes, Mapping[str, str]]:
        sources = self.server.sources
        if path == PAGE:
            return 200, page(sources.document()), HEADERS
        if path == STATUS:
            return 200, encode(sources.document()), _JSON
        if path == METRICS:
            return 200, sources.metrics(), _METRICS
        status, document = self.server.actions[path](parse_qs(_parts(self.path).query))
        return status, _json(document), _JSON

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType(_JSON)) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        _logger.debug("status port: " + format, *args)


def _cut(client: Any) -> None:
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _logger.debug("a client of the status port had gone: %s", error)


def _failed(path: str, status: int, why: str) -> tuple[int, bytes, Mapping[str, str]]:
    if path == PAGE:
        return status, error_page("No status can be shown", why), HEADERS
    return status, _json({"error": why}), _JSON


def _parts(url: str) -> SplitResult:
    """The parts of a URL; of what is none, nothing."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
