"""What is asked of both sides before any hour of reports is listed, and how far what is remembered holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from heapq import nlargest

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.nodes import active_nodes
from pdbclient.sync.inventory.reports import (
    Received,
    counted_hours,
    known_reports,
    list_hours,
    newest_received,
    received_since,
)
from pdbclient.sync.policy.classify import Nodes, ReportRow, compare_reports
from pdbclient.sync.policy.report_hours import DAY, HOUR, Counted, Hour, oldest_kept, remembered
from pdbclient.sync.run.context import Context
from pdbclient.sync.state.store import Anchor, Cursor
from pdbclient.wire.summary import HourBucket

__all__ = ["Survey", "survey_reports"]

OVERLAP = 600_000
"""How far (ms) before the cursor the next pass begins. A report has the time at which it came in, and is seen
only once the remote's queue has come to it.
"""
ANCHORS = 5


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known before the work begins.

    - `oldest`, `start`: reports before `oldest` (ms) are past the retention; only those from `start` on are
      asked for
    - `now`: wall seconds by which hours are hot, and verifications old
    - `future`: from this hour (ms) on, all that is stamped lies in the future; None: the remote has no such reports
    - `recent`: reports that the remote received since the cursor and that are not here
    - `cursor`: what to remember once the recent ones are dealt with, None: what is remembered already
    - `void`: why nothing that is remembered holds any more; empty: it does
    - `returned`: nodes that were left out and are not any more; `gone`: those that the remote has no more
    """

    counted: Counted
    oldest: int
    start: int
    now: float
    future: int | None
    recent: Sequence[ReportRow]
    cursor: Cursor | None
    void: str = ""
    returned: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Question:
    """What is remembered of the remote, its hours (`counted`) among that, and the times as in `Survey`."""

    cursor: Cursor | None
    known: Mapping[int, Hour]
    counted: Mapping[int, HourBucket]
    now: float
    oldest: int
    start: int


@dataclass(frozen=True, slots=True)
class _Remote:
    """What the remote answered. `received` is None without a cursor that holds; then `newest` are its newest."""

    hours: Mapping[int, HourBucket]
    received: Sequence[Received] | None
    newest: Sequence[Received]
    restored: bool


def survey_reports(context: Context, nodes: Nodes, budget: Budget) -> Survey:
    """Ask both sides at once what reports they have, hour by hour, and the remote what it received."""
    now, terms = context.now(), context.terms()
    # The destination's own retention, less a day because servers drop whole days: what is older would be
    # dropped here and pulled again for ever. From a full hour on, or the first would change with every pass.
    oldest = _hour_after(oldest_kept(now, context.config.report_ttl))
    start = oldest if terms.earliest is None else max(oldest, terms.earliest - terms.earliest % HOUR)
    cursor, known, names = None, {}, frozenset[str]()
    if not context.mode.audit:
        cursor, known = context.state.cursor(context.scope), context.state.hours(context.scope)
        names = context.state.left_out(context.scope)
    with ThreadPoolExecutor(2, thread_name_prefix="sync-reports") as pool:
        before_there, before_here = remembered(known, start)
        question = _Question(cursor, known, before_there, now, oldest, start)
        asked_there = pool.submit(_ask_remote, context, nodes, question, budget)
        asked_here = pool.submit(counted_hours, context.here, start, before_here, budget.left())
        remote, here = asked_there.result(), asked_here.result()

    void = ""
    if remote.restored:
        void = "reports that it had are gone: it was restored from a backup, emptied, or is another database"
    elif known and not here:
        void = "there are no reports here any more"
    returned = _returned(names, nodes, context)
    if void:
        known = {}
    elif returned:
        known = {start: replace(hour, fingerprint="") if hour.partial else hour for start, hour in known.items()}

    future = Counted(remote.hours, here).hour(terms.latest) + HOUR
    counted = Counted(_before(future, remote.hours), _before(future, here), known)
    recent: list[ReportRow] = []
    if remote.received is not None:
        received = [each for each in remote.received if each.report.millis < future]
        recent = _lacking(context, received, counted, budget)
        counted = replace(counted, lacking=Counter(counted.hour(row.millis) for row in recent))
        counted = _counted_again(context, counted, now, future, budget)
    latest = remote.newest if remote.received is None else remote.received
    return Survey(
        counted=counted,
        oldest=oldest,
        start=start,
        now=now,
        future=future if any(start >= future for start in remote.hours) else None,
        recent=recent,
        cursor=_next_cursor(None if void else cursor, latest, terms.latest),
        void=void,
        returned=returned,
        gone=names - nodes.there.keys(),
    )


