"""`pdbclient sync once`, `audit` and `run`: passes, and what became of them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pdbclient.cli import output
from pdbclient.cli.arguments import add_log_options, positive
from pdbclient.cli.sync_options import (
    add_command,
    add_mode_options,
    add_remote_option,
    chosen_mode,
    chosen_remotes,
    configure_logging,
)
from pdbclient.config import Remote, SyncConfig, load_sync_config
from pdbclient.config.puppetdb_conf import read_puppetdb, ttl_differences
from pdbclient.sync import (
    Daemon,
    Entity,
    EntityPlan,
    EntityResult,
    Mode,
    Outcome,
    PassResult,
    plan,
    reconcile,
    stop_on_signals,
)
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.run.context import Progress as Report
from pdbclient.wire.summary import from_millis

__all__ = ["EXIT_CODES", "exit_code", "print_result", "register"]

_logger = logging.getLogger(__name__)

EXIT_CODES = """\
exit codes:
  0    every pass is done and nothing failed
  1    a pass was refused or stopped by a brake, or some entities or records failed; or another process has a lock
  2    the configuration or the command line is wrong
  3    the remote or the local PuppetDB cannot be reached
  130  interrupted: what was transferred stands, the next pass goes on from there
"""
_RUN_EXIT_CODES = """\
exit codes:
  0  told to end
  1  another process has a lock, or the state file or the status port cannot be had
  2  the configuration or the command line is wrong
"""

_ONCE = """\
One pass against each remote: compare summaries, pull what is newer or missing there, submit it to the
local PuppetDB, and verify that it arrived. Nothing is ever deleted, and the remote is only read.
With --dry-run, print what would be done and what is left alone and why; nothing is changed.

A pass that would deactivate more than half of the active nodes here (and more than 2), or more than 50 that are more
than 5 % of them, deactivates none. If they are right, --allow-deactivations N says so: up to N in this pass.
"""

_AUDIT = """\
One pass against each remote that takes nothing for granted: as `once`, but it lists all there is on both sides, and
trusts neither where the last pass ended, nor which hours were equal before, nor numbers. The daemon does the same by
and by, within audit_interval.
"""

_RUN = """\
Passes against each remote at its interval, one at a time. SIGTERM and SIGINT end it after the current
batch, exit code 0; SIGHUP reads the configuration again and keeps the old one when the new one is wrong.

With `status_port` in the configuration it listens on that port of 127.0.0.1: a page for a browser, GET /status (the
same as JSON, which `pdbclient status` asks), GET /metrics (Prometheus), and POST /trigger, which `pdbclient sync
trigger` asks.
"""

_NOTES = (
    ("unequal", "stored here with another hash; not pulled again"),
    ("tied", "equal times and other content, which nothing settles"),
    ("held", "stamped in the future; not pulled"),
    ("unusable", "a server shows something for them that is no such record: `pdbclient sync diff` lists them"),
    ("waiting", "failed before, to be tried again"),
    ("quarantined", "failed three times: see `pdbclient sync quarantine list`"),
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `once`, `audit` and `run`."""
    once = add_command(commands, "once", "one pass against each remote", _ONCE, EXIT_CODES, _once)
    once.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    once.add_argument(
        "--allow-deactivations",
        type=positive,
        metavar="N",
        help="a pass may deactivate up to N active nodes here, which a brake else keeps from going all at once",
    )
    audit = add_command(commands, "audit", "one pass that takes nothing for granted", _AUDIT, EXIT_CODES, _audit)
    for parser in (once, audit):
        add_remote_option(parser)
        add_mode_options(parser)
        output.add_json_option(parser)
        add_log_options(parser)
    run = add_command(
        commands, "run", "passes at the configured intervals, until stopped", _RUN, _RUN_EXIT_CODES, _run
    )
    add_log_options(run)


def exit_code(result: PassResult) -> int:
    """What a pass comes to."""
    if result.outcome is Outcome.STOPPED:
        return 130
    if result.outcome is Outcome.UNREACHABLE:
        return 3
    return 0 if result.ok else 1


def print_result(result: PassResult) -> None:
    """A pass, for a person."""
    parts = [(entity, result.entities.get(entity, EntityResult())) for entity in Entity]
    rows = [(str(entity), part.transferred, part.failed) for entity, part in parts]
    output.print_table(("ENTITY", "TRANSFERRED", "FAILED"), rows)
    for what, meaning in _NOTES:
        if number := sum(getattr(part, what) for _, part in parts):
            output.note(f"{number} {what}: {meaning}")
    for error in result.errors:
        output.note(f"pdbclient: {error}")
    ended = str(result.outcome)
    if result.unreachable not in (None, result.remote):
        # Else the remote would seem to be the one.
        ended = f"not pulled from: the local server {result.unreachable} is unreachable"
    output.note(f"{result.remote}: {ended} in {result.elapsed_ms / 1000:.1f} s")


def _once(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    remotes = chosen_remotes(config, args)
    mode = replace(chosen_mode(config, args), deactivations=args.allow_deactivations)
    if not args.dry_run:
        return _passes(args, config, remotes, mode)
    configure_logging(args, config, logging.WARNING)
    plans = [(remote, plan(config, remote.endpoint, mode=mode)) for remote in remotes]
    if args.json:
        output.print_json([_planned(remote, parts) for remote, parts in plans])
    else:
        for remote, parts in plans:
            _print_plan(remote, parts)
    return 1 if any(part.error for _, parts in plans for part in parts) else 0


def _audit(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    return _passes(args, config, chosen_remotes(config, args), chosen_mode(config, args, audit=True))


def _passes(args: argparse.Namespace, config: SyncConfig, remotes: Sequence[Remote], mode: Mode) -> int:
    terminal = sys.stderr.isatty()
    # A progress bar and a line for each event do not go together.
    configure_logging(args, config, logging.WARNING if terminal else logging.INFO)
    clock = Clock()
    with stop_on_signals(clock), _progress(terminal) as progress:
        results = reconcile(config, remotes, mode=mode, clock=clock, progress=progress)
    if args.json:
        output.print_json([result.as_json() for result in results])
    else:
        for result in results:
            print_result(result)
    return max(exit_code(result) for result in results)


def _run(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    configure_logging(args, config)
    puppetdb = read_puppetdb(config.local)
    for problem in (*config.warnings, *(ttl_differences(config, puppetdb) if puppetdb is not None else ())):
        _logger.warning("%s", problem)
    clock = Clock()
    daemon = Daemon(lambda: load_sync_config(args.config), clock=clock)
    with stop_on_signals(clock, daemon.reload):
        daemon.run()
    return 0


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
        rows += [("leave", part.entity, part.certnames.get(key, key), "", why.meaning) for key, why in part.skipped]
    output.print_table(("DO", "ENTITY", "NODE", "AS OF", "HASH OR REASON"), rows)
    for part in plans:
        if part.error is not None:
            output.note(f"pdbclient: {part.entity}: {part.error}")


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
        "error": part.error,
    }


@contextmanager
def _progress(terminal: bool) -> Iterator[Report | None]:
    """A bar for each entity on a terminal; elsewhere the log says what happens."""
    if not terminal:
        yield None
        return
    columns = (TextColumn("{task.description:15}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[Entity, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def show(entity: Entity, done: int, total: int) -> None:
            if entity not in tasks:
                tasks[entity] = bars.add_task(str(entity))
            bars.update(tasks[entity], completed=done, total=total)

        yield show
