"""A record of one PuppetDB, as its query API returns it, into the command that stores the same in another.

What the server hashes (values, numbers, timestamps) passes as the text it came in. Nothing is checked beyond
the shape: a PuppetDB has taken the record once already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from pdbclient.errors import InvalidCommand, NotPreserved
from pdbclient.wire import rows, timestamp
from pdbclient.wire.check import VERSIONS
from pdbclient.wire.command import Command
from pdbclient.wire.report_hash import report_hash

__all__ = [
    "catalog_command",
    "catalog_inputs_command",
    "deactivation_command",
    "expiration_command",
    "factset_command",
    "report_command",
]

T = TypeVar("T")

_HASHED_TIMES = ("producer_timestamp", "end_time", "start_time")

_encode = msgspec.json.Encoder().encode
# Made here and not when first used: two threads that both meet a kind of row for the first time can crash msgspec.
_read_catalog = msgspec.json.Decoder(rows.CatalogRow).decode
_read_facts = msgspec.json.Decoder(rows.FactsetRow).decode
_read_report = msgspec.json.Decoder(rows.ReportRow).decode
_read_inputs = msgspec.json.Decoder(rows.CatalogInputsRow).decode
_read_expiration = msgspec.json.Decoder(rows.ExpirationRow).decode


def catalog_command(row: bytes) -> Command:
    """`replace catalog` from a row of `catalogs`. Raises `InvalidCommand` when the row has not its shape."""
    return _command("replace catalog", row, _read_catalog, _catalog)


def factset_command(row: bytes) -> Command:
    """`replace facts` from a row of `factsets`, packages included when the row has them.

    A row without its packages (`include_package_inventory=true`), copied, deletes them at the destination. Raises
    `InvalidCommand` when the row has not its shape.
    """
    return _command("replace facts", row, _read_facts, _facts)


def report_command(row: bytes) -> Command:
    """`store report` from a row of `reports`: the same report, which gets the same hash at any server.

    A server that keeps microseconds hashes a time cut to milliseconds and shows it rounded; a uuid in capitals is
    hashed as it came and shown in small letters. The command has what was hashed, as the row's hash tells.
    Resources without an event are lost: the open-source server does not keep them. Raises `InvalidCommand` when the
    row has not its shape, and `NotPreserved` when a copy would be another report.
    """
    return _command("store report", row, _read_report, _report)


def catalog_inputs_command(row: bytes) -> Command:
    """`replace catalog inputs` from a row of `catalog-inputs`. Raises `InvalidCommand`."""
    return _command("replace catalog inputs", row, _read_inputs, _inputs)


def expiration_command(row: bytes) -> Command:
    """`configure expiration` from a row of `nodes` that has it (`expires_facts_updated` is not null).

    Ask with `include_facts_expiration=true`. Raises `InvalidCommand`.
    """
    return _command("configure expiration", row, _read_expiration, _expiration)


def deactivation_command(certname: str, deactivated: str) -> Command:
    """`deactivate node` as of `deactivated`, the other PuppetDB's word. Raises `InvalidCommand`."""
    name = "deactivate node"
    payload: dict[str, object] = {"certname": certname, "producer_timestamp": deactivated}
    return _ready(name, certname, deactivated, payload)


def _command(name: str, row: bytes, read: Callable[[bytes], T], build: Callable[[T], dict[str, object]]) -> Command:
    try:
        if not row.isascii():
            row.decode("utf-8")  # the decoder passes over text that it does not keep, or keeps as it is
        payload = build(read(row))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason, _, path = str(error).partition(" - at ")
        where = path.strip("`") or "$"
        raise InvalidCommand(name, _certname(row), where, f"not a record of this kind: {reason}") from error
    return _ready(name, payload["certname"], payload["producer_timestamp"], payload)


def _ready(name: str, certname: Any, stamp: Any, payload: dict[str, object]) -> Command:
    try:
        utc = timestamp.to_utc(stamp)
    except ValueError as error:
        raise InvalidCommand(name, certname, "$.producer_timestamp", str(error)) from error
    return Command.ready(name, VERSIONS[name], certname, utc, _encode(payload))


