"""How requests ended at the servers, as the recorder of the gateway's traffic takes it."""

from __future__ import annotations

from collections.abc import Sequence

from pdbclient.http.failover import Accepted
from pdbclient.http.outcome import Attempt, Kind
from pdbclient.observe.traffic import Ending, Failed, UnderWay

__all__ = ["failures_of", "note_taken"]


def failures_of(attempts: Sequence[Attempt]) -> list[Failed]:
    """The attempts that failed. A server that was not asked at all has not."""
    return [
        Failed(each.endpoint.url, str(each.outcome.kind), each.met)
        for each in attempts
        if each.outcome.kind not in (Kind.ACCEPTED, Kind.SKIPPED)
    ]


def note_taken(under_way: UnderWay, accepted: Accepted) -> None:
    """Note who has a command."""
    failures = failures_of(accepted.attempts)
    if accepted.journalled is not None:
        under_way.note(Ending.JOURNALLED, failures=failures)
    else:
        under_way.note(Ending.ANSWERED, next(iter(accepted.uuids)).url, failures)
