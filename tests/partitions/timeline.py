"""When which nemesis was at what, and so what a host could reach. Pure.

A target names hosts, as `db1`, `puppet1 db2` (from the one to the other) or for two halves all of one of them, and
after the host a service, as `db1 puppetdb`. Between the beginning and the end of a nemesis something may be undone
already, or not be done yet: it counts as disturbed for all of that time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .history import NemesisBegan, NemesisEnded, Phase, Probed, RunHistory

__all__ = ["HALVES", "NETWORK", "PATIENT", "Interval", "Timeline"]

HALVES, ONE_WAY = "halves", "one_way"
NETWORK = frozenset({"cut", HALVES, ONE_WAY, "flap", "reset", "thin", "delay", "no_names"})
"""What is at the links of a host, and not at its services."""
PATIENT = frozenset({"delay"})
"""What makes a link slower only, by less than any limit."""
DOWN = frozenset({"stop", "kill"})
"""What makes a service do nothing."""
LOSING = frozenset({"emptied", "restored"})
"""What takes from a PuppetDB what it had taken."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A nemesis and its target, from `begin` to `end` (monotonic seconds); from `called` on it is being undone."""

    begin: float
    end: float
    nemesis: str
    target: str
    called: float

    @property
    def words(self) -> tuple[str, ...]:
        """The hosts and the service that the target names."""
        return tuple(re.findall(r"[\w.-]+", self.target))

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether it was there at any time between."""
        return self.begin <= end and begin <= self.end

    def lies_between(self, one: str, other: str) -> bool:
        """Whether what is at a link is at one between these hosts."""
        if self.nemesis == HALVES:
            return (one in self.words) != (other in self.words)
        if self.nemesis == ONE_WAY:
            # Nothing gets an answer then, whichever way is open.
            return {one, other} == set(self.words)
        return bool({one, other} & set(self.words))

    def __str__(self) -> str:
        return f"{self.nemesis} {self.target}"


@dataclass(frozen=True, slots=True)
class Timeline:
    """The nemeses of a run, by their beginnings, and what was probed."""

    intervals: tuple[Interval, ...]
    probed: tuple[Probed, ...] = ()

    @classmethod
    def of(cls, history: RunHistory) -> Timeline:
        """That of a history. A nemesis without an end was healed, or is there to the end."""
        healed = history.begins("healed")
        return cls(tuple(_intervals(history, history.end if healed is None else healed)), history.all(Probed))

    def during(self, begin: float, end: float, nemeses: Iterable[str] | None = None) -> tuple[Interval, ...]:
        """The nemeses (of these names) that were there at any time between."""
        names = None if nemeses is None else set(nemeses)
        return tuple(
            each for each in self.intervals if each.overlaps(begin, end) and (names is None or each.nemesis in names)
        )

    def service_disturbed(self, host: str, service: str, begin: float, end: float) -> tuple[Interval, ...]:
        """What stopped or killed that service meanwhile."""
        return tuple(each for each in self.during(begin, end, DOWN) if each.words == (host, service))

    def path_disturbed(self, one: str, other: str, begin: float, end: float) -> tuple[Interval, ...]:
        """What kept one host from reaching the other, or broke or choked what was between them."""
        return tuple(each for each in self.during(begin, end, NETWORK - PATIENT) if each.lies_between(one, other))

    def probes(self, host: str, target: str, begin: float, end: float) -> tuple[Probed, ...]:
        """Of this host's probes of that those that were under way at any time between."""
        return tuple(
            each
            for each in self.probed
            if (each.host, each.target) == (host, target) and each.at <= end and begin <= each.end
        )

    def reached(self, host: str, target: str, begin: float, end: float) -> bool:
        """Whether probes were made meanwhile, and every one had its answer."""
        found = self.probes(host, target, begin, end)
        return bool(found) and all(each.ok for each in found)


def _intervals(history: RunHistory, at_last: float) -> Iterator[Interval]:
    open_: dict[tuple[str, str], float] = {}
    found = []
    for event in history.events:
        if isinstance(event, NemesisBegan):
            open_[event.nemesis, event.target] = event.at
        elif isinstance(event, NemesisEnded) and (event.nemesis, event.target) in open_:
            begin = open_.pop((event.nemesis, event.target))
            found.append(Interval(begin, event.at, event.nemesis, event.target, event.called))
        elif isinstance(event, Phase) and event.name == "healed":
            at_last = min(at_last, event.at)
    found += [Interval(begin, max(begin, at_last), *key, max(begin, at_last)) for key, begin in open_.items()]
    return iter(sorted(found, key=lambda each: each.begin))
