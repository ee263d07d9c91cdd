"""PuppetDB's own configuration on this machine, as far as the reconciler's has to agree with it.

Its directory is read as PuppetDB reads it: every `.ini` and `.conf` file, one after the other. Whoever may not read
it (it holds the database's password) learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pdbclient.config.document import Entry
from pdbclient.config.ini import PUPPETDB
from pdbclient.config.model import Endpoint, SyncConfig, problem_of
from pdbclient.config.reading import read_document
from pdbclient.config.settings import PUPPETDB_PORT
from pdbclient.config.values import SettingError, time_to_live
from pdbclient.errors import ConfigError, Problem

__all__ = ["CONF_DIRECTORIES", "PuppetDbSettings", "read_puppetdb", "ttl_differences"]

CONF_DIRECTORIES = (Path("/etc/puppetlabs/puppetdb/conf.d"), Path("/etc/puppetdb/conf.d"))
"""Of the packages by Puppet and Vox Pupuli, and of Debian's."""

PuppetDbSettings = Mapping[str, Mapping[str, Entry]]
"""Section -> setting, by its name with dashes -> what stands there."""

_TTLS = {"report-ttl": ("report_ttl", 14 * 86400.0), "node-purge-ttl": ("node_purge_ttl", 14 * 86400.0)}
"""PuppetDB's setting -> ours that is to agree with it, and PuppetDB's default (s), the same from 5.0 on."""


def read_puppetdb(local: Endpoint, directories: Iterable[Path] = CONF_DIRECTORIES) -> PuppetDbSettings | None:
    """The settings of the PuppetDB of this machine that is `local`: the first directory whose TLS port is that one's.

    None where there is none, or it may not be read.
    """
    for directory in directories:
        settings = _read(directory)
        if settings is not None and _port(settings) == local.port:
            return settings
    return None


def ttl_differences(config: SyncConfig, puppetdb: PuppetDbSettings) -> list[Problem]:
    """Where the reconciler takes another time to live for granted than its own PuppetDB has."""
    found = []
    for name, (setting, default) in _TTLS.items():
        entry = puppetdb.get("database", {}).get(name)
        try:
            theirs = default if entry is None else time_to_live(entry.value)
        except SettingError:
            # PuppetDB's own affair: it says so itself, and does not start.
            continue
        ours: float = getattr(config, setting)
        if ours == theirs:
            continue
        if entry is not None and config.origins.get(setting, "default") == "default":
            # Where something stands: the other one is a default.
            here = f"{setting} of the reconciler is {_days(ours)} (by default)"
            why = f"is {_days(theirs)}, but {here}: the two must agree"
            found.append(replace(entry, name=name).problem(why))
        else:
            where = "by default" if entry is None else f"in {entry.origin}"
            why = f"is {_days(ours)}, but {name} of PuppetDB is {_days(theirs)} ({where}): the two must agree"
            found.append(problem_of(config, setting, why))
    return found


def _read(directory: Path) -> PuppetDbSettings | None:
    settings: dict[str, dict[str, Entry]] = {}
    try:
        files: Sequence[Path] = sorted(path for path in directory.iterdir() if path.suffix in (".ini", ".conf"))
        for path in files:
            for section, entries in read_document(path, PUPPETDB).sections.items():
                named = {name.replace("_", "-"): entry for name, entry in entries.items()}
                settings.setdefault(section, {}).update(named)
    except (OSError, ConfigError):
        return None
    return settings or None


def _port(settings: PuppetDbSettings) -> int:
    entry = settings.get("jetty", {}).get("ssl-port")
    text = entry.value if entry is not None else None
    return int(text) if isinstance(text, str) and text.strip().isdecimal() else PUPPETDB_PORT


def _days(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
