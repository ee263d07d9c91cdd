"""In what way two servers differ, record by record. Pure: what both show and what is remembered go in.

One rule for all: passes act on some kinds of difference, `diff` prints all of them. It is symmetrical but for what is
remembered: seen from the other side the same differences come out, with here and there exchanged. Nothing differs for
good because a record is missing on one side alone: it may have been purged there, and PuppetDB keeps no tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from pdbclient.errors import PdbError
from pdbclient.sync.policy.model import Difference, Entity, EntityPlan, Liveness, NodeStatus, Selection, Version

__all__ = [
    "FIRST_WINS",
    "Found",
    "Memory",
    "Nodes",
    "ReportRow",
    "Terms",
    "compare_alike",
    "compare_nodes",
    "compare_records",
    "compare_reports",
    "compare_unusable",
    "nothing_remembered",
    "planned",
]

FIRST_WINS = frozenset({Entity.EXPIRATION, Entity.INPUTS})
"""What the server replaces only by something strictly newer; elsewhere the last writer wins at equal times."""

Memory = Callable[[str, Version], Difference | None]
"""Says why this key and version of the remote is not to be pulled (again), or None."""

_NONE: Mapping[str, int] = MappingProxyType({})


def nothing_remembered(key: str, version: Version) -> None:
    """A `Memory` without anything in it."""


class ReportRow(NamedTuple):
    """A report as a summary shows it; `millis` is its producer timestamp."""

    hash: str
    certname: str
    millis: int


class Found(NamedTuple):
    """One record that differs. `key` is a certname, or a report's hash; a side that has none has no version.

    `from_here`: the local server has the one that both ought to have.
    """

    difference: Difference
    key: str
    certname: str
    here: Version | None
    there: Version | None
    from_here: bool

    @property
    def pulled(self) -> bool:
        """Whether a pass makes it equal, by pulling."""
        return not self.from_here and self.difference in _PULLED


_PULLED = frozenset({Difference.MISSING_HERE, Difference.NEWER_THERE, Difference.UNEQUAL})


@dataclass(frozen=True, slots=True)
class Nodes:
    """Both sides' nodes: how many there are in all, and the status of each that is not active on one side at least,
    or was asked for. One that is not in `there` and `here` is active, or not known.

    `dead` are those that stay dead here (`liveness.dead_for_good`), or were purged here and
    would be again (`expiry.too_old`); `dead_there` the same of the remote, as far as that is known here.

    Of those that are `unusable`, a server shows no status that makes sense: they count as inactive there. `unsure` is
    why some of the dead may not be so, or may be forgotten; None when that is known.
    """

    there: Mapping[str, NodeStatus]
    here: Mapping[str, NodeStatus]
    dead: frozenset[str] = frozenset()
    dead_there: frozenset[str] = frozenset()
    unusable: frozenset[str] = frozenset()
    unsure: PdbError | None = None
    total_there: int = 0
    total_here: int = 0

    @property
    def active_here(self) -> int:
        """How many are active here."""
        return self.total_here - sum(status.liveness is not Liveness.ACTIVE for status in self.here.values())


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pass believes, and what it was asked for; times in ms.

    `latest` is the greatest producer timestamp that is believed: a record from the future would win for ever.
    Those from `earliest` up to, not including, `end` are selected (None: without a bound).

    `one_way`: at equal times the remote's content is taken, whatever the hash, and nodes deactivated at the
    remote come along with their data, also those never heard of here. Between two servers that pull from each
    other neither may be: contents would swap for ever, and a node purged by one side would come back from the
    other, be purged there, and so on.

    `deactivations`: at most so many active nodes are deactivated here, None: as many as look like no accident
    (`brakes.brake_deactivations`).
    """

    latest: int
    earliest: int | None = None
    end: int | None = None
    selection: Selection = field(default_factory=Selection)
    one_way: bool = False
    deactivations: int | None = None

    def select(self, certname: str, millis: int) -> bool:
        """Whether it is about this record at all."""
        young = self.earliest is None or millis >= self.earliest
        return young and (self.end is None or millis < self.end) and self.selection.names(certname)


