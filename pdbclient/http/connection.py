"""What requests and urllib3 do not give: one real deadline per attempt, and the facts of a failed one.

A `timeout` of requests bounds each socket operation, so a server that sends a byte now and then is read for
ever. Here the socket itself knows the deadline. And requests' `ConnectionError` covers "refused" as well as
"reset after the whole body": the connection notes how far an attempt came (`Trace`).
"""

from __future__ import annotations

import errno
import functools
import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection
from urllib3.util.response import assert_header_parsing

from pdbclient.http.pulse import Waiting
from pdbclient.http.resolver import Resolver
from pdbclient.http.via import sent_on

__all__ = ["Prepared", "TooLate", "Trace", "TracingAdapter", "tracing"]

LOOK_UP = 0.25
"""Seconds after which a wait sees that its attempt has been ended."""
PIECE = 64 * 1024
INFORMATIONAL_LIMIT = 100
"""1xx answers before the answer itself. (A proxy may send one every some seconds while a query takes long.)"""
# A connection whose other end went away without a word is found out by the kernel, whatever PuppetDB's status says.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)


class TooLate(TimeoutError):
    """The time was spent before the server was waited for at all."""


@dataclass(slots=True, eq=False)
class Trace:
    """One attempt, as its connection sees it. Times are in seconds of `time.monotonic`.

    `inactivity`: seconds that one wait for the server may last; `waiting` may end it before that. `fresh` asks for a
    new connection. `connected` says that one was tried, `hurried` that it had less than the connect timeout for that,
    `sending` that bytes of the request may have left, `answering` that some of an answer came; `socket` is the one in
    use, or in its TLS handshake.
    """

    deadline: float
    inactivity: float
    waiting: Waiting
    fresh: bool = False
    connected: bool = False
    hurried: bool = False
    sending: bool = False
    answering: bool = False
    socket: DeadlineSocket | None = None

    def again(self) -> Trace:
        """The same attempt once more, on a new connection."""
        return Trace(self.deadline, self.inactivity, self.waiting, fresh=True)

    def look_up(self, since: float) -> float:
        """Seconds that a wait which began at `since` may go on before this is called again.

        Raises `TimeoutError` at the limits, and what `waiting` raises.
        """
        if since >= self.deadline:
            raise TooLate("the deadline had passed before this wait began")
        now = time.monotonic()
        self.waiting(now - since)
        left = min(self.deadline, since + self.inactivity) - now
        if left <= 0:
            raise TimeoutError("nothing within the read timeout, or the deadline of the whole attempt has passed")
        return min(left, LOOK_UP)


class _Current(threading.local):
    trace: Trace | None = None
    target: str | None = None


# An attempt runs in one thread, from `Session` through requests and urllib3, neither of which can carry an
# argument down to the connection.
tracing = _Current()


