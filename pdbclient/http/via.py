"""The gateways that a request has come through. One sends their names on with its own, and so meets none twice."""

from __future__ import annotations

import re
from contextvars import ContextVar

__all__ = ["HEADER", "LIMIT", "came_through", "gateways", "sent_on"]

HEADER = "X-Pdbclient-Gateway"
LIMIT = 16
"""So many gateways in a row are none that anybody meant."""

came_through: ContextVar[tuple[str, ...]] = ContextVar("came_through", default=())
"""Those of the request that is being answered; none for what a gateway asks by itself."""

_NAMES = re.compile(r"[0-9a-f]{16}").findall


def gateways(header: str) -> tuple[str, ...]:
    """The names of gateways, sixteen hexadecimal digits each, in a header of a request."""
    return tuple(_NAMES(header))


def sent_on(gateway: str | None) -> dict[str, str]:
    """The header for a request that the gateway of that name sends; no header for whoever is no gateway."""
    return {} if gateway is None else {HEADER: ", ".join((*came_through.get(), gateway))}
