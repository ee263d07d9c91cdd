"""The package for Debian, in a fresh one that runs its own systemd: both services as their units start them.

Only in the long form (`make soak`): each Debian takes minutes. The package is built of the last commit.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from pdbclient.config.model import TlsFiles
from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from tests.packages.checkout import ROOT

from .booted import RELEASES, BootedSystem, fresh_host
from .puppet.installation import EXAMPLES

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(3600)]

GATEWAY, SYNC = "pdbclient-gateway", "pdbclient-sync"
SYNC_CONF = "/etc/pdbclient/sync.conf"


@pytest.fixture(params=RELEASES)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BootedSystem]:
    """With the users and directories of a Puppet Server and a PuppetDB, which the lab's stand in for."""
    with fresh_host(request.param, tmp_path / "console") as booted:
        (package,) = booted.path("/root").glob("*.deb")
        package.rename(booted.path("/root/pdbclient.deb"))
        yield booted


def test_the_package_from_its_installation_to_its_purge(host: BootedSystem, lab: Lab, tmp_path: Path) -> None:
    install(host)
    port = free_port()
    configure_gateway(host, lab, port)
    the_gateway_serves(host, lab.certificate("puppet.mycorp.net"), port)
    configure_sync(host, lab)
    the_reconciler_pulls(host, lab, tmp_path)
    logs_are_rotated(host)
    a_wrong_configuration_is_said_at_the_start(host)
    an_upgrade_keeps_all_and_restarts_what_runs(host)
    a_removal_keeps_data_and_configuration(host)
    a_purge_removes_what_is_the_packages_own(host)
    without_the_package_the_page_for_other_systems_does_it(host)


def install(host: BootedSystem) -> None:
    host.run("apt-get", "install", "-y", "-q", "/root/pdbclient.deb")
    assert host.run("pdbclient", "--version").startswith("pdbclient ")
    for unit in (GATEWAY, SYNC):
        assert host.run("systemctl", "is-enabled", unit, fails=True).strip() == "disabled"
        assert host.run("systemctl", "is-active", unit, fails=True).strip() == "inactive"
        # For the very file that is installed, with the program that it names.
        host.run("systemd-analyze", "verify", "--man=no", f"{unit}.service")
        host.run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", f"{unit}.service")
    assert owner(host, "/var/lib/pdbclient") == "pdbclient 700"
    for file in (
        "man/man1/pdbclient.1.gz",
        "bash-completion/completions/pdbclient",
        "zsh/vendor-completions/_pdbclient",
    ):
        assert host.path(f"/usr/share/{file}").is_file()
    assert host.path("/usr/share/doc/pdbclient/examples").is_symlink()
    host.run("test", "-f", "/usr/share/doc/pdbclient/examples/server-gateway/puppetdb.conf")
    # Nothing in it knows where it was built, and the compiled modules are those that Python uses.
    assert host.ask("grep", "-rlI", "/root/pdbclient", "/opt/pdbclient") == 1
    assert "psycopg" in host.run("/opt/pdbclient/bin/python3", "-c", "import psycopg; print(psycopg.__name__)")
    changed = host.run("dpkg", "--verify", "pdbclient")
    assert changed == "", changed


def configure_gateway(host: BootedSystem, lab: Lab, port: int) -> None:
    """As on a Puppet Server of Debian's: Puppet's files where and whose its packages have them."""
    tls = lab.issue("puppet.mycorp.net")
    put_certificates(host, tls, "/var/lib/puppet/ssl", "puppet.mycorp.net")
    host.write("/etc/puppet/puppet.conf", "[main]\ncertname = puppet.mycorp.net\nssldir = /var/lib/puppet/ssl\n")
    text = (EXAMPLES / "server-gateway/puppetdb.conf").read_text().replace("#journal =", "journal =")
    text = text.replace("puppet.mycorp.net:8085", f"puppet.mycorp.net:{port}")
    host.write("/etc/puppet/puppetdb.conf", with_lab(text, lab))


