"""Exported resources across a failover on a real pair, with a journal: who answers has what the other one took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pypuppetdb
import pytest

from pdbclient import Client, QueryResult, StaleAnswer
from pdbclient.config import Endpoint, Timeouts, load_config
from pdbclient.http.outcome import Operation
from pdbclient.http.session import Session
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries, holdings
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.wire import Command, deactivate_node
from pdbclient.wire.timestamp import to_utc
from tests.soak import LONG, rounds

from ..faults.gateway import ask, eventually
from .journal_gateway import JournalGateway
from .schema import flags_table

pytestmark = pytest.mark.integration

PRIMARY, REPLICA = "primary", "replica"
# More than it takes on a busy machine: what is tested is what comes, how fast it does is printed.
LIMITS = Timeouts(attempt=120.0, connect=5.0, read=5.0, operation=180.0)
BUDGET = 60.0
BACK = {"kill": "start", "freeze": "thaw"}


class ExportedSite:
    """The pair, clients of it with one journal, and catalogs that export an `Sshkey` and a `File`."""

    def __init__(self, lab: Lab, journal: Path, stack: ExitStack) -> None:
        self.lab = lab
        self.config = replace(load_config(lab.puppetdb_conf), timeouts=LIMITS)
        self.primary, self.replica = self.config.server_urls
        self._journal = journal
        self._samples = Samples(lab.puppetdb_jar)
        self._stack = stack

    def client(self, **settings: Any) -> Client:
        """A client with the journal, which no other one may have open."""
        return self._stack.enter_context(self.opened(**settings))

    def opened(self, **settings: Any) -> Client:
        defaults: dict[str, Any] = {"journal": str(self._journal), "stale_exported_budget": BUDGET}
        return Client(replace(self.config, **(defaults | settings)))

    def catalog(self, certname: str, version: int = 1) -> Command:
        now = datetime.now(UTC)
        return Command.create("replace catalog", self._samples.catalog(certname, version, now), now=now)

    def facts(self, certname: str) -> Command:
        now = datetime.now(UTC)
        return Command.create("replace facts", self._samples.facts(certname, 1, now), now=now)

    def submit(self, client: Client, certname: str, version: int = 1) -> None:
        assert client.submit(self.catalog(certname, version)).uuids

    @contextmanager
    def down(self, name: str = PRIMARY, how: str = "kill") -> Iterator[None]:
        self.lab.fault(name, how)
        try:
            yield
        finally:
            self.lab.fault(name, BACK[how])


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[ExportedSite]:
    with ExitStack() as stack:
        yield ExportedSite(pair, tmp_path / "journal", stack)


def exported(client: Client) -> QueryResult:
    return client.exported_resources("Sshkey", for_certname="collector.example")


def certnames(result: QueryResult) -> list[str]:
    return sorted(row["certname"] for row in result)


def told(result: QueryResult) -> list[str]:
    """Its rows, sorted: PuppetDB gives the same ones now in this order, now in that."""
    return sorted(map(repr, result.rows))


@pytest.mark.soak
@pytest.mark.every_server
@pytest.mark.parametrize("how", ["freeze", "kill"][: rounds(1, 2)])
def test_what_the_primary_took_is_in_the_replicas_answer_after_a_failover(site: ExportedSite, how: str) -> None:
    """In every run a killed one is met on the way back, below, and by the deactivated node."""
    client = site.client()
    site.submit(client, "one.example")
    site.lab.settle(PRIMARY)
    before = exported(client)
    assert (before.endpoint, certnames(before)) == (site.primary, ["one.example"])
    with site.down(how=how):
        with site.opened(journal=None) as without:
            assert certnames(exported(without)) == [], "a replica without the journal goes back in time"
        began = time.monotonic()
        after = exported(client)
        print(f"{how}: the replica answered with it {time.monotonic() - began:.2f} s after the question")
        began = time.monotonic()
        again = exported(client)
        print(f"{how}: and the next time in {time.monotonic() - began:.3f} s")
    assert (after.endpoint, told(after)) == (site.replica, told(before))
    assert not after.freshness.stale
    assert told(again) == told(before)


@pytest.mark.every_server
def test_a_primary_that_is_emptied_while_it_is_up_never_answers_without_what_it_had(
    site: ExportedSite, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    names = [f"n{number}.example" for number in range(4)]
    for certname in names:
        site.submit(client, certname)
    site.lab.settle(PRIMARY)
    journal = client._journal
    assert journal is not None
    # Its audit has seen them there.
    url = site.primary.url
    assert eventually(lambda: len(journal.journal.run(holdings.confirmed, url, 1 << 60, 10)) == len(names), 60)
    before = exported(client)
    assert (before.endpoint, certnames(before)) == (site.primary, names)
    site.lab.empty(PRIMARY)
    with site.opened(journal=None) as without:
        assert certnames(exported(without)) == []
    caplog.clear()
    after = exported(client)
    assert (after.endpoint, told(after), after.freshness.stale) == (site.primary, told(before), False)
    assert f"{site.primary.url} has lost data, and is looked at anew: of 4 nodes 4 lack something" in caplog.text


def hide(lab: Lab, name: str, certname: str) -> None:
    """Leave the node as a PuppetDB does that works off a deactivation and newer records at once (7 of 100 times)."""
    table = flags_table(lab, name)
    lab.sql(name, f"update {table} set deactivated = now() - interval '1 day' where certname = '{certname}'")


@pytest.mark.every_server
def test_a_catalog_that_the_replica_hides_behind_an_older_deactivation_is_in_its_answer(site: ExportedSite) -> None:
    client = site.client()
    catalog = site.catalog("one.example")
    assert client.submit(catalog).uuids
    with closing(Session(site.replica, site.config.tls, LIMITS)) as session:
        session.submit(catalog)
        site.lab.settle(REPLICA)
        hide(site.lab, REPLICA, "one.example")
        shown = ["extract", ["certname"], ["=", "exported", True]]
        assert list(session.records("/resources", query=shown)) == []
        with site.down():
            after = exported(client)
    assert (after.endpoint, certnames(after), after.freshness.stale) == (site.replica, ["one.example"], False)


@pytest.mark.every_server
@pytest.mark.parametrize("name", ["replace catalog", "replace facts", "replace catalog inputs"])
def test_what_an_older_deactivation_hides_is_active_once_it_is_sent_again(site: ExportedSite, name: str) -> None:
    samples, now = Samples(site.lab.puppetdb_jar), datetime.now(UTC)
    payload = {
        "replace catalog": samples.catalog("one.example", 1, now),
        "replace facts": samples.facts("one.example", 1, now),
        "replace catalog inputs": {
            "certname": "one.example",
            "catalog_uuid": "7a1c0a54-6a0e-4d0b-9d6f-4b1f6f2f7a10",
            "inputs": [["hiera", "a"]],
            "producer_timestamp": now.isoformat(),
        },
    }[name]
    record = Command.create(name, payload, now=now)
    with closing(Session(site.primary, site.config.tls, LIMITS)) as session:
        for deactivated in (True, False):
            session.submit(record)
            site.lab.settle(PRIMARY)
            if deactivated:
                hide(site.lab, PRIMARY, "one.example")
            (node,) = session.records("/nodes", query=["=", "node_state", "any"])
            assert (node["deactivated"] is not None) is deactivated


def test_a_catalog_of_pypuppetdb_is_shown_by_both_servers_as_the_journal_has_it(pair: Lab, tmp_path: Path) -> None:
    """It gives a command's time in the payload alone; this one is older than its arrival."""
    now = datetime.now(UTC)
    written = (now - timedelta(hours=1)).astimezone(timezone(timedelta(hours=2))).isoformat(timespec="microseconds")
    payload = Samples(pair.puppetdb_jar).catalog("one.example", 1, now) | {"producer_timestamp": written}
    tls = pair.client_tls
    query = quote('["and", ["=", "type", "Sshkey"], ["=", "exported", true]]')
    with ExitStack() as stack:
        gateway = stack.enter_context(JournalGateway(pair, tmp_path, {"stale_exported": "fail"}))
        api = stack.enter_context(
            pypuppetdb.connect("localhost", gateway.port, str(tls.ca), str(tls.key), str(tls.cert))
        )
        api.command("replace catalog", payload)
        pair.settle(PRIMARY)
        for down in (False, True):
            if down:
                pair.fault(PRIMARY, "kill")
                stack.callback(pair.fault, PRIMARY, "start")
            told = ask(gateway.port, tls, f"/pdb/query/v4/resources?query={query}", timeout=60)
            assert (told.status, told.headers["X-Pdbclient-Stale"]) == (200, "false"), told.body
            assert {row["certname"] for row in told.json} == {"one.example"}
        gateway.stop()
        with Journal.open(str(gateway.journal), beside=True) as journal:
            (entry,) = journal.run(entries.listing)
    for node in pair.nodes:
        with closing(Session(Endpoint("localhost", node.https_port), tls, Timeouts())) as session:
            (shown,) = session.records("/catalogs")
        assert shown["producer_timestamp"] == entry.producer_timestamp == to_utc(written)


