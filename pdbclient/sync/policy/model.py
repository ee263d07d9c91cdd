"""The reconciler's nouns: entities, versions of records, node status, plans and results. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from pdbclient.config.model import SyncConfig

__all__ = [
    "ASKED_TO_STOP",
    "EXPLAINED",
    "TRIES",
    "Count",
    "Difference",
    "Entity",
    "EntityPlan",
    "EntityResult",
    "Liveness",
    "Millis",
    "Mode",
    "NodeStatus",
    "Outcome",
    "PassResult",
    "Selection",
    "Version",
    "Wall",
]

# The years of which a server's database can have a record, 4713 BC to 294276; our own times: 1970 to 9999.
Millis = Annotated[int, Meta(ge=-210_866_803_200_000, le=9_224_318_015_999_999)]
Wall = Annotated[float, Meta(ge=0.0, le=253_402_300_799.0)]
Count = Annotated[int, Meta(ge=0)]

TRIES = 3
"""Failures of one version of a record, after which it is left alone until somebody says otherwise."""


ASKED_TO_STOP = "asked to stop"
"""The error of an entity that nothing else kept from being done."""


class Entity(StrEnum):
    """What is reconciled, in the order of a pass.

    Nodes (deactivation status) come first, so that the exported resources of a decommissioned node never
    flash active; the expiration of facts before the facts, so that none that is to stay is collected as
    outdated in between; then what other machines depend on; then the bulk.
    """

    NODES = "nodes"
    EXPIRATION = "fact_expiration"
    FACTS = "facts"
    CATALOGS = "catalogs"
    INPUTS = "catalog_inputs"
    REPORTS = "reports"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a pass is about; the default is all of them.

    `certnames` are shell patterns (`web*.example.com`; none: every node), `max_age` is in seconds, counted
    from the producer timestamp (None: any age). What is left out is neither pulled nor listed as skipped.
    """

    entities: frozenset[Entity] = frozenset(Entity)
    certnames: tuple[str, ...] = ()
    max_age: float | None = None

    @property
    def name(self) -> str:
        """What tells the selected records of an entity from those of another selection; empty: all of them."""
        if not self.certnames and self.max_age is None:
            return ""
        return " ".join([f"{self.max_age or 0:g}", *sorted(self.certnames)])

    def includes(self, other: Selection) -> bool:
        """Whether a pass about this one is about all of the `other`, too."""
        return other.entities <= self.entities and self.name in ("", other.name)

    def names(self, certname: str) -> bool:
        """Whether the node is among those selected."""
        return not self.certnames or any(fnmatchcase(certname, pattern) for pattern in self.certnames)

    def covers(self, entity: Entity, key: str, millis: int, now: float) -> bool:
        """Whether a version of a record (its time in ms) may be among those selected at `now` (s), by its key: that
        of a report names no node.
        """
        young = self.max_age is None or millis >= (now - self.max_age) * 1000
        return entity in self.entities and young and (entity is Entity.REPORTS or self.names(key))

    def scope(self, remote: str) -> str:
        """The name of what is remembered of a remote's reports, as far as they are selected."""
        return f"{remote} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Mode:
    """How a pass is made.

    `one_way`: the remote is right, for a migration or a restore (`classify.Terms` says what that changes).
    `audit`: nothing that is remembered of reports is trusted, everything is listed. `seed`: no time limit for an
    entity. `deactivations` is as in `classify.Terms`.
    """

    selection: Selection = Selection()
    one_way: bool = False
    audit: bool = False
    seed: bool = False
    deactivations: int | None = None

    @classmethod
    def configured(cls, config: SyncConfig) -> Mode:
        """The mode of a pass that nobody asked for in particular."""
        entities = frozenset(Entity(name) for name in config.entities) or frozenset(Entity)
        return cls(Selection(entities, config.certnames, config.max_age), one_way=config.one_way)


class Version(NamedTuple):
    """What a summary says about one record. The order of versions IS the precedence rule.

    The newer producer timestamp (ms since the epoch: servers differ below that) wins; at equal times the
    greater hash, then whatever is greater of what the hash does not cover (of a catalog its transaction uuid first).
    Both sides compare alike, so only one of them pulls and a conflict ends instead of swapping for ever.
    """

    millis: int
    hash: str
    beside: str = ""


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


class Difference(StrEnum):
    """In what way a record differs between two servers, and what keeps a pass from making it equal.

    The first five are for a pass to settle, here or at the other server. Those in `EXPLAINED` are what no pass can,
    or may, make equal.
    """

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    NEWER_HERE = "newer_here"
    NEWER_THERE = "newer_there"
    UNEQUAL = "unequal"
    FUTURE = "future"
    UNUSABLE = "unusable"
    WAITING = "waiting"
    QUARANTINED = "quarantined"
    DROPPED = "dropped"
    KNOWN_UNEQUAL = "known_unequal"
    SAME_CONTENT = "same_content"
    TIED = "tied"
    NOT_ACTIVE = "not_active"
    DEAD = "dead"
    PURGED = "purged"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    NAMELESS = "nameless"

    @property
    def meaning(self) -> str:
        """For whoever reads it."""
        return _MEANINGS[self]


