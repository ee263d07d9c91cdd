"""Which nemesis comes when, and at what: the same for the same seed. Pure.

A schedule begins with healthy time, in which what is healthy is measured, and ends with some. Between these there are
rounds of one nemesis, or of two or three that overlap, with healthy time after each.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from .timeline import HALVES, NETWORK

__all__ = ["Choice", "Schedule", "Step", "draw", "dump", "load"]

WARM = 20.0
REST = 15.0
"""Seconds of healthy time at the start and at the end, at the least."""
SHORTEST, LONGEST = 12.0, 40.0
"""Seconds that a lasting nemesis is there."""
PAUSE_SHORTEST, PAUSE_LONGEST = 8.0, 20.0
INSTANT = 5.0
"""Seconds that are left to what happens at once, for what it leaves behind."""
COMBINED = 0.4
"""How often a round has more than one nemesis."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A nemesis that may be drawn: its targets, in a fixed order, and whether it lasts."""

    name: str
    targets: tuple[str, ...]
    lasting: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A nemesis, from `at` seconds after the beginning for `seconds`."""

    at: float
    seconds: float
    nemesis: str
    target: str

    @property
    def end(self) -> float:
        """When it is undone."""
        return self.at + self.seconds

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that its target names."""
        return frozenset(
            word for word in re.findall(r"[\w.-]+", self.target) if word[-1:].isdigit() or word == "journal"
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps by time, and how long the whole takes, in seconds."""

    seed: int
    seconds: float
    steps: tuple[Step, ...]

    def without(self, gone: Sequence[Step]) -> Schedule:
        """The same without these steps."""
        return replace(self, steps=tuple(step for step in self.steps if step not in gone))


def draw(seed: int, minutes: float, choices: Sequence[Choice]) -> Schedule:
    """A random schedule of so many minutes. Raises `ValueError` when there is nothing to choose, or no time."""
    usable = [choice for choice in choices if choice.targets]
    seconds = minutes * 60.0
    if not usable:
        raise ValueError("no nemesis has a target here")
    if seconds < WARM + SHORTEST + REST:
        raise ValueError(f"{minutes} minutes are too short: {WARM:.0f} s and {REST:.0f} s of them are healthy")
    chance = random.Random(seed)
    steps: list[Step] = []
    deck: list[Choice] = []
    at = WARM
    while True:
        if not deck:
            # All of them come before one comes again.
            deck = list(usable)
            chance.shuffle(deck)
        drawn = _round(chance, at, deck, usable)
        # What would not end in time ends then, unless that is hardly anything.
        last = seconds - REST
        drawn = [replace(step, seconds=round(min(step.end, last) - step.at, 1)) for step in drawn if step.at < last]
        drawn = [step for step in drawn if step.seconds >= min(INSTANT, SHORTEST)]
        if not drawn:
            return Schedule(seed, seconds, tuple(sorted(steps, key=lambda step: (step.at, step.nemesis))))
        steps += drawn
        at = max(step.end for step in drawn) + chance.uniform(PAUSE_SHORTEST, PAUSE_LONGEST)


def may_overlap(one: Step, other: Step) -> bool:
    """Whether both can be there at once: one at links and one at services, or at hosts that are not the same."""
    if (one.nemesis in NETWORK) != (other.nemesis in NETWORK):
        return True
    # What lies between halves is at all hosts.
    return HALVES not in (one.nemesis, other.nemesis) and not one.hosts & other.hosts


def _round(chance: random.Random, at: float, deck: list[Choice], usable: Sequence[Choice]) -> list[Step]:
    first = _step(chance, at, deck.pop())
    steps = [first]
    if chance.random() < COMBINED:
        for _ in range(chance.choice((1, 1, 2))):
            begin = at + chance.uniform(0.0, first.seconds * 0.7)
            step = _step(chance, begin, chance.choice(usable))
            if all(may_overlap(step, each) for each in steps):
                steps.append(step)
    return steps


def _step(chance: random.Random, at: float, choice: Choice) -> Step:
    target = chance.choice(choice.targets)
    seconds = chance.uniform(SHORTEST, LONGEST) if choice.lasting else INSTANT
    return Step(round(at, 1), round(seconds, 1), choice.name, target)


def dump(schedule: Schedule, **more: object) -> str:
    """As JSON, with what else is to be remembered of the run."""
    return json.dumps({**more, **asdict(schedule)}, indent=1)


def load(text: str) -> tuple[Schedule, Mapping[str, object]]:
    """What `dump` wrote, and what else was there. Raises `ValueError`."""
    document = json.loads(text)
    try:
        steps = tuple(Step(**step) for step in document.pop("steps"))
        return Schedule(int(document.pop("seed")), float(document.pop("seconds")), steps), document
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no schedule: {type(error).__name__}: {error}") from error
