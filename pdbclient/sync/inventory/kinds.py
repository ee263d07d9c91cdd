"""How each kind of record is asked for, read and made into a command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import msgspec

from pdbclient.errors import IncompleteResponse
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.rows import UNREADABLE, batches, read_rows
from pdbclient.sync.policy.model import TRIES, Entity, Version
from pdbclient.wire import query, record
from pdbclient.wire.command import Command
from pdbclient.wire.summary import (
    CatalogInputsSummary,
    CatalogSummary,
    ExpirationSummary,
    FactsetSummary,
    ReportSummary,
    to_millis,
)

__all__ = ["CATALOGS", "EXPIRATION", "FACTS", "INPUTS", "PER_NODE", "REPORTS", "Kind", "Summary"]


FEW = 20
"""Nodes whose packages are in memory at once: of each there can be thousands."""


class Summary(NamedTuple):
    """What a summary row, or the same fields of a full row, says. `key` is a certname, or a report's hash.

    The certname is empty where the server has none.
    """

    key: str
    certname: str
    version: Version


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record. `read` and `command` take a row's bytes; `records` and `summaries` make queries for
    keys, `listing` is the query for the summaries of all nodes, whatever their state.

    `marks`: what tells their groups apart (`query.record_buckets`), None: they are few. `params` go with all of
    these queries. `packages`: those of its node are part of a record.
    """

    entity: Entity
    path: str
    read: Callable[[bytes], Summary]
    command: Callable[[bytes], Command]
    records: Callable[[Sequence[str]], query.Ast]
    summaries: Callable[[Sequence[str]], query.Ast]
    listing: query.Ast | None = None
    marks: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    packages: bool = False

    def rows(
        self,
        server: Server,
        keys: Sequence[str],
        left: Callable[[], float],
        known: Mapping[str, Version] | None = None,
    ) -> Iterator[bytes]:
        """The full rows of `keys` at a server, which they come from as they are read.

        `left` gives the seconds that are left for that, and raises when there are none, as `Budget.left` does.
        `known`: the versions that the server listed for `keys`; None: it is asked for them where they are needed.
        """
        if self.packages:
            asked = frozenset(keys)
            few = batches(keys, FEW)
            return chain.from_iterable(self._with_packages(server, some, asked, left, known) for some in few)
        return server.rows(self.path, query=self.records(keys), params=self.params or None, within=left())

    def _with_packages(
        self,
        server: Server,
        keys: Sequence[str],
        asked: Collection[str],
        left: Callable[[], float],
        known: Mapping[str, Version] | None,
    ) -> Iterator[bytes]:
        """As `rows`, for a few of those that are `asked` for.

        Asked to include them, PuppetDB gathers the packages of all its nodes for each question; those of a few nodes
        it finds by an index. So they are asked for by themselves: they belong to a record that is the same before and
        after. Raises `IncompleteResponse` when one of them never is.
        """
        some: Sequence[str] = keys
        before = self._versions(server, keys, left) if known is None else known
        for _ in range(TRIES):
            packages: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
            found = server.rows("/package-inventory", query=query.packages_of(some), within=left())
            for each in read_rows(server, found, _package):
                packages[each.certname].append((each.package_name, each.version, each.provider))
            replaced: dict[str, Version] = {}
            for row in list(server.rows(self.path, query=self.records(some), within=left())):
                try:
                    key, _, version = self.read(row)
                except UNREADABLE:
                    key, version = "", None
                if version is None or key not in asked:
                    # For whoever asked to judge.
                    yield row
                elif key not in some:
                    # It comes with its packages, when it is its turn, or did.
                    continue
                elif version == before.get(key):
                    yield _with_packages(row, packages[key]) if key in packages else row
                else:
                    replaced[key] = version
            if not replaced:
                return
            some, before = list(replaced), replaced
        why = f"{self.entity} of {some[0]} are others each time that they are asked for"
        raise IncompleteResponse(str(server.endpoint), why, len(keys) - len(some))

    def _versions(self, server: Server, keys: Sequence[str], left: Callable[[], float]) -> Mapping[str, Version]:
        found = server.rows(self.path, query=self.summaries(keys), within=left())
        return {each.key: each.version for each in read_rows(server, found, self.read)}


