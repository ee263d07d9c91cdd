"""Deactivation status: who is dead at the remote, and who stays dead here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pdbclient.errors import InvalidCommand, PdbError, Rejected
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.records import both_sides, list_nodes, newest_records
from pdbclient.sync.policy.brakes import brake_empty
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.policy.plan import (
    Nodes,
    deactivation_candidates,
    dead_here,
    plan_deactivations,
    revival_candidates,
)
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import Pulled
from pdbclient.sync.run.results import count_skipped, settle
from pdbclient.sync.run.submit import submit_patiently
from pdbclient.sync.run.verify import judge_deactivation
from pdbclient.wire.record import deactivation_command
from pdbclient.wire.summary import from_millis

__all__ = ["deactivate", "list_again_here", "list_both", "plan_nodes"]


def list_both(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes, with the verdict on those that are dead here and active there.

    Where the remote cannot tell how new their records are, all of these stay dead, and `Nodes.unsure` says why.
    Raises `SafetyBrake` when the remote suddenly has no nodes.
    """
    within = budget.left()
    there, here = both_sides(
        context.there, context.here, lambda server: list_nodes(server, context.gone_before(), within)
    )
    brake_empty(Entity.NODES, len(there), len(here), context.state.seen(context.remote, Entity.NODES))
    nodes = Nodes(there, here)
    candidates = revival_candidates(nodes)
    try:
        newest = newest_records(context.there, candidates, budget.left())
    except PdbError as error:
        if ends_all(error):
            raise
        return Nodes(there, here, frozenset(candidates), unsure=error)
    return Nodes(there, here, dead_here(nodes, newest))


def list_again_here(context: Context, nodes: Nodes) -> Nodes:
    """The same nodes with what the local server has now, after deactivations."""
    return replace(nodes, here=list_nodes(context.here, context.gone_before(), context.budget().left()))


def plan_nodes(context: Context, nodes: Nodes, budget: Budget, done: Collection[str] = ()) -> EntityPlan:
    """Which nodes to deactivate here, after those of `done`. Raises `SafetyBrake`."""
    known = [certname for certname in deactivation_candidates(nodes) if certname in nodes.here]
    newest = newest_records(context.here, known, budget.left())
    return plan_deactivations(nodes, newest, context.terms(), context.memory(Entity.NODES), done)


def deactivate(context: Context, plan: EntityPlan, result: EntityResult, budget: Budget) -> None:
    """Deactivate here what `plan` lists, as of the time at the remote, and see that it was done."""
    count_skipped(context, plan, result)
    pulled = Pulled()
    if plan.pull:
        context.state.remember_under_way(Entity.NODES)
    for done, (certname, version) in enumerate(plan.pull.items(), 1):
        budget.check()
        try:
            with context.log.deactivate(certname):
                command = deactivation_command(certname, from_millis(version.millis))
                submit_patiently(context.here, command, budget)
        except (InvalidCommand, Rejected) as error:
            pulled.failed[certname] = (version, str(error))
            result.failed += 1
        else:
            pulled.submitted[certname] = version
            result.transferred += 1
        context.progress(Entity.NODES, done, len(plan.pull))

    def look(keys: Sequence[str]) -> Mapping[str, Version]:
        # All nodes: their listing is small, and it is asked only while something is outstanding.
        nodes = list_nodes(context.here, context.gone_before(), budget.left())
        found = ((key, nodes[key].deactivated) for key in keys if key in nodes)
        return {key: Version(millis, "") for key, millis in found if millis is not None}

    settle(context, Entity.NODES, pulled, look, judge_deactivation, result, budget)
