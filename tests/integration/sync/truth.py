"""What two PuppetDBs hold, by SQL on their databases: nothing of pdbclient has a part in the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pdbclient.lab import Lab
from pdbclient.sync import Entity

from ..schema import flags_table

__all__ = ["Difference", "HeldRecord", "differences", "held", "same_facts"]

_MILLIS = "floor(extract(epoch from {}) * 1000)::bigint"
_HASH = "encode({}, 'hex')"

# Key, node, producer timestamp (ms), and what tells one content from another.
_QUERIES = {
    Entity.NODES: f"select certname, certname, {_MILLIS.format('deactivated')}, '' from {{flags}}"
    " where deactivated is not null",
    Entity.EXPIRATION: f"select c.certname, c.certname, {_MILLIS.format('e.updated')}, e.expire::text"
    " from certname_fact_expiration e join certnames c on c.id = e.certid",
    Entity.FACTS: f"select certname, certname, {_MILLIS.format('producer_timestamp')}, {_HASH.format('hash')}"
    " from factsets",
    Entity.CATALOGS: f"select certname, certname, {_MILLIS.format('producer_timestamp')},"
    f" concat_ws(' ', {_HASH.format('hash')}, transaction_uuid, catalog_uuid, environment, code_id, job_id,"
    " catalog_version) from catalogs c left join environments e on e.id = c.environment_id",
    Entity.INPUTS: f"select c.certname, c.certname, {_MILLIS.format('c.catalog_inputs_timestamp')},"
    " c.catalog_inputs_uuid || ' ' || string_agg(i.type || '=' || i.name, ',' order by i.type, i.name)"
    " from certnames c join catalog_inputs i on i.certname_id = c.id group by 1, 2, 3, c.catalog_inputs_uuid",
    Entity.REPORTS: f"select {_HASH.format('hash')}, certname, {_MILLIS.format('producer_timestamp')}, ''"
    " from reports",
}

# Which fact is in which of the two columns depends on how often the server saw it change.
_FACTS = """
select f.certname, (coalesce(f.stable, '{}') || coalesce(f.volatile, '{}'))::text,
    (select string_agg(concat_ws(' ', p.name, p.version, p.provider), ',' order by p.name, p.version, p.provider)
        from certname_packages cp join packages p on p.id = cp.package_id where cp.certname_id = c.id)
from factsets f join certnames c on c.certname = f.certname
"""


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """One record. `millis` is its producer timestamp, for a node that of its deactivation."""

    certname: str
    millis: int
    content: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is not the same on both sides; None: that side has none."""

    entity: Entity
    key: str
    here: HeldRecord | None
    there: HeldRecord | None

    @property
    def certname(self) -> str:
        """The node."""
        held = self.here or self.there
        assert held is not None
        return held.certname

    @property
    def tied(self) -> bool:
        """Whether both sides have one, of the same time."""
        return self.here is not None and self.there is not None and self.here.millis == self.there.millis


def held(lab: Lab, name: str) -> Mapping[Entity, Mapping[str, HeldRecord]]:
    """All that a server holds, by entity and key (certname, or a report's hash)."""
    statements = {**_QUERIES, Entity.NODES: _QUERIES[Entity.NODES].format(flags=flags_table(lab, name))}
    return {
        entity: {
            key: HeldRecord(certname, int(millis), content)
            for key, certname, millis, content in lab.sql(name, statement)
        }
        for entity, statement in statements.items()
    }


def differences(lab: Lab, here: str, there: str) -> Iterator[Difference]:
    """All records that are not the same on both servers."""
    ours, theirs = held(lab, here), held(lab, there)
    for entity in Entity:
        for key in sorted(ours[entity].keys() | theirs[entity].keys()):
            pair = ours[entity].get(key), theirs[entity].get(key)
            if pair[0] != pair[1]:
                yield Difference(entity, key, *pair)


def same_facts(lab: Lab, here: str, there: str) -> frozenset[str]:
    """The nodes whose facts and packages are the same on both servers, whatever the hashes of their factsets."""
    ours, theirs = lab.sql(here, _FACTS), lab.sql(there, _FACTS)
    return frozenset(row[0] for row in set(ours) & set(theirs))
