"""Where daemons listen: which addresses are one and the same, and which ports need a privilege. Pure."""

from __future__ import annotations

import ipaddress

__all__ = ["LOOPBACK", "PRIVILEGE", "PRIVILEGED", "same_host"]

LOOPBACK = "127.0.0.1"
"""Where status ports are."""
PRIVILEGED = 1024
"""Below that, Linux lets only privileged programs listen."""
PRIVILEGE = (
    "take one from 1024 on, or set AmbientCapabilities=CAP_NET_BIND_SERVICE and "
    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE in the [Service] of the unit (systemctl edit)"
)
"""What to do about a port that needs one: the units as shipped have none."""


def same_host(one: str, other: str) -> bool | None:
    """Whether whoever listens at both listens at one address; None where that is up to what a name stands for."""
    first, second = _addresses(one), _addresses(other)
    if first is None or second is None:
        return True if one == other else None
    return not first.isdisjoint(second)


def _addresses(host: str) -> set[str] | None:
    if host == "localhost":
        return {LOOPBACK, "::1"}
    try:
        return {ipaddress.ip_address(host).compressed}
    except ValueError:
        return None
