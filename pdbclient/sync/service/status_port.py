"""The daemon's local port: its status and metrics, and a way to have a pass made now.

It listens on 127.0.0.1 and nowhere else, in clear text and without a password: whoever may run programs on this
machine may ask, and may have a pass made, which happens anyway. A page that a browser has loaded from elsewhere may
not, neither openly (`Origin`) nor by a name of its own that it has made to stand for the loopback (`Host`).
"""

from __future__ import annotations

import errno
import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from pdbclient.errors import SyncError
from pdbclient.loopback import host_in, is_loopback

__all__ = ["ADDRESS", "Sources", "StatusPort", "ask_for_pass"]

_logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
PATIENCE = 5.0
"""Seconds of a client's silence."""
POLL = 0.1
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = {"/status": ("GET", "HEAD"), "/metrics": ("GET", "HEAD"), "/trigger": ("POST",)}
_SHOWN = "GET /status, GET /metrics and POST /trigger"


class Sources(Protocol):
    """What the port shows and does. Called on the port's threads; what they raise as `SyncError` is a 503."""

    def status(self) -> Sequence[dict[str, Any]]:
        """What `sync status --json` prints."""
        ...

    def metrics(self) -> bytes:
        """The text form of Prometheus."""
        ...

    def trigger(self, remote: str | None) -> Sequence[str]:
        """Have a pass made against `remote`, or all; against which that will be, none for one that is not known."""
        ...


class StatusPort:
    """Answers on 127.0.0.1:`port` while inside the block; `port` 0: any that is free, told by `port`.

    Raises `SyncError` when the port cannot be had. After the block nothing of it is left, whatever clients do.
    """

    def __init__(self, port: int, sources: Sources) -> None:
        try:
            self._server = _Server((ADDRESS, port), sources)
        except OSError as error:
            taken = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
            raise SyncError(f"status_port {port}: cannot listen on {ADDRESS}: {taken}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="sync-status-port", daemon=True
        )

    def __enter__(self) -> StatusPort:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # server_close waits for these threads, which is no wait once their connections are cut.
    daemon_threads = False

    def __init__(self, address: tuple[str, int], sources: Sources) -> None:
        self.sources = sources
        self._clients: set[Any] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for client in list(self._clients):
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                _logger.debug("a client of the status port had gone: %s", error)
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
        wanted = _METHODS.get(path)
        if (refusal := self._refusal()) is not None:
            _logger.warning("the status port refused %s %s: %s", self.command, self.path, refusal)
            self._send(403, _json({"error": refusal}))
        elif wanted is None:
            self._send(404, _json({"error": f"there are {_SHOWN}"}))
        elif self.command not in wanted:
            self._send(405, _json({"error": f"there are {_SHOWN}"}), headers=(("Allow", ", ".join(wanted)),))
        elif path == "/trigger":
            self._answer(self._trigger)
        elif path == "/metrics":
            self._answer(lambda: (200, self.server.sources.metrics()), METRICS_TYPE)
        else:
            self._answer(lambda: (200, _json(self.server.sources.status())))

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

    def _trigger(self) -> tuple[int, bytes]:
        remotes = parse_qs(_parts(self.path).query).get("remote")
        remote = remotes[-1] if remotes else None
        triggered = self.server.sources.trigger(remote)
        if not triggered:
            return 404, _json({"error": f"{remote} is not one of the remotes"})
        return 202, _json({"triggered": triggered})

    def _answer(self, work: Callable[[], tuple[int, bytes]], content_type: str = "application/json") -> None:
        try:
            status, body = work()
        except SyncError as error:
            status, body, content_type = 503, _json({"error": str(error)}), "application/json"
        except Exception:
            # A defect of ours; the client gets an answer, and the log the reason.
            _logger.exception("the status port could not answer %s", self.path)
            status, body, content_type = 500, _json({"error": "see the log"}), "application/json"
        self._send(status, body, content_type)

    def _send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        _logger.debug("status port: " + format, *args)


def ask_for_pass(port: int, remote: str | None) -> list[str]:
    """Ask the daemon at `port` for a pass against `remote` (None: all); against which it will make one.

    Raises `SyncError` when no daemon answers there, or it refuses.
    """
    where = f"{ADDRESS} port {port}"
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=2 * PATIENCE)
    try:
        connection.request("POST", "/trigger" + (f"?{urlencode({'remote': remote})}" if remote else ""))
        answer = connection.getresponse()
        document = json.loads(answer.read())
        if answer.status != 202:
            raise SyncError(f"the daemon at {where} refused: {document['error']}")
        return [str(each) for each in document["triggered"]]
    except ConnectionRefusedError as error:
        raise SyncError(
            f"no daemon listens on {where}: is `pdbclient sync run` running, with this status_port?"
        ) from error
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise SyncError(f"what listens on {where} does not answer as the daemon does: {error}") from error
    finally:
        connection.close()


def _parts(url: str) -> SplitResult:
    """The parts of a URL; of what is none, nothing."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
