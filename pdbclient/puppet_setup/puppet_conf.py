"""puppet.conf: the settings that make Puppet use PuppetDB, in the section that counts. Pure.

A Puppet server looks into [server], [master] and [main], in this order; `puppet apply` into [user] and [main].
[main] holds for every program of Puppet on this machine, the agent included, so for a server it is read and
never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from pdbclient.errors import Problem
from pdbclient.puppet_setup import ini
from pdbclient.puppet_setup.change import Edited, SettingChange

__all__ = ["Target", "edit_puppet_conf", "effective", "problems_of"]

Target = Literal["server", "apply"]

_SEARCHED: dict[Target, tuple[str, ...]] = {"server": ("server", "master", "main"), "apply": ("user", "main")}
_KNOWN = ("main", "server", "master", "agent", "user")
_DEFAULT_REPORTS = "store"

_HEADER = re.compile(r"\s*\[(\w+)\]\s*")
_READABLE = re.compile(r"\s*\w+\s*=.*|\s*#.*|\s*")


def problems_of(text: str, file: str) -> list[Problem]:
    """What Puppet cannot read: with one such line it ignores the whole file, or does not start."""
    problems = []
    if text.startswith("\ufeff"):
        problems.append(Problem(file, 1, None, "begins with a byte order mark, which Puppet cannot read"))
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if header := _HEADER.fullmatch(line):
            if header[1] not in _KNOWN:
                why = f"Puppet knows no section [{header[1]}] here, only {', '.join(_KNOWN)}"
                problems.append(Problem(file, number, None, why))
        elif not _READABLE.fullmatch(line):
            why = f"Puppet cannot read the line {line.strip()[:60]!r}: write [section], name = value or # comment"
            problems.append(Problem(file, number, None, why))
    return problems


def effective(text: str, target: Target, name: str) -> str | None:
    """The value that counts for `target`, without its quotes and its {owner = ...}; None where it is not set."""
    setting = _counting(ini.puppet_conf(text), target, name)
    return None if setting is None else _value(setting.value)


def edit_puppet_conf(text: str, target: Target) -> Edited:
    """Turn storeconfigs on, with PuppetDB behind it, and add `puppetdb` to `reports`, whose others are kept."""
    file = ini.puppet_conf(text)
    changes = []
    for name, wanted in _WANTED:
        found = _counting(file, target, name)
        before = None if found is None else _value(found.value)
        after = wanted(before)
        if after == before:
            continue
        # For a server, [main] is not the place to say otherwise: it would hold for the agent too.
        here = found is not None and not (target == "server" and found.section == "main")
        section = found.section if found is not None and here else _home(file, target)
        changes.append(SettingChange(section, name, before, after))
        file = file.with_value(section, name, after)
    return Edited(file.text, tuple(changes))


def _storeconfigs(value: str | None) -> str:
    return value if value is not None and value.lower() == "true" else "true"


def _backend(value: str | None) -> str:
    return "puppetdb"


def _reports(value: str | None) -> str:
    value = _DEFAULT_REPORTS if value is None else value
    names = [name.strip() for name in value.split(",") if name.strip() not in ("", "none")]
    if "puppetdb" in names:
        return value
    return (", " if ", " in value else ",").join([*names, "puppetdb"])


_WANTED: tuple[tuple[str, Callable[[str | None], str]], ...] = (
    ("storeconfigs", _storeconfigs),
    ("storeconfigs_backend", _backend),
    ("reports", _reports),
)


def _counting(file: ini.IniFile, target: Target, name: str) -> ini.Setting | None:
    found = (file.find(section, name) for section in _SEARCHED[target])
    return next((setting for setting in found if setting is not None), None)


def _home(file: ini.IniFile, target: Target) -> str:
    """Where a setting goes that stands nowhere yet."""
    if target == "apply":
        return "main"
    return next((section for section in ("server", "master") if file.has_section(section)), "server")


def _value(text: str) -> str:
    value = re.sub(r"\s*\{[^{}]*\}\s*$", "", text)
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
