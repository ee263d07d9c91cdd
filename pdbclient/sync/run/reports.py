"""Reports: many, immutable, and known by their hash.

The newest come by a cursor on when the remote received them; all are counted hour by hour on both sides, and
hours that this does not explain are listed in full (`report_hours` chooses them). What is settled is noted slice
by slice, so a pass that is killed costs the slice that it was at.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import REPORTS
from pdbclient.sync.inventory.reports import compare, found_reports, known_reports
from pdbclient.sync.inventory.rows import batches
from pdbclient.sync.policy.classify import Nodes, ReportRow, compare_reports, compare_unusable, planned
from pdbclient.sync.policy.model import EXPLAINED, Difference, Entity, EntityPlan, EntityResult, Mode, Version
from pdbclient.sync.policy.report_hours import END, HOUR, SLICE_ROWS, ReportMemory, choose, cut, oldest_kept
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
_FINAL = EXPLAINED | {Difference.QUARANTINED}
"""Left out until an operator says otherwise, and then the state file forgets the hour."""

_NOTHING = ReportMemory(position=END)
"""What is found where nothing is: the rotation goes no further by it."""


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """The plan for reports that are done together, and what to remember once they are.

    `found` takes the place of what is remembered of `hours`: those that were listed, as times (ms). Its `unequal` are
    those of which everything is here that is to be, and that are not alike.
    """

    plan: EntityPlan
    hours: range = range(0)
    found: ReportMemory = _NOTHING

    def noted(self, memory: ReportMemory, filled: Collection[int], asked: Collection[int]) -> ReportMemory:
        """What is remembered with this; `filled`: hours that were empty here, and are not any more; `asked`: what had
        been asked for when the pass began.
        """
        before = {start: marks for start, marks in memory.unequal.items() if start not in self.hours}
        found = self.found
        newer = {name: max(millis, memory.left_out.get(name, millis)) for name, millis in found.left_out.items()}
        return replace(
            memory,
            cursor=memory.cursor if found.cursor is None else found.cursor,
            unequal={**before, **found.unequal},
            fills={**memory.fills, **{start: memory.fills.get(start, 0) + 1 for start in filled}},
            left_out={**memory.left_out, **newer},
            asked=frozenset(millis for millis in memory.asked if millis not in self.hours or millis not in asked),
            position=min(memory.position, found.position),
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
    counted = survey.counted
    gone_before = counted.gone_before(survey.now)
    filled: set[int] = set()
    for part in _slices(context, nodes, survey, budget):
        count_skipped(context, part.plan, result)
        stored = _pull(context, survey, part.plan, result, budget) if part.plan.pull else {}
        # Each once in a pass.
        more = {hour for each in stored.values() if (hour := counted.hour(each.millis)) < gone_before} - filled
        filled |= more
        context.state.remember_reports(context.scope, partial(part.noted, filled=more, asked=counted.memory.asked))


def _forget_settled(context: Context, budget: Budget) -> None:
    """Ask for those that are left alone: what is here by now, or not there any more, is settled."""
    known = context.state.left_alone(context.remote, Entity.REPORTS)
    rows = [ReportRow(key, "", version.millis) for key, version in known.items()]
    here = known_reports(context.here, rows, budget)
    oldest = oldest_kept(context.now(), context.config.report_ttl)
    # Of a node that is not configured any more, nothing waits for anybody: the state file does not name its node.
    configured = Mode.configured(context.config).selection
    differing = {
        row.hash: known[row.hash]
        for row in found_reports(context.there, rows, budget)
        if row.hash not in here and known[row.hash].millis >= oldest and configured.names(row.certname)
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
    for rows in batches(recent, SLICE_ROWS):
        yield SlicePlan(_planned(context, nodes, rows, ()))
    if survey.future is not None:
        # Each time: they are never settled.
        found = compare(context.there, context.here, survey.future, None, budget)
        yield SlicePlan(_planned(context, nodes, found.missing, found.unusable))
    listed = partial(_listed, context, nodes, survey, choice.turn, budget)
    hot, cold = map(listed, cut(choice.hot)), map(listed, cut(choice.cold))
    newest = SlicePlan(EntityPlan(Entity.REPORTS), found=replace(_NOTHING, cursor=survey.cursor))
    # In the first pass it says that the whole round is made.
    yield from chain(hot, cold, [newest]) if counted.memory.cursor is None else chain(hot, [newest], cold)


def _listed(
    context: Context, nodes: Nodes, survey: Survey, turn: frozenset[int], budget: Budget, part: range
) -> SlicePlan:
    """Compare the full lists of some hours, some of them because it is their `turn`."""
    counted = survey.counted
    found = compare(context.there, context.here, max(part.start, survey.start), part.stop, budget)
    plan = _planned(context, nodes, found.missing, found.unusable)
    rows = {row.hash: row for row in found.missing}
    lacking = {counted.hour(version.millis) for version in plan.pull.values()}
    left_out: dict[str, int] = {}
    for key, why in plan.skipped:
        if why in _BY_NODE:
            # The newest comes first.
            left_out.setdefault(rows[key].certname, rows[key].millis)
        elif why not in _FINAL and key in rows:
            lacking.add(counted.hour(rows[key].millis))
    unequal: dict[int, str] = {}
    # What was listed is what was counted: else the marks of before say nothing about it. And of what is unusable
    # nobody knows of when it is.
    if (found.there, found.here) == counted.numbers(part) and counted.comparable(part) and not found.unusable:
        known = {start: counted.marks(start) for start in counted.there if start in part and start not in lacking}
        unequal = {start: marks for start, marks in known.items() if marks is not None}
    position = min((start for start in turn if start in part), default=END)
    return SlicePlan(plan, part, ReportMemory(unequal=unequal, left_out=left_out, position=position))


def _planned(context: Context, nodes: Nodes, missing: Iterable[ReportRow], unusable: Iterable[str]) -> EntityPlan:
    differences = compare_reports((), missing, nodes, context.terms(), context.memory(Entity.REPORTS))
    return planned(Entity.REPORTS, [*differences, *compare_unusable(unusable)])


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
