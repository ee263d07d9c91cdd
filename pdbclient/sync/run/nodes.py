"""Deactivation status: who is dead at the remote, and who stays dead here."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pdbclient.errors import PdbError
from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.nodes import active_nodes, list_nodes, newest_records
from pdbclient.sync.inventory.rows import both_sides
from pdbclient.sync.policy.brakes import brake_deactivations, brake_empty
from pdbclient.sync.policy.classify import Nodes, compare_nodes, planned
from pdbclient.sync.policy.expiry import Expired, expired_here, outdated, purged_since, too_old
from pdbclient.sync.policy.liveness import dead_for_good, flipped, revival_candidates, undecided_deactivations
from pdbclient.sync.policy.model import Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.run.blame import ends_all, is_about_one_record
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.pull import Pulled
from pdbclient.sync.run.results import count_skipped, forget_settled, settle
from pdbclient.sync.run.submit import submit_patiently
from pdbclient.sync.run.verify import judge_deactivation
from pdbclient.wire.record import deactivation_command
from pdbclient.wire.summary import from_millis

__all__ = [
    "deactivate",
    "forget_settled_nodes",
    "hidden_here",
    "judged_nodes",
    "list_again_here",
    "list_both",
    "plan_nodes",
    "warn_of_purged",
]

_logger = logging.getLogger(__name__)


def list_both(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes, with the verdict on those that are dead here, or were purged, and active there.

    Where a server cannot tell how new their records are, all of these stay dead, and `Nodes.unsure` says why.
    Raises `SafetyBrake` when the remote suddenly has no nodes.
    """
    nodes = listed_nodes(context, budget)
    seen = context.state.seen(context.remote, Entity.NODES)
    brake_empty(Entity.NODES, nodes.total_there, nodes.total_here, seen)
    nodes = _judged_here(context, nodes, budget)
    try:
        _remember_expired(context, nodes, budget)
    except PdbError as error:
        if ends_all(error):
            raise
        return replace(nodes, unsure=nodes.unsure or error)
    return nodes


