"""What each node has one of (factset, catalog, …): the greater version everywhere."""

from __future__ import annotations

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.inventory.records import Records, differing_records, found_versions
from pdbclient.sync.policy.brakes import brake_empty
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult
from pdbclient.sync.policy.plan import FIRST_WINS, Nodes, plan_records
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import pull
from pdbclient.sync.run.results import count_skipped, settle
from pdbclient.sync.run.verify import judge_first, judge_record

__all__ = ["plan_kind", "reconcile_kind"]


def plan_kind(context: Context, kind: Kind, nodes: Nodes, budget: Budget) -> EntityPlan:
    """The plan for one of `kinds.PER_NODE`. Raises `SafetyBrake` when the remote lost them all."""
    return _planned(context, kind, nodes, budget)[0]


def _planned(context: Context, kind: Kind, nodes: Nodes, budget: Budget) -> tuple[EntityPlan, Records, Records]:
    """The plan, and what it was made of: the remote's and the local server's records."""
    there, here = differing_records(context.there, context.here, kind, budget.left())
    # Few nodes have an expiration, and the last one may go with its node: that alone says nothing.
    if kind.entity is not Entity.EXPIRATION:
        brake_empty(kind.entity, there.total, here.total, context.state.seen(context.remote, kind.entity))
    terms, memory = context.terms(), context.memory(kind.entity)
    return plan_records(kind.entity, there.versions, here.versions, nodes, terms, memory), there, here


def reconcile_kind(context: Context, kind: Kind, nodes: Nodes, result: EntityResult, budget: Budget) -> None:
    """Pull what differs and verify it."""
    plan, there, here = _planned(context, kind, nodes, budget)
    count_skipped(context, plan, result)
    terms, memory = context.terms(), context.memory(kind.entity)
    pulled = pull(
        context,
        kind,
        plan,
        result,
        budget,
        lambda newer: plan_records(kind.entity, newer, {}, nodes, terms, memory),
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
