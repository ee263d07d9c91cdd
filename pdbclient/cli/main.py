"""Entry point of `pdbclient`: parse, run one command, turn errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import version

from pdbclient.cli import (
    check,
    config,
    demo,
    gateway,
    journal,
    lab,
    output,
    query,
    recover,
    status,
    submit,
    sync,
    terminus,
)
from pdbclient.cli.arguments import Parser
from pdbclient.errors import PdbError

__all__ = ["main", "make_parser"]


def make_parser() -> Parser:
    """The parser of the whole command line; each command sets `run`, which takes the arguments."""
    parser = Parser(
        prog="pdbclient",
        description="High availability for open-source PuppetDB and OpenVoxDB: ordered failover, safe queries, "
        "and a reconciler that makes two or more of them agree.",
        epilog=output.EXIT_CODES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pdbclient {version('pdbclient')}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say on standard error what happens")
    groups = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (submit, query, status, check, config, gateway, journal, recover, terminus, sync, lab, demo):
        group.register(groups)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pdbclient ARGV` and return its exit code (see `output.EXIT_CODES`).

    Raises `SystemExit` where argparse does: after `--help`, and with 2 for a command line that is wrong.
    """
    code = 0
    try:
        try:
            code = _run(argv)
        finally:
            # Here rather than at exit, where Python would complain of a reader that has gone.
            sys.stdout.flush()
    except BrokenPipeError:
        # What the reader (head, less) did not want is not an error, and does not undo one.
        _drop_output()
    except OSError as error:
        # A full disk, a directory that may not be written: commands handle those they can say more of.
        _drop_output()
        output.note(f"pdbclient: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _run(argv: Sequence[str] | None) -> int:
    args = make_parser().parse_args(argv)
    _configure_logging(verbose=args.verbose)
    try:
        return int(args.run(args))
    except PdbError as error:
        for line in str(error).splitlines():
            output.note(f"pdbclient: {line}")
        return output.exit_code(error)
    except RecursionError:
        # Nothing here recurses but into what the user gave: a query, a collector's condition.
        output.note("pdbclient: the input is nested too deep")
        return 2


def _configure_logging(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("pdbclient: %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, handlers=[handler])
    # urllib3 tells of every connection, and of nothing that the http layer does not tell better.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return output.printable(super().format(record))


def _drop_output() -> None:
    """Forget what standard output still holds, or Python tries, and complains, once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


if __name__ == "__main__":
    sys.exit(main())
