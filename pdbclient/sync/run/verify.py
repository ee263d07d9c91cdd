"""Whether what was submitted is there: asked of the local server, because 200 means no more than queued.

The queue takes a record that is stale, doubled or malformed with the same answer as a good one, and what it
refuses later shows nowhere but in the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.rows import CHUNK, batches
from pdbclient.sync.policy.model import Version

__all__ = [
    "Verdict",
    "Verified",
    "judge_deactivation",
    "judge_first",
    "judge_record",
    "judge_report",
    "patience",
    "verify",
]

QUIET = 5.0
"""Seconds without news after which the rest counts as refused, when the local queue is empty."""
WINDOW = 30.0
SLOWEST = 5.0
"""With commands in the queue it takes WINDOW seconds, and as long as SLOWEST commands a second need for
them.
"""
POLL_FIRST = 0.05
POLL_LAST = 2.0
SHARE = 3
"""The next look waits until about one in so many of the rest should be there: it costs the server time to work."""


class Verdict(Enum):
    """What became of a submitted record. Superseded: something newer came in meanwhile."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    UNEQUAL = "unequal"
    MISSING = "not visible"


Judge = Callable[[Version, Version | None], Verdict]


@dataclass(slots=True)
class Verified:
    """The verdicts that matter later: `unequal` and `missing` by key with the version that was submitted."""

    unequal: dict[str, Version] = field(default_factory=dict)
    missing: dict[str, Version] = field(default_factory=dict)

    def count(self, key: str, version: Version, verdict: Verdict) -> None:
        """Note one verdict; what is applied or superseded needs no more of our care."""
        if verdict is Verdict.UNEQUAL:
            self.unequal[key] = version
        elif verdict is Verdict.MISSING:
            self.missing[key] = version


def judge_record(submitted: Version, found: Version | None) -> Verdict:
    """Factsets and catalogs: same time and other hash means that the hash did not survive the transfer."""
    if found is None or found.millis < submitted.millis:
        return Verdict.MISSING
    if found == submitted:
        return Verdict.APPLIED
    return Verdict.UNEQUAL if found.millis == submitted.millis else Verdict.SUPERSEDED


def judge_first(submitted: Version, found: Version | None) -> Verdict:
    """Catalog inputs and fact expirations: other content at the same time came first, and stays."""
    if found is None or found.millis < submitted.millis:
        return Verdict.MISSING
    return Verdict.APPLIED if found == submitted else Verdict.SUPERSEDED


def judge_report(submitted: Version, found: Version | None) -> Verdict:
    """Reports are stored under their hash or not at all."""
    return Verdict.MISSING if found is None else Verdict.APPLIED


def judge_deactivation(submitted: Version, found: Version | None) -> Verdict:
    """`found` carries the time of the node's deactivation here."""
    if found is None or found.millis < submitted.millis:
        return Verdict.MISSING
    return Verdict.APPLIED if found.millis == submitted.millis else Verdict.SUPERSEDED


def verify(
    submitted: Mapping[str, Version],
    look: Callable[[Sequence[str]], Mapping[str, Version]],
    judge: Judge,
    depth: Callable[[], int],
    budget: Budget,
    monotonic: Callable[[], float],
    before: Mapping[str, Version] | None = None,
) -> Verified:
    """Ask for the submitted keys until all are visible, or nothing has moved for a while.

    `look` gives what the local server has of some keys, `depth` how long its queue is: that only sets how
    long to wait without news, for a queue can hold a stuck command for hours. `before` is what the local server
    had: seen again, at the same time as what was submitted, it may only be still there. Raises `Stopped` or
    `OutOfTime`, and then says nothing about the rest: it is not refused, only unknown.
    """
    before = before or {}
    verified = Verified()
    left = dict(submitted)
    stale: dict[str, Version] = {}
    news = monotonic()
    delay = POLL_FIRST
    while left:
        settled = list(_settled(left, look, judge, before, stale))
        for key, verdict in settled:
            verified.count(key, left.pop(key), verdict)
        if settled:
            before_that, news = news, monotonic()
            pace = (news - before_that) / len(settled)
            delay = min(max(POLL_FIRST, pace * len(left) / SHARE), POLL_LAST)
        if not left:
            break
        silent = monotonic() - news
        if silent >= QUIET and _hopeless(silent, depth()):
            for key, version in left.items():
                verified.count(key, version, Verdict.UNEQUAL if key in stale else Verdict.MISSING)
            break
        budget.wait(delay)
        delay = min(delay * 1.6, POLL_LAST)
    return verified


def patience(depth: int) -> float:
    """Seconds in which a queue of so many commands works them off, if it works at all."""
    return WINDOW + depth / SLOWEST


def _hopeless(silent: float, depth: int) -> bool:
    return depth == 0 or silent >= patience(depth)


def _settled(
    left: Mapping[str, Version],
    look: Callable[[Sequence[str]], Mapping[str, Version]],
    judge: Judge,
    before: Mapping[str, Version],
    stale: dict[str, Version],
) -> Iterator[tuple[str, Verdict]]:
    for chunk in batches(list(left), CHUNK):
        found = look(chunk)
        for key in chunk:
            version = found.get(key)
            verdict = judge(left[key], version)
            if verdict is Verdict.UNEQUAL and version is not None and version == before.get(key):
                stale[key] = version
            elif verdict is not Verdict.MISSING:
                yield key, verdict
