"""A status document as tables of words, each with how it is: what the page and the terminal both show. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC

from pdbclient.errors import SafetyBrake
from pdbclient.observe.page.document import Document, Failover, JournalFigures, Outage, Remote, Server
from pdbclient.observe.page.findings import Level, certificate_level, lag_limit, without_success
from pdbclient.observe.page.words import clock, latency, number_of, server, since, size, span

__all__ = ["Cell", "Table", "tables"]

MOST_EVENTS = 20
"""Failovers that are listed; the timeline shows all."""
NOTHING = "-"
_FAILED = ("unavailable", "server_error", "overloaded", "cut_off", "stale", "internal_error")
_REJECTED = ("rejected", "refused")
_KINDS = {"command": "commands", "query": "queries", "exported": "queries of exported resources"}
_POLICIES = {"serve": "served, and logged", "fail": "refused"}
_LACKING = ("failed", "waiting", "quarantined")


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text; `level` is how that is what it says, None where it says nothing of the kind."""

    text: str
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title, of names and values when it has no `columns`. `note` stands below it.

    `numbers` are the columns that are aligned to the right. `empty` is said in its place when it has no rows;
    `timeline`: the last day is drawn above it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()
    note: str = ""
    empty: str = ""
    timeline: bool = False


def tables(document: Document) -> tuple[Table, ...]:
    """All that the document tells, in the order in which somebody who was called would look."""
    parts: tuple[Callable[[Document], Iterator[Table]], ...] = (
        *(_servers, _failovers, _requests, _journal, _exported),
        *(_remotes, _divergence, _certificates),
    )
    return tuple(table for part in parts for table in part(document))


def _row(*cells: Cell | str | int) -> tuple[Cell, ...]:
    return tuple(cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in cells)


def _servers(document: Document) -> Iterator[Table]:
    if not document.servers:
        return
    rows = [
        _row(
            number,
            server(each.url) + (" (submit only)" if each.submit_only else ""),
            *_circuits(each),
            *_since(each, document),
            NOTHING if each.next_probe is None else f"{each.next_probe:.0f} s",
            each.missing,
            each.answered,
            each.failed,
        )
        for number, each in enumerate(document.servers, 1)
    ]
    columns = ("#", "Server", "Commands", "Queries", "Since", "Why", "Probe in", "May lack", "Answered", "Failed")
    note = (
        "In the order in which they are asked. May lack: newest commands of nodes that a later server took in this"
        " one's place, and this one is not known to have. Answered, failed: attempts since the gateway began."
    )
    yield Table("Servers", columns, tuple(rows), frozenset({0, 6, 7, 8, 9}), note)


def _circuits(each: Server) -> Iterator[Cell]:
    """Whether it is asked to take commands, and to answer queries."""
    words = {"closed": "healthy", "open": "unhealthy", "half-open": "half-open"}
    for operation in ("command", "query"):
        found = [circuit for circuit in each.circuits if circuit.operation == operation]
        for circuit in found[:1]:
            yield Cell(words.get(circuit.state, circuit.state), Level.OK if circuit.usable else Level.CRITICAL)
        if not found:
            yield Cell(NOTHING)


def _since(each: Server, document: Document) -> tuple[str, str]:
    """Since when it is as it is, and why: by the circuit that is worse off, else by what changed last."""
    out = [circuit for circuit in each.circuits if not circuit.usable]
    told = out or list(each.circuits)
    if not told:
        return NOTHING, NOTHING
    last = min(out, key=lambda c: c.since) if out else max(told, key=lambda c: c.since)
    return since(last.since, document.at), last.why or NOTHING


def _failovers(document: Document) -> Iterator[Table]:
    if not document.servers:
        return
    events: list[Failover | Outage] = [*document.failovers, *document.outages]
    events.sort(key=_when, reverse=True)
    rows = tuple(_event(each, document) for each in events[:MOST_EVENTS])
    left = len(events) - len(rows)
    note = f"And {number_of(left, 'earlier one')}." if left else ""
    empty = "None: no server was unhealthy, and all requests went to the first one."
    yield Table("Failovers of the last day", ("At", "What", "Why"), rows, note=note, empty=empty, timeline=True)


def _when(event: Failover | Outage) -> float:
    return (event.at if isinstance(event, Failover) else event.began).timestamp()


def _event(event: Failover | Outage, document: Document) -> tuple[Cell, ...]:
    if isinstance(event, Failover):
        kind, target, source = _KINDS.get(event.kind, event.kind), server(event.target), server(event.source)
        moved = f"{kind} go to {target}, no longer to {source}"
        return _row(clock(event.at, document.at), moved, event.why or NOTHING)
    lasted = span(((event.ended or document.at) - event.began).total_seconds())
    if event.ended is None:
        what = Cell(f"{server(event.server)} unhealthy, for {lasted} now", Level.CRITICAL)
    else:
        what = Cell(f"{server(event.server)} unhealthy, for {lasted}, until {clock(event.ended, document.at)}")
    return _row(clock(event.began, document.at), what, event.why or NOTHING)


def _requests(document: Document) -> Iterator[Table]:
    if not document.requests:
        return
    rows = []
    for each in document.requests:
        failed = sum(each.endings.get(name, 0) for name in _FAILED)
        rows.append(
            _row(
                _KINDS.get(each.kind, each.kind),
                each.in_flight,
                *(latency(part) for part in (each.p50, each.p95, each.p99)),
                each.endings.get("answered", 0),
                each.endings.get("journalled", 0),
                sum(each.endings.get(name, 0) for name in _REJECTED),
                failed,
                each.endings.get("client_left", 0),
            )
        )
    columns = ("", "In flight", "p50", "p95", "p99", "Answered", "Journalled", "Rejected", "Failed", "Client left")
    note = "p50, p95, p99: how long the last 256 took. The other numbers count since the gateway began."
    if document.oldest_request is not None:
        note = f"The oldest request in flight began {latency(document.oldest_request)} ago. {note}"
    yield Table("Requests", columns, tuple(rows), frozenset(range(1, 10)), note)