def the_gateway_serves(host: BootedSystem, tls: TlsFiles, port: int) -> None:
    assert host.ask("systemctl", "enable", "--now", GATEWAY) == 0, log_of(host, GATEWAY)
    confined(host, GATEWAY, "pdbclient")
    with requests.Session() as session:
        session.trust_env = False
        session.verify, session.cert = str(tls.ca), (str(tls.cert), str(tls.key))
        at = f"https://localhost:{port}"
        assert session.get(f"{at}/pdb/query/v4/nodes", timeout=30).status_code == 200
        now = datetime.now(UTC).isoformat()
        command = {"command": "deactivate_node", "version": "3", "certname": "gone1", "producer-timestamp": now}
        body = {"certname": "gone1", "producer_timestamp": now}
        assert session.post(f"{at}/pdb/cmd/v1", params=command, json=body, timeout=30).status_code == 200
    assert owner(host, "/var/lib/pdbclient/journal.db") == "pdbclient 600"
    pid = main_pid(host, GATEWAY)
    host.run("systemctl", "reload", GATEWAY)
    assert main_pid(host, GATEWAY) == pid


def configure_sync(host: BootedSystem, lab: Lab) -> None:
    """As `puppetdb ssl-setup` leaves a PuppetDB host of Puppet's own packages, whose key is root's."""
    tls = lab.issue("primary-puppetdb.mycorp.net")
    put_certificates(host, tls, "/etc/puppetlabs/puppet/ssl", "primary-puppetdb.mycorp.net", owned="root:root")
    for source, name in ((tls.ca, "ca.pem"), (tls.cert, "public.pem"), (tls.key, "private.pem")):
        assert source is not None
        path = f"/etc/puppetlabs/puppetdb/ssl/{name}"
        host.write(path, source.read_text(), owner="puppetdb:puppetdb", mode="0600")
    host.run("chown", "puppetdb:puppetdb", "/etc/puppetlabs/puppetdb/ssl")
    host.run("chmod", "0700", "/etc/puppetlabs/puppetdb/ssl")
    text = (EXAMPLES / "sync-primary.conf").read_text().replace("interval: 5m", "interval: 2s")
    text = text.replace("# logging_config:", "logging_config:")
    assert "\n  logging_config: /etc/pdbclient/logging.yaml\n" in text
    host.write(SYNC_CONF, with_lab(text, lab))


def the_reconciler_pulls(host: BootedSystem, lab: Lab, tmp_path: Path) -> None:
    assert host.ask("systemctl", "enable", "--now", SYNC) == 0, log_of(host, SYNC)
    confined(host, SYNC, "puppetdb")
    assert owner(host, "/var/lib/pdbclient-sync") == "puppetdb 750"
    facts = tmp_path / "facts.json"
    document = {
        "certname": "web1",
        "environment": "production",
        "values": {"role": "web"},
        "producer_timestamp": datetime.now(UTC).isoformat(),
        "producer": "puppet.mycorp.net",
    }
    facts.write_text(json.dumps(document))
    replica_only = tmp_path / "puppetdb.conf"
    replica_only.write_text(lab.puppetdb_conf.read_text().replace(f"{lab.node('primary').url},", ""))
    program = str(Path(sys.executable).with_name("pdbclient"))
    submit = [program, "submit", "facts", str(facts), "--config", str(replica_only)]
    subprocess.run(submit, check=True, timeout=120, stdout=subprocess.DEVNULL)
    primary = lab.node("primary").cleartext_url
    wait(lambda: requests.get(f"{primary}/pdb/query/v4/nodes/web1", timeout=30).status_code == 200, host, SYNC)
    # As root, who finds what the daemon wrote.
    wait(lambda: host.ask("pdbclient", "sync", "status", "--config", SYNC_CONF) == 0, host, SYNC)


