"""What the runs leave behind: a file that one node exports and another collects, and the rows in PuppetDB."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pdbclient import Client, load_config
from pdbclient.lab import Lab

__all__ = ["COLLECTING", "assert_stored", "assert_untouched", "exporting", "seed", "stored"]

COLLECTING = "File <<| tag == 'e2e' |>>"
_TABLES = {"facts": "factsets", "catalogs": "catalogs", "reports": "reports"}


def exporting(file: Path, content: str) -> str:
    """The manifest of a node that exports a file."""
    return f"@@file {{ '{file}': ensure => file, content => '{content}', tag => 'e2e' }}"


def stored(lab: Lab, name: str) -> dict[str, list[str]]:
    """The certnames with facts, with a catalog, and of each report, once the server has processed what it took."""
    lab.settle(name)
    return {
        kind: sorted(row[0] for row in lab.sql(name, f"select certname from {table}"))
        for kind, table in _TABLES.items()
    }


def assert_stored(lab: Lab, name: str, certnames: Collection[str]) -> None:
    """Each of these nodes has facts, a catalog and one report there, and nobody else has."""
    assert stored(lab, name) == {kind: sorted(certnames) for kind in _TABLES}


def assert_untouched(lab: Lab, name: str) -> None:
    """Nothing was sent to this server."""
    assert stored(lab, name) == {kind: [] for kind in _TABLES}


def seed(lab: Lab, file: Path, content: str) -> None:
    """Let both servers have a node that exports the file."""
    resource: dict[str, Any] = {
        "type": "File",
        "title": str(file),
        "tags": ["file", "e2e"],
        "exported": True,
        "file": None,
        "line": None,
        "parameters": {"ensure": "file", "content": content},
    }
    payload = {
        "certname": "seed.mycorp.net",
        "version": "1",
        "environment": "production",
        "transaction_uuid": None,
        "catalog_uuid": str(uuid4()),
        "code_id": None,
        "job_id": None,
        "producer": None,
        "producer_timestamp": datetime.now(UTC).isoformat(),
        "resources": [resource],
        "edges": [],
    }
    config = replace(load_config(lab.puppetdb_conf), command_broadcast=True, min_successful_submissions=2)
    with Client(config) as client:
        client.submit_payload("replace catalog", payload)
    for node in lab.nodes:
        lab.settle(node.name)
