"""pdbclient with one of its safeties turned off, for the controls: what then goes wrong has to be found.

`python -m tests.partitions.safeties SAFETY,SAFETY ARGUMENT...` is `pdbclient ARGUMENT...` without these.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

from pdbclient.cli.main import main
from pdbclient.http.staleness import Freshness
from pdbclient.journal.store import postgresql, sqlite
from pdbclient.journal.work.audit import Audit
from pdbclient.journal.work.exported import Exported

__all__ = ["Safety", "command", "turn_off"]


class Safety(StrEnum):
    """What can be turned off."""

    JOURNAL_SYNC = "journal-sync"
    """What the journal has committed is on the disk."""
    VERIFICATION = "verification"
    """What servers took and what they had is looked for."""
    FRESHNESS = "freshness"
    """A server is brought up to date before it answers about exported resources."""


def command(off: Iterable[Safety]) -> list[str]:
    """The command that is `pdbclient`, without these."""
    without = ",".join(sorted(off))
    return [sys.executable, "-m", *([__name__, without] if without else ["pdbclient"])]


def turn_off(safety: Safety) -> None:
    """Turn it off in this process, for good."""
    match safety:
        case Safety.JOURNAL_SYNC:
            _no_sync()
        case Safety.VERIFICATION:
            _replace(Audit, "round", lambda audit: None)
        case Safety.FRESHNESS:
            _replace(Exported, "answer", lambda exported, session, within, ask: (ask(within), Freshness()))
            _replace(Exported, "prepare", lambda exported, session, budget: None)


def _replace(place: Any, name: str, new: Any) -> None:
    # One that is not there any more must not be "turned off".
    getattr(place, name)
    setattr(place, name, new)


def _no_sync() -> None:
    to_file, to_server = sqlite._connect, postgresql.PostgresqlDatabase._prepare

    def connect(path: Path, wait: float) -> sqlite3.Connection:
        connection = to_file(path, wait)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def prepare(database: postgresql.PostgresqlDatabase, connection: Any) -> None:
        to_server(database, connection)
        connection.execute("SET synchronous_commit = off")

    _replace(sqlite, "_connect", connect)
    _replace(postgresql.PostgresqlDatabase, "_prepare", prepare)


if __name__ == "__main__":
    for each in sys.argv[1].split(","):
        turn_off(Safety(each))
    sys.exit(main(sys.argv[2:]))
