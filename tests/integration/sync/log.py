"""What daemons of the reconciler log, in files: a pipe that nobody reads would fill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Log"]


class Log:
    """The log of one daemon, which is started with `--log-config CONFIG`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.log"
        self.config = directory / f"{name}.yaml"
        self.config.write_text(
            "formatters: {json: {(): pdbclient.observe.logs.JsonFormatter}}\n"
            f"handlers: {{file: {{class: logging.FileHandler, filename: {self._path}, formatter: json}}}}\n"
            "loggers: {sync: {level: INFO, handlers: [file]}}\n"
        )

    def finished(self, phase: str) -> list[dict[str, Any]]:
        """The events so far with which something of this phase finished."""
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if (event["phase"], event["event"]) == (phase, "finished")]
