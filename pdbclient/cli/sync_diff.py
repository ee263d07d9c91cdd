"""`pdbclient sync diff`: what differs between two PuppetDBs, for people and for monitoring."""

from __future__ import annotations

import argparse

from pdbclient.cli import output
from pdbclient.cli.arguments import not_negative
from pdbclient.cli.sync_options import (
    add_command,
    add_remote_option,
    add_selection_options,
    age,
    chosen_remotes,
    chosen_selection,
)
from pdbclient.config import load_sync_config
from pdbclient.errors import PdbError
from pdbclient.sync.policy.model import EXPLAINED, Difference, Version
from pdbclient.sync.run.diff import Diff, Scope, diff
from pdbclient.wire.summary import from_millis

__all__ = ["register"]

_DIFF = """\
Ask the local PuppetDB and a remote what they have, and list what differs, whichever side has more. It reads only, and
does not go by what passes remember: it is how they are checked. Reports are compared hour by hour, and listed where
the number, the least or the greatest hash of an hour differ (--full: everywhere), back to the day (UTC) in which
report_ttl began: older days are dropped, each server at its own time.

On a site at work something is always on its way: --min-age leaves out what is younger than a pass may take to bring.
Of differences that no pass can or may make equal, the kinds are marked, and they do not count for the exit code.
"""
_KINDS = "\n".join(f"  {kind:13} {'*' if kind in EXPLAINED else ' '} {kind.meaning}" for kind in Difference)
_EXIT_CODES = f"""\
kinds of differences (those with * do not count):
{_KINDS}

exit codes:
  0  nothing differs that counts
  1  something differs
  2  the configuration or the command line is wrong
  3  it cannot be told: a server cannot be reached, or the state file cannot be read; or a server does not answer in
     full about some entities, which are named, and the others are compared
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `diff`."""
    parser = add_command(commands, "diff", "what differs between here and a remote", _DIFF, _EXIT_CODES, _diff)
    add_remote_option(parser)
    add_selection_options(parser)
    parser.add_argument(
        "--min-age", type=age, default=0.0, metavar="AGE", help="only what is older than that, like 10m"
    )
    parser.add_argument(
        "--examples", type=not_negative, default=5, metavar="N", help="list at most so many of each kind (default: 5)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="list the reports of every hour, and look at what no hash covers (inputs, outcomes of reports)",
    )
    output.add_json_option(parser)


def _diff(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    scope = Scope(chosen_selection(config, args), args.min_age, args.examples, args.full)
    found = []
    for remote in chosen_remotes(config, args):
        try:
            found.append(diff(config, remote.endpoint, scope))
        except PdbError as error:
            # A half answer is none: 1 would say that something differs.
            output.note(f"pdbclient: {error}")
            return 3
    if args.json:
        output.print_json([each.as_json() for each in found])
    else:
        for each in found:
            _print(each)
    if not all(each.complete for each in found):
        return 3
    return 0 if all(each.equal for each in found) else 1


def _print(found: Diff) -> None:
    output.note(f"{found.local} (here) and {found.remote} (there):")
    rows: list[tuple[object, ...]] = []
    for part in found.entities:
        for kind in Difference:
            if number := part.counts[kind]:
                mark = "*" if kind in EXPLAINED else ""
                rows.append((part.entity, f"{kind}{mark}", number, None, None, None))
                rows += [
                    (part.entity, f"{kind}{mark}", None, each.certname, _version(each.here), _version(each.there))
                    for each in part.examples
                    if each.difference is kind
                ]
    if rows:
        output.print_table(("ENTITY", "DIFFERENCE", "NUMBER", "NODE", "HERE", "THERE"), rows)
    for part in found.entities:
        if part.error is not None:
            output.note(f"pdbclient: {part.entity} could not be compared: {part.error}")
    listed = ", ".join(f"{part.entity} {part.here}/{part.there}" for part in found.entities if part.error is None)
    verdict = "nothing differs" if found.equal else "they differ" if found.complete else "not all could be compared"
    if found.equal and rows:
        verdict = "nothing differs that could be made equal"
    output.note(f"{verdict}; listed here/there: {listed}")


def _version(version: Version | None) -> str | None:
    return None if version is None else f"{from_millis(version.millis)} {version.hash}".rstrip()
