"""`pdbclient status` where no daemon has a status port: every server is asked how it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from pdbclient.cli import output
from pdbclient.cli.clients import asking_client
from pdbclient.client import ServerStatus
from pdbclient.http.outcome import Operation

__all__ = ["add_config_option", "show_servers"]


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Give a command its `--config PATH` option (`args.config`, None by default)."""
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="puppetdb.conf (default: where Puppet looks for it)"
    )


def show_servers(args: argparse.Namespace) -> int:
    """Ask every server of `args.config` how it is, all at once. 0 when all are running, 1 some, 3 none."""
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
