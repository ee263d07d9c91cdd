"""Small payloads that PuppetDB takes, one for each command; keyword arguments replace or add members."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 1, 31, 12, 0, 0, 123_987, tzinfo=UTC)
STAMP = "2026-01-31T11:00:00.000Z"
UUID = "4794d936-2151-4625-9476-150ff4245391"

Json = dict[str, Any]


def resource(**members: Any) -> Json:
    return {
        "type": "File",
        "title": "/a",
        "tags": ["file", "class"],
        "exported": False,
        "parameters": {"mode": "0644"},
    } | members


def catalog(**members: Any) -> Json:
    return {
        "certname": "web1.example",
        "version": "1",
        "environment": "production",
        "transaction_uuid": UUID,
        "catalog_uuid": UUID,
        "code_id": None,
        "job_id": None,
        "producer": "compiler1",
        "producer_timestamp": STAMP,
        "resources": [resource(), resource(title="/b")],
        "edges": [
            {
                "source": {"type": "File", "title": "/a"},
                "target": {"type": "File", "title": "/b"},
                "relationship": "before",
            }
        ],
    } | members


def inputs(**members: Any) -> Json:
    return {
        "certname": "web1.example",
        "catalog_uuid": UUID,
        "producer_timestamp": STAMP,
        "inputs": [["hiera", "profile::x"]],
    } | members


def facts(**members: Any) -> Json:
    return {
        "certname": "web1.example",
        "environment": "production",
        "values": {"os": {"family": "Debian"}, "n": 1},
        "producer_timestamp": STAMP,
        "producer": "compiler1",
        "package_inventory": [["bash", "5.2", "apt"]],
    } | members


def event(**members: Any) -> Json:
    return {
        "status": "success",
        "corrective_change": None,
        "timestamp": STAMP,
        "property": "ensure",
        "new_value": "present",
        "old_value": None,
        "message": "created",
        "name": "file_created",
    } | members


def report_resource(**members: Any) -> Json:
    return {
        "skipped": False,
        "timestamp": STAMP,
        "resource_type": "File",
        "resource_title": "/a",
        "file": "site.pp",
        "line": 3,
        "containment_path": ["Stage[main]", "File[/a]"],
        "corrective_change": None,
        "events": [event()],
    } | members


def log(**members: Any) -> Json:
    return {
        "file": None,
        "line": None,
        "level": "info",
        "message": "m",
        "source": "Puppet",
        "tags": ["info"],
        "time": STAMP,
    } | members


def report(**members: Any) -> Json:
    return {
        "certname": "web1.example",
        "puppet_version": "8.0.0",
        "report_format": 12,
        "configuration_version": "1",
        "start_time": STAMP,
        "end_time": STAMP,
        "producer_timestamp": STAMP,
        "producer": "compiler1",
        "corrective_change": None,
        "resources": [report_resource()],
        "noop": False,
        "noop_pending": False,
        "transaction_uuid": UUID,
        "catalog_uuid": UUID,
        "code_id": None,
        "job_id": None,
        "cached_catalog_status": "not_used",
        "metrics": [{"category": "time", "name": "total", "value": 1.5}],
        "logs": [log()],
        "environment": "production",
        "status": "changed",
    } | members


def deactivation(**members: Any) -> Json:
    return {"certname": "web1.example", "producer_timestamp": STAMP} | members


def expiration(**members: Any) -> Json:
    return {"certname": "web1.example", "expire": {"facts": True}, "producer_timestamp": STAMP} | members


BY_COMMAND = {
    "replace catalog": catalog,
    "replace catalog inputs": inputs,
    "replace facts": facts,
    "store report": report,
    "deactivate node": deactivation,
    "configure expiration": expiration,
}


def without(payload: Json, key: str) -> Json:
    return {name: value for name, value in payload.items() if name != key}
