"""`pdbclient sync status` and `trigger`: how the passes go, and one now."""

from __future__ import annotations

import argparse
import time

from pdbclient.cli import output
from pdbclient.cli.sync_options import add_command, add_remote_option, age, chosen_remotes
from pdbclient.config import load_sync_config
from pdbclient.errors import ConfigError, Problem
from pdbclient.observe.status_client import ask_for_pass
from pdbclient.sync.state.status import RemoteStatus, read_status

__all__ = ["register"]

_STATUS = """\
What is known of the passes against each remote: when one last succeeded and last failed, and why; what the latest one
did; what waits to be tried again. It is read from the state file: it works beside a running daemon, and without one.
"""
_STATUS_CODES = """\
exit codes:
  0  the latest pass against each remote succeeded, and not longer ago than --max-lag
  1  the latest pass against a remote failed, there was none yet, or the last success is longer ago than --max-lag, or
     in the future (the clock was set back); or the state file cannot be read
  2  the configuration or the command line is wrong
  4  as 0, but some records did not get here: they failed in the latest pass, or wait, or are quarantined
"""
_TRIGGER = """\
Have the running daemon make a pass now, against all remotes or one, instead of at its interval. It is asked on its
status port, which has to be configured (status_port). This returns at once: passes do not overlap, so it begins when
the one that is under way is done. `pdbclient sync status` tells what became of it.
"""
_TRIGGER_CODES = """\
exit codes:
  0  the daemon will make the pass
  1  no daemon listens on the status port
  2  the configuration or the command line is wrong, or there is no status_port
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `status` and `trigger`."""
    status = add_command(commands, "status", "how the passes go", _STATUS, _STATUS_CODES, _status)
    add_remote_option(status)
    status.add_argument(
        "--max-lag", type=age, metavar="AGE", help="exit 1 when the last success is longer ago than that, like 15m"
    )
    output.add_json_option(status)
    trigger = add_command(
        commands, "trigger", "a pass now, by the running daemon", _TRIGGER, _TRIGGER_CODES, _trigger
    )
    add_remote_option(trigger)
    output.add_json_option(trigger)


def _status(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    urls = {remote.endpoint.url for remote in chosen_remotes(config, args)}
    found = [each for each in read_status(config, time.time()) if each.remote in urls]
    if args.json:
        output.print_json([each.as_json() for each in found])
    else:
        for each in found:
            _print(each)
    if not all(each.succeeded and _in_time(each, args.max_lag) for each in found):
        return 1
    return 4 if any(each.lacking for each in found) else 0


def _in_time(status: RemoteStatus, most: float | None) -> bool:
    # Where the lag cannot be told, nothing says that it is not too long.
    return most is None or (status.lag is not None and status.lag <= most)


def _print(status: RemoteStatus) -> None:
    document = status.as_json()
    hidden = ("ok", "last_pass", "entities", "servers")
    rows = [(key.replace("_", " "), _cell(value)) for key, value in document.items() if key not in hidden]
    output.print_table(("WHAT", "VALUE"), rows)
    output.print_table(
        ("ENTITY", "LAST DONE", "ERROR"),
        [(name, part["last_success"], part["error"]) for name, part in document["entities"].items()],
    )
    output.print_table(
        ("SERVER", "VERSION", "ITS QUERIES TAKE"),
        [(url, part["version"], ", ".join(part["answers"])) for url, part in document["servers"].items()],
    )
    if not status.ran:
        output.note(f"{status.remote}: no pass yet")
    if status.lacking:
        output.note(f"{status.remote}: some records did not get here: see `pdbclient sync quarantine list`")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.0f}" if isinstance(value, float) else value


def _trigger(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    chosen_remotes(config, args)
    if config.status_port is None:
        why = "is not set: add, for example, status_port: 8088 and have the daemon reload (SIGHUP)"
        raise ConfigError([Problem(str(args.config), None, "status_port", why)])
    triggered = ask_for_pass(config.status_port, args.remote.url if args.remote else None)
    if args.json:
        output.print_json({"triggered": triggered})
    else:
        output.note(f"a pass will be made against {', '.join(triggered)}")
    return 0
