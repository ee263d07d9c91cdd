"""Logging of the daemons: JSON lines or text, and handlers that the user configures in YAML.

The library itself only uses `logging`; nothing here is needed to use it from another program.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pdbclient.errors import ConfigError, Problem
from pdbclient.observe.terminal import visible

__all__ = ["SYNC_ATTRIBUTES", "JsonFormatter", "TextFormatter", "configure", "read_configuration"]

SYNC_ATTRIBUTES = {
    "phase": ("all", "`sync`, `entity`, `record`, `deactivate`"),
    "event": ("all", "`start`, `finished`, `error`"),
    "ok": ("finished, error", "`true`, `false`"),
    "elapsed": ("finished, error", "milliseconds since the start, a number"),
    "remote": ("sync, entity, record", "URL of the peer"),
    "entity": (
        "entity, record",
        "`nodes`, `facts`, `catalogs`, `reports`, and what the guide does not know: `fact_expiration`, "
        "`catalog_inputs`",
    ),
    "transferred": ("entity finished", "number of records; of `nodes`, deactivations"),
    "failed": ("entity finished", "number of records; of `nodes`, deactivations"),
    "query": ("record", "the query to the peer"),
    "certname": ("record, deactivate", "the node"),
    "hash": ("record, reports only", "the report's hash"),
}
"""The attributes of the log `sync`, as the PuppetDB HA guide documents them: which events have it, and its value."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `message`, `level`, `timestamp`, `logger`, the `sync` attributes,
    `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in SYNC_ATTRIBUTES:
            if name in record.__dict__:
                line[name] = record.__dict__[name]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encodable(json.dumps(line, ensure_ascii=False, default=str))


class TextFormatter(logging.Formatter):
    """A line to read: time, level, logger, message. The message of a `sync` event says what its attributes say."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _encodable(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return _timestamp(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return visible(super().formatMessage(record))


def configure(path: Path | None, *, json: bool = False, level: int = logging.INFO) -> None:
    """Set up logging for a command: from the YAML file `path`, else to standard error.

    The file holds a dictionary for `logging.config.dictConfig` (`puppet_conf_examples/logging.yaml`). Without
    one, `json` chooses the format and `level` the threshold. Raises `ConfigError` for a file that does not
    work.
    """
    if path is not None:
        _configure_from(path)
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)


def read_configuration(path: Path) -> Mapping[str, Any]:
    """The logging configuration at `path`, not yet in force. Raises `ConfigError` for what cannot be one."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _problem(path, f"cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise _problem(path, f"is not YAML: {error.problem}", line) from error
    except yaml.YAMLError as error:
        raise _problem(path, f"is not YAML: {error}") from error
    if not isinstance(config, Mapping):
        raise _problem(path, "must be a mapping as Python's logging.config.dictConfig takes it")
    return config


def _configure_from(path: Path) -> None:
    config = read_configuration(path)
    settings = {"version": 1, "disable_existing_loggers": False, **config}
    try:
        logging.config.dictConfig(settings)
    except (ValueError, TypeError, AttributeError, ImportError, OSError) as error:
        # dictConfig puts the place in its own message and the reason in the cause.
        reason = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise _problem(path, reason) from error


def _problem(path: Path, why: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(str(path), line, None, why)])


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encodable(text: str) -> str:
    """As any handler's file takes it: half a character, as a name that is no UTF-8 has, is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
