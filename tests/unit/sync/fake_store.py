"""What a PuppetDB stores, and its rules of what replaces what: the base of the fake one.

Measured on PuppetDB 7.12.1, and held against a real one, rule by rule, in tests/integration/test_sync_rules.py:

- Facts and catalogs are stale only against a strictly newer one: at equal times the last writer wins.
- Catalog inputs and the expiration of facts are replaced only by strictly newer ones: at equal times the first one
  stays. Empty inputs are ignored, and do not even make their node known.
- A report is stored once per hash. The hash covers what identifies the run, not what happened in it.
- A deactivation loses to a strictly newer factset, catalog or report, and to a newer deactivation; it wins at equal
  times. It makes a node that was not known.
- Everything else makes its node known, and active again if one of the flags (deactivated, expired) is strictly
  older, stored or not: both flags go then. With both set one that is older is enough, but not for every version.
- Nothing stops a time to come: it wins until then.
- A node expires when nothing of it, by its producer timestamps, is younger than node-ttl, unless its facts are set
  never to expire. Inputs and the setting itself count.
- A node counts as inactive while one of its flags is younger than node-purge-ttl, and is purged, with what it has,
  once one of them is older: one can be both. A node never is `inactive` where node-purge-ttl is 0.
- The server's own garbage collection purges 25 nodes at a time.
- Reports go by whole UTC days, that ended before report-ttl began: the oldest first, one at a time.
- A `transaction_uuid` is stored in small letters; a report's hash has it as it came.

What differs from version to version, how much of a stamp is stored above all, is in `tests/versions.py`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from pdbclient.wire.report_hash import report_hash
from pdbclient.wire.summary import to_millis

from ...versions import PUPPETDB_7_12, Release, micros

__all__ = ["DAY", "FakeNode", "FakeTables", "Row"]

DAY = 86_400_000
PURGE_BATCH = 25
STAMPS = ("producer_timestamp", "start_time", "end_time")

Row = dict[str, Any]


@dataclass
class FakeNode:
    """`deactivated` and `expired` are in ms, `below` is what more microseconds the deactivation has."""

    deactivated: int | None = None
    expired: int | None = None
    expires_facts: bool | None = None
    expires_facts_updated: str | None = None
    below: int = 0

    @property
    def flags(self) -> list[int]:
        """In microseconds."""
        dead = None if self.deactivated is None else self.deactivated * 1000 + self.below
        return [flag for flag in (dead, self.expired and self.expired * 1000) if flag is not None]


class FakeTables:
    """`now` gives the server's own wall seconds; the ttls are in ms. Stamps in `tables` are as the `release` stores
    them. `salt` goes into the hashes of nodes that it `mangles`: what cannot be stored as it was sent. One that does
    not `purges` has node-purge-ttl 0.
    """

    def __init__(self, now: Callable[[], float], salt: str, release: Release = PUPPETDB_7_12) -> None:
        self.now = now
        self.release = release
        self.node_ttl = 7 * DAY
        self.node_purge_ttl = 14 * DAY
        self.report_ttl = 14 * DAY
        self.purges = True
        self.nodes: dict[str, FakeNode] = {}
        self.tables: dict[str, dict[str, Row]] = {
            name: {} for name in ("factsets", "catalogs", "catalog-inputs", "reports")
        }
        self.received: dict[str, int] = {}
        # No two servers get a record in the same millisecond.
        self._late = crc32(salt.encode()) % 1000
        self.more_catalogs: list[Row] = []
        self.mangles: set[str] = set()
        self._salt = salt

    @property
    def millis(self) -> int:
        return int(self.now() * 1000)

    # --- commands

    def apply(self, name: str, payload: Row) -> None:
        certname, stored = payload["certname"], self._stored(payload)
        stamp = stored["producer_timestamp"]
        match name:
            case "replace facts":
                content = [payload["values"], payload["environment"], sorted(payload.get("package_inventory") or [])]
                self._replace("factsets", stored, content)
            case "replace catalog":
                self._replace("catalogs", stored, [payload["resources"], payload["edges"]])
            case "store report":
                if not self._store_report(report_hash(payload), stored):
                    return
            case "replace catalog inputs":
                if not payload["inputs"]:
                    return
                inputs = self.tables["catalog-inputs"].get(certname)
                if inputs is None or micros(inputs["producer_timestamp"]) < micros(stamp):
                    self.tables["catalog-inputs"][certname] = stored
            case "configure expiration":
                configured = self.nodes.setdefault(certname, FakeNode())
                before = configured.expires_facts_updated
                if before is None or micros(before) < micros(stamp):
                    configured.expires_facts = payload["expire"]["facts"]
                    configured.expires_facts_updated = stamp
            case "deactivate node":
                self._deactivate(certname, micros(stamp))
                return
            case _:
                raise AssertionError(name)
        node = self.nodes.setdefault(certname, FakeNode())
        held = self.release.newer_flag_holds and any(flag > micros(stamp) for flag in node.flags)
        if not held and any(flag < micros(stamp) for flag in node.flags):
            node.deactivated = node.expired = None

    def _stored(self, payload: Row) -> Row:
        """The payload as the database takes it."""
        stored = {**payload, **{name: self.release.stored(payload[name]) for name in STAMPS if name in payload}}
        if isinstance(uuid := payload.get("transaction_uuid"), str):
            stored["transaction_uuid"] = uuid.lower()
        return stored

    def _replace(self, table: str, payload: Row, content: list[Any]) -> None:
        certname = payload["certname"]
        old = self.tables[table].get(certname)
        if old is None or micros(old["producer_timestamp"]) <= micros(payload["producer_timestamp"]):
            salt = self._salt if certname in self.mangles else ""
            self.tables[table][certname] = {**payload, "hash": _hash(certname, content, salt)}
            self.received[f"{table} {certname}"] = self.millis + self._late

    def _store_report(self, key: str, stored: Row) -> bool:
        """Whether the server can; a report that it has already is no failure."""
        if key in self.tables["reports"]:
            return True
        newest = self._newest_reports().get(stored["certname"])
        later = newest is None or micros(stored["producer_timestamp"]) > micros(newest["producer_timestamp"])
        if _is_odd_day(stored):
            can = self.release.newest_of_any_day and later
        else:
            # The newest one until now has to go where only reports of ordinary days can.
            can = newest is None or not later or not _is_odd_day(newest)
        if can:
            self.tables["reports"][key] = {**stored, "hash": key}
            self.received[key] = self.millis + self._late
        return can

    def double_catalog(self, certname: str, payload: Row) -> None:
        """A second catalog of a node, as old databases may have: it is shown, too, and nothing replaces it."""
        assert not self.release.one_catalog, f"{self.release} has one catalog of a node"
        self.more_catalogs.append({**self._stored(payload), "hash": _hash(certname, payload["resources"], "double")})

    def _deactivate(self, certname: str, stamp: int) -> None:
        node = self.nodes.setdefault(certname, FakeNode())
        newest = max(self._times(certname, "factsets", "catalogs", "reports"), default=0)
        known = None if node.deactivated is None else node.deactivated * 1000 + node.below
        if newest <= stamp and (known is None or known < stamp):
            node.deactivated, node.below = divmod(stamp, 1000)

    def newest(self, certname: str, latest: int | None = None) -> int:
        """The producer timestamp (ms) of a node's newest factset, catalog or report, none after `latest`; or 0."""
        times = [micro // 1000 for micro in self._times(certname, "factsets", "catalogs", "reports")]
        return max((milli for milli in times if latest is None or milli <= latest), default=0)

    def _times(self, certname: str, *tables: str) -> list[int]:
        """In microseconds."""
        return [
            micros(row["producer_timestamp"])
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
        return "inactive" if self.purges and max(flags) >= (self.millis - self.node_purge_ttl) * 1000 else "gone"

    def expire(self) -> None:
        """`clean expire_nodes`."""
        for certname, node in self.nodes.items():
            times = self._times(certname, *self.tables)
            if node.expires_facts_updated is not None:
                times.append(micros(node.expires_facts_updated))
            late = max(times, default=0) < (self.millis - self.node_ttl) * 1000
            if late and not node.flags and node.expires_facts is not False:
                node.expired = self.millis

    def purge_nodes(self) -> list[str]:
        """`clean purge_nodes`, as many as the server's own garbage collection does at once; who was purged."""
        before = (self.millis - self.node_purge_ttl) * 1000
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
        kept = {row["hash"] for row in self._newest_reports().values()} if self.release.keeps_newest else set()
        oldest = min((day for key, day in days.items() if key not in kept), default=before)
        for key, day in days.items():
            if day == oldest < before and key not in kept:
                del reports[key]

    def _newest_reports(self) -> dict[str, Row]:
        """Of each node, plans aside."""
        newest: dict[str, Row] = {}
        for row in sorted(self.tables["reports"].values(), key=lambda row: micros(row["producer_timestamp"])):
            if row["type"] != "plan":
                newest[row["certname"]] = row
        return newest

    # --- copies

    def backup(self) -> tuple[Any, ...]:
        """All that is stored, to be given to `restore` any number of times."""
        return copy.deepcopy((self.nodes, self.tables, self.received))

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Put a backup in the place of what is stored."""
        self.nodes, self.tables, self.received = copy.deepcopy(saved)


def _is_odd_day(report: Row) -> bool:
    """Whether there can be no table for the reports of that day."""
    return not "1582-10-15" <= report["producer_timestamp"][:10] < "9999-12-31"


def _hash(*parts: object) -> str:
    return hashlib.sha1(json.dumps(parts, sort_keys=True).encode()).hexdigest()
