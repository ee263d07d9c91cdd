"""An in-memory PuppetDB: the queries that the reconciler asks, over the rules of `fake_store`.

What it takes for granted, each with its test in tests/integration/test_sync_rules.py:

- A query that does not say which nodes it means is about the active ones, but for catalogs and reports; one for
  reports that does not name their type is about those of agents.
- The label of an hour or a minute is in UTC. With it come count, least and greatest hash, and last timestamp, of
  reports as of facts and catalogs.
- `receive_time` of a report, and `timestamp` of facts, are the server's own clock, when it got them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from pdbclient.config.model import Endpoint
from pdbclient.errors import IncompleteResponse, Misrouted
from pdbclient.http.outcome import Operation, answer_of_puppetdb, error_for_status
from pdbclient.wire import query as wire_query
from pdbclient.wire.command import Command
from pdbclient.wire.summary import HOUR_FORMAT, MINUTE_FORMAT, from_millis

from ...versions import PUPPETDB_7_12, Refusal, Release, micros
from .fake_store import STAMPS, FakeNode, FakeTables, Row

__all__ = [
    "RECOGNISING",
    "FakeNode",
    "FakePuppetDB",
    "Row",
    "catalog",
    "deactivation",
    "expiration",
    "facts",
    "inputs",
    "report",
]

ADDRESSES = frozenset({"/nodes", "/factsets", "/package-inventory", "/catalogs", "/catalog-inputs", "/reports"})
PARAMETERS = frozenset({"limit", "order_by", "include_facts_expiration", "include_package_inventory"})
"""Those that all versions know."""
EXPIRATION = ("expires_facts", "expires_facts_updated")
OF_NODES = frozenset({*EXPIRATION, "report_environment"})
RECOGNISING = (wire_query.stored_reports(), wire_query.stored_factsets())
"""What a pass asks before all entities, to see that the two servers are two."""
CATALOG_UUID = "1e1b5ad2-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class FakeAnswer:
    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class FakePuppetDB(FakeTables):
    """`now` gives wall seconds, `release` is what it answers as; `version` is what it says that it is.

    Faults: `down` is raised by everything, `broken(path, query)` may return an error for a query, answers break off
    after `cut` rows, certnames in `discards` are accepted and never stored, those in `mangles` are stored with
    another hash; one that does not `purges` counts no node as inactive. `arrives` is called at each request, before
    anything else.

    `received` gives the receive time (ms) of reports by hash, and of facts by their node; what is not in it was
    received when produced. `began` is when its process began (ms), None: it does not tell;
    `metaspace` is the memory (bytes) of its classes.
    """

    def __init__(self, name: str, now: Callable[[], float], release: Release = PUPPETDB_7_12) -> None:
        self.endpoint = Endpoint(f"{name}.example.com", 8081)
        super().__init__(now, self.endpoint.host, release)
        self.version = release.version
        self.state = "running"
        self.maintenance = False
        self.depth = 0
        self.began: int | None = self.millis + self._late
        self.metaspace = 90_000_000 + self._late
        self.submitted: list[Command] = []
        self.queries: list[tuple[str, Any]] = []
        self.down: Exception | None = None
        self.broken: Callable[[str, Any], Exception | None] = lambda path, query: None
        self.cut: int | None = None
        self.refuses: dict[str, Exception] = {}
        self.discards: set[str] = set()
        self.arrives: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def become(self, release: Release) -> None:
        """The server's program is replaced; what it has stays as it is."""
        self.release, self.version = release, release.version

    # --- what the reconciler uses

    def rows(
        self,
        path: str,
        *,
        query: Any = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
        patience: float | None = None,
    ) -> Iterator[bytes]:
        assert within is None or within > 0
        self._arrives()
        self.queries.append((path, query))
        if (error := self.broken(path, query)) is not None:
            raise error
        if (refusal := self._refusal(path, query, params or {})) is not None:
            raise self._error(refusal)
        with self._lock:
            found = self._answer(path.removeprefix("/"), query, params or {})
        for seen, row in enumerate(found):
            if seen == self.cut:
                raise IncompleteResponse(str(self.endpoint), "the answer breaks off", seen)
            yield json.dumps(row).encode()

    def document(self, path: str, *, within: float | None = None) -> FakeAnswer:
        self._arrives()
        if path == "/pdb/meta/v1/version":
            return FakeAnswer({"version": self.version})
        if path == "/pdb/meta/v1/version/latest" and self.release.has_latest:
            return FakeAnswer({"newer": False, "version": self.version, "link": None})
        if path == "/status/v1/services/status-service?level=debug":
            pools = {"Metaspace": {"usage": {"used": self.metaspace}}}
            metrics = {"start-time-ms": self.began, "memory-pools": pools}
            return FakeAnswer({"state": "running", "status": {"experimental": {"jvm-metrics": metrics}}})
        if path != "/status/v1/services/puppetdb-status":
            raise self._error(self.release.unknown)
        status = {"maintenance_mode?": self.maintenance, "queue_depth": self.depth}
        return FakeAnswer({"state": self.state, "status": status}, {"Date": formatdate(self.now(), usegmt=True)})

    def submit(self, command: Command, *, within: float | None = None) -> str:
        self._arrives()
        if (error := self.refuses.get(command.certname)) is not None:
            raise error
        payload = json.loads(command.body)
        with self._lock:
            self.submitted.append(command)
            if command.certname not in self.discards:
                self.apply(command.name, payload)
        return "6b5f4a2e-0000-4000-8000-000000000000"

    def close(self) -> None:
        pass

    def _arrives(self) -> None:
        self.arrives()
        if self.down is not None:
            raise self.down

    # --- refusals

    def _refusal(self, path: str, query: Any, params: Mapping[str, Any]) -> Refusal | None:
        if path not in ADDRESSES:
            return self.release.unknown
        if strange := sorted(set(params) - PARAMETERS - self.release.parameters):
            return Refusal(400, f"Unsupported query parameter '{strange[0]}'".encode())
        if path == "/nodes" and query[0] == "extract":
            named = _names(query)
            if not named.isdisjoint(OF_NODES) and not any(name.startswith("latest_report") for name in query[1]):
                return self.release.lost_join
        return None

    def _error(self, refusal: Refusal) -> Exception:
        headers = {"Location": refusal.location} if refusal.location else {}
        url = str(self.endpoint)
        error = error_for_status(url, refusal.status, headers, refusal.body, Operation.QUERY)
        assert error is not None
        # As a session does: it has seen the status.
        return answer_of_puppetdb(error) if isinstance(error, Misrouted) and self.state == "running" else error

    # --- queries

    def _answer(self, table: str, query: Any, params: Mapping[str, Any]) -> list[Row]:
        columns: list[Any] | None = None
        grouped = False
        if query[0] == "extract":
            columns, grouped = query[1], len(query) > 3
            query = query[2]
        rows = [row for row in self._rows(table) if self._matches(row, ["and", query, *_scope(table, query)])]
        for order in params.get("order_by", ()):
            rows.sort(key=lambda row: str(row[order["field"]]), reverse=order["order"] == "desc")
        rows = rows[: params.get("limit")]
        if columns == [["function", "count"]]:
            return [{"count": len(rows)}]
        if grouped and columns is not None:
            return [self._shown_group(row) for row in _group(rows, columns)]
        rows = [self._shown(row) for row in rows]
        if columns is not None:
            return [{name: row.get(name) for name in columns} for row in rows]
        return [_expanded(table, row, params) for row in rows]

    def _shown(self, row: Row) -> Row:
        stamps = [name for name in (*STAMPS, "expires_facts_updated") if row.get(name) is not None]
        return {**row, **{name: self.release.shown(row[name]) for name in stamps}}

    def _shown_group(self, row: Row) -> Row:
        """`max` is a time, as `min` is, or with `max_2` beside it a hash."""
        names = ("max_2",) if "max_2" in row else ("min", "max")
        return row | {name: self.release.shown(row[name]) for name in names if name in row}

    def _rows(self, table: str) -> list[Row]:
        if table == "catalogs":
            return [*self.tables[table].values(), *self.more_catalogs]
        if table == "reports":
            return [{**row, "receive_time": self._received(row["hash"], row)} for row in self.tables[table].values()]
        if table == "factsets":
            return [
                {**row, "timestamp": self._received(f"factsets {name}", row)}
                for name, row in self.tables[table].items()
            ]
        if table == "package-inventory":
            return [
                {"certname": name, "package_name": package, "version": version, "provider": provider}
                for name, row in self.tables["factsets"].items()
                for package, version, provider in row.get("package_inventory") or ()
            ]
        if table != "nodes":
            return list(self.tables[table].values())
        return [
            {
                "certname": name,
                "deactivated": self._flag(node),
                "expired": _text(node.expired),
                # Also where nobody said so: then without a time.
                "expires_facts": node.expires_facts is not False,
                "expires_facts_updated": node.expires_facts_updated,
            }
            for name, node in self.nodes.items()
        ]

    def _flag(self, node: FakeNode) -> str | None:
        if node.deactivated is None:
            return None
        return from_millis(node.deactivated + (self.release.shows_rounded and node.below >= 500))

    def _received(self, key: str, row: Row) -> str:
        millis = self.received.get(key)
        return str(row["producer_timestamp"]) if millis is None else from_millis(millis)

    def _matches(self, row: Row, query: Any) -> bool:
        match query:
            case ["and", *clauses]:
                return all(self._matches(row, clause) for clause in clauses)
            case ["=", "node_state", state]:
                return bool(state == "any") or self.liveness(row["certname"]) == state
            case ["=", "type", wanted]:
                return bool(wanted == "any") or bool(row["type"] == wanted)
            case ["null?", column, wanted]:
                return (row[column] is None) is wanted
            case ["in", column, ["array", values]]:
                return bool(row[column] in values)
            case ["or", *clauses]:
                return any(self._matches(row, clause) for clause in clauses)
            case [">=", column, value]:
                return bool(micros(row[column]) >= micros(value))
            case ["<", column, value]:
                return bool(micros(row[column]) < micros(value))
            case _:
                raise AssertionError(query)


