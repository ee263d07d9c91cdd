"""From a schedule that fails to a short one that still does. Pure: whether one fails is asked of the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .schedule import REST, SHORTEST, WARM, Schedule, Step

__all__ = ["shrink"]

Fails = Callable[[Schedule], bool]


def shrink(schedule: Schedule, fails: Fails, rounds: int = 100) -> Schedule:
    """The shortest schedule that was found to fail, in at most so many tries.

    Delta debugging over the steps first: halves, then smaller pieces are left out as long as it goes on failing;
    then gaps are closed, and what lasts is made shorter. `schedule` itself is taken to fail.
    """
    tries = iter(range(rounds))

    def still(candidate: Schedule) -> bool:
        return next(tries, None) is not None and fails(candidate)

    found = _fewer(schedule, still)
    for candidate in (_closed(found), _shifted(_closed(found))):
        if candidate != found and still(candidate):
            found = candidate
    return _shorter(found, still)


def _fewer(schedule: Schedule, still: Fails) -> Schedule:
    pieces = 2
    while len(schedule.steps) > 1:
        for gone in _pieces(schedule.steps, pieces):
            candidate = schedule.without(gone)
            if candidate.steps and still(candidate):
                schedule = candidate
                pieces = max(2, pieces - 1)
                break
        else:
            if pieces >= len(schedule.steps):
                return schedule
            pieces = min(len(schedule.steps), pieces * 2)
    return schedule


def _pieces(steps: tuple[Step, ...], pieces: int) -> Iterator[tuple[Step, ...]]:
    size = -(-len(steps) // pieces)
    yield from (steps[start : start + size] for start in range(0, len(steps), size))


def _closed(schedule: Schedule) -> Schedule:
    """Its end right after its last step."""
    last = max((step.end for step in schedule.steps), default=WARM)
    return replace(schedule, seconds=min(schedule.seconds, last + REST))


def _shifted(schedule: Schedule) -> Schedule:
    """Its beginning right before its first step."""
    first = min((step.at for step in schedule.steps), default=WARM)
    by = max(0.0, first - WARM)
    steps = tuple(replace(step, at=round(step.at - by, 1)) for step in schedule.steps)
    return replace(schedule, seconds=round(schedule.seconds - by, 1), steps=steps)


def _shorter(schedule: Schedule, still: Fails) -> Schedule:
    for number in range(len(schedule.steps)):
        while (step := schedule.steps[number]).seconds >= 2 * SHORTEST:
            half = replace(step, seconds=round(step.seconds / 2, 1))
            steps = (*schedule.steps[:number], half, *schedule.steps[number + 1 :])
            candidate = _closed(replace(schedule, steps=steps))
            if not still(candidate):
                break
            schedule = candidate
    return schedule
