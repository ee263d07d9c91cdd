"""`pdbclient sync`: make the local PuppetDB hold what its peers hold, and see that it does."""

from __future__ import annotations

import argparse

from pdbclient.cli import sync_diff, sync_pass, sync_quarantine, sync_seed, sync_status
from pdbclient.cli.commands import HELP

__all__ = ["register"]


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `sync` with its subcommands."""
    group = groups.add_parser(
        "sync",
        help=HELP["sync"],
        description="Make the local PuppetDB hold what its peers hold, by pulling from them.",
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for part in (sync_pass, sync_seed, sync_diff, sync_status, sync_quarantine):
        part.register(commands)
