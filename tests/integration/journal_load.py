"""Load for a gateway with a journal: what Puppet's clients send it, and what they were told."""

from __future__ import annotations

import http.client
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from pdbclient.config.model import TlsFiles
from pdbclient.lab.samples import Samples
from pdbclient.wire import Command, deactivate_node

from ..faults.gateway import client_context

__all__ = ["Identity", "Ledger", "Load", "Sender", "Traffic", "identity"]

RETRIES = 20
JOURNALLED = "X-Pdbclient-Journalled"
"""The gateway's header in an answer from the journal: no server had taken the command yet."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A command as PuppetDB shows it; `run` is the transaction of a report, else empty."""

    name: str
    certname: str
    stamp: str
    run: str = ""


class Ledger:
    """What was sent, and what was acknowledged with a 200. Thread-safe."""

    def __init__(self) -> None:
        self.sent: set[Identity] = set()
        self.acknowledged: set[Identity] = set()
        self.journal_only = 0
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()

    def send(self, command: Identity) -> None:
        """It goes out, for the first time or again."""
        with self._lock:
            self.sent.add(command)

    def told(self, command: Identity, status: int, headers: http.client.HTTPMessage) -> None:
        """The answer to it."""
        with self._lock:
            self.answers[str(status)] += 1
            if status == 200:
                self.acknowledged.add(command)
                self.journal_only += JOURNALLED in headers

    def broke(self, error: Exception) -> None:
        """No answer came."""
        with self._lock:
            self.answers[type(error).__name__] += 1

    def by_name(self) -> dict[str, int]:
        """How many were acknowledged of each kind."""
        with self._lock:
            return dict(Counter(each.name for each in self.acknowledged))


class Traffic:
    """Commands of `nodes` nodes that stay, and of others that come and are deactivated for good. Thread-safe.

    Every command has a producer timestamp of its own, later than those before it.
    """

    def __init__(self, jar: Path, nodes: int, seed: int) -> None:
        template = Samples(jar).report("node", 1, datetime.now(UTC))
        few = {key: template[key][:3] for key in ("resources", "logs", "metrics")}
        self._report = template | few | {"status": "changed", "noop": False}
        self._nodes = nodes
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._last = datetime.now(UTC)
        self._leavers = 0

    def next(self) -> list[Command]:
        """What one node sends now, one after the other."""
        with self._lock:
            certname = f"node{self._random.randrange(self._nodes):03}.example"
            kind = self._random.choices(("facts", "catalog", "report", "off", "leaver"), (25, 25, 35, 5, 10))[0]
        match kind:
            case "facts":
                return [self.facts(certname)]
            case "catalog":
                return [self.catalog(certname)]
            case "report":
                return [self.report(certname)]
            case "off":
                return [self.deactivation(certname)]
        with self._lock:
            self._leavers += 1
            certname = f"leaver{self._leavers:05}.example"
        return [self.facts(certname), self.deactivation(certname)]

    def facts(self, certname: str) -> Command:
        now = self._now()
        values = {"stamp": now.isoformat(), "uptime": "1 day", "os": {"name": "Debian", "release": {"major": "12"}}}
        payload = {"certname": certname, "environment": "production", "producer": None, "values": values}
        return Command.create("replace facts", payload, now=now)

    def catalog(self, certname: str) -> Command:
        now = self._now()
        main = {"type": "Class", "title": "main"}
        key = {"type": "Sshkey", "title": certname}
        nowhere: dict[str, object] = {"file": None, "line": None, "tags": []}
        resources = [
            {**main, **nowhere, "exported": False, "parameters": {}},
            {**key, **nowhere, "exported": True, "parameters": {"key": now.isoformat()}},
        ]
        payload = {
            **dict.fromkeys(("code_id", "job_id", "producer")),
            "certname": certname,
            "version": now.isoformat(),
            "environment": "production",
            "transaction_uuid": str(uuid.uuid4()),
            "catalog_uuid": str(uuid.uuid4()),
            "resources": resources,
            "edges": [{"source": main, "target": key, "relationship": "contains"}],
        }
        return Command.create("replace catalog", payload, now=now)

    def report(self, certname: str) -> Command:
        """No two are alike."""
        now = self._now()
        changes = {"certname": certname, "transaction_uuid": str(uuid.uuid4()), "producer_timestamp": None}
        return Command.create("store report", self._report | changes, now=now)

    def deactivation(self, certname: str) -> Command:
        return deactivate_node(certname, now=self._now())

    def _now(self) -> datetime:
        with self._lock:
            # PuppetDB's answers have milliseconds.
            self._last = max(datetime.now(UTC), self._last + timedelta(milliseconds=1))
            return self._last


def identity(command: Command) -> Identity:
    """Which command it is, by its body as JSON."""
    run = ""
    if command.name == "store report":
        # Found, not decoded: the load must not take the time of those it is for.
        run = command.body.partition(b'"transaction_uuid":"')[2][:36].decode()
    return Identity(command.name, command.certname, command.producer_timestamp, run)


class Sender:
    """One client, on a kept TLS connection, with the lines of the stock terminus. Not thread-safe."""

    def __init__(self, port: int, tls: TlsFiles, ledger: Ledger) -> None:
        self._connection = http.client.HTTPSConnection("localhost", port, context=client_context(tls), timeout=30.0)
        self._ledger = ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, command: Command, known: Identity) -> bool:
        """Submit it; whether it was acknowledged."""
        lines = {"Content-Type": "application/json", "X-Uncompressed-Length": str(command.length)}
        if command.encoding != "identity":
            lines["Content-Encoding"] = command.encoding
        self._ledger.send(known)
        try:
            self._connection.request("POST", f"/pdb/cmd/v1?{urlencode(command.params())}", command.body, lines)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._ledger.broke(error)
            return False
        self._ledger.told(known, response.status, response.headers)
        return response.status == 200


class Load:
    """Clients in `threads` threads, each `rate` commands a second at most, from entering the context to leaving it.

    A client that got no 200 sends the same bytes again, or gives the command up; by the toss of a coin.
    """

    def __init__(
        self, port: int, tls: TlsFiles, traffic: Traffic, ledger: Ledger, *, threads: int, rate: float, seed: int
    ) -> None:
        self._port, self._tls, self._traffic, self._ledger = port, tls, traffic, ledger
        self._pause = 1 / rate
        self._over = threading.Event()
        self._failed: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + number),), name=f"load-{number}")
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert self._failed == []

    def _run(self, chance: random.Random) -> None:
        try:
            with Sender(self._port, self._tls, self._ledger) as sender:
                for command in self._commands():
                    known = identity(command)
                    self._submit(sender, command.gzipped() if chance.random() < 0.5 else command, known, chance)
        except BaseException as error:  # noqa: BLE001 - raised where the load ends
            self._failed.append(error)

    def _commands(self) -> Iterator[Command]:
        while not self._over.is_set():
            yield from self._traffic.next()

    def _submit(self, sender: Sender, command: Command, known: Identity, chance: random.Random) -> None:
        for _ in range(RETRIES):
            self._over.wait(chance.expovariate(1 / self._pause))
            if sender.send(command, known) or self._over.is_set() or chance.random() < 0.5:
                return
