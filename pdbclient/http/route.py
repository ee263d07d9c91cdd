"""Who is asked, in which order. Pure. The order is always the configured one; health only leaves servers out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pdbclient.config.model import Endpoint

__all__ = ["read_order", "write_order"]


def write_order(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The order for a command: `server_urls`, then `submit_only_server_urls` as a last resort (stock meaning)."""
    return tuple(sorted(endpoints, key=lambda e: (e.submit_only, e.order)))


def read_order(
    endpoints: Sequence[Endpoint], held_back: Collection[Endpoint] = (), sticky: Endpoint | None = None
) -> tuple[Endpoint, ...]:
    """The order for a query: `server_urls` only, never a submit-only server.

    `sticky` is the server that answered last, with `sticky_read_failover`: asked first, the others after it,
    wrapping round (stock meaning). Otherwise a server in `held_back` is asked after all others: it is well
    again, but lacks commands that another one accepted, so its answers could go back in time.
    """
    order = sorted((e for e in endpoints if not e.submit_only), key=lambda e: e.order)
    if sticky in order:
        start = order.index(sticky)
        return tuple(order[start:] + order[:start])
    return tuple(sorted(order, key=lambda e: e in held_back))
