"""What must not be, found in what was recorded: every checker is a pure function of the evidence of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from . import databases, exported, figures, logs, requests
from .model import Evidence, Held, Kind, NewestRecord, Report, Violation

__all__ = ["CHECKERS", "Evidence", "Held", "Kind", "NewestRecord", "Report", "Violation", "check"]

CHECKERS: Mapping[str, Callable[[Evidence], Iterator[Violation]]] = {
    "lost": databases.lost,
    "duplicated": databases.duplicated,
    "phantoms": databases.phantoms,
    "unequal": databases.unequal,
    "unsettled": databases.unsettled,
    "commands_failed": requests.commands_failed,
    "queries_failed": requests.queries_failed,
    "runs_failed": requests.runs_failed,
    "late": requests.late,
    "backwards": exported.backwards,
    "transferred_twice": logs.transferred_twice,
    "brakes": logs.brakes,
    "tracebacks": logs.tracebacks,
    "ended": logs.ended,
    "slow": figures.slow,
    "grown": figures.grown,
}


def check(evidence: Evidence) -> tuple[Violation, ...]:
    """All that is wrong, by time; what is known only in the end comes last."""
    found = [each for checker in CHECKERS.values() for each in checker(evidence)]
    return tuple(sorted(found, key=lambda each: (each.at is None, each.at or 0.0, each.kind, each.what)))
