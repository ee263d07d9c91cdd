"""`puppet apply` with the stock terminus: through the gateway, past it, and with PuppetDBs that fail.

In the matrix with every Puppet, up to OpenVox 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from tests.soak import LONG

from .puppet.apply_site import ApplySite
from .puppet.evidence import COLLECTING, assert_stored, assert_untouched, exporting, seed, stored
from .puppet.gateway import Gateway
from .puppet.outage import LIMITS, OUTAGES, PRIMARY, REPLICA, Outage, blackout
from .puppet.run import Run
from .puppet.stock import APPLYING, StockPuppet, parameters
from .schema import flags_table

pytestmark = pytest.mark.integration

NODE1, NODE2 = "node1.mycorp.net", "node2.mycorp.net"

# In every run agents have their primary killed (test_puppet_server).
APPLIED = {name: outage for name, outage in OUTAGES.items() if LONG or name != "primary killed"}


class MasterlessHost:
    """A masterless host and the gateway beside it."""

    def __init__(self, root: Path, lab: Lab, certname: str, stock: StockPuppet | None) -> None:
        self.puppet = ApplySite(root, lab, certname, stock)
        self.port = free_port()
        self.gateway = Gateway(self.puppet.puppetdb_conf, root / "gateway.log")

    def configure(self, *, gateway: bool = True, **settings: str) -> None:
        self.puppet.configure(self.port if gateway else None, **(LIMITS | settings))


@pytest.fixture(scope="module", params=parameters(APPLYING))
def hosts(request: pytest.FixtureRequest, lab: Lab, lab_directory: Path) -> tuple[MasterlessHost, MasterlessHost]:
    stock: StockPuppet | None = request.param
    roots = lab_directory / f"apply-{stock.name if stock else 'installed'}"
    return MasterlessHost(roots / "node1", lab, NODE1, stock), MasterlessHost(roots / "node2", lab, NODE2, stock)


@pytest.fixture
def site(hosts: tuple[MasterlessHost, MasterlessHost], pair: Lab) -> Iterator[tuple[MasterlessHost, MasterlessHost]]:
    """Both hosts with their gateways, which know of no outage yet; the pair is well and empty."""
    with ExitStack() as stack:
        for host in hosts:
            host.configure()
            stack.enter_context(host.gateway)
        yield hosts


@pytest.mark.soak
@pytest.mark.parametrize("outage", APPLIED.values(), ids=APPLIED)
def test_a_run_succeeds_and_stores_exports_and_collects_with_an_outage(
    outage: Outage, site: tuple[MasterlessHost, MasterlessHost], pair: Lab, tmp_path: Path
) -> None:
    node1, node2 = site
    file = tmp_path / "exported"
    with outage(pair, [host.gateway for host in site]):
        runs = [node1.puppet.apply(exporting(file, "from node1")).require(0)]
        pair.settle(outage.lands)
        runs.append(node2.puppet.apply(COLLECTING).require(2))
        assert file.read_text() == "from node1"
        assert_stored(pair, outage.lands, [NODE1, NODE2])
    if outage.lands == PRIMARY:
        assert_untouched(pair, REPLICA)
    for host, run in zip(site, runs, strict=True):
        # What the gateway hides, the stock terminus does not even meet.
        met = {host.port, pair.node(PRIMARY).https_port} if outage.primary else {host.port}
        assert set(run.failovers) == (met if outage.gateway_killed else set())


def test_a_run_succeeds_with_postgresql_stopped_under_the_primary(
    site: tuple[MasterlessHost, MasterlessHost], pair: Lab, tmp_path: Path
) -> None:
    """The primary still takes commands onto its disk, so that they may be on either server in the end."""
    _, node2 = site
    file = tmp_path / "exported"
    seed(pair, file, "from the seed")
    with Outage(REPLICA, "stop-postgres")(pair, []):
        run = node2.puppet.apply(COLLECTING + exporting(tmp_path / "other", "other")).require(2)
        assert file.read_text() == "from the seed"
    assert run.failovers == []
    both = [stored(pair, name) for name in (PRIMARY, REPLICA)]
    for kind in ("facts", "catalogs", "reports"):
        assert [certname for found in both for certname in found[kind]].count(NODE2) >= 1, kind
    assert pair.discarded(PRIMARY) == pair.discarded(REPLICA) == ()


def test_with_no_puppetdb_left_a_run_ends_as_it_does_without_the_gateway_or_softly(
    site: tuple[MasterlessHost, MasterlessHost], pair: Lab, tmp_path: Path
) -> None:
    """With `soft_write_failure` a run succeeds that reads nothing."""
    node1, node2 = site
    node2.configure(soft_write_failure="true")
    manifest = exporting(tmp_path / "never", "never")
    local = f"file {{ '{tmp_path}/local': ensure => file, content => 'local' }}"
    with blackout(pair):
        gateway = node1.puppet.apply(manifest)
        node1.configure(gateway=False)
        stock = node1.puppet.apply(manifest)
        soft = node2.puppet.apply(local + manifest).require(2)
        collecting = node2.puppet.apply(COLLECTING).require(1)
    assert gateway.status == stock.status == 1
    assert last_error(gateway) == last_error(stock)
    assert "Failed to execute '/pdb/cmd/v1' on at least 1 of the following 'server_urls'" in last_error(stock)
    assert (tmp_path / "local").read_text() == "local"
    for command in ("replace_facts", "replace_catalog", "store_report"):
        told = rf"^Error: Failed to execute '/pdb/cmd/v1\?\S*command={command}&\S* on at least 1 of"
        assert re.search(told, soft.output, re.M), soft.output
    assert "Could not retrieve resources from the PuppetDB" in last_error(collecting)


def test_deactivating_a_node_its_status_and_queries_in_a_manifest_go_through_the_gateway(
    site: tuple[MasterlessHost, MasterlessHost], pair: Lab
) -> None:
    node1, node2 = site
    runs = [node2.puppet.apply("notice('here')").require(0)]
    pair.settle(PRIMARY)
    manifest = (
        "notice(puppetdb_query('nodes[certname] { }'), puppetdb_query(['from', 'nodes', ['extract', 'certname']]))"
    )
    runs.append(node1.puppet.apply(manifest).require(0))
    assert runs[-1].output.count(f"{{certname => {NODE2}}}") == 2
    runs.append(node1.puppet.node("status", NODE2).require(0))
    assert "Currently active" in runs[-1].output
    runs.append(node1.puppet.node("deactivate", NODE2).require(0))
    assert f"Submitted 'deactivate node' for {NODE2} with UUID" in runs[-1].output
    pair.settle(PRIMARY)
    runs.append(node1.puppet.node("status", NODE2).require(0))
    assert "Deactivated at" in runs[-1].output
    assert [run.failovers for run in runs] == [[]] * len(runs)
    assert pair.sql(PRIMARY, f"select certname from {flags_table(pair, PRIMARY)} where deactivated is not null") == [
        (NODE2,)
    ]
    assert_untouched(pair, REPLICA)
    unknown = node1.puppet.node("status", "nobody.mycorp.net").require(0)
    assert "Could not retrieve status for nobody.mycorp.net: Failed to find" in unknown.output


def last_error(run: Run) -> str:
    """The last error of a run, without what is different in every run: query strings and the list of servers."""
    errors = [line for line in run.output.splitlines() if line.startswith("Error: ")]
    assert errors, run.output
    text = re.sub(r"\?[^']*'", "'", errors[-1])
    return re.sub(r"https://localhost:\d+(, )?", "", text)
