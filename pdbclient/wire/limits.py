"""What PuppetDB takes and may never store: text that is too long for an index of its database.

PostgreSQL has 2704 bytes for an entry of an index, what surrounds it included, after a compression that shortens only
what repeats itself. Whether a text fits is not known before: beyond `WARNED` bytes there is a warning. Which columns
have such an index is the same in all releases; `tests/integration/test_server_facts.py` asks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["LIMIT", "WARNED", "index_warnings"]

WARNED, LIMIT = 2500, 2704
# A character has four bytes at most: what is no longer than this needs no further look.
_SHORT = WARNED // 4
_NUMBER = 8
"""Bytes of what stands in some indexes beside the text: a timestamp, or the number of a node."""

_Long = tuple[str, int]
"""What is too long, and how many bytes it has in the index."""


def index_warnings(name: str, payload: Mapping[str, Any]) -> tuple[str, ...]:
    """A line for each text that may be too long in a payload of the command `name`: plain JSON, and checked."""
    certname, (kind, long_texts) = payload["certname"], _KINDS[name]
    common = (_measured(key, payload.get(key)) for key in ("certname", "environment", "producer", "job_id"))
    return tuple(
        f"{what} in the {kind} of {certname:.100} has {size} bytes: PuppetDB can store no more than {LIMIT}, "
        f"compressed, and may never store the {kind}"
        for what, size in (*filter(None, common), *long_texts(payload))
    ) + (tuple(_events_to_be_lost(payload)) if name == "store report" else ())


def _facts(payload: Mapping[str, Any]) -> Iterator[_Long]:
    yield from _paths(payload["values"].items(), "", 0)
    for package, _, _ in payload.get("package_inventory") or ():
        if len(package) > _SHORT and (long := _measured("package", package)):
            yield long


def _paths(items: Any, fact: str, before: int) -> Iterator[_Long]:
    """The paths of facts, whose elements have two bytes between them; `before` is what leads to these items."""
    for key, item in items:
        size = before + _size(str(key))
        if size > WARNED:
            yield f"a path of the fact {fact or key:.60}", size
        elif isinstance(item, dict):
            yield from _paths(item.items(), fact or key, size + 2)
        elif isinstance(item, list):
            yield from _paths(enumerate(item), fact or key, size + 2)


def _catalog(payload: Mapping[str, Any]) -> Iterator[_Long]:
    for resource in payload["resources"]:
        yield from _pair(resource["type"], resource["title"])
        for parameter in resource.get("parameters") or ():
            if len(parameter) > _SHORT and (long := _measured("parameter", parameter)):
                yield long


def _inputs(payload: Mapping[str, Any]) -> Iterator[_Long]:
    for kind, key in payload["inputs"]:
        yield from _pair(kind, key)


def _report(payload: Mapping[str, Any]) -> Iterator[_Long]:
    texts = [("status", payload["status"])]
    for resource in payload["resources"] or ():
        # Classes only, of which one has an index; what is not one has brackets.
        texts += [("class", part) for part in resource["containment_path"] or () if "[" not in part]
        for event in resource["events"] or ():
            texts += [("property", event["property"]), ("status", event["status"])]
    for what, text in texts:
        if text is not None and len(text) > _SHORT and (long := _measured(what, text)):
            yield long


def _events_to_be_lost(payload: Mapping[str, Any]) -> Iterator[str]:
    """Of these the stock terminus warns, too."""
    for resource in payload["resources"] or ():
        kind, title = resource["resource_type"], resource["resource_title"]
        size = _NUMBER + _size(kind) + _size(title)
        if size <= WARNED:
            continue
        what = (
            f"the type, title and timestamp of {kind}[{title:.60}…] ({resource['file']}:{resource['line']}) "
            f"in the report of {payload['certname']} have {size} bytes"
        )
        if size > LIMIT:
            yield f"{what}: PuppetDB cannot store more than {LIMIT}, and will not have its events"
        else:
            yield f"{what}, and PuppetDB can store no more than {LIMIT}"


def _nothing(_: Mapping[str, Any]) -> Iterator[_Long]:
    yield from ()


def _pair(kind: str, title: str) -> Iterator[_Long]:
    if len(kind) + len(title) > _SHORT and (size := _NUMBER + _size(kind) + _size(title)) > WARNED:
        yield f"{kind:.60}[{title:.60}…]", size


def _measured(what: str, text: str | None) -> _Long | None:
    """The text with its size, if that is too much."""
    size = 0 if text is None else _size(text)
    return (f"the {what} {text:.60}…", size) if size > WARNED else None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


_KINDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Iterator[_Long]]]] = MappingProxyType(
    {
        "replace facts": ("facts", _facts),
        "replace catalog": ("catalog", _catalog),
        "replace catalog inputs": ("catalog inputs", _inputs),
        "store report": ("report", _report),
        "deactivate node": ("deactivation", _nothing),
        "configure expiration": ("fact expiration", _nothing),
    }
)
