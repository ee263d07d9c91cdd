"""A random history of a site: commands of every kind, in and out of order, some at equal times with other content."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pdbclient.wire.command import Command, configure_expiration, deactivate_node

__all__ = ["ALIVE", "KINDS", "History"]

KINDS = {
    "replace facts": 5,
    "replace catalog": 5,
    "store report": 5,
    "replace catalog inputs": 2,
    "configure expiration": 1,
    "deactivate node": 1,
}
ALIVE = {kind: often for kind, often in KINDS.items() if kind != "deactivate node"}
"""Without deactivations: what a dead node has is not carried, and counts of records would have to leave it out."""
EQUAL = 0.15
"""How many commands have the very time of an earlier one of their kind and node."""
HOURS = 6


class History:
    """The same commands for the same `seed`, apart from the time of the whole.

    `kinds`: how often each is drawn. `lossy`: every other factset has a number that the database keeps as another
    one, so that no transfer preserves its hash.
    """

    def __init__(self, seed: int, nodes: int, kinds: Mapping[str, int] = KINDS, *, lossy: bool = False) -> None:
        self._kinds = kinds
        self._lossy = lossy
        self._random = random.Random(seed)
        self._nodes = [f"node{number}.example.com" for number in range(nodes)]
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._times: dict[tuple[str, str], datetime] = {}

    def batch(self, size: int) -> Iterator[Command]:
        """Commands for so many different nodes: two for one node could meet in a server's queue, which PuppetDB
        7.12.1 does not survive (a command made obsolete there stays in it for hours).
        """
        names = self._random.choices(list(self._kinds), weights=list(self._kinds.values()), k=size)
        for certname, name in zip(self._random.sample(self._nodes, size), names, strict=True):
            yield self._command(name, certname)

    def _command(self, name: str, certname: str) -> Command:
        when = self._when(name, certname)
        if name == "deactivate node":
            return deactivate_node(certname, now=self._now, producer_timestamp=when)
        if name == "configure expiration":
            keep = self._random.random() < 0.5
            return configure_expiration(certname, keep, now=self._now, producer_timestamp=when)
        payload = {"certname": certname, "producer_timestamp": when.isoformat(timespec="milliseconds")}
        return Command.create(name, {**payload, **self._content(name, payload)}, now=self._now)

    def _when(self, name: str, certname: str) -> datetime:
        before = self._times.get((name, certname))
        if before is not None and self._random.random() < EQUAL:
            return before
        when = self._now - timedelta(milliseconds=self._random.randrange(HOURS * 3_600_000))
        self._times[name, certname] = when
        return when

    def _content(self, name: str, payload: dict[str, str]) -> dict[str, Any]:
        number = self._random.randrange(1_000_000)
        if name == "replace catalog inputs":
            return {"catalog_uuid": self._uuid(), "inputs": [["hiera", f"key{number}"], ["hiera", "always"]]}
        common = {"environment": "production", "producer": None}
        if name == "replace facts":
            values = {"number": number, "nested": {"list": [number, 1.5, None, "ü"]}}
            if self._lossy and number % 2:
                values["float"] = 123456789.0
            packages = [["openssl", f"1.{number}", "apt"]]
            return {**common, "values": values, "package_inventory": packages}
        run = {"transaction_uuid": self._uuid(), "catalog_uuid": self._uuid(), "code_id": None, "job_id": None}
        if name == "replace catalog":
            return {**common, **run, "version": str(number), "resources": [_resource(number)], "edges": []}
        stamp = payload["producer_timestamp"]
        return {
            **common,
            **run,
            "puppet_version": "7.23.0",
            "report_format": 12,
            "configuration_version": str(number),
            "start_time": stamp,
            "end_time": stamp,
            "resources": [],
            "metrics": [{"category": "time", "name": "total", "value": number / 1000}],
            "logs": [],
            "noop": False,
            "noop_pending": False,
            "corrective_change": False,
            "cached_catalog_status": "not_used",
            "status": "unchanged",
            "type": "agent",
        }

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _resource(number: int) -> dict[str, Any]:
    return {
        "type": "File",
        "title": "/etc/number",
        "exported": number % 2 == 0,
        "tags": ["file"],
        "parameters": {"content": str(number)},
    }
