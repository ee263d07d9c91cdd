"""Realistic commands from the samples in PuppetDB's own jar, read at run time.

The jar carries what PuppetDB's benchmark sends: catalogs of 230 KB with 205 resources and 490 edges, facts
with up to 2,318 packages, reports of 80 to 135 KB. They are years old; here they become payloads of today's
wire formats, each for a node of its own.
"""

from __future__ import annotations

import ipaddress
import json
import uuid
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from pdbclient.errors import LabError

__all__ = ["Samples"]

_FOLDER = "puppetlabs/puppetdb/benchmark/samples"
_ENVIRONMENT = "production"
_PRODUCER = "puppet.example.com"
_RUN = timedelta(seconds=12)
_EVENTS_PER_REPORT = 4
_NAMESPACE = uuid.UUID("8d0f4c52-6a0e-4d0b-9d6f-4b1f6f2f7a10")

Payload = dict[str, Any]


class Samples:
    """Payloads made from the samples of one jar.

    `index` chooses the sample and varies the values that differ between real machines; the same arguments
    give the same payload, but for a `transaction_uuid` that is not given: that is new each time. Raises
    `LabError` when the jar has no samples.
    """

    def __init__(self, jar: Path) -> None:
        self._jar = jar
        self._names = _sample_names(jar)

    def catalog(
        self, certname: str, index: int, producer_timestamp: datetime, *, transaction_uuid: str | None = None
    ) -> Payload:
        """A payload of `replace catalog` 9, with two exported resources of the node (`Sshkey`, `File`)."""
        sample = self._sample("catalogs", index)
        payload = _renamed(sample, {sample["certname"]: certname})
        resources = [{"file": None, "line": None, **resource} for resource in payload["resources"]]
        exported = _exported(certname, index)
        owner = _main_class(resources)
        edges = [
            {"source": owner, "target": {"type": r["type"], "title": r["title"]}, "relationship": "contains"}
            for r in exported
        ]
        return {
            "certname": certname,
            "version": str(int(producer_timestamp.timestamp())),
            "environment": _ENVIRONMENT,
            "transaction_uuid": transaction_uuid or str(uuid.uuid4()),
            "catalog_uuid": _stable_uuid("catalog", certname, producer_timestamp),
            "code_id": None,
            "job_id": None,
            "producer_timestamp": _wire(producer_timestamp),
            "producer": _PRODUCER,
            "resources": [_without_nothing(resource) for resource in (*resources, *exported)],
            "edges": [*payload["edges"], *edges],
        }

    def facts(self, certname: str, index: int, producer_timestamp: datetime) -> Payload:
        """A payload of `replace facts` 5, with the package inventory."""
        sample = self._sample("facts", index)
        old_host, new_host = sample["certname"].partition(".")[0], certname.partition(".")[0]
        payload = _renamed(sample, {sample["certname"]: certname})
        address = str(ipaddress.IPv4Address("10.0.0.10") + index)
        octets = index.to_bytes(3, "big")
        mac = "52:54:00:" + ":".join(f"{octet:02x}" for octet in octets)
        values = {
            **payload["values"],
            "hostname": new_host if payload["values"].get("hostname") == old_host else certname,
            "domain": certname.partition(".")[2] or "example.com",
            "ipaddress": address,
            "ipaddress_eth0": address,
            "macaddress": mac,
            "macaddress_eth0": mac,
            "uuid": _stable_uuid("machine", certname, None).upper(),
            "uptime_seconds": 3600 + int(producer_timestamp.timestamp()) % 1_000_000,
        }
        return {
            "certname": certname,
            "environment": _ENVIRONMENT,
            "producer_timestamp": _wire(producer_timestamp),
            "producer": _PRODUCER,
            "values": values,
            "package_inventory": payload["package_inventory"],
        }

    def report(
        self, certname: str, index: int, producer_timestamp: datetime, *, transaction_uuid: str | None = None
    ) -> Payload:
        """A payload of `store report` 8: a run that ended just before and changed something."""
        sample = self._sample("reports", index)
        payload = _renamed(sample, {sample["certname"]: certname})
        end = producer_timestamp - timedelta(seconds=1)
        resources = [
            _resource(resource, end - _RUN + timedelta(milliseconds=10 * n), changed=n < _EVENTS_PER_REPORT)
            for n, resource in enumerate(payload["resources"])
        ]
        logs = [{**log, "time": _wire(end - timedelta(milliseconds=n))} for n, log in enumerate(payload["logs"])]
        return {
            "certname": certname,
            "puppet_version": payload["puppet_version"],
            "report_format": 10,
            "configuration_version": str(int(producer_timestamp.timestamp())),
            "start_time": _wire(end - _RUN),
            "end_time": _wire(end),
            "producer_timestamp": _wire(producer_timestamp),
            "producer": _PRODUCER,
            "environment": _ENVIRONMENT,
            "transaction_uuid": transaction_uuid or str(uuid.uuid4()),
            "catalog_uuid": _stable_uuid("catalog", certname, producer_timestamp),
            "code_id": None,
            "job_id": None,
            "cached_catalog_status": "not_used",
            "status": payload["status"],
            "noop": payload["noop"],
            "noop_pending": payload["noop_pending"],
            "corrective_change": payload["corrective_change"],
            "metrics": payload["metrics"],
            "logs": logs,
            "resources": resources,
        }

    def _sample(self, kind: str, index: int) -> Payload:
        names = self._names[kind]
        return _load(self._jar, names[index % len(names)])


