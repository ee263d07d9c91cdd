"""`pdbclient lab`: a real PuppetDB pair on this machine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from pdbclient.cli import output
from pdbclient.cli.commands import HELP
from pdbclient.cli.lab_options import add_program_options, programs_given
from pdbclient.errors import LabError
from pdbclient.lab import ACTIONS, Lab, LabOptions, default_directory
from pdbclient.lab.install import install

__all__ = ["register"]

_DESCRIPTION = """\
A throwaway pair (or more) of real PuppetDBs on this machine, each with a PostgreSQL of its own, on loopback
and on free ports, with certificates, a ready puppetdb.conf and a ready sync configuration per node. The
nodes are called primary, replica, replica2, ...
"""
_EXAMPLE = """\
example:
  pdbclient lab install                    once, as root, on Debian
  pdbclient lab up                         about a minute
  pdbclient status --config DIR/puppetdb.conf
  pdbclient lab fault primary freeze       the primary hangs; who is asked now?
  pdbclient lab fault primary thaw
  pdbclient lab down --purge               nothing is left

Data stay in the directory until `down --purge`. A lab is open to everyone who is logged in on this machine
(plain HTTP on loopback): keep nothing of value in it.
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command group `lab`."""
    lab = groups.add_parser(
        "lab",
        help=HELP["lab"],
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = lab.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _register_up(commands)

    down = commands.add_parser("down", help="stop everything", description="Stop every server of the lab.")
    _add_directory(down)
    down.add_argument("--purge", action="store_true", help="remove the lab's directory too, with all its data")
    down.set_defaults(run=_down)

    status = commands.add_parser(
        "status",
        help="how every node is",
        description="How every node is; exit code 1 unless all of them run.",
    )
    _add_directory(status)
    output.add_json_option(status)
    status.set_defaults(run=_status)

    fault = commands.add_parser(
        "fault",
        help="break one node, or mend it",
        description="kill: SIGKILL the PuppetDB. freeze, thaw: SIGSTOP, SIGCONT: it accepts connections and "
        "says nothing. start: start it, or thaw it, and wait until it is running. stop-postgres, "
        "start-postgres: its database. Asking twice does no harm.",
    )
    fault.add_argument("node", metavar="NODE", help="primary, replica, replica2, ...")
    fault.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    _add_directory(fault)
    fault.set_defaults(run=_fault)

    setup = commands.add_parser(
        "install",
        help="install what a lab runs (root, Debian)",
        description="Install PuppetDB, PostgreSQL and Java from Debian's packages; without root or "
        "elsewhere, say what to install and which options to give to `lab up` (exit code 1).",
    )
    setup.set_defaults(run=_install)


def _register_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = LabOptions()
    up = commands.add_parser(
        "up",
        help="make a lab, or start what is down of it",
        description="Make a lab and wait until every node runs. On a lab that is up it only prints it; "
        "on one that is partly down it starts what is missing, with the same data.",
    )
    _add_directory(up)
    up.add_argument("--nodes", type=int, metavar="N", help="how many PuppetDBs a new lab has (default: 2)")
    output.add_json_option(up)
    add_program_options(up)
    up.add_argument("--heap", metavar="SIZE", help=f"each JVM's maximum heap (default: {defaults.heap})")
    up.add_argument(
        "--gc-interval",
        type=int,
        metavar="MINUTES",
        help=f"PuppetDB's setting (default: {defaults.gc_interval})",
    )
    for setting in ("node_ttl", "node_purge_ttl", "report_ttl"):
        up.add_argument(
            f"--{setting.replace('_', '-')}",
            metavar="TIME",
            help=f"PuppetDB's setting, such as 14d (default: {getattr(defaults, setting)})",
        )
    up.add_argument(
        "--start-timeout",
        type=float,
        metavar="SECONDS",
        help=f"how long a PuppetDB may take to start (default: {defaults.start_timeout:g})",
    )
    up.set_defaults(run=_up)


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir",
        type=Path,
        default=None,
        metavar="DIR",
        help="where the lab is (default: $XDG_STATE_HOME/pdbclient/lab, ~/.local/state/pdbclient/lab; "
        "/var/lib/pdbclient/lab for root, whose servers run as another account that may not enter /root)",
    )


_OPTION_NAMES = ("heap", "gc_interval", "node_ttl", "node_purge_ttl", "report_ttl", "start_timeout")


def _options(args: argparse.Namespace, directory: Path) -> LabOptions | None:
    """What was asked for, on top of what an existing lab has."""
    lab = Lab.find(directory)
    options = LabOptions() if lab is None else lab.options
    given = {name: getattr(args, name) for name in _OPTION_NAMES if getattr(args, name) is not None}
    given |= programs_given(args, options)
    return replace(options, **given) if given else None


def _directory(args: argparse.Namespace) -> Path:
    directory: Path | None = args.dir
    return default_directory() if directory is None else directory


def _document(lab: Lab) -> dict[str, Any]:
    tls = lab.client_tls
    return {
        "directory": lab.directory,
        "puppetdb_conf": lab.puppetdb_conf,
        "ssl_ca_cert": tls.ca,
        "ssl_cert": tls.cert,
        "ssl_key": tls.key,
        "ssl_crl": tls.crl,
        "nodes": [
            {
                "name": node.name,
                "url": node.url,
                "cleartext_url": node.cleartext_url,
                "certname": node.certname,
                "ssl_cert": lab.certificate(node.certname).cert,
                "ssl_key": lab.certificate(node.certname).key,
                "postgres_port": node.postgres_port,
                "sync_conf": lab.sync_conf(node.name),
                "log": node.log,
                "postgres_log": node.postgres_log,
            }
            for node in lab.nodes
        ],
    }


def _up(args: argparse.Namespace) -> int:
    directory = _directory(args)
    options = _options(args, directory)
    if sys.stderr.isatty():
        console = Console(stderr=True, markup=False, highlight=False)
        with console.status("starting the lab"):
            lab = Lab.up(directory, args.nodes, options=options, progress=console.print)
    else:
        lab = Lab.up(directory, args.nodes, options=options, progress=output.note)
    document = _document(lab)
    if args.json:
        output.print_json(document)
        return 0
    rows: list[tuple[str, object]] = []
    for node in document["nodes"]:
        rows += [(node["name"], node["url"]), (f"{node['name']} (plain HTTP)", node["cleartext_url"])]
    rows += [("puppetdb.conf", document["puppetdb_conf"])]
    rows += [(f"sync configuration of {node['name']}", node["sync_conf"]) for node in document["nodes"]]
    rows += [(key, document[key]) for key in ("ssl_ca_cert", "ssl_cert", "ssl_key")]
    output.print_table(("what", "where"), rows)
    return 0


def _down(args: argparse.Namespace) -> int:
    lab = Lab.load(_directory(args))
    lab.down(purge=args.purge)
    output.note(f"the lab in {lab.directory} is {'gone' if args.purge else 'down'}")
    return 0


def _status(args: argparse.Namespace) -> int:
    lab = Lab.load(_directory(args))
    status = lab.status()
    if args.json:
        fields = ("name", "url", "puppetdb", "postgres", "version")
        nodes = [{field: getattr(node, field) for field in fields} for node in status]
        output.print_json({"directory": lab.directory, "nodes": nodes})
    else:
        output.print_table(
            ("node", "puppetdb", "postgres", "version", "url"),
            [(node.name, node.puppetdb, node.postgres, node.version, node.url) for node in status],
        )
    return 0 if all(node.up for node in status) else 1


def _fault(args: argparse.Namespace) -> int:
    output.note(Lab.load(_directory(args)).fault(args.node, args.action))
    return 0


def _install(args: argparse.Namespace) -> int:
    del args
    try:
        install(output.note)
    except LabError as error:
        output.note(str(error))
        return 1
    return 0
