"""The whole main job as a story, on a real pair: submit, lose the primary, go on, bring it back, reconcile.

Everything shown is measured on the two servers; nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pdbclient.client import Client, Submission
from pdbclient.config import load_config, load_sync_config
from pdbclient.http.outcome import Kind
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.sync import PassResult, reconcile
from pdbclient.wire.command import Command
from pdbclient.wire.query import catalog_summary, factset_summary
from pdbclient.wire.timestamp import to_utc

__all__ = ["KINDS", "Outcome", "play"]

Say = Callable[[str], None]
Records = set[tuple[str, ...]]

PRIMARY, REPLICA = "primary", "replica"
KINDS = ("nodes", "facts", "catalogs", "reports")
"""What the story is about."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the story came to. `lost` counts commands that were acknowledged and are on neither server.

    `transferred` has each of `KINDS`, and another kind only where something of it was transferred.
    """

    submitted: int
    lost: int
    failover_ms: int
    transferred: dict[str, int]
    converged: bool
    second_pass_transferred: int

    @property
    def ok(self) -> bool:
        """Whether it ended as it should."""
        return self.lost == 0 and self.converged and self.second_pass_transferred == 0


def play(lab: Lab, say: Say, *, nodes: int = 20) -> Outcome:
    """Play the story on a running, empty pair; `say` gets it line by line.

    Raises the errors of the client, the lab and the reconciler.
    """
    submissions, failover_ms = _submit(lab, say, nodes)
    say(f"3. The primary comes back ({lab.node(PRIMARY).url}), with what its queue on disk still held.")
    lab.fault(PRIMARY, "start")
    for name in (PRIMARY, REPLICA):
        lab.settle(name)
    before = {name: _records(lab, name) for name in (PRIMARY, REPLICA)}
    for name, records in before.items():
        say(f"   {name}: {len(records)} of {len(submissions)} records")

    say("4. Each reconciler pulls what its own server lacks.")
    transferred = _reconcile(lab, say)
    after = {name: _records(lab, name) for name in (PRIMARY, REPLICA)}
    expected = {_key(submission.command) for submission in submissions}
    held = {name: {record[:3] for record in records} for name, records in after.items()}
    lost = expected - held[PRIMARY] - held[REPLICA]
    converged = after[PRIMARY] == after[REPLICA] and expected <= held[PRIMARY]
    say(f"   primary: {len(after[PRIMARY])} records, replica: {len(after[REPLICA])}; one by one, with their hashes:")
    say(f"   {'equal' if converged else 'NOT equal'}; {len(lost)} of {len(expected)} commands lost")

    say("5. A second pass has nothing to do.")
    second = _reconcile(lab, say)
    return Outcome(len(submissions), len(lost), failover_ms, transferred, converged, sum(second.values()))


def _submit(lab: Lab, say: Say, nodes: int) -> tuple[list[Submission], int]:
    say(f"1. {nodes} nodes report in: facts, a catalog with exported resources and a report each.")
    submissions: list[Submission] = []
    with Client.from_config(lab.puppetdb_conf) as client:
        for index, (name, payload) in enumerate(_payloads(lab, nodes)):
            if index == 3 * (nodes // 2) + 1:
                say(f"   {_tally(lab, submissions)}")
                say("2. Kill -9: the primary dies in the middle of it. Puppet does not wait.")
                lab.fault(PRIMARY, "kill")
            submissions.append(client.submit_payload(name, payload))
        failed_over = [submission for submission in submissions if submission.failed_over]
        first_ms = round(1000 * sum(attempt.elapsed for attempt in failed_over[0].attempts[:-1]))
        skipped = sum(s.attempts[0].outcome.kind is Kind.SKIPPED for s in failed_over)
        say(f"   {_tally(lab, submissions)}")
        say(f"   the failover cost {first_ms} ms, once; the {skipped} commands after it did not ask the dead primary")
        lab.settle(REPLICA)
        exported = client.exported_resources("Sshkey", for_certname="new.example.com")
        say(f"   exported Sshkey resources, asked of {exported.endpoint}: {len(exported)}, marked as possibly stale:")
        say(f"   {exported.freshness.missing} catalogs and factsets are known to be on the primary only")
    return submissions, first_ms


def _payloads(lab: Lab, nodes: int) -> list[tuple[str, dict[str, Any]]]:
    samples = Samples(lab.puppetdb_jar)
    payloads: list[tuple[str, dict[str, Any]]] = []
    for index in range(nodes):
        certname, now = f"node{index:02}.example.com", datetime.now(UTC)
        payloads.append(("replace facts", samples.facts(certname, index, now)))
        payloads.append(("replace catalog", samples.catalog(certname, index, now)))
        payloads.append(("store report", samples.report(certname, index, now)))
    return payloads


def _tally(lab: Lab, submissions: list[Submission]) -> str:
    names = {node.url: node.name for node in lab.nodes}
    taken = [names[submission.endpoint.url] for submission in submissions if submission.endpoint]
    return f"{len(taken)} acknowledged: {taken.count(PRIMARY)} by the primary, {taken.count(REPLICA)} by the replica"


def _reconcile(lab: Lab, say: Say) -> dict[str, int]:
    total = dict.fromkeys(KINDS, 0)
    for name in (PRIMARY, REPLICA):
        for result in reconcile(load_sync_config(lab.sync_conf(name))):
            for entity, counts in result.entities.items():
                if counts.transferred:
                    total[entity.value] = total.get(entity.value, 0) + counts.transferred
            say(f"   {name} pulled {_pulled(result)} in {result.elapsed_ms} ms")
    return total


def _pulled(result: PassResult) -> str:
    counts = {entity.value: r.transferred for entity, r in result.entities.items() if r.transferred}
    return ", ".join(f"{count} {entity}" for entity, count in counts.items()) or "nothing"


def _records(lab: Lab, name: str) -> Records:
    """Every factset, catalog and report of a server: (command, certname, producer timestamp, hash)."""
    config = load_config(lab.puppetdb_conf)
    endpoint = next(e for e in config.server_urls if e.url == lab.node(name).url)
    session = Session(endpoint, config.tls, config.timeouts)
    queries = (
        ("replace facts", "/factsets", factset_summary()),
        ("replace catalog", "/catalogs", catalog_summary()),
        ("store report", "/reports", _ALL_REPORTS),
    )
    try:
        return {
            (command, row["certname"], to_utc(row["producer_timestamp"]), row["hash"])
            for command, path, query in queries
            for row in session.records(path, query=query)
        }
    finally:
        session.close()


_ALL_REPORTS = ["extract", ["certname", "producer_timestamp", "hash"], ["=", "type", "any"]]


def _key(command: Command) -> tuple[str, ...]:
    return command.name, command.certname, command.producer_timestamp
