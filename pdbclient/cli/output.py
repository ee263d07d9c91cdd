"""How commands print: a table on a terminal, tab-separated lines in a pipe, JSON with `--json`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["add_json_option", "note", "print_json", "print_table"]


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a command its `--json` flag (`args.json`)."""
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, for scripts")


def print_json(value: Any) -> None:
    """One JSON document on one line: what `--json` promises."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere one tab-separated line a row, without a heading, for cut and awk."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            sys.stdout.write("\t".join(row) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in texts:
        table.add_row(*row)
    Console(markup=False, highlight=False, emoji=False).print(table)


def note(text: str) -> None:
    """A line for the person at the terminal: standard error, so that standard output stays data."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
