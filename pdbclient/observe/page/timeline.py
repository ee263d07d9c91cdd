"""The last day as lanes, one for each server: where each outage and each failover lies. Pure.

Positions are parts of the day, 0 (a day ago) to 1 (now): what draws them, on a page or a terminal, has its own scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pdbclient.observe.page.document import Document

__all__ = ["DAY", "Bar", "Lane", "Move", "Timeline", "timeline"]

DAY = timedelta(days=1)
TICKS = 6
JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Bar:
    """An outage from `left` to `right`; `open_end`: it lasts."""

    left: float
    right: float
    open_end: bool
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """What a server, or the journal, went through."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A failover at `at`, from one lane to another, by their numbers."""

    at: float
    source: int
    target: int
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it. Before `known` the daemon did not run, and nothing is known. `ticks` are full hours."""

    known: float
    lanes: tuple[Lane, ...]
    moves: tuple[Move, ...]
    ticks: tuple[tuple[float, str], ...]


def timeline(document: Document) -> Timeline:
    """The timeline of a gateway's document."""
    begin = document.at - DAY

    def place(at: datetime) -> float:
        return min(max((at - begin) / DAY, 0.0), 1.0)

    names = [server.url for server in document.servers]
    ends = {end for each in document.failovers for end in (each.source, each.target)}
    # A server of an earlier configuration has its lane as long as its events are known.
    names += sorted({*ends, *(each.server for each in document.outages)} - {*names, JOURNAL})
    names += [JOURNAL] if JOURNAL in ends else []
    lanes = []
    for name in names:
        bars = [
            Bar(
                place(each.began),
                1.0 if each.ended is None else place(each.ended),
                each.ended is None,
                f"{each.server} unhealthy from {each.began:%H:%M:%S}"
                + ("" if each.ended is None else f" to {each.ended:%H:%M:%S}")
                + f" UTC: {each.why}",
            )
            for each in document.outages
            if each.server == name
        ]
        lanes.append(Lane(name, tuple(bars)))
    moves = [
        Move(
            place(each.at),
            names.index(each.source),
            names.index(each.target),
            f"{each.at:%H:%M:%S} UTC: {each.kind} from {each.source} to {each.target}: {each.why}",
        )
        for each in document.failovers
    ]
    return Timeline(place(document.program.started), tuple(lanes), tuple(moves), _ticks(begin, document.at))


def _ticks(begin: datetime, end: datetime) -> tuple[tuple[float, str], ...]:
    """Full hours, so that there are about `TICKS`."""
    every = timedelta(hours=24 // TICKS)
    first = begin.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [first + timedelta(hours=n) for n in range(26)]
    chosen = [each for each in hours if begin <= each <= end and each.hour % (every // timedelta(hours=1)) == 0]
    return tuple(((each - begin) / DAY, f"{each:%H:%M}") for each in chosen)
