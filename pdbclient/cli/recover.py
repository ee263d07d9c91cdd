"""`pdbclient recover`: a server that lost data gets it again from the journal."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pdbclient.cli import output
from pdbclient.cli.commands import HELP
from pdbclient.cli.journal_access import add_since_option, entry_document, opened
from pdbclient.cli.servers import add_config_option
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.urls import parse_server_url
from pdbclient.config.values import SettingError, time_to_live
from pdbclient.errors import ConfigError, Problem
from pdbclient.http.session import Session
from pdbclient.journal.work.recovered import Recovery, Refused
from pdbclient.journal.work.recovery import Progress as Report
from pdbclient.journal.work.recovery import recover

__all__ = ["register"]

_DESCRIPTION = """\
Ask a server what it has, send it from the journal exactly what it lacks, the same bytes again, and look whether it
arrives: after a restored backup, an emptied database, a destroyed queue, or to fill a new server. Of facts, catalogs
and the like the newest of each node counts, of reports all. It goes on while a gateway is at work, no faster than
journal_rate, and waits while the server's queue is long.

It may be interrupted, and repeated: it asks anew each time. A node that was purged on the server while the journal
still has its commands comes back, deactivated where it was, until the server purges it again: --since helps. A node
of which the journal has nothing younger than node-ttl has expired, and would be active again until the server's next
collection: what is lacking of it is left out and counted.
"""
_EXIT_CODES = """\
exit codes:
  0    the server has all that the journal has (--dry-run: it lacks nothing), but for nodes older than node-ttl
  1    something was rejected or did not become visible (--dry-run: something is lacking), the server cannot answer
       about some commands, which are named and left alone, something cannot be read in the journal, or nothing there
       is younger than node-ttl by the clock of this machine
  2    the configuration or the command line is wrong
  3    the server cannot be reached, or went away
  4    the journal cannot be used, or this server is being recovered already: by a gateway that heals it, or by hand
  130  interrupted (Ctrl-C): what was replayed stands
"""

LINE_EVERY = 10.0


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `recover`."""
    parser = groups.add_parser(
        "recover",
        help=HELP["recover"],
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--server", type=_url, required=True, metavar="URL", help="the server to recover, one of server_urls"
    )
    add_since_option(parser, "only what was accepted since then")
    parser.add_argument(
        "--node-ttl",
        type=_ttl,
        metavar="AGE",
        help="the server's node-ttl, where it is not node_ttl of the configuration; 0s: leave no node out",
    )
    parser.add_argument("--dry-run", action="store_true", help="ask and count, and change nothing")
    add_config_option(parser)
    output.add_json_option(parser)
    parser.set_defaults(run=_run)


def _url(text: str) -> Endpoint:
    try:
        return parse_server_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _ttl(text: str) -> float:
    try:
        return time_to_live(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(f"{error}; or 0s") from error


def _run(args: argparse.Namespace) -> int:
    with opened(args.config) as (config, journal):
        endpoint = _known(config, args.server)
        session = Session(endpoint, config.tls, config.timeouts)
        with closing(session), _progress(sys.stderr.isatty()) as progress:
            try:
                result = recover(
                    journal,
                    session,
                    rate=config.journal_rate,
                    since=args.since,
                    node_ttl=config.node_ttl if args.node_ttl is None else args.node_ttl,
                    dry_run=args.dry_run,
                    progress=progress,
                )
            except KeyboardInterrupt:
                output.note("pdbclient: interrupted: what was replayed stands, the same command goes on from there")
                raise
    if args.json:
        output.print_json(_document(result))
    else:
        _print(result)
    return 0 if result.ok else 1


def _known(config: ClientConfig, wanted: Endpoint) -> Endpoint:
    servers = (*config.server_urls, *config.submit_only_server_urls)
    if wanted not in servers:
        why = f"{wanted} is not one of the servers: {', '.join(map(str, servers))}"
        raise ConfigError([Problem("--server", None, None, why)])
    return servers[servers.index(wanted)]


def _print(result: Recovery) -> None:
    rows = [("looked at", result.looked_at), ("had", result.had)]
    rows += [(f"lacked: {name}", n) for name, n in sorted(result.lacked.items())]
    rows += [(f"could not be asked about: {name}", n) for name, n in sorted(result.unknown.items())]
    rows += [("left out, older than node-ttl", result.expired)] if result.expired else []
    if not result.dry_run:
        rows += [
            ("replayed", result.replayed),
            ("verified", result.verified),
            ("rejected", result.rejected),
            ("failed", result.failed),
            ("missing", result.missing),
        ]
    rows += [("damaged in the journal", result.damaged)] if result.damaged else []
    output.print_table(("what", "entries"), rows)
    for name, reason in sorted(result.reasons.items()):
        output.note(f"pdbclient: whether it has its {name!r} commands cannot be seen: {reason}")
    for word, some in (("rejected", result.rejections), ("failed", result.failures)):
        for refused in some:
            entry = refused.entry
            output.note(f"pdbclient: {word}: {entry.id} ({entry.name} of {entry.certname}): {refused.reason}")
    for text in result.damage:
        output.note(f"pdbclient: damaged in the journal, and left out: {text}; see `pdbclient journal verify`")
    for entry in result.examples:
        output.note(
            f"pdbclient: not visible there: {entry.id} ({entry.name} of {entry.certname}): see the server's log"
        )
    named = len(result.rejections) + len(result.failures) + len(result.examples) + len(result.damage)
    if result.rejected + result.failed + result.missing + result.damaged > named:
        output.note("pdbclient: only the first of these are named")
    output.note(f"{result.server}: {_verdict(result)}")


def _verdict(result: Recovery) -> str:
    lacking = sum(result.lacked.values())
    but = f"; {sum(result.unknown.values())} are not known" if result.unknown else ""
    if result.expired:
        but += f"; left out are {result.expired} of nodes that have been silent for longer than node-ttl (--node-ttl)"
    if result.silent:
        but += "; the journal has nothing younger, by the clock of this machine: see whether it is right"
    if result.damaged:
        but += f"; {result.damaged} cannot be read in the journal"
    if result.dry_run:
        return (f"lacks {lacking} commands; nothing was changed" if lacking else "lacks nothing") + but
    return ("has all that the journal has" if result.ok else "does not have all that the journal has") + but


def _document(result: Recovery) -> dict[str, Any]:
    return {
        "server": result.server,
        "ok": result.ok,
        "dry_run": result.dry_run,
        "looked_at": result.looked_at,
        "had": result.had,
        "lacked": result.lacked,
        "expired": result.expired,
        "silent": result.silent,
        "unknown": result.unknown,
        "reasons": result.reasons,
        "replayed": result.replayed,
        "verified": result.verified,
        "rejected": result.rejected,
        "rejections": list(map(_refused_document, result.rejections)),
        "failed": result.failed,
        "failures": list(map(_refused_document, result.failures)),
        "damaged": result.damaged,
        "damage": result.damage,
        "missing": result.missing,
        "missing_examples": [entry_document(entry) for entry in result.examples],
    }


def _refused_document(refused: Refused) -> dict[str, Any]:
    return {"entry": entry_document(refused.entry), "reason": refused.reason}


@contextmanager
def _progress(terminal: bool) -> Iterator[Report]:
    """A bar for each thing that is done on a terminal; elsewhere a line now and then."""
    if not terminal:
        yield _Lines().show
        return
    columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total or None)

        yield show


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_EVERY

    def show(self, what: str, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            output.note(f"{what}: {done}" + (f" of {total}" if total else ""))
