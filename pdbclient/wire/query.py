"""Builders of PuppetDB queries in AST form.

Each gives the AST for the endpoint of its entity (`/pdb/query/v4/<entity>`); `rooted` makes it one for the
root endpoint. Every query says which nodes it means, and which types of report: the defaults differ from
endpoint to endpoint, and hide inactive nodes in some and plan reports in others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import quote

from pdbclient.wire.collector import Filter, InvalidQuery, filter_ast
from pdbclient.wire.summary import HOUR_FORMAT, CatalogSummary, FactsetSummary

__all__ = [
    "Ast",
    "InvalidQuery",
    "QueryText",
    "Range",
    "address",
    "by_certnames",
    "by_hashes",
    "catalog_inputs_summary",
    "catalog_summary",
    "checked",
    "exported_resources",
    "facts_expiration",
    "factset_summary",
    "in_ranges",
    "node_count",
    "nodes_named",
    "nodes_not_active",
    "nodes_summary",
    "packages_of",
    "parse_ast",
    "record_buckets",
    "report_count",
    "report_hashes",
    "report_hour_buckets",
    "report_keys",
    "report_outcomes",
    "report_summaries",
    "reports_received",
    "resource_type",
    "rooted",
    "stored_factsets",
    "stored_reports",
]

Ast: TypeAlias = list[Any]
QueryText: TypeAlias = str | Ast
"""A query in PQL or AST form."""

Range: TypeAlias = tuple[str, str]
"""Two producer timestamps: from the first one up to, not including, the other."""

NODE_COLUMNS = ("certname", "deactivated", "expired")

_KEPT = "!#$%&'()*+,/:;=?@[]~"

_TYPE = re.compile(r"(?:::)?[A-Za-z][A-Za-z0-9_]*(?:::[A-Za-z][A-Za-z0-9_]*)*", re.ASCII).fullmatch
_STATES = ("active", "inactive", "any")
_ANY_TYPE = ["=", "type", "any"]
_MAX_DEPTH = 500
"""Lists of a query inside one another. PuppetDB 8.4.1 answers 300 of them, and 500 with an internal error.

Said here, because Python does not say it: how deep it parses and writes JSON differs from 3.11 to 3.13 tenfold.
"""
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)


def checked(query: QueryText) -> QueryText:
    """`query` itself when it can be one: PQL that is not blank, or a list that begins with an operator.

    Raises `InvalidQuery`, also for one that is nested too deep for PuppetDB, which takes an empty query for
    "everything", which nobody means.
    """
    if isinstance(query, str):
        if not query.strip():
            raise InvalidQuery("the query is empty")
        return query
    if not isinstance(query, list):
        raise InvalidQuery(f"a query is a PQL string or an AST list, not {type(query).__name__}")
    if not query or not isinstance(query[0], str):
        raise InvalidQuery("an AST query is a list that begins with an operator, like ['=', 'certname', 'a']")
    level: list[object] = [query]
    for _ in range(_MAX_DEPTH):
        level = [item for container in level for item in _items(container)]
        if not level:
            return query
    raise InvalidQuery("this AST query is nested too deep")


def address(path: str) -> str:
    """`path` below `/pdb/query/v4/`: its escapes stay, what cannot stand in an address is escaped.

    Raises `InvalidQuery` for what no address can have in it.
    """
    try:
        return quote(path.strip("/"), safe=_KEPT)
    except UnicodeEncodeError as error:
        raise InvalidQuery(f"the address {path!r:.80} has half a character in it (a lone surrogate)") from error


def _items(container: object) -> Iterator[object]:
    """The containers that lie in this one."""
    for item in container.values() if isinstance(container, dict) else cast("Iterable[object]", container):
        if isinstance(item, list | tuple | dict):
            yield item


def parse_ast(text: str) -> Ast:
    """The AST that is written there as JSON. Raises `InvalidQuery` where there is none."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise InvalidQuery("this AST query is nested too deep")
    try:
        ast: Ast = json.loads(text)
    except ValueError as error:
        raise InvalidQuery(f"this AST query is not JSON: {error}") from error
    return ast


def rooted(entity: str, ast: Ast) -> Ast:
    """`ast`, made for the endpoint of `entity`, as a query for the root endpoint. `entity` as in the URL."""
    return ["from", entity.replace("-", "_"), ast]


