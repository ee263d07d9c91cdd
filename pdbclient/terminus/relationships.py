"""The edges of a catalog: what contains what, and the order that the relationship parameters ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pdbclient.terminus.names import NameTable, ResourceKey, flattened, server_title
from pdbclient.terminus.ruby_inspect import ruby_to_s
from pdbclient.wire.plain import PayloadError

__all__ = ["Edge", "InvalidRelationship", "Link", "Resource", "contained", "parse_reference", "synthesised"]

Edge: TypeAlias = tuple[str, str, str, str, str]
"""Type and title of the source, type and title of the target, relationship."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a relationship parameter says: `require => X` is an edge from X, to the resource that has it."""

    relationship: str
    from_owner: bool


LINKS: Mapping[str, Link] = {
    "before": Link("before", from_owner=True),
    "require": Link("required-by", from_owner=False),
    "notify": Link("notifies", from_owner=True),
    "subscribe": Link("subscription-of", from_owner=False),
}

# Capitalised segments, then a title, which may have brackets and line breaks. As with the stock terminus, a
# reference may begin at any line and nothing is asked of its end.
_CAPITALISED = re.compile(r"^[A-Z][a-z0-9_]*(?:::[A-Z][a-z0-9_]*)*\[.*\]", re.DOTALL | re.MULTILINE | re.ASCII).search
_REFERENCE = re.compile(r"^([^\[\]]+)\[(.+)\]$", re.DOTALL | re.MULTILINE).search


@dataclass(frozen=True, slots=True)
class Resource:
    """What the edges need to know of a resource; `parameters` are redacted and plain already.

    `uncollected`: exported to other nodes and not to be applied on this one. None when it is exported and the
    document does not tell.
    """

    type: str
    title: str
    parameters: Mapping[str, Any]
    uncollected: bool | None = False

    def __str__(self) -> str:
        return f"{self.type}[{self.title}]"


class InvalidRelationship(PayloadError):
    """A relationship that the stock terminus refuses, in its words. `path` is relative to the resource."""

    def __init__(self, owner: Resource, parameter: str, reference: object, why: str) -> None:
        shown = ruby_to_s(reference)
        relation = f"{owner} {{ {parameter} => {shown} }}"
        super().__init__(f".parameters.{parameter}", f"Invalid relationship: {relation}, because {shown} {why}")


def parse_reference(reference: str) -> ResourceKey | None:
    """Type and title of `Type[title]`, or None."""
    found = _REFERENCE(reference)
    return (found[1], server_title(found[1], found[2])) if found else None


def contained(edge: Mapping[str, Any]) -> Edge:
    """An edge of the document; its ends are `Type[title]` or objects. Raises `PayloadError`, path relative."""
    ends: list[str] = []
    for name in ("source", "target"):
        end = edge.get(name)
        parsed = parse_reference(end) if isinstance(end, str) else None
        if isinstance(end, Mapping):
            parsed = (str(end.get("type")), str(end.get("title")))
        if parsed is None:
            raise PayloadError(f".{name}", f"{end!r:.80} is no reference to a resource, like File[/etc/motd]")
        ends += parsed
    source_type, source_title, target_type, target_title = ends
    return source_type, source_title, target_type, target_title, str(edge.get("relationship") or "contains")


def synthesised(owner: Resource, names: NameTable, uncollected: set[ResourceKey]) -> list[Edge]:
    """The edges from the relationship parameters of `owner`.

    `uncollected` are the resources that no other may refer to. Raises `InvalidRelationship`.

    A resource that was exported and not collected has no edges, as it may refer to what only its collectors
    have. Where the document does not tell, a reference to nothing does: Puppet would not have compiled it.
    """
    if owner.uncollected:
        return []
    try:
        return list(_edges(owner, names, uncollected))
    except InvalidRelationship:
        if owner.uncollected is None:
            return []
        raise


def _edges(owner: Resource, names: NameTable, uncollected: set[ResourceKey]) -> Iterator[Edge]:
    for parameter, link in LINKS.items():
        value = owner.parameters.get(parameter)
        if value is None:
            continue
        for reference in flattened(value):
            other = _target(owner, parameter, reference, names, uncollected)
            ends = (owner.type, owner.title, *other) if link.from_owner else (*other, owner.type, owner.title)
            yield (*ends, link.relationship)


def _target(
    owner: Resource, parameter: str, reference: object, names: NameTable, uncollected: set[ResourceKey]
) -> ResourceKey:
    if not isinstance(reference, str) or _CAPITALISED(reference) is None:
        raise InvalidRelationship(
            owner,
            parameter,
            reference,
            "doesn't seem to be in the correct format. Resource references should be formatted as: "
            "Classname['title'] or Modulename::Classname['title'] (take careful note of the capitalization).",
        )
    parsed = parse_reference(reference)
    title = names.find(*parsed) if parsed else None
    if parsed is None or title is None:
        raise InvalidRelationship(owner, parameter, reference, "doesn't seem to be in the catalog")
    if (parsed[0], title) in uncollected:
        raise InvalidRelationship(owner, parameter, reference, "is exported but not collected")
    return parsed[0], title
