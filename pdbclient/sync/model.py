"""The reconciler's nouns: entities, versions of records, node status, plans and results. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

__all__ = [
    "Entity",
    "EntityPlan",
    "EntityResult",
    "Liveness",
    "NodeStatus",
    "Outcome",
    "PassResult",
    "Skip",
    "Version",
]


class Entity(StrEnum):
    """What is reconciled, in the order of a pass.

    Nodes (deactivation status) come first, so that the exported resources of a decommissioned node never
    flash active; then what other machines depend on; then the bulk.
    """

    NODES = "nodes"
    FACTS = "facts"
    CATALOGS = "catalogs"
    REPORTS = "reports"


class Version(NamedTuple):
    """What a summary says about one record. The order of versions IS the precedence rule.

    The newer producer timestamp (ms since the epoch: servers differ below that) wins; at equal times the
    greater hash, then the greater transaction uuid (catalogs: the hash does not cover it). Both sides compare
    alike, so only one of them pulls and a conflict ends instead of swapping for ever.
    """

    millis: int
    hash: str
    uuid: str = ""


class Liveness(StrEnum):
    """A node's state as its own server sees it.

    Gone: deactivated or expired for longer than that server's node-purge-ttl, and only waiting for its
    garbage collection. Servers purge 25 nodes a time, so one still lists what the other has purged already.
    """

    ACTIVE = "active"
    INACTIVE = "inactive"
    GONE = "gone"


class NodeStatus(NamedTuple):
    """One node on one server; times in ms since the epoch."""

    liveness: Liveness
    deactivated: int | None = None
    expired: int | None = None


class Skip(StrEnum):
    """Why a record that differs is not pulled."""

    FUTURE = "stamped in the future"
    SOURCE_INACTIVE = "not active at the remote"
    DEAD_HERE = "dead here, and no record at the remote is newer"
    NEWER_HERE = "a newer record is here"
    UNKNOWN_HERE = "not known here"
    EQUIVALENT = "pulled before and still unequal"
    WAITING = "waiting to be tried again"
    QUARANTINED = "quarantined after three failures"


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """What one entity of a pass comes down to.

    `pull` maps a key (certname, or report hash) to the version expected at the remote, in the order of work;
    for nodes the version's time is that of the deactivation. `certnames` gives a report's node. `skipped`
    lists what differs and is left alone, with the reason.
    """

    entity: Entity
    pull: Mapping[str, Version] = field(default_factory=dict)
    skipped: Sequence[tuple[str, Skip]] = ()
    certnames: Mapping[str, str] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """How many records are stamped in the future."""
        return sum(1 for _, why in self.skipped if why is Skip.FUTURE)


@dataclass(slots=True)
class EntityResult:
    """What was done for one entity. `transferred` counts records pulled and accepted by the local queue."""

    transferred: int = 0
    failed: int = 0
    unequal: int = 0
    held: int = 0

    def add(self, other: EntityResult) -> None:
        """Count `other` in."""
        self.transferred += other.transferred
        self.failed += other.failed
        self.unequal += other.unequal
        self.held += other.held


class Outcome(StrEnum):
    """How a pass ended: through all entities, refused by a gate or brake, without a server, or asked to
    stop.
    """

    DONE = "done"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PassResult:
    """One pass. `errors` says what kept entities, or the whole pass, from being done; `elapsed_ms` is wall
    time.
    """

    remote: str
    outcome: Outcome
    entities: Mapping[Entity, EntityResult]
    errors: Sequence[str]
    elapsed_ms: int

    @property
    def ok(self) -> bool:
        """Whether everything that was due was done, and nothing failed."""
        failed = any(result.failed for result in self.entities.values())
        return self.outcome is Outcome.DONE and not self.errors and not failed

    def as_json(self) -> dict[str, Any]:
        """The document that `pdbclient sync once --json` prints."""
        results = {entity: self.entities.get(entity, EntityResult()) for entity in Entity}
        return {
            "remote": self.remote,
            "ok": self.ok,
            "outcome": str(self.outcome),
            "transferred": {str(entity): result.transferred for entity, result in results.items()},
            "failed": {str(entity): result.failed for entity, result in results.items()},
            "unequal": sum(result.unequal for result in results.values()),
            "held": sum(result.held for result in results.values()),
            "errors": list(self.errors),
            "elapsed_ms": self.elapsed_ms,
        }
