"""pdbclient: high availability for open-source PuppetDB.

The public API: `Client` submits commands and asks queries with ordered failover; everything else here is what it
takes and gives. `pdbclient.sync` makes two or more PuppetDBs agree.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdbclient.client import Client, QueryResult, Rows, ServerStatus, Submission
    from pdbclient.config import ClientConfig, load_config
    from pdbclient.errors import (
        AllEndpointsFailed,
        ConfigError,
        IncompleteResponse,
        InvalidCommand,
        JournalBusy,
        JournalCorrupt,
        JournalError,
        JournalFull,
        NotFound,
        PdbError,
        Rejected,
        ServerError,
        StaleAnswer,
        TransportError,
    )
    from pdbclient.wire import Command, parse_collector

__all__ = [
    "AllEndpointsFailed",
    "Client",
    "ClientConfig",
    "Command",
    "ConfigError",
    "IncompleteResponse",
    "InvalidCommand",
    "JournalBusy",
    "JournalCorrupt",
    "JournalError",
    "JournalFull",
    "NotFound",
    "PdbError",
    "QueryResult",
    "Rejected",
    "Rows",
    "ServerError",
    "ServerStatus",
    "StaleAnswer",
    "Submission",
    "TransportError",
    "load_config",
    "parse_collector",
]

# A program that does not configure logging is not written to on standard error.
logging.getLogger("pdbclient").addHandler(logging.NullHandler())

_HOMES = {
    "pdbclient.client": ("Client", "QueryResult", "Rows", "ServerStatus", "Submission"),
    "pdbclient.config": ("ClientConfig", "load_config"),
    "pdbclient.wire": ("Command", "parse_collector"),
}
"""Where the names above come from; those that are not here, from `pdbclient.errors`."""


if not TYPE_CHECKING:
    # Not for a type checker: it would take any name for one of ours.
    def __getattr__(name: str) -> Any:
        """One of the names above, with what it needs, once it is asked for: `import pdbclient` is quick."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = next((home for home, names in _HOMES.items() if name in names), "pdbclient.errors")
        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
