"""Recovery from the journal on a real pair: a destroyed primary, an interrupted recovery, nodes of every kind."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pdbclient import Client
from pdbclient.config import ClientConfig, load_config
from pdbclient.http.session import Session
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import CopyState
from pdbclient.journal.work.audit import Audit
from pdbclient.journal.work.recovered import Recovery
from pdbclient.journal.work.recovery import recover
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.wire.command import Command, configure_expiration, deactivate_node
from pdbclient.wire.timestamp import utc_text
from tests.soak import LONG, rounds

from .admin_commands import delete
from .schema import flags_table

pytestmark = pytest.mark.integration

PRIMARY, REPLICA = "primary", "replica"
COMMANDS = rounds(60, 2000)
ODD = ("web 1&a=b", "100%+1", "d'accord\"s\\", "ünïcödé.example", "UPPER.example", "{curly}", "a" * 200)
COUNTS = {
    "certnames": "select count(*) from certnames",
    "factsets": "select count(*) from factsets",
    "catalogs": "select count(*) from catalogs",
    "reports": "select count(*) from reports",
    "deactivated": "select count(*) from {flags} where deactivated is not null",
}


class RecoverySite:
    """The pair with a journal, and what there is on each server."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.now = datetime.now(UTC)
        self.samples = Samples(lab.puppetdb_jar)
        self.place = str(directory / "journal.db")
        self.conf = directory / "puppetdb.conf"
        self.set_rate(200)
        self.config: ClientConfig = load_config(self.conf)
        names = (node.name for node in lab.nodes)
        self.session = {
            name: Session(endpoint, self.config.tls, self.config.timeouts)
            for name, endpoint in zip(names, self.config.server_urls, strict=True)
        }

    def set_rate(self, rate: int) -> None:
        """What `pdbclient recover` keeps to."""
        journal = f"journal = {self.place}\njournal_rate = {rate}\n"
        self.conf.write_text(self.lab.puppetdb_conf.read_text() + journal)

    def url(self, name: str) -> str:
        return self.session[name].endpoint.url

    def ago(self, **age: float) -> datetime:
        return self.now - timedelta(**age)

    def runs(self, certname: str, index: int) -> list[Command]:
        """What two agent runs leave behind: five commands."""
        first, second = self.ago(minutes=40, milliseconds=index), self.ago(minutes=10, milliseconds=index)
        payloads = [
            ("replace facts", self.samples.facts(certname, index, first)),
            ("replace catalog", self.samples.catalog(certname, index, first)),
            ("store report", self.samples.report(certname, index, first)),
            ("replace facts", self.samples.facts(certname, index, second)),
            ("store report", self.samples.report(certname, index, second)),
        ]
        return [Command.create(name, payload, now=self.now) for name, payload in payloads]

    def submit(self, client: Client, commands: Sequence[Command]) -> None:
        """Submit them, one agent run after the other.

        A PuppetDB before 7.18 never gets rid of facts for which newer ones came into its queue.
        """
        for when in sorted({minute(command) for command in commands}):
            for command in commands:
                if minute(command) == when:
                    client.submit(command)
            self.settle()

    def taken(self, name: str) -> int:
        """How many entries the server took, as the journal has it."""
        with Journal.open(self.place, beside=True) as journal:
            listed = journal.run(entries.listing, limit=10_000)
        return sum(copy.server == self.url(name) for entry in listed for copy in entry.copies)

    def settle(self) -> None:
        for node in self.lab.nodes:
            self.lab.settle(node.name, 60 + COMMANDS / 5)

    def count(self, name: str) -> dict[str, int]:
        flags = flags_table(self.lab, name)
        return {what: int(self.lab.sql(name, sql.format(flags=flags))[0][0]) for what, sql in COUNTS.items()}

    def stamps(self, name: str) -> dict[str, set[tuple[str, str | None]]]:
        """Every record with its producer timestamp."""
        found = {}
        for path, field in (
            ("/factsets", "producer_timestamp"),
            ("/catalogs", "producer_timestamp"),
            ("/catalog-inputs", "producer_timestamp"),
            ("/nodes", "deactivated"),
            ("/nodes", "expires_facts_updated"),
        ):
            rows = self.session[name].records(
                path,
                query=["=", "node_state", "any"],
                **({"params": {"include_facts_expiration": True}} if path == "/nodes" else {}),
            )
            found[f"{path} {field}"] = {(row["certname"], row[field]) for row in rows}
        reports = self.session[name].records("/reports", query=["=", "type", "any"])
        found["reports"] = {(row["hash"], row["certname"]) for row in reports}
        return found

    def recover(self, name: str, **options: Any) -> Recovery:
        with Journal.open(self.place, beside=True) as journal:
            return recover(journal, self.session[name], rate=200, **options)

    def command_line(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "pdbclient", *map(str, arguments), "--config", str(self.conf)]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command_line(*arguments), capture_output=True, text=True, timeout=600, check=False)