def listed_nodes(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes, with those that something is remembered of."""
    within, gone = budget.left(), context.gone_before()
    there, here = both_sides(context.there, context.here, lambda server: list_nodes(server, gone, within))
    remembered = {*context.state.expired(context.remote), *context.state.reports(context.scope).left_out}
    asked = {
        context.there: sorted((here.inactive.keys() | remembered) - there.inactive.keys()),
        context.here: sorted((there.inactive.keys() | remembered) - here.inactive.keys()),
    }
    active_there, active_here = both_sides(
        context.there, context.here, lambda server: active_nodes(server, asked[server], within)
    )
    return Nodes(
        there.inactive | active_there,
        here.inactive | active_here,
        unusable=frozenset({*there.unusable, *here.unusable}),
        total_there=there.total,
        total_here=here.total,
    )


def judged_nodes(context: Context, budget: Budget) -> Nodes:
    """Both sides' nodes, with the verdict on those that are dead on one side and active on the other, and on those
    that were purged here.
    """
    nodes = _judged_here(context, listed_nodes(context, budget), budget)
    dead_there, unsure = _dead(context, context.here, flipped(nodes), {}, budget)
    return replace(nodes, dead_there=dead_there, unsure=nodes.unsure or unsure)


def warn_of_purged(context: Context, nodes: Nodes) -> None:
    """Say which nodes are left alone because they would expire here again."""
    purged = sorted(nodes.dead - nodes.here.keys())
    if purged:
        _logger.warning(
            "%d nodes of %s are not pulled (%s%s): they expired here and were purged, and nothing of theirs there is "
            "younger than what expired. Set node-ttl alike on both servers; once it is raised here, make an audit "
            "pass",
            len(purged),
            context.remote,
            ", ".join(purged[:5]),
            ", …" if len(purged) > 5 else "",
        )


def _judged_here(context: Context, nodes: Nodes, budget: Budget) -> Nodes:
    purged = {} if context.mode.audit else purged_since(nodes, context.state.expired(context.remote))
    dead, unsure = _dead(context, context.there, nodes, purged, budget)
    return replace(nodes, dead=dead, unsure=unsure)


def _dead(
    context: Context, giver: Server, nodes: Nodes, purged: Mapping[str, Expired], budget: Budget
) -> tuple[frozenset[str], PdbError | None]:
    """Those that stay dead where they would come to from `giver`, and why this may be too many."""
    candidates = frozenset([*revival_candidates(nodes), *purged])
    try:
        # What is stamped in the future is not carried, and makes nobody alive.
        newest = newest_records(giver, sorted(candidates), budget.left(), context.terms().latest)
    except PdbError as error:
        if ends_all(error):
            raise
        return candidates, error
    return dead_for_good(nodes, newest) | too_old(purged, newest, int(context.now() * 1000)), None


def _remember_expired(context: Context, nodes: Nodes, budget: Budget) -> None:
    """Note the nodes that expired here and not there, once for each time that they do: data that comes afterwards was
    not what expired.
    """
    if context.state.read_only:
        return
    known = context.state.expired(context.remote)
    fresh = {
        certname: millis
        for certname, millis in expired_here(nodes).items()
        if certname not in known or known[certname].millis != millis
    }
    newest = newest_records(context.here, list(fresh), budget.left())
    found = {name: Expired(fresh[name], fresh[name] - millis) for name, millis in newest.items()}
    over = outdated(nodes, known)
    if found or over:
        context.state.remember_expired(context.remote, found, over)


def list_again_here(context: Context, nodes: Nodes) -> Nodes:
    """The same nodes with what the local server has now, after deactivations."""
    within = context.budget().left()
    here = list_nodes(context.here, context.gone_before(), within)
    asked = sorted((nodes.here.keys() | nodes.there.keys()) - here.inactive.keys())
    found = here.inactive | active_nodes(context.here, asked, within)
    return replace(nodes, here=found, total_here=here.total)


def hidden_here(context: Context, nodes: Nodes, budget: Budget) -> dict[str, int]:
    """The nodes that stayed deactivated here though the remote has newer records of them, and since when (ms)."""
    candidates = frozenset(revival_candidates(nodes)) - nodes.dead
    if not candidates:
        return {}
    inactive = list_nodes(context.here, context.gone_before(), budget.left()).inactive
    found = ((name, inactive[name].deactivated) for name in candidates if name in inactive)
    return {name: millis for name, millis in found if millis is not None}


def plan_nodes(context: Context, nodes: Nodes, budget: Budget, done: Collection[str] = ()) -> EntityPlan:
    """Which nodes to deactivate here, after those of `done`. Raises `SafetyBrake`."""
    newest = newest_records(context.here, undecided_deactivations(nodes), budget.left())
    terms, memory = context.terms(), context.memory(Entity.NODES)
    plan = planned(Entity.NODES, compare_nodes(nodes, terms, memory, newest_here=newest))
    brake_deactivations(plan.pull, nodes.here, nodes.active_here, terms.deactivations, done)
    return plan


def forget_settled_nodes(context: Context, nodes: Nodes) -> None:
    """Forget the deactivations that are left alone, where both sides show that there is nothing to do."""
    differing = {
        certname: Version(status.deactivated, "")
        for certname, status in nodes.there.items()
        if status.deactivated is not None
        and ((ours := nodes.here.get(certname)) is None or ours.deactivated != status.deactivated)
    }
    forget_settled(context, Entity.NODES, differing, nodes.unusable)


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
        except PdbError as error:
            if not is_about_one_record(error):
                raise
            pulled.failed[certname] = (version, str(error))
            result.failed += 1
        else:
            pulled.submitted[certname] = version
            result.transferred += 1
        context.progress(Entity.NODES, done, len(plan.pull))

    def look(keys: Sequence[str]) -> Mapping[str, Version]:
        nodes = list_nodes(context.here, context.gone_before(), budget.left()).inactive
        found = ((key, nodes[key].deactivated) for key in keys if key in nodes)
        return {key: Version(millis, "") for key, millis in found if millis is not None}

    settle(context, Entity.NODES, pulled, look, judge_deactivation, result, budget)
