"""What a PuppetDB stores, and its rules of what replaces what: the base of the fake one.

Measured on PuppetDB 7.12.1, and held against a real one, rule by rule, in tests/integration/test_sync_rules.py:

- Facts and catalogs are stale only against a strictly newer one: at equal times the last writer wins.
- Catalog inputs and the expiration of facts are replaced only by strictly newer ones: at equal times the first one
  stays. Empty inputs are ignored, and do not even make their node known.
- A report is stored once per hash. The hash covers what identifies the run, not what happened in it.
- A deactivation loses to a strictly newer factset, catalog or report, and to a newer deactivation; it wins at equal
  times. It makes a node that was not known.
- Everything else makes its node known, and active again if one of the flags (deactivated, expired) is strictly
  older, stored or not: with both flags set one of them is enough, and both go.
- Nothing stops a time to come: it wins until then.
- A node expires when nothing of it, by its producer timestamps, is younger than node-ttl, unless its facts are set
  never to expire. Inputs and the setting itself count.
- A node counts as inactive while one of its flags is younger than node-purge-ttl, and is purged, with what it has,
  once one of them is older: one can be both. A node never is `inactive` where node-purge-ttl is 0.
- The server's own garbage collection purges 25 nodes at a time.
- Reports go by whole UTC days, that ended before report-ttl began: the oldest first, one at a time.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pdbclient.wire.summary import to_millis

__all__ = ["DAY", "FakeNode", "Row", "Store"]

DAY = 86_400_000
PURGE_BATCH = 25

Row = dict[str, Any]


@dataclass
class FakeNode:
    deactivated: int | None = None
    expired: int | None = None
    expires_facts: bool | None = None
    expires_facts_updated: str | None = None

    @property
    def flags(self) -> list[int]:
        return [flag for flag in (self.deactivated, self.expired) if flag is not None]


class Store:
    """`now` gives the server's own wall seconds; the ttls are in ms. `salt` goes into the hashes of nodes that it
    `mangles`: what cannot be stored as it was sent. One that does not `purges` has node-purge-ttl 0.
    """

    def __init__(self, now: Callable[[], float], salt: str) -> None:
        self.now = now
        self.node_ttl = 7 * DAY
        self.node_purge_ttl = 14 * DAY
        self.report_ttl = 14 * DAY
        self.purges = True
        self.nodes: dict[str, FakeNode] = {}
        self.tables: dict[str, dict[str, Row]] = {
            name: {} for name in ("factsets", "catalogs", "catalog-inputs", "reports")
        }
        self.received: dict[str, int] = {}
        self.mangles: set[str] = set()
        self._salt = salt

    @property
    def millis(self) -> int:
        return int(self.now() * 1000)

    # --- commands

    def apply(self, name: str, payload: Row) -> None:
        millis, certname = to_millis(payload["producer_timestamp"]), payload["certname"]
        match name:
            case "replace facts":
                content = [payload["values"], payload["environment"], sorted(payload.get("package_inventory") or [])]
                self._replace("factsets", millis, payload, content)
            case "replace catalog":
                self._replace("catalogs", millis, payload, [payload["resources"], payload["edges"]])
            case "store report":
                row = {**payload, "hash": _hash(certname, millis, payload["transaction_uuid"])}
                if row["hash"] not in self.tables["reports"]:
                    self.tables["reports"][row["hash"]] = row
                    self.received[row["hash"]] = self.millis
            case "replace catalog inputs":
                if not payload["inputs"]:
                    return
                inputs = self.tables["catalog-inputs"].get(certname)
                if inputs is None or to_millis(inputs["producer_timestamp"]) < millis:
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
        if any(flag < millis for flag in node.flags):
            node.deactivated = node.expired = None

    def _replace(self, table: str, millis: int, payload: Row, content: list[Any]) -> None:
        certname = payload["certname"]
        old = self.tables[table].get(certname)
        if old is None or to_millis(old["producer_timestamp"]) <= millis:
            salt = self._salt if certname in self.mangles else ""
            self.tables[table][certname] = {**payload, "hash": _hash(certname, content, salt)}

    def _deactivate(self, certname: str, millis: int) -> None:
        node = self.nodes.setdefault(certname, FakeNode())
        if self.newest(certname) <= millis and (node.deactivated is None or node.deactivated < millis):
            node.deactivated = millis

    def newest(self, certname: str) -> int:
        """The producer timestamp (ms) of the newest factset, catalog or report of a node; 0 without any."""
        return max(self._times(certname, "factsets", "catalogs", "reports"), default=0)

    def _times(self, certname: str, *tables: str) -> list[int]:
        return [
            to_millis(row["producer_timestamp"])
            for table in tables
            for row in self.tables[table].values()
            if row["certname"] == certname
        ]

    # --- garbage collection

    def liveness(self, certname: str) -> str:
        """active, inactive, or what is neither: gone, as far as queries know."""
        flags = self.nodes[certname].flags
        if not flags:
            return "active"
        return "inactive" if self.purges and max(flags) >= self.millis - self.node_purge_ttl else "gone"

    def expire(self) -> None:
        """`clean expire_nodes`."""
        for certname, node in self.nodes.items():
            times = self._times(certname, *self.tables)
            if node.expires_facts_updated is not None:
                times.append(to_millis(node.expires_facts_updated))
            late = max(times, default=0) < self.millis - self.node_ttl
            if late and not node.flags and node.expires_facts is not False:
                node.expired = self.millis

    def purge_nodes(self) -> list[str]:
        """`clean purge_nodes`, as many as the server's own garbage collection does at once; who was purged."""
        before = self.millis - self.node_purge_ttl
        due = [name for name, node in self.nodes.items() if self.purges and any(flag < before for flag in node.flags)]
        for certname in due[:PURGE_BATCH]:
            self.purge(certname)
        return due[:PURGE_BATCH]

    def purge(self, certname: str) -> None:
        """As `delete` does: the node and all that it has."""
        del self.nodes[certname]
        for table in self.tables.values():
            for key in [key for key, row in table.items() if row["certname"] == certname]:
                del table[key]

    def purge_reports(self) -> None:
        """`clean purge_reports`."""
        before = (self.millis - self.report_ttl) // DAY
        reports = self.tables["reports"]
        days = {key: to_millis(row["producer_timestamp"]) // DAY for key, row in reports.items()}
        oldest = min(days.values(), default=before)
        for key, day in days.items():
            if day == oldest < before:
                del reports[key]

    # --- copies

    def backup(self) -> tuple[Any, ...]:
        """All that is stored, to be given to `restore` any number of times."""
        return copy.deepcopy((self.nodes, self.tables, self.received))

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Put a backup in the place of what is stored."""
        self.nodes, self.tables, self.received = copy.deepcopy(saved)


def _hash(*parts: object) -> str:
    return hashlib.sha1(json.dumps(parts, sort_keys=True).encode()).hexdigest()
