"""What a pass makes of two listings, for tests of the rule alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pdbclient.sync import Entity, EntityPlan, Version
from pdbclient.sync.policy.brakes import active_among, brake_deactivations
from pdbclient.sync.policy.classify import (
    Memory,
    Nodes,
    ReportRow,
    Terms,
    compare_nodes,
    compare_records,
    compare_reports,
    planned,
)


def plan_records(
    entity: Entity,
    there: Mapping[str, Version],
    here: Mapping[str, Version],
    nodes: Nodes,
    terms: Terms,
    memory: Memory,
) -> EntityPlan:
    return planned(entity, compare_records(entity, here, there, nodes, terms, memory))


def plan_reports(
    there: Iterable[ReportRow], here: Collection[str], nodes: Nodes, terms: Terms, memory: Memory
) -> EntityPlan:
    missing = [row for row in there if row.hash not in here]
    return planned(Entity.REPORTS, compare_reports((), missing, nodes, terms, memory))


def plan_deactivations(nodes: Nodes, newest_here: Mapping[str, int], terms: Terms, memory: Memory) -> EntityPlan:
    plan = planned(Entity.NODES, compare_nodes(nodes, terms, memory, newest_here=newest_here))
    brake_deactivations(plan.pull, nodes.here, len(active_among(nodes.here, nodes.here)), terms.deactivations)
    return plan
