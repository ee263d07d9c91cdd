"""The same look from a process of another user: whoever asks may be root, and root may read everything."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from pdbclient.doctor.model import Role, ServiceFacts, UnitFacts
from pdbclient.errors import PdbError

__all__ = ["LIMIT", "LookFailed", "look_as"]

LIMIT = 60.0
"""Seconds for the whole look. Each question to a server has a limit of its own; a file on a dead NFS has none."""


class LookFailed(PdbError):
    """There are no facts; the message says why."""


def look_as(role: Role, config: Path | None, unit: UnitFacts, limit: float = LIMIT) -> ServiceFacts:
    """What the user of `unit` sees, with the unit's groups; as whoever runs this, unless that is root.

    Raises `LookFailed`.
    """
    command = [sys.executable, "-P", "-m", "pdbclient.doctor", role.value]
    if config is not None:
        command.append(str(config.absolute()))
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            **_identity(unit),
        )
    except OSError as error:
        raise LookFailed(f"no process can be started as {unit.user}: {error.strerror or error}") from error
    try:
        out, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        # Not waited for: what is stuck in the kernel does not even end when it is killed.
        process.kill()
        raise LookFailed(f"no answer within {limit:.0f} s: is a file system stuck?") from error
    if process.returncode != 0:
        last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise LookFailed(f"the process as {unit.user} ended with {process.returncode}: {''.join(last)}")
    try:
        return msgspec.json.decode(out, type=ServiceFacts)
    except msgspec.DecodeError as error:
        raise LookFailed(f"what it says cannot be read: {error}") from error


def _identity(unit: UnitFacts) -> dict[str, Any]:
    """Options of a process that runs as the unit's user; none where we cannot, or it is us."""
    if os.geteuid() != 0 or unit.user in (None, "root"):
        return {}
    try:
        account = pwd.getpwnam(str(unit.user))
    except KeyError as error:
        raise LookFailed(f"there is no user {unit.user} on this machine") from error
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))
    for name in unit.groups:
        try:
            groups.add(grp.getgrnam(name).gr_gid)
        except KeyError as error:
            raise LookFailed(f"there is no group {name} on this machine, which {unit.name} is to have") from error
    home = {**os.environ, "HOME": account.pw_dir, "USER": account.pw_name}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": sorted(groups), "env": home}
