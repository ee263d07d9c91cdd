"""What a value on the command line may be, and options that commands share.

argparse turns an `ArgumentTypeError` into a line on standard error and exit code 2.
"""

from __future__ import annotations

import difflib
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from pdbclient.config.values import MAX_TIMEOUT
from pdbclient.errors import ConfigError, Problem
from pdbclient.wire import timestamp

__all__ = [
    "add_log_options",
    "entity_path",
    "not_negative",
    "positive",
    "producer_timestamp",
    "seconds",
    "standard_input",
]

ENTITIES = (
    "aggregate-event-counts",
    "catalog-input-contents",
    "catalog-inputs",
    "catalogs",
    "edges",
    "environments",
    "event-counts",
    "events",
    "fact-contents",
    "fact-names",
    "fact-paths",
    "facts",
    "factsets",
    "inventory",
    "nodes",
    "package-inventory",
    "packages",
    "producers",
    "reports",
    "resources",
)
"""The query endpoints. PuppetDB redirects any other address to its dashboard, as if something else were there."""

# What may stand in an address without being percent-encoded; `..` would leave the query endpoints.
_PATH = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[\w.%~:@!$&'()*+,;=/-]+", re.ASCII).fullmatch


def add_log_options(parser: ArgumentParser) -> None:
    """Give a daemon its `--log-config YAML` and `--log-format`."""
    parser.add_argument(
        "--log-config", type=Path, metavar="YAML", help="logging configuration (see puppet_conf_examples)"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="format on standard error without one"
    )


def positive(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0)


def seconds(text: str) -> float:
    """A number of seconds above 0 and at most a day."""
    try:
        value = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < value <= MAX_TIMEOUT:
        raise ArgumentTypeError(f"{text!r} is not a positive number of seconds, at most a day")
    return value


def producer_timestamp(text: str) -> str:
    """A timestamp that every command takes: `pdbclient.wire.timestamp.parse`."""
    try:
        timestamp.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def entity_path(text: str) -> str:
    """A query endpoint, or what is below one: `nodes`, `environments/production/resources`."""
    path = text.strip("/")
    entity = path.partition("/")[0]
    if entity not in ENTITIES:
        near = difflib.get_close_matches(entity, ENTITIES, 1)
        hint = f"did you mean {near[0]}?" if near else f"they are: {', '.join(ENTITIES)}"
        raise ArgumentTypeError(f"PuppetDB has no entity {entity!r}; {hint}")
    if not _PATH(path):
        raise ArgumentTypeError(f"{text!r} cannot stand in an address: percent-encode what is odd in it")
    return path


def standard_input() -> bytes:
    """All of standard input, where `-` stands for it. Raises `ConfigError` when there is none."""
    # Python has None where the caller has closed the descriptor.
    if sys.stdin is None:
        raise ConfigError([Problem("standard input", None, None, "is closed, and - asks for it")])
    return sys.stdin.buffer.read()


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from error
    if value < least:
        raise ArgumentTypeError(f"{value} is too small, the least is {least}")
    return value
