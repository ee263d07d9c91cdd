"""A Debian of its own, booted with its own systemd: `systemd-nspawn` on a directory, in this machine's network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pdbclient.lab.process import tail
from tests.packages.checkout import ROOT, made

__all__ = ["NAME", "RELEASES", "BootedSystem", "fresh_host"]

RELEASES = ("bookworm", "trixie")
NAME = "puppet.mycorp.net"
# What is there before somebody installs pdbclient. Nothing of it is started: it would take ports of this machine.
# dbconfig-no-thanks: no database is set up. Of the system, what is mounted in it is left out; users are by their
# numbers, which are not those of this machine.
_PREPARE = """
set -eu
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get install -y -q --no-install-recommends systemd-sysv dbus puppetdb dbconfig-no-thanks puppetserver {packages}
rm /usr/sbin/policy-rc.d
systemctl mask puppetdb puppet
systemctl {puppetserver} puppetserver
mount --bind / /mnt
tar -C /mnt --numeric-owner --exclude=./root/pdbclient -cf dist/system.tar .
umount /mnt
.ci/tools/build-deb
"""

_BOOT_SECONDS = 120.0
_ENVIRONMENT = ("HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")


@contextmanager
def fresh_host(release: str, log: Path, *, packages: str = "", puppetserver: str = "mask") -> Iterator[BootedSystem]:
    """A booted Debian with PuppetDB's and Puppet's packages, and more `packages`; ours is in /root, with its wheel.

    The package is built of the last commit. `puppetserver` is what systemctl does with that one. What the system says
    goes to the file `log`.
    """
    with tempfile.TemporaryDirectory(prefix="pdbclient-host-", dir="/var/tmp") as name:
        directory = Path(name)
        dist, root = made(directory / "checkout") / "dist", directory / "root"
        prepare = _PREPARE.format(packages=packages, puppetserver=puppetserver)
        built = subprocess.run(
            [ROOT / "tests/on-debian", release, "--dist", dist, "--", "bash", "-c", prepare],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        assert built.returncode == 0, built.stdout[-5000:]
        root.mkdir()
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-xf", dist / "system.tar"], check=True)
        for made_file in (*dist.glob("*.deb"), *dist.glob("*.whl")):
            shutil.move(made_file, root / "root")
        with BootedSystem(root, log) as host:
            host.write("/etc/hosts", f"127.0.0.1 localhost {NAME}\n")
            yield host


class BootedSystem:
    """The system in the directory `root`, from entering it until leaving it. What it says goes to the file `log`."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root, self.log = root, log

    def __enter__(self) -> BootedSystem:
        # Its cgroups are of version 2 whatever this machine's are; it is registered nowhere.
        command = ["systemd-nspawn", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--boot"]
        with self.log.open("ab") as output:
            # setpriv: the kernel ends it when we are killed and can stop nothing any more.
            self._nspawn = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command, f"--directory={self.root}"],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str, fails: bool = False) -> str:
        """What the command prints there, as root; its exit code must be 0, or with `fails`, not."""
        done = self._run(*command)
        assert (done.returncode != 0) == fails, f"{command} ended with {done.returncode}: {done.stdout}"
        return done.stdout

    def ask(self, *command: str) -> int:
        """The exit code of the command."""
        return self._run(*command).returncode

    def path(self, there: str) -> Path:
        """A path of it, as it is called here."""
        return self.root / there.lstrip("/")

    def write(self, there: str, text: str, *, owner: str = "root:root", mode: str = "0644") -> None:
        """Write a file, and make its directory."""
        self.path(there).parent.mkdir(parents=True, exist_ok=True)
        self.path(there).write_text(text)
        self.run("chown", owner, there)
        self.run("chmod", mode, there)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={self._init()}", "--all", "env", "-i", *_ENVIRONMENT, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )

    def _init(self) -> int:
        pid = self._nspawn.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def _wait(self) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        state = ""
        while state not in ("running", "degraded"):
            assert self._nspawn.poll() is None, f"it ended while it booted; {tail(self.log, 40)}"
            assert time.monotonic() < deadline, f"it is {state!r} after {_BOOT_SECONDS:g} s; {tail(self.log, 40)}"
            time.sleep(0.2)
            if Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text():
                state = self._run("systemctl", "is-system-running").stdout.strip()

    def _end(self) -> None:
        # Its own order to power off; what has not ended then is killed.
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        shutil.rmtree(self.root)
