"""Reports: many, immutable, and known by their hash.

The newest come by a cursor on when the remote received them; all are counted hour by hour on both sides, and
hours that this does not explain are listed in full (`report_hours` chooses them). What is settled is noted slice
by slice, so a pass that is killed costs the slice that it was at.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import REPORTS
from pdbclient.sync.inventory.reports import Compared, compare, known_reports
from pdbclient.sync.policy.classify import Nodes, ReportRow, compare_reports, compare_unusable, planned
from pdbclient.sync.policy.model import Difference, Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.policy.report_hours import (
    HOUR,
    SLICE_ROWS,
    Hour,
    Slice,
    choose,
    cut,
    fingerprint,
    oldest_kept,
    uncounted,
)
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import pull
from pdbclient.sync.run.report_survey import Survey, survey_reports
from pdbclient.sync.run.results import count_skipped, forget_settled, settle
from pdbclient.sync.run.verify import judge_report
from pdbclient.sync.state.store import Cursor
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

    - `hours`: those of which everything is here that is to be; `left_out`: nodes whose reports are not
    - `empty`: hours without a report here, with what is known of them
    - `cursor`: how far the newest reports are done after this
    """

    plan: EntityPlan
    hours: Mapping[int, Hour] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    empty: Mapping[int, Hour] = field(default_factory=dict)
    cursor: Cursor | None = None


def plan_slices(context: Context, nodes: Nodes, budget: Budget) -> Iterator[SlicePlan]:
    """The plans for all that is to be listed, each made when it is asked for. Changes nothing."""
    yield from _slices(context, nodes, survey_reports(context, nodes, budget), budget)


def reconcile_reports(context: Context, nodes: Nodes, result: EntityResult, budget: Budget) -> None:
    """Pull the reports that are missing here, slice by slice, each verified and noted before the next."""
    _forget_settled(context, budget)
    survey = survey_reports(context, nodes, budget)
    _heed(context, survey)
    for part in _slices(context, nodes, survey, budget):
        count_skipped(context, part.plan, result)
        stored = _pull(context, survey, part.plan, result, budget) if part.plan.pull else {}
        _remember(context, survey, part, stored)


def _forget_settled(context: Context, budget: Budget) -> None:
    """Ask for those that are left alone: what is here by now, or not there any more, is settled."""
    known = context.state.left_alone(context.remote, Entity.REPORTS)
    rows = [ReportRow(key, "", version.millis) for key, version in known.items()]
    if not rows:
        return
    here = known_reports(context.here, rows, budget, _one_by_one)
    there = known_reports(context.there, rows, budget, _one_by_one)
    oldest = oldest_kept(context.now(), context.config.report_ttl)
    differing = {
        key: version
        for key, version in known.items()
        if key in there and key not in here and version.millis >= oldest
    }
    forget_settled(context, Entity.REPORTS, differing, ())


def _one_by_one(start: int, end: int) -> float:
    return math.inf


def _slices(context: Context, nodes: Nodes, survey: Survey, budget: Budget) -> Iterator[SlicePlan]:
    counted = survey.counted
    choice = choose(counted, survey.now, context.config.audit_interval)
    until = counted.dropped_until(survey.now)
    recent = [
        row
        for row in sorted(survey.recent, key=lambda row: row.millis, reverse=True)
        if (hour := counted.hour(row.millis)) not in choice and (until is None or hour > until)
    ]
    for first in range(0, len(recent), SLICE_ROWS):
        rows = recent[first : first + SLICE_ROWS]
        yield SlicePlan(_planned(context, nodes, Compared(0, 0, rows, (), {})))
    if survey.future is not None:
        # Each time: they are never settled.
        found = compare(context.there, context.here, survey.future, None, budget)
        yield SlicePlan(_planned(context, nodes, found))
    for part in cut(choice.hot):
        yield _listed(context, nodes, survey, part, budget)
    if survey.cursor is not None:
        yield SlicePlan(EntityPlan(Entity.REPORTS), cursor=survey.cursor)
    for part in cut(choice.cold):
        yield _listed(context, nodes, survey, part, budget)


