"""The systemd unit of the gateway: systemd finds nothing wrong with it, and its command line does what it says."""

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

UNIT = EXAMPLES / "pdbclient-gateway.service"
EXPOSURE_LIMIT = 2.0  # of 10; a service without any protection has 9.6


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the program of this environment."""
    copy = tmp_path / UNIT.name
    program = Path(sys.executable).with_name("pdbclient")
    text, times = re.subn(r"^(ExecStart=)/usr/bin/pdbclient ", rf"\g<1>{program} ", UNIT.read_text(), flags=re.M)
    assert times == 1
    copy.write_text(text)
    return copy


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    run = analyze("verify", "--man=no", unit)
    assert (run.returncode, run.stdout) == (0, "")


def test_systemd_finds_the_gateway_well_protected(unit: Path) -> None:
    run = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT * 10:.0f}", "--no-pager", unit)
    assert run.returncode == 0, run.stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", run.stdout)
    assert found, run.stdout
    assert float(found[1]) <= EXPOSURE_LIMIT


def test_the_command_lines_of_the_unit_start_reload_and_end_the_gateway(lab: Lab, tmp_path: Path) -> None:
    """With the notices that Type=notify waits for."""
    host = Installation(tmp_path / "host", "puppet.mycorp.net")
    host.make(lab)
    host.configure("server-gateway", lab, free_port(), LIMITS)
    # The paths as an administrator has them; only where they begin differs.
    command = setting("ExecStart").replace("/etc/puppetlabs/puppet", str(host.confdir)).split()
    assert command[:2] == ["/usr/bin/pdbclient", "gateway"]
    assert setting("Type") == "notify"
    assert setting("ExecReload") == "/bin/kill -HUP $MAINPID"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(20)
        gateway = Gateway(
            host.puppetdb_conf, tmp_path / "log", [Path(sys.executable).with_name("pdbclient"), *command[1:]]
        )
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


def setting(name: str) -> str:
    """The one value of a setting in the unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)
    return str(value)


def notice(notices: socket.socket) -> list[str]:
    return notices.recv(4096).decode().splitlines()
