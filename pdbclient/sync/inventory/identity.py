"""What a server shows by which it is recognised: when it received its newest records, and what its process is.

Records that cannot be used say nothing here: those whose affair they are name them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pdbclient.errors import ServerError
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.rows import read_rows
from pdbclient.sync.policy.identity import Arrivals, Process
from pdbclient.wire import query
from pdbclient.wire.summary import StoredFactset, StoredReport, to_millis

__all__ = ["newest_factsets", "newest_reports", "process"]

NEWEST = 50
PROCESS_PATH = "/status/v1/services/status-service?level=debug"

_report = msgspec.json.Decoder(StoredReport).decode
_factset = msgspec.json.Decoder(StoredFactset).decode


def newest_reports(server: Server, within: float) -> Arrivals:
    """Those produced last, for which the server has an index."""
    rows = server.rows("/reports", query=query.stored_reports(), params=_newest("producer_timestamp"), within=within)
    return dict(read_rows(server, rows, _read_report, {}, "hash"))


def newest_factsets(server: Server, within: float) -> Arrivals:
    """Those received last."""
    rows = server.rows("/factsets", query=query.stored_factsets(), params=_newest("timestamp"), within=within)
    return dict(read_rows(server, rows, _read_factset, {}))


def process(server: Server, within: float) -> Process | None:
    """The server's process, now; None where it does not tell."""
    try:
        found: Any = server.document(PROCESS_PATH, within=within).value
    except ServerError:
        return None
    metrics = _inner(found, "status", "experimental", "jvm-metrics")
    began, used = _inner(metrics, "start-time-ms"), _inner(metrics, "memory-pools", "Metaspace", "usage", "used")
    return Process(began, used if isinstance(used, int) else 0) if isinstance(began, int) else None


def _inner(found: Any, *names: str) -> Any:
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _read_report(row: bytes) -> tuple[str, int]:
    found = _report(row)
    return found.hash, to_millis(found.receive_time)


def _read_factset(row: bytes) -> tuple[str, int]:
    found = _factset(row)
    return f"{found.certname} {found.hash} {found.producer_timestamp}", to_millis(found.timestamp)


def _newest(field: str) -> dict[str, Any]:
    return {"limit": NEWEST, "order_by": [{"field": field, "order": "desc"}]}
