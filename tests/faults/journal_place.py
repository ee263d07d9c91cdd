"""A gateway process with a journal in front of one fake PuppetDB, and commands that are told apart."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from pdbclient.config.model import Timeouts
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries
from pdbclient.wire import Command

from .conftest import Site
from .fake import Answer, Request, healthy
from .gateway import GatewayProcess, Told, ask, gateway_config, write_config
from .proxy import Reset

__all__ = ["QUICK", "Place", "SlowCommands", "as_sent", "command", "holding", "reports", "windows"]

QUICK = {
    "pdbclient.http.breaker.PROBE_GAP": 0.2,
    "pdbclient.http.breaker.BACKOFF_FIRST": 0.2,
    "pdbclient.http.breaker.BACKOFF_LAST": 0.5,
}
"""A server that is back is noticed at once."""
PATIENT = Timeouts(attempt=30.0, connect=10.0, read=10.0, operation=25.0)
"""No command times out because this machine is slow: it would rightly be sent again, and the tests count."""
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Place:
    """A gateway with a journal in front of one fake PuppetDB, which a proxy can take away."""

    def __init__(self, site: Site, directory: Path, stack: ExitStack) -> None:
        self.site, self._directory, self._stack = site, directory, stack
        self.journal: Path | str = directory / "journal"
        self.config = gateway_config(site.config(site.proxy.port, timeouts=PATIENT), site.pki.server)
        assert self.config.gateway_url is not None
        self.gateway = self.config.gateway_url
        self.first = ""
        self._runs = 0

    def write(self, journal: Path | str, rate: int = 500, **settings: object) -> Path:
        """The gateway's configuration."""
        path = write_config(self._directory / "puppetdb.conf", self.config)
        with path.open("a") as file:
            file.write(f"journal = {journal}\njournal_rate = {rate}\n")
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        return path

    def start(self, rate: int = 500, **settings: object) -> GatewayProcess:
        """Start it. `first` is Python that it runs before anything else."""
        self._runs += 1
        log, config = self._directory / f"log{self._runs}", self.write(self.journal, rate, **settings)
        process = GatewayProcess(config, self.gateway.port, log, patches=QUICK, first=self.first)
        return self._stack.enter_context(process)

    def run(self, rate: int = 500, **settings: object) -> GatewayProcess:
        """Start it, and wait until it serves."""
        process = self.start(rate, **settings)
        process.said("listening at", seconds=30)
        # Who answers has its signal handlers in place, too.
        ask(self.gateway.port, self.site.pki.client, "/pdb/meta/v1/version")
        return process

    def away(self, away: bool = True) -> None:
        """Whether the PuppetDB cannot be reached."""
        self.site.proxy.fault = Reset(0) if away else None

    def submit(self, command: Command, patience: float = 20.0) -> Told:
        lines = {"Content-Type": "application/json"}
        if command.encoding != "identity":
            lines["Content-Encoding"] = command.encoding
        target = f"/pdb/cmd/v1?{urlencode(command.params())}"
        return ask(self.gateway.port, self.site.pki.client, target, "POST", command.body, lines, patience)

    def journalled(self, *commands: Command) -> None:
        """Submit them while no server can take them."""
        for command in commands:
            told = self.submit(command)
            assert (told.status, told.headers["X-Pdbclient-Journalled"]) == (200, "true")

    @property
    def arrived(self) -> list[Command]:
        """What came to the PuppetDB, as it was sent."""
        return [as_sent(request) for request in self.site.primary.commands]

    def states(self, journal: Path | str | None = None) -> dict[EntryState, int]:
        """What is in the journal."""
        with Journal.open(str(journal or self.journal), beside=True, patience=None) as opened:
            return dict(opened.run(entries.counts).entries)

    def end(self) -> None:
        """End what runs."""
        self._stack.close()

    def nothing_pending(self) -> bool:
        return EntryState.PENDING not in self.states()


def command(name: str, number: int, certname: str = "node.example", size: int = 0) -> Command:
    """A command of its own; what comes later has a higher number. `size`: bytes that cannot be compressed."""
    moment = (START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    body = b'{"number": %d, "producer_timestamp": "%s"}' % (number, moment.encode()) + os.urandom(size)
    return Command.ready(name, 9, certname, moment, body, "gzip" if size else "identity", len(body))


def as_sent(request: Request) -> Command:
    given = {key: values[0] for key, values in parse_qs(request.target.partition("?")[2]).items()}
    name, version = given["command"].replace("_", " "), int(given["version"])
    encoding = request.headers.get("content-encoding", "identity")
    return Command.ready(name, version, given["certname"], given["producer-timestamp"], request.body, encoding)


def reports(count: int) -> list[Command]:
    return [command("store report", number) for number in range(count)]


def windows(times: Sequence[float]) -> Iterator[tuple[int, float]]:
    """How many came in how many seconds, from each to each later one."""
    for first, start in enumerate(times):
        for last in range(first + 1, len(times)):
            yield last - first + 1, times[last] - start


class SlowCommands:
    """Takes `seconds` for each command."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, request: Request) -> Answer:
        if request.is_command:
            time.sleep(self._seconds)
        return healthy(request)


def holding(journal: Path | str) -> closing[sqlite3.Connection]:
    """The journal's file locked, so that nothing can be written to it, until the context is left."""
    connection = sqlite3.connect(journal, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    return closing(connection)
