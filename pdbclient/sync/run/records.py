"""What each node has one of (factset, catalog, …): the greater version everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.inventory.records import Records, differing_records, found_versions
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
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import pull
from pdbclient.sync.run.results import count_skipped, forget_settled, settle
from pdbclient.sync.run.verify import judge_first, judge_record

__all__ = ["differences", "plan_kind", "reconcile_kind"]


def plan_kind(context: Context, kind: Kind, nodes: Nodes, budget: Budget) -> EntityPlan:
    """The plan for one of `kinds.PER_NODE`. Raises `SafetyBrake` when the remote lost them all."""
    return _planned(context, kind, nodes, budget)[0]


def _planned(context: Context, kind: Kind, nodes: Nodes, budget: Budget) -> tuple[EntityPlan, Records, Records]:
    """The plan, and what it was made of: the remote's and the local server's records."""
    there, here = differing_records(context.there, context.here, kind, budget.left())
    # Few nodes have an expiration, and the last one may go with its node: that alone says nothing.
    if kind.entity is not Entity.EXPIRATION:
        brake_empty(kind.entity, there.total, here.total, context.state.seen(context.remote, kind.entity))
    found = differences(kind.entity, here, there, nodes, context.terms(), context.memory(kind.entity))
    return planned(kind.entity, found), there, here


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
    plan, there, here = _planned(context, kind, nodes, budget)
    forget_settled(context, kind.entity, there.versions, {*there.unusable, *here.unusable})
    count_skipped(context, plan, result)
    terms, memory = context.terms(), context.memory(kind.entity)
    pulled = pull(
        context,
        kind,
        plan,
        result,
        budget,
        lambda newer: planned(kind.entity, compare_records(kind.entity, {}, newer, nodes, terms, memory)),
    )
    settle(
        context,
        kind.entity,
        pulled,
        lambda keys: found_versions(context.here, kind, keys, budget.left()),
        judge_first if kind.entity in FIRST_WINS else judge_record,
        result,
        budget,
        here.versions,
    )
    context.remember_seen(kind.entity, there.total)
