"""Puppet's facts -> the payload of `replace facts` 5, as the stock facts terminus computes it."""

from __future__ import annotations

from collections.abc import Mapping

from pdbclient.errors import InvalidCommand
from pdbclient.wire.plain import shown

__all__ = ["facts_payload", "local_trusted"]

INVENTORY = "_puppet_inventory_1"
"""The fact that carries the node's packages; it becomes a field of its own."""

_NOT_FACTS = frozenset({INVENTORY, "trusted", "_timestamp"})


def facts_payload(
    facts: Mapping[str, object],
    *,
    producer: str | None,
    environment: str | None = None,
    trusted: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The payload, without its producer timestamp, for facts as `puppet_file.read` gives them (`name`, `values`).

    `trusted` is what the server knows of the node from its certificate. It takes the place of a fact of that name:
    what a node says of itself is not trusted. None, as for a file whose node is not there to show a certificate,
    gives `local_trusted`. The values are not changed. A package inventory that is not a list of name, version
    and provider, which PuppetDB would refuse with all the facts, is left out.

    Raises `InvalidCommand` when name or values are missing.
    """
    name, values = facts.get("name"), facts.get("values")
    if not isinstance(name, str) or not name:
        raise InvalidCommand("replace facts", shown(name), "$.name", "the facts do not say of which node they are")
    if not isinstance(values, Mapping):
        raise InvalidCommand("replace facts", name, "$.values", f"must be an object, not {shown(values)}")
    payload: dict[str, object] = {
        "certname": name,
        "values": {
            **{fact: value for fact, value in values.items() if fact not in _NOT_FACTS},
            "trusted": dict(local_trusted(name) if trusted is None else trusted),
        },
        "environment": environment,
        "producer": producer,
    }
    packages = _packages(values.get(INVENTORY))
    if packages is not None:
        payload["package_inventory"] = packages
    return payload


def local_trusted(certname: str) -> dict[str, object]:
    """Puppet's trusted information for facts without a certificate: of this machine's own say, so `local`."""
    hostname, dot, domain = certname.partition(".")
    return {
        "authenticated": "local",
        "certname": certname,
        "extensions": {},
        "hostname": hostname,
        "domain": domain if dot else None,
        "external": {},
    }


def _packages(inventory: object) -> list[object] | None:
    packages = inventory.get("packages") if isinstance(inventory, Mapping) else None
    return packages if isinstance(packages, list) and all(map(_is_package, packages)) else None


def _is_package(entry: object) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 3 and all(isinstance(part, str) for part in entry)
