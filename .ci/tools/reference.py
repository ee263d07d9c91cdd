"""What the reference pages of docs/ show, made from the code: a hook of mkdocs.

A line `<!-- generated: NAME -->`, or `<!-- generated: NAME WHICH -->`, of a page becomes the table or text that
`GENERATED` makes for that name.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from prometheus_client.core import CounterMetricFamily

from pdbclient.cli.main import make_parser
from pdbclient.cli.output import EXIT_CODES
from pdbclient.config import settings, values
from pdbclient.config.settings import Setting
from pdbclient.doctor.kinds import KINDS
from pdbclient.gateway import header_names
from pdbclient.gateway import metrics as gateway_metrics
from pdbclient.observe.exposition import Declared
from pdbclient.observe.logs import SYNC_ATTRIBUTES
from pdbclient.sync.service import metrics as sync_metrics

__all__ = ["GENERATED", "RULES", "alerts", "duration", "expand", "leaves", "on_page_markdown"]

RULES = Path(__file__).parents[2] / "puppet_conf_examples/monitoring/pdbclient.rules.yml"
"""The alerts."""

_MARK = re.compile(r"^<!-- generated: (\S+)((?: \S+)?) -->$", re.M)
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_COLUMNS = "100"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return expand(markdown)


def expand(markdown: str) -> str:
    """The page with what is generated in place. Raises `KeyError` for a name that there is not."""
    return _MARK.sub(lambda mark: GENERATED[mark[1]](*mark[2].split()), markdown)


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


def _metrics(declared: Iterable[Declared[Any]]) -> str:
    rows = []
    for each in declared:
        name = f"{each.name}_total" if each.make is CounterMetricFamily else each.name
        kind = each.make.__name__.removesuffix("MetricFamily").lower()
        rows.append([f"`{name}`", kind, ", ".join(f"`{label}`" for label in each.labels), each.meaning])
    return _table(("metric", "type", "labels", "meaning"), rows)


def _finding(code: str) -> str:
    kind = KINDS[code]
    advice = re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), kind.do)
    return f"`pdbclient doctor` ({kind.severity}): {kind.meaning}\n\n**What to do:** {advice}"


def _findings() -> str:
    rows = ([f"[{code}]({code}.md)", str(kind.severity), kind.meaning] for code, kind in KINDS.items())
    return _table(("finding", "", "meaning"), rows)


def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules that are shipped, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _alert(name: str) -> str:
    rule = alerts()[name]
    since = f", for {rule['for']}" if "for" in rule else ""
    return f"Alert `{name}` ({rule['labels']['severity']}){since}:\n\n```text\n{rule['expr'].strip()}\n```"


def _alerts() -> str:
    rows = (
        [f"[{name}]({Path(rule['annotations']['runbook']).stem}.md)", rule["labels"]["severity"], _said(rule)]
        for name, rule in alerts().items()
    )
    return _table(("alert", "", "meaning"), rows)


def _said(rule: Mapping[str, Any]) -> str:
    """Its description, without what Prometheus would fill in."""
    return re.sub(r"\{\{.*?\}\}", "…", str(rule["annotations"]["description"])).strip()


GENERATED: Mapping[str, Callable[..., str]] = {
    "settings.main": lambda: _settings(settings.STOCK),
    "settings.pdbclient": lambda: _settings(settings.OWN),
    "settings.sync": lambda: _settings(settings.SYNC),
    "commands": _commands,
    "exit-codes": _exit_codes,
    "headers": _headers,
    "log-fields": _log_fields,
    "metrics.gateway": lambda: _metrics(gateway_metrics.METRICS),
    "metrics.sync": lambda: _metrics(sync_metrics.METRICS),
    "finding": _finding,
    "findings": _findings,
    "alert": _alert,
    "alerts": _alerts,
}
"""Name in a page -> what stands there."""
