"""What the host is to run: the units of systemd, their users, and where their configurations are."""

from __future__ import annotations

import grp
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from pdbclient.config.puppet_conf import confdir_candidates, find_confdir
from pdbclient.config.reading import is_there
from pdbclient.doctor.gather.unit_paths import PATH_PROPERTIES, path_rules
from pdbclient.doctor.model import Role, UnitFacts

__all__ = ["UNITS", "account_exists", "default_config", "unit_facts"]

UNITS = {Role.SERVER: "pdbclient-gateway", Role.PUPPETDB: "pdbclient-sync"}
USERS = {Role.SERVER: "pdbclient", Role.PUPPETDB: "puppetdb"}
"""Those of the units that come with pdbclient, and below, the groups that these add."""
GROUPS = {Role.SERVER: ("puppet",), Role.PUPPETDB: ()}
SYNC_CONFIGS = (
    Path("/etc/pdbclient/sync.conf"),
    Path("/etc/puppetlabs/puppetdb/conf.d/sync.conf"),
    Path("/etc/puppetdb/conf.d/sync.conf"),
)
LIMIT = 5.0
_SHOWN = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "ActiveEnterTimestampMonotonic"),
    *("User", "SupplementaryGroups", "ExecStart"),
    *PATH_PROPERTIES,
)
_CONFIG = re.compile(r"argv\[\]=[^;]*?--config[= ](\S+)")


def unit_facts(role: Role) -> UnitFacts:
    """The unit of a role, as systemd has it with all drop-ins; its name and the usual user alone without systemd."""
    name = UNITS[role]
    shown = _systemctl(f"{name}.service")
    load = shown.get("LoadState")
    if load is None:
        return UnitFacts(name, *_usual_user(role))
    user, groups = _usual_user(role)
    if load == "loaded":
        user, groups = shown.get("User") or "root", tuple(shown.get("SupplementaryGroups", "").split())
    config = _CONFIG.search(shown.get("ExecStart", ""))
    restarts = shown.get("NRestarts", "")
    return UnitFacts(
        name,
        user,
        groups,
        shown.get("ActiveState", "inactive"),
        shown.get("UnitFileState"),
        None if config is None else config[1],
        load,
        shown.get("SubState"),
        int(restarts) if restarts.isdecimal() else 0,
        _running_for(shown),
        path_rules(shown),
    )


def default_config(role: Role, unit: UnitFacts) -> Path | None:
    """The configuration of a role on this host: the one that its unit names, else where it usually is.

    None: this host does not have the role. The package brings the units of both: one that is neither enabled nor was
    started, and whose configuration is not there, says nothing.
    """
    if unit.config is not None:
        usual = [Path(unit.config)]
    elif role is Role.SERVER:
        usual = [directory / "puppetdb.conf" for directory in confdir_candidates()]
    else:
        usual = list(SYNC_CONFIGS)
    there = next((path for path in usual if is_there(path)), None)
    if there is None and _is_meant(unit):
        return find_confdir() / "puppetdb.conf" if role is Role.SERVER and unit.config is None else usual[0]
    return there


def _is_meant(unit: UnitFacts) -> bool:
    """Whether somebody wants the service to run."""
    return unit.enabled == "enabled" or unit.active not in (None, "inactive")


def _running_for(shown: Mapping[str, str]) -> float | None:
    """Seconds since the unit became active, by the clock that systemd goes by."""
    since = shown.get("ActiveEnterTimestampMonotonic", "")
    return time.monotonic() - int(since) / 1e6 if since.isdecimal() and int(since) else None


def _usual_user(role: Role) -> tuple[str | None, tuple[str, ...]]:
    """Who the service runs as where no unit says so, with the groups beside that."""
    groups = tuple(group for group in GROUPS[role] if _group_exists(group))
    return USERS[role] if account_exists(USERS[role]) else None, groups


def account_exists(user: str) -> bool:
    """Whether this machine has that user."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _group_exists(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def _systemctl(unit: str) -> dict[str, str]:
    """What systemd says of a unit; nothing where there is no systemd, or it does not answer."""
    program = shutil.which("systemctl")
    if program is None:
        return {}
    command = [program, "show", unit, f"--property={','.join(_SHOWN)}"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)
