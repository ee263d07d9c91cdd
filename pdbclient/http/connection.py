"""What requests and urllib3 do not give: one real deadline per attempt, and the facts of a failed one.

A `timeout` of requests bounds each socket operation, so a server that sends a byte now and then is read for
ever. Here the socket itself knows the deadline. And requests' `ConnectionError` covers "refused" as well as
"reset after the whole body": the connection notes how far an attempt came (`Trace`).
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

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
        return super().send(data, flags)

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the whole attempt has passed")
        if self.inactivity is not None:
            self.settimeout(min(self.inactivity, left))


class _Connection(HTTPSConnection):
    def _new_conn(self) -> Any:
        began = time.monotonic()
        sock = super()._new_conn()
        # The connect timeout covers the TLS handshake too, which runs under the socket's own timeout.
        if isinstance(self.timeout, int | float):
            sock.settimeout(max(self.timeout - (time.monotonic() - began), 0.001))
        return sock

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
        if tracing.trace is not None and tracing.trace.fresh:
            return self._new_conn()
        return super()._get_conn(timeout)


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

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The context decides. Requests' own way would add the public CAs of certifi to what it trusts.
        conn.cert_reqs = "CERT_REQUIRED"
