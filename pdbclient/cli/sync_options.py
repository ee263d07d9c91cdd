"""What the commands of `pdbclient sync` have in common: their options, and what those choose."""

from __future__ import annotations

import argparse
import logging
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

from pdbclient.config import Endpoint, Remote, SyncConfig
from pdbclient.config.settings import PUPPETDB_PORT
from pdbclient.config.urls import parse_server_url
from pdbclient.config.values import SettingError, span
from pdbclient.errors import ConfigError, Problem
from pdbclient.observe import logs
from pdbclient.sync import Entity, Mode, Selection

__all__ = [
    "add_command",
    "add_entity_option",
    "add_mode_options",
    "add_remote_option",
    "add_selection_options",
    "age",
    "chosen_mode",
    "chosen_remotes",
    "chosen_selection",
    "configure_logging",
]


def add_command(
    commands: argparse._SubParsersAction[ArgumentParser],
    name: str,
    short: str,
    text: str,
    exit_codes: str,
    run: Callable[[argparse.Namespace], int],
) -> ArgumentParser:
    """A command of `sync`, with its `--config FILE`."""
    parser = commands.add_parser(
        name, help=short, description=text, epilog=exit_codes, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the sync configuration, HOCON or ini"
    )
    parser.set_defaults(run=run)
    return parser


def add_remote_option(parser: ArgumentParser) -> None:
    """`--remote URL` (`args.remote`: an `Endpoint`, or None)."""
    parser.add_argument("--remote", type=_url, metavar="URL", help="only this one of the configured remotes")


def add_entity_option(parser: ArgumentParser) -> None:
    """`--entity NAME …` (`args.entity`: a list, or None)."""
    parser.add_argument(
        "--entity",
        action="extend",
        nargs="+",
        type=_entity,
        metavar="NAME",
        help=f"only these: {', '.join(Entity)}",
    )


def add_selection_options(parser: ArgumentParser) -> None:
    """`--entity`, `--certname` and `--max-age`, for `chosen_selection`."""
    add_entity_option(parser)
    parser.add_argument(
        "--certname",
        action="extend",
        nargs="+",
        metavar="PATTERN",
        help="only nodes whose names match one of these shell patterns, like 'web*.example.com'",
    )
    parser.add_argument("--max-age", type=age, metavar="AGE", help="only what is younger than that, like 2d or 12h")


def add_mode_options(parser: ArgumentParser) -> None:
    """Those of `add_selection_options`, and `--one-way`, for `chosen_mode`."""
    add_selection_options(parser)
    parser.add_argument(
        "--one-way",
        action="store_true",
        default=None,
        help="the remote is right, also at equal times, and deactivated nodes come along: for a migration or a "
        "restore, never between servers that pull from each other",
    )


def age(text: str) -> float:
    """A duration with a unit, in seconds."""
    try:
        return span(text)
    except SettingError as error:
        raise ArgumentTypeError(str(error)) from error


def chosen_remotes(config: SyncConfig, args: argparse.Namespace) -> Sequence[Remote]:
    """Those of the configuration, or the one that `--remote` names. Raises `ConfigError` for another."""
    if args.remote is None:
        return config.remotes
    chosen = [remote for remote in config.remotes if remote.endpoint == args.remote]
    if not chosen:
        known = ", ".join(remote.endpoint.url for remote in config.remotes)
        why = f"{args.remote} is not one of the remotes: {known}"
        raise ConfigError([Problem(str(args.config), None, "--remote", why)])
    return chosen


def chosen_selection(config: SyncConfig, args: argparse.Namespace) -> Selection:
    """What the options select; each that is not given, as configured."""
    configured = Mode.configured(config).selection
    return Selection(
        entities=configured.entities if args.entity is None else frozenset(args.entity),
        certnames=configured.certnames if args.certname is None else tuple(args.certname),
        max_age=configured.max_age if args.max_age is None else args.max_age,
    )


def chosen_mode(config: SyncConfig, args: argparse.Namespace, *, audit: bool = False, seed: bool = False) -> Mode:
    """How the passes are made that the options ask for; what they do not say, as configured."""
    one_way = config.one_way if args.one_way is None else args.one_way
    return Mode(chosen_selection(config, args), one_way=one_way, audit=audit, seed=seed)


def configure_logging(args: argparse.Namespace, config: SyncConfig, level: int = logging.INFO) -> None:
    """Logging as the options or the configuration say, else to standard error from `level` on (--verbose: all)."""
    level = logging.DEBUG if args.verbose else level
    logs.configure(args.log_config or config.logging_config, json=args.log_format == "json", level=level)


def _entity(text: str) -> Entity:
    try:
        return Entity(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(Entity)}") from error


def _url(text: str) -> Endpoint:
    try:
        return parse_server_url(text, default_port=PUPPETDB_PORT)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
