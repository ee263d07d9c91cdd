"""The wire formats of PuppetDB's six commands, as far as the server enforces them.

A field without a default is required; `| None` is nullable; `forbid_unknown_fields` marks the objects in
which the server refuses an unknown key (elsewhere it drops it). Values of facts, parameters and events are
`object` here and are looked at by `plain`. Columns of the database count too: a line or a UUID that
PostgreSQL cannot store passes the server's own schema and is then retried for hours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = ["Catalog", "CatalogInputs", "ConfigureExpiration", "DeactivateNode", "Event", "Facts", "Report"]

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int16 = Annotated[int, Meta(ge=-(2**15), le=2**15 - 1)]
Uuid = Annotated[str, Meta(pattern=r"\A(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}\Z")]


class ResourceSpec(Struct, forbid_unknown_fields=True, gc=False):
    """One end of an edge. An extra key would make the server look for another resource."""

    type: str
    title: str


class Edge(Struct, gc=False):
    source: ResourceSpec
    target: ResourceSpec
    relationship: Literal["contains", "required-by", "notifies", "before", "subscription-of"]


class Resource(Struct, gc=False):
    """`parameters` is an object or null: looked at by the caller, which spares a copy of each."""

    type: str
    title: str
    tags: list[str]
    exported: bool
    parameters: object = None
    file: str | None = None
    line: Int32 | None = None


class Catalog(Struct):
    """`replace catalog` 9."""

    certname: str
    version: str
    producer_timestamp: str
    producer: str | None
    catalog_uuid: Uuid | None
    code_id: str | None
    resources: list[Resource]
    edges: list[Edge]
    environment: str | None = None
    transaction_uuid: Uuid | None = None
    job_id: str | None = None


class CatalogInputs(Struct):
    """`replace catalog inputs` 1: pairs of type and name. The server takes an empty list and does nothing."""

    certname: str
    producer_timestamp: str
    catalog_uuid: Uuid
    inputs: Annotated[list[tuple[str, str]], Meta(min_length=1)]


class Facts(Struct, forbid_unknown_fields=True):
    """`replace facts` 5. `package_inventory`, when there, lists (name, version, provider)."""

    certname: str
    environment: str | None
    values: dict[Any, object]
    producer_timestamp: str
    producer: str | None
    package_inventory: list[tuple[str, str, str]] | None = None
    timestamp: str | None = None  # overwritten by the server with the time of receipt


class Event(Struct, forbid_unknown_fields=True):
    """One event of a resource in a report; its values may be any JSON."""

    status: str
    corrective_change: bool | None
    timestamp: str
    property: str | None
    new_value: object
    old_value: object
    message: str | None
    name: str | None = None


class ReportResource(Struct, forbid_unknown_fields=True):
    skipped: bool
    timestamp: str
    resource_type: str
    resource_title: str
    file: str | None
    line: Int32 | None
    containment_path: list[str] | None
    corrective_change: bool | None
    events: list[Event] | None


class Metric(Struct, forbid_unknown_fields=True, gc=False):
    category: str
    name: str
    value: int | float


class Log(Struct, forbid_unknown_fields=True):
    file: str | None
    line: int | None
    level: str
    message: str
    source: str
    tags: list[str] | None
    time: str


class Report(Struct, forbid_unknown_fields=True):
    """`store report` 8."""

    certname: str
    puppet_version: str
    report_format: Int16
    configuration_version: str
    start_time: str
    end_time: str
    producer_timestamp: str
    producer: str | None
    corrective_change: bool | None
    resources: list[ReportResource] | None
    noop: bool | None
    noop_pending: bool | None
    transaction_uuid: Uuid | None
    catalog_uuid: Uuid | None
    code_id: str | None
    cached_catalog_status: str | None
    metrics: list[Metric] | None
    logs: list[Log] | None
    environment: str
    status: str | None
    job_id: str | None = None
    type: Literal["agent", "plan"] = "agent"


class DeactivateNode(Struct, forbid_unknown_fields=True):
    """`deactivate node` 3."""

    certname: str
    producer_timestamp: str


class Expire(Struct, forbid_unknown_fields=True):
    facts: bool


class ConfigureExpiration(Struct, forbid_unknown_fields=True):
    """`configure expiration` 1: whether the node's facts may expire."""

    certname: str
    expire: Expire
    producer_timestamp: str
