"""One reconciler for one local server, whatever the configurations, their state directories and users are.

The lock is an abstract Unix socket that is bound and never spoken to. The kernel gives its name to one process,
whoever that runs as, also where no directory can be written, and takes it back with the process. These names belong
to a network namespace, just as the addresses of the loopback do: containers that share a network (those of a pod)
exclude each other, and the localhost of another network is another server.

What it cannot see: a reconciler on another machine, or in a network namespace of its own; that two names are one
server, if that is not on this machine. On this machine, servers are told apart by their ports, not by their
addresses: most listen on all of them.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from types import TracebackType

from pdbclient.config.model import Endpoint
from pdbclient.errors import SyncError
from pdbclient.http.resolver import Resolver
from pdbclient.loopback import is_loopback

__all__ = ["ServerLock"]

_logger = logging.getLogger(__name__)

SPACE = "pdbclient-sync"
"""What all these names begin with."""
LOOK_UP = 5.0
"""Seconds."""
QUEUE = 1000
"""Processes that may ask who has the lock: each stays in the socket's queue, as nobody speaks to them."""


class ServerLock:
    """Held while inside the block. Raises `SyncError` when another process has it, with its pid where that shows."""

    def __init__(self, server: Endpoint) -> None:
        self._server = server
        self._held: list[socket.socket] = []

    def __enter__(self) -> ServerLock:
        try:
            for name in sorted(set(_names(self._server))):
                self._hold(f"{SPACE} {name}:{self._server.port}")
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _hold(self, name: str) -> None:
        # The kernel takes 107 bytes; a host's name may have more.
        address = b"\0" + hashlib.sha256(name.encode()).hexdigest().encode()
        try:
            self._held.append(socket.socket(socket.AF_UNIX))
            self._held[-1].bind(address)
            self._held[-1].listen(QUEUE)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = (
                    f"whether another reconciler of it is running cannot be told, for want of a Unix socket: {error}"
                )
                raise SyncError(f"{self._server}: {why}") from error
            raise SyncError(
                f"{self._server}: another reconciler of this server is running, with a configuration and a state_dir "
                f"of its own: pid {_holder(address)}. Both would pull the same: stop one"
            ) from None

    def _release(self) -> None:
        while self._held:
            self._held.pop().close()


def _names(server: Endpoint) -> Iterator[str]:
    """What the server is called here; all that are on this machine are also called the same."""
    try:
        yield ipaddress.ip_address(server.host).compressed
    except ValueError:
        yield server.host
    if is_loopback(server.host) or any(map(_is_here, _addresses(server))):
        yield "localhost"


def _addresses(server: Endpoint) -> list[str]:
    try:
        return Resolver(server.host, server.port).addresses(LOOK_UP)
    except (OSError, UnicodeError) as error:
        _logger.info("%s: whether it is on this machine cannot be told: %s", server, error)
        return []


def _is_here(address: str) -> bool:
    """Whether an address is one of this machine's: then what is sent there comes from that same address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Sends nothing, and any port will do.
            probe.connect((address, 9))
            source = str(probe.getsockname()[0])
    except OSError as error:
        _logger.debug("no way to %s: %s", address, error)
        return False
    return source == address or is_loopback(address)


def _holder(address: bytes) -> str:
    """The pid of the process whose socket this is."""
    try:
        with closing(socket.socket(socket.AF_UNIX)) as asking:
            asking.setblocking(False)
            asking.connect(address)
            pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError as error:
        _logger.debug("who has the lock cannot be told: %s", error)
        return "unknown"
    # 0: it is in a container whose processes are not to be seen from here.
    return str(pid) if pid else "unknown"
