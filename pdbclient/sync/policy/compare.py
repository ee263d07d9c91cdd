"""What differs between two servers: two listings go in, differences come out. Pure.

Not what a pass would do (that is `plan`): this is how passes are checked, so nothing here knows what they remember or
hold back. It is symmetrical: seen from the other side the same differences come out, with here and there exchanged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from pdbclient.sync.policy.model import Entity, Liveness, NodeStatus, Version
from pdbclient.sync.policy.plan import FIRST_WINS, Nodes, ReportRow

__all__ = [
    "EXPLAINED",
    "Difference",
    "EntityDiff",
    "Found",
    "Window",
    "compare_nodes",
    "compare_records",
    "compare_reports",
    "content",
]


class Difference(StrEnum):
    """In what way a record differs. Those in `EXPLAINED` are what no pass can, or may, make equal."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    NEWER_HERE = "newer_here"
    NEWER_THERE = "newer_there"
    UNEQUAL = "unequal"
    KNOWN_UNEQUAL = "known_unequal"
    SAME_CONTENT = "same_content"
    TIED = "tied"
    NOT_ACTIVE = "not_active"
    EXPIRED = "expired"

    @property
    def meaning(self) -> str:
        """For whoever reads the result."""
        return _MEANINGS[self]


_MEANINGS = {
    Difference.MISSING_HERE: "only the remote has it",
    Difference.MISSING_THERE: "only the local server has it",
    Difference.NEWER_HERE: "the local server has a newer one",
    Difference.NEWER_THERE: "the remote has a newer one",
    Difference.UNEQUAL: "same time, other content",
    Difference.KNOWN_UNEQUAL: "same time, other content; was pulled and did not become equal, or no copy of it would",
    Difference.SAME_CONTENT: "same time and content; its hash does not survive a transfer",
    Difference.TIED: "same time, other content; PuppetDB keeps whichever it got first",
    Difference.NOT_ACTIVE: "its node is not active where it would come from, so it is not carried",
    Difference.EXPIRED: "expired on one side only, which each server judges by itself",
}

EXPLAINED = frozenset(
    {
        Difference.KNOWN_UNEQUAL,
        Difference.SAME_CONTENT,
        Difference.TIED,
        Difference.NOT_ACTIVE,
        Difference.EXPIRED,
    }
)


class Found(NamedTuple):
    """One record that differs. `key` is a certname, or a report's hash; a side that has none has no version."""

    difference: Difference
    key: str
    certname: str
    here: Version | None
    there: Version | None

    @property
    def millis(self) -> int:
        """The producer timestamp (ms) of the newer one."""
        return max(version.millis for version in (self.here, self.there) if version is not None)


@dataclass(frozen=True, slots=True)
class Window:
    """Which records are looked at: stamped from `start` up to, not including, `end` (ms)."""

    start: int
    end: int

    def __contains__(self, found: Found) -> bool:
        return self.start <= found.millis < self.end


@dataclass(slots=True)
class EntityDiff:
    """What differs of one entity. `here` and `there` count what the servers list, whatever is selected of it.

    `examples` holds at most `limit` of each kind, in the order in which they were found. `error` is why it was not
    compared, or not to its end; None when it was.
    """

    entity: Entity
    limit: int
    here: int = 0
    there: int = 0
    counts: Counter[Difference] = field(default_factory=Counter)
    examples: list[Found] = field(default_factory=list)
    error: str | None = None

    @property
    def equal(self) -> bool:
        """Whether it was compared, and nothing differs but what cannot be made equal."""
        differs = any(number for difference, number in self.counts.items() if difference not in EXPLAINED)
        return self.error is None and not differs

    def add(self, found: Found) -> None:
        """Count one in."""
        self.counts[found.difference] += 1
        if self.counts[found.difference] <= self.limit:
            self.examples.append(found)


