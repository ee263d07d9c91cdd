"""What the reference pages of docs/ show, made from the code: a hook of mkdocs.

A line `<!-- generated: NAME -->` of a page becomes the table or text that `GENERATED` has for that name.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from unittest import mock

from pdbclient.cli.main import make_parser
from pdbclient.cli.output import EXIT_CODES
from pdbclient.config import settings, values
from pdbclient.config.settings import Setting
from pdbclient.gateway import header_names
from pdbclient.observe.logs import SYNC_ATTRIBUTES

__all__ = ["GENERATED", "duration", "expand", "leaves", "on_page_markdown"]

_MARK = re.compile(r"^<!-- generated: (\S+) -->$", re.M)
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_COLUMNS = "100"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return expand(markdown)


def expand(markdown: str) -> str:
    """The page with what is generated in place. Raises `KeyError` for a name that there is not."""
    return _MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)


def duration(seconds: float) -> str:
    """As one writes it in a setting: `5m`, `14d`."""
    for unit, length in _UNITS:
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


def _default(setting: Setting) -> str:
    value = setting.default
    if value is None or value == ():
        return setting.unset
    if setting.read is values.stock_timeout:
        return f"{value:.0f}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return duration(value)
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{value}`" if isinstance(value, str) else str(value)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _settings(table: Mapping[str, Setting]) -> str:
    rows = ([f"`{each.name}`", _default(each), each.meaning] for each in table.values())
    return _table(("setting", "default", "meaning"), rows)


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that do something, in the order of the list of commands."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for below in group.choices.values():
            yield from leaves(below)


def _commands() -> str:
    with mock.patch.dict(os.environ, {"COLUMNS": _COLUMNS}):
        parts = [f"## {each.prog}\n\n```text\n{each.format_help().rstrip()}\n```" for each in leaves(make_parser())]
    return "\n\n".join(parts)


def _headers() -> str:
    rows = ([f"`{name}`", where, value] for name, (where, value) in header_names.MEANINGS.items())
    return _table(("header", "on", "value"), rows)


def _log_fields() -> str:
    rows = ([f"`{name}`", where, value] for name, (where, value) in SYNC_ATTRIBUTES.items())
    return _table(("field", "on", "value"), rows)


def _exit_codes() -> str:
    return f"```text\n{EXIT_CODES.rstrip()}\n```"


GENERATED: Mapping[str, Callable[[], str]] = {
    "settings.main": lambda: _settings(settings.STOCK),
    "settings.pdbclient": lambda: _settings(settings.OWN),
    "settings.sync": lambda: _settings(settings.SYNC),
    "commands": _commands,
    "exit-codes": _exit_codes,
    "headers": _headers,
    "log-fields": _log_fields,
}
"""Name in a page -> what stands there."""
