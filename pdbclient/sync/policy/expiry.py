"""Nodes that expire here while the remote keeps them: the node-ttl of the two servers differ. Pure.

Such a node is purged here in the end, with all that it has. Pulled again it would expire and be purged again, and so
on for ever. No server tells its node-ttl, but each node that expires tells how old its newest record was by then:
nothing that old stays here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pdbclient.sync.policy.classify import Nodes
from pdbclient.sync.policy.model import Liveness

__all__ = ["Expired", "expired_here", "outdated", "purged_since", "too_old"]


class Expired(NamedTuple):
    """When a node expired here (ms), and how old its newest record here was then (ms)."""

    millis: int
    age: int


def expired_here(nodes: Nodes) -> dict[str, int]:
    """The nodes that have expired here and are active at the remote, with the time (ms)."""
    return {
        certname: status.expired
        for certname, status in nodes.here.items()
        if status.expired is not None and _active_there(certname, nodes)
    }


def outdated(nodes: Nodes, known: Iterable[str]) -> frozenset[str]:
    """Those of the nodes once seen expired here of which that says nothing any more: the remote does not keep them
    either, or they are back here. What is unusable says nothing at all.
    """
    expired = expired_here(nodes)
    return frozenset(
        certname
        for certname in known
        if certname not in nodes.unusable
        and (not _active_there(certname, nodes) or (certname in nodes.here and certname not in expired))
    )


def purged_since(nodes: Nodes, known: Mapping[str, Expired]) -> dict[str, Expired]:
    """Those of the nodes once seen expired here that are purged by now, and active at the remote still."""
    return {
        certname: each
        for certname, each in known.items()
        if certname not in nodes.here and _active_there(certname, nodes)
    }


def too_old(purged: Mapping[str, Expired], newest_there: Mapping[str, int], now: int) -> frozenset[str]:
    """Those of the `purged` nodes that would expire here at once: the newest record of theirs at the remote is, `now`
    (ms), as old as the one was that expired here. A node that is at work again has a younger one, and comes back.
    """
    return frozenset(
        certname
        for certname, expired in purged.items()
        if certname not in newest_there or now - newest_there[certname] >= expired.age
    )


def _active_there(certname: str, nodes: Nodes) -> bool:
    theirs = nodes.there.get(certname)
    return theirs is not None and theirs.liveness is Liveness.ACTIVE