def compare_nodes(nodes: Nodes) -> Iterator[Found]:
    """Deactivation status. A node that only one side knows has none to compare: its records tell."""
    for certname in sorted(nodes.here.keys() | nodes.there.keys()):
        ours, theirs = nodes.here.get(certname), nodes.there.get(certname)
        here, there = _deactivation(ours), _deactivation(theirs)
        if here != there:
            kind = _kind(here, there)
            giver, taker = (ours, theirs) if _comes_from_here(here, there) else (theirs, ours)
            # Nobody creates a node to deactivate it, and what is about to be purged the peer may have purged.
            if taker is None or giver is None or giver.liveness is Liveness.GONE:
                kind = Difference.NOT_ACTIVE
            yield Found(kind, certname, certname, here, there)
        elif ours is not None and theirs is not None and (ours.expired is None) != (theirs.expired is None):
            yield Found(Difference.EXPIRED, certname, certname, _expiry(ours), _expiry(theirs))


def compare_records(
    entity: Entity,
    here: Mapping[str, Version],
    there: Mapping[str, Version],
    nodes: Nodes,
    known: Mapping[str, Version],
) -> Iterator[Found]:
    """What a node has one of. `known` are versions of the remote that were pulled and did not become equal."""
    for certname in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(certname), there.get(certname)
        if ours == theirs:
            continue
        kind = _kind(ours, theirs)
        if not _active(certname, nodes, here=_comes_from_here(ours, theirs)):
            kind = Difference.NOT_ACTIVE
        elif kind is Difference.UNEQUAL and entity in FIRST_WINS:
            kind = Difference.TIED
        elif kind is Difference.UNEQUAL and known.get(certname) == theirs:
            kind = Difference.KNOWN_UNEQUAL
        yield Found(kind, certname, certname, ours, theirs)


def compare_reports(
    here: Iterable[ReportRow],
    there: Iterable[ReportRow],
    nodes: Nodes,
    known: Mapping[str, Version] = MappingProxyType({}),
) -> Iterator[Found]:
    """Reports of the same time on both sides: a report is there, or it is not. `known` as for `compare_records`."""
    ours, theirs = ({row.hash: row for row in rows} for rows in (here, there))
    for key in sorted(ours.keys() ^ theirs.keys()):
        row = ours.get(key) or theirs[key]
        version = Version(row.millis, row.hash)
        sides = (version, None) if key in ours else (None, version)
        kind = _kind(*sides) if _active(row.certname, nodes, here=key in ours) else Difference.NOT_ACTIVE
        if kind is Difference.MISSING_HERE and known.get(key) == version:
            kind = Difference.KNOWN_UNEQUAL
        yield Found(kind, key, row.certname, *sides)


def content(body: bytes) -> str:
    """A command's payload as text that is the same for the same content, whatever order a server lists it in."""
    payload = json.loads(body)
    if isinstance(payload.get("resources"), list):
        payload["resources"] = _in_order([{**each, "tags": _in_order(each["tags"])} for each in payload["resources"]])
    for name in ("edges", "package_inventory"):
        if isinstance(payload.get(name), list):
            payload[name] = _in_order(payload[name])
    return _text(payload)


def _kind(here: Version | None, there: Version | None) -> Difference:
    if here is None:
        return Difference.MISSING_HERE
    if there is None:
        return Difference.MISSING_THERE
    if here.millis == there.millis:
        return Difference.UNEQUAL
    return Difference.NEWER_HERE if here.millis > there.millis else Difference.NEWER_THERE


def _comes_from_here(here: Version | None, there: Version | None) -> bool:
    """Whether the local server has the one that both ought to have."""
    return there is None or (here is not None and here > there)


def _active(certname: str, nodes: Nodes, *, here: bool) -> bool:
    status = (nodes.here if here else nodes.there).get(certname)
    # A node that is not in the listing came after it, with this record. One without a name nobody can submit.
    return bool(certname) and (status is None or status.liveness is Liveness.ACTIVE)


def _deactivation(status: NodeStatus | None) -> Version | None:
    return None if status is None or status.deactivated is None else Version(status.deactivated, "")


def _expiry(status: NodeStatus) -> Version | None:
    return None if status.expired is None else Version(status.expired, "")


def _in_order(items: list[Any]) -> list[Any]:
    return sorted(items, key=_text)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
