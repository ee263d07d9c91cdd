"""What systemd is told of a `Type=notify` service: sd_notify(3), without its library."""

from __future__ import annotations

import logging
import os
import socket
import time

__all__ = ["notify_ready", "notify_reloading", "notify_stopping"]

log = logging.getLogger("pdbclient.gateway")


def notify_ready(status: str) -> None:
    """Started, or done with a reload; `status` is shown by `systemctl status`."""
    _notify(f"READY=1\nSTATUS={status}")


def notify_reloading() -> None:
    """A reload has begun; systemd wants to know when, in microseconds of its own clock."""
    _notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify_stopping() -> None:
    """The end has begun."""
    _notify("STOPPING=1")


def _notify(text: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # Whoever has the other end need not read: a full queue is an error then, and no wait.
            sock.setblocking(False)
            sock.sendto(text.encode(), address)
    except OSError as error:
        # A service goes on without its supervisor; an inherited variable may well name another one's socket.
        log.warning("NOTIFY_SOCKET %r: %s", os.environ["NOTIFY_SOCKET"], error)
