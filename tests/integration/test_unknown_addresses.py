"""Addresses that PuppetDB does not have: asking for one keeps no server from anybody, through client and gateway.

Up to 8.4 PuppetDB answers with a way to its dashboard, from 8.5 on with 404 and a page that is not JSON.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pdbclient import NotFound, Rejected
from pdbclient.config import load_config
from pdbclient.lab import Lab
from pdbclient.sync.policy.versions import release

from ..faults.gateway import GatewayProcess, ask, gateway_config, submit, write_config
from .client_site import PRIMARY, REPLICA, ClientSite, facts

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.every_server(long=["8.8.1+8.8.1"])]

QUERIES = ("nope", "reports/abc", "factsets/a%20b", "nodes/a/b/c")
ADDRESSES = (
    *(f"/pdb/query/v4/{path}" for path in QUERIES),
    "/pdb/query/v5/nodes",
    "/pdb/meta/v1/nope",
    "/pdb/nope",
    "/nope",
    "/status/v1/nope",
)


@pytest.fixture
def site(pair: Lab) -> Iterator[ClientSite]:
    with ExitStack() as stack:
        yield ClientSite(pair, stack)


@pytest.fixture(scope="module")
def gateway(lab: Lab) -> Iterator[GatewayProcess]:
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        config = gateway_config(load_config(lab.puppetdb_conf), lab.client_tls, gateway_health_interval=2.0)
        assert config.gateway_url is not None
        path = write_config(Path(name) / "puppetdb.conf", config)
        with GatewayProcess(path, config.gateway_url.port, Path(name) / "log") as process:
            yield process.up()


def has_dashboard_for_all(lab: Lab) -> bool:
    """Whether the primary answers to an unknown address of its own with the way to its dashboard."""
    version = next(node.version for node in lab.status() if node.name == PRIMARY)
    number = release(version or "")
    assert number is not None
    return number < (8, 5)


def test_the_real_server_answers_as_its_release_does(site: ClientSite) -> None:
    for path in QUERIES:
        answer = site.stock("GET", f"/pdb/query/v4/{path}")
        if has_dashboard_for_all(site.lab):
            assert answer.status_code == 302
            assert answer.headers["Location"].endswith("/dashboard/index.html")
        else:
            assert (answer.status_code, answer.text) == (404, "Not Found")
            assert answer.headers["Content-Type"].partition(";")[0] == "text/html"


@pytest.mark.parametrize("path", QUERIES)
def test_a_client_that_asks_for_one_is_told_and_goes_on_as_before(site: ClientSite, path: str) -> None:
    client = site.client()
    client.submit_payload("replace facts", facts("a b"))
    site.settle()
    for number in range(4):
        with pytest.raises(
            Rejected if has_dashboard_for_all(site.lab) else NotFound, match="no such address"
        ) as told:
            client.get(path)
        assert told.value.endpoint == site.primary.url
        assert all(health.usable for health in client.health().values())
        done = client.submit_payload("replace facts", facts("a b", number))
        assert (done.endpoint, done.failed_over) == (site.primary, False)
        # One after the other: an 8.4.1 of Debian 13 can put several for one node off for an hour.
        site.settle()
        answer = client.query("nodes[certname] {}")
        assert answer.endpoint == site.primary
    assert [site.count(name) for name in (PRIMARY, REPLICA)] == [1, 0]


def test_whoever_asks_the_gateway_for_one_is_told_and_all_go_on_as_before(
    site: ClientSite, gateway: GatewayProcess
) -> None:
    tls = site.lab.client_tls
    for address in ADDRESSES * 2:
        told = ask(gateway.port, tls, address)
        assert told.status == 404, (address, told.body[:200])
        command = submit(gateway.port, tls)
        assert (command.status, command.server) == (200, site.primary.port), (address, command.body[:200])
        site.settle()
        query = ask(gateway.port, tls, "/pdb/query/v4/nodes")
        assert (query.status, query.server) == (200, site.primary.port), address
    assert [site.count(name) for name in (PRIMARY, REPLICA)] == [1, 0]
    assert "is unhealthy, not asked for now" not in gateway.text
