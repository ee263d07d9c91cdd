"""`pdbclient sync`: make the local PuppetDB hold what its peers hold, once or for good."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pdbclient.cli import output
from pdbclient.cli.arguments import add_log_options
from pdbclient.config import Remote, SyncConfig, load_sync_config
from pdbclient.errors import ConfigError, Problem
from pdbclient.observe import logs
from pdbclient.sync import (
    Daemon,
    Entity,
    EntityPlan,
    Outcome,
    PassResult,
    plan,
    reconcile,
    stop_on_signals,
)
from pdbclient.sync.context import Progress as Report
from pdbclient.sync.ports import Clock
from pdbclient.wire.summary import from_millis

__all__ = ["register"]

_EXIT_CODES = """\
exit codes:
  0  every pass is done and nothing failed
  1  a pass was refused or stopped by a brake, or some records failed; or another process has the lock
  2  the configuration or the command line is wrong
  3  the remote or the local PuppetDB cannot be reached
"""

_ONCE = """\
One pass against each remote: compare summaries, pull what is newer or missing there, submit it to the
local PuppetDB, and verify that it arrived. Nothing is ever deleted, and the remote is only read.
With --dry-run, print what would be done and what is left alone and why; nothing is changed.
"""

_RUN = """\
Passes against each remote at its interval, one at a time. SIGTERM and SIGINT end it after the current
batch, exit code 0; SIGHUP reads the configuration again and keeps the old one when the new one is wrong.
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `sync` with its subcommands `once` and `run`."""
    group = groups.add_parser(
        "sync",
        help="pull what is missing here from the peers, once or for good",
        description="Make the local PuppetDB hold what its peers hold, by pulling from them.",
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    once = _command(commands, "once", "one pass against each remote", _ONCE)
    once.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    once.add_argument("--remote", metavar="URL", help="only this one of the configured remotes")
    output.add_json_option(once)
    once.set_defaults(run=_once)
    run = _command(commands, "run", "passes at the configured intervals, until stopped", _RUN)
    run.set_defaults(run=_run)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, short: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=short,
        description=text,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the sync configuration, HOCON or ini"
    )
    add_log_options(parser)
    return parser


def _once(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    remotes = _chosen(config, args)
    if args.dry_run:
        _configure_logging(args, config, logging.WARNING)
        plans = [(remote, plan(config, remote.endpoint)) for remote in remotes]
        if args.json:
            output.print_json([_planned(remote, parts) for remote, parts in plans])
        else:
            for remote, parts in plans:
                _print_plan(remote, parts)
        return 0
    terminal = sys.stderr.isatty()
    # A progress bar and a line for each event do not go together.
    _configure_logging(args, config, logging.WARNING if terminal else logging.INFO)
    clock = Clock()
    with stop_on_signals(clock), _progress(terminal) as progress:
        results = reconcile(config, remotes, clock=clock, progress=progress)
    if args.json:
        output.print_json([result.as_json() for result in results])
    else:
        for result in results:
            _print_result(result)
    return max(_exit_code(result) for result in results)


def _run(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    _configure_logging(args, config, logging.INFO)
    clock = Clock()
    daemon = Daemon(lambda: load_sync_config(args.config), clock=clock)
    with stop_on_signals(clock, daemon.reload):
        daemon.run()
    return 0


def _chosen(config: SyncConfig, args: argparse.Namespace) -> Sequence[Remote]:
    if args.remote is None:
        return config.remotes
    wanted = args.remote.rstrip("/").lower()
    chosen = [remote for remote in config.remotes if remote.endpoint.url == wanted]
    if not chosen:
        known = ", ".join(remote.endpoint.url for remote in config.remotes)
        why = f"{args.remote} is not one of the remotes: {known}"
        raise ConfigError([Problem(str(args.config), None, "--remote", why)])
    return chosen


def _configure_logging(args: argparse.Namespace, config: SyncConfig, level: int) -> None:
    logs.configure(args.log_config or config.logging_config, json=args.log_format == "json", level=level)


def _exit_code(result: PassResult) -> int:
    if result.outcome is Outcome.UNREACHABLE:
        return 3
    return 0 if result.ok else 1


def _print_result(result: PassResult) -> None:
    document = result.as_json()
    rows = [(str(e), document["transferred"][e], document["failed"][e]) for e in Entity]
    output.print_table(("ENTITY", "TRANSFERRED", "FAILED"), rows)
    for what, meaning in (
        ("unequal", "stored here with another hash; not pulled again"),
        ("held", "stamped in the future; not pulled"),
    ):
        if document[what]:
            output.note(f"{document[what]} {what}: {meaning}")
    for error in result.errors:
        output.note(f"pdbclient: {error}")
    output.note(f"{result.remote}: {result.outcome} in {result.elapsed_ms / 1000:.1f} s")


def _planned(remote: Remote, plans: Sequence[EntityPlan]) -> dict[str, Any]:
    return {"remote": remote.endpoint.url, "entities": {part.entity: _document(part) for part in plans}}


def _print_plan(remote: Remote, plans: Sequence[EntityPlan]) -> None:
    output.note(f"from {remote.endpoint}:")
    rows = []
    for part in plans:
        act = "deactivate" if part.entity is Entity.NODES else "pull"
        rows += [
            (act, part.entity, part.certnames.get(key, key), from_millis(version.millis), version.hash)
            for key, version in part.pull.items()
        ]
        rows += [("leave", part.entity, part.certnames.get(key, key), "", why) for key, why in part.skipped]
    output.print_table(("DO", "ENTITY", "NODE", "AS OF", "HASH OR REASON"), rows)


def _document(part: EntityPlan) -> dict[str, Any]:
    return {
        "pull": [
            {
                "certname": part.certnames.get(key, key),
                "producer_timestamp": from_millis(version.millis),
                "hash": version.hash or None,
            }
            for key, version in part.pull.items()
        ],
        "skipped": [{"key": key, "reason": str(why)} for key, why in part.skipped],
    }


@contextmanager
def _progress(terminal: bool) -> Iterator[Report | None]:
    """A bar for each entity on a terminal; elsewhere the log says what happens."""
    if not terminal:
        yield None
        return
    columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[Entity, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def show(entity: Entity, done: int, total: int) -> None:
            if entity not in tasks:
                tasks[entity] = bars.add_task(str(entity))
            bars.update(tasks[entity], completed=done, total=total)

        yield show
