"""What two payloads of a command say, as text that is the same where a server would store the same. Pure."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["content"]


def content(body: bytes) -> str:
    """A command's payload as text that is the same for the same content, whatever order a server lists it in.

    Raises `ValueError` or `RecursionError` for what Python does not read: a number of thousands of digits, or a value
    that is nested too deep.
    """
    payload = json.loads(body)
    for resource in _list(payload.get("resources")):
        if isinstance(resource, dict):
            _sort(resource, "tags")
    for name in ("resources", "edges", "package_inventory", "inputs"):
        _sort(payload, name)
    return _text(payload)


def _sort(record: dict[str, Any], name: str) -> None:
    if name in record and isinstance(record[name], list):
        record[name].sort(key=_text)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
