"""A TCP proxy on loopback that misbehaves on demand, in front of any server. TLS passes through it untouched.

What it does to a connection is a value (`Fault`), looked up when bytes arrive, so a fault set in mid-connection
works on the connections that are there.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

__all__ = [
    "BlackHole",
    "Drip",
    "Fault",
    "Latency",
    "Proxy",
    "Reset",
    "SlowClose",
    "Stall",
    "Truncate",
    "syn_black_hole",
]

_CHUNK = 64 * 1024
_TICK = 0.02
_RST = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Latency:
    """Every piece of the answer comes `seconds` late."""

    seconds: float


@dataclass(frozen=True)
class BlackHole:
    """Bytes are taken and lost; `after` bytes of the answer still pass (half a TLS handshake, say)."""

    after: int = 0


@dataclass(frozen=True)
class Stall:
    """Nothing more is read from the client: its own buffers fill up."""


@dataclass(frozen=True)
class Reset:
    """RST as soon as `sent` bytes have come from the client; nothing of the answer passes from there on.

    All that the client sends within `grace` seconds more still reaches the server.
    """

    sent: int
    grace: float = 0.0


@dataclass(frozen=True)
class Truncate:
    """The connection ends (a plain FIN, not TLS's own good-bye) after `after` bytes of the answer."""

    after: int


@dataclass(frozen=True)
class SlowClose:
    """When the server closes, the client learns of it only `seconds` later."""

    seconds: float


@dataclass(frozen=True)
class Drip:
    """From `after` bytes of the answer on, one byte every `every` seconds."""

    every: float
    after: int = 0


Fault = Latency | BlackHole | Reset | Truncate | SlowClose | Drip | Stall | None


class Proxy:
    """Listens on a free port of loopback and connects each client to `127.0.0.1:target`.

    `connections` counts the clients accepted so far. Leaving the context ends every thread and connection.
    """

    def __init__(self, target: int, fault: Fault = None) -> None:
        self.fault: Fault = fault
        self.connections = 0
        self.stopped = threading.Event()
        self._target = target
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = False

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.refuse()
        self._listener.close()

    def accept(self) -> None:
        """Take connections (again)."""
        if not self._accepting:
            self._accepting = True
            self._listener.listen(128)
            self._thread = threading.Thread(target=self._accept, args=(self._listener,), name=f"proxy-{self.port}")
            self._thread.start()

    def refuse(self) -> None:
        """Refuse new connections, and reset those that are there: a process that was killed. The port is kept."""
        if self._accepting:
            self._accepting = False
            # Wakes `accept`; closing alone would not.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._listener.close()
            self._listener = _bound(self.port)
        self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection there is, and wait until that is done."""
        self._end_all("reset")

    def close_idle(self) -> None:
        """End every connection the way a server ends idle ones, and wait until that is done."""
        self._end_all("closed")

    def _end_all(self, how: str) -> None:
        links = self._living()
        for link in links:
            link.ended = how
        for link in links:
            link.join()

    def _living(self) -> list[_Link]:
        with self._lock:
            return list(self._links)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            link = _Link(self, client)
            with self._lock:
                self._links.add(link)
                link.start()

    def serve(self, client: socket.socket, link: _Link) -> None:
        """Carry one connection to its end; runs in the link's own thread."""
        try:
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                link.carry(client, server)
                if link.ended == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        except OSError:
            # The target refuses, or either side is gone: this end of the connection is closed, all is said.
            pass
        finally:
            with self._lock:
                self._links.discard(link)


class _Link(threading.Thread):
    """One connection. `ended` set from outside ends it: "closed" (FIN) or "reset" (RST)."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        super().__init__(name=f"proxy-{proxy.port}-link")
        self.ended = ""
        self._proxy = proxy
        self._client = client
        self._up = self._down = 0
        self._reset_at = float("inf")

    def run(self) -> None:
        self._proxy.serve(self._client, self)

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        while not self.ended:
            if isinstance(self._proxy.fault, Stall):
                self._proxy.stopped.wait(_TICK)
                continue
            ready, _, _ = select.select([client, server], [], [], _TICK)
            if self.ended:
                return
            if time.monotonic() >= self._reset_at:
                self.ended = "reset"
                return
            if client in ready and not self._upwards(client, server):
                return
            if server in ready and not self._downwards(client, server):
                return

    def _upwards(self, client: socket.socket, server: socket.socket) -> bool:
        data = client.recv(_CHUNK)
        if not data:
            return False
        self._up += len(data)
        fault = self._proxy.fault
        if isinstance(fault, Reset) and self._up >= fault.sent:
            self._reset_at = min(self._reset_at, time.monotonic() + fault.grace)
        if not (isinstance(fault, BlackHole) and self._down >= fault.after):
            server.sendall(data)
        return True

    def _downwards(self, client: socket.socket, server: socket.socket) -> bool:
        fault = self._proxy.fault
        data = server.recv(_CHUNK)
        if not data:
            if isinstance(fault, SlowClose):
                self._pause(fault.seconds)
            return False
        room = len(data)
        if isinstance(fault, BlackHole | Truncate | Drip):
            room = min(max(fault.after - self._down, 0), room)
        if isinstance(fault, Latency):
            self._pause(fault.seconds)
        if self._reset_at < float("inf"):
            return True
        client.sendall(data[:room])
        self._down += room
        if isinstance(fault, Drip):
            return self._drip(client, data[room:], fault.every)
        return not (isinstance(fault, Truncate) and self._down >= fault.after)

    def _drip(self, client: socket.socket, data: bytes, every: float) -> bool:
        for position in range(len(data)):
            self._pause(every)
            if self.ended:
                return False
            client.sendall(data[position : position + 1])
            self._down += 1
        return True

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.ended and time.monotonic() < end:
            self._proxy.stopped.wait(min(_TICK, seconds))


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


@contextlib.contextmanager
def syn_black_hole() -> Iterator[int]:
    """A port where SYNs are lost: nobody accepts, and the backlog is full. The context gives the port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_bound(0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]
