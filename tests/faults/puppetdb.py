"""What a fake PuppetDB says that keeps what it takes: the newest of each node, and every report once.

As the real one it answers a command before it has looked at it, and shows it a little later.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from pdbclient.wire import Command

from .fake import Answer, Request, answer, healthy, queued
from .journal_place import as_sent

__all__ = ["Arrival", "PuppetDb"]

_RECORDS = {"/catalogs": "replace catalog", "/factsets": "replace facts", "/catalog-inputs": "replace catalog inputs"}
REPORT = "store report"


@dataclass(frozen=True)
class Arrival:
    """A command that came, and when (monotonic seconds)."""

    command: Command
    at: float


class PuppetDb:
    """The `reply` and `otherwise` of a fake. What it takes shows after `delay` seconds.

    `arrivals` has all commands that came, each time that they came. Thread-safe.
    """

    def __init__(self, delay: float = 0.05) -> None:
        self.arrivals: list[Arrival] = []
        self.delay = delay
        self._lock = threading.Lock()
        self._queue: list[Arrival] = []
        self._newest: dict[tuple[str, str], str] = {}
        self._reports: dict[tuple[str, str], bytes] = {}

    def __call__(self, request: Request) -> Answer:
        if request.is_command:
            with self._lock:
                self.arrivals.append(Arrival(as_sent(request), time.monotonic()))
                self._queue.append(self.arrivals[-1])
            return queued()
        path = request.target.partition("?")[0].removeprefix("/pdb/query/v4")
        with self._lock:
            self._work()
            if request.is_query:
                return answer(self._rows(path, _query(request)))
            if path == "/status/v1/services/puppetdb-status":
                return answer({"state": "running", "status": {"queue_depth": len(self._queue)}})
        return healthy(request)

    def shows(self, command: Command) -> bool:
        """Whether it has the command, or something newer in its place."""
        with self._lock:
            self._work()
            if command.name == REPORT:
                return self._reports.get((command.certname, command.producer_timestamp)) == command.body
            return self._newest.get((command.name, command.certname), "") >= command.producer_timestamp

    def forget(self) -> None:
        """Its database was emptied, and its queue is gone."""
        with self._lock:
            for each in (self._queue, self._newest, self._reports):
                each.clear()

    def _work(self) -> None:
        until = time.monotonic() - self.delay
        done = [each.command for each in self._queue if each.at <= until]
        self._queue = [each for each in self._queue if each.at > until]
        for command in done:
            if command.name == REPORT:
                self._reports[command.certname, command.producer_timestamp] = command.body
            else:
                key = (command.name, command.certname)
                self._newest[key] = max(command.producer_timestamp, self._newest.get(key, ""))

    def _rows(self, path: str, query: Any) -> list[Mapping[str, str]]:
        if path == "/resources":
            # Each catalog exports one resource, which says of when it is.
            found = [
                (certname, stamp) for (name, certname), stamp in self._newest.items() if name == "replace catalog"
            ]
            return [{"certname": certname, "title": stamp} for certname, stamp in found]
        if path == "/reports":
            conditions = query[2][1:]
            wanted = set(conditions[0][2][1])
            start, end = (each[2] for each in conditions if each[1] == "producer_timestamp")
            found = [(certname, stamp) for certname, stamp in self._reports if certname in wanted]
            return [
                {"certname": certname, "producer_timestamp": stamp}
                for certname, stamp in found
                if start <= stamp < end
            ]
        if path in _RECORDS:
            wanted = set(query[2][1][2][1])
            return [
                {"certname": certname, "producer_timestamp": stamp}
                for (name, certname), stamp in self._newest.items()
                if name == _RECORDS[path] and certname in wanted
            ]
        return []


def _query(request: Request) -> Any:
    if request.body:
        return json.loads(request.body).get("query")
    given = parse_qs(request.target.partition("?")[2]).get("query")
    return json.loads(given[0]) if given else None
