"""`pdbclient doctor` as it is called: what it prints, its exit codes, and whom it looks as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pdbclient.doctor.gather import as_user
from pdbclient.doctor.gather.as_user import LookFailed, Looking
from pdbclient.doctor.model import Role, ServiceFacts, UnitFacts
from tests.ended import Ended

from .conftest import Pki, Site

ROOT = Path(__file__).parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as somebody else")


@dataclass(frozen=True)
class DoctorEnded(Ended):
    @property
    def findings(self) -> dict[str, dict[str, str]]:
        """What is not well, by its code."""
        found = [each for role in self.json["roles"] for each in role["findings"]]
        return {each["code"]: each for each in found if each["severity"] != "ok"}


class ApplyHost:
    """A host with a puppetdb.conf and two PuppetDBs, without a gateway; others can reach its directory."""

    def __init__(self, site: Site, pki: Pki, directory: Path) -> None:
        self.directory = directory
        for path, name in ((pki.client.ca, "ca"), (pki.client.cert, "cert"), (pki.client.key, "key")):
            assert path is not None
            (directory / f"{name}.pem").write_bytes(path.read_bytes())
        (directory / "key.pem").chmod(0o640)
        (directory / "puppet.conf").write_text(
            "[main]\ncertname = client\n[server]\nstoreconfigs = true\nstoreconfigs_backend = puppetdb\n"
            "reports = puppetdb\n"
        )
        (directory / "routes.yaml").write_text("master:\n  facts:\n    terminus: puppetdb\n    cache: yaml\n")
        self.conf = directory / "puppetdb.conf"
        urls = ",".join(f"https://localhost:{each.port}" for each in (site.primary, site.replica))
        files = "".join(f"ssl_{name} = {name}.pem\n" for name in ("cert", "key"))
        self.conf.write_text(f"[main]\nserver_urls = {urls}\n[pdbclient]\nssl_ca_cert = ca.pem\n{files}")

    def doctor(self, *options: str, path: str = "", conf: bool = True) -> DoctorEnded:
        command = [sys.executable, "-m", "pdbclient", "doctor", *options]
        if conf:
            command += ["--config", str(self.conf)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{path}:{os.environ['PATH']}"}
        ended = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=90, check=False)
        assert "Traceback" not in ended.stderr
        return DoctorEnded(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def host(site: Site, pki: Pki) -> Iterator[ApplyHost]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield ApplyHost(site, pki, Path(name))


def test_where_nothing_is_wrong_it_ends_with_0_and_tells_what_it_saw(host: ApplyHost) -> None:
    ended = host.doctor("--json")
    assert (ended.code, ended.err) == (0, "")
    told: Any = json.loads(ended.out)
    assert (told["ok"], told["problems"], told["warnings"]) == (True, 0, 0)
    ((role, config),) = [(each["role"], each["config"]) for each in told["roles"]]
    assert (role, config) == ("server", str(host.conf))
    assert [each["code"] for each in told["roles"][0]["findings"]] == ["configuration", "server", "server", "puppet"]


def test_warnings_end_with_4_and_problems_with_1(host: ApplyHost, site: Site) -> None:
    one = f"server_urls = https://localhost:{site.primary.port}\n"
    host.conf.write_text(host.conf.read_text().replace(host.conf.read_text().splitlines(True)[1], one))
    ended = host.doctor()
    assert ended.code == 4
    assert ended.err == "0 problems, 1 warning\n"
    warned = [line.split("\t") for line in ended.out.splitlines() if line.startswith("warning")]
    assert [line[1] for line in warned] == ["one-server-only"]
    assert len(warned[0]) == 5
    (host.directory / "routes.yaml").unlink()
    ended = host.doctor()
    assert (ended.code, ended.err) == (1, "2 problems, 1 warning\n")


def test_where_there_is_nothing_to_look_at_it_ends_with_2(host: ApplyHost) -> None:
    ended = host.doctor("--role", "puppetdb")
    assert (ended.code, ended.out) == (2, "")
    assert "no sync configuration (--sync names one)" in ended.err
    assert host.doctor("--role", "both").code == 2


@AS_ROOT
def test_a_key_that_the_services_user_may_not_read_is_found_though_root_may(host: ApplyHost) -> None:
    assert host.doctor("--user", "root").code == 0
    ended = host.doctor("--json", "--user", "nobody")
    assert ended.code == 1
    assert set(ended.findings) == {"file-unreadable", "configuration"}
    finding = ended.findings["file-unreadable"]
    assert f"{host.directory}/key.pem may not be read by the user with id 65534" in finding["what"]
    assert "`usermod -aG puppet nobody`" in finding["do"]
    (host.directory / "key.pem").chmod(0o644)
    assert set(host.doctor("--json", "--user", "nobody").findings) == {"secret-open-to-all"}


@AS_ROOT
def test_a_user_that_is_not_there_is_found(host: ApplyHost) -> None:
    ended = host.doctor("--json", "--user", "nobody-at-all")
    assert (ended.code, set(ended.findings)) == (1, {"service-user-missing"})
    assert "useradd" in ended.findings["service-user-missing"]["do"]


SHOWN = """#!/bin/sh
case "$2" in
pdbclient-gateway.service) cat <<'END'
LoadState=loaded
ActiveState=failed
UnitFileState=enabled
User=nobody
SupplementaryGroups={groups}
ExecStart={{ path=/usr/bin/pdbclient ; argv[]=/usr/bin/pdbclient gateway --config {conf} ; ignore_errors=no }}
END
;;
*) echo LoadState=not-found ;;
esac
"""
"""What systemd 252 says of units; it is not the first process where the tests run."""


@AS_ROOT
def test_the_unit_says_where_the_configuration_is_and_whom_to_look_as(host: ApplyHost) -> None:
    """`nobody` may read the key by the unit's group, and not without it."""
    systemctl = host.directory / "systemctl"
    os.chown(host.directory / "key.pem", 0, 1)  # the group daemon
    host.conf.write_text(host.conf.read_text() + "gateway_url = https://localhost:8085\n")
    for groups, code in (("daemon", "unit-not-running"), ("", "file-unreadable")):
        systemctl.write_text(SHOWN.format(conf=host.conf, groups=groups))
        systemctl.chmod(0o755)
        ended = host.doctor("--json", path=str(host.directory), conf=False)
        assert ended.code == 1
        assert json.loads(ended.out)["roles"][0]["config"] == str(host.conf)
        assert code in ended.findings
        assert ("file-unreadable" in ended.findings) is (groups == "")


# Newer Pythons warn of a fork in a process with threads, as the one of the tests is, and the command is not.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@forks
def test_a_look_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on a dead NFS, say: the other process is killed, and nobody waits for it."""
    r, w = os.pipe()
    monkeypatch.setattr(as_user, "LATER", ())
    try:
        looking = Looking(lambda: (os.read(r, 1) and _facts()) or _facts(), UnitFacts("x"), limit=0.3)
        with pytest.raises(LookFailed, match=r"took more than 0 s: is a file system stuck\?"):
            looking.facts()
    finally:
        os.close(r)
        os.close(w)


@forks
def test_a_look_that_fails_says_why() -> None:
    def fail() -> ServiceFacts:
        raise RuntimeError("a defect")

    with pytest.raises(LookFailed, match="RuntimeError: a defect"):
        Looking(fail, UnitFacts("x")).facts()
    assert Looking(_facts, UnitFacts("x")).facts() == _facts()


def _facts() -> ServiceFacts:
    return ServiceFacts(Role.SERVER, "/p", "root")