def test_what_the_replica_took_is_in_the_primarys_answer_on_the_way_back(site: ExportedSite) -> None:
    with site.opened() as client:
        site.submit(client, "one.example")
        site.lab.settle(PRIMARY)
        with site.down():
            assert certnames(exported(client)) == ["one.example"]
            site.submit(client, "two.example")
            site.submit(client, "one.example", 2)
            site.lab.settle(REPLICA)
            during = exported(client)
            assert (during.endpoint, certnames(during)) == (site.replica, ["one.example", "two.example"])
        # It remembers what was written past the primary: the replica goes on answering.
        still = exported(client)
        assert (still.endpoint, told(still)) == (site.replica, told(during))
    # Another one, after a restart, knows that from the journal only.
    with site.opened(journal=None) as without:
        travelled = exported(without)
        assert (travelled.endpoint, certnames(travelled)) == (site.primary, ["one.example"])
    client = site.client()
    began = time.monotonic()
    after = exported(client)
    print(f"the primary answered with all of it {time.monotonic() - began:.2f} s after the question")
    assert (after.endpoint, after.freshness.stale) == (site.primary, False)
    assert told(after) == told(during)


def test_when_the_replica_fails_too_the_primary_that_came_back_answers_with_everything(site: ExportedSite) -> None:
    """The same client, which holds reads back from the primary; and what the primary takes meanwhile counts too."""
    client = site.client()
    site.submit(client, "one.example")
    with site.down():
        assert certnames(exported(client)) == ["one.example"]
        site.submit(client, "two.example")
    end = time.monotonic() + 45
    while client.next_in_line(Operation.COMMAND)[0] != site.primary:
        assert time.monotonic() < end
        time.sleep(0.2)
    site.submit(client, "three.example")
    with_all = exported(client)
    assert certnames(with_all) == ["one.example", "three.example", "two.example"]
    with site.down(REPLICA):
        alone = exported(client)
    assert (alone.endpoint, certnames(alone)) == (site.primary, ["one.example", "three.example", "two.example"])


