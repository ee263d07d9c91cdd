"""The sockets of the gateway: the address that the host of `gateway_url` has on this machine, and no other."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence

from pdbclient.config.model import Endpoint, LocalAddress
from pdbclient.errors import GatewayError

__all__ = ["described", "duplicates", "is_loopback", "listening_sockets"]

BACKLOG = 512


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
        raise GatewayError(f"{setting} {url}: cannot listen there: {why} (is that a name of this machine?)")
    return sockets


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
