"""`pdbclient status`: the health of every server, and who is asked next."""

from __future__ import annotations

import argparse
from pathlib import Path

from pdbclient.cli import output
from pdbclient.cli.clients import asking_client
from pdbclient.cli.commands import HELP
from pdbclient.client import ServerStatus
from pdbclient.http.outcome import Operation

__all__ = ["add_config_option", "register"]

_DESCRIPTION = """\
Ask every server of puppetdb.conf how it is, all at once, and say which one a command and a query would go to.
Exit 0 when all are running, 1 when some are not, 3 when none is.
"""


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Give a command its `--config PATH` option (`args.config`, None by default)."""
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="puppetdb.conf (default: where Puppet looks for it)"
    )


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `status`."""
    parser = groups.add_parser(
        "status",
        help=HELP["status"],
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    output.add_json_option(parser)
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    with asking_client(args.config) as client:
        servers = client.status()
        next_for = {operation: str(client.next_in_line(operation)[0]) for operation in Operation}
    running = sum(server.state == "running" for server in servers)
    if args.json:
        output.print_json({"servers": [_shown(server) for server in servers], "next": next_for})
    else:
        rows = [(*_shown(server).values(), _turns(server, next_for)) for server in servers]
        output.print_table(("server", "state", "version", "queue", "error", "next for"), rows)
    if running == 0:
        return 3
    return 0 if running == len(servers) else 1


def _shown(server: ServerStatus) -> dict[str, str | int | None]:
    return {
        "server": server.endpoint.url,
        "state": server.state,
        "version": server.version,
        "queue_depth": server.queue_depth,
        "error": server.error,
    }


def _turns(server: ServerStatus, next_for: dict[Operation, str]) -> str | None:
    turns = [operation.value for operation, url in next_for.items() if url == server.endpoint.url]
    return ", ".join(turns) or None
