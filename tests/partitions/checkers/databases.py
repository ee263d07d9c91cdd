"""What the databases hold in the end, against what was sent and what was acknowledged. Pure.

A deactivated node is dead: what it had is not carried from one server to another, as it would come back to life. So
where a node is deactivated in the end, only its deactivation has to be everywhere; but nothing of it may be nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pdbclient.wire.summary import to_millis

from ..history import KINDS, Applied, Submitted
from ..timeline import LOSING
from .model import Evidence, Held, Kind, Report, Violation

__all__ = ["duplicated", "listed", "lost", "phantoms", "unequal", "unsettled"]


def lost(evidence: Evidence) -> Iterator[Violation]:
    """Acknowledged, and on no server in the end, nor anything newer in its place; or on one only."""
    last = evidence.later or evidence.held
    if not last:
        return
    views = {name: _View(held) for name, held in last.items()}
    dead = _dead(last)
    for command in _acknowledged(evidence):
        absent = [name for name, view in views.items() if not view.has(command)]
        if not absent:
            continue
        nowhere = len(absent) == len(views)
        if nowhere and _with_its_server(evidence, command):
            # Nobody but that server was ever told.
            continue
        if nowhere or (command.certname not in dead or command.kind == "deactivate"):
            kind = Kind.LOST if nowhere else Kind.MISSING
            yield Violation(kind, _called(command), ", ".join(absent), command.at, _taken(command, evidence))


def duplicated(evidence: Evidence) -> Iterator[Violation]:
    """Reports that one server has more than once."""
    for name, held in evidence.held.items():
        for (certname, millis, run), times in Counter(_key(each) for each in held.reports).items():
            if times > 1:
                yield Violation(Kind.TWICE, f"report of {certname} at {millis} ({run}): {times} times", name)


def phantoms(evidence: Evidence) -> Iterator[Violation]:
    """What nobody sent. What real runs of Puppet send is not known."""
    foreign = {each.certname for each in evidence.history.all(Applied)}
    sent = {(each.kind, each.certname, to_millis(each.stamp), each.run) for each in evidence.history.all(Submitted)}
    for name, held in evidence.held.items():
        there = {("report", *_key(report)) for report in held.reports}
        there |= {
            (kind, certname, row.millis, "") for kind, rows in held.newest.items() for certname, row in rows.items()
        }
        for kind, certname, millis, run in sorted(there - sent):
            if certname not in foreign:
                yield Violation(Kind.PHANTOM, f"{kind} of {certname} at {millis} {run}".rstrip(), name)


def unequal(evidence: Evidence) -> Iterator[Violation]:
    """Records that are not the same on all servers."""
    dead = _dead(evidence.held)
    for what, certname, values in _differences(evidence.held):
        if certname not in dead or what == "deactivate":
            shown = tuple(f"{name}: {value}" for name, value in values.items())
            where = ", ".join(sorted(values))
            yield Violation(Kind.UNEQUAL, f"{what} of {certname}", where, None, shown)


def unsettled(evidence: Evidence) -> Iterator[Violation]:
    """What had not come to rest when it was to: commands that are not delivered, passes that have not ended."""
    for what in evidence.unsettled:
        yield Violation(Kind.UNSETTLED, what, what.partition(":")[0])


def listed(evidence: Evidence) -> int:
    """How many records are not the same, of nodes that are deactivated."""
    dead = _dead(evidence.held)
    return sum(certname in dead and what != "deactivate" for what, certname, _ in _differences(evidence.held))


class _View:
    """What one server holds, to be asked for many commands."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._reports = {_key(report) for report in held.reports}
        self._active = held.active()

    def has(self, command: Submitted) -> bool:
        """Whether it has that, or something newer in its place."""
        millis = to_millis(command.stamp)
        if command.kind == "report":
            return (command.certname, millis, command.run) in self._reports
        row = self._held.row(command.kind, command.certname)
        if row is not None and row.millis >= millis:
            return True
        return command.kind == "deactivate" and self._active.get(command.certname, 0) > millis


def _differences(held: Mapping[str, Held]) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Kind, node, and what each server has of it (a report: whether)."""
    for kind in KINDS:
        if kind == "report":
            continue
        for certname in sorted({name for each in held.values() for name in each.newest.get(kind, {})}):
            rows = {name: each.row(kind, certname) for name, each in held.items()}
            if len(set(rows.values())) > 1:
                yield kind, certname, {name: "nothing" if row is None else str(row) for name, row in rows.items()}
    everywhere = {name: set(each.reports) for name, each in held.items()}
    for report in sorted(set().union(*everywhere.values()), key=_key):
        there = {name: report in reports for name, reports in everywhere.items()}
        if not all(there.values()):
            shown = {name: str(report) if has else "nothing" for name, has in there.items()}
            yield "report", report.certname, shown


def _dead(held: Mapping[str, Held]) -> frozenset[str]:
    return frozenset().union(*(each.deactivated() for each in held.values()))


def _acknowledged(evidence: Evidence) -> list[Submitted]:
    return [each for each in evidence.history.all(Submitted) if each.acknowledged]


def _with_its_server(evidence: Evidence, command: Submitted) -> bool:
    """Whether the PuppetDB that took what no journal has lost all since: then that was all there was of it.

    Only where there are gateways: without one, this is what a site loses.
    """
    if not evidence.fronts or evidence.through_front(command):
        return False
    for name, url in evidence.databases.items():
        gone = evidence.timeline.during(command.at, float("inf"), LOSING)
        if command.by == url and any(each.words[:1] == (name,) for each in gone):
            return True
    return False


def _key(report: Report) -> tuple[str, int, str]:
    return report.certname, report.millis, report.run


def _called(command: Submitted) -> str:
    return f"{command.kind} {command.number} of {command.certname} at {command.stamp} {command.run}".rstrip()


def _taken(command: Submitted, evidence: Evidence) -> tuple[str, ...]:
    whom = "its journal alone" if command.journalled else str(command.by)
    told = f"{command.url} said {command.status} to {command.host} after {command.took:.3f} s; {whom} had it"
    losing = evidence.timeline.during(command.at, float("inf"), LOSING)
    return (told, *(f"{each} at {each.begin:.1f}" for each in losing))
