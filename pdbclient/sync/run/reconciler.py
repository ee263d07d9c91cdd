"""One pass: gate, inventory, plan, pull, verify, for each entity in turn.

Local is the PuppetDB that this process runs beside: the only one that is submitted to, and directly, never
through a failover list. The remote is only read. Nothing is ever deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from pdbclient.config.model import Endpoint, Remote, SyncConfig
from pdbclient.errors import PdbError, SyncError
from pdbclient.http.session import Session
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.capabilities import PassServer
from pdbclient.sync.inventory.interfaces import Clock, Connect, Server
from pdbclient.sync.inventory.kinds import PER_NODE, Kind
from pdbclient.sync.policy.brakes import active_among
from pdbclient.sync.policy.classify import Nodes
from pdbclient.sync.policy.liveness import deactivated_first
from pdbclient.sync.policy.model import ASKED_TO_STOP, Entity, EntityPlan, EntityResult, Mode, PassResult
from pdbclient.sync.run.blame import ends_all, in_words
from pdbclient.sync.run.context import Context, Progress, enter
from pdbclient.sync.run.ending import Ending, PassFailed
from pdbclient.sync.run.events import SyncLog
from pdbclient.sync.run.nodes import (
    deactivate,
    forget_settled_nodes,
    hidden_here,
    list_again_here,
    list_both,
    plan_nodes,
    warn_of_purged,
)
from pdbclient.sync.run.records import hidden_records, plan_kind, reconcile_kind, submit_again
from pdbclient.sync.run.reports import plan_slices, reconcile_reports
from pdbclient.sync.run.server_lock import ServerLock
from pdbclient.sync.state.lock import InstanceLock
from pdbclient.sync.state.store import State, state_path

__all__ = ["Reconciler", "plan", "reconcile"]

_logger = logging.getLogger(__name__)

SHORT_PASS = 60.0
"""Seconds."""


class Reconciler:
    """Pulls from the remotes of one configuration into its local PuppetDB.

    Use it as a context manager: inside, it holds the locks of its state file and its local server, and the state
    file. For one thread; passes do not overlap. `mode` is how passes are made (default: `Mode.configured`). Raises
    `SyncError` when another process holds one of the locks, or the state is unusable.
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
        self._path = state_path(config.state_dir, config.local)
        self._held = ExitStack()
        self._inside = False
        self._state: State | None = None

    def __enter__(self) -> Reconciler:
        _make_directory(self._path.parent)
        with ExitStack() as held:
            held.enter_context(InstanceLock(self._path.with_suffix(".lock")))
            held.enter_context(ServerLock(self._config.local))
            self._state = State(self._path, keeps=True)
            self._held = held.pop_all()
        self._inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        self._held.close()
        if self._state is not None:
            self._state.close()
            self._state = None

    def run_once(self, remote: Endpoint) -> PassResult:
        """One pass against `remote`. However it ends, that is recorded, and what goes wrong is logged and told in the
        result, not raised; but for KeyboardInterrupt and SystemExit, which are raised when that is done.
        """
        if not self._inside:
            raise RuntimeError("run_once outside of the Reconciler's with block")
        began = self._clock.monotonic()
        ending = Ending(remote.url)
        servers: list[PassServer] = []
        interruption: BaseException | None = None
        try:
            self._pass(remote, ending, servers)
        except PassFailed:
            _logger.debug("the pass against %s failed in part", remote)
        except Exception as error:  # noqa: BLE001  # however it ends, it is told
            ending.broken_off(error)
        except (KeyboardInterrupt, SystemExit) as error:
            ending.broken_off(error)
            interruption = error
        elapsed = round((self._clock.monotonic() - began) * 1000)
        failed_requests = sum(server.failed_requests for server in servers)
        result = self._recorded(
            PassResult(
                remote.url,
                ending.outcome,
                ending.results,
                ending.errors,
                elapsed,
                failed_requests,
                ending.unreachable,
            )
        )
        if interruption is not None:
            raise interruption
        return result

    def _recorded(self, result: PassResult) -> PassResult:
        """Note how a pass ended, and before that what the disk did not take of it yet. Where it does not take either,
        the pass is no success.
        """
        state, errors = self._state, list(result.errors)
        if state is None:
            # It could not be opened, which is one of the errors.
            return result
        whole = self._mode.selection.includes(Mode.configured(self._config).selection)
        for write in (
            state.flush,
            lambda: state.remember_pass(replace(result, errors=list(errors)), self._clock.wall(), whole),
        ):
            try:
                write()
            except SyncError as error:
                _logger.error("the pass against %s is not recorded in full: %s", result.remote, error)
                errors.append(str(error))
        return replace(result, errors=list(dict.fromkeys(errors)))

    def _usable_state(self) -> State:
        """The open state file; another one, where an operator has moved it away, as its errors advise."""
        if self._state is not None and self._state.moved():
            self._state.close()
            self._state = None
        if self._state is None:
            self._state = State(self._path, keeps=True)
        return self._state

    def _pass(self, remote: Endpoint, ending: Ending, servers: list[PassServer]) -> None:
        log = SyncLog(remote.url, monotonic=self._clock.monotonic)
        with log.sync(), ExitStack() as held:
            state = self._usable_state()
            for endpoint in (remote, self._config.local):
                servers.append(PassServer(self._connect(endpoint)))
                held.enter_context(closing(servers[-1]))
            there, here = servers
            context = enter(self._config, self._mode, there, here, state, self._clock, log, self._progress)
            _Pass(context, ending).run()


