"""Whether what differs between two fake PuppetDBs at rest has a reason, and the reason given is the true one."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.sync import Difference, Entity, EntityPlan, Version
from pdbclient.wire.summary import to_millis

from .fake import FakePuppetDB
from .fake_store import DAY
from .machine_world import SyncWorld

__all__ = ["unexplained"]

SKEW = 60_000


def unexplained(world: SyncWorld) -> Iterator[str]:
    """All that is not as it should be."""
    for local, remote in world.pairs:
        for entity, plan in world.plans(local, remote).items():
            pair = _Pair(world, local, remote, entity, plan)
            yield from (f"{local} from {remote}: {entity} {wrong}" for wrong in pair.wrongs())
    for name, server in world.servers.items():
        for certname, node in server.nodes.items():
            dead = node.deactivated
            if dead is not None and (certname, dead) not in world.deactivations:
                yield f"{certname} is deactivated at {name} as of {dead}, which nobody ever asked for"
    for name, certname in world.buried:
        if certname in world.servers[name].nodes:
            yield f"{certname} was purged at {name} and dead everywhere, and is back there"


class _Pair:
    """What a pass of `local` from `remote` makes of one entity."""

    def __init__(self, world: SyncWorld, local: str, remote: str, entity: Entity, plan: EntityPlan) -> None:
        self.world, self.entity, self.plan = world, entity, plan
        self.here, self.there = world.servers[local], world.servers[remote]
        self.faulty = world.faulty[local, remote]

    def wrongs(self) -> Iterator[str]:
        for key in self.plan.pull:
            yield f"{key} is still to be pulled"
        reasons = dict(self.plan.skipped)
        ours, theirs = _versions(self.here, self.entity), _versions(self.there, self.entity)
        for key, version in theirs.items():
            mine = ours.get(key)
            if not self._due(key, version, mine):
                continue
            if (why := reasons.get(key)) is None:
                yield f"{key} is {mine} here and {version} there, and no reason is given"
            elif not self._true(why, _certname(self.there, self.entity, key), version, mine):
                yield f"{key} is {mine} here and {version} there, and it is not true that it is {why}"

    def _due(self, key: str, version: Version, mine: Version | None) -> bool:
        """Whether the local server ought to have the remote's version, were there no reason against it."""
        match self.entity:
            case Entity.NODES:
                # What is about to be purged there may have been purged here.
                return (mine is None or mine < version) and self.there.liveness(key) != "gone"
            case Entity.REPORTS:
                # All days that the local server does not drop.
                return mine is None and version.millis // DAY >= (self.here.millis - self.here.report_ttl) // DAY
            case Entity.INPUTS | Entity.EXPIRATION if mine is not None and mine.millis == version.millis:
                return mine != version
            case _:
                return mine is None or mine < version

    def _true(self, why: Difference, certname: str, version: Version, mine: Version | None) -> bool:
        equal_time = mine is not None and mine.millis == version.millis
        match why:
            case Difference.FUTURE:
                return version.millis > self.here.millis + SKEW
            case Difference.NOT_ACTIVE:
                return self.there.liveness(certname) != "active"
            case Difference.DEAD:
                # What is stamped in the future is not carried, and makes nobody alive.
                latest = self.here.millis + SKEW
                return self.there.newest(certname, latest) <= _death(self.here, certname)
            case Difference.SUPERSEDED:
                return self.here.newest(certname) > version.millis
            case Difference.UNKNOWN:
                return certname not in self.here.nodes
            case Difference.KNOWN_UNEQUAL | Difference.SAME_CONTENT:
                return certname in self.world.mangled and equal_time
            case Difference.TIED:
                return self.entity in (Entity.INPUTS, Entity.EXPIRATION) and equal_time
            case Difference.QUARANTINED:
                # A pass looks at deactivations twice.
                return self.faulty >= (2 if self.entity is Entity.NODES else 3)
            case _:
                # Nothing waits any more, and nobody dropped anything.
                return False


def _death(server: FakePuppetDB, certname: str) -> int:
    """Since when a node is dead for good; what expired may have newer data elsewhere."""
    node = server.nodes[certname]
    expired = node.expired if server.liveness(certname) == "gone" else None
    return max((flag for flag in (node.deactivated, expired) if flag is not None), default=-1)


def _certname(server: FakePuppetDB, entity: Entity, key: str) -> str:
    return str(server.tables["reports"][key]["certname"]) if entity is Entity.REPORTS else key


def _versions(server: FakePuppetDB, entity: Entity) -> dict[str, Version]:
    match entity:
        case Entity.NODES:
            flags = ((name, node.deactivated) for name, node in server.nodes.items())
            return {name: Version(flag, "") for name, flag in flags if flag is not None}
        case Entity.EXPIRATION:
            return {
                name: Version(to_millis(node.expires_facts_updated), str(node.expires_facts).lower())
                for name, node in server.nodes.items()
                if node.expires_facts_updated is not None
            }
    table, hashed, uuid = {
        Entity.FACTS: ("factsets", "hash", ""),
        Entity.CATALOGS: ("catalogs", "hash", "transaction_uuid"),
        Entity.INPUTS: ("catalog-inputs", "catalog_uuid", ""),
        Entity.REPORTS: ("reports", "hash", ""),
    }[entity]
    return {
        key: Version(to_millis(row["producer_timestamp"]), row[hashed], row.get(uuid) or "")
        for key, row in server.tables[table].items()
    }
