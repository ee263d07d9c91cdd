"""Entry point of `pdbclient`: parse, run one command, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pdbclient.cli import output
from pdbclient.errors import (
    AllEndpointsFailed,
    ConfigError,
    InvalidCommand,
    PdbError,
    TransportError,
)

__all__ = ["main"]

EXIT_CODES = """\
exit codes:
  0    done
  1    a server or a check said no: rejected, not found, not converged
  2    your input: command line, configuration, or a command that breaks the wire format
  3    no PuppetDB could be reached
  130  interrupted (Ctrl-C)
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pdbclient",
        description="High availability for open-source PuppetDB: ordered failover, safe queries, "
        "and a reconciler that makes two or more PuppetDBs agree.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pdbclient {version('pdbclient')}")
    groups = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    from pdbclient.cli import config, lab

    for group in (config, lab):
        group.register(groups)
    return parser


def _exit_code(error: PdbError) -> int:
    if isinstance(error, ConfigError | InvalidCommand):
        return 2
    if isinstance(error, AllEndpointsFailed | TransportError):
        return 3
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pdbclient ARGV` and return its exit code (see `EXIT_CODES`)."""
    args = _parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except PdbError as error:
        for line in str(error).splitlines():
            output.note(f"pdbclient: {line}")
        return _exit_code(error)
    except BrokenPipeError:
        # The reader (head, less) has gone: what it did not want is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
