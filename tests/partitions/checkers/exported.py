"""Whether what readers saw of exported resources ever went back. Pure.

Every catalog of a node exports a higher counter. A read that began after another one had ended must not show less of
any node, through whichever gateway, unless it was marked stale. A node that is not shown has been deactivated since,
or this is less, too; and one that was deactivated shows the catalog it had only when it came back since.

What a gateway promises is about what its journal has. A counter that went past all gateways (Puppet goes on without
one that is down), or with a journal for each gateway past this one, is none that it could know.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..history import Read, Submitted
from .model import Evidence, Kind, Violation

__all__ = ["backwards", "forgiven"]

ALIVE = ("facts", "report")
"""What brings a deactivated node back, beside a catalog."""


@dataclass(slots=True)
class _Node:
    """What was ever sent of one node, by number, with the time of its first attempt; and what is known to whom."""

    catalogs: dict[int, float] = field(default_factory=dict)
    deactivations: dict[int, float] = field(default_factory=dict)
    activity: dict[int, float] = field(default_factory=dict)
    known: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True, slots=True)
class _Shown:
    """The most that any read has shown of a node: a counter, or that it was gone after that one."""

    number: int
    gone: bool
    read: Read

    @property
    def order(self) -> tuple[int, bool]:
        """By which one is more than another."""
        return self.number, self.gone


def backwards(evidence: Evidence) -> Iterator[Violation]:
    """Reads that showed less than one before them, of what the gateway that answered could know."""
    yield from (found for found, forgivable in _all(evidence) if not forgivable)


def forgiven(evidence: Evidence) -> int:
    """How many went back, of which no gateway could know."""
    return sum(forgivable for _, forgivable in _all(evidence))


def _all(evidence: Evidence) -> Iterator[tuple[Violation, bool]]:
    nodes = _nodes(evidence)
    reads = [
        each
        for each in evidence.history.all(Read)
        if each.kind == "exported" and each.answered and not each.stale and evidence.through_front(each)
    ]
    most: dict[str, _Shown] = {}
    ended: list[tuple[float, int, dict[str, _Shown]]] = []
    for number, read in enumerate(reads):
        while ended and ended[0][0] < read.at:
            for certname, shown in heapq.heappop(ended)[2].items():
                if certname not in most or most[certname].order < shown.order:
                    most[certname] = shown
        told: dict[str, _Shown] = {}
        for certname in sorted(most.keys() | read.seen.keys()):
            node, before, now = nodes.get(certname, _Node()), most.get(certname), read.seen.get(certname)
            if now is not None and now not in node.catalogs:
                yield Violation(Kind.PHANTOM, f"{certname}: counter {now}", read.host, read.at), False
                continue
            why = _less(node, before, now, read)
            if why is None:
                told[certname] = _told(node, before, now, read)
            else:
                assert before is not None
                yield _violation(certname, why, before, read), not _could_know(evidence, node, before, now, read)
        heapq.heappush(ended, (read.end, number, told))


def _less(node: _Node, before: _Shown | None, now: int | None, read: Read) -> str | None:
    """In what way this is less than what was shown before; None: it is not."""
    if before is None:
        return None
    if now is None:
        if before.gone or any(number > before.number and at <= read.end for number, at in node.deactivations.items()):
            return None
        return f"nothing, and nobody had deactivated it since {before.number}"
    if now < before.number:
        return f"{now}"
    if now == before.number and before.gone:
        gone = min(number for number in node.deactivations if number > now)
        if not any(number > gone and at <= read.end for number, at in node.activity.items()):
            return f"{now}, the catalog that it had before it was deactivated"
    return None


def _told(node: _Node, before: _Shown | None, now: int | None, read: Read) -> _Shown:
    if now is not None:
        return _Shown(now, False, read)
    assert before is not None
    return _Shown(before.number, True, read)


def _could_know(evidence: Evidence, node: _Node, before: _Shown, now: int | None, read: Read) -> bool:
    """Whether the journal of the gateway that answered has something newer than what it showed.

    A journal for all has what came through any gateway; one of its own, what came through that one.
    """
    if not evidence.fronts:
        return True
    known = {number for number, hosts in node.known.items() if evidence.shared or read.host in hosts}
    if before.gone and now == before.number:
        return any(number > before.number for number in known & node.deactivations.keys())
    known = {number for number in known if number <= before.number}
    if now is None:
        # Nothing is right when the last that it knows is a deactivation.
        return max(known, default=-1) in node.catalogs
    newer = {number for number in known if number > now}
    active = max((number for number, at in node.activity.items() if at <= read.end), default=-1)
    # What came since, by way of a reconciler maybe, has made the node active with the catalog that it had.
    return any(number in node.catalogs or number > active for number in newer)


def _nodes(evidence: Evidence) -> Mapping[str, _Node]:
    nodes: dict[str, _Node] = defaultdict(_Node)
    for each in evidence.history.all(Submitted):
        node = nodes[each.certname]
        for kinds, of in (
            (("catalog",), node.catalogs),
            (("deactivate",), node.deactivations),
            (ALIVE, node.activity),
        ):
            if each.kind in kinds:
                of.setdefault(each.number, each.at)
    for each in evidence.known():
        if each.kind in ("catalog", "deactivate"):
            nodes[each.certname].known[each.number].add(each.host)
    return dict(nodes)


def _violation(certname: str, why: str, before: _Shown, read: Read) -> Violation:
    earlier = before.read
    gone = " and gone" if before.gone else ""
    return Violation(
        Kind.BACKWARDS,
        f"{certname}: {before.number}{gone} was shown, and then {why}",
        f"{read.host}, {read.by}",
        read.at,
        (
            f"{before.number}{gone}: by {earlier.by} to {earlier.host}, from {earlier.at:.3f} to {earlier.end:.3f}",
            f"less: by {read.by} to {read.host}, from {read.at:.3f} to {read.end:.3f}, not marked stale",
        ),
    )
