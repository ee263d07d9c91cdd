"""A PuppetDB in memory, as far as the journal asks one: it shows stamps, takes commands, and can forget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pdbclient.config.model import Endpoint
from pdbclient.errors import PdbError
from pdbclient.http.presence import NEWEST
from pdbclient.http.session import Document, Session
from pdbclient.wire.command import Command

__all__ = ["FakeServer"]

REPORT, DEACTIVATION = "store report", "deactivate node"


class FakeServer:
    """`newest` maps command and certname to what is there, `reports` has certname and stamp of each.

    Commands for certnames in `discards` are taken and never shown, those for `refuses` raise that error; `meets` are
    raised by the next submissions, `down` by everything, those in `cannot` by questions about that command. It makes
    nothing of commands with a timestamp among `ignores`.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("https://").partition(":")
        self.endpoint = Endpoint(host, int(port))
        self.newest: dict[tuple[str, str], str] = {}
        self.reports: set[tuple[str, str]] = set()
        self.commands: list[Command] = []
        self.queries: list[tuple[str, Any]] = []
        self.depths: list[int] = []
        self.discards: set[str] = set()
        self.ignores: set[str] = set()
        self.refuses: dict[str, PdbError] = {}
        self.meets: list[PdbError] = []
        self.down: PdbError | None = None
        self.cannot: dict[str, PdbError] = {}

    @property
    def session(self) -> Session:
        return cast(Session, self)

    def forget(self) -> None:
        self.newest.clear()
        self.reports.clear()

    def document(self, path: str, *, within: float | None = None) -> Document:
        if self.down is not None:
            raise self.down
        assert path == "/status/v1/services/puppetdb-status"
        depth = self.depths.pop(0) if self.depths else 0
        return Document({"state": "running", "status": {"queue_depth": depth}}, {})

    def submit(self, command: Command, *, within: float | None = None) -> str:
        if self.down is not None:
            raise self.down
        if self.meets:
            raise self.meets.pop(0)
        if command.certname in self.refuses:
            raise self.refuses[command.certname]
        self.commands.append(command)
        if command.certname not in self.discards and command.producer_timestamp not in self.ignores:
            self.apply(command)
        return f"uuid-{len(self.commands)}"

    def apply(self, command: Command) -> None:
        key, stamp = (command.name, command.certname), command.producer_timestamp
        dead = (DEACTIVATION, command.certname)
        if command.name == DEACTIVATION and self.newest_record(command.certname) > stamp:
            return
        if command.name != DEACTIVATION and self.newest.get(dead, stamp) < stamp:
            del self.newest[dead]
        if command.name == REPORT:
            self.reports.add((command.certname, stamp))
        elif stamp >= self.newest.get(key, "") and b'"inputs": []' not in command.body:
            self.newest[key] = stamp

    def newest_record(self, certname: str) -> str:
        """Of what makes a node active."""
        stamps = [stamp for (name, node), stamp in self.newest.items() if node == certname and name != DEACTIVATION]
        return max([*stamps, *(stamp for node, stamp in self.reports if node == certname)], default="")

    def records(
        self, path: str, *, query: Any, params: Mapping[str, Any] | None = None, within: float | None = None
    ) -> Iterator[Any]:
        if self.down is not None:
            raise self.down
        self.queries.append((path, query))
        # The expiration of facts is asked for without an extract, which not every version answers.
        columns, condition, grouped = (query[1], query[2], query[3:]) if query[0] == "extract" else ((), query, ())
        _, (_, _, (_, certnames)), *conditions = condition
        assert ["=", "node_state", "any"] in conditions
        if path == "/reports":
            if REPORT in self.cannot:
                raise self.cannot[REPORT]
            assert ["=", "type", "any"] in conditions
            found = [row for row in sorted(self.reports) if row[0] in certnames and _within(row[1], conditions)]
            if grouped:
                function = "min" if ["function", "min", "producer_timestamp"] in columns else "max"
                last = dict(found if function == "max" else reversed(found))
                yield from ({"certname": certname, function: stamp} for certname, stamp in last.items())
            else:
                yield from ({"certname": certname, "producer_timestamp": stamp} for certname, stamp in found)
            return
        field = columns[1] if columns else next(column for op, column, *_ in conditions if op == "null?")
        (name,) = [name for name, place in NEWEST.items() if (place.path, place.field) == (path, field)]
        assert params == NEWEST[name].params
        if name in self.cannot:
            raise self.cannot[name]
        for (kind, certname), stamp in self.newest.items():
            if kind == name and certname in certnames:
                yield {"certname": certname, field: stamp}


def _within(stamp: str, conditions: list[Any]) -> bool:
    tests = {">": stamp.__gt__, ">=": stamp.__ge__, "<": stamp.__lt__}
    return all(tests[op](value) for op, column, value in conditions if column == "producer_timestamp")
