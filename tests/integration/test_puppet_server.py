"""A real Puppet Server with agents: through the gateway, with a journal and without, past it; PuppetDBs that fail."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.config import Endpoint
from pdbclient.doctor.gather.servers import ask_servers
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries
from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from tests.soak import LONG, rounds

from .puppet.evidence import COLLECTING, assert_stored, assert_untouched, exporting, seed, stored
from .puppet.gateway import Gateway
from .puppet.outage import LIMITS, OUTAGES, PRIMARY, REPLICA, Outage, blackout
from .puppet.run import Run
from .puppet.server_site import Agent, PuppetServer
from .puppet.story import Story, manifest, side_by_side, told
from .schema import flags_table
from .test_doctor_pair import doctor
from .test_journal_puppet import BUDGET
from .test_journal_puppet import LIMITS as PATIENT

pytestmark = pytest.mark.integration

AROUND_AGENTS = {name: outage for name, outage in OUTAGES.items() if LONG or outage.primary != "kill"}
"""In every run they have their primary killed below, with a journal."""
DIRECT = ["nothing", "primary killed"][: rounds(1, 2)]
"""What fails around agents whose server has no gateway: that the stock terminus fails over is not for us to show."""

SERVER, NODE1, NODE2 = "puppet.mycorp.net", "node1.mycorp.net", "node2.mycorp.net"
STOCK_LIMITS = {"server_url_timeout": LIMITS["server_url_timeout"]}


class AgentSite:
    """The Puppet Server, the gateway beside it, and two agents."""

    def __init__(self, root: Path, lab: Lab) -> None:
        self.server = PuppetServer(root / "server", lab, SERVER)
        self.port = free_port()
        self.gateway = Gateway(self.server.installation.puppetdb_conf, root / "gateway.log")
        self.node1 = Agent(root / "node1", lab, self.server, NODE1)
        self.node2 = Agent(root / "node2", lab, self.server, NODE2)

    def with_gateway(self, **settings: str) -> None:
        self.server.configure("server-gateway", self.port, **(LIMITS | settings))

    def with_journal(self, journal: Path | None) -> None:
        """A gateway that may take its time; with this journal, if any."""
        added = {"journal": journal, "stale_exported_budget": BUDGET} if journal else {}
        self.server.configure("server-gateway", self.port, added, **PATIENT)

    def restart_gateway(self) -> None:
        self.gateway.stop()
        self.gateway.start()

    def without_gateway(self) -> None:
        self.server.configure("server-direct", None, **STOCK_LIMITS)


@pytest.fixture(scope="module")
def servers(lab: Lab, lab_directory: Path) -> Iterator[AgentSite]:
    """Puppet Server takes half a minute to start: one for all tests."""
    site = AgentSite(lab_directory / "server", lab)
    site.with_gateway()
    try:
        site.server.start()
        site.node1.become_known()
        site.node2.become_known()
        yield site
    finally:
        site.server.stop()


@pytest.fixture
def direct(servers: AgentSite, pair: Lab) -> AgentSite:
    """Puppet Server asks the PuppetDBs itself."""
    servers.without_gateway()
    return servers


@pytest.fixture
def site(servers: AgentSite, pair: Lab) -> Iterator[AgentSite]:
    """Puppet Server has a gateway, which knows of no outage yet; the pair is well and empty."""
    servers.with_gateway()
    with servers.gateway:
        yield servers


@pytest.fixture
def idle_site(servers: AgentSite, pair: Lab) -> AgentSite:
    """No gateway runs yet; the pair is well and empty."""
    return servers


def nodes(node1: str, node2: str) -> str:
    return f"node '{NODE1}' {{\n{node1}\n}}\nnode '{NODE2}' {{\n{node2}\n}}\n"


@pytest.mark.soak
@pytest.mark.parametrize("outage", AROUND_AGENTS.values(), ids=AROUND_AGENTS)
def test_agents_run_store_export_and_collect_with_an_outage(
    outage: Outage, site: AgentSite, pair: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "exported"
    site.server.manifest(nodes(exporting(file, "from node1"), COLLECTING))
    with outage(pair, [site.gateway]):
        run1, met1 = site.node1.run()
        run1.require(0)
        pair.settle(outage.lands)
        run2, met2 = site.node2.run()
        run2.require(2)
        assert file.read_text() == "from node1"
        assert_stored(pair, outage.lands, [NODE1, NODE2])
    if outage.lands == PRIMARY:
        assert_untouched(pair, REPLICA)
    # What the gateway hides, the stock terminus does not even meet.
    met = {site.port, pair.node(PRIMARY).https_port} if outage.primary else {site.port}
    assert [set(met1), set(met2)] == [met if outage.gateway_killed else set()] * 2


def test_an_agent_runs_with_postgresql_stopped_under_the_primary(site: AgentSite, pair: Lab, tmp_path: Path) -> None:
    """The primary still takes commands onto its disk, so that they may be on either server in the end."""
    file = tmp_path / "exported"
    site.server.manifest(nodes("", COLLECTING + exporting(tmp_path / "other", "other")))
    seed(pair, file, "from the seed")
    with Outage(REPLICA, "stop-postgres")(pair, []):
        run, met = site.node2.run()
        run.require(2)
        assert file.read_text() == "from the seed"
    assert met == []
    both = [stored(pair, name) for name in (PRIMARY, REPLICA)]
    for kind in ("facts", "catalogs", "reports"):
        assert NODE2 in both[0][kind] + both[1][kind], kind
    assert pair.discarded(PRIMARY) == pair.discarded(REPLICA) == ()


def test_queries_in_a_manifest_deactivating_a_node_and_its_status_go_through_the_gateway(
    site: AgentSite, pair: Lab
) -> None:
    query = (
        "notice(puppetdb_query('nodes[certname] { }'), puppetdb_query(['from', 'nodes', ['extract', 'certname']]))"
    )
    site.server.manifest(nodes(query, "notify { 'here': }"))
    _, met2 = site.node2.run()
    pair.settle(PRIMARY)
    run, met1 = site.node1.run()
    run.require(0)
    assert met1 == met2 == []
    assert site.server.log.read_text(errors="replace").count(f"{{certname => {NODE2}}}") == 2
    faces = [site.server.node("status", NODE2), site.server.node("deactivate", NODE2)]
    pair.settle(PRIMARY)
    faces.append(site.server.node("status", NODE2))
    for face, said in zip(faces, ("Currently active", "Submitted 'deactivate node'", "Deactivated at"), strict=True):
        assert said in face.require(0).output
        assert face.failovers == []
    assert pair.sql(PRIMARY, f"select certname from {flags_table(pair, PRIMARY)} where deactivated is not null") == [
        (NODE2,)
    ]
    assert_untouched(pair, REPLICA)


@pytest.mark.soak
@pytest.mark.parametrize("outage", [OUTAGES[name] for name in DIRECT], ids=DIRECT)
def test_the_example_without_the_gateway_runs_agents_too(
    outage: Outage, direct: AgentSite, pair: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "exported"
    direct.server.manifest(nodes(exporting(file, "from node1"), COLLECTING))
    with outage(pair, []):
        run1, met1 = direct.node1.run()
        run1.require(0)
        pair.settle(outage.lands)
        run2, met2 = direct.node2.run()
        run2.require(2)
        assert file.read_text() == "from node1"
        assert_stored(pair, outage.lands, [NODE1, NODE2])
    assert set(met1 + met2) == ({pair.node(PRIMARY).https_port} if outage.primary else set())


# In every run so with `puppet apply` (test_puppet_apply), and with agents and a journal, below.
if LONG:

    @pytest.mark.soak
    def test_with_no_puppetdb_left_an_agent_ends_as_it_does_without_the_gateway_or_softly(
        site: AgentSite, pair: Lab, tmp_path: Path
    ) -> None:
        """With soft_write_failure it gets a catalog, unless that needs what only PuppetDB knows."""
        local = f"file {{ '{tmp_path}/local': ensure => file, content => 'local' }}"
        site.server.manifest(nodes(local + exporting(tmp_path / "never", "never"), COLLECTING))
        with blackout(pair):
            gateway, _ = site.node1.run()
            site.without_gateway()
            stock, _ = site.node1.run()
            site.with_gateway(soft_write_failure="true")
            soft, _ = site.node1.run()
            collecting, _ = site.node2.run()
        assert (gateway.status, refusal(gateway)) == (stock.status, refusal(stock))
        assert "Failed to execute '/pdb/cmd/v1' on at least 1 of the following 'server_urls'" in refusal(stock)
        assert (gateway.status, soft.status, collecting.status) == (1, 2, 1)
        assert (tmp_path / "local").read_text() == "local"
        assert "Could not retrieve resources from the PuppetDB" in refusal(collecting)


def refusal(run: Run) -> str:
    """Why the agent got no catalog, without what is different in every run: query strings and the list of servers."""
    errors = [line for line in run.output.splitlines() if "Could not retrieve catalog from remote server" in line]
    assert errors, run.output
    text = re.sub(r"\?[^']*'", "'", errors[-1])
    return re.sub(r"https://localhost:\d+(, )?", "", text)


def test_doctor_sees_a_host_that_is_set_up_well_and_a_gateway_that_has_died(site: AgentSite) -> None:
    """By the files that Puppet Server itself runs with, and its certificate."""
    conf = site.server.installation.puppetdb_conf
    assert doctor("--config", conf) == (0, {})
    site.gateway.kill()
    code, found = doctor("--config", conf)
    assert (code, set(found)) == (1, {"gateway-not-used"})


def test_doctor_calls_a_puppet_server_no_puppetdb(site: AgentSite, pair: Lab) -> None:
    endpoint = Endpoint("localhost", site.server.port)
    ((facts,), _) = ask_servers([endpoint], pair.client_tls, "client", {endpoint: 0.0})
    assert facts.met == "misrouted"
    assert facts.error is not None
    assert facts.error.startswith("that is no PuppetDB (a Puppet Server?): ")


# --- with a journal in the gateway


def story_of(site: AgentSite, lab: Lab, directory: Path, journal: Path | None) -> Story:
    directory.mkdir()
    files = {NODE1: directory / "from-node1", NODE2: directory / "from-node2"}
    site.server.manifest(nodes(*(manifest(file, name) for name, file in files.items())))
    site.with_journal(journal)
    agents = {NODE1: site.node1, NODE2: site.node2}

    def run(name: str) -> None:
        done, met = agents[name].run()
        done.require(0, 2)
        assert met == [], "the gateway never fails"

    with site.gateway:
        return told(lab, files, run, site.restart_gateway, "kill")


@pytest.mark.soak
def test_two_agents_see_each_others_exported_resources_across_a_failover_and_back_with_the_journal(
    idle_site: AgentSite, pair: Lab, tmp_path: Path
) -> None:
    """In the long form, the same story is told without it: there it must go wrong, or the comparison shows nothing.

    In every run, it is told both ways with `puppet apply` (test_journal_puppet).
    """
    with_journal = story_of(idle_site, pair, tmp_path / "with", tmp_path / "journal")
    assert with_journal == Story(first=False, during=True, after=True)
    if LONG:
        for name in (PRIMARY, REPLICA):
            pair.empty(name)
        without = story_of(idle_site, pair, tmp_path / "without", None)
        print(side_by_side(with_journal, without))
        assert without == Story(first=False, during=False, after=False)


def test_with_no_puppetdb_left_agents_run_and_what_they_sent_is_delivered_later(
    idle_site: AgentSite, pair: Lab, tmp_path: Path
) -> None:
    """Without `soft_write_failure`. A run that collects cannot: only a PuppetDB knows what others export."""
    local = f"file {{ '{tmp_path}/local': ensure => file, content => 'local' }}\n"
    site = idle_site
    site.server.manifest(nodes(local + exporting(tmp_path / "exported", "node1"), COLLECTING))
    journal = tmp_path / "journal"
    site.with_journal(journal)
    with site.gateway:
        with blackout(pair):
            run, met = site.node1.run()
            again, met_again = site.node1.run()
            collecting, _ = site.node2.run()
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
