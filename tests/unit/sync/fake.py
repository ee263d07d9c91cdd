"""An in-memory PuppetDB: the queries that the reconciler asks, and the server's own precedence rules.

Rules as measured on PuppetDB 7.12.1: facts and catalogs are stale only against a strictly newer one (so at
equal times the last writer wins), reports are stored once per hash, a deactivation loses to a strictly newer
record, and data brings a node back to life only if it is newer than the flag. Catalog inputs and the
expiration of facts are replaced only by strictly newer ones (so at equal times the first one stays); empty
inputs are ignored.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from pdbclient.config.model import Endpoint
from pdbclient.wire.command import Command
from pdbclient.wire.summary import HOUR_FORMAT, from_millis, to_millis

PURGE_MILLIS = 14 * 86_400_000
CATALOG_UUID = "1e1b5ad2-0000-4000-8000-000000000000"

Row = dict[str, Any]


@dataclass(frozen=True)
class FakeAnswer:
    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeNode:
    deactivated: int | None = None
    expired: int | None = None
    expires_facts: bool | None = None
    expires_facts_updated: str | None = None


class FakePuppetDB:
    """`now` gives wall seconds. Faults: `down` is raised by everything, `broken(path, query)` may return an
    error for a query, certnames in `discards` are accepted and never stored, those in `mangles` are stored
    with another hash; one that does not `purges` counts no node as inactive.

    `received` gives the receive time (ms) of reports by hash; one that is not in it was received when produced.
    """

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.endpoint = Endpoint(f"{name}.example.com", 8081)
        self.now = now
        self.version = "7.12.1"
        self.state = "running"
        self.maintenance = False
        self.depth = 0
        self.purges = True
        self.nodes: dict[str, FakeNode] = {}
        self.tables: dict[str, dict[str, Row]] = {
            name: {} for name in ("factsets", "catalogs", "catalog-inputs", "reports")
        }
        self.received: dict[str, int] = {}
        self.submitted: list[Command] = []
        self.queries: list[tuple[str, Any]] = []
        self.down: Exception | None = None
        self.broken: Callable[[str, Any], Exception | None] = lambda path, query: None
        self.refuses: dict[str, Exception] = {}
        self.discards: set[str] = set()
        self.mangles: set[str] = set()
        self._lock = threading.Lock()

    # --- what the reconciler uses

    def rows(
        self,
        path: str,
        *,
        query: Any = None,
        params: Mapping[str, str] | None = None,
        within: float | None = None,
        patience: float | None = None,
    ) -> Iterator[bytes]:
        assert within is None or within > 0
        if self.down is not None:
            raise self.down
        self.queries.append((path, query))
        if (error := self.broken(path, query)) is not None:
            raise error
        with self._lock:
            found = self._answer(path.removeprefix("/"), query, params or {})
        for row in found:
            yield json.dumps(row).encode()

    def document(self, path: str, *, within: float | None = None) -> FakeAnswer:
        if self.down is not None:
            raise self.down
        if path == "/pdb/meta/v1/version":
            return FakeAnswer({"version": self.version})
        assert path == "/status/v1/services/puppetdb-status"
        status = {"maintenance_mode?": self.maintenance, "queue_depth": self.depth}
        return FakeAnswer({"state": self.state, "status": status}, {"Date": formatdate(self.now(), usegmt=True)})

    def submit(self, command: Command, *, within: float | None = None) -> str:
        if self.down is not None:
            raise self.down
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

    # --- the server's own rules

    def apply(self, name: str, payload: Row) -> None:
        millis = to_millis(payload["producer_timestamp"])
        certname = payload["certname"]
        match name:
            case "replace facts":
                self._replace("factsets", certname, millis, payload)
            case "replace catalog":
                self._replace("catalogs", certname, millis, payload)
            case "store report":
                row = {**payload, "hash": _hash(certname, millis, payload["transaction_uuid"])}
                if row["hash"] not in self.tables["reports"]:
                    self.tables["reports"][row["hash"]] = row
                    self.received[row["hash"]] = int(self.now() * 1000)
            case "replace catalog inputs":
                if not payload["inputs"]:
                    return
                old = self.tables["catalog-inputs"].get(certname)
                if old is None or to_millis(old["producer_timestamp"]) < millis:
                    self.tables["catalog-inputs"][certname] = payload
            case "configure expiration":
                configured = self.nodes.setdefault(certname, FakeNode())
                before = configured.expires_facts_updated
                if before is None or to_millis(before) < millis:
                    configured.expires_facts = payload["expire"]["facts"]
                    configured.expires_facts_updated = payload["producer_timestamp"]
            case "deactivate node":
                self._deactivate(certname, millis)
                return
            case _:
                raise AssertionError(name)
        node = self.nodes.setdefault(certname, FakeNode())
        if max(node.deactivated or 0, node.expired or 0) < millis:
            node.deactivated = node.expired = None

    def purge(self, certname: str) -> None:
        del self.nodes[certname]
        for table in ("factsets", "catalogs", "catalog-inputs"):
            self.tables[table].pop(certname, None)
        reports = self.tables["reports"]
        for key in [key for key, row in reports.items() if row["certname"] == certname]:
            del reports[key]

    def _replace(self, table: str, certname: str, millis: int, payload: Row) -> None:
        old = self.tables[table].get(certname)
        if old is not None and to_millis(old["producer_timestamp"]) > millis:
            return
        content = payload["values"] if table == "factsets" else payload["resources"]
        salt = self.endpoint.host if certname in self.mangles else ""
        self.tables[table][certname] = {**payload, "hash": _hash(certname, content, salt)}

    def _deactivate(self, certname: str, millis: int) -> None:
        newest = max(
            (
                to_millis(row["producer_timestamp"])
                for table in ("factsets", "catalogs", "reports")
                for row in self.tables[table].values()
                if row["certname"] == certname
            ),
            default=0,
        )
        node = self.nodes.setdefault(certname, FakeNode())
        if newest <= millis and (node.deactivated or 0) < millis:
            node.deactivated = millis

    # --- queries

    def _answer(self, table: str, query: Any, params: Mapping[str, str]) -> list[Row]:
        columns: list[Any] | None = None
        grouped = False
        if query[0] == "extract":
            columns, grouped = query[1], len(query) > 3
            query = query[2]
        rows = [row for row in self._rows(table) if self._matches(row, query)]
        if grouped and columns is not None:
            return _group(rows, columns)
        if columns is not None:
            return [{name: row.get(name) for name in columns} for row in rows]
        return [_expanded(table, row, params) for row in rows]

    def _rows(self, table: str) -> list[Row]:
        if table == "reports":
            return [{**row, "receive_time": self._receive_time(row)} for row in self.tables[table].values()]
        if table != "nodes":
            return list(self.tables[table].values())
        return [
            {
                "certname": name,
                "deactivated": _text(node.deactivated),
                "expired": _text(node.expired),
                "expires_facts": node.expires_facts,
                "expires_facts_updated": node.expires_facts_updated,
            }
            for name, node in self.nodes.items()
        ]

    def _receive_time(self, row: Row) -> str:
        millis = self.received.get(row["hash"])
        return str(row["producer_timestamp"]) if millis is None else from_millis(millis)

    def _matches(self, row: Row, query: Any) -> bool:
        match query:
            case ["and", *clauses]:
                return all(self._matches(row, clause) for clause in clauses)
            case ["=", "node_state", state]:
                return bool(state == "any") or self._liveness(row["certname"]) == state
            case ["=", "type", "any"]:
                return True
            case ["null?", column, wanted]:
                return (row[column] is None) is wanted
            case ["in", column, ["array", values]]:
                return bool(row[column] in values)
            case [">=", column, value]:
                return bool(to_millis(row[column]) >= to_millis(value))
            case ["<", column, value]:
                return bool(to_millis(row[column]) < to_millis(value))
            case _:
                raise AssertionError(query)

    def _liveness(self, certname: str) -> str:
        node = self.nodes[certname]
        since = max(node.deactivated or 0, node.expired or 0)
        if not since:
            return "active"
        if not self.purges:
            return "neither"
        return "gone" if since < self.now() * 1000 - PURGE_MILLIS else "inactive"


def _group(rows: list[Row], columns: list[Any]) -> list[Row]:
    if columns[0] == "certname":
        newest: dict[str, str] = {}
        for row in rows:
            newest[row["certname"]] = max(row["producer_timestamp"], newest.get(row["certname"], ""))
        return [{"certname": name, "max": text} for name, text in newest.items()]
    assert columns[0] == ["function", "to_string", "producer_timestamp", HOUR_FORMAT]
    hours: dict[str, list[Row]] = {}
    for row in rows:
        hours.setdefault(f"{row['producer_timestamp'][:13]} +00", []).append(row)
    return [
        {
            "to_string": label,
            "count": len(group),
            "min": min(row["hash"] for row in group),
            "max": max(row["hash"] for row in group),
            "max_2": max(row["producer_timestamp"] for row in group),
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
        return {**shown, "timestamp": row["producer_timestamp"], "facts": {"data": data}}
    if table == "nodes":
        hidden = (
            () if params.get("include_facts_expiration") == "true" else ("expires_facts", "expires_facts_updated")
        )
        return {key: value for key, value in row.items() if key not in hidden}
    if table == "catalog-inputs":
        return row
    if table == "catalogs":
        return {**row, "resources": {"data": row["resources"]}, "edges": {"data": row["edges"]}}
    shown = {key: value for key, value in row.items() if key != "resources"}
    lists = {name: {"data": row[name]} for name in ("metrics", "logs")}
    return {**shown, **lists, "resource_events": {"data": []}}


def _hash(*parts: object) -> str:
    return hashlib.sha1(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
