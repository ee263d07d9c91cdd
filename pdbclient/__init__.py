"""pdbclient: high availability for open-source PuppetDB.

The public API: `Client` submits commands and asks queries with ordered failover; everything else here is what it
takes and gives. `pdbclient.sync` makes two or more PuppetDBs agree.
"""

import logging

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
