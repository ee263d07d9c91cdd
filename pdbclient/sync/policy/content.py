"""What two payloads of a command say, as text that is the same where a server would store the same. Pure."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["content"]


def content(body: bytes) -> str:
    """A command's payload as text that is the same for the same content, whatever order a server lists it in."""
    payload = json.loads(body)
    if isinstance(payload.get("resources"), list):
        payload["resources"] = _in_order([{**each, "tags": _in_order(each["tags"])} for each in payload["resources"]])
    for name in ("edges", "package_inventory", "inputs"):
        if isinstance(payload.get(name), list):
            payload[name] = _in_order(payload[name])
    return _text(payload)


def _in_order(items: list[Any]) -> list[Any]:
    return sorted(items, key=_text)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
