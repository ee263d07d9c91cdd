"""What a pass refuses to do, because it looks like an accident at the remote. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pdbclient.errors import SafetyBrake
from pdbclient.sync.policy.model import Entity, Liveness, NodeStatus

__all__ = ["brake_deactivations", "brake_empty"]

BRAKE_NODES = 50
BRAKE_SHARE = 0.05


def brake_deactivations(planned: Collection[str], here: Mapping[str, NodeStatus]) -> None:
    """Raise `SafetyBrake` when more than max(50, 5 %) of this side's active nodes are to be deactivated at
    once.
    """
    active = sum(1 for status in here.values() if status.liveness is Liveness.ACTIVE)
    hit = sum(1 for certname in planned if certname in here and here[certname].liveness is Liveness.ACTIVE)
    limit = max(BRAKE_NODES, int(active * BRAKE_SHARE))
    if hit > limit:
        raise SafetyBrake(
            f"{hit} of {active} active nodes would be deactivated in one pass, more than {limit}: none was. "
            f"If that is right, deactivate them here by hand; if not, find out what did it at the remote"
        )


def brake_empty(what: Entity, there: int, here: int, seen_before: int) -> None:
    """Raise `SafetyBrake` when a remote that had `seen_before` records reports none while this side has
    some.
    """
    if there == 0 and here > 0 and seen_before > 0:
        raise SafetyBrake(
            f"the remote reports no {what} at all, but had {seen_before} before and there are {here} here: "
            f"it looks emptied, freshly installed, or pointed at another database. Find out what happened to it; "
            f"if it is to be filled again, do that from here (`pdbclient sync seed` beside it), and passes go on"
        )