@pytest.mark.soak
@pytest.mark.every_server("8.8.1+7.12.1", own=LONG, long=["8.4.1+8.8.1"])
def test_a_deactivated_node_does_not_export_again_after_a_failover_until_its_facts_make_it_active(
    site: ExportedSite,
) -> None:
    """It has sent no catalog since: its last one counts again, though the replica took the deactivation alone."""
    with site.opened() as client:
        for certname in ("one.example", "gone.example"):
            site.submit(client, certname)
        with site.down():
            assert certnames(exported(client)) == ["gone.example", "one.example"]
        client.submit(deactivate_node("gone.example", now=datetime.now(UTC)))
        with site.down():
            assert certnames(exported(client)) == ["one.example"]
    # A new one asks the primary first.
    with site.opened() as client:
        assert certnames(exported(client)) == ["one.example"]
        alive = client.submit(site.facts("gone.example"))
        assert list(alive.uuids) == [site.primary]
        site.lab.settle(PRIMARY)
        assert certnames(exported(client)) == ["gone.example", "one.example"]
        with site.down(how="freeze"):
            assert certnames(exported(client)) == ["gone.example", "one.example"]


def test_a_budget_too_small_makes_a_stale_answer_in_both_directions(
    site: ExportedSite, caplog: pytest.LogCaptureFixture
) -> None:
    with site.opened(stale_exported_budget=0.01) as client:
        command = site.catalog("one.example")
        client.submit(command)
        site.lab.settle(PRIMARY)
        with site.down():
            stale = exported(client)
            assert (stale.endpoint, certnames(stale)) == (site.replica, [])
            assert (stale.freshness.missing, stale.freshness.since) == (1, command.producer_timestamp)
            other = site.catalog("two.example")
            client.submit(other)
            site.lab.settle(REPLICA)
    with site.opened(stale_exported_budget=0.01) as client:
        stale = exported(client)
        assert (stale.endpoint, certnames(stale)) == (site.primary, ["one.example"])
        # What it took itself before it was killed may be among them: nobody has seen yet that it still has that.
        assert 1 <= stale.freshness.missing <= 2
        assert stale.freshness.since in (command.producer_timestamp, other.producer_timestamp)
    told = [line.split()[0] for line in caplog.messages if "answers about exported resources without" in line]
    # On a busy machine, what the first one took is not known to be there yet: it may be told before it is found dead.
    assert [told.count(str(site.replica)), told[-1]] == [1, str(site.primary)], told


def test_a_budget_too_small_is_an_error_in_both_directions_with_stale_exported_fail(site: ExportedSite) -> None:
    with site.opened(stale_exported_budget=0.01, stale_exported="fail") as client:
        client.submit(site.catalog("one.example"))
        with site.down():
            with pytest.raises(StaleAnswer, match="1 command missing") as error:
                exported(client)
            assert error.value.endpoint == site.replica.url
            client.submit(site.catalog("two.example"))
    with site.opened(stale_exported_budget=0.01, stale_exported="fail") as client:
        with pytest.raises(StaleAnswer, match=r"commands? missing since") as error:
            exported(client)
        assert error.value.endpoint == site.primary.url


@pytest.mark.soak
def test_a_whole_site_is_brought_up_in_the_background_before_long(site: ExportedSite) -> None:
    """More than the budget allows for: the first answers are stale, and say so; then they are whole."""
    nodes = rounds(30, 150)
    client = site.client(stale_exported_budget=1.0)
    for number in range(nodes):
        site.submit(client, f"node{number}.example", number)
    site.lab.settle(PRIMARY, 300)
    with site.down():
        began = time.monotonic()
        seen: list[tuple[float, int, int]] = []
        while not seen or seen[-1][1] > 0:
            found = exported(client)
            assert found.endpoint == site.replica
            assert found.freshness.missing >= nodes - len(found), "it says at least how much is missing"
            seen.append((time.monotonic() - began, found.freshness.missing, len(found)))
            assert time.monotonic() < began + 300
        for seconds, missing, rows in seen:
            print(f"after {seconds:5.2f} s: {missing} missing, {rows} there")
    assert seen[0][1] > 0, "with less, a longer budget hides it"
    assert seen[-1][2] == nodes
