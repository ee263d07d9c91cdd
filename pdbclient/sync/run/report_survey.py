"""What is asked of both sides before any hour of reports is listed, and how far what is remembered holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.reports import count_reports, known_reports, list_hours, newest_received, received_since
from pdbclient.sync.inventory.rows import both_sides
from pdbclient.sync.policy.classify import Nodes, ReportRow, compare_reports
from pdbclient.sync.policy.report_hours import BEGINNING, HOUR, SLICE_ROWS, Counted, ReportMemory, oldest_kept
from pdbclient.sync.run.context import Context
from pdbclient.wire.summary import HourBucket

__all__ = ["Survey", "survey_reports"]

Hours = dict[int, HourBucket]

TURN = 24 * HOUR
"""So much time (ms) is looked at first for the rotation, where nothing else asks for old hours."""
OVERLAP = 600_000
"""How far (ms) before the cursor the next pass begins. A report has the time at which it came in, and is seen
only once the remote's queue has come to it.
"""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known before the work begins.

    - `start`: only reports from then on (ms) are asked for
    - `now`: wall seconds by which hours are hot
    - `future`: from this hour (ms) on, all that is stamped lies in the future; None: the remote has no such reports
    - `recent`: reports that the remote received since the cursor and that are not here
    - `cursor`: what to remember once the recent ones are dealt with
    - `read`, `memory`: what was remembered, and what to remember before the work begins
    """

    counted: Counted
    start: int
    now: float
    future: int | None
    recent: Sequence[ReportRow]
    cursor: int | None
    read: ReportMemory
    memory: ReportMemory


def survey_reports(context: Context, nodes: Nodes, budget: Budget) -> Survey:
    """Ask both sides at once what reports they have, hour by hour, and the remote what it received."""
    now, terms = context.now(), context.terms()
    start = oldest_kept(now, context.config.report_ttl)
    if terms.earliest is not None:
        # From a full hour on, or the first would change with every pass.
        start = max(start, terms.earliest - terms.earliest % HOUR)
    read = context.state.reports(context.scope)
    # An audit takes nothing for granted.
    before = ReportMemory() if context.mode.audit else _still_true(read, nodes, context)
    memory = before.in_round(now, context.config.audit_interval)

    total, found = memory.total, None
    if total is not None and not memory.asked and total.start <= start < total.end:
        # It costs a server a tenth of what their hours do.
        found = count_reports(context.there, context.here, total.start, total.end, budget.left())
    if total is not None and found != (total.there, total.here):
        total = None
    since, turn_from = start if total is None else total.end, BEGINNING
    there, here = _hours(context, since, None, budget)
    future = Counted(there, here).hour(terms.latest) + HOUR
    if total is not None and memory.position > BEGINNING:
        turn_from, *more = _next_in_turn(context, start, min(memory.position, since), budget)
        there, here = there | more[0], here | more[1]
    memory = replace(memory, total=total)
    believed = {hour: bucket for hour, bucket in there.items() if hour < future}
    counted = Counted(believed, here, memory, since)

    # After the hours: whatever they count was received before this question.
    received = None
    if memory.cursor is not None:
        produced = max(start, counted.changed_from(now))
        received = received_since(context.there, memory.cursor - OVERLAP, produced, budget)
    recent: list[ReportRow] = []
    if received is None:
        received = newest_received(context.there, start, budget)
    else:
        reports = [each.report for each in received if each.report.millis < future]
        known = known_reports(context.here, reports, budget, counted.expected)
        recent = [row for row in reports if row.hash not in known]
        counted = replace(counted, lacking=Counter(counted.hour(row.millis) for row in recent))
        hot = counted.hot(now)
        if not all(counted.explained(start) for start in counted.there if start >= hot):
            # Reports may have come in meanwhile on both sides, and been counted at the remote only.
            counted = replace(counted, here=here | list_hours(context.here, hot, None, budget.left()))
    return Survey(
        counted=counted,
        start=start,
        now=now,
        future=future if any(hour >= future for hour in there) else None,
        recent=recent,
        # One of a time to come would hide what is received until then.
        cursor=max((each.at for each in received if each.at <= terms.latest), default=memory.cursor),
        read=read,
        memory=_pruned(counted, start, turn_from, now),
    )


def _hours(context: Context, start: int, end: int | None, budget: Budget) -> tuple[Hours, Hours]:
    """The hours (ms) of both sides."""
    ask = partial(list_hours, start=start, end=end, within=budget.left())
    return both_sides(context.there, context.here, ask)


def _next_in_turn(context: Context, start: int, end: int, budget: Budget) -> tuple[int, Hours, Hours]:
    """The hours that the rotation comes to next, from `end` (ms) back as far as is worth a slice: from when on
    (BEGINNING: all that there are), and what both sides have of them.
    """
    there: Hours = {}
    here: Hours = {}
    step = TURN
    while end > start and sum(bucket.count for bucket in there.values()) < SLICE_ROWS:
        since = max(start, end - step)
        more = _hours(context, since, end, budget)
        there, here = there | more[0], here | more[1]
        end, step = since, 2 * step
    return end if end > start else BEGINNING, there, here


def _still_true(memory: ReportMemory, nodes: Nodes, context: Context) -> ReportMemory:
    """Without nodes that are left out no more, and without the hours that may be unequal because of them."""
    rows = [ReportRow(name, name, millis) for name, millis in memory.left_out.items()]
    terms = replace(context.terms(), earliest=None)
    returned = {found.key for found in compare_reports((), rows, nodes, terms) if found.pulled}
    if returned:
        memory = replace(memory, unequal={}, total=None)
    gone = (memory.left_out.keys() - nodes.there.keys()) | returned
    return replace(memory, left_out={n: millis for n, millis in memory.left_out.items() if n not in gone})


def _pruned(counted: Counted, start: int, turn_from: int, now: float) -> ReportMemory:
    """What is remembered, without what is before `start` (ms) or not so any more; and the total that now holds.

    The hours from `turn_from` (ms) on are known: if none of them is left to compare, the rotation has come that far.
    """
    memory = counted.memory
    return replace(
        memory,
        unequal={
            hour: marks
            for hour, marks in memory.unequal.items()
            if start <= hour and (hour < counted.since or counted.marks(hour) == marks)
        },
        fills={
            hour: number
            for hour, number in memory.fills.items()
            if start <= hour and (hour < counted.since or hour in counted.there)
        },
        asked=frozenset(millis for millis in memory.asked if counted.hour(millis) in counted.there),
        position=memory.position if counted.in_turn(now) else turn_from,
        total=counted.total(now),
    )