def minute(command: Command) -> str:
    return command.producer_timestamp[:16]


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[RecoverySite]:
    made = RecoverySite(pair, tmp_path)
    yield made
    for session in made.session.values():
        session.close()


def destroy(lab: Lab, name: str) -> None:
    """Kill PuppetDB, and take its database and its queue; then start it again."""
    lab.fault(name, "kill")
    lab.sql(name, "drop schema public cascade; create schema public authorization puppetdb", superuser=True)
    lab.sql(name, "create extension pg_trgm", superuser=True)
    shutil.rmtree(lab.node(name).vardir / "stockpile")


@contextmanager
def recovering(site: RecoverySite) -> Iterator[subprocess.Popen[str]]:
    """A recovery of the replica, in the middle of its work."""
    site.set_rate(5)
    command_line = site.command_line("recover", "--server", site.url(REPLICA))
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while site.taken(REPLICA) < 5:
            assert time.monotonic() < end, "it never began"
            assert process.poll() is None, "it was done before it could be stopped"
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.every_server("8.8.1+7.12.1", own=LONG)
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_destroyed_primary_and_its_older_replica_are_both_brought_to_the_full_set(
    site: RecoverySite, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [f"node{n:04}.example.com" for n in range(COMMANDS // 5)]
    commands = [command for n, certname in enumerate(nodes) for command in site.runs(certname, n)]
    commands.sort(key=minute)
    early, late = commands[: len(commands) * 4 // 5], commands[len(commands) * 4 // 5 :]
    with Client(site.config) as client:
        site.submit(client, early)
        # What a reconciler had brought to the replica ten minutes ago.
        for command in commands[: len(commands) // 2]:
            site.session[REPLICA].submit(command)
        site.settle()
        destroy(site.lab, PRIMARY)
        for command in late:
            assert client.submit(command).endpoint == site.config.server_urls[1]
    site.lab.fault(PRIMARY, "start")
    site.settle()
    before = {name: site.count(name) for name in site.session}
    results = {name: site.recover(name) for name in site.session}
    site.settle()
    after = {name: site.count(name) for name in site.session}
    full = {"certnames": len(nodes), "factsets": len(nodes), "catalogs": len(nodes), "reports": 2 * len(nodes)}
    with capsys.disabled():
        print(f"\n{len(commands)} commands; before: {before}; after: {after}; {results}")
    assert before[PRIMARY] == dict.fromkeys(COUNTS, 0)
    assert before[REPLICA]["reports"] < full["reports"]
    assert after[PRIMARY] == after[REPLICA] == {**full, "deactivated": 0}
    assert site.stamps(PRIMARY) == site.stamps(REPLICA)
    for name, result in results.items():
        # The older facts of each node are in the journal too, and matter no more.
        assert result.looked_at == 4 * len(nodes)
        assert result.had + result.replayed == result.looked_at
        assert (result.verified, result.rejected, result.missing) == (result.replayed, 0, 0)
        assert result.ok
        again = site.recover(name)
        assert (again.had, again.replayed) == (again.looked_at, 0)
    assert results[PRIMARY].replayed == 4 * len(nodes)
    for node in site.lab.nodes:
        assert site.lab.discarded(node.name) == ()


def test_a_recovery_that_was_killed_in_the_middle_is_repeated_and_completes(site: RecoverySite) -> None:
    commands = [command for n in range(20) for command in site.runs(f"node{n}.example.com", n)]
    with Client(site.config) as client:
        site.submit(client, commands)
    full = site.count(PRIMARY)
    with recovering(site) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    site.settle()
    assert site.count(REPLICA) != full
    site.set_rate(200)
    ended = site.run("recover", "--server", site.url(REPLICA), "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["ok"]
    assert 5 <= told["had"] < 80
    assert told["had"] + told["replayed"] == told["looked_at"] == 80
    assert told["verified"] == told["replayed"]
    site.settle()
    assert site.count(REPLICA) == full
    assert site.stamps(REPLICA) == site.stamps(PRIMARY)


def test_ctrl_c_ends_a_recovery_with_a_line_and_130(site: RecoverySite) -> None:
    with Client(site.config) as client:
        site.submit(client, [command for n in range(20) for command in site.runs(f"node{n}.example.com", n)])
    with recovering(site) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    *progress, said = err.splitlines()
    assert "interrupted" in said
    assert len(progress) < 10, "a line every ten seconds"


def test_a_dry_run_counts_and_changes_nothing(site: RecoverySite) -> None:
    commands = site.runs("node.example.com", 1)
    with Client(site.config) as client:
        site.submit(client, commands)
    with Journal.open(site.place) as journal:
        noted = journal.run(entries.listing)
    ended = site.run("recover", "--server", site.url(REPLICA), "--dry-run", "--json")
    assert ended.returncode == 1, ended.stderr
    told = json.loads(ended.stdout)
    assert told["lacked"] == {"replace facts": 1, "replace catalog": 1, "store report": 2}
    assert (told["looked_at"], told["had"], told["replayed"]) == (4, 0, 0)
    site.settle()
    assert site.count(REPLICA) == dict.fromkeys(COUNTS, 0)
    with Journal.open(site.place) as journal:
        assert journal.run(entries.listing) == noted
    ended = site.run("recover", "--server", site.url(PRIMARY), "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert "lacks nothing" in ended.stderr


def test_what_the_server_has_newer_is_left_alone(site: RecoverySite) -> None:
    certname = "node.example.com"
    old, new = site.ago(hours=1), site.ago(minutes=1)
    with Client(site.config) as client:
        client.submit(Command.create("replace facts", site.samples.facts(certname, 1, old), now=site.now))
        client.submit(Command.create("replace catalog", site.samples.catalog(certname, 1, old), now=site.now))
    newer = Command.create("replace facts", site.samples.facts(certname, 1, new), now=site.now)
    site.session[REPLICA].submit(newer)
    site.settle()
    result = site.recover(REPLICA)
    assert (result.had, result.replayed, result.lacked) == (1, 1, {"replace catalog": 1})
    ((_, stamp),) = site.stamps(REPLICA)["/factsets producer_timestamp"]
    assert stamp == newer.producer_timestamp


@pytest.mark.every_server
def test_every_kind_of_command_and_node_arrives(site: RecoverySite) -> None:
    """Odd certnames; nodes that were deactivated, came back, or were purged meanwhile; inputs, also none."""
    at = site.ago(minutes=30)
    commands = []
    for n, certname in enumerate(ODD):
        commands += [
            configure_expiration(certname, False, now=at),
            Command.create("replace facts", site.samples.facts(certname, n, at), now=at),
            Command.create("replace catalog inputs", inputs(certname, [["hiera", "a::b"]]), now=at),
            Command.create("store report", site.samples.report(certname, n, at), now=at),
        ]
    gone, back, purged, bare = (f"{name}.example.com" for name in ("gone", "back", "purged", "bare"))
    for n, certname in enumerate((gone, back, purged)):
        commands.append(Command.create("replace facts", site.samples.facts(certname, n, at), now=at))
        commands.append(deactivate_node(certname, now=site.ago(minutes=20)))
    commands.append(Command.create("store report", site.samples.report(back, 1, site.ago(minutes=5)), now=at))
    commands.append(without_inputs(bare, at))
    with Client(site.config) as client:
        for command in commands:
            client.submit(command)
    site.settle()
    delete(site.lab, PRIMARY, purged)
    result = site.recover(REPLICA)
    assert result.ok, result
    # The inputs that are none leave no trace, and count nowhere.
    assert (result.looked_at, result.had) == (len(commands) - 1, 0)
    assert result.lacked["deactivate node"] == 3
    assert site.recover(REPLICA).replayed == 0
    assert site.count(REPLICA)["certnames"] == len(ODD) + 3
    nodes = dict(site.stamps(REPLICA)["/nodes deactivated"])
    assert {certname for certname, when in nodes.items() if when is not None} == {gone, purged}
    # On the primary only the purged node lacks, and comes back deactivated; nothing else is touched.
    assert (site.recover(PRIMARY).lacked) == {"deactivate node": 1, "replace facts": 1}
    site.settle()
    assert site.stamps(PRIMARY) == site.stamps(REPLICA)


def without_inputs(certname: str, at: datetime) -> Command:
    """As a gateway passes it on, which does not look into bodies. PuppetDB takes it and keeps nothing of it."""
    stamp = utc_text(at)
    body = json.dumps({**inputs(certname, []), "producer_timestamp": stamp}).encode()
    return Command.ready("replace catalog inputs", 1, certname, stamp, body)


def inputs(certname: str, found: list[list[str]]) -> dict[str, Any]:
    return {
        "certname": certname,
        "catalog_uuid": "7a1c0a54-6a0e-4d0b-9d6f-4b1f6f2f7a10",
        "inputs": found,
    }


def test_what_a_server_took_is_confirmed_and_what_it_lost_is_noticed_and_healed(
    site: RecoverySite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pdbclient.journal")
    url = site.url(PRIMARY)
    with Client(site.config) as client:
        site.submit(client, [command for n in range(3) for command in site.runs(f"node{n}.example.com", n)])
    full = site.count(PRIMARY)
    with closing(Journal.open(site.place)) as journal:
        journal.clock = lambda: time.time() + 10
        audit = Audit(journal, site.session[PRIMARY], heal=False, rate=200)
        audit.round()
        states = {copy.state for entry in journal.run(entries.listing) for copy in entry.copies}
        assert states == {CopyState.CONFIRMED}
        audit.came_back()
        audit.round()
        assert caplog.messages == []
        destroy(site.lab, PRIMARY)
        site.lab.fault(PRIMARY, "start")
        audit.came_back()
        audit.round()
        (said,) = caplog.messages
        assert f"{url} has lost data: of 3 nodes 3 lack something" in said
        assert f"pdbclient recover --server {url}" in said
        caplog.clear()
        Audit(journal, site.session[PRIMARY], heal=True, rate=200).round()
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
        assert "recovered" in caplog.messages[1]
        audit.came_back()
        audit.round()
        assert f"{url} has again what it was seen to have" in caplog.messages[-1]
    site.settle()
    assert site.count(PRIMARY) == full


def test_a_primary_that_was_emptied_and_filled_again_but_for_one_report_is_noticed_and_healed(
    site: RecoverySite, caplog: pytest.LogCaptureFixture
) -> None:
    """As by its reconciler, before the audit looks. A node that was deleted, and enrolled anew, lost nothing."""
    caplog.set_level(logging.INFO, "pdbclient.journal")
    commands = [command for n in range(6) for command in site.runs(f"node{n}.example.com", n)]
    with Client(site.config) as client:
        site.submit(client, commands)
    full = site.count(PRIMARY)
    session = site.session[PRIMARY]
    with closing(Journal.open(site.place)) as journal:
        journal.clock = lambda: time.time() + 10
        audit = Audit(journal, session, heal=True, rate=200)
        audit.round()
        delete(site.lab, PRIMARY, "node5.example.com")
        for command in site.runs("node5.example.com", 5)[-2:]:
            session.submit(command)
        site.settle()
        audit.came_back()
        audit.round()
        assert caplog.messages == []
        destroy(site.lab, PRIMARY)
        site.lab.fault(PRIMARY, "start")
        lost = [command for command in commands if command.name == "store report"][3]
        with Client(replace(site.config, journal=None)) as past:
            site.submit(past, [command for command in commands if command is not lost])
        audit.came_back()
        audit.round()
        told = f"of 6 nodes 1 lack something, such as store report of {lost.certname}"
        assert told in caplog.messages[0]
        site.settle()
        assert site.count(PRIMARY) == full
        audit.came_back()
        audit.round()
        assert f"{site.url(PRIMARY)} has again what it was seen to have" in caplog.messages[-1]
