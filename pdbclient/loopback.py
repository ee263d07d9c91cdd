"""What stands for this machine in a URL or a header: the loopback, by its name or an address. Pure."""

from __future__ import annotations

import ipaddress
import re

__all__ = ["host_in", "is_loopback"]

_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/@]+))(?::\d*)?", re.ASCII).fullmatch


def host_in(authority: str) -> str:
    """The host in `host:port`, as a Host header has it, without brackets; empty where there is none."""
    found = _AUTHORITY(authority)
    return (found["v6"] or found["name"]) if found else ""


def is_loopback(host: str) -> bool:
    """Whether it is `localhost`, or an address of the loopback."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