def logs_are_rotated(host: BootedSystem) -> None:
    """By the file of the package; the reconciler goes on in a new one."""
    log = host.path("/var/log/pdbclient-sync/sync.json")
    assert {"sync", "entity"} <= {json.loads(line)["phase"] for line in log.read_text().splitlines()}
    host.run("logrotate", "--force", "/etc/logrotate.d/pdbclient")
    assert log.with_name("sync.json.1").is_file()
    wait(lambda: log.exists() and '"finished"' in log.read_text(), host, SYNC)


def a_wrong_configuration_is_said_at_the_start(host: BootedSystem) -> None:
    """By `systemctl` itself; and without the lines for PuppetDB's copies, with what to do."""
    right = host.path(SYNC_CONF).read_text()
    pid = main_pid(host, SYNC)
    host.write(SYNC_CONF, "\n".join(line for line in right.splitlines() if not line.startswith("  ssl_")))
    host.run("systemctl", "reload", SYNC)
    wait(lambda: "the old one stays" in log_of(host, SYNC), host, SYNC)
    assert main_pid(host, SYNC) == pid
    host.run("systemctl", "restart", SYNC, fails=True)
    assert "set ssl_key in the section sync, as the example sync-primary.conf does" in log_of(host, SYNC)
    host.write(SYNC_CONF, right)
    host.run("systemctl", "restart", SYNC)


def an_upgrade_keeps_all_and_restarts_what_runs(host: BootedSystem) -> None:
    changed = host.path("/etc/pdbclient/logging.yaml").read_text() + "# ours\n"
    host.write("/etc/pdbclient/logging.yaml", changed)
    kept = {path: host.path(path).read_text() for path in (SYNC_CONF, "/etc/puppet/puppetdb.conf")}
    before = journal_entries(host)
    pids = [main_pid(host, unit) for unit in (GATEWAY, SYNC)]
    host.run("dpkg-deb", "--raw-extract", "/root/pdbclient.deb", "/root/newer")
    host.run("sed", "-i", "/^Version: /s/$/.1/", "/root/newer/DEBIAN/control")
    host.run("dpkg-deb", "--build", "-Znone", "/root/newer", "/root/newer.deb")
    host.run("apt-get", "install", "-y", "-q", "/root/newer.deb")
    assert host.run("dpkg-query", "-W", "-f", "${Version}", "pdbclient").endswith(".1")
    for unit, pid in zip((GATEWAY, SYNC), pids, strict=True):
        host.run("systemctl", "is-active", unit)
        host.run("systemctl", "is-enabled", unit)
        assert main_pid(host, unit) != pid
    assert host.path("/etc/pdbclient/logging.yaml").read_text() == changed
    assert {path: host.path(path).read_text() for path in kept} == kept
    assert journal_entries(host) == before >= 1


def a_removal_keeps_data_and_configuration(host: BootedSystem) -> None:
    host.run("apt-get", "remove", "-y", "-q", "pdbclient")
    for unit in (GATEWAY, SYNC):
        assert host.ask("systemctl", "is-active", "--quiet", unit) != 0
    assert not host.path("/opt/pdbclient").exists()
    assert not host.path("/usr/bin/pdbclient").is_symlink()
    for path in (
        "/var/lib/pdbclient/journal.db",
        SYNC_CONF,
        "/etc/pdbclient/logging.yaml",
        "/etc/puppet/puppetdb.conf",
    ):
        assert host.path(path).is_file(), path
    for directory in ("/var/lib/pdbclient-sync", "/var/log/pdbclient-sync"):
        assert list(host.path(directory).iterdir()), directory


def a_purge_removes_what_is_the_packages_own(host: BootedSystem) -> None:
    """Not what the administrator wrote."""
    host.run("apt-get", "purge", "-y", "-q", "pdbclient")
    left = host.run("find", "/etc", "/var", "/opt", "/usr", "-name", "*pdbclient*", "-not", "-path", "/var/cache/*")
    assert left.split() == ["/etc/pdbclient"]
    assert [path.name for path in host.path("/etc/pdbclient").iterdir()] == ["sync.conf"]
    assert host.path("/etc/puppet/puppetdb.conf").is_file()