def _sample_names(jar: Path) -> dict[str, tuple[str, ...]]:
    try:
        with zipfile.ZipFile(jar) as archive:
            all_names = sorted(name for name in archive.namelist() if name.endswith(".json"))
    except (OSError, zipfile.BadZipFile) as error:
        raise LabError(f"the sample data come from PuppetDB's jar, and {jar} cannot be read: {error}") from error
    names = {
        kind: tuple(name for name in all_names if name.startswith(f"{_FOLDER}/{kind}/"))
        for kind in ("catalogs", "facts", "reports")
    }
    missing = [kind for kind, found in names.items() if not found]
    if missing:
        raise LabError(f"{jar} holds no sample {', '.join(missing)} below {_FOLDER}")
    return names


@lru_cache(maxsize=32)
def _load(jar: Path, name: str) -> Payload:
    """A sample as parsed: shared between calls, so nobody may change it."""
    with zipfile.ZipFile(jar) as archive:
        parsed: Payload = json.loads(archive.read(name))
    return parsed


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A deep copy with every occurrence of a name, also inside longer strings and in keys, replaced."""
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(item, names) for key, item in value.items()}
    return value


def _wire(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: all that PuppetDB's answers keep."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stable_uuid(what: str, certname: str, moment: datetime | None) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{what}/{certname}/{moment and _wire(moment)}"))


def _main_class(resources: Sequence[Payload]) -> dict[str, str]:
    """The class that contains what a node's own manifest declares."""
    for resource in resources:
        if resource["type"] == "Class" and resource["title"].lower() == "main":
            return {"type": "Class", "title": resource["title"]}
    raise LabError("a sample catalog has no Class[main]")


def _exported(certname: str, index: int) -> list[Payload]:
    address = str(ipaddress.IPv4Address("10.0.0.10") + index)
    common = {
        "exported": True,
        "file": "/etc/puppetlabs/code/environments/production/manifests/site.pp",
        "line": 7,
    }
    return [
        {
            **common,
            "type": "Sshkey",
            "title": certname,
            "tags": ["class", "sshkey", "known_hosts"],
            "parameters": {
                "ensure": "present",
                "type": "ssh-ed25519",
                "key": _stable_uuid("hostkey", certname, None),
                "host_aliases": [certname.partition(".")[0], address],
            },
        },
        {
            **common,
            "type": "File",
            "title": f"/etc/haproxy/conf.d/{certname}.cfg",
            "tags": ["class", "file", "haproxy"],
            "parameters": {
                "ensure": "file",
                "content": f"server {certname} {address}:443 check\n",
                "mode": "0644",
            },
        },
    ]


def _without_nothing(resource: Payload) -> Payload:
    """Leave out null `file` and `line`: PuppetDB hashes an explicit null, and does not give it back."""
    return {key: value for key, value in resource.items() if value is not None or key not in ("file", "line")}


def _resource(resource: Payload, moment: datetime, *, changed: bool) -> Payload:
    """One resource of a report at its time in the run; a changed one has at least one event."""
    events = [{**event, "timestamp": _wire(moment), "name": None} for event in resource["events"]]
    if changed and not events:
        events = [
            {
                "status": "success",
                "timestamp": _wire(moment),
                "name": "ensure_changed",
                "property": "ensure",
                "old_value": "absent",
                "new_value": "present",
                "message": "ensure changed 'absent' to 'present'",
                "corrective_change": False,
            }
        ]
    return {**resource, "timestamp": _wire(moment), "events": events}
