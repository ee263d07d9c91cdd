"""A command whose client waits until it is processed (`secondsToWaitForCompletion`): a PuppetDB waits, and tells.

Measured on PuppetDB 7.12.1, 8.4.1 and 8.8.1: 200 when it was processed, else 503, with the uuid in both cases. A 503
with a uuid is a command that was accepted: it could not be processed (`error`), or not yet (`timed_out`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdbclient.errors import Busy, IncompleteResponse
from pdbclient.http.session import Session
from pdbclient.wire import Command

__all__ = ["Completion", "not_yet", "submit_and_wait"]

MARGIN = 1.0
"""Seconds of an attempt that are left for all but the waiting."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What is known of a command when the waiting has ended: the status and document of a PuppetDB's answer."""

    status: int
    document: Mapping[str, Any]


def not_yet(uuid: str) -> Completion:
    """What a PuppetDB says of a command that it has accepted and not processed."""
    return Completion(503, {"uuid": uuid, "processed": False, "timed_out": True})


def submit_and_wait(session: Session, command: Command, seconds: float, within: float) -> Completion:
    """Submit to this server, which then waits up to `seconds`; less where the attempt has only `within` seconds.

    Raises the errors of an attempt (`Session`).
    """
    wait = min(seconds, max(within - MARGIN, within / 2))
    try:
        completion = _read(200, session.submit_and_wait(command, wait, within=within))
    except Busy as error:
        completion = _read(error.status, _decoded(error.body))
        if completion is None:
            raise
    if completion is None:
        raise IncompleteResponse(session.endpoint.url, "answered 200 to a command, but without a uuid")
    return completion


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _read(status: int, document: Any) -> Completion | None:
    is_completion = isinstance(document, dict) and isinstance(document.get("uuid"), str)
    return Completion(status, document) if is_completion else None
