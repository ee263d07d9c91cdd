"""How far two clocks are apart, as far as that can be told from what servers say of theirs. Pure."""

from __future__ import annotations

__all__ = ["clock_skew"]


def clock_skew(one: tuple[float, float] | None, other: tuple[float, float] | None) -> float:
    """The least difference (s) between two clocks, each known by a range of `run.preflight.clock_range`.

    The Date header has whole seconds, and a request takes time: only what both cannot explain counts.
    """
    if one is None or other is None:
        return 0.0
    return max(0.0, one[0] - other[1], other[0] - one[1])
