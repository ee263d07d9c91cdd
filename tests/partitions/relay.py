"""Every packet of a link, some time later: a process between the two ends of it, for kernels that have no netem.

`python -m tests.partitions.relay ONE OTHER SECONDS` hands on what comes in at one link to the other one, and the
other way round, until its standard input ends. Packets that the kernel has not cut or summed up yet, as it leaves
that to the network card, are handed on as they are, with its notes about them.
"""

from __future__ import annotations

import errno
import select
import socket
import sys
import time
from collections import deque

__all__ = ["relay"]

# linux/if_packet.h, linux/if_ether.h
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3

_LARGEST = 10 + 14 + 4 + 65536
_BUFFER = 16 << 20
_LOST = {errno.ENETDOWN, errno.ENOBUFS, errno.ENXIO, errno.EAGAIN}
"""A link that is down, or whose queue is full, loses packets: that is no fault of ours."""


def relay(one: str, other: str, seconds: float) -> None:
    """Hand on, until the standard input ends."""
    with _opened(one) as first, _opened(other) as second:
        sys.stdout.write("relaying\n")
        sys.stdout.flush()
        opposite = {first: second, second: first}
        held: deque[tuple[float, socket.socket, bytes]] = deque()
        while True:
            limit = None if not held else max(held[0][0] - time.monotonic(), 0.0)
            ready, _, _ = select.select([first, second, sys.stdin], [], [], limit)
            if sys.stdin in ready:
                return
            for each in (first, second):
                if each in ready and (packet := _received(each)) is not None:
                    held.append((time.monotonic() + seconds, opposite[each], packet))
            while held and held[0][0] <= time.monotonic():
                _, to, packet = held.popleft()
                _send(to, packet)


def _opened(link: str) -> socket.socket:
    """All that comes in at the link, and nothing of what goes out."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 32), _BUFFER)
    opened.bind((link, _ETH_P_ALL))
    return opened


def _received(link: socket.socket) -> bytes | None:
    try:
        return link.recv(_LARGEST)
    except OSError as error:
        if error.errno not in _LOST:
            raise
        return None


def _send(link: socket.socket, packet: bytes) -> None:
    try:
        link.send(packet)
    except OSError as error:
        if error.errno not in _LOST:
            raise


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], float(sys.argv[3]))