class _Pass:
    """The entities in their order; one that fails does not keep the next one from its turn."""

    def __init__(self, context: Context, ending: Ending) -> None:
        self._context = context
        self._ending = ending
        self._deactivated: frozenset[str] = frozenset()

    def run(self) -> None:
        context, selected = self._context, self._context.mode.selection.entities
        began = context.clock.monotonic()
        nodes = self._nodes()
        for kind in PER_NODE:
            if kind.entity in selected:
                self._entity(kind.entity, partial(self._records, kind, nodes))
        if Entity.REPORTS in selected:
            self._entity(Entity.REPORTS, lambda result: reconcile_reports(context, nodes, result, context.budget()))
        self._revive(nodes)
        if Entity.NODES in selected and not self._ending.part(Entity.NODES).error and self._may_be_outdated(began):
            self._deactivate_again()
        context.remember_seen(Entity.NODES, nodes.total_there)
        if self._ending.errors:
            raise PassFailed("; ".join(self._ending.errors))

    def _nodes(self) -> Nodes:
        """The nodes of both sides, with those deactivated here that are to be.

        Whose records may be carried depends on them: what keeps them from being listed is raised.
        """
        context, selected = self._context, Entity.NODES in self._context.mode.selection.entities
        listed: list[Nodes] = []

        def work(result: EntityResult) -> None:
            listed.append(list_both(context, context.budget()))
            warn_of_purged(context, listed[0])
            if selected:
                budget = context.budget()
                forget_settled_nodes(context, listed[0])
                plan = plan_nodes(context, listed[0], budget)
                self._deactivated = active_among(plan.pull, listed[0].here)
                deactivate(context, plan, result, budget)
                if context.mode.one_way and result.transferred:
                    listed.append(list_again_here(context, listed[0]))
            if listed[0].unsure is not None:
                raise listed[0].unsure

        try:
            if selected:
                self._logged(Entity.NODES, work)
            else:
                work(EntityResult())
        except Exception as error:
            if not listed:
                self._ending.part(Entity.NODES).error = in_words(error)
                raise
            self._failed(Entity.NODES, error)
        return listed[-1]

    def _records(self, kind: Kind, nodes: Nodes, result: EntityResult) -> None:
        reconcile_kind(self._context, kind, nodes, result, self._context.budget())

    def _revive(self, nodes: Nodes) -> None:
        """Make the nodes active that an older deactivation hides here, though their newer records are here."""
        context = self._context
        try:
            hidden = hidden_here(context, nodes, context.budget())
            for kind, plan in hidden_records(context, hidden):
                self._entity(kind.entity, partial(submit_again, context, kind, plan))
        except Exception as error:  # noqa: BLE001  # it is told
            self._failed(Entity.NODES, error)

    def _may_be_outdated(self, began: float) -> bool:
        """Whether the nodes are worth a second look at the end of a pass.

        Data of a node that was deactivated at the remote meanwhile may have come here and made it active. A
        pass that submitted nothing has done no such harm: then the next pass is early enough, unless this one
        took long.
        """
        submitted = any(result.transferred or result.failed for result in self._ending.results.values())
        return submitted or self._context.clock.monotonic() - began >= SHORT_PASS

    def _deactivate_again(self) -> None:
        """What was deactivated at the remote during the pass, while its data was on its way here."""
        context = self._context

        def late(budget: Budget) -> EntityPlan:
            # What is left alone was counted before.
            return replace(plan_nodes(context, list_both(context, budget), budget, self._deactivated), skipped=())

        def work(result: EntityResult) -> None:
            budget = context.budget()
            deactivate(context, late(budget), result, budget)

        try:
            found = late(context.budget()).pull
        except Exception as error:  # noqa: BLE001  # it is told
            self._failed(Entity.NODES, error)
            return
        if found:
            # Listed again, as part of what the log says of them; otherwise there is nothing to say.
            self._entity(Entity.NODES, work)

    def _entity(self, entity: Entity, work: Callable[[EntityResult], None]) -> None:
        try:
            self._logged(entity, work)
        except Exception as error:  # noqa: BLE001  # it is told, and the others have their turn
            self._failed(entity, error)

    def _logged(self, entity: Entity, work: Callable[[EntityResult], None]) -> None:
        """All that is done for an entity, its listing too, between its events in the log."""
        began = self._context.clock.monotonic()
        with self._context.log.entity(entity) as result:
            try:
                work(result)
            except (KeyboardInterrupt, SystemExit):
                result.error = ASKED_TO_STOP
                raise
            finally:
                result.elapsed_ms = round((self._context.clock.monotonic() - began) * 1000)
                self._ending.part(entity).add(result)

    def _failed(self, entity: Entity, error: Exception) -> None:
        """Note what kept an entity from being done; what keeps all the others from it, too, is raised."""
        if ends_all(error):
            part = self._ending.part(entity)
            part.error = part.error or str(error)
            raise error
        self._ending.failed(entity, error)


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

    Raises `SyncError` when another process reconciles the local server, or the state file is unusable;
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
