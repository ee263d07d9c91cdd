"""One pass: gate, inventory, plan, pull, verify, for each entity in turn.

Local is the PuppetDB that this process runs beside: the only one that is submitted to, and directly, never
through a failover list. The remote is only read. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from pdbclient.config.model import Endpoint, Remote, SyncConfig
from pdbclient.errors import PdbError, SyncError
from pdbclient.http.session import Session
from pdbclient.sync.inventory.budget import Stopped
from pdbclient.sync.inventory.capabilities import PassServer
from pdbclient.sync.inventory.interfaces import Clock, Connect, Server
from pdbclient.sync.inventory.kinds import PER_NODE, Kind
from pdbclient.sync.policy.brakes import active_among
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult, Mode, Outcome, PassResult
from pdbclient.sync.policy.plan import Nodes, deactivated_first
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Context, Progress, enter
from pdbclient.sync.run.events import SyncLog
from pdbclient.sync.run.nodes import deactivate, list_again_here, list_both, plan_nodes, warn_of_purged
from pdbclient.sync.run.records import plan_kind, reconcile_kind
from pdbclient.sync.run.reports import plan_slices, reconcile_reports
from pdbclient.sync.state.lock import InstanceLock
from pdbclient.sync.state.store import State, state_path

__all__ = ["Reconciler", "plan", "reconcile"]

SHORT_PASS = 60.0
"""Seconds."""


class _PassFailed(SyncError):
    """Some entities of a pass could not be done; the others were."""


class Reconciler:
    """Pulls from the remotes of one configuration into its local PuppetDB.

    Use it as a context manager: inside, it holds the lock of its state directory and the state file. For one
    thread; passes do not overlap. `mode` is how passes are made (default: `Mode.configured`). Raises
    `SyncError` when another process holds the lock, or the state is unusable.
    """

    def __init__(
        self,
        config: SyncConfig,
        mode: Mode | None = None,
        *,
        connect: Connect | None = None,
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._config = config
        self._mode = mode or Mode.configured(config)
        self._connect = connect or _sessions(config)
        self._clock = clock or Clock()
        self._progress = progress or _silent
        self._held = ExitStack()
        self._state: State | None = None

    def __enter__(self) -> Reconciler:
        path = state_path(self._config.state_dir, self._config.local)
        _make_directory(path.parent)
        with ExitStack() as held:
            held.enter_context(InstanceLock(path.with_suffix(".lock")))
            self._state = held.enter_context(closing(State(path)))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = None
        self._held.close()

    def run_once(self, remote: Endpoint) -> PassResult:
        """One pass against `remote`. What goes wrong is logged and told in the result, not raised."""
        if self._state is None:
            raise RuntimeError("run_once outside of the Reconciler's with block")
        began = self._clock.monotonic()
        log = SyncLog(remote.url, monotonic=self._clock.monotonic)
        results: dict[Entity, EntityResult] = {}
        errors: list[str] = []
        outcome = Outcome.DONE
        there, here = PassServer(self._connect(remote)), PassServer(self._connect(self._config.local))
        with closing(there), closing(here):
            try:
                with log.sync():
                    context = enter(
                        self._config, self._mode, there, here, self._state, self._clock, log, self._progress
                    )
                    _Pass(context, results, errors).run()
            except PdbError as error:
                outcome = _outcome(error)
                if outcome is not Outcome.DONE:
                    errors.append(str(error))
        elapsed = round((self._clock.monotonic() - began) * 1000)
        failed_requests = there.failed_requests + here.failed_requests
        result = PassResult(remote.url, outcome, results, errors, elapsed, failed_requests)
        if outcome is not Outcome.STOPPED:
            self._state.remember_pass(result, self._clock.wall())
        return result


class _Pass:
    """The entities in their order; one that fails does not keep the next one from its turn."""

    def __init__(self, context: Context, results: dict[Entity, EntityResult], errors: list[str]) -> None:
        self._context = context
        self._results = results
        self._errors = errors
        self._deactivated: frozenset[str] = frozenset()

    def run(self) -> None:
        context, selected = self._context, self._context.mode.selection.entities
        began = context.clock.monotonic()
        try:
            nodes = listed = list_both(context, context.budget())
        except PdbError as error:
            # Whose records may be carried depends on it: without it there is no pass.
            self._result(Entity.NODES).error = str(error)
            raise
        warn_of_purged(context, nodes)
        if nodes.unsure is not None:
            self._failed(Entity.NODES, nodes.unsure)
        if Entity.NODES in selected:
            self._entity(Entity.NODES, lambda result: self._deactivate(listed, result))
            if context.mode.one_way and self._results[Entity.NODES].transferred:
                nodes = list_again_here(context, listed)
        for kind in PER_NODE:
            if kind.entity in selected:
                self._entity(kind.entity, partial(self._records, kind, nodes))
        if Entity.REPORTS in selected:
            self._entity(Entity.REPORTS, lambda result: reconcile_reports(context, nodes, result, context.budget()))
        if Entity.NODES in selected and not self._results[Entity.NODES].error and self._may_be_outdated(began):
            self._deactivate_again()
        context.remember_seen(Entity.NODES, len(nodes.there))
        if self._errors:
            raise _PassFailed("; ".join(self._errors))

    def _deactivate(self, nodes: Nodes, result: EntityResult) -> None:
        budget = self._context.budget()
        plan = plan_nodes(self._context, nodes, budget)
        self._deactivated = active_among(plan.pull, nodes.here)
        deactivate(self._context, plan, result, budget)

    def _records(self, kind: Kind, nodes: Nodes, result: EntityResult) -> None:
        reconcile_kind(self._context, kind, nodes, result, self._context.budget())

    def _may_be_outdated(self, began: float) -> bool:
        """Whether the nodes are worth a second look at the end of a pass.

        Data of a node that was deactivated at the remote meanwhile may have come here and made it active. A
        pass that submitted nothing has done no such harm: then the next pass is early enough, unless this one
        took long.
        """
        submitted = any(result.transferred or result.failed for result in self._results.values())
        return submitted or self._context.clock.monotonic() - began >= SHORT_PASS

    def _deactivate_again(self) -> None:
        """What was deactivated at the remote during the pass, while its data was on its way here."""
        budget = self._context.budget()
        try:
            late = plan_nodes(self._context, list_both(self._context, budget), budget, self._deactivated)
        except PdbError as error:
            self._failed(Entity.NODES, error)
            return
        if late.pull:
            self._entity(Entity.NODES, lambda result: deactivate(self._context, late, result, budget))

    def _entity(self, entity: Entity, work: Callable[[EntityResult], None]) -> None:
        began = self._context.clock.monotonic()
        try:
            with self._context.log.entity(entity) as result:
                try:
                    work(result)
                finally:
                    result.elapsed_ms = round((self._context.clock.monotonic() - began) * 1000)
                    self._result(entity).add(result)
        except PdbError as error:
            self._failed(entity, error)

    def _failed(self, entity: Entity, error: PdbError) -> None:
        """Note what kept an entity from being done; what keeps all the others from it, too, is raised."""
        result = self._result(entity)
        result.error = result.error or str(error)
        if ends_all(error):
            raise error
        self._errors.append(f"{entity}: {error}")

    def _result(self, entity: Entity) -> EntityResult:
        return self._results.setdefault(entity, EntityResult())


def reconcile(
    config: SyncConfig,
    remotes: Iterable[Remote] | None = None,
    *,
    mode: Mode | None = None,
    connect: Connect | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> list[PassResult]:
    """One pass against each of `remotes` (default: all configured), in order; `mode` as in `Reconciler`.

    Raises `SyncError` when another process reconciles with this configuration, or its state file is unusable;
    everything else is told in the results.
    """
    with Reconciler(config, mode, connect=connect, clock=clock, progress=progress) as reconciler:
        return [reconciler.run_once(remote.endpoint) for remote in remotes or config.remotes]


def plan(
    config: SyncConfig,
    remote: Endpoint,
    *,
    mode: Mode | None = None,
    connect: Connect | None = None,
    clock: Clock | None = None,
) -> list[EntityPlan]:
    """What a pass against `remote` would do, entity by entity; `mode` as in `Reconciler`. Changes nothing,
    needs no lock, logs no events. What would keep an entity from being done is that one's `error`.

    Raises `SyncError` for what would refuse the pass, and the errors of an unreachable server.
    """
    connect = connect or _sessions(config)
    clock = clock or Clock()
    path = state_path(config.state_dir, config.local)
    with (
        closing(State(path, read_only=True)) as state,
        closing(PassServer(connect(remote))) as there,
        closing(PassServer(connect(config.local))) as here,
    ):
        mode = mode or Mode.configured(config)
        context = enter(config, mode, there, here, state, clock, SyncLog(remote.url), _silent)
        selected = mode.selection.entities
        nodes = list_both(context, context.budget())
        plans = []
        if Entity.NODES in selected:
            planned = _planned(Entity.NODES, lambda: [plan_nodes(context, nodes, context.budget())])
            plans.append(replace(planned, error=planned.error or (str(nodes.unsure) if nodes.unsure else None)))
            nodes = deactivated_first(nodes, planned)

        def of(kind: Kind) -> EntityPlan:
            return _planned(kind.entity, lambda: [plan_kind(context, kind, nodes, context.budget())])

        plans += [of(kind) for kind in PER_NODE if kind.entity in selected]
        if Entity.REPORTS in selected:
            slices = plan_slices(context, nodes, context.budget())
            plans.append(_planned(Entity.REPORTS, lambda: (part.plan for part in slices)))
        return plans


def _planned(entity: Entity, plan: Callable[[], Iterable[EntityPlan]]) -> EntityPlan:
    """The parts of one entity's plan as one, as far as they can be made. Raises what keeps all entities."""
    whole = EntityPlan(entity, {}, [], {})
    try:
        for part in plan():
            whole = EntityPlan(
                entity,
                {**whole.pull, **part.pull},
                [*whole.skipped, *part.skipped],
                {**whole.certnames, **part.certnames},
            )
    except PdbError as error:
        if ends_all(error):
            raise
        return replace(whole, error=str(error))
    return whole


def _outcome(error: PdbError) -> Outcome:
    match error:
        case _PassFailed():
            return Outcome.DONE
        case Stopped():
            return Outcome.STOPPED
        case SyncError():
            return Outcome.REFUSED
        case _:
            return Outcome.UNREACHABLE


def _sessions(config: SyncConfig) -> Connect:
    def connect(endpoint: Endpoint) -> Server:
        return Session(endpoint, config.tls, config.timeouts)

    return connect


def _silent(entity: Entity, done: int, total: int) -> None:
    """Tell nobody."""


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SyncError(f"{path}: cannot be made: {error.strerror}; set state_dir to a directory of ours") from error
