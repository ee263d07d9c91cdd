"""Failover on a real PuppetDB pair: freezes, kills and a database that is gone; what is lost (nothing) and paid."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient import AllEndpointsFailed, Client
from pdbclient.config import Timeouts, load_config
from pdbclient.http.outcome import Kind, Operation
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.wire import Command
from tests.soak import LONG, rounds

from ..faults.proxy import Proxy, Reset
from .journal_truth import process_all
from .schema import close_connections

pytestmark = pytest.mark.integration

PRIMARY, REPLICA = "primary", "replica"
LIMITS = Timeouts(attempt=10.0, connect=1.0, read=2.0, operation=20.0)


class FailoverSite:
    """The pair, clients of it with short limits, and what each server holds."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab = lab
        self.config = replace(load_config(lab.puppetdb_conf), timeouts=LIMITS)
        self.primary, self.replica = self.config.server_urls
        self.samples = Samples(lab.puppetdb_jar)
        self._stack = stack

    def client(self, **changes: Any) -> Client:
        return self._stack.enter_context(Client(replace(self.config, **changes)))

    def proxy(self, fault: Any = None) -> Proxy:
        """In front of the primary."""
        return self._stack.enter_context(Proxy(self.primary.port, fault))

    def certnames(self, name: str, table: str = "certnames") -> set[str]:
        self.lab.settle(name)
        return {row[0] for row in self.lab.sql(name, f"select certname from {table}")}

    @contextmanager
    def down(self, how: str, back: str) -> Iterator[None]:
        """The primary in that state."""
        self.lab.fault(PRIMARY, how)
        try:
            yield
        finally:
            self.lab.fault(PRIMARY, back)


@pytest.fixture
def site(pair: Lab) -> Iterator[FailoverSite]:
    with ExitStack() as stack:
        yield FailoverSite(pair, stack)


def facts(number: int, certname: str = "") -> Command:
    payload = {
        "certname": certname or f"node{number:04}",
        "environment": "production",
        "producer": None,
        "values": {"number": number},
    }
    return Command.create("replace facts", payload, now=datetime.now(UTC))


def until(true: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition, or fail; the seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it never became true"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.mark.soak
@pytest.mark.parametrize(
    "kept", [True, False][: rounds(1, 2)], ids=["on kept connections", "on new connections"][: rounds(1, 2)]
)
def test_a_frozen_primary_costs_a_hundred_commands_one_timeout_and_gets_its_writes_back(
    site: FailoverSite, kept: bool
) -> None:
    client = site.client()
    if kept:
        client.submit(facts(0))
    with site.down("freeze", "thaw"):
        done = [client.submit(facts(n)) for n in range(100)]
        assert {submission.endpoint for submission in done} == {site.replica}
        paid = [a for submission in done for a in submission.attempts if a.outcome.kind is not Kind.SKIPPED]
        assert Counter(attempt.endpoint for attempt in paid) == {site.primary: 1, site.replica: 100}
        # The attempt's own time, not the clock on the wall: that has the noise of the machine in it.
        cost = sum(attempt.elapsed for attempt in paid if attempt.endpoint == site.primary)
        assert cost < 1.5 * (LIMITS.read if kept else LIMITS.connect)
        # Long enough for probes of the frozen server to fail, and to be put off.
        time.sleep(6)
        assert client.submit(facts(0)).endpoint == site.replica
    took = until(lambda: client.submit(facts(0)).endpoint == site.primary, 45)
    assert took > 3, "it takes two good probes"
    assert client.submit(facts(1)).failed_over is False


@pytest.mark.soak
@pytest.mark.every_server("8.8.1+7.12.1", own=LONG)
def test_a_primary_killed_in_the_middle_of_a_thousand_commands_loses_none(site: FailoverSite) -> None:
    client = site.client()
    acknowledged: set[str] = set()
    failed: list[AllEndpointsFailed] = []
    halfway = threading.Event()

    def submit(number: int) -> None:
        command = facts(number)
        try:
            done = client.submit(command)
        except AllEndpointsFailed as error:
            failed.append(error)
        else:
            assert done.uuid
            acknowledged.add(command.certname)
        if len(acknowledged) >= 400:
            halfway.set()

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(submit, number) for number in range(1000)]
        assert halfway.wait(60)
        site.lab.fault(PRIMARY, "kill")
        for each in running:
            each.result()
    assert failed == []
    assert len(acknowledged) == 1000
    on_replica = site.certnames(REPLICA)
    site.lab.fault(PRIMARY, "start")
    on_primary = site.certnames(PRIMARY)
    assert len(on_primary) >= 300
    assert len(on_replica) >= 300
    assert acknowledged - (on_primary | on_replica) == set()
    assert site.lab.discarded(PRIMARY) == site.lab.discarded(REPLICA) == ()


