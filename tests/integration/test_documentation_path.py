"""The path of a new administrator, by the package and the pages alone, in a fresh Debian with a systemd of its own.

There are a real Puppet Server with an agent, and two real PuppetDBs, of which one is killed. Every block that the
pages mark `host` is run as it stands, in the order in which an administrator comes to it; the names of the PuppetDBs
are the lab's here. Only in the long form (`make soak`): each Debian takes many minutes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pdbclient.lab import Lab
from tests.documentation import HOST_PAGES, ROOT, Block, blocks

from .booted import NAME, RELEASES, BootedSystem, fresh_host

pytestmark = [
    pytest.mark.integration,
    pytest.mark.soak,
    pytest.mark.timeout(5400),
]

GATEWAY, SYNC, SYNC_CONF = "pdbclient-gateway", "pdbclient-sync", "/etc/pdbclient/sync.conf"
SSL = "/var/lib/puppet/ssl"
WEBSERVER = f"""\
webserver: {{
  client-auth: want
  ssl-host: 127.0.0.1
  ssl-port: 8140
  ssl-cert: {SSL}/certs/{NAME}.pem
  ssl-key: {SSL}/private_keys/{NAME}.pem
  ssl-ca-cert: {SSL}/certs/ca.pem
  ssl-crl-path: {SSL}/crl.pem
}}
"""
PUPPET_CONF = f"[main]\ncertname = {NAME}\nserver = {NAME}\nssldir = {SSL}\n"


@pytest.fixture(params=RELEASES)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BootedSystem]:
    """Where nothing of pdbclient is installed yet."""
    more = "curl puppet-agent puppet-terminus-puppetdb"
    with fresh_host(request.param, tmp_path / "console", packages=more, puppetserver="disable") as booted:
        yield booted


class Pages:
    """The pages, and which of their blocks were run."""

    def __init__(self, host: BootedSystem, lab: Lab) -> None:
        self._host = host
        self._urls = {
            f"https://{name}-puppetdb.mycorp.net:8081": f"https://localhost:{lab.node(name).https_port}"
            for name in ("primary", "replica")
        }
        self.left = [block for page in HOST_PAGES for block in blocks("sh", "host") if block.page == page]

    def here(self, text: str) -> str:
        for shown, url in self._urls.items():
            text = text.replace(shown, url)
        return text

    def go(self, page: str, count: int = 1) -> None:
        """Run the next blocks of the page as they stand."""
        for _ in range(count):
            block = next(block for block in self.left if block.page == page)
            self.left.remove(block)
            self._run(block)

    def _run(self, block: Block) -> None:
        print(f"\n# {block}\n{block.text}", self._host.run("bash", "-euc", f"cd /root\n{self.here(block.text)}"))


def test_a_new_administrator_comes_from_nothing_to_a_pair_that_survives_its_primary(
    host: BootedSystem, lab: Lab
) -> None:
    path = Pages(host, lab)
    puppet_is_there(host, lab)
    path.go("docs/install/packages.md")
    a_puppetdb_host(host, path)
    a_puppet_server(host, path)
    path.go("docs/install/check.md")
    path.go("docs/operate/gateway.md")
    path.go("docs/operate/monitoring.md")
    the_primary_is_killed(host, lab)
    path.go("docs/install/puppet-server.md")  # taking it back
    path.go("docs/install/puppet-apply.md")
    path.go("docs/operate/upgrade-pdbclient.md", 3)
    assert host.ask("which", "pdbclient") != 0
    assert path.left == []


def puppet_is_there(host: BootedSystem, lab: Lab) -> None:
    """A Puppet Server without a CA of its own: the certificates are the lab's."""
    tls = lab.issue(NAME)
    files = {
        "certs/ca.pem": tls.ca,
        f"certs/{NAME}.pem": tls.cert,
        f"private_keys/{NAME}.pem": tls.key,
        "crl.pem": tls.crl,
    }
    for name, source in files.items():
        assert source is not None
        host.write(f"{SSL}/{name}", source.read_text(), mode="0640" if "private" in name else "0644")
    host.run("chown", "-R", "puppet:puppet", SSL)
    host.run("chmod", "0771", SSL)
    host.write("/etc/puppet/puppet.conf", PUPPET_CONF)
    host.write("/etc/puppet/puppetserver/conf.d/webserver.conf", WEBSERVER)
    services = host.path("/etc/puppet/puppetserver/services.d/ca.cfg")
    name = "certificate-authority"
    enabled = f"puppetlabs.services.ca.{name}-service/{name}-service"
    disabled = f"puppetlabs.services.ca.{name}-disabled-service/{name}-disabled-service"
    services.write_text(re.sub(f"^{re.escape(enabled)}$", disabled, services.read_text(), flags=re.M))
    host.write("/etc/puppet/code/environments/production/manifests/site.pp", "file { '/tmp/seen': content => 'x' }\n")


