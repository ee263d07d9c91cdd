"""Several servers asked the same in turns, by one client, so that the machine's noise is theirs alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from tests.bench.load.connection import Connection
from tests.bench.load.traffic import LoadRequest

__all__ = ["in_turns", "percentiles"]

WARM_UP = 10


def in_turns(
    sides: dict[str, Connection], requests: Sequence[LoadRequest], turns: int, name: str, rest: Callable[[], None]
) -> dict[str, list[float]]:
    """The milliseconds of each answer, by side. `rest` is called whenever all `requests` have been used: what comes
    through a gateway has its payload's name, which PuppetDB must be done with before it comes again.
    """
    taken: dict[str, list[float]] = {side: [] for side in sides}
    used = 0
    for turn in range(-WARM_UP, turns):
        for side in sides if turn % 2 else reversed(sides):
            if used == len(requests):
                rest()
                used = 0
            request = requests[used].renamed(f"{name}-{side}-{turn}.example.com")
            used += 1
            answer = sides[side].ask(request.head, request.body)
            assert answer.status == 200, answer
            if turn >= 0:
                taken[side].append(1000 * answer.seconds)
    for connection in sides.values():
        connection.close()
    return taken


def percentiles(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """`SIDE_p50` and `SIDE_p99` of each side."""
    figures: dict[str, float] = {}
    for side, times in taken.items():
        cuts = statistics.quantiles(times, n=100)
        figures |= {f"{side}_p50": cuts[49], f"{side}_p99": cuts[98]}
    return figures
