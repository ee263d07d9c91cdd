"""`pdbclient config check`: the effective configuration with the origin of each value, or every problem."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pdbclient.cli import output
from pdbclient.cli.commands import HELP
from pdbclient.cli.config_here import logging_problems, port_warnings, unwritable
from pdbclient.config import (
    ClientConfig,
    Endpoint,
    Remote,
    SyncConfig,
    load_config,
    load_sync_config,
    without_password,
)
from pdbclient.config.model import problem_of
from pdbclient.errors import ConfigError, Problem

__all__ = ["register"]

_DESCRIPTION = """\
Read puppetdb.conf (and a sync configuration), check everything that can be checked without a network,
load certificates, keys and revocation lists as their first use does, look whether the journal and the
state can be where they are to be, and print what is in force and where each value comes from: file:line,
or default. Run it as the service's user: what that one may not read or write is a problem.
With problems, print all of them, one a line, as file:line: setting: why, and exit 2. What is accepted
but probably not meant, or will not do for long, is printed as a warning. `pdbclient doctor` goes on
from there: it asks the servers, and looks at the files as the services' users see them. Files of keys
are named, never printed; a password in journal is shown as ***.
"""

# Attributes of the configurations whose setting has another name.
_NAMES = {
    "timeouts.attempt": "server_url_timeout",
    "timeouts.connect": "connect_timeout",
    "timeouts.read": "read_timeout",
    "timeouts.operation": "operation_timeout",
    "timeouts.query": "query_timeout",
    "tls.ca": "ssl_ca_cert",
    "tls.cert": "ssl_cert",
    "tls.key": "ssl_key",
    "tls.crl": "ssl_crl",
    "tls.revocation": "certificate_revocation",
    "local": "local_url",
}

_Config = ClientConfig | SyncConfig
_Row = tuple[str, Any, str]


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `config` and its subcommand `check`."""
    group = groups.add_parser(
        "config",
        help=HELP["config"],
        description="Check puppetdb.conf and sync configurations, and show what is in force.",
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="print the effective configuration and the origin of each value, or all problems",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument(
        "--config", type=Path, metavar="PATH", help="puppetdb.conf (default: where Puppet looks for it)"
    )
    check.add_argument("--sync", type=Path, metavar="PATH", help="a sync configuration, checked as well or alone")
    check.add_argument(
        "--syntax-only",
        action="store_true",
        help="do not look at the files named in it: for a configuration meant for another machine",
    )
    output.add_json_option(check)
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    configs: dict[str, _Config] = {}
    problems: list[Problem] = []
    for name, load in _wanted(args):
        try:
            config = load()
            configs[name] = config if args.syntax_only else _checked_here(config)
        except ConfigError as error:
            problems += (each for each in error.problems if each not in problems)
    if not args.syntax_only:
        problems += _shared_port(configs)
    if problems:
        _print_problems(problems, as_json=args.json)
        return 2
    if args.json:
        output.print_json({"ok": True, **{name: _as_json(config) for name, config in configs.items()}})
        return 0
    for name, config in configs.items():
        _print_config(name, config, headed=len(configs) > 1)
    return 0


def _checked_here(config: _Config) -> _Config:
    """`config` with warnings of what it will meet on this machine. Raises what is wrong with it here."""
    # Not before it is needed: what looks into certificates takes long to load.
    from pdbclient.doctor.configured import configured_faults

    faults = configured_faults(config, datetime.now(UTC))
    named = {each.setting for each in faults.errors}
    errors = [*faults.errors, *(each for each in unwritable(config) if each.setting not in named)]
    errors += logging_problems(config)
    if errors:
        raise ConfigError(errors)
    return replace(config, warnings=(*config.warnings, *faults.warnings, *port_warnings(config)))


def _shared_port(configs: Mapping[str, _Config]) -> list[Problem]:
    """Both daemons of this machine have their status port at the same address of it."""
    gateway, sync = configs.get("puppetdb.conf"), configs.get("sync")
    if not isinstance(gateway, ClientConfig) or not isinstance(sync, SyncConfig):
        return []
    if sync.status_port is None or sync.status_port != gateway.gateway_status_port:
        return []
    origin = gateway.origins["gateway_status_port"]
    why = f"{sync.status_port} is gateway_status_port, too ({origin}): give each daemon a port of its own"
    return [problem_of(sync, "status_port", why)]


def _wanted(args: argparse.Namespace) -> list[tuple[str, Callable[[], _Config]]]:
    check_files = not args.syntax_only
    wanted: list[tuple[str, Callable[[], _Config]]] = []
    # With --sync alone, a machine that has a PuppetDB and no Puppet server needs no puppetdb.conf.
    if args.config is not None or args.sync is None:
        wanted.append(("puppetdb.conf", lambda: load_config(args.config, check_files=check_files)))
    if args.sync is not None:
        wanted.append(("sync", lambda: load_sync_config(args.sync, check_files=check_files)))
    return wanted


def _print_problems(problems: Sequence[Problem], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"ok": False, "problems": _problems_json(problems)})
        return
    for problem in problems:
        output.note(str(problem))
    output.note(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}: nothing of this would be used")


def _print_config(name: str, config: _Config, *, headed: bool) -> None:
    if headed:
        output.note(f"{name}:")
    output.print_table(
        ("setting", "value", "origin"),
        [(setting, _shown(value), origin) for setting, value, origin in _rows(config)],
    )
    for warning in config.warnings:
        output.note(f"warning: {warning}")


def _rows(config: _Config) -> list[_Row]:
    """Every setting in force, as (setting, value, origin), in the order of the configuration's fields."""
    rows: list[_Row] = []
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in ("tls", "timeouts"):
            rows += [_row(f"{item.name}.{f.name}", getattr(value, f.name), config.origins) for f in fields(value)]
        elif item.name not in ("origins", "warnings"):
            rows.append(_row(item.name, value, config.origins))
    return rows


def _row(attribute: str, value: Any, origins: Mapping[str, str]) -> _Row:
    setting = _NAMES.get(attribute, attribute)
    if setting == "journal" and value is not None:
        value = without_password(value)
    return setting, value, origins.get(setting, "default")


def _shown(value: Any) -> str | None:
    if isinstance(value, tuple):
        return ", ".join(str(_shown(item)) for item in value) or None
    if isinstance(value, Remote):
        return f"{value.endpoint} every {value.interval:g}s"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}s" if value < 1e6 else f"{value:.0f}s"
    return None if value is None else str(value)


def _as_json(config: _Config) -> dict[str, Any]:
    settings = {setting: {"value": _plain(value), "origin": origin} for setting, value, origin in _rows(config)}
    return {"settings": settings, "warnings": _problems_json(config.warnings)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Remote):
        return {"server_url": str(value.endpoint), "interval": value.interval}
    return str(value) if isinstance(value, Endpoint | Path) else value


def _problems_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"file": p.file, "line": p.line, "setting": p.setting, "why": p.why} for p in problems]