def _scope(table: str, query: Any) -> list[Any]:
    """What the server adds to a query that does not say it."""
    text = json.dumps(query)
    added: list[Any] = []
    if '"node_state"' not in text and table not in ("catalogs", "reports"):
        added.append(["=", "node_state", "active"])
    if '"type"' not in text and table == "reports":
        added.append(["=", "type", "agent"])
    return added


def _names(query: Any) -> set[str]:
    """All texts in a query, the columns among them."""
    if isinstance(query, list):
        return set().union(*(_names(part) for part in query))
    return {query} if isinstance(query, str) else set()


def _group(rows: list[Row], columns: list[Any]) -> list[Row]:
    if columns[0] == "certname":
        newest: dict[str, str] = {}
        for row in rows:
            text = row["producer_timestamp"]
            newest[row["certname"]] = max(text, newest.get(row["certname"], text), key=micros)
        return [{"certname": name, "max": text} for name, text in newest.items()]
    parts = {HOUR_FORMAT: 1, MINUTE_FORMAT: 2}[columns[0][3]]
    assert columns[0][:3] == ["function", "to_string", "producer_timestamp"]
    hours: dict[str, list[Row]] = {}
    for row in rows:
        label = ":".join(row["producer_timestamp"].removeprefix("+").split(":")[:parts])
        hours.setdefault(f"{label} +00", []).append(row)
    return [
        {
            "to_string": label,
            "count": len(group),
            **(
                {
                    "min": min((row["producer_timestamp"] for row in group), key=micros),
                    "max": max((row["producer_timestamp"] for row in group), key=micros),
                }
                if columns[2][2] == "producer_timestamp"
                else {
                    "min": min(row["hash"] for row in group),
                    "max": max(row["hash"] for row in group),
                    "max_2": max((row["producer_timestamp"] for row in group), key=micros),
                }
            ),
        }
        for label, group in hours.items()
    ]


