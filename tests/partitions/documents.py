"""What nodes send: commands of real size, each with the node's own counter, which its exported resource shows."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from pdbclient.lab.samples import Samples
from pdbclient.wire import Command, deactivate_node
from pdbclient.wire.query import exported_resources

from .terminus import StockAnswer, StockRequest

__all__ = ["Document", "Node", "asked_for_exported", "asked_for_node", "counters", "submission"]

TYPE = "Sshkey"
"""The type of the exported resource whose parameter `key` is the counter."""
NAMES = {
    "facts": "replace facts",
    "catalog": "replace catalog",
    "inputs": "replace catalog inputs",
    "report": "store report",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A command with what is recorded of it: its kind, the counter, and of a report its transaction."""

    command: Command
    kind: str
    number: int
    run: str = ""


class Node:
    """One node, which one thread speaks for. No two of its commands have one time, nor one number."""

    def __init__(self, samples: Samples, certname: str, index: int) -> None:
        self.certname = certname
        self._samples, self._index = samples, index
        self._numbers = itertools.count(1)
        self._last = datetime.now(UTC)

    def run(self) -> Iterator[Document]:
        """What a run of the agent sends, in Puppet's order."""
        yield self._document("facts")
        now, transaction = self._now(), str(uuid.uuid4())
        yield self._document("catalog", now, transaction)
        # The termini give both one time.
        yield self._document("inputs", now)
        yield self._document("report", transaction=transaction)

    def deactivation(self) -> Document:
        """What `puppet node deactivate` sends."""
        command = deactivate_node(self.certname, now=self._now())
        return Document(command, "deactivate", next(self._numbers))

    def _document(self, kind: str, now: datetime | None = None, transaction: str | None = None) -> Document:
        now, number = now or self._now(), next(self._numbers)
        payload = self._payload(kind, now, number, transaction)
        command = Command.create(NAMES[kind], payload, now=now).gzipped()
        return Document(command, kind, number, payload["transaction_uuid"] if kind == "report" else "")

    def _payload(self, kind: str, now: datetime, number: int, transaction: str | None) -> dict[str, Any]:
        match kind:
            case "facts":
                payload = self._samples.facts(self.certname, self._index, now)
                payload["values"]["counter"] = number
            case "catalog":
                payload = self._samples.catalog(self.certname, self._index, now, transaction_uuid=transaction)
                for resource in payload["resources"]:
                    if resource["type"] == TYPE and resource["exported"]:
                        resource["parameters"]["key"] = str(number)
            case "inputs":
                inputs = [["hiera", f"profile::option{n}"] for n in range(20)] + [["hiera", f"counter{number}"]]
                payload = {"catalog_uuid": str(uuid.uuid4()), "inputs": inputs}
                payload |= {"certname": self.certname, "producer_timestamp": now}
            case _:
                payload = self._samples.report(self.certname, self._index, now, transaction_uuid=transaction)
        return payload

    def _now(self) -> datetime:
        # PuppetDB's answers have milliseconds.
        self._last = max(datetime.now(UTC), self._last + timedelta(milliseconds=1))
        return self._last


def submission(command: Command) -> StockRequest:
    """How Puppet Server submits it."""
    lines = {"Content-Type": "application/json; charset=utf-8", "X-Uncompressed-Length": str(command.length)}
    if command.encoding != "identity":
        lines["Content-Encoding"] = command.encoding
    return StockRequest("POST", f"/pdb/cmd/v1?{urlencode(command.params())}", command.body, lines)


def asked_for_exported(certname: str) -> StockRequest:
    """What the compiler of `certname` asks for `Sshkey <<| |>>`."""
    query = json.dumps(exported_resources(TYPE, None, certname), separators=(",", ":"))
    return StockRequest("GET", f"/pdb/query/v4/resources?query={quote(query, safe='')}")


def asked_for_node(certname: str) -> StockRequest:
    """What asks for the state of one node."""
    query = json.dumps(["=", "certname", certname])
    return StockRequest("GET", f"/pdb/query/v4/nodes?query={quote(query, safe='')}")


def counters(answer: StockAnswer) -> dict[str, int]:
    """The counter of each node in an answer about exported resources. Raises `ValueError` when it is none."""
    rows: Sequence[Any] = json.loads(answer.body)
    try:
        return {row["certname"]: int(row["parameters"]["key"]) for row in rows if row["type"] == TYPE}
    except (TypeError, KeyError) as error:
        raise ValueError(f"no resources: {answer.body[:200]!r}") from error
