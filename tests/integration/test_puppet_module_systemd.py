"""The Puppet module on a Debian that runs its own systemd: the package of a repository, the services by their units.

Only in the long form (`make soak`), as the package itself; Debian 12 has Puppet 7, Debian 13 has Puppet 8.
"""

from __future__ import annotations

import shutil

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port

from .booted import BootedSystem
from .puppet.installation import EXAMPLES
from .test_debian_package import GATEWAY, SYNC, SYNC_CONF, log_of, main_pid, put_certificates, wait
from .test_debian_package import host as host  # the fixture

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(3600)]

CERTNAME = "puppet.mycorp.net"
PUPPET_CONF = f"[main]\ncertname = {CERTNAME}\nssldir = /var/lib/puppet/ssl\n"
SSL = "/etc/puppetlabs/puppetdb/ssl"

# A repository with this one package, as a site has it.
REPOSITORY = """
mkdir --parents /srv/repository
mv /root/pdbclient.deb /srv/repository
cd /srv/repository
{ dpkg-deb --field pdbclient.deb
  echo "Filename: ./pdbclient.deb"
  echo "Size: $(stat --format=%s pdbclient.deb)"
  echo "SHA256: $(sha256sum pdbclient.deb | cut -d' ' -f1)"
} >Packages
echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list.d/pdbclient.list
apt-get update -q
"""


def test_a_host_with_both_roles_from_nothing_and_back(host: BootedSystem, lab: Lab) -> None:
    host.run("bash", "-euc", REPOSITORY)
    shutil.copytree(EXAMPLES / "modules/pdbclient", host.path("/etc/puppet/code/modules/pdbclient"))
    put_certificates(host, lab.issue(CERTNAME), "/var/lib/puppet/ssl", CERTNAME)
    puppetdb_certificates(host, lab)
    host.write("/etc/puppet/puppet.conf", PUPPET_CONF)
    before = configuration(host)
    port, local = free_port(), free_port()

    apply(host, manifest(lab, port), 2)
    for unit in (GATEWAY, SYNC):
        assert host.run("systemctl", "is-active", unit).strip() == "active"
        assert host.run("systemctl", "is-enabled", unit).strip() == "enabled"
    gateway, sync = main_pid(host, GATEWAY), main_pid(host, SYNC)
    wait(lambda: "finished" in log_of(host, SYNC), host, SYNC)
    apply(host, manifest(lab, port), 0)

    changed = manifest(lab, port, f"'gateway_local_url' => 'http://127.0.0.1:{local}'", "'max-age' => '7d'")
    apply(host, changed, 2)
    assert (main_pid(host, GATEWAY), main_pid(host, SYNC)) == (gateway, sync), "reloaded, not restarted"
    wait(lambda: "configuration and certificates reloaded" in log_of(host, GATEWAY), host, GATEWAY)
    wait(lambda: "configuration read again" in log_of(host, SYNC), host, SYNC)
    apply(host, changed, 0)

    absent = changed.replace("class { 'pdbclient':", "class { 'pdbclient': ensure => 'absent',")
    apply(host, absent, 2)
    assert configuration(host) == before
    assert "Status: deinstall ok config-files" in host.run("dpkg", "--status", "pdbclient")
    for unit in (GATEWAY, SYNC):
        assert host.ask("systemctl", "is-active", "--quiet", unit) != 0
    assert host.path("/var/lib/pdbclient").is_dir(), "data stays"
    apply(host, absent, 0)


def manifest(lab: Lab, port: int, own: str = "", sync: str = "") -> str:
    primary, replica = (f"https://localhost:{lab.node(name).https_port}" for name in ("primary", "replica"))
    return f"""
class {{ 'pdbclient': }}
class {{ 'pdbclient::terminus':
  server_urls => ['{primary}', '{replica}'],
  gateway     => 'https://{CERTNAME}:{port}',
  journal     => '/var/lib/pdbclient/journal.db',
  settings    => {{ 'pdbclient' => {{ {own} }} }},
}}
include pdbclient::gateway
class {{ 'pdbclient::sync':
  remotes   => [{{ 'server_url' => '{replica}', 'interval' => '5m' }}],
  local_url => '{primary}',
  ssl_crl   => '{SSL}/crl.pem',
  settings  => {{ {sync} }},
}}
"""


def apply(host: BootedSystem, text: str, status: int) -> None:
    """`puppet apply`, which ends so: 2 after changes, 0 when there was nothing to do."""
    host.write("/root/site.pp", text)
    puppet = "puppet apply --modulepath /etc/puppet/code/modules --detailed-exitcodes --color false"
    host.run("bash", "-c", f"{puppet} /root/site.pp; test $? = {status}")


def puppetdb_certificates(host: BootedSystem, lab: Lab) -> None:
    """As `puppetdb ssl-setup` leaves them, and the list beside them."""
    tls = lab.issue("primary-puppetdb.mycorp.net")
    for source, name in (
        (tls.ca, "ca.pem"),
        (tls.cert, "public.pem"),
        (tls.key, "private.pem"),
        (tls.crl, "crl.pem"),
    ):
        assert source is not None
        host.write(f"{SSL}/{name}", source.read_text(), owner="puppetdb:puppetdb", mode="0600")


def configuration(host: BootedSystem) -> dict[str, bytes]:
    """Puppet's own files, and the reconciler's."""
    files = [path for path in host.path("/etc/puppet").iterdir() if path.is_file()]
    conf = host.path(SYNC_CONF)
    return {path.name: path.read_bytes() for path in [*files, *([conf] if conf.exists() else [])]}
