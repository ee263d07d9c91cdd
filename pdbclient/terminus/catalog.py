"""A catalog as Puppet prints it -> the payload of `replace catalog`, as the stock terminus makes it.

Where the stock terminus is wrong, this is not: what is Sensitive is taken out before anything else is done with the
parameters, wherever it lies, and no relationship that Puppet itself resolves is refused (`names`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from pdbclient.errors import InvalidCommand
from pdbclient.terminus import relationships
from pdbclient.terminus.names import TYPES, NameTable, ResourceKey, TypeNames, aliases, server_title
from pdbclient.terminus.rich_data import plain_parameters
from pdbclient.terminus.ruby_characters import Ruby, ruby_of
from pdbclient.terminus.ruby_inspect import ruby_to_s
from pdbclient.wire.plain import PayloadError

__all__ = ["catalog_inputs_payload", "catalog_payload"]

_COMMAND = "replace catalog"
_UNORDERED = ("alias", "audit", "before", "check", "notify", "require", "subscribe", "tag")
"""Metaparameters whose lists say nothing by their order: sorted, so that the same catalog has the same hash."""


def catalog_payload(
    catalog: Mapping[str, object],
    *,
    producer: str | None,
    environment: str | None = None,
    transaction_uuid: str | None = None,
    job_id: str | None = None,
    include_edges: bool = True,
    puppet_version: str | None = None,
    types: Mapping[str, TypeNames] = TYPES,
) -> dict[str, object]:
    """The payload of `replace catalog` 9 without its producer timestamp, which `Command.create` puts in.

    `catalog` is what `puppet catalog compile` prints, what the agent keeps in `client_data/catalog`, or what
    Puppet Server's `/puppet/v4/catalog` answers (there under the key `catalog`). Only the last holds resources
    that were exported and not collected; a resource may have a key `virtual` that tells so (Puppet leaves it
    out), else it is guessed (`relationships.synthesised`).

    `environment` and the identifiers are the request's. The catalog's own environment is taken when none is
    given, `job_id` when the catalog has none, and the transaction's UUID when the catalog has none. Without
    `include_edges` there are no edges and no relationship is checked. `types` tells how resources are named.

    `puppet_version`, for example `7.23.0`, is that of the server whose terminus is matched, which no catalog tells;
    without one it is Puppet 8, OpenVox included. What else differs between them is told by the document itself:
    from Puppet 8 on every form of it holds rich data, before that only those that were asked for them.

    Raises `InvalidCommand` when the document is no catalog, and for a relationship to nothing or to an
    uncollected resource, in the stock terminus's words.
    """
    document = catalog.get("catalog") if "resources" not in catalog else catalog
    certname = document.get("name") if isinstance(document, Mapping) else None
    try:
        if not isinstance(document, Mapping):
            raise PayloadError("$", "is no catalog: it has no resources")
        if not isinstance(certname, str):
            raise PayloadError("$.name", f"must be the certname, not {_kind(certname)}")
        resources, edges = _resources_and_edges(document, include_edges, types, ruby_of(puppet_version))
    except PayloadError as error:
        raise InvalidCommand(_COMMAND, str(certname), error.path, error.reason) from error
    job = document.get("job_id") or job_id
    return {
        "certname": certname,
        "version": ruby_to_s(document.get("version")),
        "environment": environment if environment is not None else document.get("environment"),
        "transaction_uuid": transaction_uuid,
        "catalog_uuid": document.get("catalog_uuid") or transaction_uuid,
        "code_id": document.get("code_id"),
        "job_id": None if job is None else ruby_to_s(job),
        "producer": producer,
        "resources": resources,
        "edges": edges,
    }


def catalog_inputs_payload(certname: str, catalog_uuid: str, lookups: Iterable[str]) -> dict[str, object] | None:
    """The payload of `replace catalog inputs` 1 without its producer timestamp; None when nothing was looked up.

    `lookups` are the Hiera keys that the compiler asked for. Puppet Server's recorder has them with a count, a
    mapping whose keys will do.
    """
    inputs = [["hiera", key] for key in dict.fromkeys(lookups)]
    return {"certname": certname, "catalog_uuid": catalog_uuid, "inputs": inputs} if inputs else None


def _resources_and_edges(
    document: Mapping[str, Any], include_edges: bool, types: Mapping[str, TypeNames], ruby: Ruby
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    names = NameTable(types)
    payloads, owners = [], []
    uncollected: set[ResourceKey] = set()
    for at, resource in enumerate(_objects(document, "resources")):
        try:
            payload, owner = _resource(resource, names, ruby)
        except PayloadError as error:
            raise PayloadError(f"$.resources[{at}]{error.path}", error.reason) from error
        payloads.append(payload)
        owners.append(owner)
        if owner.uncollected:
            uncollected.add((owner.type, owner.title))
    if not include_edges:
        return payloads, []
    found: dict[relationships.Edge, None] = {}
    for at, edge in enumerate(_objects(document, "edges")):
        try:
            found[relationships.contained(edge)] = None
        except PayloadError as error:
            raise PayloadError(f"$.edges[{at}]{error.path}", error.reason) from error
    for at, owner in enumerate(owners):
        try:
            found.update(dict.fromkeys(relationships.synthesised(owner, names, uncollected)))
        except PayloadError as error:
            raise PayloadError(f"$.resources[{at}]{error.path}", error.reason) from error
    return payloads, [_wire_edge(edge) for edge in found]


def _objects(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = _list(document, key, f"$.{key}")
    for at, item in enumerate(found):
        if not isinstance(item, Mapping):
            raise PayloadError(f"$.{key}[{at}]", f"must be an object, not {_kind(item)}")
    return found


def _list(parent: Mapping[str, Any], key: str, path: str) -> list[Any]:
    """The list under `key`, empty when there is none."""
    found = parent.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise PayloadError(path, f"must be a list, not {_kind(found)}")
    return found


def _resource(
    resource: Mapping[str, Any], names: NameTable, ruby: Ruby
) -> tuple[dict[str, object], relationships.Resource]:
    """The resource's part of the payload, and what its edges need. Errors have relative paths."""
    type_name, title = resource.get("type"), resource.get("title")
    if not isinstance(type_name, str) or title is None:
        raise PayloadError("", "has no type or no title")
    title = server_title(type_name, ruby_to_s(title))
    raw = resource.get("parameters") or {}
    if not isinstance(raw, Mapping):
        raise PayloadError(".parameters", f"must be an object, not {_kind(raw)}")
    if (type_name, title) == ("Stage", "main"):
        raw = {"name": title, **raw}  # the server's own name for it, which the agent's cache leaves out
    names.add(type_name, title, raw, native=resource.get("kind") == "compilable_type")
    sensitive = set(map(str, _list(resource, "sensitive_parameters", ".sensitive_parameters")))
    parameters = _parameters(raw, sensitive, ruby)
    found = aliases(title, parameters, names.names_of(type_name))
    if found and names.names_of(type_name).namevar is not None:
        parameters["alias"] = found
    _sort_unordered(parameters, ruby)
    exported = bool(resource.get("exported"))
    payload: dict[str, object] = {
        "type": type_name,
        "title": title,
        "tags": list(_list(resource, "tags", ".tags")),
        "exported": exported,
        "parameters": parameters,
    }
    payload |= {key: resource[key] for key in ("file", "line", "kind") if resource.get(key) is not None}
    uncollected = resource.get("virtual", None if exported else False)
    return payload, relationships.Resource(type_name, title, parameters, uncollected)


def _parameters(raw: Mapping[str, Any], sensitive: set[str], ruby: Ruby) -> dict[str, Any]:
    kept = {name: value for name, value in raw.items() if name not in sensitive} if sensitive else raw
    try:
        return plain_parameters(kept, ruby)
    except PayloadError as error:
        raise PayloadError(f".parameters{error.path}", error.reason) from error


def _sort_unordered(parameters: dict[str, Any], ruby: Ruby) -> None:
    for name in _UNORDERED:
        value = parameters.get(name)
        if isinstance(value, list):
            parameters[name] = sorted(value, key=partial(ruby_to_s, ruby=ruby))


def _wire_edge(edge: relationships.Edge) -> dict[str, object]:
    source_type, source_title, target_type, target_title, relationship = edge
    return {
        "source": {"type": source_type, "title": source_title},
        "target": {"type": target_type, "title": target_title},
        "relationship": relationship,
    }


def _kind(value: object) -> str:
    """The type for a message: the value itself may be secret."""
    return "null" if value is None else type(value).__name__
