"""How each kind of record is asked for, read and made into a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from pdbclient.sync.model import Entity, Version
from pdbclient.wire import query, record
from pdbclient.wire.command import Command
from pdbclient.wire.summary import CatalogSummary, FactsetSummary, ReportSummary, to_millis

__all__ = ["CATALOGS", "FACTS", "REPORTS", "Kind", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a summary row, or the same fields of a full row, says. `key` is a certname, or a report's hash."""

    key: str
    certname: str
    version: Version


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record. `read` and `command` take a row's bytes; `records` and `summaries` make queries for
    keys.
    """

    entity: Entity
    path: str
    read: Callable[[bytes], Summary]
    command: Callable[[bytes], Command]
    records: Callable[[Sequence[str]], query.Ast]
    summaries: Callable[[Sequence[str]], query.Ast]
    params: Mapping[str, str] = field(default_factory=dict)


_factset = msgspec.json.Decoder(FactsetSummary).decode
_catalog = msgspec.json.Decoder(CatalogSummary).decode
_report = msgspec.json.Decoder(ReportSummary).decode


def _read_factset(row: bytes) -> Summary:
    found = _factset(row)
    return Summary(found.certname, found.certname, Version(to_millis(found.producer_timestamp), found.hash))


def _read_catalog(row: bytes) -> Summary:
    found = _catalog(row)
    version = Version(to_millis(found.producer_timestamp), found.hash, found.transaction_uuid or "")
    return Summary(found.certname, found.certname, version)


def _read_report(row: bytes) -> Summary:
    found = _report(row)
    return Summary(found.hash, found.certname, Version(to_millis(found.producer_timestamp), found.hash))


def _extract(columns: Sequence[str], clause: query.Ast) -> query.Ast:
    return ["extract", list(columns), clause]


FACTS = Kind(
    Entity.FACTS,
    "/factsets",
    _read_factset,
    record.factset_command,
    lambda keys: query.by_certnames("factsets", keys),
    lambda keys: _extract(FactsetSummary.__struct_fields__, query.by_certnames("factsets", keys)),
    # The hash covers the packages, and a factset submitted without them would wipe those at the destination.
    {"include_package_inventory": "true"},
)
CATALOGS = Kind(
    Entity.CATALOGS,
    "/catalogs",
    _read_catalog,
    record.catalog_command,
    lambda keys: query.by_certnames("catalogs", keys),
    lambda keys: _extract(CatalogSummary.__struct_fields__, query.by_certnames("catalogs", keys)),
)
REPORTS = Kind(
    Entity.REPORTS,
    "/reports",
    _read_report,
    record.report_command,
    query.by_hashes,
    lambda keys: _extract(ReportSummary.__struct_fields__, query.by_hashes(keys)),
)