def resource_type(name: str) -> str:
    """A type's name as PuppetDB stores it: `foo::bar` is `Foo::Bar`. Raises `InvalidQuery`."""
    if not _TYPE(name):
        raise InvalidQuery(f"{name!r} is not the name of a resource type")
    return "::".join(part[:1].upper() + part[1:] for part in name.removeprefix("::").split("::"))


def exported_resources(type_name: str, filters: Filter | None, for_certname: str) -> Ast:
    """For `resources`: what the collector `Type <<| filters |>>` in the catalog of `for_certname` takes.

    It is the query of the stock terminus: exported resources of the type, of all other active nodes, that
    match `filters` (as `parse_collector` gives them, or nested lists of the same form; None: all). Raises
    `InvalidQuery`.
    """
    ast: Ast = [
        "and",
        ["=", "type", resource_type(type_name)],
        ["=", "exported", True],
        ["not", ["=", "certname", for_certname]],
    ]
    if filters is not None:
        ast.append(filter_ast(filters))
    return ast


def factset_summary(state: str = "active") -> Ast:
    """For `factsets`: rows of `FactsetSummary`, of the nodes in `state` (active, inactive, any)."""
    return _extract(FactsetSummary.__struct_fields__, _state(state))


def catalog_summary(state: str = "active") -> Ast:
    """For `catalogs`: rows of `CatalogSummary`, of the nodes in `state` (active, inactive, any)."""
    return _extract(CatalogSummary.__struct_fields__, _state(state))


def catalog_inputs_summary(state: str = "active") -> Ast:
    """For `catalog-inputs`: rows of `CatalogInputsSummary`, of the nodes in `state`."""
    return _extract(["certname", "catalog_uuid", "producer_timestamp"], _state(state))


def nodes_summary(state: str) -> Ast:
    """For `nodes`: rows of `NodeSummary` of the nodes in `state` (active, inactive, any).

    A node that is in `any` but neither active nor inactive waits to be purged.
    """
    return _extract(NODE_COLUMNS, _state(state))


def nodes_not_active() -> Ast:
    """For `nodes`: rows of `NodeSummary` of those that were deactivated or have expired."""
    flagged = ["or", *(["null?", flag, False] for flag in ("deactivated", "expired"))]
    return _extract(NODE_COLUMNS, ["and", _state("any"), flagged])


def nodes_named(certnames: Iterable[str]) -> Ast:
    """For `nodes`: rows of `NodeSummary` of those of `certnames` that are there, in whatever state."""
    return _extract(NODE_COLUMNS, by_certnames("nodes", certnames))


def node_count() -> Ast:
    """For `nodes`: one row, with the `count` of all."""
    return ["extract", [["function", "count"]], _state("any")]


def facts_expiration(certnames: Iterable[str] | None = None) -> Ast:
    """For `nodes`, with `include_facts_expiration=true`: nodes (of `certnames`) with a configured expiration."""
    configured = ["and", _state("any"), ["null?", "expires_facts_updated", False]]
    return configured if certnames is None else [*configured, _in("certname", certnames)]


def report_hour_buckets(start: str, end: str | None) -> Ast:
    """For `reports`: rows of `HourBucket` produced from `start` up to, not including, `end` (None: without end)."""
    return _buckets(HOUR_FORMAT, "hash", _during(start, end))


def record_buckets(label: str, marks: str, ranges: Sequence[Range] = ()) -> Ast:
    """For `factsets`, `catalogs` or `catalog-inputs`: rows of `HourBucket`, of all nodes, for each `label`
    (`HOUR_FORMAT`, `MINUTE_FORMAT`), with the least and the greatest of the column `marks`; only of what was produced
    in one of the `ranges`, if there are any.
    """
    return _buckets(label, marks, ["and", _state("any"), *_in_ranges(ranges)])


def in_ranges(listing: Ast, ranges: Sequence[Range]) -> Ast:
    """`listing`, a query like `factset_summary`, for what was produced in one of the `ranges`."""
    extract, columns, condition = listing
    return [extract, columns, ["and", condition, *_in_ranges(ranges)]]


def report_count(start: str, end: str) -> Ast:
    """For `reports`: one row, with the `count` of those produced from `start` up to, not including, `end`."""
    return ["extract", [["function", "count"]], _during(start, end)]