class _Package(msgspec.Struct):
    certname: str
    package_name: str
    version: str
    provider: str


# Raw: what is not changed of a row stays byte by byte what it is.
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_package = msgspec.json.Decoder(_Package).decode
_factset = msgspec.json.Decoder(FactsetSummary).decode
_catalog = msgspec.json.Decoder(CatalogSummary).decode
_inputs = msgspec.json.Decoder(CatalogInputsSummary).decode
_expiration = msgspec.json.Decoder(ExpirationSummary).decode
_report = msgspec.json.Decoder(ReportSummary).decode


def _with_packages(row: bytes, packages: Sequence[tuple[str, str, str]]) -> bytes:
    return msgspec.json.encode(_members(row) | {"package_inventory": msgspec.Raw(msgspec.json.encode(packages))})


def _read_factset(row: bytes) -> Summary:
    found = _factset(row)
    return _of_node(found.certname, found.producer_timestamp, found.hash, found.producer)


def _read_catalog(row: bytes) -> Summary:
    found = _catalog(row)
    beside = (found.catalog_uuid, found.environment, found.code_id, found.job_id, found.version, found.producer)
    run = [found.transaction_uuid or "", *(each or "" for each in beside)]
    return _of_node(found.certname, found.producer_timestamp, found.hash, "\n".join(run))


def _read_inputs(row: bytes) -> Summary:
    # No hash is shown: the catalog that the inputs belong to stands for them.
    found = _inputs(row)
    return _of_node(found.certname, found.producer_timestamp, found.catalog_uuid)


def _read_expiration(row: bytes) -> Summary:
    found = _expiration(row)
    return _of_node(found.certname, found.expires_facts_updated, "true" if found.expires_facts else "false")


def _read_report(row: bytes) -> Summary:
    found = _report(row)
    return Summary(found.hash, found.certname or "", Version(to_millis(found.producer_timestamp), found.hash))


def _of_node(certname: str | None, stamp: str, content: str | None, run: str | None = None) -> Summary:
    return Summary(certname or "", certname or "", Version(to_millis(stamp), content or "", run or ""))


def _extract(columns: Sequence[str], clause: query.Ast) -> query.Ast:
    return ["extract", list(columns), clause]


EXPIRATION = Kind(
    Entity.EXPIRATION,
    "/nodes",
    _read_expiration,
    record.expiration_command,
    # Whole nodes, which are few: from 8.5.0 on a server answers 500 when only these columns are asked for.
    query.facts_expiration,
    query.facts_expiration,
    query.facts_expiration(),
    params={"include_facts_expiration": "true"},
)
FACTS = Kind(
    Entity.FACTS,
    "/factsets",
    _read_factset,
    record.factset_command,
    lambda keys: query.by_certnames("factsets", keys),
    lambda keys: _extract(FactsetSummary.__struct_fields__, query.by_certnames("factsets", keys)),
    query.factset_summary("any"),
    marks="hash",
    # The hash covers them, and a factset submitted without them would wipe those at the destination.
    packages=True,
)
CATALOGS = Kind(
    Entity.CATALOGS,
    "/catalogs",
    _read_catalog,
    record.catalog_command,
    lambda keys: query.by_certnames("catalogs", keys),
    lambda keys: _extract(CatalogSummary.__struct_fields__, query.by_certnames("catalogs", keys)),
    query.catalog_summary("any"),
    marks="hash",
)
INPUTS = Kind(
    Entity.INPUTS,
    "/catalog-inputs",
    _read_inputs,
    record.catalog_inputs_command,
    lambda keys: query.by_certnames("catalog-inputs", keys),
    lambda keys: _extract(CatalogInputsSummary.__struct_fields__, query.by_certnames("catalog-inputs", keys)),
    query.catalog_inputs_summary("any"),
    marks="producer_timestamp",
)
REPORTS = Kind(
    Entity.REPORTS,
    "/reports",
    _read_report,
    record.report_command,
    query.by_hashes,
    lambda keys: _extract(ReportSummary.__struct_fields__, query.by_hashes(keys)),
)

PER_NODE = (EXPIRATION, FACTS, CATALOGS, INPUTS)
"""The kinds of which a node has one record each, in the order of a pass."""
