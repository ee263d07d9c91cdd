"""How commands print: a table on a terminal, tab-separated lines in a pipe, JSON with `--json`."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pdbclient.errors import (
    AllEndpointsFailed,
    ConfigError,
    InvalidCommand,
    JournalError,
    PdbError,
    StaleAnswer,
    TransportError,
)
from pdbclient.observe.terminal import visible

__all__ = [
    "EXIT_CODES",
    "add_json_option",
    "exit_code",
    "note",
    "print_json",
    "print_table",
    "printable",
    "progress",
]

EXIT_CODES = """\
output:
  Results go to standard output: a table on a terminal, elsewhere one tab-separated line a row without a
  heading, and one JSON document with --json. Messages go to standard error. A command that fails prints no
  result, except that `submit` lists what became of each command, and a check what it found.

exit codes:
  0    done
  1    a server or a check said no: rejected, not found, not converged; or the system did: disk full
  2    your input: command line, configuration, a query or a command that cannot be sent
  3    no PuppetDB could be reached, or none of them could do it, or its answer broke off or was stale
  4    the journal cannot be used: full, damaged, in use by another process
  130  interrupted (Ctrl-C)
"""


def add_json_option(parser: argparse._ActionsContainer) -> None:
    """Give a command its `--json` flag (`args.json`)."""
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, for scripts")


def print_json(value: Any) -> None:
    """One JSON document on one line: what `--json` promises.

    What a terminal could take for a command, or cannot show, is escaped as JSON escapes it: the value is the same.
    """
    text = json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout.encoding), default=str)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere one tab-separated line a row, without a heading, for cut and awk."""
    texts = [["-" if cell is None else _shown(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            sys.stdout.write("\t".join(row) + "\n")
        return
    # Here, as it takes long to import, and is for terminals only.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(_shown(column), overflow="fold")
    for row in texts:
        table.add_row(*row)
    Console(markup=False, highlight=False, emoji=False).print(table)


def note(text: str) -> None:
    """A line (or several) for the person at the terminal: standard error, so that standard output stays data."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """`text` with everything but line ends escaped that a terminal would act on or not show."""
    return "\n".join(visible(line) for line in text.split("\n"))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Count up to `total`: a bar on a terminal, as long as it lasts; nothing elsewhere, and nothing for one."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda: bars.advance(task)


def exit_code(error: PdbError) -> int:
    """The exit code that an error stands for (see `EXIT_CODES`)."""
    # Here: `pdbclient --help` needs nothing of the formats.
    from pdbclient.wire import InvalidQuery

    if isinstance(error, ConfigError | InvalidCommand | InvalidQuery):
        return 2
    if isinstance(error, AllEndpointsFailed | TransportError | StaleAnswer):
        return 3
    if isinstance(error, JournalError):
        return 4
    return 1


def _shown(cell: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return visible(cell).encode(encoding, "backslashreplace").decode(encoding)


def _is_utf8(encoding: str | None) -> bool:
    return codecs.lookup(encoding or "utf-8").name == "utf-8"
