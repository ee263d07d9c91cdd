"""The rows of summary queries: what a PuppetDB holds, without the records themselves.

A certname may be None in all of them: servers before 7.9 stored records without one (PDB-5282), and one such
row is no reason to give up a listing.
"""

from __future__ import annotations

import re

from msgspec import Struct, field

from pdbclient.wire.timestamp import from_millis, to_millis

__all__ = [
    "HOUR_FORMAT",
    "MINUTE_FORMAT",
    "CatalogInputsSummary",
    "CatalogSummary",
    "ExpirationSummary",
    "FactsetSummary",
    "HourBucket",
    "NodeSummary",
    "ReceivedReport",
    "ReportSummary",
    "StoredFactset",
    "StoredReport",
    "from_millis",
    "to_millis",
]

HOUR_FORMAT = 'YYYY-MM-DD"T"HH24 OF'
"""PostgreSQL's format of an hour's label: in the zone of the server's JVM, hence with the offset."""
MINUTE_FORMAT = 'YYYY-MM-DD"T"HH24:MI OF'
"""The same of a minute."""

_LABEL = re.compile(r"(\d{4,9}-\d\d-\d\dT\d\d)(?::(\d\d))? ([+-]\d\d)(?::(\d\d))?", re.ASCII).fullmatch


class CatalogSummary(Struct, frozen=True, gc=False):
    """`hash` covers the resources and edges, and nothing that comes after it here."""

    certname: str | None
    hash: str
    producer_timestamp: str
    transaction_uuid: str | None = None
    catalog_uuid: str | None = None
    environment: str | None = None
    code_id: str | None = None
    job_id: str | None = None
    version: str | None = None
    producer: str | None = None


class FactsetSummary(Struct, frozen=True, gc=False):
    """`hash` covers the values, the environment and the packages."""

    certname: str | None
    hash: str
    producer_timestamp: str
    producer: str | None = None


class ReportSummary(Struct, frozen=True, gc=False):
    """A report is immutable: its hash is its identity."""

    hash: str
    certname: str | None
    producer_timestamp: str


class ReceivedReport(Struct, frozen=True, gc=False):
    """A report with when its server got it, by that server's clock."""

    hash: str
    certname: str | None
    producer_timestamp: str
    receive_time: str


class StoredReport(Struct, frozen=True, gc=False):
    """Which report a server has, and when it got it, by its own clock."""

    hash: str
    receive_time: str


class StoredFactset(Struct, frozen=True, gc=False):
    """Which facts a server has of a node, and when it got them (`timestamp`), by its own clock."""

    certname: str | None
    hash: str | None
    producer_timestamp: str | None
    timestamp: str


class CatalogInputsSummary(Struct, frozen=True, gc=False):
    """PuppetDB shows no hash of the inputs."""

    certname: str | None
    catalog_uuid: str | None
    producer_timestamp: str


class ExpirationSummary(Struct, frozen=True, gc=False):
    """Whether a node's facts expire, for nodes where that was configured; `expires_facts_updated` is its time."""

    certname: str | None
    expires_facts: bool
    expires_facts_updated: str


class NodeSummary(Struct, frozen=True, gc=False):
    """A node's status: active when both are None, else since when it is not."""

    certname: str | None
    deactivated: str | None = None
    expired: str | None = None


class HourBucket(Struct, frozen=True, gc=False):
    """The records of one hour, or minute: how many, and marks that change when one is added: the least and greatest
    hash, and the newest time; where no hash is shown, the oldest and the newest time.

    Equal marks do not prove equal contents. `label` is the hour in the server's own zone (`HOUR_FORMAT`).
    """

    label: str = field(name="to_string")
    count: int
    min_hash: str = field(name="min")
    max_hash: str = field(name="max")
    max_producer_timestamp: str = field(name="max_2", default="")

    @property
    def start(self) -> int:
        """Its beginning in milliseconds since 1970. Raises ValueError for a label in another format.

        In a zone that is not whole hours from UTC this is no full UTC hour: such buckets cannot be compared
        with those of a server elsewhere.
        """
        found = _LABEL(self.label)
        if found is None:
            raise ValueError(f"{self.label!r} is not an hour in the format {HOUR_FORMAT}")
        hour, minute, zone, minutes = found.groups()
        return to_millis(f"{hour}:{minute or '00'}:00{zone}:{minutes or '00'}")
