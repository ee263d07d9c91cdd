"""What to pull, and why not. Pure: two inventories and what is remembered go in, a plan comes out.

The precedence rules in one place. Nothing is ever planned because a record is missing at the remote: absence
there may mean purged, never had, or hidden, and PuppetDB keeps no tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pdbclient.errors import PdbError
from pdbclient.sync.policy.brakes import brake_deactivations
from pdbclient.sync.policy.model import Entity, EntityPlan, Liveness, NodeStatus, Selection, Skip, Version

__all__ = [
    "Memory",
    "Nodes",
    "ReportRow",
    "Terms",
    "deactivated_first",
    "deactivation_candidates",
    "dead_here",
    "plan_deactivations",
    "plan_records",
    "plan_reports",
    "revival_candidates",
]

FIRST_WINS = frozenset({Entity.EXPIRATION, Entity.INPUTS})
"""What the server replaces only by something strictly newer; elsewhere the last writer wins at equal times."""

Memory = Callable[[str, Version], Skip | None]
"""Says why this key and version is not to be pulled (again), or None."""


class ReportRow(NamedTuple):
    """A report as a summary shows it; `millis` is its producer timestamp."""

    hash: str
    certname: str
    millis: int


@dataclass(frozen=True, slots=True)
class Nodes:
    """Both sides' nodes. `dead` are those that stay dead here: `dead_here`, and `expiry.too_old` of those that are
    not here any more. `unsure` is why some of them may not be dead, None when that is known.
    """

    there: Mapping[str, NodeStatus]
    here: Mapping[str, NodeStatus]
    dead: frozenset[str] = frozenset()
    unsure: PdbError | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pass believes, and what it was asked for; times in ms.

    `latest` is the greatest producer timestamp that is believed: a record from the future would win for ever.
    `earliest` is the least that is selected (0: any age).

    `one_way`: at equal times the remote's content is taken, whatever the hash, and nodes deactivated at the
    remote come along with their data, also those never heard of here. Between two servers that pull from each
    other neither may be: contents would swap for ever, and a node purged by one side would come back from the
    other, be purged there, and so on.

    `deactivations`: at most so many active nodes are deactivated here, None: as many as look like no accident
    (`brakes.brake_deactivations`).
    """

    latest: int
    earliest: int = 0
    selection: Selection = field(default_factory=Selection)
    one_way: bool = False
    deactivations: int | None = None

    def select(self, certname: str, millis: int) -> bool:
        """Whether the pass is about this record at all."""
        return millis >= self.earliest and self.selection.names(certname)


def plan_records(
    entity: Entity,
    there: Mapping[str, Version],
    here: Mapping[str, Version],
    nodes: Nodes,
    terms: Terms,
    memory: Memory,
) -> EntityPlan:
    """The plan for records of which a node has one: whichever version is greater is to be everywhere.

    Of catalog inputs and fact expirations the server keeps what it got first at a time: an equal-time
    conflict stays one (`Skip.TIE`).
    """
    pull: dict[str, Version] = {}
    skipped: list[tuple[str, Skip]] = []
    for certname, version in there.items():
        ours = here.get(certname)
        if ours == version or not terms.select(certname, version.millis):
            continue
        equal_time = ours is not None and ours.millis == version.millis
        if ours is not None and ours > version and not (equal_time and (terms.one_way or entity in FIRST_WINS)):
            continue
        why = _node_obstacle(certname, version.millis, nodes, terms)
        if why is None and equal_time and entity in FIRST_WINS:
            why = Skip.TIE
        why = why or memory(certname, version)
        if why is Skip.EQUIVALENT and not equal_time:
            # What was stored here then has been lost since: restored from a backup, emptied, or purged.
            why = None
        if why is None:
            pull[certname] = version
        else:
            skipped.append((certname, why))
    return EntityPlan(entity, pull, skipped)


