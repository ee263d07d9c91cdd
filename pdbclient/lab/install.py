"""`lab install`: the packages that a lab runs, on Debian and its relatives."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.options import LabOptions, find_programs

__all__ = ["install"]

_PACKAGES = ("puppetdb", "postgresql")
_JAVA_PACKAGE = "default-jre-headless"
_SYSTEMD = Path("/run/systemd/system")
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = (
    "#!/bin/sh\n# Written by `pdbclient lab install`: no service is started by its package here.\nexit 101\n"
)
_MANUAL = """\
Install these, and say where they are where `pdbclient lab up` does not find them:
  PuppetDB (OpenVoxDB) 7 to 9, its jar     package puppetdb (openvoxdb)            --puppetdb-jar FILE
  PostgreSQL 11 or later, server and psql  package postgresql, postgresql-server   --postgres-bin DIR
    with the extension pg_trgm             package postgresql-contrib, if separate
  Java 17 or 21 (OpenVoxDB 9: 21)          package default-jre-headless            --java FILE
On Debian 12 or 13, as root, this does it:
  apt-get install --no-install-recommends puppetdb postgresql default-jre-headless
No service needs to run: the lab starts its own servers."""


def _all_there() -> bool:
    try:
        find_programs(LabOptions())
    except LabError:
        return False
    return True


def _apt(arguments: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-20:])
        raise LabError(f"apt-get {' '.join(arguments)} failed; its last lines:\n{last}")


def _hold_services_back(progress: Callable[[str], None]) -> bool:
    """Keep the packages from starting services, where no systemd would start and stop them properly.

    Returns whether the policy file is ours, to be removed afterwards; one that is there already is respected.
    """
    if _SYSTEMD.is_dir() or _POLICY.exists():
        return False
    progress(f"no systemd runs here: {_POLICY} keeps the packages from starting services meanwhile")
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    return True


def install(progress: Callable[[str], None]) -> None:
    """Install PuppetDB, PostgreSQL and, when it is missing, Java; nothing to do when all are there.

    On a machine with systemd the packages start services of their own, as packages do; the lab does not use
    them. Raises `LabError` saying what to do by hand when this is not root, not a system with apt-get, or
    apt-get fails.
    """
    if _all_there():
        progress("PuppetDB, PostgreSQL and Java are there already")
        return
    if shutil.which("apt-get") is None:
        raise LabError(f"this system has no apt-get. {_MANUAL}")
    if os.geteuid() != 0:
        raise LabError(f"installing packages needs root. {_MANUAL}")
    packages = [*_PACKAGES] if shutil.which("java") else [*_PACKAGES, _JAVA_PACKAGE]
    ours = _hold_services_back(progress)
    try:
        progress("apt-get update")
        _apt(["update", "-q"])
        progress(f"apt-get install {' '.join(packages)}")
        _apt(["install", "-y", "-q", "--no-install-recommends", *packages])
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
    # What is missing now, nothing that apt-get said explains.
    find_programs(LabOptions())
    progress("PuppetDB, PostgreSQL and Java are installed")
