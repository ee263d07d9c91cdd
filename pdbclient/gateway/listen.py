"""The sockets of the gateway: the address that the host of `gateway_url` has on this machine, and no other."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Any

from pdbclient.config.model import Endpoint, LocalAddress
from pdbclient.config.ports import PRIVILEGE, PRIVILEGED
from pdbclient.errors import GatewayError

__all__ = ["Entrance", "described", "duplicates", "is_loopback", "listening_sockets", "most_handshakes"]

log = logging.getLogger("pdbclient.gateway")

BACKLOG = 512
PATIENCE = 1.0
"""Seconds that a handshake has in any case."""
PAUSE_OF_ASYNCIO = 1.0
"""Seconds for which asyncio takes no connection after one for which there was no descriptor."""


class Entrance(socket.socket):
    """A listening socket that takes connections as fast as they come in: `most` may be in their TLS handshake.

    When so many are, the oldest is closed for the next one, if it is `PATIENCE` old; else the next one waits in the
    backlog. Whoever connects and says nothing takes only so many descriptors from those who do. `inside` gives the
    descriptors of the connections whose handshake is done.
    """

    def __init__(self, listening: socket.socket, most: int, inside: Callable[[], Container[int]]) -> None:
        super().__init__(fileno=listening.dup().detach())
        self.setblocking(False)
        self._most, self._inside = most, inside
        self._handshakes: deque[tuple[float, socket.socket]] = deque()
        self._said = False
        self._exhausted_at = float("-inf")

    def accept(self) -> tuple[socket.socket, Any]:
        """As a socket does."""
        now = time.monotonic()
        try:
            if len(self._handshakes) >= self._most:
                self._make_room(now)
            connection, address = super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                if now - self._exhausted_at < PAUSE_OF_ASYNCIO:
                    # asyncio asks for all of its backlog in a row, and has a traceback in the log for each.
                    raise BlockingIOError from error
                self._exhausted_at = now
            raise
        self._handshakes.append((now, connection))
        return connection, address

    def _make_room(self, now: float) -> None:
        """Raises `BlockingIOError`, as a socket on which nobody waits, when there is none to be made."""
        inside = self._inside()
        # A closed one's descriptor is -1.
        left = [each for each in self._handshakes if each[1].fileno() >= 0 and each[1].fileno() not in inside]
        self._handshakes = deque(left)
        if len(left) < self._most:
            return
        began, oldest = left[0]
        if now - began < PATIENCE:
            raise BlockingIOError
        if not self._said:
            self._said = True
            log.warning(
                "%d connections are without TLS yet: of these, the oldest are closed for new ones", self._most
            )
        self._handshakes.popleft()
        with contextlib.suppress(OSError):  # it has gone
            oldest.shutdown(socket.SHUT_RDWR)


def most_handshakes() -> int:
    """How many connections may be in their TLS handshake: with a quarter of the descriptors that this process has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft // 4 if soft != resource.RLIM_INFINITY else BACKLOG


def listening_sockets(url: Endpoint | LocalAddress, setting: str = "gateway_url") -> list[socket.socket]:
    """Bound, listening sockets for `url`, which `setting` says: one for each address that its host has here.

    Puppet's certificates carry the host's own name, so clients must use that name, and what it stands for here is
    where they will look. Raises `GatewayError` when there is none, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise GatewayError(f"{setting} {url}: its host has no address on this machine: {error}") from error
    sockets: list[socket.socket] = []
    refusals: list[OSError] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, address))
        except OSError as error:
            refusals.append(error)
            if error.errno == errno.EADDRINUSE:
                _close(sockets)
                raise GatewayError(f"{setting} {url}: another process listens there already") from error
    if not sockets:
        why = "; ".join(dict.fromkeys(error.strerror or str(error) for error in refusals))
        raise GatewayError(f"{setting} {url}: cannot listen there: {why}{_advice(url.port, refusals)}")
    return sockets


def _advice(port: int, refusals: Sequence[OSError]) -> str:
    numbers = {error.errno for error in refusals}
    if port < PRIVILEGED and not numbers.isdisjoint((errno.EACCES, errno.EPERM)):
        return f": ports below {PRIVILEGED} need a privilege: {PRIVILEGE}"
    return " (is that a name of this machine?)" if errno.EADDRNOTAVAIL in numbers else ""


def duplicates(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Further handles of the same sockets: whoever accepts from the one may be closed without the other."""
    return [sock.dup() for sock in sockets]


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


def described(sockets: Sequence[socket.socket]) -> str:
    """Their addresses, to be read."""
    return ", ".join(f"{sock.getsockname()[0]} port {sock.getsockname()[1]}" for sock in sockets)


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.close()
