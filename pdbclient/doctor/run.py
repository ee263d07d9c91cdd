"""One look at a host: which roles it has, what their services see, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pdbclient.doctor.checks import judge
from pdbclient.doctor.gather.as_user import LookFailed, look_as
from pdbclient.doctor.gather.host import account_exists, default_config, unit_facts
from pdbclient.doctor.gather.puppet import look_at_puppet
from pdbclient.doctor.kinds import found
from pdbclient.doctor.model import Facts, Finding, Role, UnitFacts
from pdbclient.errors import ConfigError, Problem

__all__ = ["Look", "Wish", "diagnose"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be looked at.

    `role` None: every one that this host has a configuration for. `configs`: where they are; else where the unit has
    it, or where it usually is. `user`: who the services run as; else as their units say.
    """

    role: Role | None = None
    puppetdb_conf: Path | None = None
    sync_conf: Path | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What was found about one role."""

    role: Role
    config: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Subject:
    role: Role
    config: Path
    unit: UnitFacts


def diagnose(wish: Wish) -> Sequence[Look]:
    """Look at this host, all its roles at once. It changes nothing, and takes about a minute at most.

    Raises `ConfigError` where there is no configuration to look at.
    """
    subjects = _subjects(wish)
    with ThreadPoolExecutor(len(subjects), thread_name_prefix="doctor-role") as pool:
        return list(pool.map(_look, subjects))


def _subjects(wish: Wish) -> list[_Subject]:
    given = {Role.SERVER: wish.puppetdb_conf, Role.PUPPETDB: wish.sync_conf}
    found_here = []
    for role in Role if wish.role is None else (wish.role,):
        if wish.role is None and any(given.values()) and given[role] is None:
            # Who names one of them means that one.
            continue
        unit = unit_facts(role)
        if wish.user is not None:
            unit = replace(unit, user=wish.user)
        config = given[role] or default_config(role, unit)
        if config is not None:
            found_here.append(_Subject(role, config, unit))
    if not found_here:
        raise ConfigError([_nothing(wish.role)])
    return found_here


def _nothing(role: Role | None) -> Problem:
    named = {
        Role.SERVER: "no puppetdb.conf (--config names one)",
        Role.PUPPETDB: "no sync configuration (--sync names one)",
    }
    why = " and ".join(text for each, text in named.items() if role in (None, each))
    return Problem("this host", None, None, f"there is {why}: nothing of pdbclient is set up here")


def _look(subject: _Subject) -> Look:
    role, config, unit = subject.role, subject.config, subject.unit
    if unit.user is not None and not account_exists(unit.user):
        missing = found("service-user-missing", unit.name, f"there is no user {unit.user}", user=unit.user)
        return Look(role, str(config), (missing,))
    try:
        with ThreadPoolExecutor(1) as pool:
            # Asked by us, who may be root: Puppet's own key is Puppet's affair.
            puppet = pool.submit(look_at_puppet, config) if role is Role.SERVER else None
            service = look_as(role, config, unit)
            seen = None if puppet is None else puppet.result()
    except LookFailed as error:
        return Look(role, str(config), (found("look-failed", str(config), str(error)),))
    service = replace(service, service_user=unit.user)
    return Look(role, str(config), tuple(judge(Facts(service, unit, seen))))
