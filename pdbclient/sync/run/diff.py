"""What differs between the local server and a remote: asked of both, at the same time, and compared.

The state file is looked at for what passes know of differences: what was pulled before and did not become equal, or
was not taken, and which nodes expired and were purged here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pdbclient.config.model import Endpoint, SyncConfig
from pdbclient.errors import PdbError
from pdbclient.http.session import Session
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.capabilities import PassServer
from pdbclient.sync.inventory.interfaces import Clock, Connect, Server
from pdbclient.sync.inventory.kinds import INPUTS, PER_NODE, Kind
from pdbclient.sync.inventory.nodes import newest_records
from pdbclient.sync.inventory.records import list_records
from pdbclient.sync.inventory.reports import compare, list_hours
from pdbclient.sync.inventory.rows import CHUNK, batches, both_sides
from pdbclient.sync.policy.classify import (
    Found,
    Nodes,
    compare_alike,
    compare_nodes,
    compare_reports,
    compare_unusable,
)
from pdbclient.sync.policy.liveness import flipped, undecided_deactivations
from pdbclient.sync.policy.model import EXPLAINED, Difference, Entity, Mode, Selection, Version
from pdbclient.sync.policy.report_hours import HOUR, cut, oldest_kept
from pdbclient.sync.run.alike import same_content
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Context, known_capabilities
from pdbclient.sync.run.events import SyncLog
from pdbclient.sync.run.nodes import judged_nodes
from pdbclient.sync.run.preflight import ask_epoch, refuse_one, server_version
from pdbclient.sync.run.records import differences
from pdbclient.sync.state.store import State, state_path
from pdbclient.wire.summary import HourBucket, from_millis

__all__ = ["Diff", "EntityDiff", "Scope", "diff"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared, and how much of it is shown.

    `min_age` (s): what is younger may still be on its way. `examples`: at most so many of each kind. `full`: list
    the reports of all hours, not only of those whose number, least or greatest hash differ; and look at what no
    hash covers: the outcome of reports, the inputs of catalogs.
    """

    selection: Selection = field(default_factory=Selection)
    min_age: float = 0.0
    examples: int = 5
    full: bool = False


@dataclass(slots=True)
class EntityDiff:
    """What differs of one entity. `here` and `there` count what the servers list, whatever is selected of it.

    `examples` holds at most `limit` of each kind, in the order in which they were found. `error` is why it was not
    compared, or not to its end; None when it was.
    """

    entity: Entity
    limit: int
    here: int = 0
    there: int = 0
    counts: Counter[Difference] = field(default_factory=Counter)
    examples: list[Found] = field(default_factory=list)
    error: str | None = None

    @property
    def equal(self) -> bool:
        """Whether it was compared, and nothing differs but what cannot be made equal."""
        differs = any(number for difference, number in self.counts.items() if difference not in EXPLAINED)
        return self.error is None and not differs

    def add(self, found: Found) -> None:
        """Count one in."""
        self.counts[found.difference] += 1
        if self.counts[found.difference] <= self.limit:
            self.examples.append(found)


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
        mode, epoch = Mode(selection=scope.selection), ask_epoch(here, clock)
        context = Context(config, there, here, state, clock, SyncLog(remote.url), _silent, mode, epoch)
        return Diff(config.local.url, remote.url, list(_Comparison(context, scope).run()))


