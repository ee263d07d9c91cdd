"""Two releases of PuppetDB: what the reconciler carries between them, and the upgrade as docs/ tells it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pdbclient import Client
from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.sync.inventory.capabilities import PARAMETERS, ask_capabilities

from .sync import truth
from .sync.history import ALIVE, History
from .sync.log import Log
from .test_sync import PRIMARY, REPLICA, ReconciledPair, moved, sync_running
from .test_sync_operators import differences, sync, until

# In every test each side gives to the other one: two releases show what goes either way.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.soak,
    pytest.mark.every_server("7.12.1+8.8.1", own=False, long=["8.8.1+7.12.1", "8.8.1+8.8.1"]),
]

OLD, NEW = SIDES = PRIMARY, REPLICA
# Beside its hash, what a report holds. An event's hash is made of the number that its report has on its own server.
REPORTS = """
select encode(r.hash, 'hex'), r.report_type, r.logs, r.metrics,
  (select string_agg(event.content, ' ' order by event.content) from (
    select (to_jsonb(e) - array['event_hash', 'report_id', 'certname_id', 'latest'])::text as content
    from resource_events e where e.report_id = r.id) event)
from reports r order by 1
"""
PAGE = Path(__file__).parents[2] / "docs/operate/upgrade-puppetdb.md"


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[ReconciledPair]:
    made = ReconciledPair(pair, tmp_path)
    yield made
    for session in made.session.values():
        session.close()
    assert [pair.discarded(side) for side in SIDES] == [(), ()]


def versions(site: ReconciledPair) -> dict[str, str]:
    """What each side runs."""
    return {node.name: str(node.version) for node in site.lab.status()}


def is_eight(version: str) -> bool:
    """Whether it is of the series 8, rather than 7."""
    return version.startswith("8.")


def one_of_each(site: ReconciledPair, side: str, number: int) -> None:
    """A record of every kind that only this side has, and some that are newer here."""
    for run in range(3):
        site.run(side, f"run{run}.{side}", 3 * number + run, site.ago(minutes=50 * run + 1))
    stamp = site.ago(minutes=5).isoformat(timespec="milliseconds")
    node = {"certname": f"run0.{side}", "producer_timestamp": stamp}
    inputs = {"catalog_uuid": "0f0e0d0c-0000-4000-8000-000000000000", "inputs": [["hiera", side], ["hiera", "all"]]}
    site.submit(side, "replace catalog inputs", {**node, **inputs})
    site.submit(side, "configure expiration", {**node, "expire": {"facts": False}})
    plan = site.samples.report(f"run1.{side}", number, site.ago(minutes=7))
    site.submit(side, "store report", {**plan, "type": "plan"})
    for other in SIDES:
        site.simple_facts(other, f"dead.{side}", site.ago(hours=3), x=1)
        site.run(other, f"both.{side}", number, site.ago(hours=2 if other == side else 30))
    site.settle()
    site.deactivate(side, f"dead.{side}", site.ago(hours=1))
    site.settle()


def differing(site: ReconciledPair) -> list[truth.Difference]:
    return list(truth.differences(site.lab, OLD, NEW))


def test_a_record_of_every_kind_goes_from_each_version_to_the_other_and_once_only(site: ReconciledPair) -> None:
    for number, side in enumerate(SIDES):
        one_of_each(site, side, number)
    got = {
        "nodes": 1,
        "fact_expiration": 1,
        "facts": 4,
        "catalogs": 4,
        "catalog_inputs": 1,
        # Of each node that ran against both, the report that only the other side has; both nodes have one there.
        "reports": 6,
    }
    assert {entity for entity in got if any(each.entity == entity for each in differing(site))} == got.keys()
    assert [moved(site.pull(side)) for side in SIDES] == [got, got]
    assert differing(site) == []
    old, new = site.records(OLD), site.records(NEW)
    for entity, count in (("nodes", 10), ("factsets", 10), ("catalogs", 8), ("reports", 12)):
        assert len(old[entity]) == count
        assert old[entity] == new[entity]
    packages = site.packages(OLD)
    assert len(packages) > 1000
    assert packages == site.packages(NEW)
    reports = site.lab.sql(OLD, REPORTS)
    assert all(logs and metrics and events for _, _, logs, metrics, events in reports)
    assert sorted({row[1] for row in reports}) == ["agent", "plan"]
    assert reports == site.lab.sql(NEW, REPORTS)
    assert [moved(site.pull(side)) for side in SIDES] == [{}, {}]
    assert [differences(site, side, "--full") for side in SIDES] == [(0, {}), (0, {})]
    running = versions(site)
    for side, peer in ((OLD, NEW), (NEW, OLD)):
        audited = sync(site, side, "audit", "--json")
        (passed,) = json.loads(audited.out)
        assert (audited.code, passed["errors"], sum(passed["transferred"].values())) == (0, [], 0)
        told = sync(site, side, "status", "--json")
        (status_of_it,) = json.loads(told.out)
        assert told.code == 0
        assert {part["error"] for part in status_of_it["entities"].values()} == {None}
        assert {part["version"] for part in status_of_it["servers"].values()} == {running[side], running[peer]}


def test_what_both_versions_were_sent_has_the_same_hashes_and_is_not_transferred(site: ReconciledPair) -> None:
    history = History(seed=7, nodes=40)
    for _ in range(3):
        for command in history.batch(30):
            for side in SIDES:
                site.session[side].submit(command)
        site.settle()
    for number in range(3):
        when, certname = site.ago(minutes=20 + number), f"sample{number}.example.com"
        payloads = {
            "replace facts": site.samples.facts(certname, number, when),
            "replace catalog": site.samples.catalog(certname, number, when),
            "store report": site.samples.report(certname, number, when),
        }
        for side in SIDES:
            for name, payload in payloads.items():
                site.submit(side, name, payload)
    site.settle()
    held = truth.held(site.lab, NEW)
    assert all(held.values()), "a history of every kind"
    assert differing(site) == []
    assert [moved(site.pull(side)) for side in SIDES] == [{}, {}]


def test_what_is_below_a_millisecond_is_no_difference(site: ReconciledPair) -> None:
    """PuppetDB cuts it off; OpenVoxDB 8.13 keeps it, and does not show it."""
    below = "select extract(microseconds from producer_timestamp)::int % 1000 from {}"
    for side in SIDES:
        payload = {"certname": "n", "environment": "production", "producer": None, "values": {"x": 1}}
        stamp = site.ago(minutes=1).replace(microsecond=123456).isoformat()
        site.submit(side, "replace facts", {**payload, "producer_timestamp": stamp})
    site.run(NEW, "m", 1, site.ago(minutes=2))
    site.settle()
    assert [site.lab.sql(side, below.format("factsets where certname = 'n'")) for side in SIDES] == [[("0",)]] * 2
    for table in ("factsets", "catalogs", "reports"):
        site.lab.sql(NEW, f"update {table} set producer_timestamp = producer_timestamp + interval '456 microseconds'")
        assert {row for row in site.lab.sql(NEW, below.format(table))} == {("456",)}
    assert moved(site.pull(OLD)) == {"facts": 1, "catalogs": 1, "reports": 1}
    assert [moved(site.pull(side)) for side in (NEW, OLD)] == [{}, {}]
    assert [differences(site, side, "--full") for side in SIDES] == [(0, {}), (0, {})]
    # A millisecond is one.
    site.simple_facts(OLD, "n", site.ago(minutes=1).replace(microsecond=124000), x=2)
    site.settle()
    assert moved(site.pull(NEW)) == {"facts": 1}


def status(site: ReconciledPair, side: str, headers: dict[str, str], **parameters: Any) -> int:
    """What a query is answered with."""
    url = f"{site.lab.node(side).cleartext_url}/pdb/query/v4/nodes?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_each_version_is_asked_only_what_it_knows(site: ReconciledPair) -> None:
    for side, version in versions(site).items():
        endpoint = Endpoint("localhost", site.lab.node(side).https_port)
        with closing(Session(endpoint, site.lab.client_tls, Timeouts())) as session:
            known = ask_capabilities(session)
        for name, value in PARAMETERS.items():
            assert status(site, side, {}, **{name: value}) == (200 if name in known.answers else 400), (version, name)
        assert ("timeout" in known.answers) is is_eight(version)


def test_the_number_with_which_enterprise_syncs_would_keep_7_and_8_apart(site: ReconciledPair) -> None:
    answers = {side: [status(site, side, {"x-pdb-sync-ver": number}) for number in ("1", "2", "x")] for side in SIDES}
    running = versions(site)
    assert answers == {side: [409, 200, 400] if is_eight(running[side]) else [200, 409, 400] for side in SIDES}


class Upgrade:
    """The commands of the page, step by step, beside the old server and the new one."""

    def __init__(self, site: ReconciledPair, running: ExitStack, directory: Path) -> None:
        self._site, self._running, self._directory = site, running, directory
        self._sides = {"old": OLD, "new": NEW}
        self.logs: dict[str, Log] = {}
        text, _, _ = PAGE.read_text().partition("\n## ")
        self._steps = re.findall(r"^\d+\. .*?(?=^\d+\. |\Z)", text, flags=re.M | re.S)

    def step(self, title: str) -> list[str]:
        """Do what the step of this title says; its commands."""
        (text,) = (step for step in self._steps if f"**{title}**" in step)
        done = []
        for host, command, arguments in re.findall(r"^ +(old|new)\$ pdbclient sync (\w+) (.*)$", text, flags=re.M):
            self._do(self._sides[host], command, arguments.split())
            done.append(f"{host} {command}")
        return done

    def _do(self, name: str, command: str, arguments: list[str]) -> None:
        assert arguments[:2] == ["--config", "sync.conf"]
        urls = {f"https://{host}:8081": self._site.lab.node(side).url for host, side in self._sides.items()}
        options = [urls.get(word, word) for word in arguments[2:]]
        if command == "run":
            self.logs[name] = Log(self._directory, name)
            options += ["--log-config", str(self.logs[name].config)]
            self._running.enter_context(sync_running(self._site, name, *options))
            return
        done = sync(self._site, name, command, *options)
        assert done.code == 0, (command, options, done.out, done.err)

    def passes(self) -> bool:
        """Whether each daemon has made a pass."""
        return all(log.finished("sync") for log in self.logs.values())


def puppet_runs(site: ReconciledPair, conf: Path, first: str, number: int) -> None:
    """Puppet stores facts and asks something, with this `puppetdb.conf`: its first server serves it."""
    with Client.from_config(conf) as client:
        facts = site.samples.facts(f"live{number}.example.com", number, datetime.now(UTC))
        stored, asked = client.submit_payload("replace facts", facts), client.query("nodes[certname] {}")
        assert [str(each.endpoint) for each in (stored, asked)] == [site.lab.node(first).url] * 2
    site.lab.settle(first)


def test_the_upgrade_goes_as_its_page_tells_it(site: ReconciledPair, tmp_path: Path) -> None:
    for number in range(6):
        site.run(OLD, f"web{number}.example.com", number, site.ago(minutes=20 + 11 * number))
    site.simple_facts(OLD, "dead.example.com", site.ago(hours=3), x=1)
    history = History(8, 40, ALIVE)
    for _ in range(2):
        for command in history.batch(40):
            site.session[OLD].submit(command)
        site.settle()
    site.deactivate(OLD, "dead.example.com", site.ago(hours=1))
    site.settle()
    old, new = site.lab.puppetdb_conf, tmp_path / "puppetdb.conf"
    first, second = (site.lab.node(side).url for side in SIDES)
    new.write_text(old.read_text().replace(f"{first},{second}", f"{second},{first}"))
    for side in SIDES:
        site.conf[side].write_text(site.conf[side].read_text().replace("5m", "2s"))
    with ExitStack() as running:
        upgrade = Upgrade(site, running, tmp_path)
        puppet_runs(site, old, OLD, 1)
        assert upgrade.step("Fill it.") == ["new seed"]
        assert {each.certname for each in differing(site)} <= {"live1.example.com"}
        puppet_runs(site, old, OLD, 2)
        assert upgrade.step("Compare.") == ["new diff"]
        assert upgrade.step("Let both pull.") == ["new run", "old run"]
        until(upgrade.passes)
        assert upgrade.step("Look at them for a while.") == ["new status", "old status", "new diff", "old diff"]
        until(lambda: differing(site) == [])

        puppet_runs(site, new, NEW, 3)
        until(lambda: differing(site) == [])
        assert upgrade.step("Switch.") == ["old diff"]
        puppet_runs(site, old, OLD, 4)
        with Client.from_config(old) as client:
            found = client.query('nodes[certname] { certname ~ "^live[123]" }')
        assert sorted(row["certname"] for row in found) == [f"live{number}.example.com" for number in (1, 2, 3)]
        until(lambda: differing(site) == [])
    for kind, records in truth.held(site.lab, NEW).items():
        assert records, f"no {kind}: it shows nothing of them"
    assert [differences(site, side, "--full") for side in SIDES] == [(0, {}), (0, {})]
