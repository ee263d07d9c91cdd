"""What a run came to, as one JSON document. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .checkers import Evidence, Violation, databases, exported, figures, logs
from .history import KINDS, Applied, NemesisBegan, Probed, Read, Submitted
from .schedule import Schedule

__all__ = ["About", "Failover", "document", "failovers", "summary"]


@dataclass(frozen=True, slots=True)
class About:
    """What was run: `command` is how to run it again."""

    arrangement: str
    front: str
    off: tuple[str, ...]
    command: str


@dataclass(frozen=True, slots=True)
class Failover:
    """From `at` on (monotonic seconds), `host` had its answers of this kind from another server."""

    at: float
    host: str
    kind: str
    source: str
    target: str


def document(about: About, schedule: Schedule, evidence: Evidence, violations: Sequence[Violation]) -> dict[str, Any]:
    """All of it. Times are seconds since the beginning of the run."""
    began = evidence.history.begins("healthy") or 0.0
    return {
        **summary(about, schedule, evidence, violations),
        "latencies": _latencies(evidence),
        "steps": [asdict(step) for step in schedule.steps],
        "nemeses": [
            {
                "nemesis": each.nemesis,
                "target": each.target,
                "begin": round(each.begin - began, 3),
                "end": round(each.end - began, 3),
            }
            for each in evidence.timeline.intervals
        ],
        "failovers": [{**asdict(each), "at": round(each.at - began, 3)} for each in failovers(evidence)],
        "violations": [
            {**asdict(each), "at": None if each.at is None else round(each.at - began, 3)} for each in violations
        ],
    }


def summary(about: About, schedule: Schedule, evidence: Evidence, violations: Sequence[Violation]) -> dict[str, Any]:
    """What fits into a line."""
    return {
        "partitions": about.arrangement,
        "front": about.front,
        "off": list(about.off),
        "seed": schedule.seed,
        "minutes": round(schedule.seconds / 60, 2),
        "counts": counts(evidence),
        "by_kind": dict(sorted(Counter(str(each.kind) for each in violations).items())),
        "again": about.command,
        "ok": not violations,
    }


def counts(evidence: Evidence) -> dict[str, Any]:
    """How much of what there was: a check that nothing met has found nothing."""
    sent = evidence.history.all(Submitted)
    reads = evidence.history.all(Read)
    runs = evidence.history.all(Applied)
    acknowledged = [each for each in sent if each.acknowledged]
    return {
        "commands": dict(Counter(each.kind for each in acknowledged)),
        "attempts": len(sent),
        "attempts_failed": sum(each.error is not None for each in sent),
        "journalled": sum(each.journalled for each in acknowledged),
        "past_the_gateway": sum(not evidence.through_front(each) for each in acknowledged),
        "reads": sum(each.answered for each in reads),
        "reads_exported": sum(each.answered and each.kind == "exported" for each in reads),
        "reads_stale": sum(each.stale for each in reads),
        "reads_failed": sum(not each.answered for each in reads),
        "reads_back_beyond_the_journal": exported.forgiven(evidence),
        "puppet_runs": len(runs),
        "probes": len(evidence.history.all(Probed)),
        "nemeses": dict(sorted(Counter(each.nemesis for each in evidence.history.all(NemesisBegan)).items())),
        "failovers": len(list(failovers(evidence))),
        "records": {name: {kind: _number(evidence, name, kind) for kind in KINDS} for name in evidence.held},
        "unequal_of_deactivated": databases.listed(evidence),
        "reports_pulled": len(logs.transfers(evidence)),
        "delivered": len(logs.deliveries(evidence)),
        "notes": list(evidence.notes),
        "log_lines": {name: text.count("\n") for name, text in evidence.logs.items()},
    }


def failovers(evidence: Evidence) -> Iterator[Failover]:
    """Each time that somebody else answered than before."""
    last: dict[tuple[str, str], str] = {}
    for each in evidence.history.requests():
        kind = "command" if isinstance(each, Submitted) else "query"
        target = "journal" if isinstance(each, Submitted) and each.journalled else each.by
        if each.error is not None or target is None:
            continue
        source = last.get((each.host, kind))
        if source is not None and source != target:
            yield Failover(each.at, each.host, kind, source, target)
        last[each.host, kind] = target


def _number(evidence: Evidence, name: str, kind: str) -> int:
    held = evidence.held[name]
    return len(held.reports) if kind == "report" else len(held.newest.get(kind, {}))


def _latencies(evidence: Evidence) -> list[Mapping[str, Any]]:
    return [
        {
            "phase": phase,
            "kind": kind,
            "number": len(values),
            **{f"p{percent}": round(figures.percentile(values, percent), 4) for percent in (50, 95, 99)},
            "longest": round(max(values), 4),
        }
        for (phase, kind), values in sorted(figures.latencies(evidence).items())
    ]
