"""PuppetDB's own commands for administrators: to take a node out, and to collect garbage now."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from pdbclient.lab import Lab

__all__ = ["clean", "delete"]


def delete(lab: Lab, name: str, certname: str) -> None:
    """Take a node out of a server, as purging does in its time."""
    assert _command(lab, name, "delete", {"certname": certname}) == {"deleted": certname}


def clean(lab: Lab, name: str, what: str, **options: int) -> None:
    """Have a server collect its garbage: `expire_nodes`, `purge_nodes`, `purge_reports`, …"""
    assert _command(lab, name, "clean", [[what, options] if options else what]) == {"ok": True}


def _command(lab: Lab, name: str, command: str, payload: Any) -> Any:
    request = urllib.request.Request(
        f"{lab.node(name).cleartext_url}/pdb/admin/v1/cmd",
        json.dumps({"command": command, "version": 1, "payload": payload}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