def plan_reports(
    there: Iterable[ReportRow], here: Collection[str], nodes: Nodes, terms: Terms, memory: Memory
) -> EntityPlan:
    """The plan for reports, which never change: whatever hash is missing here, newest first."""
    pull: dict[str, Version] = {}
    certnames: dict[str, str] = {}
    skipped: list[tuple[str, Skip]] = []
    missing = (row for row in there if row.hash not in here and terms.select(row.certname, row.millis))
    for row in sorted(missing, key=lambda r: r.millis, reverse=True):
        version = Version(row.millis, row.hash)
        why = _node_obstacle(row.certname, row.millis, nodes, terms) or memory(row.hash, version)
        if why is None:
            pull[row.hash] = version
            certnames[row.hash] = row.certname
        else:
            skipped.append((row.hash, why))
    return EntityPlan(Entity.REPORTS, pull, skipped, certnames)


def deactivation_candidates(nodes: Nodes) -> dict[str, Version]:
    """Nodes deactivated at the remote later than here, known here or not, with the time of the deactivation.

    Nodes that the remote is about to purge are left out: the peer may have purged them already.
    """
    candidates: dict[str, Version] = {}
    for certname, status in nodes.there.items():
        if status.deactivated is None or status.liveness is not Liveness.INACTIVE:
            continue
        ours = nodes.here.get(certname)
        if ours is None or ours.deactivated is None or ours.deactivated < status.deactivated:
            candidates[certname] = Version(status.deactivated, "")
    return candidates


def plan_deactivations(
    nodes: Nodes, newest_here: Mapping[str, int], terms: Terms, memory: Memory, done: Collection[str] = ()
) -> EntityPlan:
    """Which nodes to deactivate here. Raises `SafetyBrake` when there are too many (`brake_deactivations`), with
    those of `done`: nodes that were active here until this pass deactivated them.

    A node that is not known here is left alone: this side may have purged it already. In a one-way pass it is
    made, deactivated, so that the older data that follow do not make it active.

    `newest_here` gives the newest producer timestamp (ms) of any record that this side holds for a candidate:
    the server answers a deactivation that is older than it with silence.
    """
    pull: dict[str, Version] = {}
    skipped: list[tuple[str, Skip]] = []
    for certname, version in deactivation_candidates(nodes).items():
        if not terms.select(certname, version.millis):
            continue
        why: Skip | None
        if not certname:
            why = Skip.NAMELESS
        elif certname not in nodes.here and not terms.one_way:
            why = Skip.UNKNOWN_HERE
        elif version.millis > terms.latest:
            why = Skip.FUTURE
        elif newest_here.get(certname, version.millis) > version.millis:
            why = Skip.NEWER_HERE
        else:
            why = memory(certname, version)
        if why is None:
            pull[certname] = version
        else:
            skipped.append((certname, why))
    brake_deactivations(pull, nodes.here, terms.deactivations, done)
    return EntityPlan(Entity.NODES, pull, skipped)


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


def dead_here(nodes: Nodes, newest_there: Mapping[str, int]) -> frozenset[str]:
    """The candidates that stay dead here: no record of theirs at the remote is newer than their death.

    All data of a node follows this one verdict, so that a pass never leaves half of a revived node behind.
    """
    return frozenset(
        certname
        for certname in revival_candidates(nodes)
        if (death := _death(nodes.here[certname])) is not None and newest_there.get(certname, death) <= death
    )


def _node_obstacle(certname: str, millis: int, nodes: Nodes, terms: Terms) -> Skip | None:
    """What about the node, or the time, keeps a record from being pulled."""
    if not certname:
        return Skip.NAMELESS
    theirs = nodes.there.get(certname)
    # A node unknown in the listing was created after it: the next pass sees it.
    if theirs is None or (theirs.liveness is not Liveness.ACTIVE and not _dead_alike(certname, millis, nodes, terms)):
        return Skip.SOURCE_INACTIVE
    if millis > terms.latest:
        return Skip.FUTURE
    if certname in nodes.dead:
        return Skip.DEAD_HERE if certname in nodes.here else Skip.PURGED_HERE
    return None


def _dead_alike(certname: str, millis: int, nodes: Nodes, terms: Terms) -> bool:
    """Whether a one-way pass may bring data of a node deactivated at the remote: it is deactivated here too,
    and has no flag older than these data. A server makes a node active when either of its flags is older.
    """
    theirs, ours = nodes.there[certname], nodes.here.get(certname)
    if not terms.one_way or theirs.liveness is Liveness.GONE or theirs.deactivated is None:
        return False
    if ours is None or ours.deactivated is None:
        return False
    return ours.deactivated >= millis and (ours.expired is None or ours.expired >= millis)


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
