"""Status documents to render: a gateway and a reconciler, healthy and not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pdbclient.observe.page.document import (
    Certificate,
    Circuit,
    Document,
    EntityPass,
    Exported,
    Failover,
    JournalFigures,
    Outage,
    Program,
    Remote,
    Requests,
    Server,
)

__all__ = ["NOW", "PRIMARY", "REPLICA", "WHY", "ago", "gateway", "reconciler"]

NOW = datetime(2026, 1, 31, 19, 40, tzinfo=UTC)
PRIMARY, REPLICA = "https://db1.example.com:8081", "https://db2.example.com:8081"
WHY = "not sent: connection refused"


def ago(**span: float) -> datetime:
    """So long before the documents."""
    return NOW - timedelta(**span)


def gateway(*, failed_over: bool = False, **changes: object) -> Document:
    """A gateway before two servers, with a journal; `failed_over`: the first one is unhealthy for 95 s now."""
    began = ago(hours=30)
    circuits = {
        name: tuple(Circuit(operation, "closed", began) for operation in ("command", "query"))
        for name in (PRIMARY, REPLICA)
    }
    values: dict[str, object] = {}
    if failed_over:
        since = ago(seconds=95)
        circuits[PRIMARY] = tuple(Circuit(operation, "open", since, WHY) for operation in ("command", "query"))
        values |= {
            "failovers": tuple(Failover(since, kind, PRIMARY, REPLICA, WHY) for kind in ("command", "query")),
            "outages": (Outage(PRIMARY, since, None, WHY),),
        }
    values |= {
        "servers": (
            Server(PRIMARY, circuits[PRIMARY], next_probe=4.0 if failed_over else None),
            Server(REPLICA, circuits[REPLICA]),
        ),
        "requests": (Requests("command", 2, {"answered": 7}, 0.02, 0.1, 1.5), Requests("query")),
        "journal": JournalFigures("/var/lib/pdbclient/journal", answers=True, delivered=7, bytes=2048),
        "exported": Exported(0, "serve"),
        "certificates": (Certificate("ssl_cert", "/ssl/cert.pem", "CN=puppet", NOW + timedelta(days=400)),),
    }
    return Document(Program("gateway", "puppet.example.com", "0.2.0", began), NOW, **(values | changes))  # type: ignore[arg-type]


def reconciler(**changes: object) -> Document:
    """A reconciler whose last pass succeeded 70 s ago."""
    entities = {name: EntityPass(ago(seconds=70)) for name in ("nodes", "facts", "reports")}
    values: dict[str, object] = {
        "last_success": ago(seconds=70),
        "lag_seconds": 70.0,
        "entities": entities,
        "last_pass": {"outcome": "done", "elapsed_ms": 1200, "entities": {"facts": {"transferred": 3, "tied": 1}}},
    }
    remote = Remote(REPLICA, **({"ok": True, "interval_seconds": 120.0} | values | changes))  # type: ignore[arg-type]
    return Document(Program("sync", "db1.example.com", "0.2.0", ago(days=2)), NOW, remotes=(remote,))
