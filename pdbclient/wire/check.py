"""What PuppetDB would refuse in a command's payload, found before it is sent.

The server answers 200 to a payload that it will never store: the refusal goes to its log and its dead letter
office. So the client asks the same questions first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from pdbclient.wire import schema, timestamp
from pdbclient.wire.plain import PayloadError, holds_unstorable, is_plain, shown

__all__ = ["VERSIONS", "check"]

VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        "replace catalog": 9,
        "replace catalog inputs": 1,
        "replace facts": 5,
        "store report": 8,
        "deactivate node": 3,
        "configure expiration": 1,
    }
)
"""The commands, each with the version in which this package sends it: the latest of PuppetDB 6 and up."""

MAX_FACT_NAME = 1024
"""Characters: a column of the database. Facts with a longer name would be tried again and again, and never stored."""

T = TypeVar("T")

# Every tag of a catalog in one match, one a line; other tags are looked at one by one, for the Unicode
# letters.
_ASCII_TAGS = re.compile(r"[a-z0-9_][a-z0-9_:.\-]*(?:\n[a-z0-9_][a-z0-9_:.\-]*)*").fullmatch
_TAG_CATEGORIES = frozenset({"Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No"})
_MESSAGE = re.compile(r"(?P<reason>.*?)(?: - at (?:`key` in )?`(?P<path>.*)`)?", re.DOTALL).fullmatch
_OBJECT_OR_NULL = (Mapping, type(None))
_tags = attrgetter("tags")


def check(name: str, payload: Mapping[str, object]) -> bool:
    """Check the payload of the command `name` (a key of `VERSIONS`) against its wire format.

    Returns whether all values of open type (facts, parameters, events) are plain JSON, by `is_plain`; when
    not, the caller makes the payload plain and checks again. Raises `PayloadError`.
    """
    return _CHECKS[name](payload)


def _check_catalog(payload: Mapping[str, object]) -> bool:
    catalog = _as(schema.Catalog, payload)
    known = {(r.type, r.title) for r in catalog.resources}
    if len(known) != len(catalog.resources):
        _refuse_duplicate(catalog.resources)
    for at, edge in enumerate(catalog.edges):
        source, target = edge.source, edge.target
        if (source.type, source.title) not in known:
            raise PayloadError(f"$.edges[{at}].source", f"{source.type}[{source.title}] is not in the catalog")
        if (target.type, target.title) not in known:
            raise PayloadError(f"$.edges[{at}].target", f"{target.type}[{target.title}] is not in the catalog")
    _check_tags(catalog.resources)
    return _are_parameters_plain(catalog.resources)


def _check_inputs(payload: Mapping[str, object]) -> bool:
    _as(schema.CatalogInputs, payload)
    return True


def _check_facts(payload: Mapping[str, object]) -> bool:
    facts = _as(schema.Facts, payload).values
    for name in facts:
        if isinstance(name, str | bytes) and len(name) > MAX_FACT_NAME:
            reason = f"has {len(name)} characters, and PuppetDB stores names of facts up to {MAX_FACT_NAME}"
            raise PayloadError(f"$.values[{shown(name)}]", reason)
    return is_plain(facts, 1)


def _check_report(payload: Mapping[str, object]) -> bool:
    report = _as(schema.Report, payload)
    stamps = dict(_timestamps(report))  # distinct: a report repeats few stamps often
    for stamp, path in stamps.items():
        _check_timestamp(path, stamp)
    return all(is_plain(m.value) for m in report.metrics or ()) and all(
        is_plain(event.new_value, 5) and is_plain(event.old_value, 5)
        for resource in report.resources or ()
        for event in resource.events or ()
    )


def _check_deactivation(payload: Mapping[str, object]) -> bool:
    _as(schema.DeactivateNode, payload)
    return True


def _check_expiration(payload: Mapping[str, object]) -> bool:
    _as(schema.ConfigureExpiration, payload)
    return True


for _kind in (
    schema.Catalog,
    schema.CatalogInputs,
    schema.Facts,
    schema.Report,
    schema.DeactivateNode,
    schema.ConfigureExpiration,
):
    # Now and not at the first command: two threads that both meet a kind for the first time can crash msgspec.
    msgspec.json.Decoder(_kind)

_CHECKS: Mapping[str, Callable[[Mapping[str, object]], bool]] = {
    "replace catalog": _check_catalog,
    "replace catalog inputs": _check_inputs,
    "replace facts": _check_facts,
    "store report": _check_report,
    "deactivate node": _check_deactivation,
    "configure expiration": _check_expiration,
}


def _as(kind: type[T], payload: Mapping[str, object]) -> T:
    """The payload as `kind`, its certname and producer timestamp checked too, as all commands have these."""
    try:
        converted = msgspec.convert(payload, kind, strict=True)
    except msgspec.ValidationError as error:
        found = _MESSAGE(str(error))
        path, reason = (found["path"] or "$", found["reason"]) if found else ("$", str(error))
        raise PayloadError(path, reason) from error
    certname: Any = payload["certname"]
    if not certname.strip():
        raise PayloadError("$.certname", "must not be blank")
    if holds_unstorable(certname):
        raise PayloadError("$.certname", f"{certname!r} is not valid Unicode text without U+0000")
    stamp: Any = payload["producer_timestamp"]
    _check_timestamp("$.producer_timestamp", stamp)
    return converted


def _check_timestamp(path: str, text: str) -> None:
    try:
        timestamp.parse(text)
    except ValueError as error:
        raise PayloadError(path, str(error)) from error


def _timestamps(report: schema.Report) -> Iterator[tuple[str, str]]:
    yield report.start_time, "$.start_time"
    yield report.end_time, "$.end_time"
    for at, log in enumerate(report.logs or ()):
        yield log.time, f"$.logs[{at}].time"
    for at, resource in enumerate(report.resources or ()):
        yield resource.timestamp, f"$.resources[{at}].timestamp"
        for nr, event in enumerate(resource.events or ()):
            yield event.timestamp, f"$.resources[{at}].events[{nr}].timestamp"


def _are_parameters_plain(resources: list[schema.Resource]) -> bool:
    plain = True
    for at, resource in enumerate(resources):
        parameters = resource.parameters
        if type(parameters) is not dict and not isinstance(parameters, _OBJECT_OR_NULL):
            kind = type(parameters).__name__
            raise PayloadError(f"$.resources[{at}].parameters", f"Expected `object | null`, got `{kind}`")
        plain = plain and is_plain(parameters, 3)
    return plain


def _check_tags(resources: list[schema.Resource]) -> None:
    tags: set[str] = set().union(*map(_tags, resources))
    joined = "\n".join(tags)
    if not tags or (_ASCII_TAGS(joined) and joined.count("\n") == len(tags) - 1):
        return
    bad = next((tag for tag in tags if not _is_tag(tag)), None)
    if bad is None:
        return
    at, nr = next((at, r.tags.index(bad)) for at, r in enumerate(resources) if bad in r.tags)
    raise PayloadError(
        f"$.resources[{at}].tags[{nr}]",
        f"{bad!r:.80} is not a tag: lower-case letters, digits and _, after the first also : . -",
    )


def _is_tag(tag: str) -> bool:
    """The server's rule: numbers, `_`, letters not in upper case; from the second on also `:`, `.`, `-`."""
    return bool(tag) and all(
        char == "_" or (at > 0 and char in ":.-") or unicodedata.category(char) in _TAG_CATEGORIES
        for at, char in enumerate(tag)
    )


def _refuse_duplicate(resources: list[schema.Resource]) -> None:
    """Name the second of two resources; the caller has found that there are two."""
    keys = [(resource.type, resource.title) for resource in resources]
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    at = next(at for at, key in enumerate(keys) if first[key] != at)
    raise PayloadError(f"$.resources[{at}]", f"{keys[at][0]}[{keys[at][1]}] is in the catalog twice")
