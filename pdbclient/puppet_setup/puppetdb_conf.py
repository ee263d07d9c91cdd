"""puppetdb.conf: the gateway first in `server_urls`, the PuppetDBs after it. Pure.

Stock Puppet reads [main] alone; `gateway_url` in [pdbclient] tells the gateway which of the URLs is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pdbclient.config.ini import parse_ini
from pdbclient.config.model import Endpoint
from pdbclient.config.reading import looks_like_hocon
from pdbclient.config.settings import OWN, STOCK
from pdbclient.errors import Problem
from pdbclient.puppet_setup import ini
from pdbclient.puppet_setup.change import Edited, SettingChange

__all__ = ["WantedSetting", "edit_puppetdb_conf", "gateway_of", "hints", "problems_for_stock", "servers_of"]


@dataclass(frozen=True, slots=True)
class WantedSetting:
    """A further setting of puppetdb.conf; `value` None: it is to be taken out."""

    section: str
    name: str
    value: str | None


def problems_for_stock(text: str, file: str) -> list[Problem]:
    """What pdbclient accepts and the stock terminus does not: with it, Puppet would not work."""
    if text.startswith("\ufeff"):
        return [Problem(file, 1, None, "begins with a byte order mark, which the stock terminus cannot read")]
    if looks_like_hocon(text):
        why = "is HOCON, which the stock terminus cannot read: write [main] and below it server_urls = URL,URL"
        return [Problem(file, None, None, why)]
    document = parse_ini(text, file)
    return [warning for warning in document.warnings if "the stock terminus" in warning.why]


def gateway_of(text: str) -> Endpoint | None:
    """The gateway that the file names; the file has been checked."""
    found = ini.puppetdb_conf(text).find("pdbclient", "gateway_url")
    return None if found is None else OWN["gateway_url"].read(found.value)


def servers_of(text: str) -> tuple[Endpoint, ...] | None:
    """`server_urls` of [main], the gateway included; None where it is not set. The file has been checked."""
    found = ini.puppetdb_conf(text).find("main", "server_urls")
    return None if found is None else STOCK["server_urls"].read(found.value)


def edit_puppetdb_conf(
    text: str, gateway: Endpoint | None, servers: Sequence[Endpoint], settings: Sequence[WantedSetting] = ()
) -> Edited:
    """Make `server_urls` the gateway, if there is to be one, then `servers`; an old gateway goes out.

    `settings` are set, or taken out, besides.
    """
    file = ini.puppetdb_conf(text)
    former = gateway_of(text)
    others = [server for server in servers if server not in (gateway, former)]
    wanted = others if gateway is None else [gateway, *others]
    changes = []
    if servers_of(text) != tuple(wanted):
        found = file.find("main", "server_urls")
        before = None if found is None else found.value
        after = (", " if before and ", " in before else ",").join(server.url for server in wanted)
        changes.append(SettingChange("main", "server_urls", before, after))
        file = file.with_value("main", "server_urls", after)
    if gateway != former:
        before, after_url = (None if url is None else url.url for url in (former, gateway))
        changes.append(SettingChange("pdbclient", "gateway_url", before, after_url))
        file = _with_setting(file, WantedSetting("pdbclient", "gateway_url", after_url))
    for setting in settings:
        found = file.find(setting.section, setting.name)
        before = None if found is None else found.value
        if before != setting.value:
            changes.append(SettingChange(setting.section, setting.name, before, setting.value))
            file = _with_setting(file, setting)
    return Edited(file.text, tuple(changes))


def _with_setting(file: ini.IniFile, wanted: WantedSetting) -> ini.IniFile:
    if wanted.value is None:
        return file.without(wanted.section, wanted.name)
    return file.with_value(wanted.section, wanted.name, wanted.value)


def hints(text: str, file: str) -> list[Problem]:
    """What takes from a gateway what it is there for; `text` is the planned one."""
    if gateway_of(text) is None:
        return []
    found = ((name, ini.puppetdb_conf(text).find("main", name)) for name in _DEFEATS)
    return [Problem(file, at.line, name, _DEFEATS[name]) for name, at in found if at and at.value == "true"]


_DEFEATS = {
    "command_broadcast": "in [main], Puppet itself sends every command to each of server_urls and waits for all of "
    "them: put it into [pdbclient], so that the gateway does it",
    "sticky_read_failover": "in [main], Puppet stays away from the gateway once it failed: put it into [pdbclient]",
}