class DeadlineSocket(ssl.SSLSocket):
    """A TLS socket whose reads and writes end when its attempt does: at its limits, or when it is told to."""

    trace: Trace | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Known to the attempt from here on: see `_Connection.connect`."""
        made = super().__new__(cls, *args, **kwargs)
        if tracing.trace is not None:
            tracing.trace.socket = made
        return made

    def settimeout(self, value: float | None) -> None:
        """Not what urllib3 sets for its own operations: each time would be a system call, for nothing."""
        if self.trace is None:
            super().settimeout(value)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        received = self._patiently(lambda: super(DeadlineSocket, self).recv_into(buffer, nbytes, flags))
        if received and self.trace is not None:
            self.trace.answering = True
        return received

    def send(self, data: Any, flags: int = 0) -> int:
        # In pieces: each of them that is taken shows that the server is there. OpenSSL goes on where it stopped when
        # a write is repeated with the same bytes.
        piece = memoryview(data)[:PIECE]
        try:
            return self._patiently(lambda: super(DeadlineSocket, self).send(piece, flags))
        except ssl.SSLEOFError as error:
            # The server has closed, maybe after it said why: a 413, or that it refuses our certificate. On a broken
            # pipe, urllib3 goes on to read that.
            raise BrokenPipeError(errno.EPIPE, "closed by the server while the request was sent") from error

    def _patiently(self, transfer: Callable[[], int]) -> int:
        trace = self.trace
        if trace is None:
            return transfer()
        since = time.monotonic()
        while True:
            if (limit := trace.look_up(since)) != self.gettimeout():
                super().settimeout(limit)
            try:
                return transfer()
            except TimeoutError:
                continue


class _Response(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        """The status of the answer itself. http.client passes over "100 Continue" alone, and over any number of it.

        What it took for the answer, the next request on this connection would get for its own.
        """
        for _ in range(INFORMATIONAL_LIMIT):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200:
                return version, status, reason
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise ConnectionError("it switches to another protocol, which nobody asked for")
            http.client.parse_headers(self.fp)
        raise ConnectionError(f"more than {INFORMATIONAL_LIMIT} informational answers, and no other")

    def begin(self) -> None:
        """Read the head. urllib3 goes on without what it cannot read of one, and logs a traceback."""
        super().begin()
        try:
            assert_header_parsing(self.headers)
        except urllib3.exceptions.HeaderParsingError as error:
            raise ConnectionError("the head of the answer is no HTTP") from error


class _Connection(HTTPSConnection):
    resolver: Resolver
    response_class = _Response
    _head = b""
    _holding = False

    def _new_conn(self) -> Any:
        """A TCP connection to the first address of the host that takes one, all within one connect timeout."""
        if not isinstance(self.timeout, int | float):
            return super()._new_conn()
        whole, host, end = self.timeout, self._dns_host, time.monotonic() + self.timeout
        addresses = self._addresses(whole)
        try:
            for number, address in enumerate(addresses):
                # Tried one after the other, each has an equal share of what is left.
                self._dns_host = address
                self.timeout = max((end - time.monotonic()) / (len(addresses) - number), 0.001)
                try:
                    sock = super()._new_conn()
                except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
                    if number == len(addresses) - 1:
                        raise
                else:
                    break
        finally:
            self._dns_host, self.timeout = host, whole
        # The connect timeout covers the TLS handshake too, which runs under the socket's own timeout.
        sock.settimeout(max(end - time.monotonic(), 0.001))
        return sock

    def _addresses(self, limit: float) -> list[str]:
        try:
            return self.resolver.addresses(limit)
        except (TimeoutError, socket.gaierror, UnicodeError) as error:
            why = "no answer from the name servers" if isinstance(error, TimeoutError) else error
            raise urllib3.exceptions.NewConnectionError(self, f"no address for {self._dns_host}: {why}") from error

    def connect(self) -> None:
        if (trace := tracing.trace) is not None:
            trace.connected = True
        try:
            super().connect()
        except BaseException:
            # When the server resets it before the handshake, Python and urllib3 lose the socket and do not close it.
            if trace is not None and trace.socket is not None:
                trace.socket.close()
            raise

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        trace, sock = tracing.trace, self.sock
        if trace is not None and isinstance(sock, DeadlineSocket):
            sock.trace, trace.socket = trace, sock
            trace.sending = True
        self._head, self._holding = b"", True
        # Not `url`, in which urllib3 has escaped what stood there, as "%zz" or "\\".
        super().request(method, tracing.target or url, *args, **kwargs)
        if self._head:
            super().send(self._head)

    def send(self, data: Any) -> None:
        """The head of a request leaves with its body: one TLS record less, and one wake-up of the server."""
        if self._holding:
            self._head, self._holding = data, False
            return
        head, self._head = self._head, b""
        super().send(head + data)


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection

    def __init__(self, host: str, port: int, size: int, context: ssl.SSLContext) -> None:
        options = [*HTTPSConnection.default_socket_options, *_KEEPALIVE]
        super().__init__(host, port, maxsize=size, ssl_context=context, socket_options=options)
        self._resolver = Resolver(host, port)

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        assert isinstance(connection, _Connection)
        connection.resolver = self._resolver
        return connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if tracing.trace is not None and tracing.trace.fresh:
            # It connects anew when it is used. (A further one would be one too many for the pool.)
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        """Keep it for the next request. One more than are kept is closed; urllib3 would warn of each of those."""
        try:
            self.pool.put(conn, block=False)  # type: ignore[union-attr]
        except (AttributeError, queue.Full):
            # It was closed meanwhile, and is None; or it has enough.
            if conn is not None:
                conn.close()


class TracingAdapter(HTTPAdapter):
    """Requests' transport to one server: the connections above, our TLS context, no retries of its own.

    Used without a `requests.Session`, whose work for every request (cookies, redirects, proxies, `.netrc` and CA
    bundles of the environment) is what a client of one known server must not have.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, size: int) -> None:
        context.sslsocket_class = DeadlineSocket
        self._new_pool = functools.partial(_Pool, host, port, size, context)
        self._pool = self._new_pool()
        super().__init__(max_retries=0)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """As requests does, but with the target as it stands in the request, which may be another client's."""
        assert isinstance(request, Prepared)
        tracing.target = request.target
        try:
            return super().send(request, *args, **kwargs)
        finally:
            tracing.target = None

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """What is used of it here. Requests' own way looks for cookies and a charset, too, in every answer."""
        response = requests.Response()
        response.status_code, response.headers, response.raw = resp.status, CaseInsensitiveDict(resp.headers), resp
        return response

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        """The one pool there is."""
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """For urllib3's own messages; what is sent is the request's target."""
        assert isinstance(request, Prepared)
        return request.target

    def close(self) -> None:
        """Close the idle connections now; new ones are opened when it is used again."""
        pool, self._pool = self._pool, self._new_pool()
        pool.close()
        super().close()

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The context decides. Requests' own way would add the public CAs of certifi to what it trusts.
        conn.cert_reqs = "CERT_REQUIRED"


class Prepared(requests.PreparedRequest):
    """A request as it goes out to `url`; `target` is its path with the query string, percent-encoded already.

    `gateway` is the name of the gateway that sends it, if one does.
    """

    def __init__(
        self,
        method: str,
        url: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        gateway: str | None = None,
    ) -> None:
        super().__init__()
        self.method, self.url, self.target, self.body = method, url + target, target, body
        length = {} if body is None else {"Content-Length": str(len(body))}
        # urllib3 takes any mapping, and copies it: the plain one costs a fifth.
        self.headers = {**headers, **sent_on(gateway), **length}  # type: ignore[assignment]
