"""When no server can be used: what is told of it, which is little, however many requests meet it. Pure.

An error when it begins, a line when it is over, with how long it took and how many requests met it; and one now and
then meanwhile. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pdbclient.http.outcome import Operation

__all__ = ["REMIND", "Line", "Outage"]

REMIND = 600.0
"""Seconds after which a lasting one is told again."""
_PLURALS = {Operation.COMMAND: "commands", Operation.QUERY: "queries"}


@dataclass(frozen=True, slots=True)
class Line:
    """What to tell; `error`: it has just begun, or got worse."""

    text: str
    error: bool = False


class Outage:
    """Whether there is one, since when, and what met it. `needed`: servers that a command needs."""

    def __init__(self, needed: int = 1) -> None:
        self.needed = needed
        self._lost: frozenset[Operation] = frozenset()
        self._since = 0.0
        self._told = 0.0
        self._met: Counter[Operation] = Counter()
        self._few, self._enough, self._found = "no PuppetDB", "a PuppetDB", "found none"
        if needed > 1:
            self._few, self._enough, self._found = (
                f"fewer than {needed} PuppetDBs",
                "enough PuppetDBs",
                "found too few",
            )

    def now_lost(self, lost: Collection[Operation], reasons: Mapping[str, str], now: float) -> Line | None:
        """For the operations `lost` there are too few servers, and for all others enough.

        `reasons`: what each server that cannot be used has met, by its URL.
        """
        before, self._lost = self._lost, frozenset(lost)
        if self._lost - before:
            if not before:
                self._since, self._met = now, Counter()
            self._told = now
            why = "; ".join(f"{server}: {reason}" for server, reason in reasons.items())
            return Line(f"{self._few} can be used for {_names(self._lost)}: {why}", error=True)
        if before and not self._lost:
            return Line(f"{self._enough} can be used again, after {_span(now - self._since)}; {self._numbers()}")
        return self._reminder(now)

    def met(self, operation: Operation, now: float) -> tuple[bool, Line | None]:
        """No server did what a request wanted. Whether that is told already, as part of the outage."""
        if operation not in self._lost:
            return False, None
        self._met[operation] += 1
        return True, self._reminder(now)

    def _reminder(self, now: float) -> Line | None:
        if not self._lost or now - self._told < REMIND:
            return None
        self._told = now
        lasting = f"still {self._few} can be used for {_names(self._lost)}, after {_span(now - self._since)}"
        return Line(f"{lasting}; {self._numbers()}")

    def _numbers(self) -> str:
        counts = (f"{self._met[operation]} {_PLURALS[operation]}" for operation in Operation)
        return f"{' and '.join(counts)} {self._found} meanwhile"


def _names(lost: Collection[Operation]) -> str:
    return " and ".join(_PLURALS[operation] for operation in Operation if operation in lost)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