_MEANINGS = {
    Difference.MISSING_HERE: "only the remote has it",
    Difference.MISSING_THERE: "only the local server has it",
    Difference.NEWER_HERE: "the local server has a newer one",
    Difference.NEWER_THERE: "the remote has a newer one",
    Difference.UNEQUAL: "same time, other content",
    Difference.FUTURE: "stamped in the future",
    Difference.UNUSABLE: "a server shows something for it that is no such record",
    Difference.WAITING: "the local server did not take it, and it waits to be tried again",
    Difference.QUARANTINED: "quarantined: the local server did not take it three times",
    Difference.DROPPED: "dropped by the operator",
    Difference.KNOWN_UNEQUAL: "same time, other content; was pulled and did not become equal, or no copy of it would",
    Difference.SAME_CONTENT: "same time and content; its hash does not survive a transfer",
    Difference.TIED: "same time, other content; PuppetDB keeps whichever it got first",
    Difference.NOT_ACTIVE: "its node is not active where it would come from, so it is not carried",
    Difference.DEAD: "its node is dead where it would go, and nothing of that node is newer than its death",
    Difference.PURGED: "expired and purged where it would go, and would be again",
    Difference.SUPERSEDED: "deactivated on one side, and a newer record of the node is on the other",
    Difference.UNKNOWN: "deactivated on one side, and the other does not know the node",
    Difference.EXPIRED: "expired on one side only, which each server judges by itself",
    Difference.NAMELESS: "without a usable certname",
}

EXPLAINED = frozenset(
    {
        Difference.DROPPED,
        Difference.KNOWN_UNEQUAL,
        Difference.SAME_CONTENT,
        Difference.TIED,
        Difference.NOT_ACTIVE,
        Difference.DEAD,
        Difference.PURGED,
        Difference.SUPERSEDED,
        Difference.UNKNOWN,
        Difference.EXPIRED,
        Difference.NAMELESS,
    }
)


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """What one entity of a pass comes down to.

    `pull` maps a key (certname, or report hash) to the version expected at the remote, in the order of work;
    for nodes the version's time is that of the deactivation. `certnames` gives a report's node. `skipped`
    lists what differs and is left alone, with the reason. `error` is why there is no plan, or only a part of it.
    """

    entity: Entity
    pull: Mapping[str, Version] = field(default_factory=dict)
    skipped: Sequence[tuple[str, Difference]] = ()
    certnames: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def held(self) -> int:
        """How many records are stamped in the future."""
        return sum(1 for _, why in self.skipped if why is Difference.FUTURE)


@dataclass(slots=True)
class EntityResult:
    """What was done for one entity, and what was left alone.

    - `transferred`: pulled, and accepted by the local queue; `failed`: not taken
    - `unequal`: stored, but with another hash; `held`: stamped in the future; `tied`: equal times and other
      content, which nothing settles; `waiting`: failed before, to be tried again; `quarantined`: failed three
      times; `unusable`: a server shows something for them that is no such record
    - `elapsed_ms`: how long the entity took; `transfer_seconds`: the sum of the record transfers, which
      overlap
    - `error`: why the entity was not done, or not to its end; None when it was
    """

    transferred: int = 0
    failed: int = 0
    unequal: int = 0
    held: int = 0
    quarantined: int = 0
    waiting: int = 0
    tied: int = 0
    unusable: int = 0
    elapsed_ms: int = 0
    transfer_seconds: float = 0.0
    error: str | None = None

    def add(self, other: EntityResult) -> None:
        """Count `other` in."""
        self.error = self.error or other.error
        for name in set(self.__slots__) - {"error"}:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Outcome(StrEnum):
    """How a pass ended: through all entities, refused by a gate or brake, without a server, asked to stop, or by an
    error that nobody foresaw, in one entity or between them.
    """

    DONE = "done"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class PassResult:
    """One pass. `errors` says what kept entities, or the whole pass, from being done.

    `elapsed_ms` is how long it took. `failed_requests` counts the requests to either server that failed,
    those that were tried again with success among them. `unreachable` is the URL of the server without which the
    pass ended: the remote's, or the local one's.
    """

    remote: str
    outcome: Outcome
    entities: Mapping[Entity, EntityResult]
    errors: Sequence[str]
    elapsed_ms: int
    failed_requests: int = 0
    unreachable: str | None = None

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
            "unreachable": self.unreachable,
            "transferred": {str(entity): result.transferred for entity, result in results.items()},
            "failed": {str(entity): result.failed for entity, result in results.items()},
            "unequal": sum(result.unequal for result in results.values()),
            "held": sum(result.held for result in results.values()),
            "errors": list(self.errors),
            "elapsed_ms": self.elapsed_ms,
            "failed_requests": self.failed_requests,
            "entities": {str(entity): asdict(result) for entity, result in results.items()},
        }
