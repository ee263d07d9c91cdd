"""What requests and urllib3 do not give: one real deadline per attempt, and the facts of a failed one.

A `timeout` of requests bounds each socket operation, so a server that sends a byte now and then is read for
ever. Here the socket itself knows the deadline. And requests' `ConnectionError` covers "refused" as well as
"reset after the whole body": the connection notes how far an attempt came (`Trace`).
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection

__all__ = ["Trace", "TracingAdapter", "tracing"]

POOL_SIZE = 64


@dataclass(slots=True)
class Trace:
    """One attempt, as its connection sees it. Times are in seconds of `time.monotonic`.

    `fresh` asks for a new connection. `connected` says that one was made, `sending` that bytes of the request
    may have left; `socket` is the one in use.
    """

    deadline: float
    inactivity: float
    fresh: bool = False
    connected: bool = False
    sending: bool = False
    socket: DeadlineSocket | None = None


class _Current(threading.local):
    trace: Trace | None = None


# An attempt runs in one thread, from `Session` through requests and urllib3, neither of which can carry an
# argument down to the connection.
tracing = _Current()


class DeadlineSocket(ssl.SSLSocket):
    """A TLS socket whose every read and write ends at the inactivity limit or the deadline, the earlier one."""

    deadline: float = float("inf")
    inactivity: float | None = None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self._arm()
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._arm()
        try:
            return super().send(data, flags)
        except ssl.SSLEOFError as error:
            # The server has closed, maybe after it said why: a 413, or that it refuses our certificate. On a broken
            # pipe, urllib3 goes on to read that.
            raise BrokenPipeError(errno.EPIPE, "closed by the server while the request was sent") from error

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the whole attempt has passed")
        if self.inactivity is not None:
            self.settimeout(min(self.inactivity, left))


class _Connection(HTTPSConnection):
    def _new_conn(self) -> Any:
        """A TCP connection to the first address of the host that takes one, all within one connect timeout."""
        if not isinstance(self.timeout, int | float):
            return super()._new_conn()
        whole, host, end = self.timeout, self._dns_host, time.monotonic() + self.timeout
        addresses = self._addresses()
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

    def _addresses(self) -> list[str]:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise urllib3.exceptions.NewConnectionError(self, f"no address for {self._dns_host}: {error}") from error
        return [str(entry[4][0]) for entry in found]

    def connect(self) -> None:
        if (trace := tracing.trace) is not None:
            trace.connected = True
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        trace, sock = tracing.trace, self.sock
        if trace is not None and isinstance(sock, DeadlineSocket):
            sock.deadline, sock.inactivity = trace.deadline, trace.inactivity
            trace.socket = sock
            trace.sending = True
        super().request(*args, **kwargs)


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if tracing.trace is not None and tracing.trace.fresh:
            # It connects anew when it is used. (A further one would be one too many for the pool.)
            connection.close()
        return connection


class TracingAdapter(HTTPAdapter):
    """Requests' transport on the connections above, with our TLS context and no retries of its own."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.sslsocket_class = DeadlineSocket
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, ssl_context=self._context, **kwargs
        )
        self.poolmanager.pool_classes_by_scheme = {"https": _Pool}

    def close(self) -> None:
        """Close the idle connections now; urllib3 leaves that to the collection of their pool."""
        pools = self.poolmanager.pools
        for key in pools.keys():  # noqa: SIM118 - not a dict: it cannot be iterated
            if (pool := pools.get(key)) is not None:
                pool.close()
        super().close()

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The context decides. Requests' own way would add the public CAs of certifi to what it trusts.
        conn.cert_reqs = "CERT_REQUIRED"