def compare_records(
    entity: Entity,
    here: Mapping[str, Version],
    there: Mapping[str, Version],
    nodes: Nodes,
    terms: Terms,
    memory: Memory = nothing_remembered,
) -> Iterator[Found]:
    """What a node has one of: whichever version is greater is to be everywhere.

    Of catalog inputs and fact expirations the server keeps what it got first at a time: an equal-time conflict stays
    one (`Difference.TIED`).
    """
    for certname in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(certname), there.get(certname)
        if ours == theirs:
            continue
        equal_time = ours is not None and theirs is not None and ours.millis == theirs.millis
        from_here = _from_here(ours, theirs) and not (equal_time and terms.one_way)
        given = ours if from_here else theirs
        assert given is not None
        if not terms.select(certname, given.millis):
            continue
        # That it is tied is so whatever becomes of the node, or of the time: each side says so, with the same reason.
        tied = Difference.TIED if equal_time and entity in FIRST_WINS else None
        why = tied or _obstacle(certname, given.millis, nodes, terms, from_here=from_here)
        said = None if why is not None or theirs is None else memory(certname, theirs)
        if said in (Difference.KNOWN_UNEQUAL, Difference.SAME_CONTENT):
            # At another time, what was stored here then has been lost: restored from a backup, emptied, or purged.
            why = said if equal_time else None
        elif not from_here:
            why = why or said
        yield Found(why or _kind(ours, theirs), certname, certname, ours, theirs, from_here)


def compare_reports(
    here: Iterable[ReportRow],
    there: Iterable[ReportRow],
    nodes: Nodes,
    terms: Terms,
    memory: Memory = nothing_remembered,
) -> Iterator[Found]:
    """Reports, which never change: a report is there, or it is not. The newest first."""
    ours, theirs = ({row.hash: row for row in rows} for rows in (here, there))
    differing = [*(ours[key] for key in ours.keys() - theirs), *(theirs[key] for key in theirs.keys() - ours)]
    for row in sorted(differing, key=lambda row: (-row.millis, row.hash)):
        if not terms.select(row.certname, row.millis):
            continue
        version, from_here = Version(row.millis, row.hash), row.hash in ours
        why = _obstacle(row.certname, row.millis, nodes, terms, from_here=from_here)
        if why is None and not from_here:
            why = memory(row.hash, version)
        mine, its = (version, None) if from_here else (None, version)
        yield Found(why or _kind(mine, its), row.hash, row.certname, mine, its, from_here)


def compare_alike(entity: Entity, keys: Iterable[tuple[str, str, Version]], terms: Terms) -> Iterator[Found]:
    """Records (key, certname, version) of which both sides have that version, with another content: what came first
    stays.
    """
    if entity not in FIRST_WINS and entity is not Entity.REPORTS:
        raise ValueError(f"of {entity}, the version is all that differs")
    for key, certname, version in keys:
        if terms.select(certname, version.millis):
            yield Found(Difference.TIED, key, certname, version, version, False)


def compare_nodes(
    nodes: Nodes,
    terms: Terms,
    memory: Memory = nothing_remembered,
    *,
    newest_here: Mapping[str, int] = _NONE,
    newest_there: Mapping[str, int] = _NONE,
) -> Iterator[Found]:
    """Deactivation status: the later deactivation is to be everywhere. A node that no side has deactivated has none.

    A node that the other side does not know is left alone: it may have been purged there already. In a one-way pass
    it is made here, deactivated, so that the older data that follow do not make it active. `newest_here` and
    `newest_there` give the newest producer timestamp (ms) of any record of a node that is deactivated on the other
    side: a server answers a deactivation that is older than it with silence.
    """
    for certname in sorted(nodes.here.keys() | nodes.there.keys()):
        ours, theirs = nodes.here.get(certname), nodes.there.get(certname)
        here, there = _deactivation(ours), _deactivation(theirs)
        from_here = _from_here(here, there)
        given = here if from_here else there
        if certname in nodes.unusable:
            if terms.selection.names(certname):
                yield Found(Difference.UNUSABLE, certname, certname, here, there, False)
            continue
        if given is None or here == there:
            if ours is not None and theirs is not None:
                yield from _expired_alone(certname, _expiry(ours), _expiry(theirs), terms)
            continue
        if not terms.select(certname, given.millis):
            continue
        newest = (newest_there if from_here else newest_here).get(certname, given.millis)
        why = _why_not_deactivated(certname, given.millis, nodes, terms, newest, from_here=from_here)
        if why is None and not from_here:
            why = memory(certname, given)
        yield Found(why or _kind(here, there), certname, certname, here, there, from_here)


