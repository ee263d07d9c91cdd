"""One HTTP/1.1 client on a bare TLS socket: a tenth of the work of a client library, and every step in sight."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass, field

from pdbclient.config.model import TlsFiles

__all__ = ["BadAnswer", "Connection", "LoadAnswer", "Target", "client_context"]

_READ = 65536
_LIMIT = 30.0


class BadAnswer(Exception):
    """The server closed the connection, or did not speak HTTP."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to and how. `kept`: one connection for all requests, else a new one for each, closed afterwards as
    Puppet Server does it, with the TLS session of the one before when `resumed`.
    """

    port: int
    tls: TlsFiles
    kept: bool = True
    resumed: bool = True


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """What came back, and how many seconds it took from before the connection to the last byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


def client_context(tls: TlsFiles) -> ssl.SSLContext:
    """Mutual TLS with the files of `tls`."""
    context = ssl.create_default_context(cafile=str(tls.ca))
    assert tls.cert is not None
    assert tls.key is not None
    context.load_cert_chain(tls.cert, tls.key)
    return context


@dataclass(slots=True)
class Connection:
    """Sends one request after another to `target`. `handshakes` and `resumptions` count its connections."""

    target: Target
    context: ssl.SSLContext
    handshakes: int = 0
    resumptions: int = 0
    _socket: ssl.SSLSocket | None = None
    _session: ssl.SSLSession | None = None
    _buffer: bytearray = field(default_factory=bytearray)

    def ask(self, head: bytes, body: bytes = b"") -> LoadAnswer:
        """Send `head`, which lacks its last empty line, with `body`, and read the answer."""
        start = time.perf_counter()
        end = b"\r\n" if self.target.kept else b"Connection: close\r\n\r\n"
        tls = self._socket or self._connect()
        try:
            tls.sendall(b"".join((head, end, body)))
            status, headers = self._head(tls)
            content = self._body(tls, headers)
        except OSError as error:
            self._socket = None
            tls.close()
            raise BadAnswer(str(error)) from error
        seconds = time.perf_counter() - start
        if not self.target.kept or headers.get("connection") == "close":
            self.close()
        return LoadAnswer(status, headers, content, seconds)

    def close(self) -> None:
        """Close with TLS's own goodbye, without which OpenSSL would not resume the session."""
        tls, self._socket = self._socket, None
        if tls is None:
            return
        if self.target.resumed:
            self._session = tls.session
        with contextlib.suppress(OSError, ValueError):
            tls.unwrap()
        tls.close()

    def _connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.target.port), timeout=_LIMIT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = self.context.wrap_socket(
            raw, server_hostname="localhost", session=self._session, suppress_ragged_eofs=False
        )
        self.handshakes += 1
        self.resumptions += bool(tls.session_reused)
        self._socket = tls
        self._buffer.clear()
        return tls

    def _more(self, tls: ssl.SSLSocket) -> None:
        chunk = tls.recv(_READ)
        if not chunk:
            raise OSError("the server closed the connection")
        self._buffer += chunk

    def _line(self, tls: ssl.SSLSocket) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more(tls)
        return self._take(tls, end + 2)[:-2]

    def _take(self, tls: ssl.SSLSocket, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more(tls)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _rest(self, tls: ssl.SSLSocket) -> bytes:
        """Jetty ends an answer by closing when it is told to close: its TLS goodbye must have come, too."""
        while chunk := tls.recv(_READ):
            self._buffer += chunk
        return self._take(tls, len(self._buffer))

    def _head(self, tls: ssl.SSLSocket) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more(tls)
        first, *lines = self._take(tls, end + 4)[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def _body(self, tls: ssl.SSLSocket, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self._take(tls, int(headers["content-length"]))
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self._rest(tls)
        chunks = []
        while size := int(self._line(tls).partition(b";")[0], 16):
            chunks.append(self._take(tls, size))
            self._line(tls)
        self._line(tls)
        return b"".join(chunks)
