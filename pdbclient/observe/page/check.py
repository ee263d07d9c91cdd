"""A status document as the output of a monitoring plugin (Nagios, Icinga, NRPE): state word, performance data. Pure.

The first line is `PDBCLIENT GATEWAY WARNING - what | 'label'=value[unit];warning;critical;minimum ...`; each further
line is one thing that needs attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pdbclient.observe.page.document import Document
from pdbclient.observe.page.findings import (
    CERTIFICATE_SOON,
    PENDING_LONG,
    Finding,
    Level,
    findings,
    lag_limit,
    without_success,
    worst,
)
from pdbclient.observe.page.words import number_of, server, span

__all__ = ["Limits", "State", "checked", "unanswered"]

_DAY = 86400.0


class State(IntEnum):
    """The exit codes of plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond what it is critical, in seconds: a pending command's age, the time since a pass succeeded."""

    pending: float = 3600.0
    lag: float = 3600.0


@dataclass(frozen=True, slots=True)
class _Value:
    """One item of performance data. `unit` is s (seconds), c (a counter), B (bytes) or nothing."""

    label: str
    value: float
    unit: str = ""
    warning: str = ""
    critical: str = ""

    def __str__(self) -> str:
        label = self.label.replace("'", "").replace("=", "")
        number = f"{self.value:.3f}".rstrip("0").rstrip(".")
        return f"'{label}'={number}{self.unit};{self.warning};{self.critical};{'' if self.value < 0 else 0}"


def checked(document: Document, limits: Limits) -> tuple[State, str]:
    """The state, and all lines of the output."""
    late = list(_late(document, limits))
    said = {each.text for each in late}
    found = [*late, *(each for each in findings(document) if each.text not in said)]
    found.sort(key=lambda each: -each.level)
    level = worst(tuple(found))
    lines = [each.text for each in found] or [_well(document)]
    if len(lines) > 1:
        lines.insert(0, f"{number_of(len(lines), 'thing')} to look at: {lines[0]}")
        del lines[1]
    return State(int(level)), _output(
        document.program.name, State(int(level)), lines, list(_values(document, limits))
    )


def unanswered(name: str, state: State, why: str) -> str:
    """The output when there is no document."""
    return _output(name, state, [why], [])


def _output(name: str, state: State, lines: Sequence[str], values: Sequence[_Value]) -> str:
    # What a server or an error says may have anything in it; the bar begins the performance data.
    first, *more = (" ".join(line.replace("|", "/").split()) for line in lines)
    data = f" | {' '.join(map(str, values))}" if values else ""
    return "\n".join([f"PDBCLIENT {name.upper()} {state.name} - {first}{data}", *more])


def _well(document: Document) -> str:
    if document.program.name == "gateway":
        return f"all {number_of(len(document.servers), 'server')} healthy"
    ages = [each.lag_seconds for each in document.remotes if each.lag_seconds is not None]
    return f"last pass {span(max(ages))} ago" if ages else "no pass yet"


def _late(document: Document, limits: Limits) -> Iterator[Finding]:
    journal = document.journal
    if journal is not None and journal.oldest is not None and journal.oldest > limits.pending:
        yield Finding(Level.CRITICAL, f"A command is pending for {span(journal.oldest)}.")
    for remote in document.remotes:
        lag, text = without_success(remote, document)
        if lag > limits.lag:
            yield Finding(Level.CRITICAL, text)


def _values(document: Document, limits: Limits) -> Iterator[_Value]:
    if document.servers:
        healthy = sum(all(circuit.usable for circuit in each.circuits) for each in document.servers)
        yield _Value("healthy_servers", healthy, warning=f"{len(document.servers)}:", critical="1:")
    for requests in document.requests:
        yield _Value(f"{requests.kind}_in_flight", requests.in_flight)
        for ending, number in sorted(requests.endings.items()):
            yield _Value(f"{requests.kind}_{ending}", number, "c")
        if requests.p95 is not None:
            yield _Value(f"{requests.kind}_p95", requests.p95, "s")
    if document.program.name == "gateway":
        yield _Value("failovers_of_a_day", len(document.failovers))
    yield from _of_journal(document, limits)
    for remote in document.remotes:
        name = server(remote.remote)
        if remote.lag_seconds is not None:
            yield _Value(f"lag {name}", remote.lag_seconds, "s", f"{lag_limit(remote):.0f}", f"{limits.lag:.0f}")
        yield _Value(f"quarantined {name}", remote.quarantined, warning="0")
        yield _Value(f"waiting {name}", remote.waiting, warning="0")
    ends = [each.expires for each in document.certificates if each.expires is not None and each.setting != "ssl_crl"]
    if ends:
        days = (min(ends) - document.at).total_seconds() / _DAY
        yield _Value("certificate_days", days, warning=f"{CERTIFICATE_SOON.days}:", critical="0:")


def _of_journal(document: Document, limits: Limits) -> Iterator[_Value]:
    journal = document.journal
    if journal is None or not journal.counted:
        return
    yield _Value("pending", sum(journal.pending.values()))
    yield _Value("oldest_pending", journal.oldest or 0.0, "s", f"{PENDING_LONG:.0f}", f"{limits.pending:.0f}")
    yield _Value("parked", journal.parked, warning="0")
    yield _Value("journal", journal.bytes, "B")
    if document.exported is not None:
        yield _Value("stale_answers", document.exported.stale, "c")