class _Comparison:
    def __init__(self, context: Context, scope: Scope) -> None:
        self._context = context
        self._scope = scope
        self._now = context.now()
        end = int((self._now - scope.min_age) * 1000) if scope.min_age else None
        self._terms = replace(context.terms(), end=end)

    def run(self) -> Iterator[EntityDiff]:
        nodes = judged_nodes(self._context, self._context.budget())
        for entity in Entity:
            if entity in self._scope.selection.entities:
                yield self._entity(entity, nodes)

    def _entity(self, entity: Entity, nodes: Nodes) -> EntityDiff:
        result = EntityDiff(entity, self._scope.examples)
        try:
            for found in self._differences(entity, nodes, result, self._context.budget()):
                result.add(found)
            if nodes.unsure is not None and entity is Entity.NODES:
                raise nodes.unsure
        except PdbError as error:
            if ends_all(error):
                raise
            result.error = str(error)
        return result

    def _differences(self, entity: Entity, nodes: Nodes, result: EntityDiff, budget: Budget) -> Iterator[Found]:
        if entity is Entity.NODES:
            return self._nodes(nodes, result, budget)
        if entity is Entity.REPORTS:
            return self._reports(nodes, result, budget)
        return self._records(next(kind for kind in PER_NODE if kind.entity is entity), nodes, result, budget)

    def _nodes(self, nodes: Nodes, result: EntityDiff, budget: Budget) -> Iterator[Found]:
        result.here, result.there = nodes.total_here, nodes.total_there
        context = self._context
        newest_here = newest_records(context.here, undecided_deactivations(nodes), budget.left())
        newest_there = newest_records(context.there, undecided_deactivations(flipped(nodes)), budget.left())
        memory = context.memory(Entity.NODES)
        return compare_nodes(nodes, self._terms, memory, newest_here=newest_here, newest_there=newest_there)

    def _records(self, kind: Kind, nodes: Nodes, result: EntityDiff, budget: Budget) -> Iterator[Found]:
        there, here = self._both(budget, lambda server, within: list_records(server, kind, within))
        result.here, result.there = here.total, there.total
        memory = self._context.memory(kind.entity)
        unequal: dict[str, Found] = {}
        for found in differences(kind.entity, here, there, nodes, self._terms, memory):
            if found.difference is Difference.UNEQUAL:
                unequal[found.key] = found
            else:
                yield found
        for batch in batches(list(unequal), self._context.config.batch_size):
            same = self._same(kind, batch, budget)
            for key in batch:
                found = unequal[key]
                yield found._replace(difference=Difference.SAME_CONTENT) if key in same else found
        if self._scope.full and kind is INPUTS:
            alike = sorted(key for key, version in here.versions.items() if there.versions.get(key) == version)
            for chunk in batches(alike, CHUNK):
                same = self._same(kind, chunk, budget)
                other = [(key, key, here.versions[key]) for key in chunk if key not in same]
                yield from compare_alike(kind.entity, other, self._terms)

    def _same(self, kind: Kind, keys: Sequence[str], budget: Budget) -> set[str]:
        return same_content(self._context.there, self._context.here, kind, keys, budget.left)

    def _reports(self, nodes: Nodes, result: EntityDiff, budget: Budget) -> Iterator[Found]:
        # What is older than the retention goes at each server's own time.
        start, end = oldest_kept(self._now, self._context.config.report_ttl), self._terms.end
        if self._terms.earliest is not None:
            start = max(start, self._terms.earliest)
        there, here = self._both(budget, lambda server, within: list_hours(server, start, end, within))
        result.here, result.there = (sum(bucket.count for bucket in side.values()) for side in (here, there))
        # From that hour on there are few, of whatever year.
        future = self._terms.latest - self._terms.latest % HOUR + HOUR
        sizes: dict[int, int] = {}
        parts: list[range | None] = []
        for hour in here.keys() | there.keys():
            ours, theirs = here.get(hour), there.get(hour)
            if not self._scope.full and _marks(ours) == _marks(theirs):
                continue
            # A zone that is no whole hours from UTC has hours that lie across two.
            for whole in {hour - hour % HOUR, hour + -hour % HOUR}:
                sizes[whole] = max(bucket.count for bucket in (ours, theirs) if bucket is not None)
        if any(hour >= future for hour in sizes):
            parts.append(None)
        parts += cut({hour: size for hour, size in sizes.items() if hour < future})
        memory = self._context.memory(Entity.REPORTS)
        for part in parts:
            first, last = (future, end) if part is None else (part.start, part.stop)
            last = last if end is None or (last is not None and last < end) else end
            sides = self._context.there, self._context.here
            full = self._scope.full
            found = compare(*sides, max(first, start), last, budget, extra=True, outcomes=full)
            yield from compare_unusable(found.unusable)
            yield from compare_reports(found.extra, found.missing, nodes, self._terms, memory)
            unlike = [(row.hash, row.certname, Version(row.millis, row.hash)) for row in found.unlike]
            yield from compare_alike(Entity.REPORTS, unlike, self._terms)

    def _both(self, budget: Budget, ask: Callable[[Server, float], T]) -> tuple[T, T]:
        within = budget.left()
        return both_sides(self._context.there, self._context.here, lambda server: ask(server, within))


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