def compare_unusable(keys: Iterable[str]) -> Iterator[Found]:
    """Records of which a server shows something that cannot be used: neither side is known to have the right one."""
    for key in sorted(keys):
        yield Found(Difference.UNUSABLE, key, key, None, None, False)


def planned(entity: Entity, differences: Iterable[Found]) -> EntityPlan:
    """What a pass makes of these differences: it pulls what it may, and lists what it would, were there no reason."""
    pull: dict[str, Version] = {}
    skipped: list[tuple[str, Difference]] = []
    certnames: dict[str, str] = {}
    for found in differences:
        if found.pulled and found.there is not None:
            pull[found.key] = found.there
        elif found.difference not in _NOT_OURS and (not found.from_here or found.difference is Difference.TIED):
            skipped.append((found.key, found.difference))
        else:
            continue
        if found.key != found.certname:
            certnames[found.key] = found.certname
    return EntityPlan(entity, pull, skipped, certnames)


_NOT_OURS = frozenset({Difference.EXPIRED})
"""Where there is nothing to pull."""


def _kind(here: Version | None, there: Version | None) -> Difference:
    if here is None:
        return Difference.MISSING_HERE
    if there is None:
        return Difference.MISSING_THERE
    if here.millis == there.millis:
        return Difference.UNEQUAL
    return Difference.NEWER_HERE if here.millis > there.millis else Difference.NEWER_THERE


def _from_here(here: Version | None, there: Version | None) -> bool:
    """Whether the local server has the one that both ought to have."""
    return there is None or (here is not None and here > there)


def _obstacle(certname: str, millis: int, nodes: Nodes, terms: Terms, *, from_here: bool) -> Difference | None:
    """What about the node, or the time, keeps a record from being carried to the other side."""
    if not certname:
        return Difference.NAMELESS
    given, taken = (nodes.here, nodes.there) if from_here else (nodes.there, nodes.here)
    giver = given.get(certname)
    # A node that is not in the listing came after it, with this record.
    active = giver is None or giver.liveness is Liveness.ACTIVE
    if not active and (from_here or not _dead_alike(certname, millis, nodes, terms)):
        return Difference.NOT_ACTIVE
    if millis > terms.latest:
        return Difference.FUTURE
    if certname not in (nodes.dead_there if from_here else nodes.dead):
        return None
    return Difference.DEAD if certname in taken else Difference.PURGED


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


def _why_not_deactivated(
    certname: str, millis: int, nodes: Nodes, terms: Terms, newest: int, *, from_here: bool
) -> Difference | None:
    giver, taker = (nodes.here, nodes.there) if from_here else (nodes.there, nodes.here)
    if not certname:
        return Difference.NAMELESS
    if giver[certname].liveness is Liveness.GONE:
        # Its server is about to purge it, and the other may have done so.
        return Difference.NOT_ACTIVE
    if certname not in taker and (from_here or not terms.one_way):
        return Difference.UNKNOWN
    if millis > terms.latest:
        return Difference.FUTURE
    return Difference.SUPERSEDED if newest > millis else None


def _deactivation(status: NodeStatus | None) -> Version | None:
    return None if status is None or status.deactivated is None else Version(status.deactivated, "")


def _expired_alone(certname: str, here: Version | None, there: Version | None, terms: Terms) -> Iterator[Found]:
    only = here if there is None else there if here is None else None
    if only is not None and terms.select(certname, only.millis):
        yield Found(Difference.EXPIRED, certname, certname, here, there, there is None)


def _expiry(status: NodeStatus) -> Version | None:
    return None if status.expired is None else Version(status.expired, "")
