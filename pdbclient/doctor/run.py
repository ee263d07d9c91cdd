"""One look at a host: which roles it has, what their services see, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pdbclient.doctor.checks import judge
from pdbclient.doctor.gather.as_user import LookFailed, Looking
from pdbclient.doctor.gather.host import account_exists, default_config, unit_facts
from pdbclient.doctor.gather.puppet import look_at_puppet
from pdbclient.doctor.gather.service import look
from pdbclient.doctor.kinds import found
from pdbclient.doctor.model import Facts, Finding, Look, Role, UnitFacts, Wish
from pdbclient.errors import ConfigError, Problem

__all__ = ["diagnose"]


@dataclass(frozen=True, slots=True)
class _Subject:
    role: Role
    config: Path
    unit: UnitFacts


def diagnose(wish: Wish) -> Sequence[Look]:
    """Look at this host, all its roles at once. It changes nothing, and takes about a minute at most.

    Raises `ConfigError` where there is no configuration to look at. To be called before this process has threads:
    it forks.
    """
    begun = [_Begun(subject) for subject in _subjects(wish)]
    return [each.look() for each in begun]


class _Begun:
    """The look at one role. It has begun when this is made, so that those of all roles take as long as one."""

    def __init__(self, subject: _Subject) -> None:
        self._subject = subject
        self._looking: Looking | None = None
        self._failed: Finding | None = None
        role, config, unit = subject.role, subject.config, subject.unit
        if unit.user is not None and not account_exists(unit.user):
            what = f"there is no user {unit.user}"
            self._failed = found("service-user-missing", unit.name, what, user=unit.user)
            return
        try:
            self._looking = Looking(partial(look, role, config.absolute()), unit)
        except LookFailed as error:
            self._failed = found("look-failed", str(config), str(error))

    def look(self) -> Look:
        """What is to be said, when all of it is seen."""
        role, config, unit = self._subject.role, self._subject.config, self._subject.unit
        # Asked by us, who may be root: Puppet's own key is Puppet's affair.
        puppet = look_at_puppet(config) if role is Role.SERVER else None
        if self._looking is None or self._failed is not None:
            return Look(role, str(config), () if self._failed is None else (self._failed,))
        try:
            service = replace(self._looking.facts(), service_user=unit.user)
        except LookFailed as error:
            return Look(role, str(config), (found("look-failed", str(config), str(error)),))
        return Look(role, str(config), tuple(judge(Facts(service, unit, puppet))))


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
