"""`pdbclient doctor` as it is called: what it prints, its exit codes, and whom it looks as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
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


NOT_FOUND = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "UnitFileState": ""}
"""What systemd 252 says of units; it is not the first process where the tests run."""
STRICT = {"ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "no", "StateDirectory": "pdbclient"}
"""The units that come with pdbclient have a /tmp of their own, too; what these tests make is there."""


def shows(host: ApplyHost, **units: dict[str, str]) -> str:
    """A directory with a `systemctl` that shows these units, by the last word of their names."""
    directory = host.directory / "bin"
    directory.mkdir(exist_ok=True)
    lines = ["#!/bin/sh", 'case "$2" in']
    for name, shown in units.items():
        text = "\n".join(f"{key}={value}" for key, value in shown.items())
        lines += [f"pdbclient-{name}.service) cat <<'END'", text, "END", ";;"]
    nothing = "\n".join(f"{key}={value}" for key, value in NOT_FOUND.items())
    lines += ["*) cat <<'END'", nothing, "END", ";;", "esac", ""]
    (directory / "systemctl").write_text("\n".join(lines))
    (directory / "systemctl").chmod(0o755)
    return str(directory)


def gateway_unit(host: ApplyHost, **changes: str) -> dict[str, str]:
    """That of the gateway, which runs."""
    shown = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
    run = f"/usr/bin/pdbclient gateway --config {host.conf}"
    start = f"{{ path=/usr/bin/pdbclient ; argv[]={run} ; ignore_errors=no ; start_time=[n/a] ; status=0/0 }}"
    return {**shown, "User": "nobody", "SupplementaryGroups": "", "NRestarts": "0", "ExecStart": start, **changes}


@AS_ROOT
def test_the_unit_says_where_the_configuration_is_and_whom_to_look_as(host: ApplyHost) -> None:
    """`nobody` may read the key by the unit's group, and not without it."""
    os.chown(host.directory / "key.pem", 0, 1)  # the group daemon
    host.conf.write_text(host.conf.read_text() + "gateway_url = https://localhost:8085\n")
    for groups, code in (("daemon", "unit-not-running"), ("", "file-unreadable")):
        path = shows(host, gateway=gateway_unit(host, ActiveState="failed", SupplementaryGroups=groups))
        ended = host.doctor("--json", path=path, conf=False)
        assert ended.code == 1
        assert json.loads(ended.out)["roles"][0]["config"] == str(host.conf)
        assert code in ended.findings
        assert ("file-unreadable" in ended.findings) is (groups == "")


def with_gateway(host: ApplyHost, *lines: str) -> None:
    """puppetdb.conf of a gateway, whose key `nobody` may read."""
    (host.directory / "key.pem").chmod(0o644)
    more = "\n".join(["gateway_url = https://localhost:8085", *lines, ""])
    host.conf.write_text(host.conf.read_text() + more)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "57"}, "57 times so far"),
        ({"ActiveEnterTimestampMonotonic": "1", "NRestarts": "57"}, None),
        ({"LoadState": "masked", "ActiveState": "inactive", "UnitFileState": "masked"}, "it is masked"),
        (NOT_FOUND, "systemd has no such unit"),
        ({"LoadState": "bad-setting", "ActiveState": "inactive"}, "cannot use its unit file (bad-setting)"),
    ],
)
def test_a_unit_that_systemd_does_not_keep_running_is_found(
    host: ApplyHost, changes: dict[str, str], says: str | None
) -> None:
    with_gateway(host)
    ended = host.doctor("--json", "--user", "root", path=shows(host, gateway=gateway_unit(host, **changes)))
    if says is None:  # it has been running since long ago
        assert "unit-not-running" not in ended.findings
    else:
        assert says in ended.findings["unit-not-running"]["what"]


def test_a_unit_that_has_just_been_started_again_is_found(host: ApplyHost) -> None:
    """The moment of a loop in which systemd calls it active."""
    with_gateway(host)
    changes = {"ActiveEnterTimestampMonotonic": str(int(time.monotonic() * 1e6)), "NRestarts": "57"}
    ended = host.doctor("--json", "--user", "root", path=shows(host, gateway=gateway_unit(host, **changes)))
    assert "57 times so far" in ended.findings["unit-not-running"]["what"]


@AS_ROOT
@pytest.mark.parametrize(
    ("unit", "writable"),
    [
        (STRICT, False),
        ({**STRICT, "PrivateTmp": "yes", "ReadWritePaths": "{directory}"}, False),
        ({**STRICT, "ProtectSystem": "full"}, True),
        ({**STRICT, "ReadWritePaths": "-{directory} /srv/other"}, True),
        ({}, True),
    ],
)
def test_a_journal_that_the_unit_may_not_write_is_found(
    host: ApplyHost, unit: dict[str, str], writable: bool
) -> None:
    """The directory is the user's own, and the journal is still to be made there; a link to it changes nothing."""
    directory, link = host.directory / "journal", host.directory / "link"
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    link.symlink_to(directory)
    with_gateway(host, f"journal = {link}/journal.db")
    rules = {name: value.format(directory=directory) for name, value in unit.items()}
    ended = host.doctor("--json", path=shows(host, gateway=gateway_unit(host, **rules)))
    findings = [each for role in ended.json["roles"] for each in role["findings"]]
    codes = [each["code"] for each in findings if each["where"].startswith(str(link))]
    assert codes == (["disk", "journal"] if writable else ["directory-unwritable"])
    if not writable:
        found = ended.findings["directory-unwritable"]
        assert ("PrivateTmp=yes" if unit["PrivateTmp"] == "yes" else "ProtectSystem=strict") in found["what"]
        assert f"`ReadWritePaths={link}`" in found["do"]


@AS_ROOT
def test_a_journal_behind_a_closed_door_is_found(host: ApplyHost) -> None:
    """Its user sees nothing of it: that is not the same as a journal still to be made."""
    (host.directory / "closed/journal").mkdir(parents=True)
    (host.directory / "closed").chmod(0o700)
    with_gateway(host, f"journal = {host.directory}/closed/journal/journal.db")
    ended = host.doctor("--json", "--user", "nobody")
    assert {"directory-unwritable", "journal-unusable"} <= set(ended.findings)


def test_the_unit_of_a_role_that_a_host_does_not_have_is_no_matter(host: ApplyHost) -> None:
    """The package brings both units. One that somebody enabled is looked at, and its configuration is missed."""
    start = "{ path=/usr/bin/pdbclient ; argv[]=/usr/bin/pdbclient sync run --config /nowhere/sync.conf ; }"
    idle = {**NOT_FOUND, "LoadState": "loaded", "UnitFileState": "disabled", "User": "root", "ExecStart": start}
    units = {"gateway": gateway_unit(host, User="root"), "sync": idle}
    roles = [each["role"] for each in host.doctor("--json", path=shows(host, **units), conf=False).json["roles"]]
    assert roles == ["server"]
    units["sync"] = {**idle, "UnitFileState": "enabled"}
    ended = host.doctor("--json", path=shows(host, **units), conf=False)
    assert ended.findings["unit-not-running"]["where"] == "pdbclient-sync.service"
    assert "there is no such file" in str(ended.json)


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
