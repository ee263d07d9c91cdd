"""The systemd units: systemd finds nothing wrong with them, and the gateway's command line does what it says."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port

from .puppet.gateway import Gateway
from .puppet.installation import EXAMPLES, Installation
from .puppet.outage import LIMITS

pytestmark = pytest.mark.integration

GATEWAY = EXAMPLES / "pdbclient-gateway.service"
SYNC = EXAMPLES / "pdbclient-sync.service"
EXPOSURE_LIMIT = 2.0  # of 10; a service without any protection has 9.6


@pytest.fixture(params=[GATEWAY, SYNC], ids=lambda unit: str(unit.stem))
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with the program of this environment."""
    original: Path = request.param
    copy = tmp_path / original.name
    program = Path(sys.executable).with_name("pdbclient")
    text, times = re.subn(r"^(Exec\w+=)/usr/bin/pdbclient ", rf"\g<1>{program} ", original.read_text(), flags=re.M)
    assert times >= 1
    copy.write_text(text)
    return copy


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    run = analyze("verify", "--man=no", unit)
    assert (run.returncode, run.stdout) == (0, "")


def test_systemd_finds_the_service_well_protected(unit: Path) -> None:
    run = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT * 10:.0f}", "--no-pager", unit)
    assert run.returncode == 0, run.stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", run.stdout)
    assert found, run.stdout
    assert float(found[1]) <= EXPOSURE_LIMIT


def test_the_two_services_share_no_directory_and_the_examples_keep_to_them() -> None:
    """A host may run both, as two users, and systemd gives each its directories."""
    kinds = ("StateDirectory", "LogsDirectory")
    gateway, sync = ({setting(kind, unit) for kind in kinds} for unit in (GATEWAY, SYNC))
    assert not gateway & sync
    (name,) = sync
    for example in ("sync-primary.conf", "sync-replica.conf", "sync-primary.ini", "sync-replica.ini"):
        text = (EXAMPLES / example).read_text()
        assert re.search(rf'^\s*state_dir( =|:) "?/var/lib/{name}"?$', text, re.M), example
        assert setting("ExecStart", SYNC).split()[-1] in text, "the place that the unit looks at"
    assert f"filename: /var/log/{name}/" in (EXAMPLES / "logging.yaml").read_text()


def test_the_command_lines_of_the_gateways_unit_start_reload_and_end_the_gateway(lab: Lab, tmp_path: Path) -> None:
    """With the notices that Type=notify waits for."""
    host = Installation(tmp_path / "host", "puppet.mycorp.net")
    host.make(lab)
    host.configure("server-gateway", lab, free_port(), LIMITS)
    # Which puppetdb.conf is Puppet's on this machine, it finds itself; here that is another one.
    assert setting("ExecStart").split() == ["/usr/bin/pdbclient", "gateway"]
    program = str(Path(sys.executable).with_name("pdbclient"))
    command = [program, "gateway", "--config", str(host.puppetdb_conf)]
    assert setting("Type") == "notify"
    assert setting("ExecReload") == "/bin/kill -HUP $MAINPID"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(20)
        gateway = Gateway(host.puppetdb_conf, tmp_path / "log", command)
        gateway.start({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        try:
            assert "READY=1" in notice(notices)
            # What ExecReload does.
            gateway.signal(signal.SIGHUP)
            assert "RELOADING=1" in notice(notices)
            assert "READY=1" in notice(notices)
            assert gateway.answers()
        finally:
            began = time.monotonic()
            status = gateway.stop()
        assert status == 0
        assert "STOPPING=1" in notice(notices)
    assert time.monotonic() - began < 5, "nothing was under way"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def setting(name: str, unit: Path = GATEWAY) -> str:
    """The one value of a setting in a unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.M)
    return str(value)


def notice(notices: socket.socket) -> list[str]:
    return notices.recv(4096).decode().splitlines()
