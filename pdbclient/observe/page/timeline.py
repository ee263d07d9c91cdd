"""The last day, or hour, as lanes, one for each server: where each outage and each failover lies. Pure.

Positions are parts of that time, 0 (its begin) to 1 (now): a page and a terminal have scales of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pdbclient.observe.page.document import Document, Outage

__all__ = ["Bar", "Lane", "Move", "Timeline", "timelines"]

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
_TICKS = {DAY: timedelta(hours=4), HOUR: timedelta(minutes=10)}
JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Bar:
    """An outage from `left` to `right`."""

    left: float
    right: float
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
    """All of it. Before `known` the daemon did not run, and nothing is known. `ticks` are round times."""

    title: str
    known: float
    lanes: tuple[Lane, ...]
    moves: tuple[Move, ...]
    ticks: tuple[tuple[float, str], ...]


def timelines(document: Document) -> tuple[Timeline, ...]:
    """The last day of a gateway's document, and before it the last hour, when there was something in it."""
    day, hour = _timeline(document, DAY, "Last day"), _timeline(document, HOUR, "Last hour")
    return (hour, day) if hour.moves or any(lane.bars for lane in hour.lanes) else (day,)


def _timeline(document: Document, length: timedelta, title: str) -> Timeline:
    begin = document.at - length

    def place(at: datetime) -> float:
        return min(max((at - begin) / length, 0.0), 1.0)

    names = _names(document)
    outages = [each for each in document.outages if each.ended is None or each.ended > begin]
    bars = {name: [each for each in outages if each.server == name] for name in names}
    lanes = [Lane(name, tuple(_bar(each, place) for each in bars[name])) for name in names]
    moves = [
        Move(
            place(each.at),
            names.index(each.source),
            names.index(each.target),
            f"{each.at:%H:%M:%S} UTC: {each.kind} from {each.source} to {each.target}: {each.why}",
        )
        for each in document.failovers
        if each.at > begin
    ]
    ticks = _ticks(begin, length)
    return Timeline(title, place(document.program.started), tuple(lanes), tuple(moves), ticks)


def _names(document: Document) -> list[str]:
    names = [server.url for server in document.servers]
    ends = {end for each in document.failovers for end in (each.source, each.target)}
    # A server of an earlier configuration has its lane as long as its events are known.
    names += sorted({*ends, *(each.server for each in document.outages)} - {*names, JOURNAL})
    return names + ([JOURNAL] if JOURNAL in ends else [])


def _bar(outage: Outage, place: Callable[[datetime], float]) -> Bar:
    end = "" if outage.ended is None else f" to {outage.ended:%H:%M:%S}"
    text = f"{outage.server} unhealthy from {outage.began:%H:%M:%S}{end} UTC: {outage.why}"
    return Bar(place(outage.began), 1.0 if outage.ended is None else place(outage.ended), text)


def _ticks(begin: datetime, length: timedelta) -> tuple[tuple[float, str], ...]:
    every, midnight = _TICKS[length], begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight + ((begin - midnight) // every + 1) * every
    times = [first + number * every for number in range(length // every)]
    return tuple(((each - begin) / length, f"{each:%H:%M}") for each in times if each <= begin + length)
