"""`pdbclient journal`: what the journal holds, and what an operator may do about it."""

from __future__ import annotations

import argparse
import gzip
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from pdbclient.cli import output
from pdbclient.cli.arguments import positive
from pdbclient.cli.commands import HELP
from pdbclient.cli.journal_access import add_since_option, entry_document, moment_text, opened, storable
from pdbclient.cli.servers import add_config_option
from pdbclient.config import without_password
from pdbclient.errors import JournalCorrupt
from pdbclient.journal import CopyState, EntryState, Journal
from pdbclient.journal.ledger import entries as store
from pdbclient.journal.ledger.replay_sql import extent
from pdbclient.journal.ledger.upkeep import ROOM, kept_since, left_behind, prune, structure, verify
from pdbclient.journal.model import Entry, Listed
from pdbclient.journal.store.lock_owner import lock_owner
from pdbclient.journal.work.submission import targets_of, urls_of
from pdbclient.wire.command import Command

__all__ = ["register"]

_GROUP = """\
The journal has every command that the gateway (or a client) accepted, whatever becomes of the servers. These
commands also work while a gateway is at work on it.
"""
_EXIT_CODES = """\
exit codes:
  0  done
  1  no such entry, nothing to retry, or --yes is needed
  2  the configuration or the command line is wrong, or no journal is configured
  4  the journal cannot be used, or is damaged
"""
_STATUS = """\
How many entries the journal has, by state, how many are pending for which server, how many bytes it takes,
and which process is at work on it. With ordered failover, `any server` has those that no server took yet.

states:
  pending    to be delivered: no server took it yet, or, with command_broadcast, not everybody
  delivered  taken by a server
  parked     rejected by a server: see `list --state parked`, then `retry` or `drop` it

Of catalogs, facts and catalog inputs, older ones of a node are dropped when a server shows a newer one. All else is
kept for journal_max_age, as far as journal_max_bytes allows, so that a lost server can be rebuilt. What retention
dropped of each command is told by the newest of them (`dropped until`). What only servers took that are not
configured any more (`delivered, on no configured server`) goes by its age: `pdbclient recover` sends it to others.
"""
_LIST = "List entries, oldest first, without their contents."
_SHOW = """\
Show one entry, by its id, its own uuid, or a uuid that a server gave: what it is, and what is known of it on each
server. With --body, print its exact JSON instead: it can hold sensitive data, and is shown nowhere else.
"""
_RETRY = """\
Requeue entries that a server rejected, for the gateway to deliver as if they were new.
"""
_DROP = """\
Take entries out of the journal for good. For those that no configured server has, --yes is needed: nobody else has
them.
"""
_PRUNE = """\
Drop now what journal_max_age and journal_max_bytes say, as the gateway does every minute. What is pending
and no configured server has is never dropped.
"""
_VERIFY = """\
Read every entry again and compare its checksum; and let the database check its own structure, unless a gateway is
at work on the journal: that would keep it waiting.
"""

