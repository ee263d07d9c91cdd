"""What checkers look at, and what they find. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from ..history import Read, RunHistory, Submitted
from ..timeline import Timeline

__all__ = ["Evidence", "Held", "Kind", "NewestRecord", "Report", "Violation"]


class Kind(StrEnum):
    """The kinds of violation."""

    LOST = "lost"
    MISSING = "missing"
    TWICE = "report-twice"
    PHANTOM = "phantom"
    COMMAND_FAILED = "command-failed"
    QUERY_FAILED = "query-failed"
    RUN_FAILED = "run-failed"
    LATE = "late"
    BACKWARDS = "backwards"
    UNEQUAL = "unequal"
    TRANSFERRED_TWICE = "transferred-twice"
    BRAKE = "brake"
    SLOW = "slow"
    TRACEBACK = "traceback"
    GROWN = "grown"
    UNSETTLED = "unsettled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: what kind, what, where, when (monotonic seconds; None: at the end), and why so."""

    kind: Kind
    what: str
    where: str
    at: float | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewestRecord:
    """The newest record of a node of one kind: its producer timestamp in milliseconds, and what tells its content."""

    millis: int
    content: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A report of a database; `run` is its transaction."""

    certname: str
    millis: int
    run: str
    content: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What one database holds in the end: `newest` by kind (`history.KINDS`, without reports) and node."""

    reports: tuple[Report, ...] = ()
    newest: Mapping[str, Mapping[str, NewestRecord]] = field(default_factory=dict)

    def row(self, kind: str, certname: str) -> NewestRecord | None:
        """The newest of that kind of that node."""
        return self.newest.get(kind, {}).get(certname)

    def active(self) -> dict[str, int]:
        """The newest facts, catalog or report of each node: a deactivation before that has no effect."""
        newest: dict[str, int] = {}
        for kind in ("facts", "catalog"):
            for certname, row in self.newest.get(kind, {}).items():
                newest[certname] = max(row.millis, newest.get(certname, 0))
        for report in self.reports:
            newest[report.certname] = max(report.millis, newest.get(report.certname, 0))
        return newest

    def deactivated(self) -> frozenset[str]:
        """The nodes that are."""
        return frozenset(self.newest.get("deactivate", {}))


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run: its history, what each database held in the end, and the texts of the logs by "host service".

    `fronts`: by Puppet host, the URL that its Puppet asks first, where that is a gateway; none in the controls
    without one. `databases`: the URL of each PuppetDB by its host's name. `shared`: one journal for all gateways.
    `seconds`: what Puppet gives one attempt. `unsettled`: what had not come to rest long after healing. `failures`:
    the exit codes with which daemons ended that nobody ended, by "host service". `notes`: what else is worth knowing.
    `held` is as of two passes after healing, `later` as of when what a server took and lost was to be sent again.
    """

    history: RunHistory
    databases: Mapping[str, str]
    fronts: Mapping[str, str] = field(default_factory=dict)
    shared: bool = True
    seconds: float = 10.0
    held: Mapping[str, Held] = field(default_factory=dict)
    later: Mapping[str, Held] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    unsettled: tuple[str, ...] = ()
    failures: Mapping[str, Sequence[int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def timeline(self) -> Timeline:
        """Of its nemeses."""
        return Timeline.of(self.history)

    def through_front(self, event: Submitted | Read) -> bool:
        """Whether that went to what Puppet is to use: the gateway, and without one whatever there is."""
        return not self.fronts or self.fronts.get(event.host) == event.url

    def known(self) -> Sequence[Submitted]:
        """What a journal has, as far as the clients were told; without gateways all that was acknowledged."""
        return [each for each in self.history.all(Submitted) if each.acknowledged and self.through_front(each)]
