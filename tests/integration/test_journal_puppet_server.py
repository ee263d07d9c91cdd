"""Agents of a real Puppet Server across a failover, with and without a journal in the gateway beside it.

And without any PuppetDB: runs go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries
from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port

from .puppet.evidence import COLLECTING, exporting, stored
from .puppet.gateway import Gateway
from .puppet.outage import PRIMARY, REPLICA, blackout
from .puppet.server_site import Agent, PuppetServer
from .puppet.story import Story, manifest, side_by_side, told
from .test_journal_puppet import BUDGET, LIMITS, NODE1, NODE2

pytestmark = pytest.mark.integration

SERVER = "puppet.mycorp.net"


class JournalAgentSite:
    """The Puppet Server, the gateway beside it, and two agents."""

    def __init__(self, root: Path, lab: Lab) -> None:
        self.server = PuppetServer(root / "server", lab, SERVER)
        self.port = free_port()
        self.gateway = Gateway(self.server.installation.puppetdb_conf, root / "gateway.log")
        names = {NODE1: "node1", NODE2: "node2"}
        self.agents = {name: Agent(root / short, lab, self.server, name) for name, short in names.items()}

    def configure(self, journal: Path | None) -> None:
        added = {"journal": journal, "stale_exported_budget": BUDGET} if journal else {}
        self.server.configure("server-gateway", self.port, added, **LIMITS)

    def manifests(self, node1: str, node2: str) -> None:
        self.server.manifest(f"node '{NODE1}' {{\n{node1}\n}}\nnode '{NODE2}' {{\n{node2}\n}}\n")

    def restart(self) -> None:
        self.gateway.stop()
        self.gateway.start()


@pytest.fixture(scope="module")
def servers(lab: Lab, lab_directory: Path) -> Iterator[JournalAgentSite]:
    site = JournalAgentSite(lab_directory / "journal-server", lab)
    site.configure(None)
    try:
        site.server.start()
        for agent in site.agents.values():
            agent.become_known()
        yield site
    finally:
        site.server.stop()


@pytest.fixture
def site(servers: JournalAgentSite, pair: Lab) -> JournalAgentSite:
    """No gateway runs yet; the pair is well and empty."""
    return servers


def story_of(site: JournalAgentSite, lab: Lab, directory: Path, journal: Path | None) -> Story:
    directory.mkdir()
    files = {NODE1: directory / "from-node1", NODE2: directory / "from-node2"}
    site.manifests(*(manifest(file, name) for name, file in files.items()))
    site.configure(journal)

    def run(name: str) -> None:
        done, met = site.agents[name].run()
        done.require(0, 2)
        assert met == [], "the gateway never fails"

    with site.gateway:
        return told(lab, files, run, site.restart, "kill")


def test_two_agents_see_each_others_exported_resources_across_a_failover_and_back_with_the_journal_only(
    site: JournalAgentSite, pair: Lab, tmp_path: Path
) -> None:
    """The same story told twice; without the journal it must go wrong, or the comparison shows nothing."""
    with_journal = story_of(site, pair, tmp_path / "with", tmp_path / "journal")
    for name in (PRIMARY, REPLICA):
        pair.empty(name)
    without = story_of(site, pair, tmp_path / "without", None)
    print(side_by_side(with_journal, without))
    assert with_journal == Story(first=False, during=True, after=True)
    assert without == Story(first=False, during=False, after=False)


def test_with_no_puppetdb_left_agents_run_and_what_they_sent_is_delivered_later(
    site: JournalAgentSite, pair: Lab, tmp_path: Path
) -> None:
    """Without `soft_write_failure`. A run that collects cannot: only a PuppetDB knows what others export."""
    local = f"file {{ '{tmp_path}/local': ensure => file, content => 'local' }}\n"
    site.manifests(local + exporting(tmp_path / "exported", "node1"), COLLECTING)
    journal = tmp_path / "journal"
    site.configure(journal)
    with site.gateway:
        with blackout(pair):
            run, met = site.agents[NODE1].run()
            again, met_again = site.agents[NODE1].run()
            collecting, _ = site.agents[NODE2].run()
            with Journal.open(str(journal), beside=True) as beside:
                print(f"in the journal while no PuppetDB runs: {beside.run(entries.counts)}")
        run.require(2)
        again.require(0)
        assert met == met_again == []
        assert "Failed to execute" not in run.output + again.output
        assert "Could not retrieve resources from the PuppetDB" in collecting.require(1).output
        wait_until_delivered(journal)
    # On the first server that was back. Of facts and catalogs the newest, of reports all.
    there = stored_on_both(pair)
    assert set(there["facts"]) == {NODE1, NODE2}, "the run that could not collect had sent its facts before"
    assert set(there["catalogs"]) == {NODE1}
    assert sorted(there["reports"]) == [NODE1, NODE1, NODE2], "the agent that got no catalog reports that"
    assert pair.discarded(PRIMARY) == pair.discarded(REPLICA) == ()


def stored_on_both(lab: Lab) -> dict[str, list[str]]:
    primary, replica = (stored(lab, name) for name in (PRIMARY, REPLICA))
    return {kind: primary[kind] + replica[kind] for kind in primary}


def wait_until_delivered(journal: Path) -> None:
    end = time.monotonic() + 120
    with Journal.open(str(journal), beside=True) as beside:
        while pending := beside.run(entries.counts).pending:
            assert time.monotonic() < end, f"still pending: {pending}"
            time.sleep(0.5)