PAGE = 500
VERIFY_PAGE = 100


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `journal` with its subcommands."""
    group = groups.add_parser(
        "journal",
        help=HELP["journal"],
        description=_GROUP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _command(commands, "status", "how much it holds, and what is pending", _STATUS, _status)
    listing = _command(commands, "list", "entries, oldest first", _LIST, _list)
    listing.add_argument("--state", choices=[str(state) for state in EntryState], help="only those in this state")
    listing.add_argument("--certname", type=storable, metavar="CERTNAME", help="only those of this node")
    add_since_option(listing, "only those accepted since then")
    listing.add_argument("--limit", type=positive, default=100, metavar="N", help="at most so many (default: 100)")
    show = _command(commands, "show", "one entry, and where it is", _SHOW, _show)
    show.add_argument(
        "entry", type=storable, metavar="ID|UUID", help="its id, its uuid, or a uuid that a server gave"
    )
    show.add_argument("--body", action="store_true", help="print the command's exact JSON, and nothing else")
    retry = _command(commands, "retry", "requeue entries that a server rejected", _RETRY, _retry)
    retry.add_argument("entries", nargs="*", type=positive, metavar="ID", help="an entry's id")
    retry.add_argument("--all-parked", action="store_true", help="all that are parked")
    drop = _command(commands, "drop", "take entries out for good", _DROP, _drop)
    drop.add_argument("entries", nargs="+", type=positive, metavar="ID", help="an entry's id")
    drop.add_argument("--yes", action="store_true", help="also those that no configured server has")
    _command(commands, "prune", "drop what is older than it need be kept", _PRUNE, _prune)
    _command(commands, "verify", "check every entry for damage", _VERIFY, _verify)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    short: str,
    text: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=short,
        description=text,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    output.add_json_option(parser)
    parser.set_defaults(run=run)
    return parser


def _status(args: argparse.Namespace) -> int:
    with opened(args.config) as (config, journal):
        counts, left = journal.run(store.counts), journal.run(left_behind, urls_of(config))
        dropped = {name: moment_text(at) for name, at in journal.run(kept_since).items()}
        place = str(config.journal)
        pid = None if "://" in place else lock_owner(Path(place))
    states = {str(state): counts.entries.get(state, 0) for state in EntryState}
    oldest = None if counts.oldest_pending is None else moment_text(counts.oldest_pending)
    pending = {target or "any server": n for target, n in sorted(counts.pending.items())}
    if args.json:
        document = {
            "journal": without_password(place),
            "held_by": pid,
            "entries": states,
            "bytes": counts.bytes,
            "pending": [{"server": target or None, "entries": n} for target, n in sorted(counts.pending.items())],
            "oldest_pending": oldest,
            "on_no_configured_server": left,
            "dropped_until": dropped,
        }
        output.print_json(document)
        return 0
    rows: list[tuple[str, object]] = [("journal", without_password(place))]
    if "://" not in place:
        rows.append(("held by pid", pid))
    rows += [(state, n) for state, n in states.items()]
    # Else of no interest: only after a server was replaced, or got another URL.
    rows += [("delivered, on no configured server", left)] if left else []
    rows.append(("bytes", counts.bytes))
    rows += [(f"pending for {target}", n) for target, n in pending.items()]
    rows.append(("oldest pending", oldest))
    rows += [(f"dropped until: {name}", at) for name, at in dropped.items()]
    output.print_table(("what", "value"), rows)
    return 0


def _list(args: argparse.Namespace) -> int:
    with opened(args.config) as (_, journal):
        found = list(_listed(journal, args))
    if args.json:
        output.print_json([entry_document(entry) for entry in found])
        return 0
    columns = ("id", "received", "state", "command", "certname", "producer timestamp", "on", "reason")
    output.print_table(columns, [_row(entry) for entry in found])
    if len(found) == args.limit:
        output.note(f"only the first {args.limit} are shown: --limit shows more")
    return 0


def _listed(journal: Journal, args: argparse.Namespace) -> Iterator[Listed]:
    """In pages: a gateway may be waiting for its turn. Damaged ones make a page shorter."""
    state = None if args.state is None else EntryState(args.state)
    after, left = 0, args.limit
    conditions = {"state": state, "certname": args.certname, "since": args.since}
    while left and (page := journal.run(store.listing, **conditions, after=after, limit=min(left, PAGE))):
        yield from page
        after, left = page[-1].id, left - len(page)


def _row(entry: Listed) -> tuple[object, ...]:
    there = [copy.server for copy in entry.copies if copy.state in (CopyState.ACCEPTED, CopyState.CONFIRMED)]
    reasons = [copy.reason for copy in entry.copies if copy.state is CopyState.REJECTED]
    return (
        entry.id,
        moment_text(entry.received),
        entry.state,
        entry.name,
        entry.certname,
        entry.producer_timestamp,
        ", ".join(there) or None,
        "; ".join(reasons) or None,
    )


def _show(args: argparse.Namespace) -> int:
    with opened(args.config) as (_, journal):
        entry = journal.run(store.show, args.entry)
        stored = journal.fetch([entry.id]).get(entry.id) if entry is not None and args.body else None
    if entry is None:
        return _none(args.entry)
    if args.body:
        if not isinstance(stored, Entry):
            raise JournalCorrupt(f"entry {entry.id} is damaged: {stored}")
        sys.stdout.flush()
        sys.stdout.buffer.write(_plain(stored.command))
        return 0
    if args.json:
        output.print_json(entry_document(entry))
        return 0
    document = entry_document(entry)
    copies = document.pop("copies")
    output.print_table(("what", "value"), [(key.replace("_", " "), value) for key, value in document.items()])
    columns = ("server", "state", "uuid", "at", "reason")
    if copies:
        sys.stdout.write("\n")
        output.print_table(columns, [[copy[column] for column in columns] for copy in copies])
    return 0


def _plain(command: Command) -> bytes:
    """The command's JSON, as whoever submitted it wrote it."""
    if command.encoding != "gzip":
        return command.body
    try:
        return gzip.decompress(command.body)
    except (OSError, EOFError, zlib.error) as error:
        raise JournalCorrupt(f"the body is not the gzip that it was said to be: {error}") from error


