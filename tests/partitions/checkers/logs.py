"""What the logs of gateways and reconcilers tell that must not be. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..timeline import DOWN, LOSING, NETWORK
from .model import Evidence, Kind, Violation

__all__ = ["brakes", "deliveries", "ended", "listening", "tracebacks", "transferred_twice", "transfers"]

HOURS = re.compile(r"([+-]\d+)h$")
"""How a target says by how much a clock jumps."""
LISTENING = "pdbclient.gateway: listening at"
BRAKE = "safety brake: "
TRACEBACK = "Traceback (most recent call last)"
PULLED = re.compile(r"report (?P<hash>[0-9a-f]{40}) of (?P<certname>\S+): finished in")
DELIVERED = re.compile(r": delivered: .+ \((?P<uuid>[0-9a-f-]{36})\) to (?P<server>https://\S+)")
NOTED = 60.0
"""Seconds before the first delivery and after the second for which a fault of the gateway or of its journal explains
that the first could not be noted: the lease on what a gateway was doing when it was lost is not over before."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log. `at`: monotonic seconds, None where it does not say when. `fields`: of one in JSON."""

    service: str
    number: int
    at: float | None
    text: str
    fields: dict[str, Any]


def tracebacks(evidence: Evidence) -> Iterator[Violation]:
    """Every traceback, with its last lines."""
    for service, text in evidence.logs.items():
        for found in re.finditer(re.escape(TRACEBACK), text):
            line = text.count("\n", 0, found.start()) + 1
            rest = text[found.start() :].replace("\\n", "\n").split("\n", 500)
            # Its own lines are indented; the one after them is the exception.
            last = next((each for each in rest[1:] if each and not each.startswith(" ")), "")
            frames = [each.strip() for each in rest[1:] if each.lstrip().startswith("File ")][-3:]
            yield Violation(Kind.TRACEBACK, last[:300], f"{service}, line {line}", None, tuple(frames))


def ended(evidence: Evidence) -> Iterator[Violation]:
    """Daemons that ended though nobody had ended them."""
    for service, codes in evidence.failures.items():
        tail = tuple(evidence.logs.get(service, "").splitlines()[-3:])
        yield from (Violation(Kind.ENDED, f"exit code {code}", service, None, tail) for code in codes)


def brakes(evidence: Evidence) -> Iterator[Violation]:
    """Brakes that engaged though no server had been emptied or put back: nobody deactivates so many nodes here."""
    for line in _lines(evidence):
        if BRAKE not in line.text:
            continue
        at = evidence.history.end if line.at is None else line.at
        if not evidence.timeline.during(0.0, at, LOSING):
            yield Violation(Kind.BRAKE, _message(line)[:300], f"{line.service}, line {line.number}", line.at)


def transferred_twice(evidence: Evidence) -> Iterator[Violation]:
    """Reports that one reconciler pulled twice, and commands that the journal delivered twice to one server."""
    first: dict[tuple[str, str], Line] = {}
    for line in transfers(evidence):
        if (before := first.setdefault((line.service, line.fields["hash"]), line)) is line:
            continue
        host = line.service.split()[0]
        if not _lost_between(evidence, host, before, line):
            yield _twice(f"report {line.fields['hash']} of {line.fields.get('certname')}", before, line)
        first[line.service, line.fields["hash"]] = line
    hosts = {url: name for name, url in evidence.databases.items()}
    delivered: dict[tuple[str, str], Line] = {}
    for line in deliveries(evidence):
        uuid, server = line.fields["uuid"], line.fields["server"]
        if (before := delivered.setdefault((uuid, server), line)) is line:
            continue
        if not _lost_between(evidence, hosts.get(server, server), before, line) and not _not_noted(
            evidence, before, line
        ):
            yield _twice(f"command {uuid} to {server}", before, line)
        delivered[uuid, server] = line


def transfers(evidence: Evidence) -> list[Line]:
    """The reports that reconcilers pulled, by time; `fields` has `hash` and `certname`. At level DEBUG only."""
    return _matching(evidence, PULLED)


def deliveries(evidence: Evidence) -> list[Line]:
    """What the gateways' journals delivered, by time; `fields` has `uuid` and `server`. At level DEBUG only."""
    return _matching(evidence, DELIVERED)


@lru_cache(maxsize=2)
def listening(evidence: Evidence) -> Mapping[str, Sequence[float]]:
    """When gateways began to listen, by host, by time."""
    found: dict[str, list[float]] = {}
    for line in _lines(evidence):
        if LISTENING in line.text and line.at is not None:
            found.setdefault(line.service.split()[0], []).append(line.at)
    return found


def _matching(evidence: Evidence, pattern: re.Pattern[str]) -> list[Line]:
    """The lines that say that, with the pattern's groups for `fields`."""
    found = ((line, pattern.search(line.text)) for line in _lines(evidence))
    return [
        Line(line.service, line.number, line.at, line.text, match.groupdict())
        for line, match in found
        if match is not None
    ]


@lru_cache(maxsize=2)
def _lines(evidence: Evidence) -> list[Line]:
    """All lines that are of use here, by time."""
    found = []
    for service, text in evidence.logs.items():
        for number, line in enumerate(text.splitlines(), 1):
            fields: dict[str, Any] = {}
            if line.startswith("{"):
                try:
                    fields = json.loads(line)
                except ValueError:
                    # The last one, of a process that was killed.
                    continue
            stamp = fields.get("timestamp") or line.partition(" ")[0]
            found.append(Line(service, number, _moment(evidence, service, stamp), line, fields))
    return sorted(found, key=lambda each: (each.at is None, each.at or 0.0))


def _moment(evidence: Evidence, service: str, stamp: str) -> float | None:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    at = evidence.history.monotonic(moment.timestamp()) if moment.tzinfo else None
    if at is None:
        return None
    for jump in evidence.timeline.during(0.0, float("inf"), {"clock"}):
        hours = HOURS.search(jump.target)
        true = at - float(hours[1]) * 3600 if hours else at
        if jump.words[0] == service.split()[0] and jump.overlaps(true, true):
            return true
    return at


def _lost_between(evidence: Evidence, host: str, before: Line, line: Line) -> bool:
    begin, end = before.at or 0.0, evidence.history.end if line.at is None else line.at
    return any(host in each.words for each in evidence.timeline.during(begin, end, LOSING))


def _not_noted(evidence: Evidence, before: Line, line: Line) -> bool:
    """Whether a gateway or the way to its journal broke, so that the first delivery could not be noted."""
    begin, end = (before.at or 0.0) - NOTED, evidence.history.end if line.at is None else line.at
    around = evidence.timeline.during(begin, end, DOWN | NETWORK | {"power_cut"})
    return any(not set(each.words) <= {*evidence.databases, "puppetdb", "reconciler", "postgres"} for each in around)


def _twice(what: str, before: Line, line: Line) -> Violation:
    shown = tuple(f"{each.service}, line {each.number}: {_message(each)[:200]}" for each in (before, line))
    return Violation(Kind.TRANSFERRED_TWICE, what, line.service, line.at, shown)


def _message(line: Line) -> str:
    return str(line.fields.get("message") or line.text)
