"""What the host is to run: the units of systemd, their users, and where their configurations are."""

from __future__ import annotations

import grp
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from pdbclient.config.puppet_conf import confdir_candidates
from pdbclient.config.reading import is_there
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
_SHOWN = ("LoadState", "ActiveState", "UnitFileState", "User", "SupplementaryGroups", "ExecStart")
_CONFIG = re.compile(r"argv\[\]=[^;]*?--config[= ](\S+)")


def unit_facts(role: Role) -> UnitFacts:
    """The unit of a role, as systemd has it with all drop-ins; its name and the usual user alone without systemd."""
    name = UNITS[role]
    shown = _systemctl(f"{name}.service")
    if shown.get("LoadState") != "loaded":
        groups = tuple(group for group in GROUPS[role] if _group_exists(group))
        return UnitFacts(name, USERS[role] if account_exists(USERS[role]) else None, groups)
    config = _CONFIG.search(shown.get("ExecStart", ""))
    return UnitFacts(
        name,
        shown.get("User") or "root",
        tuple(shown.get("SupplementaryGroups", "").split()),
        shown.get("ActiveState"),
        shown.get("UnitFileState"),
        None if config is None else config[1],
    )


def default_config(role: Role, unit: UnitFacts) -> Path | None:
    """The configuration of a role on this host: the one that its unit names, else where it usually is; None: none."""
    if unit.config is not None:
        return Path(unit.config)
    if role is Role.SERVER:
        usual = [directory / "puppetdb.conf" for directory in confdir_candidates()]
    else:
        usual = list(SYNC_CONFIGS)
    return next((path for path in usual if is_there(path)), None)


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
