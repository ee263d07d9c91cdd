"""From one configuration to the next: who listens at an address already, hands over its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pdbclient.config.model import Endpoint, LocalAddress
from pdbclient.errors import GatewayError
from pdbclient.gateway.listen import duplicates, listening_sockets

__all__ = ["sockets_for", "without"]


def sockets_for(url: Endpoint | LocalAddress, setting: str, held: Sequence[socket.socket]) -> list[socket.socket]:
    """As `listening_sockets`, but at an address at which one of `held` listens, a duplicate of that."""
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # It says what is wrong with it.
        return listening_sockets(url, setting)
    wanted = dict.fromkeys((family, address) for family, _, _, _, address in found)
    there = {(sock.family, sock.getsockname()): sock for sock in held}
    kept = [there[each] for each in wanted if each in there]
    if not kept:
        return listening_sockets(url, setting)
    sockets = duplicates(kept)
    try:
        for _, address in (each for each in wanted if each not in there):
            sockets += _also(replace(url, host=str(address[0])), setting)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def without(held: Iterable[socket.socket], taken: Iterable[socket.socket]) -> list[socket.socket]:
    """Those of `held` at whose address none of `taken` listens."""
    names = {sock.getsockname() for sock in taken}
    return [sock for sock in held if sock.getsockname() not in names]


def _also(url: Endpoint | LocalAddress, setting: str) -> list[socket.socket]:
    """For one more address of a host: nothing where that is none of this machine."""
    try:
        return listening_sockets(url, setting)
    except GatewayError as error:
        if error.__cause__ is not None:
            # Another process is there.
            raise
        return []
