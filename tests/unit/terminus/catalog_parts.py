"""Catalog documents for the tests, as Puppet prints them."""

from __future__ import annotations

from typing import Any

from pdbclient.terminus.catalog import catalog_payload

__all__ = ["catalog", "edges", "parameters", "payload", "resource"]

UUID = "99999999-2222-4333-8444-555555555555"


def catalog(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "tags": ["settings"],
        "name": "node1.example",
        "version": 1700000000,
        "code_id": None,
        "catalog_uuid": UUID,
        "catalog_format": 2,
        "environment": "production",
        "resources": list(resources),
        "edges": [],
        "classes": ["settings"],
        **more,
    }


def resource(reference: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """`Type[title]`, with its parameters; `more` are other keys."""
    kind, _, title = reference[:-1].partition("[")
    found = {"type": kind, "title": title, "tags": ["class"], "exported": False, "kind": "compilable_type"}
    return found | ({"parameters": parameters} if parameters is not None else {}) | more


def payload(*resources: dict[str, Any], **options: Any) -> dict[str, Any]:
    return catalog_payload(catalog(*resources), producer="primary.example", **options)


def parameters(*resources: dict[str, Any], at: int = 0) -> dict[str, Any]:
    """The parameters that go out for the resource at `at`."""
    found: dict[str, Any] = payload(*resources)["resources"][at]["parameters"]
    return found


def edges(*resources: dict[str, Any]) -> list[str]:
    """The edges as `source relationship target`."""
    found = payload(*resources)["edges"]
    return [f"{_reference(edge['source'])} {edge['relationship']} {_reference(edge['target'])}" for edge in found]


def _reference(end: dict[str, str]) -> str:
    return f"{end['type']}[{end['title']}]"
