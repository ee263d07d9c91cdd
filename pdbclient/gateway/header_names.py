"""The headers that a gateway adds to answers, and to what it sends on. Pure.

The reference page in docs/ is generated from `MEANINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pdbclient.http.via import HEADER as GATEWAY

__all__ = [
    "FAILED_OVER",
    "GATEWAY",
    "JOURNALLED",
    "MEANINGS",
    "MISSING",
    "MISSING_SINCE",
    "PREFIX",
    "SERVER",
    "STALE",
]

PREFIX = "X-Pdbclient-"
SERVER = f"{PREFIX}Server"
FAILED_OVER = f"{PREFIX}Failed-Over"
MISSING = f"{PREFIX}Missing"
MISSING_SINCE = f"{PREFIX}Missing-Since"
JOURNALLED = f"{PREFIX}Journalled"
STALE = f"{PREFIX}Stale"

MEANINGS: Mapping[str, tuple[str, str]] = {
    SERVER: ("every answer that a PuppetDB gave", "URL of that PuppetDB"),
    FAILED_OVER: (
        "every answer that a PuppetDB gave",
        "`true` when a server before it in `server_urls` was asked in vain, or not asked",
    ),
    MISSING: ("queries", "how many commands another server has taken and this one is not known to have"),
    MISSING_SINCE: ("queries, when something is missing", "producer timestamp of the oldest of them"),
    JOURNALLED: ("commands", "`true`: no server took it yet, the journal has it (`journal`)"),
    STALE: (
        "queries of exported resources, with a journal",
        "`true` when the server could not be brought up to date",
    ),
    GATEWAY: ("requests to a PuppetDB", "names of the gateways that it came through, against loops"),
}
"""Header -> where it is, and its value."""