def _journal(document: Document) -> Iterator[Table]:
    journal = document.journal
    if journal is None:
        return
    state = Cell("answers", Level.OK) if journal.answers else Cell("does not answer", Level.CRITICAL)
    rows = [_row("Place", journal.place), _row("State", state), *(_counted(journal) if journal.counted else ())]
    rows.append(_row("Taken by no server at once", number_of(journal.journal_only, "command")))
    yield Table("Journal", (), tuple(rows), note="" if journal.counted else "Its entries were not counted yet.")


def _counted(journal: JournalFigures) -> Iterator[tuple[Cell, ...]]:
    for target, number in sorted(journal.pending.items()):
        yield _row("Pending for any server" if target == "any" else f"Pending for {server(target)}", number)
    if not journal.pending:
        yield _row("Pending", Cell("nothing", Level.OK))
    yield _row("Oldest pending", NOTHING if journal.oldest is None else f"{span(journal.oldest)} old")
    yield _row("Parked", Cell(str(journal.parked), Level.WARNING if journal.parked else Level.OK))
    yield _row("Delivered, and kept", journal.delivered)
    yield _row("Size of the bodies", size(journal.bytes))


def _exported(document: Document) -> Iterator[Table]:
    exported = document.exported
    if exported is None:
        return
    rows = (
        _row("Stale answers", Cell(str(exported.stale), Level.WARNING if exported.stale else Level.OK)),
        _row("Stale answers are", _POLICIES.get(exported.policy, exported.policy)),
    )
    note = "Since the gateway began: the server could not be brought up to date in time (stale_exported)."
    yield Table("Exported resources", (), rows, note=note)


def _remotes(document: Document) -> Iterator[Table]:
    if not document.remotes:
        return
    rows = []
    for remote in document.remotes:
        last, lag = remote.last_pass or {}, remote.lag_seconds
        late = without_success(remote, document)[0] > lag_limit(remote)
        rows.append(
            _row(
                server(remote.remote),
                _pass_state(remote),
                Cell(NOTHING if lag is None else span(lag), Level.WARNING if late else None),
                NOTHING if remote.last_success is None else clock(remote.last_success, document.at),
                NOTHING if remote.last_failure is None else clock(remote.last_failure, document.at),
                f"{float(last.get('elapsed_ms', 0)) / 1000:.1f} s" if last else NOTHING,
                span(remote.interval_seconds),
                remote.transferred,
                Cell(str(remote.failed), Level.WARNING if remote.failed else None),
                remote.last_error or NOTHING,
            )
        )
    columns = (
        "Remote",
        "Last pass",
        "Lag",
        "Succeeded",
        "Failed",
        "Took",
        "Interval",
        "Pulled",
        "Not taken",
        "Error",
    )
    note = "Lag: since a pass last succeeded. Pulled, not taken: records of the last pass."
    yield Table("Passes", columns, tuple(rows), frozenset({5, 7, 8}), note)


def _pass_state(remote: Remote) -> Cell:
    if not remote.ran:
        return Cell("none yet", Level.WARNING)
    if remote.braked:
        return Cell("safety brake", Level.CRITICAL)
    outcome = str((remote.last_pass or {}).get("outcome", "done" if remote.ok else "failed"))
    if remote.ok:
        return Cell(outcome, Level.OK)
    return Cell("done in part" if outcome == "done" else outcome, Level.WARNING)


def _divergence(document: Document) -> Iterator[Table]:
    columns = ("", "Last done", "Pulled", "Failed", "Unequal", "Tied", "Held", "Waiting", "Quarantined", "Error")
    kinds = ("transferred", "failed", "unequal", "tied", "held", "waiting", "quarantined")
    note = (
        "What the last pass found that differs and stays so. Unequal: stored with another hash. Tied: the same time,"
        " other content. Held: stamped in the future. Waiting, quarantined: not taken by the local server."
    )
    for remote in document.remotes:
        found: Mapping[str, Mapping[str, int]] = (remote.last_pass or {}).get("entities", {})
        rows = []
        for name, part in remote.entities.items():
            counted = [(kind, int(found.get(name, {}).get(kind, 0))) for kind in kinds]
            cells = [Cell(str(n), Level.WARNING if n and kind in _LACKING else None) for kind, n in counted]
            done = NOTHING if part.last_success is None else since(part.last_success, document.at)
            rows.append((*_row(name, done), *cells, _error(part.error)))
        title = f"Divergence from {server(remote.remote)}"
        yield Table(title, columns, tuple(rows), frozenset(range(2, 9)), note, "No pass has come that far yet.")


def _error(error: str | None) -> Cell:
    if error is None:
        return Cell(NOTHING)
    return Cell(error, Level.CRITICAL if SafetyBrake.PREFIX in error else Level.WARNING)


def _certificates(document: Document) -> Iterator[Table]:
    if not document.certificates:
        return
    rows = []
    for each in document.certificates:
        left, ends = NOTHING, each.error or "has no end"
        if each.expires is not None:
            left = f"{(each.expires - document.at).total_seconds() / 86400:.0f}"
            ends = f"{each.expires.astimezone(UTC):%Y-%m-%d %H:%M}"
        level = certificate_level(each, document)
        rows.append(_row(each.setting, each.name or NOTHING, Cell(left, level), ends, each.path))
    yield Table("Certificates", ("Setting", "Name", "Days left", "Ends", "File"), tuple(rows), frozenset({2}))
