"""Which nodes are dead for good, and which of them may be alive again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pdbclient.sync.policy.classify import Nodes
from pdbclient.sync.policy.model import EntityPlan, Liveness, NodeStatus

__all__ = ["deactivated_first", "dead_for_good", "flipped", "revival_candidates", "undecided_deactivations"]


def flipped(nodes: Nodes) -> Nodes:
    """The same nodes as the remote sees them."""
    return replace(
        nodes,
        there=nodes.here,
        here=nodes.there,
        dead=nodes.dead_there,
        dead_there=nodes.dead,
        total_there=nodes.total_here,
        total_here=nodes.total_there,
    )


def undecided_deactivations(nodes: Nodes) -> list[str]:
    """Nodes known here that were deactivated at the remote, later if here, too: the newest record here decides."""
    return [
        certname
        for certname, status in nodes.there.items()
        if status.deactivated is not None
        and status.liveness is Liveness.INACTIVE
        and (ours := nodes.here.get(certname)) is not None
        and (ours.deactivated is None or ours.deactivated < status.deactivated)
    ]


def deactivated_first(nodes: Nodes, planned: EntityPlan) -> Nodes:
    """The nodes as they are once `planned` deactivations are done."""
    dead = {
        certname: NodeStatus(Liveness.INACTIVE, deactivated=version.millis)
        for certname, version in planned.pull.items()
    }
    return replace(nodes, here={**nodes.here, **dead})


def revival_candidates(nodes: Nodes) -> list[str]:
    """Nodes that are dead here and active at the remote: its newest record decides which of the two is
    right.
    """
    return [
        certname
        for certname, status in nodes.here.items()
        if _death(status) is not None
        and (theirs := nodes.there.get(certname)) is not None
        and theirs.liveness is Liveness.ACTIVE
    ]


def dead_for_good(nodes: Nodes, newest_there: Mapping[str, int]) -> frozenset[str]:
    """The candidates that stay dead here: no record of theirs at the remote is newer than their death.

    All data of a node follows this one verdict, so that a pass never leaves half of a revived node behind.
    """
    return frozenset(
        certname
        for certname in revival_candidates(nodes)
        if (death := _death(nodes.here[certname])) is not None and newest_there.get(certname, death) <= death
    )


def _death(status: NodeStatus) -> int | None:
    """When a node died on its server, for good as far as that server alone can tell.

    `expired` is one server's own clock about missing data, and the peer may have that data: it counts only
    once the node is about to be purged, for a record that does not revive it would be purged and pulled again
    for ever.
    """
    times = [status.deactivated]
    if status.liveness is Liveness.GONE:
        times.append(status.expired)
    return max((t for t in times if t is not None), default=None)
