"""Whether servers have in the end what was acknowledged: by query, nodes in any state and reports of any type."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pdbclient import Client
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.lab import Lab
from pdbclient.wire import timestamp

from .journal_load import Identity

__all__ = ["HeldByServer", "Verdict", "held", "judge", "process_all"]

REPORT, DEACTIVATION = "store report", "deactivate node"
NEWEST: Mapping[str, tuple[str, str]] = {
    "replace catalog": ("catalogs", "producer_timestamp"),
    "replace facts": ("factsets", "producer_timestamp"),
    DEACTIVATION: ("nodes", "deactivated"),
}
STUCK = 8.0
ANY_STATE = ["=", "node_state", "any"]


@dataclass(frozen=True, slots=True)
class HeldByServer:
    """What one server has: every report, as often as it has it, and the newest of the rest by command and node.

    `active` is the newest catalog, facts or report of a node: a deactivation before that has no effect.
    """

    reports: Counter[Identity]
    newest: Mapping[tuple[str, str], str]
    active: Mapping[str, str]

    def has(self, command: Identity) -> bool:
        """Whether it has that, or something newer in its place."""
        if command.name == REPORT:
            return command in self.reports
        if self.newest.get((command.name, command.certname), "") >= command.stamp:
            return True
        return command.name == DEACTIVATION and self.active.get(command.certname, "") > command.stamp


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was acknowledged and is on no server; reports that a server has twice; what nobody ever sent."""

    lost: tuple[Identity, ...]
    duplicated: tuple[Identity, ...]
    phantoms: tuple[Identity, ...]


def held(config: ClientConfig, server: Endpoint) -> HeldByServer:
    """What a server has."""
    with Client(replace(config, server_urls=(server,), journal=None)) as client:
        reports = Counter(
            Identity(REPORT, row["certname"], timestamp.to_utc(row["producer_timestamp"]), row["transaction_uuid"])
            for row in _rows(client, "reports", ["producer_timestamp", "transaction_uuid"], ["=", "type", "any"])
        )
        newest = {
            (name, row["certname"]): timestamp.to_utc(row[field])
            for name, (path, field) in NEWEST.items()
            for row in _rows(client, path, [field], ["null?", field, False])
        }
    active: dict[str, str] = {}
    records = [(node, at) for (name, node), at in newest.items() if name != DEACTIVATION]
    for node, at in (*records, *((report.certname, report.stamp) for report in reports)):
        active[node] = max(at, active.get(node, ""))
    return HeldByServer(reports, newest, active)


def _rows(client: Client, path: str, fields: Sequence[str], condition: Sequence[Any]) -> Iterator[Any]:
    yield from client.stream(["extract", ["certname", *fields], ["and", ANY_STATE, condition]], path=path)


def process_all(lab: Lab, name: str, seconds: float = 600.0) -> set[str]:
    """Wait until a server has processed what it accepted; the files that stay in its queue all the same.

    A catalog or factset that a newer one supersedes in the queue is what PuppetDB 7.12.1 trips over when it was
    started with it there (a NullPointerException in `process-delete-cmd`), and tries again every hour. It would wait
    as long with one that met a fault of the database: a restart makes it try those at once.
    """
    if not _at_rest(lab, name, seconds):
        return set()
    lab.fault(name, "kill")
    lab.fault(name, "start")
    left = _at_rest(lab, name, seconds)
    assert all("_catalog_" in file or "_facts_" in file for file in left), left
    return left


def _at_rest(lab: Lab, name: str, seconds: float) -> set[str]:
    """What is in the queue when it has not changed for `STUCK` seconds."""
    directory = lab.node(name).vardir / "stockpile" / "cmd" / "q"
    began = since = time.monotonic()
    queue: set[str] = set()
    while time.monotonic() - since < (STUCK if queue else 1.0):
        time.sleep(0.1)
        if (now := {entry.name for entry in directory.iterdir()}) != queue:
            queue, since = now, time.monotonic()
        assert time.monotonic() - began < seconds, f"{name}: {len(queue)} commands in its queue"
    return queue


def judge(sent: Collection[Identity], acknowledged: Collection[Identity], servers: Sequence[HeldByServer]) -> Verdict:
    """What is wrong with what `servers` have. Pure."""
    lost = [command for command in acknowledged if not any(server.has(command) for server in servers)]
    duplicated = [report for server in servers for report, times in server.reports.items() if times > 1]
    there = {report for server in servers for report in server.reports}
    there |= {Identity(name, node, at) for server in servers for (name, node), at in server.newest.items()}
    return Verdict(tuple(lost), tuple(duplicated), tuple(there.difference(sent)))
