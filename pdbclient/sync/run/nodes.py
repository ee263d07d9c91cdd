"""Deactivation status: who is dead at the remote, and who stays dead here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pdbclient.errors import InvalidCommand, PdbError, Rejected
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.records import both_sides, list_nodes, newest_records
from pdbclient.sync.policy.brakes import brake_deactivations, brake_empty
from pdbclient.sync.policy.classify import Nodes, compare_nodes, planned
from pdbclient.sync.policy.liveness import dead_for_good, flipped, revival_candidates, undecided_deactivations
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.run.blame import ends_all
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import Pulled
from pdbclient.sync.run.results import count_skipped, settle
from pdbclient.sync.run.submit import submit_patiently
from pdbclient.sync.run.verify import judge_deactivation
from pdbclient.wire.record import deactivation_command
from pdbclient.wire.summary import from_millis

__all__ = ["deactivate", "judged_nodes", "list_again_here", "list_both", "plan_nodes"]


def list_both(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes, with the verdict on those that are dead here and active there.

    Where the remote cannot tell how new their records are, all of these stay dead, and `Nodes.unsure` says why.
    Raises `SafetyBrake` when the remote suddenly has no nodes.
    """
    nodes = listed_nodes(context, budget)
    seen = context.state.seen(context.remote, Entity.NODES)
    brake_empty(Entity.NODES, len(nodes.there), len(nodes.here), seen)
    dead, unsure = _dead(context.there, nodes, budget)
    return replace(nodes, dead=dead, unsure=unsure)


def listed_nodes(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes."""
    within, gone = budget.left(), context.gone_before()
    sides = both_sides(context.there, context.here, lambda server: list_nodes(server, gone, within))
    (there, unusable_there), (here, unusable_here) = sides
    return Nodes(there, here, unusable=frozenset({*unusable_there, *unusable_here}))


def judged_nodes(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes, with the verdict on those that are dead on one side and active on the other."""
    nodes = listed_nodes(context, budget)
    dead, unsure = _dead(context.there, nodes, budget)
    dead_there, unsure_there = _dead(context.here, flipped(nodes), budget)
    return replace(nodes, dead=dead, dead_there=dead_there, unsure=unsure or unsure_there)


def _dead(giver: Server, nodes: Nodes, budget: Budget) -> tuple[frozenset[str], PdbError | None]:
    candidates = revival_candidates(nodes)
    try:
        newest = newest_records(giver, candidates, budget.left())
    except PdbError as error:
        if ends_all(error):
            raise
        return frozenset(candidates), error
    return dead_for_good(nodes, newest), None


def list_again_here(context: Context, nodes: Nodes) -> Nodes:
    """The same nodes with what the local server has now, after deactivations."""
    here, _ = list_nodes(context.here, context.gone_before(), context.budget().left())
    return replace(nodes, here=here)


def plan_nodes(context: Context, nodes: Nodes, budget: Budget) -> EntityPlan:
    """Which nodes to deactivate here. Raises `SafetyBrake`."""
    newest = newest_records(context.here, undecided_deactivations(nodes), budget.left())
    memory = context.memory(Entity.NODES)
    plan = planned(Entity.NODES, compare_nodes(nodes, context.terms(), memory, newest_here=newest))
    brake_deactivations(plan.pull, nodes.here)
    return plan


def deactivate(context: Context, plan: EntityPlan, result: EntityResult, budget: Budget) -> None:
    """Deactivate here what `plan` lists, as of the time at the remote, and see that it was done."""
    count_skipped(context, plan, result)
    pulled = Pulled()
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
        nodes, _ = list_nodes(context.here, context.gone_before(), budget.left())
        found = ((key, nodes[key].deactivated) for key in keys if key in nodes)
        return {key: Version(millis, "") for key, millis in found if millis is not None}

    settle(context, Entity.NODES, pulled, look, judge_deactivation, result, budget)
