"""Reports: many, immutable, and known by their hash; compared hour by hour, the newest hour first.

An hour's marks (count, least and greatest hash, last timestamp) are a filter, not a digest: each side may
lack another report and still count alike. So an hour is left out only once its full lists were found equal,
and only while both sides' marks stay what they were then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pdbclient.sync.budget import Budget
from pdbclient.sync.context import Context
from pdbclient.sync.inventory import HOUR, both_sides, found_versions, list_hours, list_reports
from pdbclient.sync.kinds import REPORTS
from pdbclient.sync.model import Entity, EntityPlan, EntityResult
from pdbclient.sync.plan import Nodes, plan_reports
from pdbclient.sync.pull import pull
from pdbclient.sync.settle import count_skipped, settle
from pdbclient.sync.state import Hour
from pdbclient.sync.verify import judge_report
from pdbclient.wire.summary import HourBucket

__all__ = ["Slice", "cut", "plan_slices", "reconcile_reports"]

DAY = 86_400.0
SLICE_ROWS = 20_000
FUTURE = 4_102_444_800_000
"""The year 2100 in ms: listing up to there finds the reports that come from the future."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Adjacent hours whose reports are listed together, from `start` up to, not including, `end` (ms)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """The plan for one slice. `verified` gives the marks of its hours if both full lists were equal."""

    plan: EntityPlan
    verified: Mapping[int, str]


def cut(sizes: Mapping[int, int], limit: int = SLICE_ROWS) -> list[Slice]:
    """Hours (start in ms, number of reports) in slices of about `limit` reports, the newest first."""
    slices: list[Slice] = []
    rows = 0
    for start in sorted(sizes, reverse=True):
        last = slices[-1] if slices else None
        if last is not None and last.start == start + HOUR and rows + sizes[start] <= limit:
            slices[-1] = Slice(start, last.end)
            rows += sizes[start]
        else:
            slices.append(Slice(start, start + HOUR))
            rows = sizes[start]
    return slices


def plan_slices(context: Context, nodes: Nodes, budget: Budget) -> Iterator[SlicePlan]:
    """The plans for all hours that differ or were never compared in full, each made when it is asked for."""
    # The destination's own retention, less a day because servers drop whole days: what is older would be
    # dropped here and pulled again for ever.
    oldest = int((context.clock.wall() - max(0.0, context.config.report_ttl - DAY)) * 1000)
    within = budget.left()
    there, here = both_sides(context.there, context.here, lambda server: list_hours(server, oldest, FUTURE, within))
    known = {start: hour.fingerprint for start, hour in context.state.hours(context.remote).items()}
    marks = {start: _marks(bucket) for start, bucket in there.items()}
    alike = {start for start, mark in marks.items() if start in here and _marks(here[start]) == mark}
    # Hours that only this side has are the peer's to pull.
    listed = {
        start: bucket.count
        for start, bucket in there.items()
        if not (start in alike and known.get(start) == marks[start])
    }
    for part in cut(listed):
        yield _plan_slice(
            context,
            nodes,
            Slice(max(part.start, oldest), part.end),
            {start: marks[start] for start in alike if part.start <= start < part.end},
            budget,
        )


def reconcile_reports(context: Context, nodes: Nodes, result: EntityResult, budget: Budget) -> None:
    """Pull the reports that are missing here, slice by slice, each verified and noted before the next."""
    for part in plan_slices(context, nodes, budget):
        count_skipped(context, part.plan, result)
        pulled = pull(context, REPORTS, part.plan, result, budget)
        settle(
            context,
            Entity.REPORTS,
            pulled,
            lambda hashes: found_versions(context.here, REPORTS, hashes, budget.left()),
            judge_report,
            result,
            budget,
        )
        if part.verified:
            oldest = int((context.clock.wall() - context.config.report_ttl) * 1000)
            now = context.clock.wall()
            hours = {start: Hour(fingerprint, now) for start, fingerprint in part.verified.items()}
            context.state.remember_hours(context.remote, hours, oldest)


def _plan_slice(context: Context, nodes: Nodes, part: Slice, marks: Mapping[int, str], budget: Budget) -> SlicePlan:
    within = budget.left()
    there, here = both_sides(
        context.there, context.here, lambda server: list_reports(server, part.start, part.end, within)
    )
    ours = {row.hash for row in here}
    plan = plan_reports(there, ours, nodes, context.terms(), context.memory(Entity.REPORTS))
    equal = len(there) == len(ours) and not plan.pull and not plan.skipped
    return SlicePlan(plan, marks if equal else {})


def _marks(bucket: HourBucket) -> str:
    return f"{bucket.count} {bucket.min_hash} {bucket.max_hash} {bucket.max_producer_timestamp}"
