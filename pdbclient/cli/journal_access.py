"""What the commands about the journal have in common: to open it, to name a moment, to show an entry."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pdbclient.cli.journal_owner import as_owner
from pdbclient.config import ClientConfig, load_config
from pdbclient.config.values import SettingError, span
from pdbclient.errors import ConfigError, Problem
from pdbclient.journal import Journal
from pdbclient.journal.model import CopyState, Listed, is_moment
from pdbclient.wire import timestamp

__all__ = ["add_since_option", "entry_document", "moment_text", "opened", "storable"]


@contextmanager
def opened(path: Path | None) -> Iterator[tuple[ClientConfig, Journal]]:
    """The journal of puppetdb.conf (where Puppet has it, when None), beside a gateway that may be at work on it.

    Raises `ConfigError` when there is none configured, and `JournalError`.
    """
    config = load_config(path)
    if config.journal is None:
        files = (origin.rpartition(":")[0] for origin in config.origins.values() if ":" in origin)
        file = next(files, "puppetdb.conf")
        why = (
            "is not set: add, for example, journal = /var/lib/pdbclient/journal.db to the section [pdbclient], and "
            "restart the gateway, which makes the file"
        )
        raise ConfigError([Problem(file, None, "journal", why)])
    with as_owner(config.journal):
        # Somebody sits before it, and can break it off.
        journal = Journal.open(config.journal, beside=True, patience=None)
    with journal:
        yield config, journal


def add_since_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Give a command its `--since TIME` (`args.since`: seconds since 1970, or None)."""
    parser.add_argument(
        "--since", type=_moment, metavar="TIME", help=f"{what}: a timestamp with a zone, or an age like 2h or 7d"
    )


def storable(text: str) -> str:
    """An argument that a journal can be asked for."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is in no journal: it is not UTF-8") from error
    return text


def moment_text(at: float) -> str:
    """A moment in seconds since 1970 as PuppetDB writes it; what was damaged and is none, as such."""
    if not is_moment(at):
        return f"damaged: {at!r}"
    return timestamp.utc_text(datetime.fromtimestamp(at, UTC))


def entry_document(entry: Listed) -> dict[str, Any]:
    """An entry for `--json`."""
    return {
        "id": entry.id,
        "uuid": entry.uuid,
        "received": moment_text(entry.received),
        "state": entry.state,
        "command": entry.name,
        "version": entry.version,
        "certname": entry.certname,
        "producer_timestamp": entry.producer_timestamp,
        "length": entry.length,
        "stored_bytes": entry.size,
        "copies": [
            {
                "server": copy.server,
                "state": copy.state,
                "uuid": copy.uuid,
                "at": moment_text(copy.at),
                # Of one that was accepted, it is for the journal alone.
                "reason": copy.reason if copy.state is CopyState.REJECTED else None,
            }
            for copy in entry.copies
        ],
    }


def _moment(text: str) -> float:
    try:
        return time.time() - span(text)
    except SettingError:
        pass
    try:
        return timestamp.to_millis(text) / 1000
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor an age like 2h or 7d") from error