def _retry(args: argparse.Namespace) -> int:
    if args.all_parked == bool(args.entries):
        output.note("pdbclient: name entries by their ids, or give --all-parked")
        return 2
    with opened(args.config) as (config, journal):
        ids = _parked(journal) if args.all_parked else args.entries
        possible, urls = _possible(ids), urls_of(config)
        done = [entry for entry in possible if journal.run(store.retry, entry, targets_of(config), urls)]
    not_done = [entry for entry in ids if entry not in set(done)]
    if args.json:
        output.print_json({"retried": done, "nothing_to_retry": not_done})
    else:
        output.print_table(("retried",), [(entry,) for entry in done])
    for entry in not_done:
        output.note(f"pdbclient: {entry}: no server called it bad, or there is no such entry")
    return 1 if not_done else 0


def _parked(journal: Journal) -> list[int]:
    found: list[int] = []
    while page := journal.run(store.listing, state=EntryState.PARKED, after=found[-1] if found else 0, limit=PAGE):
        found += [entry.id for entry in page]
    return found


def _drop(args: argparse.Namespace) -> int:
    ids = sorted(set(args.entries))
    with opened(args.config) as (config, journal):
        servers = urls_of(config)
        found = {entry.id: entry for entry in journal.run(store.listed, _possible(ids))}
        damaged = journal.run(store.damage, _possible(ids))
        missing = [entry for entry in ids if entry not in found and entry not in damaged]
        alone = sorted([entry.id for entry in found.values() if not _is_elsewhere(entry, servers)] + list(damaged))
        if missing:
            return _none(*missing)
        if alone and not args.yes:
            output.note(
                f"pdbclient: no configured server has {_names(alone)}: --yes drops them for good; nothing was dropped"
            )
            return 1
        # A few at a time: that works on a full disk, too.
        dropped = sum(journal.run(store.drop, ids[at : at + ROOM], journal.writer) for at in range(0, len(ids), ROOM))
    if args.json:
        output.print_json({"dropped": dropped})
    else:
        output.note(f"{dropped} dropped")
    return 0


def _possible(ids: Sequence[int]) -> list[int]:
    """Those that an entry can have: the databases know no higher numbers."""
    return [entry for entry in ids if entry < 1 << 63]


def _is_elsewhere(entry: Listed, servers: Collection[str]) -> bool:
    """Whether one of `servers` has it, or something newer in its place."""
    return any(copy.state is not CopyState.REJECTED and copy.server in servers for copy in entry.copies)


def _prune(args: argparse.Namespace) -> int:
    with opened(args.config) as (config, journal):
        before, dropped = journal.clock() - config.journal_max_age, 0
        while some := journal.run(prune, before, config.journal_max_bytes, PAGE, journal.writer, urls_of(config)):
            dropped += some
    if args.json:
        output.print_json({"dropped": dropped})
    else:
        output.note(f"{dropped} dropped")
    return 0


def _verify(args: argparse.Namespace) -> int:
    with opened(args.config) as (config, journal):
        place = str(config.journal)
        pid = None if "://" in place else lock_owner(Path(place))
        wrong = [] if pid is not None else journal.run(structure)
        damaged, checked = _checked(journal)
    if args.json:
        document = [{"id": entry, "reason": reason} for entry, reason in damaged.items()]
        output.print_json({"entries": checked, "damaged": document, "structure": None if pid is not None else wrong})
    else:
        output.print_table(("id", "damage"), [*damaged.items(), *((None, line) for line in wrong)])
    if pid is not None:
        output.note(f"the structure was not checked: pid {pid} is at work on the journal")
    output.note(f"{checked} entries checked, {len(damaged)} damaged")
    return 4 if damaged or wrong else 0


def _checked(journal: Journal) -> tuple[dict[int, str], int]:
    damaged: dict[int, str] = {}
    checked = 0
    first, last, _ = journal.run(extent)
    after: int | None = first - 1
    with output.progress("checking", (last - first) // VERIFY_PAGE + 1) as advance:
        while after is not None:
            verified = journal.run(verify, after, VERIFY_PAGE)
            damaged |= verified.damaged
            checked += verified.entries
            after = verified.last
            advance()
    return damaged, checked


def _none(*named: object) -> int:
    output.note(f"pdbclient: the journal has no entry {_names(named)}")
    return 1


def _names(named: Sequence[object]) -> str:
    return ", ".join(map(str, named[:10])) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
