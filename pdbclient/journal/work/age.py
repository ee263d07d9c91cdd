"""What time it is for retention, and for nodes that expire: a clock that jumps drops nothing by itself. Pure.

A clock that is wrong by days for a moment (a board without battery, a restored machine, a mistyped date) must not
make everything old at once. So the time by which entries age follows the clock, but no faster than `SPEED` times as
fast as time passes: a jump ahead that is right is made up for in time, one that is wrong is seen and mended before.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JUMP", "Age"]

SPEED = 2.0
JUMP = 3600.0
"""Seconds that the clock may be ahead of what has passed until that is said."""


@dataclass(frozen=True, slots=True)
class Age:
    """By the time `at` entries are old or not, as of the monotonic time `looked`. Seconds, `at` since 1970."""

    at: float
    looked: float

    @classmethod
    def begin(cls, clock: float, newest: float | None, looked: float) -> Age:
        """At the start, when the newest entry was put in at `newest`: what passed since then nobody has seen pass."""
        return cls(clock if newest is None else min(clock, newest), looked)

    def later(self, clock: float, now: float) -> Age:
        """At the monotonic time `now`, with the clock at `clock`. A clock that was set back is followed at once."""
        return Age(min(clock, self.at + SPEED * (now - self.looked)), now)
