"""What a pass refuses to do, because it looks like an accident at the remote. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pdbclient.errors import SafetyBrake
from pdbclient.sync.policy.model import Entity, Liveness, NodeStatus

__all__ = ["active_among", "brake_deactivations", "brake_empty"]

BRAKE_NODES = 50
BRAKE_SHARE = 0.05
FEW_NODES = 2
"""So many may always go: a site of two or three nodes has its nodes replaced, too."""


def brake_deactivations(
    planned: Collection[str],
    here: Mapping[str, NodeStatus],
    active: int,
    allowed: int | None = None,
    done: Collection[str] = (),
) -> None:
    """Raise `SafetyBrake` when too many of this side's active nodes are to be deactivated in one pass.

    Too many are more than half of them (and more than 2), and more than max(50, 5 %); or more than `allowed`, where
    somebody said how many are right. `active` is how many there are. `done` are those that were active and that the
    pass has deactivated already.
    """
    # Something may have made one of them active again since.
    active += len(set(done) - active_among(done, here))
    hit = active_among(planned, here) | set(done)
    limit = _most(active) if allowed is None else allowed
    if len(hit) > limit:
        left = f"{len(done)} were, the others were not" if done else "none was"
        raise SafetyBrake(
            f"{len(hit)} of {active} active nodes would be deactivated in one pass, more than {limit}: {left}. "
            f"`pdbclient sync once --allow-deactivations {len(hit)}` does it, with --dry-run it lists them; if they "
            f"are not to go, find out what did it at the remote"
        )


def active_among(certnames: Iterable[str], here: Mapping[str, NodeStatus]) -> frozenset[str]:
    """Those of the nodes that are known and active."""
    return frozenset(name for name in certnames if name in here and here[name].liveness is Liveness.ACTIVE)


def brake_empty(what: Entity, there: int, here: int, seen_before: int) -> None:
    """Raise `SafetyBrake` when a remote that had `seen_before` records reports none while this side has some. Those
    of nodes that the remote has no more are not to be counted `here`: they went with their nodes.
    """
    if there == 0 and here > 0 and seen_before > 0:
        raise SafetyBrake(
            f"the remote reports no {what} at all, but had {seen_before} before and there are {here} here: "
            f"it looks emptied, freshly installed, or pointed at another database. Find out what happened to it; "
            f"if it is to be filled again, do that from here (`pdbclient sync seed` beside it), and passes go on"
        )


def _most(active: int) -> int:
    """How many of so many active nodes may be deactivated in one pass that nobody asked about."""
    return min(max(BRAKE_NODES, int(active * BRAKE_SHARE)), max(FEW_NODES, active // 2))
