"""After a pull: verify what was submitted, and remember what did not come out as it should."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from pdbclient.sync.inventory.budget import Budget
from pdbclient.sync.policy.model import Difference, Entity, EntityPlan, EntityResult, Version
from pdbclient.sync.run.context import Context
from pdbclient.sync.run.preflight import queue_depth
from pdbclient.sync.run.pull import Pulled
from pdbclient.sync.run.verify import Judge, verify

__all__ = ["count_skipped", "forget_settled", "settle"]

_logger = logging.getLogger(__name__)

_NEED_A_PERSON = (
    Difference.FUTURE,
    Difference.UNUSABLE,
    Difference.QUARANTINED,
    Difference.TIED,
    Difference.NAMELESS,
)
NOT_VISIBLE = "queued, but never stored: see the local server's log and its discard directory"


def settle(
    context: Context,
    entity: Entity,
    pulled: Pulled,
    look: Callable[[Sequence[str]], Mapping[str, Version]],
    judge: Judge,
    result: EntityResult,
    budget: Budget,
    before: Mapping[str, Version] | None = None,
    alike: Callable[[Sequence[str]], Collection[str]] = lambda keys: (),
) -> dict[str, Version]:
    """Verify `pulled` and write the outcome into the state and `result`; what was taken as it was submitted.

    `before` is as for `verify`. `alike` gives those of some keys that differ in nothing but their hash. A record that
    was queued and then not stored counts as failed, not as transferred.
    """
    verified = verify(
        pulled.submitted, look, judge, lambda: queue_depth(context.here), budget, context.clock.monotonic, before
    )
    count_skipped(context, EntityPlan(entity, skipped=pulled.skipped), result)
    refused = dict(pulled.failed)
    for key, version in verified.missing.items():
        _logger.warning("%s %s from %s: %s", entity, key, context.remote, NOT_VISIBLE)
        refused[key] = (version, NOT_VISIBLE)
    result.transferred -= len(verified.missing)
    result.failed += len(verified.missing)
    same = frozenset(alike(sorted(verified.unequal)) if verified.unequal else ())
    if same:
        some = ", ".join(sorted(same)[:5]) + (", …" if len(same) > 5 else "")
        _logger.info(
            "%d %s of %s have another hash here, and differ in nothing that is stored: %s",
            len(same),
            entity,
            context.remote,
            some,
        )
    for key in sorted(verified.unequal.keys() - same):
        _logger.warning(
            "%s of %s from %s: stored, but with another hash: not pulled again", entity, key, context.remote
        )
    if not verified.missing:
        context.state.forget_under_way(entity)
    unequal = {**verified.unequal, **pulled.unequal}
    result.unequal += len(unequal)
    state = context.state
    if unequal:
        state.remember_unequal(context.remote, entity, unequal, same)
    if refused:
        state.remember_refused(context.remote, entity, refused, context.clock.wall())
    if known := state.refused(context.remote, entity).keys() & (pulled.submitted.keys() - refused.keys()):
        state.forget_refused(context.remote, entity, known)
    return {
        key: version
        for key, version in pulled.submitted.items()
        if key not in refused and key not in verified.unequal
    }


def forget_settled(
    context: Context, entity: Entity, differing: Mapping[str, Version], unknown: Collection[str]
) -> None:
    """Of what is left alone, forget what both sides show to be settled: the remote has no such version that differs.

    `differing` are the remote's versions that are not alike here; what is `unknown` is not judged.
    """
    known = context.state.left_alone(context.remote, entity)
    settled = [key for key, version in known.items() if key not in unknown and differing.get(key) != version]
    if settled:
        context.state.forget_left_alone(context.remote, entity, settled)


def count_skipped(context: Context, plan: EntityPlan, result: EntityResult) -> None:
    """Count what the plan leaves alone, and say so where it needs a person."""
    reasons = Counter(why for _, why in plan.skipped)
    result.held += plan.held
    result.unequal += reasons[Difference.KNOWN_UNEQUAL] + reasons[Difference.SAME_CONTENT]
    result.waiting += reasons[Difference.WAITING]
    result.quarantined += reasons[Difference.QUARANTINED]
    result.tied += reasons[Difference.TIED]
    result.unusable += reasons[Difference.UNUSABLE]
    for why in _NEED_A_PERSON:
        keys = [key for key, reason in plan.skipped if reason is why]
        if keys:
            _logger.warning(
                "%d %s from %s not pulled, %s: %s%s",
                len(keys),
                plan.entity,
                context.remote,
                why.meaning,
                ", ".join(keys[:5]),
                ", …" if len(keys) > 5 else "",
            )