def test_nothing_is_acknowledged_that_no_server_acknowledged(site: FailoverSite) -> None:
    client = site.client(server_urls=(site.primary,))
    client.submit(facts(0))
    with site.down("kill", "start"):
        for number in range(1, 4):
            with pytest.raises(AllEndpointsFailed):
                client.submit(facts(number))
    assert site.certnames(PRIMARY) == {"node0000"}


@pytest.mark.every_server
def test_a_report_whose_answer_was_lost_is_stored_once_on_each_server_under_one_hash(site: FailoverSite) -> None:
    report = site.samples.report("a.example", 1, datetime.now(UTC))
    command = Command.create("store report", report, now=datetime.now(UTC))
    proxy = site.proxy(Reset(sent=command.length, grace=1.0))
    client = site.client(server_urls=(replace(site.primary, port=proxy.port), site.replica), gzip_min_bytes=10**9)
    done = client.submit(command)
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.AMBIGUOUS, Kind.ACCEPTED]
    for name in (PRIMARY, REPLICA):
        site.lab.settle(name)
    stored = [site.lab.sql(name, "select encode(hash, 'hex') from reports") for name in (PRIMARY, REPLICA)]
    assert len(stored[0]) == 1, "the primary had taken it before the connection broke"
    assert stored[0] == stored[1]
    client.submit(command)
    site.lab.settle(REPLICA)
    assert site.lab.sql(REPLICA, "select count(*) from reports") == [("1",)]


def test_reads_do_not_go_back_in_time_after_a_failover(site: FailoverSite) -> None:
    client = site.client()

    def catalog(version: int, number: int = 1) -> Command:
        payload = site.samples.catalog(f"node{number}", version, datetime.now(UTC))
        return Command.create("replace catalog", payload, now=datetime.now(UTC))

    def collected() -> dict[str, Any]:
        found = client.exported_resources("Sshkey", for_certname="collector")
        return {row["certname"]: row["parameters"]["host_aliases"] for row in found} | {"from": found.endpoint}

    old = catalog(1)
    client.submit(old)
    site.lab.settle(PRIMARY)
    before = collected()
    assert before["from"] == site.primary
    new = [catalog(2), catalog(3, number=2)]
    with site.down("kill", "start"):
        for command in new:
            assert client.submit(command).endpoint == site.replica
        site.lab.settle(REPLICA)
        during = collected()
        assert during["from"] == site.replica
        assert during["node1"] != before["node1"]
        assert set(during) == {"node1", "node2", "from"}
    # Writes go home, reads wait.
    until(lambda: client.submit(facts(0, "other")).endpoint == site.primary, 45)
    for _ in range(3):
        assert collected() == during
        time.sleep(1)
    found = client.exported_resources("Sshkey", for_certname="collector")
    assert found.failed_over
    assert client.next_in_line(Operation.QUERY)[0] == site.replica
    # What the reconciler will do: the missing catalogs come to the primary, past this client.
    with Client(replace(site.config, server_urls=(site.primary,))) as other:
        other.submit(new[0])
        site.lab.settle(PRIMARY)
        time.sleep(6)
        assert collected()["from"] == site.replica, "one of two is not all"
        other.submit(new[1])
        site.lab.settle(PRIMARY)
    until(lambda: bool(collected()["from"] == site.primary), 20)
    after = collected()
    assert {key: after[key] for key in ("node1", "node2")} == {key: during[key] for key in ("node1", "node2")}
    found = client.exported_resources("Sshkey", for_certname="collector")
    assert (found.freshness.stale, found.freshness.missing) == (False, 0)


def test_an_answer_says_how_much_its_server_may_lack(site: FailoverSite) -> None:
    client = site.client()
    first = facts(1)
    client.submit(first)
    client.submit(facts(2))
    client.submit(facts(2))
    with site.down("freeze", "thaw"):
        stale = client.query("nodes {}")
    assert (stale.endpoint, stale.failed_over) == (site.replica, True)
    assert (stale.freshness.stale, stale.freshness.missing) == (True, 2)
    assert stale.freshness.since == first.producer_timestamp


