"""Whatever happens to two or three PuppetDBs and their reconcilers: left in peace, they come to hold the same, or
say truly why not. Hypothesis makes up the histories.

A run in CI tries the same ones each time; `make soak` tries many new ones.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pdbclient.sync.inventory import groups
from pdbclient.sync.run import records

from ...soak import LONG, rounds
from ...versions import RELEASES, Release
from .conftest import MEMORY, NOW
from .fake import FakePuppetDB, Row, catalog, deactivation, expiration, facts, inputs, report
from .machine_truth import unexplained
from .machine_world import Killed, SyncWorld, unreachable

CERTNAMES = st.sampled_from(["a.example.com", "b.example.com"])
SERVER = st.integers(0, 2)
SERVERS = st.sets(SERVER, min_size=1)
MINUTE, HOUR, DAY = 60, 3600, 86_400
AGES = (10, 20, 4000, 3 * DAY, 6 * DAY, 13 * DAY, 20 * DAY)
WHEN = st.one_of(
    st.none(),
    st.sampled_from([NOW - age for age in AGES]),
    st.sampled_from([NOW + ahead for ahead in (30, 2 * HOUR, 90 * DAY)]),
)
"""Wall seconds, always the same few: so times are equal often. None: now."""
KINDS = st.sampled_from(
    [
        "replace facts",
        "replace catalog",
        "replace catalog inputs",
        "configure expiration",
        "store report",
        "deactivate node",
    ]
)
FAULTS = st.sampled_from(["down", "cut", "discard", "killed", "meanwhile"])


class Machine(RuleBasedStateMachine):
    """Servers are known by number, modulo how many there are."""

    @initialize(
        servers=st.integers(2, 3),
        mangled=st.sets(CERTNAMES, max_size=1),
        releases=st.lists(st.sampled_from(RELEASES), min_size=3, max_size=3),
    )
    def start(self, servers: int, mangled: set[str], releases: list[Release]) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.world = SyncWorld(Path(self.directory.name), "abc"[:servers], mangled, releases)
        self.backups: list[tuple[str, Any]] = []

    def name(self, number: int) -> str:
        return self.world.names[number % len(self.world.names)]

    @rule(kind=KINDS, certname=CERTNAMES, when=WHEN, value=st.integers(0, 2), to=SERVERS)
    def send(self, kind: str, certname: str, when: float | None, value: int, to: set[int]) -> None:
        millis = self.world.millis if when is None else int(when * 1000)
        self.world.send(kind, payload(kind, certname, millis, value), millis, {self.name(each) for each in to})

    @rule(certname=CERTNAMES, to=SERVERS)
    def run_agent(self, certname: str, to: set[int]) -> None:
        """An ordinary run now."""
        for kind in ("replace facts", "replace catalog", "replace catalog inputs", "store report"):
            self.send(kind, certname, None, len(self.world.servers["a"].submitted), to)

    @rule(seconds=st.sampled_from([1, 2 * MINUTE, 2 * HOUR, DAY, 6 * DAY, 15 * DAY]))
    def wait(self, seconds: int) -> None:
        self.world.time.elapsed += seconds

    @rule(server=SERVER, seconds=st.sampled_from([0, 50, -50, 2 * HOUR, -2 * HOUR]))
    def set_the_clock_of_a_server(self, server: int, seconds: int) -> None:
        self.world.skew[self.name(server)] = seconds

    @rule(server=SERVER, seconds=st.sampled_from([0, 2 * HOUR, -DAY]))
    def set_the_clock_of_a_reconciler(self, server: int, seconds: int) -> None:
        self.world.step[self.name(server)] = seconds

    @rule(server=SERVER)
    def collect_garbage(self, server: int) -> None:
        self.world.collect_garbage(self.name(server))

    @rule(server=SERVER)
    def back_up(self, server: int) -> None:
        self.backups.append((self.name(server), self.world.servers[self.name(server)].backup()))

    @precondition(lambda self: self.backups)
    @rule(which=st.integers(0, 9))
    def restore(self, which: int) -> None:
        self.world.restore(*self.backups[which % len(self.backups)])

    @rule(server=SERVER)
    def empty(self, server: int) -> None:
        name = self.name(server)
        self.world.restore(name, FakePuppetDB(name, self.world.servers[name].now, self.world.releases[name]).backup())

    @rule(local=SERVER, other=st.integers(1, 2))
    def pull(self, local: int, other: int) -> None:
        self.world.pull(*self.pair(local, other))

    @rule()
    def pull_all(self) -> None:
        for local, remote in self.world.pairs:
            self.world.pull(local, remote)

    @rule(
        local=SERVER,
        other=st.integers(1, 2),
        at_remote=st.booleans(),
        after=st.integers(1, 25),
        fault=FAULTS,
        certname=CERTNAMES,
    )
    def pull_in_trouble(self, local: int, other: int, at_remote: bool, after: int, fault: str, certname: str) -> None:
        here, there = self.pair(local, other)
        self.world.faulty[here, there] += 1

        def happens(server: FakePuppetDB) -> None:
            match fault:
                case "down":
                    unreachable(server)
                case "cut":
                    server.cut = 1
                case "discard":
                    server.discards = {certname}
                case "killed":
                    raise Killed
                case _:
                    now = self.world.millis
                    for kind in ("replace facts", "deactivate node"):
                        self.world.send(kind, payload(kind, certname, now, after), now, {server.endpoint.host[0]})

        with self.world.trouble(there if at_remote else here, after, happens):
            self.world.pull(here, there)

    def pair(self, local: int, other: int) -> tuple[str, str]:
        names = self.world.names
        here = local % len(names)
        return names[here], names[(here + 1 + other % (len(names) - 1)) % len(names)]

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.rest()
            assert not list(unexplained(self.world))
            # What one server purges and another still has does not come back.
            for name in self.world.names[1:]:
                self.world.collect_garbage(name)
            self.world.rest()
            assert not list(unexplained(self.world))
        finally:
            self.world.close()
            self.directory.cleanup()


def payload(kind: str, certname: str, millis: int, value: int) -> Row:
    """A command's payload; other values make other content."""
    match kind:
        case "replace facts":
            return facts(certname, millis, value)
        case "replace catalog":
            # Two of three with the same resources, and so the same hash.
            return catalog(certname, millis, value % 2, f"u{value}")
        case "replace catalog inputs":
            return inputs(certname, millis, f"u{value}", (str(value),))
        case "configure expiration":
            return expiration(certname, millis, value > 0)
        case "store report":
            return report(certname, millis, f"r{value}")
        case _:
            return deactivation(certname, millis)


@pytest.fixture(autouse=True)
def _quiet_log() -> Any:
    """Thousands of passes, each with its warnings: nobody reads them here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(rounds(300, 7200))
@pytest.mark.parametrize("many", [records.MANY, 0], ids=["few", "many"])
def test_after_any_history_servers_left_in_peace_hold_the_same_or_say_truly_why_not(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MANY", many)
    monkeypatch.setattr(groups, "FEW", min(many, groups.FEW))
    Machine.TestCase.settings = settings(
        max_examples=rounds(6, 1000),
        stateful_step_count=rounds(30, 60),
        deadline=None,
        derandomize=not LONG,
        suppress_health_check=list(HealthCheck),
    )
    Machine.TestCase("runTest").runTest()