def _expanded(table: str, row: Row, params: Mapping[str, str]) -> Row:
    """A stored record as the query API shows it."""
    if table == "factsets":
        data = [{"name": name, "value": value} for name, value in row["values"].items()]
        shown = {key: value for key, value in row.items() if key not in ("values", "package_inventory")}
        if params.get("include_package_inventory") == "true" and row.get("package_inventory"):
            shown["package_inventory"] = row["package_inventory"]
        return {**shown, "facts": {"data": data}}
    if table == "nodes":
        hidden = () if params.get("include_facts_expiration") == "true" else EXPIRATION
        return {key: value for key, value in row.items() if key not in hidden}
    if table == "catalog-inputs":
        return row
    if table == "catalogs":
        return {**row, "resources": {"data": row["resources"]}, "edges": {"data": row["edges"]}}
    shown = {key: value for key, value in row.items() if key != "resources"}
    lists = {name: {"data": row[name]} for name in ("metrics", "logs")}
    return {**shown, **lists, "resource_events": {"data": []}}


def _text(millis: int | None) -> str | None:
    return None if millis is None else from_millis(millis)


# --- payloads


def facts(certname: str, millis: int, value: object = "x", packages: object = None) -> Row:
    payload = {
        "certname": certname,
        "environment": "production",
        "producer_timestamp": from_millis(millis),
        "producer": None,
        "values": {"v": value},
    }
    return payload if packages is None else {**payload, "package_inventory": packages}


