"""The status document on a terminal, and as lines."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from pdbclient.observe.page.document import Document, Outage
from pdbclient.observe.page.findings import findings
from pdbclient.observe.page.terminal import WIDTH, lines, rendered
from pdbclient.observe.page.view import tables
from pdbclient.observe.terminal import visible

from .documents import PRIMARY, WHY, ago, gateway, reconciler


def shown(document: Document, *, notes: bool = True) -> str:
    console = Console(file=StringIO(), width=250, force_terminal=False, markup=False)
    console.print(rendered(document, visible, notes=notes))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_it_says_what_the_page_says() -> None:
    for document in (gateway(failed_over=True), reconciler()):
        text = shown(document)
        for table in tables(document):
            assert table.title in text
            for row in table.rows:
                assert all(cell.text in text for cell in row)
        for each in findings(document):
            assert f"{each.level.name} {each.text}" in text
    assert "DEGRADED" in shown(gateway(failed_over=True))
    assert "HEALTHY" in shown(gateway())


def test_the_last_day_is_drawn_with_what_was_unhealthy_and_what_is_not_known() -> None:
    outage = Outage(PRIMARY, ago(hours=12), ago(hours=6), WHY)
    document = gateway(outages=(outage,))
    (lane,) = [line for line in shown(document).splitlines() if line.startswith("db1.example.com:8081  -")]
    marks = lane.split()[1]
    assert marks == "-" * (WIDTH // 2) + "#" * (WIDTH // 4 + 1) + "-" * (WIDTH // 4 - 1)
    assert "20:00" in shown(document)


def test_the_notes_are_left_out_where_there_is_little_room() -> None:
    note = "In the order in which they are asked."
    assert note in shown(gateway())
    assert note not in shown(gateway(), notes=False)


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    text = shown(gateway(outages=(Outage(PRIMARY, ago(hours=1), None, "\x1b[2Jgone [bold]\u202e"),)))
    assert r"\x1b[2Jgone [bold]\u202e" in text
    assert "\x1b" not in text


def test_each_line_says_what_it_is_about() -> None:
    found = list(lines(gateway(failed_over=True)))
    assert found[0][:2] == ("gateway", "WARNING")
    assert found[0][2].startswith(f"{PRIMARY} is unhealthy")
    assert ("gateway", "Journal", "Parked", "0") in found
