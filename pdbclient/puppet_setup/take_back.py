"""A set-up taken back out of a text that was changed since: its own settings only, all else there stays. Pure.

Where a setting is still as the set-up left it, its former value comes back, or its line goes. Where somebody changed
it meanwhile it stays, and that is said; but what the set-up put into a list is taken out of the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.puppet_setup import ini
from pdbclient.puppet_setup.ini import IniFile
from pdbclient.puppet_setup.routes import leaves, with_leaves

__all__ = ["TakenBack", "take_back"]

_Place = tuple[str, ...]
_Values = Mapping[_Place, str]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The text that remains; the settings that were `undone`; those of the set-up that were changed since and are
    `left`; and the others that were changed since, and are `kept`.
    """

    text: str
    undone: tuple[str, ...]
    left: tuple[str, ...]
    kept: tuple[str, ...]


def take_back(file: Path, before: str, after: str, now: str) -> TakenBack:
    """Undo in the text `now` what once made `after` of `before`. `file` is puppet.conf, puppetdb.conf or has routes.

    Raises `ConfigError` where routes are no YAML, or written so that it cannot be shown that nothing else changes.
    """
    if file.name == "puppet.conf":
        read = ini.puppet_conf
        return _of_ini(read(before), read(after), read(now), {"reports": "puppetdb"})
    if file.name == "puppetdb.conf":
        read = ini.puppetdb_conf
        gateway = read(after).find("pdbclient", "gateway_url")
        items = {} if gateway is None else {"server_urls": gateway.value}
        return _of_ini(read(before), read(after), read(now), items)
    name = str(file)
    verdict = _judged(leaves(before, name), leaves(after, name), leaves(now, name), {})
    return verdict.told(with_leaves(now, verdict.values, name))


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The values to come back (None: the setting goes), and the places of what is told beside."""

    values: Mapping[_Place, str | None]
    left: Sequence[_Place]
    kept: Sequence[_Place]

    def told(self, text: str) -> TakenBack:
        undone, left, kept = (tuple(map(".".join, places)) for places in (self.values, self.left, self.kept))
        return TakenBack(text, undone, left, kept)


def _of_ini(before: IniFile, after: IniFile, now: IniFile, items: Mapping[str, str]) -> TakenBack:
    verdict = _judged(_values(before), _values(after), _values(now), items)
    file = now
    for (section, name), value in verdict.values.items():
        file = file.without(section, name) if value is None else file.with_value(section, name, value)
    for section in dict.fromkeys(section for section, _ in verdict.values):
        if not before.has_section(section):
            file = file.without_empty(section)
    return verdict.told(file.text)


def _judged(old: _Values, ours: _Values, current: _Values, items: Mapping[str, str]) -> _Verdict:
    """What is to become of each setting. `items`: what the set-up puts into lists, by the names of these."""
    values: dict[_Place, str | None] = {}
    left, kept = [], []
    for place in dict.fromkeys([*ours, *old, *current]):
        former, set_up, found = old.get(place), ours.get(place), current.get(place)
        item = items.get(place[-1])
        if former == set_up:
            if found != set_up:
                kept.append(place)
        elif found == set_up:
            values[place] = former
        elif found is not None and item in _items(found) and item not in _items(former or ""):
            others = [each for each in _items(found) if each != item]
            values[place] = (", " if ", " in found else ",").join(others) or None
        elif found != former:
            left.append(place)
    return _Verdict(values, left, kept)


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def _values(file: IniFile) -> dict[_Place, str]:
    places = dict.fromkeys((setting.section, setting.name) for setting in file.settings())
    return {place: found.value for place in places if (found := file.find(*place)) is not None}
