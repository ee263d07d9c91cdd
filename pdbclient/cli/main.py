"""Entry point of `pdbclient`: parse, run one command, turn errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Any

from pdbclient.cli import output
from pdbclient.cli.commands import HELP, MODULES
from pdbclient.cli.parser import Parser
from pdbclient.errors import PdbError

__all__ = ["main", "make_parser"]


def make_parser(wanted: Collection[str] = HELP) -> Parser:
    """The parser of the command line; each command sets `run`, which takes the arguments.

    Of a command that is not `wanted` it has the line in the list, and imports nothing. By default: of the whole.
    """
    parser = Parser(
        prog="pdbclient",
        description="High availability for open-source PuppetDB and OpenVoxDB: ordered failover, safe queries, "
        "and a reconciler that makes two or more of them agree.",
        epilog=output.EXIT_CODES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    parser.add_argument("-v", "--verbose", action="store_true", help="say on standard error what happens")
    groups = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module, names in MODULES.items():
        if any(name in wanted for name in names):
            import_module(f"pdbclient.cli.{module}").register(groups)
        else:
            for name in names:
                groups.add_parser(name, help=HELP[name])
    return parser


class _Version(Action):
    """Looks for the version only when it is asked for: that takes longer than all the rest."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: Any = None) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"pdbclient {version('pdbclient')}\n")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pdbclient ARGV` and return its exit code (see `output.EXIT_CODES`).

    Raises `SystemExit` where argparse does: after `--help`, and with 2 for a command line that is wrong.
    """
    code = 0
    _open_what_is_closed()
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
    given = sys.argv[1:] if argv is None else argv
    # A command is one of the words given, in full: those that are not among them cannot be meant.
    args = make_parser(given).parse_args(given)
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


def _open_what_is_closed() -> None:
    """Have the standard streams that were closed before we began go nowhere.

    Else the first files that are opened would get their numbers, and be written to as standard output.
    """
    # Python has None in their place.
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115  # to the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115


def _configure_logging(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("pdbclient: %(levelname)s: %(message)s"))
    # That no server can be used, a command's own error says: the log is for who watches a program that goes on.
    handler.addFilter(lambda record: record.name != "pdbclient.http.outage")
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