def without_the_package_the_page_for_other_systems_does_it(host: BootedSystem) -> None:
    """All its commands but those for RHEL's own SELinux and firewall, as they stand there."""
    host.run("apt-get", "install", "-y", "-q", "--no-install-recommends", "python3-venv")
    for section in ("The environment", "User, directories, units", "Upgrade"):
        for commands in shell_commands(section):
            host.run("bash", "-euc", f"cd /root\n{commands}")
    for unit in (GATEWAY, SYNC):
        host.run("systemd-analyze", "verify", "--man=no", f"{unit}.service")
    host.run("pdbclient", "config", "check", "--sync", SYNC_CONF)
    host.run("systemctl", "start", SYNC)
    confined(host, SYNC, "puppetdb")
    for commands in shell_commands("Remove"):
        host.run("bash", "-euc", commands)
    assert host.ask("systemctl", "is-active", "--quiet", SYNC) != 0
    assert host.ask("which", "pdbclient") != 0
    assert host.path(SYNC_CONF).is_file()


def shell_commands(section: str) -> list[str]:
    """What one section of the page tells to run."""
    text = (ROOT / "docs/install/other-systems.md").read_text()
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return re.findall(r"^```sh\n(.*?)^```$", body, re.M | re.S)


def put_certificates(
    host: BootedSystem, tls: TlsFiles, ssldir: str, certname: str, owned: str = "puppet:puppet"
) -> None:
    """Where Puppet keeps them, with its modes."""
    files = {
        "certs/ca.pem": (tls.ca, "0644"),
        f"certs/{certname}.pem": (tls.cert, "0644"),
        f"private_keys/{certname}.pem": (tls.key, "0640"),
        "crl.pem": (tls.crl, "0644"),
    }
    for name, (source, mode) in files.items():
        assert source is not None
        host.write(f"{ssldir}/{name}", source.read_text(), mode=mode)
    host.run("chown", "-R", owned, ssldir)
    host.run("chmod", "0750", f"{ssldir}/private_keys")
    host.run("chmod", "0771", ssldir)


def with_lab(text: str, lab: Lab) -> str:
    for name in ("primary", "replica"):
        text = text.replace(f"{name}-puppetdb.mycorp.net:8081", f"localhost:{lab.node(name).https_port}")
    return text


def confined(host: BootedSystem, unit: str, user: str) -> None:
    """It runs, as that user, without capabilities, with its filter of system calls, and with its umask."""
    host.run("systemctl", "is-active", unit)
    pid = main_pid(host, unit)
    status = dict(
        line.split(":\t", 1) for line in host.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    uid = host.run("id", "-u", user).strip()
    found = [status[name] for name in ("Uid", "Umask", "CapEff", "NoNewPrivs", "Seccomp")]
    assert found == ["\t".join([uid] * 4), "0077", "0000000000000000", "1", "2"]
    # Of the whole system it can write its own directories only.
    assert host.ask("nsenter", "--target", pid, "--mount", "touch", "/usr/bin/pdbclient-was-here") != 0


def main_pid(host: BootedSystem, unit: str) -> str:
    pid = host.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()
    assert pid != "0", log_of(host, unit)
    return pid


def log_of(host: BootedSystem, unit: str) -> str:
    return host.run("journalctl", "--no-pager", "--quiet", "--unit", unit)


def owner(host: BootedSystem, path: str) -> str:
    return host.run("stat", "--format=%U %a", path).strip()


def journal_entries(host: BootedSystem) -> int:
    """As the gateway's user sees it."""
    user = ("setpriv", "--reuid=pdbclient", "--regid=pdbclient", "--groups=puppet", "--reset-env")
    status = json.loads(host.run(*user, "pdbclient", "journal", "status", "--json"))
    return sum(status["entries"].values())


def wait(ready: Callable[[], bool], host: BootedSystem, unit: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, log_of(host, unit)
        time.sleep(0.5)