@pytest.mark.soak
@pytest.mark.every_server("8.8.1+7.12.1", own=LONG)
def test_without_its_database_a_puppetdb_takes_commands_and_cannot_answer_queries(site: FailoverSite) -> None:
    client = site.client(timeouts=replace(LIMITS, read=8.0))
    client.submit(facts(1))
    site.lab.settle(PRIMARY)
    with site.down("stop-postgres", "start-postgres"):
        commands = [client.submit(facts(number)) for number in range(2, 6)]
        time.sleep(1)  # until no connection counts as just used: `disconnected` in `tests/versions.py`
        answers = [client.query("nodes {}") for _ in range(4)]
        more = client.submit(facts(6))
    assert [done.endpoint for done in (*commands, more)] == [site.primary] * 5, "its queue is on its own disk"
    assert {answer.endpoint for answer in answers} == {site.replica}
    met = [attempt for answer in answers for attempt in answer.attempts if attempt.endpoint == site.primary]
    kinds = [attempt.outcome.kind for attempt in met]
    asked, left_out = kinds[: kinds.index(Kind.SKIPPED)], kinds[kinds.index(Kind.SKIPPED) :]
    # The third failure shuts it out. So does its status, 503, which is asked beside a query that waits for long.
    *before, last = asked
    assert {*before} <= {Kind.SERVER_ERROR}, kinds
    assert last is Kind.BUSY or asked == [Kind.SERVER_ERROR] * 3, kinds
    assert {*left_out} == {Kind.SKIPPED}
    status = {Kind.SERVER_ERROR: 500, Kind.BUSY: 503, Kind.SKIPPED: None}
    assert [attempt.outcome.status for attempt in met] == [status[kind] for kind in kinds]
    until(lambda: client.query("nodes {}").endpoint == site.primary, 45)
    # What met the missing database often enough is tried again after an hour, or a restart.
    assert process_all(site.lab, PRIMARY) == set()
    assert site.certnames(PRIMARY) == {f"node{number:04}" for number in range(1, 7)}, "nothing that it took is lost"


@pytest.mark.soak
@pytest.mark.every_server("8.8.1+7.12.1", own=LONG)
def test_a_query_whose_connection_to_the_database_is_closed_is_answered_by_the_next_server(
    site: FailoverSite,
) -> None:
    """As when PostgreSQL restarts. It shuts no command out, and queries for no longer than the server says."""
    client = site.client()
    for _ in range(20):
        assert {client.query("nodes {}").endpoint for _ in range(8)} == {site.primary}
        close_connections(site.lab, PRIMARY)
        answer = client.query("nodes {}")
        if answer.endpoint != site.primary:  # else this took more than half a second, and the connection was replaced
            break
    assert [attempt.endpoint for attempt in answer.attempts] == [site.primary, site.replica]
    assert answer.attempts[0].outcome.kind in {Kind.SERVER_ERROR, Kind.BUSY}
    assert client.submit(facts(1)).endpoint == site.primary
    until(lambda: client.query("nodes {}").endpoint == site.primary, 45)


@pytest.mark.soak
@pytest.mark.every_server("8.8.1+7.12.1", own=LONG)
def test_a_starting_puppetdb_is_never_taken_for_one_that_answers(site: FailoverSite) -> None:
    """It refuses, then is misrouted or busy ("currently down"), then answers: all but the last means the next one."""
    site.lab.fault(PRIMARY, "kill")
    kinds: Counter[Kind] = Counter()
    starter = threading.Thread(target=site.lab.fault, args=(PRIMARY, "start"))
    starter.start()
    try:
        while starter.is_alive():
            # A new client each time: none of them remembers.
            with Client(site.config) as client:
                attempts = client.query("nodes {}").attempts
            kinds[attempts[0].outcome.kind] += 1
            expected = site.primary if attempts[0].outcome.kind is Kind.ACCEPTED else site.replica
            assert attempts[-1].endpoint == expected
            time.sleep(0.05)
    finally:
        starter.join()
    assert set(kinds) <= {Kind.NOT_SENT, Kind.MISROUTED, Kind.BUSY, Kind.ACCEPTED, Kind.TIMEOUT, Kind.AMBIGUOUS}
    assert kinds[Kind.NOT_SENT]