def a_puppetdb_host(host: BootedSystem, path: Pages) -> None:
    page = "docs/install/puppetdb.md"
    path.go(page, 2)
    text = path.here(host.path(SYNC_CONF).read_text())
    text = text.replace("/etc/puppetlabs/puppet/ssl/crl.pem", "/etc/puppetlabs/puppetdb/ssl/crl.pem")
    text = text.replace("# status-port: 8088", "status-port: 8088").replace("interval: 5m", "interval: 5s")
    host.write(SYNC_CONF, text)
    path.go(page)
    wait(lambda: host.ask("pdbclient", "sync", "status", "--config", SYNC_CONF) == 0, lambda: log_of(host, SYNC))
    path.go(page, 2)


def a_puppet_server(host: BootedSystem, path: Pages) -> None:
    page = "docs/install/puppet-server.md"
    path.go(page, 2)
    conf = host.path("/etc/puppet/puppetdb.conf")
    conf.write_text(f"{conf.read_text()}gateway_status_port = 8089\n")
    path.go(page)
    wait(lambda: host.ask("curl", "--silent", "--insecure", f"https://{NAME}:8140/status/v1/simple") == 0, lambda: "")
    path.go(page)
    assert host.run("pdbclient", "query", f'reports[certname] {{ certname = "{NAME}" }}').split() != []
    assert int(host.run("pdbclient", "journal", "list", "--json").count('"id"')) >= 3


def the_primary_is_killed(host: BootedSystem, lab: Lab) -> None:
    """As the page says that one tries it: the run succeeds, the page shows it, and all is well again afterwards."""
    lab.fault("primary", "kill")
    host.write("/etc/puppet/code/environments/production/manifests/site.pp", "file { '/tmp/seen': content => 'y' }\n")
    began = time.monotonic()
    host.run("bash", "-euc", "puppet agent --test || test $? -eq 2")
    print(f"the first run with a dead primary: {time.monotonic() - began:.1f} s")
    page = host.run("curl", "--silent", "http://127.0.0.1:8089/")
    assert "unhealthy" in page
    assert host.ask("pdbclient", "check", "gateway") == 1
    wait(lambda: "PdbclientServerUnhealthy" in firing(host), lambda: str(firing(host)), 600)
    said = follow(host, "server-unhealthy")
    assert "Connection refused" in said["pdbclient status"]
    lab.fault("primary", "start")  # what server-unreachable, the next page, comes to
    wait(lambda: host.ask("pdbclient", "check", "gateway") == 0, lambda: host.run("pdbclient", "journal", "status"))
    wait(lambda: "PdbclientServerUnhealthy" not in firing(host), lambda: str(firing(host)), 600)
    follow(host, "server-unhealthy")
    host.run("pdbclient", "sync", "trigger", "--config", SYNC_CONF)
    # The other host's reconciler, which has no Debian of its own here.
    command = [sys.executable, "-m", "pdbclient", "sync", "once", "--config", str(lab.sync_conf("replica"))]
    subprocess.run(command, check=True, timeout=300)
    differs = ("pdbclient", "sync", "diff", "--config", SYNC_CONF, "--entity", "reports", "facts", "catalogs")
    wait(lambda: host.ask(*differs) == 0, lambda: log_of(host, SYNC))


def firing(host: BootedSystem) -> list[str]:
    """The alerts that Prometheus has sent."""
    said = json.loads(host.run("curl", "--silent", "http://127.0.0.1:9090/api/v1/alerts"))
    return [each["labels"]["alertname"] for each in said["data"]["alerts"] if each["state"] == "firing"]


def follow(host: BootedSystem, runbook: str) -> dict[str, str]:
    """What the commands of a runbook print that are for both roles, which this host has."""
    text = (ROOT / f"docs/runbooks/{runbook}.md").read_text()
    said = {}
    for command in re.findall(r"`(pdbclient [^`]*)`", text):
        said[command] = host.run("bash", "-c", f"{command} || test $? -lt 3")
        print(f"\n# {runbook}\n{command}\n", said[command])
    return said


def log_of(host: BootedSystem, unit: str) -> str:
    return host.run("journalctl", "--no-pager", "--quiet", "--unit", unit)


def wait(ready: Callable[[], bool], said: Callable[[], str], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, said()
        time.sleep(2)
