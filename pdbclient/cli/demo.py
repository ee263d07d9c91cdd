"""`pdbclient demo`: the main job as a story, on a real pair of PuppetDBs made for it."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

from pdbclient.cli import output
from pdbclient.cli.arguments import positive
from pdbclient.cli.commands import HELP
from pdbclient.cli.lab_options import add_program_options, programs_given
from pdbclient.lab import Lab, LabOptions

__all__ = ["register"]

_DESCRIPTION = """\
Starts two real PuppetDBs in a temporary directory, submits the facts, catalogs and reports of 20 nodes, kills the
primary in the middle of it, goes on, brings it back, reconciles both ways, compares the two record by record, and
removes everything again. The story goes to standard error; standard output gets one JSON line. Exit 1 when
anything is lost or the two do not agree. Needs what `pdbclient lab install` installs.
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo`."""
    parser = groups.add_parser(
        "demo",
        help=HELP["demo"],
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nodes", type=positive, default=20, metavar="N", help="how many nodes report in (default: 20)"
    )
    add_program_options(parser)
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    # Here, because the other commands need nothing of it.
    from pdbclient.demo import play

    options = replace(LabOptions(), **programs_given(args, LabOptions()))
    output.note("0. Two PuppetDBs, each with a PostgreSQL of its own: about a minute.")
    # In /var/tmp: PostgreSQL refuses to run as root, and its own account must be able to reach the directory.
    with (
        _ended_by_signals(),
        tempfile.TemporaryDirectory(prefix="pdbclient-demo-", dir="/var/tmp", ignore_cleanup_errors=True) as parent,
    ):
        Path(parent).chmod(0o755)
        directory = Path(parent) / "lab"
        lab = None
        try:
            lab = Lab.up(directory, options=options, progress=lambda line: output.note(f"   {line}"))
            outcome = play(lab, output.note, nodes=args.nodes)
        finally:
            if lab is not None:
                lab.down(purge=True)
    output.note("6. Everything is stopped and removed.")
    output.print_json(asdict(outcome))
    return 0 if outcome.ok else 1


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does, and leave no server behind."""

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