def catalog(certname: str, millis: int, value: object = "x", uuid: str | None = None) -> Row:
    resource = {
        "type": "File",
        "title": "/a",
        "tags": [],
        "exported": False,
        "parameters": {"content": value},
    }
    return {
        "certname": certname,
        "version": "1",
        "environment": "production",
        "transaction_uuid": uuid,
        "catalog_uuid": None,
        "code_id": None,
        "job_id": None,
        "producer": None,
        "producer_timestamp": from_millis(millis),
        "resources": [resource],
        "edges": [],
    }


def report(certname: str, millis: int, uuid: str) -> Row:
    stamp = from_millis(millis)
    return {
        "certname": certname,
        "puppet_version": "7.0.0",
        "report_format": 12,
        "configuration_version": "1",
        "start_time": stamp,
        "end_time": stamp,
        "producer_timestamp": stamp,
        "producer": None,
        "corrective_change": None,
        "resources": [],
        "noop": False,
        "noop_pending": False,
        "transaction_uuid": uuid,
        "catalog_uuid": None,
        "code_id": None,
        "cached_catalog_status": None,
        "metrics": [],
        "logs": [],
        "environment": "production",
        "status": "unchanged",
        "job_id": None,
        "type": "agent",
    }


def deactivation(certname: str, millis: int) -> Row:
    return {"certname": certname, "producer_timestamp": from_millis(millis)}


def inputs(certname: str, millis: int, uuid: str = CATALOG_UUID, names: tuple[str, ...] = ("x",)) -> Row:
    return {
        "certname": certname,
        "producer_timestamp": from_millis(millis),
        "catalog_uuid": uuid,
        "inputs": [["hiera", name] for name in names],
    }


def expiration(certname: str, millis: int, expires: bool = False) -> Row:
    return {"certname": certname, "producer_timestamp": from_millis(millis), "expire": {"facts": expires}}