def report_hashes(start: str, end: str | None) -> Ast:
    """For `reports`: rows of `ReportSummary` produced from `start` up to, not including, `end` (None: no end)."""
    return _extract(["hash", "certname", "producer_timestamp"], _during(start, end))


def report_keys(start: str, end: str | None) -> Ast:
    """For `reports`: the hashes alone of those produced from `start` up to `end`, as `report_hashes`."""
    return _extract(["hash"], _during(start, end))


def report_outcomes(start: str, end: str | None) -> Ast:
    """For `reports`: as `report_keys`, with what a hash does not cover and can be listed."""
    beside = ("status", "noop", "noop_pending", "corrective_change", "cached_catalog_status", "environment")
    return _extract(["hash", *beside], _during(start, end))


def report_summaries(hashes: Iterable[str], start: str, end: str | None) -> Ast:
    """For `reports`: as `report_hashes`, of those of `hashes` that are there."""
    return _extract(["hash", "certname", "producer_timestamp"], by_hashes(hashes, start, end))


def reports_received(since: str | None, start: str) -> Ast:
    """For `reports`: rows of `ReceivedReport`, of those that the server received from `since` on (None: ever), by
    its own clock, and that were produced from `start` on.

    No index helps with the first bound: the second one says which days are read at all.
    """
    condition = ["and", _ANY_TYPE, _state("any"), [">=", "producer_timestamp", start]]
    if since is not None:
        condition.append([">=", "receive_time", since])
    return _extract(["hash", "certname", "producer_timestamp", "receive_time"], condition)


def stored_reports() -> Ast:
    """For `reports`: rows of `StoredReport`, of all; to be asked with a limit."""
    return _extract(["hash", "receive_time"], ["and", _ANY_TYPE, _state("any")])


def stored_factsets() -> Ast:
    """For `factsets`: rows of `StoredFactset`, of all; to be asked with a limit."""
    return _extract(["certname", "hash", "producer_timestamp", "timestamp"], _state("any"))


def by_certnames(entity: str, certnames: Iterable[str]) -> Ast:
    """The full rows of these nodes, whatever their state, from `entity` (catalogs, factsets, nodes, …)."""
    clause = ["and", _in("certname", certnames), _state("any")]
    return [*clause, _ANY_TYPE] if entity == "reports" else clause


def packages_of(certnames: Iterable[str]) -> Ast:
    """For `package-inventory`: the packages of these nodes, whatever their state, a row each."""
    columns = ["certname", "package_name", "version", "provider"]
    return _extract(columns, by_certnames("package_inventory", certnames))


def by_hashes(hashes: Iterable[str], start: str | None = None, end: str | None = None) -> Ast:
    """For `reports`: the full rows of these hashes.

    Give the bounds of the producer timestamp, when known: the server then looks into those days only.
    """
    if start is None:
        return ["and", _in("hash", hashes), _ANY_TYPE, _state("any")]
    return ["and", _in("hash", hashes), *_during(start, end)[1:]]


def _buckets(label: str, marks: str, condition: Ast) -> Ast:
    group = ["function", "to_string", "producer_timestamp", label]
    columns: Ast = [group, ["function", "count"], ["function", "min", marks], ["function", "max", marks]]
    if marks != "producer_timestamp":
        columns.append(["function", "max", "producer_timestamp"])
    return ["extract", columns, condition, ["group_by", group]]


def _in_ranges(ranges: Sequence[Range]) -> list[Ast]:
    either = [["and", [">=", "producer_timestamp", start], ["<", "producer_timestamp", end]] for start, end in ranges]
    return [["or", *either]] if either else []


def _extract(columns: Sequence[str], condition: Ast) -> Ast:
    return ["extract", list(columns), condition]


def _state(state: str) -> Ast:
    if state not in _STATES:
        raise InvalidQuery(f"a node's state is one of {', '.join(_STATES)}, not {state!r}")
    return ["=", "node_state", state]


def _during(start: str, end: str | None) -> Ast:
    before = [] if end is None else [["<", "producer_timestamp", end]]
    return ["and", _ANY_TYPE, _state("any"), [">=", "producer_timestamp", start], *before]


def _in(column: str, values: Iterable[str]) -> Ast:
    return ["in", column, ["array", list(values)]]