def _ask_remote(context: Context, nodes: Nodes, question: _Question, budget: Budget) -> _Remote:
    there, cursor, start = context.there, question.cursor, question.start
    restored = False
    if cursor is not None and cursor.anchors:
        found = known_reports(there, (ReportRow(*anchor) for anchor in cursor.anchors), budget, _many)
        gone = sorted({anchor.certname for anchor in cursor.anchors if anchor.hash not in found})
        known = nodes.there.keys() | active_nodes(there, gone, budget.left())
        restored = _restored(cursor.anchors, found, known, question.oldest)
    # The hours first: then whatever they count was received before the second question.
    hours = counted_hours(there, start, question.counted, budget.left())
    received = None
    if cursor is not None and not restored:
        produced = max(start, Counted(hours, {}, question.known).changed_from(question.now))
        received = received_since(there, cursor.millis - OVERLAP, produced, budget)
    newest = newest_received(there, start, budget) if received is None else []
    return _Remote(hours, received, newest, restored)


def _restored(anchors: Sequence[Anchor], found: Collection[str], known: Collection[str], oldest: int) -> bool:
    """Whether a remote has lost reports otherwise than by its retention, or with a node that it purged."""
    judged = [anchor for anchor in anchors if anchor.millis >= oldest + DAY * 1000]
    gone = [anchor for anchor in judged if anchor.hash not in found]
    return bool(gone) and (len(gone) == len(judged) or any(anchor.certname in known for anchor in gone))


def _lacking(context: Context, received: Sequence[Received], counted: Counted, budget: Budget) -> list[ReportRow]:
    here = known_reports(context.here, (each.report for each in received), budget, counted.expected)
    return [each.report for each in received if each.report.hash not in here]


def _counted_again(context: Context, counted: Counted, now: float, future: int, budget: Budget) -> Counted:
    """With the hot hours here counted once more, if there seem to be too few: reports may have come in meanwhile
    on both sides, and been counted at the remote only.
    """
    hot = counted.hot(now)
    if all(counted.explained(start) for start in counted.there if start >= hot):
        return counted
    again = list_hours(context.here, hot, None, budget.left())
    return replace(counted, here={**counted.here, **_before(future, again)})


def _before(end: int, hours: Mapping[int, HourBucket]) -> dict[int, HourBucket]:
    return {start: bucket for start, bucket in hours.items() if start < end}


def _next_cursor(old: Cursor | None, rows: Sequence[Received], latest: int) -> Cursor | None:
    """Up to the last of `rows`; one of a time to come would hide what is received until then."""
    believed = [each for each in rows if each.at <= latest]
    if not believed:
        return old
    newest = nlargest(10 * ANCHORS, believed, key=lambda each: each.at)
    anchors: dict[str, Anchor] = {}
    # Of several nodes, so that a node's purge is not taken for a restore.
    for anchor in [*(Anchor(*each.report) for each in newest), *(old.anchors if old else ())]:
        if len(anchors) < ANCHORS:
            anchors.setdefault(anchor.certname, anchor)
    return Cursor(newest[0].at, tuple(anchors.values()))


def _returned(names: Iterable[str], nodes: Nodes, context: Context) -> frozenset[str]:
    """Those of the nodes whose reports would not be left out now."""
    rows = [ReportRow(name, name, 0) for name in names]
    return frozenset(
        found.key
        for found in compare_reports((), rows, nodes, replace(context.terms(), earliest=None))
        if found.pulled
    )


def _many(start: int, end: int) -> float:
    return math.inf


def _hour_after(millis: int) -> int:
    return millis + -millis % HOUR
