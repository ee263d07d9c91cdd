"""What a Puppet configuration directory lacks to use PuppetDB, with pdbclient's gateway or without it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.config.model import Endpoint
from pdbclient.config.puppet_conf import layout_of
from pdbclient.config.reading import read_text
from pdbclient.config.urls import parse_server_url
from pdbclient.errors import ConfigError, Problem
from pdbclient.puppet_setup.change import Change, Edited, Plan
from pdbclient.puppet_setup.check import judge
from pdbclient.puppet_setup.puppet_conf import Target, edit_puppet_conf, effective, problems_of
from pdbclient.puppet_setup.puppetdb_conf import (
    WantedSetting,
    edit_puppetdb_conf,
    gateway_of,
    hints,
    problems_for_stock,
    servers_of,
)
from pdbclient.puppet_setup.routes import edit_routes

__all__ = ["GATEWAY_PORT", "Wanted", "plan_setup"]

GATEWAY_PORT = 8085


@dataclass(frozen=True, slots=True)
class Wanted:
    """What Puppet is to be set up for.

    `gateway` false: Puppet talks to the PuppetDBs themselves. `gateway_url` None: the one that puppetdb.conf
    names, else this host's certname and port 8085. `server_urls` None: those that puppetdb.conf has.
    `settings` are further settings of puppetdb.conf.
    """

    target: Target = "server"
    gateway: bool = True
    gateway_url: Endpoint | None = None
    server_urls: tuple[Endpoint, ...] | None = None
    settings: tuple[WantedSetting, ...] = ()


def plan_setup(confdir: Path, wanted: Wanted) -> Plan:
    """Read the files of `confdir` and work out what to change in them; nothing is written there.

    Raises `ConfigError` with every problem of the files as they are, else with those of the planned ones.
    """
    puppet_path, puppetdb_path = confdir / "puppet.conf", confdir / "puppetdb.conf"
    puppet_conf = _puppet_conf(puppet_path)
    puppetdb_conf = _text(puppetdb_path)
    _refuse(problems_of(puppet_conf, str(puppet_path)))
    routes_path = _routes_path(puppet_conf, wanted.target, confdir)
    routes = _text(routes_path)
    if puppetdb_conf is not None:
        _refuse(problems_for_stock(puppetdb_conf, str(puppetdb_path)))
        _refuse(judge(puppetdb_conf, puppet_conf, confdir)[0])

    edited_routes = edit_routes(routes or "", wanted.target, str(routes_path))
    edited_puppet = edit_puppet_conf(puppet_conf, wanted.target)
    edited_puppetdb = _edited_puppetdb_conf(puppetdb_conf or "", puppet_conf, wanted, confdir)
    problems, warnings = judge(edited_puppetdb.text, edited_puppet.text, confdir)
    _refuse(problems)
    changes = (
        _change(puppet_path, puppet_conf, edited_puppet),
        _change(routes_path, routes, edited_routes),
        _change(puppetdb_path, puppetdb_conf, edited_puppetdb),
    )
    return Plan(
        confdir=confdir,
        changes=[change for change in changes if change.before != change.after],
        warnings=[*warnings, *hints(edited_puppetdb.text, str(puppetdb_path))],
    )


def _edited_puppetdb_conf(text: str, puppet_conf: str, wanted: Wanted, confdir: Path) -> Edited:
    file = str(confdir / "puppetdb.conf")
    servers = servers_of(text) if wanted.server_urls is None else wanted.server_urls
    if servers is None:
        why = "is not set yet: name the PuppetDBs in order with --server-urls https://HOST:8081,https://HOST:8081"
        raise ConfigError([Problem(file, None, "server_urls", why)])
    gateway = None
    if wanted.gateway:
        gateway = wanted.gateway_url or gateway_of(text) or _own_gateway(puppet_conf, wanted.target, confdir)
    return edit_puppetdb_conf(text, gateway, servers, wanted.settings)


def _own_gateway(puppet_conf: str, target: Target, confdir: Path) -> Endpoint:
    certname = (effective(puppet_conf, target, "certname") or layout_of(confdir).certname.value).lower()
    try:
        return parse_server_url(f"https://{certname}:{GATEWAY_PORT}")
    except ValueError as error:
        why = f"{certname!r} is not a host name to reach the gateway by: name it with --gateway-url https://HOST:PORT"
        raise ConfigError([Problem(str(confdir / "puppet.conf"), None, "certname", why)]) from error


def _routes_path(puppet_conf: str, target: Target, confdir: Path) -> Path:
    value = effective(puppet_conf, target, "route_file") or "$confdir/routes.yaml"
    path = re.sub(r"\$(?:confdir\b|\{confdir\})", lambda _: str(confdir), value)
    if "$" in path:
        why = f"{value!r}: only $confdir is resolved here: write the path itself"
        raise ConfigError([Problem(str(confdir / "puppet.conf"), None, "route_file", why)])
    return confdir / path


def _puppet_conf(path: Path) -> str:
    text = _text(path)
    if text is None:
        if path.parent.is_dir():
            why = "there is no such file: name Puppet's configuration directory with --confdir"
            raise ConfigError([Problem(str(path), None, None, why)])
        raise ConfigError([Problem(str(path.parent), None, None, "there is no such directory")])
    return text


def _text(path: Path) -> str | None:
    """The text of a file, its byte order mark included; None where there is no file."""
    try:
        text, byte_order_mark = read_text(path)
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return f"\ufeff{text}" if byte_order_mark else text


def _change(file: Path, before: str | None, edited: Edited) -> Change:
    return Change(file, before, edited.text, edited.settings)


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError(problems)
