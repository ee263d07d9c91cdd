"""What differs between the local server and a remote: asked of both, at the same time, and compared.

The state file is looked at for one thing only: which records were pulled before and did not become equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pdbclient.config.model import Endpoint, SyncConfig
from pdbclient.errors import InvalidCommand, PdbError
from pdbclient.http.session import Session
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.capabilities import PassServer
from pdbclient.sync.inventory.interfaces import Clock, Connect, Server
from pdbclient.sync.inventory.kinds import PER_NODE, Kind
from pdbclient.sync.inventory.records import (
    batches,
    both_sides,
    list_hours,
    list_nodes,
    list_records,
    list_reports,
    read_rows,
)
from pdbclient.sync.inventory.reports import ROUNDING
from pdbclient.sync.policy.compare import (
    Difference,
    EntityDiff,
    Found,
    Window,
    compare_nodes,
    compare_records,
    compare_reports,
    content,
)
from pdbclient.sync.policy.model import Entity, Mode, Selection, Version
from pdbclient.sync.policy.plan import Nodes, ReportRow
from pdbclient.sync.policy.report_hours import DAY, HOUR, cut
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Context, known_capabilities
from pdbclient.sync.run.events import SyncLog
from pdbclient.sync.run.preflight import refuse_one, server_version
from pdbclient.sync.run.report_survey import FUTURE
from pdbclient.sync.state.store import State, state_path
from pdbclient.wire.summary import HourBucket, from_millis

__all__ = ["Diff", "Scope", "diff"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared, and how much of it is shown.

    `min_age` (s): what is younger may still be on its way. `examples`: at most so many of each kind. `full`: list
    the reports of all hours, not only of those whose number, least or greatest hash differ.
    """

    selection: Selection = field(default_factory=Selection)
    min_age: float = 0.0
    examples: int = 5
    full: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs, by entity."""

    local: str
    remote: str
    entities: Sequence[EntityDiff]

    @property
    def equal(self) -> bool:
        """Whether all was compared, and nothing differs but what cannot be made equal."""
        return all(part.equal for part in self.entities)

    @property
    def complete(self) -> bool:
        """Whether all was compared."""
        return all(part.error is None for part in self.entities)

    def as_json(self) -> dict[str, Any]:
        """The document that `pdbclient sync diff --json` prints."""
        return {
            "local": self.local,
            "remote": self.remote,
            "equal": self.equal,
            "entities": {str(part.entity): _document(part) for part in self.entities},
        }


def diff(
    config: SyncConfig,
    remote: Endpoint,
    scope: Scope | None = None,
    *,
    connect: Connect | None = None,
    clock: Clock | None = None,
) -> Diff:
    """Compare the local server with `remote`. Reads only, from both.

    An entity that a server cannot answer about, or not in time, has its `error`; the others are compared. Raises
    `SyncError` when the state file is unusable, a server does not tell its version, or both are one (`refuse_one`),
    and the errors of one attempt when a server cannot be asked.
    """
    scope = scope or Scope()
    connect = connect or (lambda endpoint: Session(endpoint, config.tls, config.timeouts))
    clock = clock or Clock()
    with (
        closing(State(state_path(config.state_dir, config.local), read_only=True)) as state,
        closing(PassServer(connect(remote))) as there,
        closing(PassServer(connect(config.local))) as here,
    ):
        remote_version, local_version = both_sides(there, here, server_version)
        there.learn(known_capabilities(state, there, remote_version))
        here.learn(known_capabilities(state, here, local_version))
        refuse_one(here, there)
        mode = Mode(selection=scope.selection)
        context = Context(config, there, here, state, clock, SyncLog(remote.url), _silent, mode)
        return Diff(config.local.url, remote.url, list(_Comparison(context, scope).run()))


class _Comparison:
    def __init__(self, context: Context, scope: Scope) -> None:
        now = context.now()
        age = scope.selection.max_age
        self._context = context
        self._scope = scope
        self._now = now
        self._window = Window(
            0 if age is None else int((now - age) * 1000),
            FUTURE if not scope.min_age else int((now - scope.min_age) * 1000),
        )

    def run(self) -> Iterator[EntityDiff]:
        budget = self._context.budget()
        gone = self._context.gone_before()
        nodes = Nodes(*self._both(budget, lambda server, within: list_nodes(server, gone, within)))
        for entity in Entity:
            if entity in self._scope.selection.entities:
                yield self._entity(entity, nodes)

    def _entity(self, entity: Entity, nodes: Nodes) -> EntityDiff:
        result = EntityDiff(entity, self._scope.examples)
        try:
            self._compare(entity, nodes, result)
        except PdbError as error:
            if ends_all(error):
                raise
            result.error = str(error)
        return result

    def _compare(self, entity: Entity, nodes: Nodes, result: EntityDiff) -> None:
        budget = self._context.budget()
        found: Iterator[Found] = iter(())
        if entity is Entity.NODES:
            result.here, result.there = len(nodes.here), len(nodes.there)
            found = compare_nodes(nodes)
        elif entity is Entity.REPORTS:
            found = self._reports(nodes, result, budget)
        else:
            found = self._records(next(kind for kind in PER_NODE if kind.entity is entity), nodes, result, budget)
        names = self._scope.selection.names
        for each in found:
            if each in self._window and names(each.certname):
                result.add(each)

    def _records(self, kind: Kind, nodes: Nodes, result: EntityDiff, budget: Budget) -> Iterator[Found]:
        there, here = self._both(budget, lambda server, within: list_records(server, kind, within))
        result.here, result.there = len(here), len(there)
        known = self._context.state.unequal(self._context.remote, kind.entity)
        unequal: dict[str, Found] = {}
        for found in compare_records(kind.entity, here, there, nodes, known):
            if found.difference is Difference.UNEQUAL:
                unequal[found.key] = found
            else:
                yield found
        for batch in batches(list(unequal), self._context.config.batch_size):
            same = self._same(kind, batch, budget)
            for key in batch:
                found = unequal[key]
                yield found._replace(difference=Difference.SAME_CONTENT) if key in same else found

    def _same(self, kind: Kind, keys: Sequence[str], budget: Budget) -> set[str]:
        """Those of `keys` whose contents are the same, for all that can be asked, although their hashes differ."""

        def contents(server: Server, within: float) -> dict[str, str | None]:
            rows = server.rows(kind.path, query=kind.records(keys), params=kind.params or None, within=within)
            return dict(read_rows(server, rows, lambda row: (kind.read(row).key, _content(kind, row))))

        there, here = self._both(budget, contents)
        return {key for key in keys if there.get(key) is not None and there[key] == here.get(key)}

    def _reports(self, nodes: Nodes, result: EntityDiff, budget: Budget) -> Iterator[Found]:
        # What is older than the retention goes at each server's own time.
        horizon = int((self._now - max(0.0, self._context.config.report_ttl - DAY)) * 1000)
        start, end = max(horizon, self._window.start), self._window.end
        there, here = self._both(budget, lambda server, within: list_hours(server, start, end, within))
        result.here, result.there = (sum(bucket.count for bucket in side.values()) for side in (here, there))
        sizes: dict[int, int] = {}
        for hour in here.keys() | there.keys():
            ours, theirs = here.get(hour), there.get(hour)
            if self._scope.full or _marks(ours) != _marks(theirs):
                # A zone that is no whole hours from UTC has hours that lie across two.
                for whole in {hour - hour % HOUR, hour + -hour % HOUR}:
                    sizes[whole] = max(bucket.count for bucket in (ours, theirs) if bucket is not None)
        known = self._context.state.unequal(self._context.remote, Entity.REPORTS)
        for part in cut(sizes):
            first, last = max(part.start, start), min(part.end, end)
            # A little more, where one side may show what the other has in this part.
            ask = partial(_list_reports, first - ROUNDING, last + ROUNDING)
            theirs_listed, ours_listed = self._both(budget, ask)
            for found in compare_reports(ours_listed, theirs_listed, nodes, known):
                version = found.here or found.there
                if version is not None and first <= version.millis < last:
                    yield found

    def _both(self, budget: Budget, ask: Callable[[Server, float], T]) -> tuple[T, T]:
        within = budget.left()
        return both_sides(self._context.there, self._context.here, lambda server: ask(server, within))


def _list_reports(start: int, end: int, server: Server, within: float) -> list[ReportRow]:
    return list_reports(server, start, end, within)


def _content(kind: Kind, row: bytes) -> str | None:
    """The content of a full row, None of one that is no record of its kind."""
    try:
        return content(kind.command(row).body)
    except InvalidCommand:
        return None


def _marks(bucket: HourBucket | None) -> tuple[int, str, str] | None:
    return None if bucket is None else (bucket.count, bucket.min_hash, bucket.max_hash)


def _document(part: EntityDiff) -> dict[str, Any]:
    return {
        "equal": part.equal,
        "error": part.error,
        "here": part.here,
        "there": part.there,
        "differences": {str(each): part.counts[each] for each in Difference if part.counts[each]},
        "examples": [
            {
                "difference": str(found.difference),
                "certname": found.certname,
                "here": _version(found.here),
                "there": _version(found.there),
            }
            for found in part.examples
        ],
    }


def _version(version: Version | None) -> dict[str, Any] | None:
    if version is None:
        return None
    return {"producer_timestamp": from_millis(version.millis), "hash": version.hash or None}


def _silent(entity: Entity, done: int, total: int) -> None:
    """Nobody is told: nothing is transferred."""
