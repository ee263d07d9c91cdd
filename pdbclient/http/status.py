"""A PuppetDB's status document, as its status endpoint gives it. Pure.

It tells a PuppetDB from whatever else answers at an address, and whether that PuppetDB runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["STATUS_PATH", "Status", "read_status"]

STATUS_PATH = "/status/v1/services/puppetdb-status"


@dataclass(frozen=True, slots=True)
class Status:
    """What a status document says.

    `state` is PuppetDB's (`running`, `starting`, …), None where there is none, as in what is no status document.
    `maintenance` and `queue_depth` are as they stand there, None where they do not: PuppetDB says null for the depth
    until its queue is loaded.
    """

    state: str | None = None
    maintenance: Any = None
    queue_depth: Any = None

    @property
    def running(self) -> bool:
        """Whether this is a PuppetDB that runs."""
        return self.state == "running"


def read_status(document: Any) -> Status:
    """What `document`, any JSON, says: anything may answer at that address."""
    if not isinstance(document, dict):
        return Status()
    state, details = document.get("state"), document.get("status")
    if not isinstance(details, dict):
        details = {}
    return Status(
        state if isinstance(state, str) else None, details.get("maintenance_mode?"), details.get("queue_depth")
    )
