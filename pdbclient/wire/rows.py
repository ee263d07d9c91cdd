"""The rows of PuppetDB's query answers, as far as a command is made of them.

Values keep their exact text (`Raw`): a float that went through Python would come out as another text, and the
other PuppetDB would hash it differently. Unknown keys are ignored.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

__all__ = [
    "CatalogInputsRow",
    "CatalogRow",
    "EventRow",
    "ExpirationRow",
    "FactsetRow",
    "ReportRow",
    "ResourceRow",
]


class ResourceRow(Struct, omit_defaults=True):
    """A resource of a stored catalog; encoded again, it is the wire form: file and line only when known."""

    type: str
    title: str
    tags: Raw
    exported: bool
    parameters: Raw
    file: str | None = None
    line: int | None = None


class Resources(Struct):
    data: list[ResourceRow] | None


class EdgeRow(Struct):
    source_type: str
    source_title: str
    target_type: str
    target_title: str
    relationship: str


class Edges(Struct):
    data: list[EdgeRow] | None


class CatalogRow(Struct):
    """A row of `catalogs`. `data` must be there: its absence means that the server did not expand it."""

    certname: str
    version: str
    producer_timestamp: str
    resources: Resources
    edges: Edges
    environment: str | None = None
    transaction_uuid: str | None = None
    catalog_uuid: str | None = None
    code_id: str | None = None
    job_id: str | None = None
    producer: str | None = None


class FactRow(Struct):
    name: str
    value: Raw


class FactRows(Struct):
    data: list[FactRow] | None


class FactsetRow(Struct):
    """A row of `factsets`, asked with `include_package_inventory`, or its packages are lost in the copy."""

    certname: str
    producer_timestamp: str
    facts: FactRows
    environment: str | None = None
    producer: str | None = None
    package_inventory: list[tuple[str, str, str]] | None = None


class EventRow(Struct):
    """A row of `resource_events`: one event with the resource that it belongs to."""

    status: str
    timestamp: str
    resource_type: str
    resource_title: str
    new_value: Raw
    old_value: Raw
    property: str | None = None
    message: str | None = None
    file: str | None = None
    line: int | None = None
    containment_path: list[str] | None = None
    corrective_change: bool | None = None
    name: str | UnsetType | None = UNSET


class EventRows(Struct):
    data: list[EventRow] | None


class Json(Struct):
    """`metrics` and `logs`: stored as they came (null too), given back as they came."""

    data: Raw


class ReportRow(Struct):
    """A row of `reports`."""

    certname: str
    puppet_version: str
    report_format: int
    configuration_version: str
    start_time: str
    end_time: str
    producer_timestamp: str
    environment: str
    resource_events: EventRows
    metrics: Json
    logs: Json
    producer: str | None = None
    corrective_change: bool | None = None
    noop: bool | None = None
    noop_pending: bool | None = None
    transaction_uuid: str | None = None
    catalog_uuid: str | None = None
    code_id: str | None = None
    job_id: str | None = None
    cached_catalog_status: str | None = None
    status: str | None = None
    type: str | None = None
    hash: str | None = None


class CatalogInputsRow(Struct):
    """A row of `catalog_inputs`, which has the wire form already."""

    certname: str
    producer_timestamp: str
    catalog_uuid: str
    inputs: Raw


class ExpirationRow(Struct):
    """A row of `nodes`, asked with `include_facts_expiration`."""

    certname: str
    expires_facts: bool
    expires_facts_updated: str
