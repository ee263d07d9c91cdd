"""`pdbclient sync quarantine`: what the passes leave alone, and what an operator may do about it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from pdbclient.cli import output
from pdbclient.cli.sync_options import add_command, add_entity_option, add_remote_option, chosen_remotes
from pdbclient.config import SyncConfig, load_sync_config
from pdbclient.sync import Difference, Entity, Version
from pdbclient.sync.state.store import Refused, State, state_path
from pdbclient.wire.summary import from_millis

__all__ = ["register"]

_GROUP = """\
Records that the local PuppetDB did not take, and records that it stored with another hash. The passes remember the
version, and leave it alone; a newer one of the same record is pulled as any other. These commands also work while a
daemon runs, whose next pass goes by what they did.

states:
  waiting      failed, and will be tried again by itself
  quarantined  failed three times, and is left alone until `retry`, or until there is a newer one
  unequal      stored, but with another hash: a transfer does not preserve everything (some floats, NUL). This is as
               it was then: `pdbclient sync diff` tells what differs now
  dropped      left alone because an operator said so
"""
_EXIT_CODES = """\
exit codes:
  0  done
  1  there is no such record; or the state file cannot be used
  2  the configuration or the command line is wrong
"""
_LIST = "List what is left alone and may be named to the other commands, each with the reason."
_SHOW = "Show all that is known of a record: by its key, which is a certname, or the hash of a report."
_RETRY = "Forget what went wrong with records, so that the next pass pulls them again. For when the cause is mended."
_DROP = """\
Leave records alone for good: they are neither tried again nor counted as waiting or quarantined. Nothing is deleted
on a server, and a newer version of the same record is pulled as any other. `retry` takes it back.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `quarantine` with its subcommands."""
    group = commands.add_parser(
        "quarantine",
        help="what the passes leave alone, and why",
        description=_GROUP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, short, text, run in (
        ("list", "all of them, with the reason", _LIST, _list),
        ("show", "all that is known of one", _SHOW, _show),
        ("retry", "have them pulled again", _RETRY, _retry),
        ("drop", "leave them alone for good", _DROP, _drop),
    ):
        parser = add_command(below, name, short, text, _EXIT_CODES, run)
        if name == "show":
            parser.add_argument("key", metavar="KEY", help="a certname, or the hash of a report")
        if name in ("retry", "drop"):
            parser.add_argument("keys", nargs="*", metavar="KEY", help="a certname, or the hash of a report")
            parser.add_argument("--all", action="store_true", help="all that `list` shows")
        add_entity_option(parser)
        add_remote_option(parser)
        output.add_json_option(parser)


@dataclass(frozen=True, slots=True)
class _Row:
    """One record that is left alone. `retry_at` is in seconds since 1970; None: it is not tried again by itself."""

    remote: str
    entity: Entity
    key: str
    state: str
    version: Version
    tries: int | None = None
    retry_at: float | None = None
    reason: str = "stored, but with another hash"

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "entity": str(self.entity),
            "key": self.key,
            "producer_timestamp": from_millis(self.version.millis),
            "hash": self.version.hash or None,
            "tries": self.tries,
            "retry_at": None if self.retry_at is None else from_millis(int(self.retry_at * 1000)),
            "reason": self.reason,
            "remote": self.remote,
        }


def _list(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    found = list(_rows(config, args))
    if args.json:
        output.print_json([row.as_json() for row in found])
    else:
        columns = ("state", "entity", "key", "producer_timestamp", "tries", "retry_at", "reason", "remote")
        documents = [row.as_json() for row in found]
        headings = [column.replace("_", " ").upper() for column in columns]
        output.print_table(headings, [[document[column] for column in columns] for document in documents])
    return 0


def _show(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    found = [row for row in _rows(config, args) if row.key == args.key]
    if not found:
        return _none([args.key])
    if args.json:
        output.print_json([row.as_json() for row in found])
        return 0
    for row in found:
        output.print_table(
            ("what", "value"), [(name.replace("_", " "), value) for name, value in row.as_json().items()]
        )
    return 0


def _retry(args: argparse.Namespace) -> int:
    return _change(args, State.retry, "retried")


def _drop(args: argparse.Namespace) -> int:
    return _change(args, State.drop, "dropped")


def _change(args: argparse.Namespace, change: Callable[[State, str, Entity, str], None], done: str) -> int:
    if args.all == bool(args.keys):
        output.note("pdbclient: name records by their keys, or give --all")
        return 2
    config = load_sync_config(args.config)
    wanted = [row for row in _rows(config, args) if args.all or row.key in args.keys]
    if wanted:
        with closing(State(state_path(config.state_dir, config.local))) as state:
            for row in wanted:
                change(state, row.remote, row.entity, row.key)
    if args.json:
        output.print_json({done: [row.as_json() for row in wanted]})
    else:
        output.print_table(("ENTITY", "KEY", "REMOTE"), [(row.entity, row.key, row.remote) for row in wanted])
    found = {row.key for row in wanted}
    missing = [key for key in args.keys if key not in found]
    return _none(missing) if missing else 0


def _none(keys: Sequence[str]) -> int:
    output.note(f"pdbclient: nothing is left alone of {', '.join(keys)}")
    return 1


def _rows(config: SyncConfig, args: argparse.Namespace) -> Iterator[_Row]:
    """What is left alone, as the options select. What is known of a remote that is configured no more is left out."""
    remotes = {remote.endpoint.url for remote in chosen_remotes(config, args)}
    now = time.time()
    with closing(State(state_path(config.state_dir, config.local), read_only=True)) as state:
        rows = [_refused(remote, entity, key, each, now) for remote, entity, key, each in state.refusals()]
        rows += [_Row(remote, entity, key, "unequal", version) for remote, entity, key, version in state.unequals()]
    for row in rows:
        if row.remote in remotes and (args.entity is None or row.entity in args.entity):
            yield row


def _refused(remote: str, entity: Entity, key: str, known: Refused, now: float) -> _Row:
    # One that is due still waits for the pass that tries it.
    verdict = known.verdict(now) or Difference.WAITING
    retry_at = known.retry_at if verdict is Difference.WAITING else None
    # 0: it was stored, with another hash.
    return _Row(remote, entity, key, str(verdict), known.version, known.tries or None, retry_at, known.reason)
