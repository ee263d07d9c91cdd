"""What each node has one of (factset, catalog, …): the greater version everywhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from pdbclient.errors import PdbError
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.groups import differing_groups
from pdbclient.sync.inventory.kinds import PER_NODE, Kind
from pdbclient.sync.inventory.nodes import active_nodes
from pdbclient.sync.inventory.records import Records, differing_records, found_versions
from pdbclient.sync.inventory.rows import batches, both_sides
from pdbclient.sync.policy.brakes import brake_empty
from pdbclient.sync.policy.classify import (
    FIRST_WINS,
    Found,
    Memory,
    Nodes,
    Terms,
    compare_records,
    compare_unusable,
    planned,
)
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.run.alike import same_content
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import pull
from pdbclient.sync.run.results import count_skipped, forget_settled, settle
from pdbclient.sync.run.verify import judge_first, judge_record

__all__ = ["differences", "hidden_records", "plan_kind", "reconcile_kind", "submit_again"]

_logger = logging.getLogger(__name__)

MANY = 2000
"""Of so many records it is worth while to ask for groups first."""


def plan_kind(context: Context, kind: Kind, nodes: Nodes, budget: Budget) -> EntityPlan:
    """The plan for one of `kinds.PER_NODE`. Raises `SafetyBrake` when the remote lost them all."""
    return _planned(context, kind, nodes, budget).plan


class _Planned(NamedTuple):
    """The plan, and what it was made of: the remote's and the local server's records; whether all were listed."""

    plan: EntityPlan
    there: Records
    here: Records
    listed: bool


def _planned(context: Context, kind: Kind, nodes: Nodes, budget: Budget) -> _Planned:
    known = sorted(context.state.left_alone(context.remote, kind.entity))
    groups = None if _is_due(context, kind) else differing_groups(context.there, context.here, kind, budget.left())
    if groups is not None and 2 * groups.most > max(groups.there, groups.here):
        groups = None
    there, here = differing_records(context.there, context.here, kind, budget.left(), groups, known)
    seen = context.state.seen(context.remote, kind.entity)
    # A node that was purged there and came back has no expiration any more, and few nodes ever have one.
    if not there.total and seen and kind.entity is not Entity.EXPIRATION:
        # Nor do records say anything that went with their nodes.
        left = active_nodes(context.there, sorted(here.versions), budget.left())
        brake_empty(kind.entity, 0, len(left), seen)
    found = differences(kind.entity, here, there, nodes, context.terms(), context.memory(kind.entity))
    return _Planned(planned(kind.entity, found), there, here, groups is None)


def _is_due(context: Context, kind: Kind) -> bool:
    """Whether all records are to be listed: there are few, or it is their turn, as equal groups prove nothing."""
    few = context.state.seen(context.remote, kind.entity) < MANY
    if context.mode.audit or kind.marks is None or few:
        return True
    at = context.state.listed_at(context.scope, kind.entity)
    # Later than now: the clock was set back since.
    return at is None or not 0 <= context.clock.wall() - at < context.config.audit_interval


def differences(
    entity: Entity, here: Records, there: Records, nodes: Nodes, terms: Terms, memory: Memory
) -> Iterator[Found]:
    """In what way the records of one kind differ."""
    unusable = {*here.unusable, *there.unusable}
    yield from compare_unusable(name for name in unusable if terms.selection.names(name))
    ours, theirs = ({key: v for key, v in each.versions.items() if key not in unusable} for each in (here, there))
    yield from compare_records(entity, ours, theirs, nodes, terms, memory)


def reconcile_kind(context: Context, kind: Kind, nodes: Nodes, result: EntityResult, budget: Budget) -> None:
    """Pull what differs and verify it."""
    plan, there, here, listed = _planned(context, kind, nodes, budget)
    forget_settled(context, kind.entity, there.versions, {*there.unusable, *here.unusable})
    count_skipped(context, plan, result)
    terms, memory = context.terms(), context.memory(kind.entity)

    def again(newer: Mapping[str, Version]) -> EntityPlan:
        # It may have come to both sides meanwhile.
        ours = found_versions(context.here, kind, list(newer), budget.left())
        return planned(kind.entity, compare_records(kind.entity, ours, newer, nodes, terms, memory))

    pulled = pull(context, kind, plan, result, budget, again)
    settle(
        context,
        kind.entity,
        pulled,
        lambda keys: found_versions(context.here, kind, keys, budget.left()),
        judge_first if kind.entity in FIRST_WINS else judge_record,
        result,
        budget,
        here.versions,
        lambda keys: _alike(context, kind, keys, budget),
    )
    context.remember_seen(kind.entity, there.total)
    if listed and kind.marks is not None:
        context.state.remember_listed(context.scope, kind.entity, context.clock.wall())


def hidden_records(context: Context, hidden: Mapping[str, int]) -> Iterator[tuple[Kind, EntityPlan]]:
    """What both sides have of these nodes, one record of each, newer than the deactivations (ms) that hide it here.

    PuppetDB leaves a node so when it works off a deactivation and a newer record at once.
    """
    for kind in PER_NODE:
        names = sorted(hidden)
        if not names or kind.entity is Entity.EXPIRATION or kind.entity not in context.mode.selection.entities:
            continue
        look = partial(found_versions, kind=kind, keys=names, within=context.budget().left())
        there, here = both_sides(context.there, context.here, look)
        again = {name: v for name, v in there.items() if here.get(name) == v and v.millis > hidden[name]}
        hidden = {name: millis for name, millis in hidden.items() if name not in again}
        if again:
            yield kind, EntityPlan(kind.entity, again)


def submit_again(context: Context, kind: Kind, plan: EntityPlan, result: EntityResult) -> None:
    """Submit what is here already once more: that makes its nodes active."""
    budget, names = context.budget(), sorted(plan.pull)
    _logger.info(
        "%d nodes are deactivated here, and have newer %s: submitted again (%s)",
        len(names),
        kind.entity,
        ", ".join(names[:5]) + (", …" if len(names) > 5 else ""),
    )
    pulled = pull(context, kind, plan, result, budget, lambda newer: EntityPlan(kind.entity, newer))
    look = partial(found_versions, context.here, kind, within=budget.left())
    settle(context, kind.entity, pulled, look, judge_record, result, budget)


def _alike(context: Context, kind: Kind, keys: Sequence[str], budget: Budget) -> set[str]:
    """Those of `keys` that differ in their hash alone; where that cannot be asked, none."""
    same: set[str] = set()
    for batch in batches(keys, context.config.batch_size):
        try:
            same |= same_content(context.there, context.here, kind, batch, budget.left)
        except PdbError as error:
            if ends_all(error):
                raise
            _logger.warning("%s of %s cannot be compared by their contents: %s", kind.entity, context.remote, error)
    return same
