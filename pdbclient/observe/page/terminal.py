"""A status document for a terminal, with the words of the page; and as lines for cut and awk. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from pdbclient.observe.page.document import Document
from pdbclient.observe.page.findings import Level, findings, worst
from pdbclient.observe.page.timeline import Lane, Timeline, timelines
from pdbclient.observe.page.view import Cell, Table, tables
from pdbclient.observe.page.words import server

__all__ = ["lines", "rendered"]

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red"}
_WORDS = {Level.OK: "HEALTHY", Level.WARNING: "DEGRADED", Level.CRITICAL: "CRITICAL"}
WIDTH = 72
"""Characters that stand for the last day, 20 minutes each, or for the last hour."""


def rendered(document: Document, text: Callable[[str], str], *, notes: bool = True) -> RenderableType:
    """All of it for a terminal. `text` makes a string one that it shows, and does not act on."""
    program, found = document.program, findings(document)
    head = f"pdbclient {program.name} on {program.host}, {document.at:%Y-%m-%d %H:%M:%S} UTC: "
    parts: list[RenderableType] = [Text.assemble(text(head), (_WORDS[worst(found)], _STYLES[worst(found)]))]
    parts += [Text.assemble((each.level.name, _STYLES[each.level]), " ", text(each.text)) for each in found]
    for table in tables(document):
        parts += ["", Text(text(table.title), "bold")]
        if table.timeline:
            parts += [Text(text(line)) for each in timelines(document) for line in _drawn(each)]
            parts += [Text("# unhealthy, - healthy, . not known: the gateway did not run", "dim")] if notes else []
        parts.append(_grid(table, text) if table.rows else Text(text(table.empty), "dim"))
        parts += [Text(text(table.note), "dim")] if notes and table.note else []
    return Group(*parts)


def lines(document: Document) -> Iterator[tuple[str, ...]]:
    """Each row of all tables with what it is about, and each finding with its level."""
    name = document.program.name
    for each in findings(document):
        yield (name, each.level.name, each.text)
    for table in tables(document):
        for row in table.rows:
            yield (name, table.title, *(cell.text for cell in row))


def _grid(table: Table, text: Callable[[str], str]) -> Grid:
    grid = Grid(box=None, pad_edge=False, header_style="dim", show_header=bool(table.columns))
    for number, name in enumerate(table.columns or ("", "")):
        grid.add_column(text(name), overflow="fold", justify="right" if number in table.numbers else "left")
    for row in table.rows:
        grid.add_row(*(_cell(cell, text) for cell in row))
    return grid


def _cell(cell: Cell, text: Callable[[str], str]) -> Text:
    return Text(text(cell.text), "" if cell.level is None else _STYLES[cell.level])


def _drawn(line: Timeline) -> Iterator[str]:
    """The lanes: `#` unhealthy, `-` healthy, `.` not known; above them, when that was."""
    names = [server(lane.name) for lane in line.lanes]
    indent = max(map(len, [line.title, *names])) + 2
    scale = [" "] * (WIDTH + 5)
    for at, label in line.ticks:
        place = int(at * WIDTH)
        scale[place : place + len(label)] = label
    yield f"{line.title:{indent}}{''.join(scale).rstrip()}"
    for name, lane in zip(names, line.lanes, strict=True):
        yield f"{name:{indent}}{_marks(lane, line.known)}"


def _marks(lane: Lane, known: float) -> str:
    marks = ["." if (place + 1) / WIDTH <= known else "-" for place in range(WIDTH)]
    for bar in lane.bars:
        for place in range(min(int(bar.left * WIDTH), WIDTH - 1), min(int(bar.right * WIDTH), WIDTH - 1) + 1):
            marks[place] = "#"
    return "".join(marks)