def _certname(row: bytes) -> str:
    """Whose broken record this is, if that can still be read."""
    try:
        members = msgspec.json.decode(row, type=dict[str, Raw])
        return str(msgspec.json.decode(members["certname"]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return "?"


def _catalog(row: rows.CatalogRow) -> dict[str, object]:
    return {
        "certname": row.certname,
        "version": row.version,
        "environment": row.environment,
        "transaction_uuid": row.transaction_uuid,
        "catalog_uuid": row.catalog_uuid,
        "code_id": row.code_id,
        "job_id": row.job_id,
        "producer": row.producer,
        "producer_timestamp": row.producer_timestamp,
        "resources": row.resources.data or [],
        "edges": [
            {
                "source": {"type": edge.source_type, "title": edge.source_title},
                "target": {"type": edge.target_type, "title": edge.target_title},
                "relationship": edge.relationship,
            }
            for edge in row.edges.data or ()
        ],
    }


def _facts(row: rows.FactsetRow) -> dict[str, object]:
    payload: dict[str, object] = {
        "certname": row.certname,
        "environment": row.environment,
        "producer_timestamp": row.producer_timestamp,
        "producer": row.producer,
        "values": {fact.name: fact.value for fact in row.facts.data or ()},
    }
    if row.package_inventory:
        payload["package_inventory"] = row.package_inventory
    return payload


def _report(row: rows.ReportRow) -> dict[str, object]:
    payload: dict[str, object] = {
        name: getattr(row, name)
        for name in row.__struct_fields__
        if name not in ("resource_events", "metrics", "logs", "type", "hash")
    }
    if row.hash is not None:
        payload |= _as_hashed(payload, row.hash)
    payload["metrics"] = row.metrics.data
    payload["logs"] = row.logs.data
    payload["resources"] = _resources(row.resource_events.data or ())
    if row.type is not None:  # optional on the wire, but not nullable
        payload["type"] = row.type
    return payload


def _as_hashed(payload: Mapping[str, object], wanted: str) -> dict[str, object]:
    """What of a report is to be read otherwise than it is shown, so that its hash is `wanted`."""
    certname = str(payload["certname"])
    try:
        for changed in _readings(payload):
            if report_hash({**payload, **changed}) == wanted:
                return changed
    except ValueError as error:
        raise InvalidCommand("store report", certname, "$", str(error)) from error
    raise NotPreserved("store report", certname, "$.hash", f"a copy would not have the hash {wanted}")


def _readings(payload: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The ways in which what is shown of a report may have been hashed; as it is shown first."""
    uuid = payload["transaction_uuid"]
    for small in (True, False):
        for back in product((0, 1), repeat=len(_HASHED_TIMES)):
            changed: dict[str, object] = {
                name: timestamp.from_millis(timestamp.to_millis(str(payload[name])) - 1)
                for name, earlier in zip(_HASHED_TIMES, back, strict=True)
                if earlier
            }
            yield changed if small else {**changed, "transaction_uuid": str(uuid).upper()}
        if uuid is None:
            return


def _resources(events: Iterable[rows.EventRow]) -> list[dict[str, object]]:
    """The events gathered under their resources, in the order of first appearance."""
    grouped: dict[tuple[object, ...], dict[str, Any]] = {}
    for event in events:
        path = None if event.containment_path is None else tuple(event.containment_path)
        skipped = event.status == "skipped"
        key = (
            event.file,
            event.line,
            event.timestamp,
            event.resource_type,
            event.resource_title,
            path,
            skipped,
        )
        resource = grouped.get(key)
        if resource is None:
            resource = grouped[key] = {
                "skipped": skipped,
                "timestamp": event.timestamp,
                "resource_type": event.resource_type,
                "resource_title": event.resource_title,
                "file": event.file,
                "line": event.line,
                "containment_path": path,
                "corrective_change": None,
                "events": [],
            }
        resource["events"].append(_event(event))
    return list(grouped.values())


def _event(row: rows.EventRow) -> dict[str, object]:
    event: dict[str, object] = {
        "status": row.status,
        "timestamp": row.timestamp,
        "property": row.property,
        "old_value": row.old_value,
        "new_value": row.new_value,
        "message": row.message,
        "corrective_change": row.corrective_change,
    }
    if row.name is not msgspec.UNSET:  # servers before 6.9 do not know it
        event["name"] = row.name
    return event


def _inputs(row: rows.CatalogInputsRow) -> dict[str, object]:
    return {
        "certname": row.certname,
        "catalog_uuid": row.catalog_uuid,
        "producer_timestamp": row.producer_timestamp,
        "inputs": row.inputs,
    }


def _expiration(row: rows.ExpirationRow) -> dict[str, object]:
    return {
        "certname": row.certname,
        "expire": {"facts": row.expires_facts},
        "producer_timestamp": row.expires_facts_updated,
    }
