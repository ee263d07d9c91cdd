"""Puppet's facts -> the payload of `replace facts` 5, as the stock facts terminus computes it."""

from __future__ import annotations

from collections.abc import Mapping

from pdbclient.errors import InvalidCommand
from pdbclient.wire.plain import shown

__all__ = ["facts_payload", "facts_warnings", "local_trusted"]

INVENTORY = "_puppet_inventory_1"
"""The fact that carries the node's packages; it becomes a field of its own."""

_NAMED = 3
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
    gives `local_trusted`. The values are not changed. Of the package inventory, whatever is not a list of name,
    version and provider is left out, as PuppetDB would refuse all the facts for it: `facts_warnings` tells what.

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


def facts_warnings(facts: Mapping[str, object]) -> tuple[str, ...]:
    """What of the package inventory `facts_payload` leaves out: the first few by name, and how many more."""
    values = facts.get("values")
    inventory = values.get(INVENTORY) if isinstance(values, Mapping) else None
    of, path = f"of the facts of {shown(facts.get('name'))}", f"$.values.{INVENTORY}"
    packages = inventory.get("packages") if isinstance(inventory, Mapping) else inventory
    if packages is None:
        return ()
    if not isinstance(inventory, Mapping) or not isinstance(packages, list):
        return (f"the package inventory {of} is left out: {path} is no object with a list of packages",)
    bad = [at for at, package in enumerate(packages) if not _is_package(package)]
    told = [
        f"a package {of} is left out: {path}.packages[{at}] is no name, version and provider: {shown(packages[at])}"
        for at in bad[:_NAMED]
    ]
    return (*told, f"{len(bad) - _NAMED} more packages {of} are left out") if len(bad) > _NAMED else tuple(told)


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
    if not isinstance(packages, list):
        return None
    good = list(filter(_is_package, packages))
    return good if good or not packages else None


def _is_package(entry: object) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 3 and all(isinstance(part, str) for part in entry)
