"""`pdbclient check gateway` and `check sync`: a daemon's state in the form of a monitoring plugin."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Never

from pdbclient.cli.commands import HELP
from pdbclient.cli.sync_options import age
from pdbclient.config import load_config, load_sync_config
from pdbclient.errors import ConfigError, PdbError, Problem, StatusError
from pdbclient.observe.page.check import Limits, State, checked, unanswered
from pdbclient.observe.status_client import read_document
from pdbclient.observe.terminal import visible

__all__ = ["register"]

_DESCRIPTION = """\
A plugin for Nagios, Icinga and their kin: asks a daemon of this machine at its status port, and prints one line with
the state and performance data; further lines say what else needs attention. What is bad is what the status page says
is bad: an unhealthy server is a warning, no server is critical.
"""
_GATEWAY = """\
Ask the gateway, at gateway_status_port of puppetdb.conf. A warning: a server is unhealthy or lacks something, a
command is pending for ten minutes or parked, a certificate expires within thirty days. Critical: no server takes
commands or answers queries, the journal does not answer, a command is pending for longer than --max-pending, a
certificate has expired, the gateway does not answer.
"""
_SYNC = """\
Ask the reconciler, at status_port of its configuration. A warning: a pass failed or is late, records did not get
here, a certificate expires within thirty days. Critical: no pass has succeeded for longer than --max-lag (where none
ever did: since its start), a safety brake holds, a certificate has expired, the reconciler does not answer.
"""
_CODES = """\
exit codes (those of plugins):
  0  OK
  1  WARNING: something needs attention
  2  CRITICAL: it does not work; or the daemon does not answer
  3  UNKNOWN: the configuration or the command line is wrong
"""
_LIMITS = Limits()


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check`."""
    parser = groups.add_parser(
        "check",
        help=HELP["check"],
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        wrong=_wrong,
    )
    parser.set_defaults(run=_no_daemon)
    daemons = parser.add_subparsers(title="daemons", metavar="DAEMON")
    for name, short, text, default, limit in (
        ("gateway", "the gateway of this machine", _GATEWAY, _LIMITS.pending, "--max-pending"),
        ("sync", "the reconciler of this machine", _SYNC, _LIMITS.lag, "--max-lag"),
    ):
        each = daemons.add_parser(
            name,
            help=short,
            description=text,
            epilog=_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            wrong=_wrong,
        )
        where = each.add_mutually_exclusive_group(required=name == "sync")
        where.add_argument("--config", type=Path, metavar="PATH", help="the configuration, which names the port")
        where.add_argument("--port", type=_port_number, metavar="PORT", help="the port, where it may not be read")
        what = "a command is pending" if name == "gateway" else "no pass succeeded"
        each.add_argument(
            limit,
            dest="limit",
            type=age,
            default=default,
            metavar="AGE",
            help=f"critical when {what} for longer than that, like 30m (default: 1h)",
        )
        each.set_defaults(run=_check, daemon=name)


def _wrong(message: str) -> Never:
    """To monitoring, 2 is CRITICAL: a wrong command line is UNKNOWN, and the first line says why."""
    # The bar begins the performance data.
    print(f"PDBCLIENT UNKNOWN - {visible(message).replace('|', '/')}")
    raise SystemExit(int(State.UNKNOWN))


def _no_daemon(args: argparse.Namespace) -> int:
    _wrong("which daemon? pdbclient check gateway, or pdbclient check sync")


def _check(args: argparse.Namespace) -> int:
    gateway = args.daemon == "gateway"
    limits = Limits(pending=args.limit) if gateway else Limits(lag=args.limit)
    try:
        port = args.port or _port(args)
        document = read_document(port, "pdbclient gateway" if gateway else "pdbclient sync run")
        if document.program.name == args.daemon:
            state, text = checked(document, limits)
        else:
            state = State.UNKNOWN
            text = unanswered(args.daemon, state, f"port {port} is that of another daemon: {document.program.name}")
    except StatusError as error:
        state = State.CRITICAL
        text = unanswered(args.daemon, state, str(error))
    except (PdbError, OSError) as error:
        state = State.UNKNOWN
        text = unanswered(args.daemon, state, str(error))
    print("\n".join(map(visible, text.splitlines())))
    return int(state)


def _port_number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: they are 1 to 65535")
    return int(text)


def _port(args: argparse.Namespace) -> int:
    """The daemon's port. Raises `ConfigError`."""
    # Whoever looks need not be allowed to read the keys.
    if args.daemon == "gateway":
        port, setting = load_config(args.config, check_files=False).gateway_status_port, "gateway_status_port"
    else:
        port, setting = load_sync_config(args.config, check_files=False).status_port, "status_port"
    if port is None:
        why = "is not set, and the daemon can be asked nowhere else: set it, and have the daemon reload (SIGHUP)"
        raise ConfigError([Problem(str(args.config or "puppetdb.conf"), None, setting, why)])
    return port
