"""`pdbclient status`: what the daemons of this machine say of themselves, once or again and again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.text import Text

from pdbclient.cli import output
from pdbclient.cli.arguments import seconds
from pdbclient.cli.commands import HELP
from pdbclient.cli.servers import add_config_option, show_servers
from pdbclient.config import load_config, load_sync_config
from pdbclient.errors import ConfigError, Problem, StatusError
from pdbclient.observe.page.document import Document, encode
from pdbclient.observe.page.findings import Level, findings, worst
from pdbclient.observe.page.terminal import lines, rendered
from pdbclient.observe.status_client import read_document

__all__ = ["register"]

INTERVAL = 2.0
_DESCRIPTION = """\
What the gateway of this machine says of itself at its status port (gateway_status_port of puppetdb.conf), and with
--sync-config what the reconciler says (status_port): servers and since when they are healthy or not, requests,
failovers of the last day, the journal, passes, certificates. A browser shows the same at http://127.0.0.1:PORT/.

Without a gateway_status_port and a --sync-config there is no daemon to ask. Then every server of puppetdb.conf is
asked how it is, all at once, and shown with which one a command and a query would go to.
"""
_EXIT_CODES = """\
exit codes:
  0  nothing needs attention; without a daemon: all servers are running
  1  something needs attention, and is shown; without a daemon: some servers are not running
  2  the configuration or the command line is wrong, or a status port is not set
  3  a daemon does not answer at its status port; without a daemon: no server is running
"""


class _Daemon(NamedTuple):
    """A daemon of this machine: what it calls itself, its status port and the setting of that, what starts it."""

    name: str
    port: int
    setting: str
    command: str


class _Told(NamedTuple):
    """What the daemons said, and why the others did not."""

    documents: Sequence[Document]
    errors: Sequence[str]

    @property
    def code(self) -> int:
        """The exit code."""
        if self.errors:
            return 3
        return 1 if any(worst(findings(each)) is not Level.OK for each in self.documents) else 0


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `status`."""
    parser = groups.add_parser(
        "status",
        help=HELP["status"],
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    parser.add_argument("--sync-config", type=Path, metavar="FILE", help="the sync configuration: ask the reconciler")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=INTERVAL,
        metavar="SECONDS",
        help=f"show it anew every so many seconds ({INTERVAL:g}), until interrupted",
    )
    output.add_json_option(parser)
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    daemons = _daemons(args)
    if not daemons:
        return show_servers(args)
    if args.watch is None:
        told = _ask(daemons)
        _print(told, as_json=args.json)
        return told.code
    if args.json or not sys.stdout.isatty():
        while True:
            _print(_ask(daemons), as_json=args.json)
            sys.stdout.flush()
            time.sleep(args.watch)
    return _watch(daemons, args.watch)


def _daemons(args: argparse.Namespace) -> list[_Daemon]:
    """Those that have a status port. Raises `ConfigError` where one has to have it."""
    daemons = []
    # On the host of a PuppetDB there need not be a puppetdb.conf.
    if args.config is not None or args.sync_config is None:
        # Whoever looks need not be allowed to read the keys.
        port = load_config(args.config, check_files=False).gateway_status_port
        if port is not None:
            daemons.append(_Daemon("gateway", port, "gateway_status_port", "pdbclient gateway"))
        elif args.watch is not None or args.sync_config is not None:
            where = args.config or "puppetdb.conf"
            raise _not_set(where, "gateway_status_port", "gateway_status_port = 8089 in [pdbclient]")
    if args.sync_config is not None:
        port = load_sync_config(args.sync_config, check_files=False).status_port
        if port is None:
            raise _not_set(args.sync_config, "status_port", "status_port: 8088")
        daemons.append(_Daemon("sync", port, "status_port", "pdbclient sync run"))
    return daemons


def _not_set(file: Path | str, setting: str, example: str) -> ConfigError:
    why = f"is not set: add, for example, {example} and have the daemon reload (SIGHUP)"
    return ConfigError([Problem(str(file), None, setting, why)])


def _ask(daemons: Sequence[_Daemon]) -> _Told:
    documents, errors = [], []
    for daemon in daemons:
        try:
            document = read_document(daemon.port, daemon.command)
        except StatusError as error:
            errors.append(str(error))
            continue
        if document.program.name == daemon.name:
            documents.append(document)
        else:
            what = f"{daemon.setting} {daemon.port} is the port of another daemon ({document.program.name})"
            errors.append(f"{what}: is `{daemon.command}` running, and has it a port of its own?")
    return _Told(documents, errors)


def _print(told: _Told, *, as_json: bool) -> None:
    for error in told.errors:
        output.note(f"pdbclient: {error}")
    if as_json:
        output.print_json({each.program.name: json.loads(encode(each)) for each in told.documents})
    elif sys.stdout.isatty():
        _console().print(_shown(told, notes=True))
    else:
        for document in told.documents:
            # No table of its own for each: a line says what it is about.
            output.print_table((), lines(document))


def _shown(told: _Told, *, notes: bool) -> RenderableType:
    parts: list[RenderableType] = []
    for document in told.documents:
        parts += [rendered(document, output.shown, notes=notes), ""]
    return Group(*parts)


def _watch(daemons: Sequence[_Daemon], interval: float) -> int:
    # Only here: it takes a while to load.
    from rich.live import Live

    with Live(console=_console(), screen=True, auto_refresh=False) as live:
        while True:
            told = _ask(daemons)
            errors = [Text(output.shown(error), "bold red") for error in told.errors]
            live.update(Group(*errors, _shown(told, notes=False)), refresh=True)
            time.sleep(interval)


def _console() -> Console:
    return Console(markup=False, highlight=False, emoji=False)