def _listed(context: Context, nodes: Nodes, survey: Survey, part: Slice, budget: Budget) -> SlicePlan:
    """Compare the full lists of some hours."""
    counted = survey.counted
    found = compare(context.there, context.here, max(part.start, survey.start), part.end, budget)
    plan = _planned(context, nodes, found)
    rows = {row.hash: row for row in found.missing}
    lacking = {counted.hour(version.millis) for version in plan.pull.values()}
    partial: set[int] = set()
    left_out: set[str] = set()
    for key, why in plan.skipped:
        if key not in rows:
            # Nobody knows of when it is.
            lacking.update(start for start in counted.there if part.start <= start < part.end)
            continue
        hour = counted.hour(rows[key].millis)
        if why in _BY_NODE:
            partial.add(hour)
            left_out.add(rows[key].certname)
        elif why not in _FINAL:
            lacking.add(hour)
    there = [start for start in counted.there if part.start <= start < part.end]
    here = [start for start in counted.here if part.start <= start < part.end]
    # What was listed is what was counted: else the marks of before say nothing about it.
    steady = found.there == sum(counted.there[start].count for start in there) and found.here == sum(
        counted.here[start].count for start in here
    )
    now, hot = context.now(), counted.hot(survey.now)
    known = {start: counted.known.get(start, Hour()) for start in there}
    noted = {
        start: Hour(
            fingerprint(counted.there[start], counted.here.get(start)), now, start in partial, known[start].fills
        )
        for start in there
        if steady and start < hot and start not in lacking
    }
    # Nor do the marks that are remembered, if it is by them that this was counted.
    outdated = {} if steady else {start: replace(hour, fingerprint="") for start, hour in known.items()}
    return SlicePlan(
        plan,
        hours=noted | {start: hour for start, hour in outdated.items() if known[start].fingerprint},
        left_out=frozenset(left_out),
        empty={start: known[start] for start in there if start not in counted.here},
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


def _remember(context: Context, survey: Survey, part: SlicePlan, stored: Mapping[str, Version]) -> None:
    """Note what a settled slice says about the remote's reports, as far as they are selected."""
    hours = dict(part.hours)
    for version in stored.values():
        start = survey.counted.hour(version.millis)
        if start in part.empty:
            hours[start] = Hour(fills=part.empty[start].fills + 1)
    if hours or part.left_out:
        context.state.remember_hours(context.scope, hours, survey.oldest, part.left_out)
    if part.cursor is not None and part.cursor != context.state.cursor(context.scope):
        context.state.remember_cursor(context.scope, part.cursor)


def _heed(context: Context, survey: Survey) -> None:
    """Forget what does not hold any more, and say what needs a person."""
    context.state.forget_other_scopes(context.remote, context.scope)
    if survey.void:
        _logger.warning("reports of %s: %s; all of them are compared again", context.remote, survey.void)
        context.state.forget_reports(context.scope)
    elif survey.returned or survey.gone:
        names = survey.returned | survey.gone
        context.state.forget_left_out(context.scope, names, distrust=bool(survey.returned))
    hours = uncounted(survey.counted, survey.now)
    if hours:
        kept = {start: hour for start, hour in hours.items() if hour is not None}
        context.state.remember_hours(context.scope, kept, survey.oldest, gone=hours.keys() - kept.keys())
    if (until := survey.counted.dropped_until(survey.now)) is not None:
        _logger.warning(
            "%d reports of %s up to %s are not pulled: they were stored here before, and were dropped again each "
            "time. Set report_ttl to this server's report-ttl; after raising the latter, make an audit pass",
            sum(bucket.count for start, bucket in survey.counted.there.items() if start <= until),
            context.remote,
            from_millis(until + HOUR),
        )
