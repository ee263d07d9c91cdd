"""Reports: many, immutable, and known by their hash.

The newest come by a cursor on when the remote received them; all are counted hour by hour on both sides, and
hours that this does not explain are listed in full (`report_hours` chooses them). What is settled is noted slice
by slice, so a pass that is killed costs the slice that it was at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import REPORTS
from pdbclient.sync.inventory.reports import Compared, compare, known_reports
from pdbclient.sync.policy.classify import Nodes, ReportRow, compare_reports, compare_unusable, planned
from pdbclient.sync.policy.model import Difference, Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.policy.report_hours import END, HOUR, SLICE_ROWS, ReportMemory, Slice, choose, cut, oldest_kept
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import pull
from pdbclient.sync.run.report_survey import Survey, survey_reports
from pdbclient.sync.run.results import count_skipped, forget_settled, settle
from pdbclient.sync.run.verify import judge_report
from pdbclient.wire.summary import from_millis

__all__ = ["plan_slices", "reconcile_reports"]

_logger = logging.getLogger(__name__)

_BY_NODE = frozenset({Difference.NOT_ACTIVE, Difference.DEAD, Difference.PURGED})
"""Left out as long as the node's state stays what it is: the state file names those nodes."""
_FINAL = frozenset(
    {
        Difference.QUARANTINED,
        Difference.DROPPED,
        Difference.NAMELESS,
        Difference.KNOWN_UNEQUAL,
        Difference.SAME_CONTENT,
    }
)
"""Left out until an operator says otherwise, and then the state file forgets the hour."""


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """The plan for reports that are done together, and what to remember once they are.

    - `hours`: times (ms) that were listed; `unequal`: what both sides count in those of these hours of which
      everything is here that is to be, and that are not alike
    - `left_out`: nodes whose reports are not pulled, and the newest (ms)
    - `empty`: hours that this side may have dropped
    - `cursor`: how far the newest reports are done after this; `position`: how far the rotation is
    """

    plan: EntityPlan
    hours: range = range(0)
    unequal: Mapping[int, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    empty: frozenset[int] = frozenset()
    cursor: int | None = None
    position: int = END

    def noted(self, memory: ReportMemory, filled: Iterable[int]) -> ReportMemory:
        """What is remembered with this; of the `empty` hours, those were `filled`."""
        before = {start: marks for start, marks in memory.unequal.items() if start not in self.hours}
        newer = {name: max(millis, memory.left_out.get(name, millis)) for name, millis in self.left_out.items()}
        return replace(
            memory,
            cursor=memory.cursor if self.cursor is None else self.cursor,
            unequal={**before, **self.unequal},
            fills={**memory.fills, **{start: memory.fills.get(start, 0) + 1 for start in filled}},
            left_out={**memory.left_out, **newer},
            asked=frozenset(millis for millis in memory.asked if millis not in self.hours),
            position=min(memory.position, self.position),
        )


def plan_slices(context: Context, nodes: Nodes, budget: Budget) -> Iterator[SlicePlan]:
    """The plans for all that is to be listed, each made when it is asked for. Changes nothing."""
    yield from _slices(context, nodes, survey_reports(context, nodes, budget), budget)


def reconcile_reports(context: Context, nodes: Nodes, result: EntityResult, budget: Budget) -> None:
    """Pull the reports that are missing here, slice by slice, each verified and noted before the next."""
    _forget_settled(context, budget)
    survey = survey_reports(context, nodes, budget)
    context.state.forget_other_scopes(context.remote, context.scope)
    # Unless an operator asked for something meanwhile: then the next pass sees to it.
    context.state.remember_reports(context.scope, lambda now: survey.memory if now == survey.read else now)
    _warn_of_dropped(context, survey)
    filled: set[int] = set()
    for part in _slices(context, nodes, survey, budget):
        count_skipped(context, part.plan, result)
        stored = _pull(context, survey, part.plan, result, budget) if part.plan.pull else {}
        # Each once in a pass.
        more = part.empty.intersection(survey.counted.hour(each.millis) for each in stored.values()) - filled
        filled |= more
        context.state.remember_reports(context.scope, partial(part.noted, filled=more))


def _forget_settled(context: Context, budget: Budget) -> None:
    """Ask for those that are left alone: what is here by now, or not there any more, is settled."""
    known = context.state.left_alone(context.remote, Entity.REPORTS)
    rows = [ReportRow(key, "", version.millis) for key, version in known.items()]
    if not rows:
        return
    here = known_reports(context.here, rows, budget)
    there = known_reports(context.there, rows, budget)
    oldest = oldest_kept(context.now(), context.config.report_ttl)
    differing = {
        key: version
        for key, version in known.items()
        if key in there and key not in here and version.millis >= oldest
    }
    forget_settled(context, Entity.REPORTS, differing, ())


def _slices(context: Context, nodes: Nodes, survey: Survey, budget: Budget) -> Iterator[SlicePlan]:
    counted = survey.counted
    choice = choose(counted, survey.now)
    until = counted.dropped_until(survey.now)
    recent = [
        row
        for row in sorted(survey.recent, key=lambda row: row.millis, reverse=True)
        if (hour := counted.hour(row.millis)) not in choice and (until is None or hour > until)
    ]
    for first in range(0, len(recent), SLICE_ROWS):
        rows = recent[first : first + SLICE_ROWS]
        empty = counted.gone({counted.hour(row.millis) for row in rows}, survey.now)
        yield SlicePlan(_planned(context, nodes, Compared(0, 0, rows, (), {})), empty=empty)
    if survey.future is not None:
        # Each time: they are never settled.
        found = compare(context.there, context.here, survey.future, None, budget)
        yield SlicePlan(_planned(context, nodes, found))
    for part in cut(choice.hot):
        yield _listed(context, nodes, survey, part, frozenset(), budget)
    newest = SlicePlan(EntityPlan(Entity.REPORTS), cursor=survey.cursor)
    # In the first pass it says that the whole round is made.
    if counted.memory.cursor is not None:
        yield newest
    for part in cut(choice.cold):
        yield _listed(context, nodes, survey, part, choice.turn, budget)
    if counted.memory.cursor is None:
        yield newest


def _listed(
    context: Context, nodes: Nodes, survey: Survey, part: Slice, turn: frozenset[int], budget: Budget
) -> SlicePlan:
    """Compare the full lists of some hours, some of them because it is their `turn`."""
    counted = survey.counted
    found = compare(context.there, context.here, max(part.start, survey.start), part.end, budget)
    plan = _planned(context, nodes, found)
    rows = {row.hash: row for row in found.missing}
    lacking = {counted.hour(version.millis) for version in plan.pull.values()}
    left_out: dict[str, int] = {}
    hours = [start for start in counted.there if part.start <= start < part.end]
    for key, why in plan.skipped:
        if key not in rows:
            # Nobody knows of when it is.
            lacking.update(hours)
        elif why in _BY_NODE:
            name, millis = rows[key].certname, rows[key].millis
            left_out[name] = max(millis, left_out.get(name, millis))
        elif why not in _FINAL:
            lacking.add(counted.hour(rows[key].millis))
    # What was listed is what was counted: else the marks of before say nothing about it.
    ours = sum(bucket.count for start, bucket in counted.here.items() if part.start <= start < part.end)
    steady = found.there == sum(counted.there[start].count for start in hours) and found.here == ours
    settled = steady and counted.comparable(part)
    return SlicePlan(
        plan,
        hours=range(part.start, part.end),
        unequal={
            start: counted.marks(start)
            for start in hours
            if settled and start not in lacking and not counted.alike(start)
        },
        left_out=left_out,
        empty=counted.gone(hours, survey.now),
        position=min(turn.intersection(hours), default=END),
    )


def _planned(context: Context, nodes: Nodes, found: Compared) -> EntityPlan:
    differences = compare_reports((), found.missing, nodes, context.terms(), context.memory(Entity.REPORTS))
    return planned(Entity.REPORTS, [*differences, *compare_unusable(found.unusable)])


def _pull(
    context: Context, survey: Survey, plan: EntityPlan, result: EntityResult, budget: Budget
) -> Mapping[str, Version]:
    """Pull and verify; what is here now."""
    pulled = pull(context, REPORTS, plan, result, budget)
    expected = survey.counted.expected

    def look(hashes: Sequence[str]) -> dict[str, Version]:
        rows = [ReportRow(key, "", pulled.submitted[key].millis) for key in hashes]
        return {key: pulled.submitted[key] for key in known_reports(context.here, rows, budget, expected)}

    return settle(context, Entity.REPORTS, pulled, look, judge_report, result, budget)


def _warn_of_dropped(context: Context, survey: Survey) -> None:
    if (until := survey.counted.dropped_until(survey.now)) is not None:
        _logger.warning(
            "%d reports of %s up to %s are not pulled: they were stored here before, and were dropped again each "
            "time. Set report_ttl to this server's report-ttl; after raising the latter, make an audit pass",
            sum(bucket.count for start, bucket in survey.counted.there.items() if start <= until),
            context.remote,
            from_millis(until + HOUR),
        )
