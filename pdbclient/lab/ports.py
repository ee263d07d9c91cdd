"""Free ports on the loopback interface, chosen at run time."""

from __future__ import annotations

import random
import socket
from collections.abc import Container
from pathlib import Path

from pdbclient.errors import LabError

__all__ = ["LOOPBACK", "free_port", "is_free"]

LOOPBACK = "127.0.0.1"
_LOWEST = 10240
_HIGHEST = 65535
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 200


def _candidates() -> range:
    """Ports outside the range from which the kernel takes the source ports of outgoing connections.

    Inside it, a stopped server's port may be some client's source port when the server comes back, and a
    client that knocks at a stopped server can even be connected to itself.
    """
    try:
        low, high = (int(word) for word in _EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    if low - _LOWEST >= 1000:
        return range(_LOWEST, low)
    return range(high + 1, _HIGHEST) if _HIGHEST - high >= 1000 else range(_LOWEST, _HIGHEST)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now (closed connections that linger do not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(taken: Container[int] = ()) -> int:
    """A port nobody listens on and not in `taken`; it may be gone before it is used: callers retry."""
    candidates = _candidates()
    for _ in range(_TRIES):
        port = random.choice(candidates)
        if port not in taken and is_free(port):
            return port
    raise LabError(f"no free port on {LOOPBACK} among {candidates.start}-{candidates.stop - 1}")
