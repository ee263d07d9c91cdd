"""Filling an empty or partly filled server: passes until nothing is left, and how much there is to do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

from pdbclient.config.model import Endpoint, SyncConfig
from pdbclient.errors import PdbError
from pdbclient.http.session import Session
from pdbclient.sync.inventory.interfaces import Clock, Connect
from pdbclient.sync.inventory.kinds import PER_NODE, Kind
from pdbclient.sync.inventory.records import list_records
from pdbclient.sync.inventory.reports import list_hours
from pdbclient.sync.inventory.rows import both_sides
from pdbclient.sync.policy.model import Entity, Mode, Outcome, PassResult, Selection, Version
from pdbclient.sync.policy.report_hours import oldest_kept
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Progress
from pdbclient.sync.run.preflight import ask_epoch
from pdbclient.sync.run.reconciler import Reconciler
from pdbclient.sync.state.store import State, state_path

__all__ = ["goes_on", "left_over", "outstanding", "seed"]

_logger = logging.getLogger(__name__)

CAUGHT_UP = 60.0
"""A pass that is over in so many seconds leaves only what came in meanwhile, and that never ends."""


def seed(
    config: SyncConfig,
    remote: Endpoint,
    mode: Mode,
    *,
    connect: Connect | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Iterator[PassResult]:
    """Passes against `remote` until one finds nothing, or only what came in meanwhile; each result when it is there.

    Each pass begins with what both servers have: it may be stopped, killed and called again. Raises `SyncError` as
    `Reconciler` does; what else goes wrong is told in the last result.
    """
    results: list[PassResult] = []
    with Reconciler(config, mode=mode, connect=connect, clock=clock, progress=progress) as reconciler:
        while goes_on(results):
            results.append(reconciler.run_once(remote))
            yield results[-1]


def goes_on(results: Sequence[PassResult]) -> bool:
    """Whether another pass is worth while after these."""
    if not results:
        return True
    last = results[-1]
    moved = any(part.transferred for part in last.entities.values())
    if last.outcome is not Outcome.DONE or not moved:
        return False
    return len(results) == 1 or last.elapsed_ms >= CAUGHT_UP * 1000


def left_over(config: SyncConfig, last: PassResult, selection: Selection, now: float) -> int:
    """How many records of `selection` are not here at `now` (s), after a seeding that ended with `last`: they failed,
    wait to be tried again, are quarantined, stamped in the future, or unusable.

    What waits and what is quarantined is asked of the state file: the last pass need not have come to it. Raises
    `SyncError` when that cannot be read.
    """
    # A record that failed in the last pass waits from then on, unless it is one that nobody asked for.
    found = sum(part.held + part.unusable for part in last.entities.values())
    with closing(State(state_path(config.state_dir, config.local), read_only=True)) as state:
        kept = Counter(
            entity
            for remote, entity, key, each in state.refusals()
            if remote == last.remote and not each.dropped and selection.covers(entity, key, each.version.millis, now)
        )
    failed = {entity: part.failed for entity, part in last.entities.items()}
    return found + sum(max(kept[entity], failed.get(entity, 0)) for entity in Entity)


def outstanding(
    config: SyncConfig,
    remote: Endpoint,
    selection: Selection,
    *,
    connect: Connect | None = None,
    clock: Clock | None = None,
) -> int | None:
    """About how many records the local server lacks; None when that cannot be told without listing all reports.

    An entity that a server cannot answer about is not counted, and said. Raises the errors of a server that is not
    to be had.
    """
    connect = connect or (lambda endpoint: Session(endpoint, config.tls, config.timeouts))
    clock = clock or Clock()
    if selection.certnames and Entity.REPORTS in selection.entities:
        return None
    within, number = config.entity_time_limit, 0
    with closing(connect(remote)) as there, closing(connect(config.local)) as here:
        # As in a pass, the local server's time.
        epoch = ask_epoch(here, clock)
        now = clock.wall() if epoch is None else epoch + clock.monotonic()
        start = oldest_kept(now, config.report_ttl)
        if selection.max_age is not None:
            start = max(start, int((now - selection.max_age) * 1000))

        def records(kind: Kind) -> int:
            theirs, ours = both_sides(there, here, partial(list_records, kind=kind, within=within))
            return sum(
                selection.names(certname) and _behind(ours.versions.get(certname), version)
                for certname, version in theirs.versions.items()
            )

        def reports() -> int:
            theirs, ours = both_sides(there, here, lambda server: list_hours(server, start, None, within))
            return sum(
                max(0, bucket.count - (ours[hour].count if hour in ours else 0)) for hour, bucket in theirs.items()
            )

        counts: dict[Entity, Callable[[], int]] = {kind.entity: partial(records, kind) for kind in PER_NODE}
        counts[Entity.REPORTS] = reports
        for entity in counts.keys() & selection.entities:
            try:
                number += counts[entity]()
            except PdbError as error:
                if ends_all(error):
                    raise
                _logger.warning("how many %s are lacking cannot be told: %s", entity, error)
    return number


def _behind(ours: Version | None, theirs: Version) -> bool:
    return ours is None or ours < theirs
