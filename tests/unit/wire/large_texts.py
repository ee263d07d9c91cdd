"""Texts that PuppetDB may never store, one for each column that has an index, and some that have none.

Each changes the payload of a command; `tests/integration/test_server_facts.py` sends them to real servers.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

from tests.unit.wire.wire_payloads import BY_COMMAND, event, log, report_resource, resource

__all__ = ["CHARACTERS", "FREE", "INDEXED", "payload", "text"]

CHARACTERS = string.ascii_letters + string.digits
Change = Callable[[str], dict[str, Any]]


def text(size: int, seed: int = 0) -> str:
    """So many characters that PostgreSQL cannot compress."""
    return "".join(random.Random(seed).choices(CHARACTERS, k=size))


def _in_resource(**members: Callable[[str], Any]) -> Change:
    return lambda long: {"edges": [], "resources": [resource(**{key: of(long) for key, of in members.items()})]}


def _in_report(**members: Callable[[str], Any]) -> Change:
    return lambda long: {"resources": [report_resource(**{key: of(long) for key, of in members.items()})]}


def _member(key: str) -> Change:
    return lambda long: {key: long}


INDEXED: dict[str, tuple[str, Change]] = {
    "a path of facts": ("replace facts", lambda long: {"values": {"a": {long: 1}}}),
    "a deep path of facts": ("replace facts", lambda long: {"values": {"a": [{long[:1000]: [{long[1000:]: [1]}]}]}}),
    "a package": ("replace facts", lambda long: {"package_inventory": [[long, "1", "apt"]]}),
    "environment of facts": ("replace facts", _member("environment")),
    "producer of facts": ("replace facts", _member("producer")),
    "a type": ("replace catalog", _in_resource(type=lambda long: long.capitalize())),
    "a title": ("replace catalog", _in_resource(title=str)),
    "type and title": (
        "replace catalog",
        _in_resource(type=lambda long: long[:1300], title=lambda long: long[1300:]),
    ),
    "a parameter": ("replace catalog", _in_resource(parameters=lambda long: {long: 1})),
    "environment of a catalog": ("replace catalog", _member("environment")),
    "producer of a catalog": ("replace catalog", _member("producer")),
    "job_id of a catalog": ("replace catalog", _member("job_id")),
    "a type of inputs": ("replace catalog inputs", lambda long: {"inputs": [[long, "x"]]}),
    "a key of inputs": ("replace catalog inputs", lambda long: {"inputs": [["hiera", long]]}),
    "a title of a report": ("store report", _in_report(resource_title=str)),
    "a class of a report": (
        "store report",
        _in_report(containment_path=lambda long: ["Stage[main]", long.capitalize()]),
    ),
    "a property": ("store report", _in_report(events=lambda long: [event(property=long)])),
    "an event's status": ("store report", _in_report(events=lambda long: [event(status=long)])),
    "environment of a report": ("store report", _member("environment")),
    "producer of a report": ("store report", _member("producer")),
    "job_id of a report": ("store report", _member("job_id")),
    "status of a report": ("store report", _member("status")),
}

FREE: dict[str, tuple[str, Change]] = {
    "a fact": ("replace facts", lambda long: {"values": {"a": long}}),
    "version and provider": ("replace facts", lambda long: {"package_inventory": [["a", long, long]]}),
    "a value, a tag, a file": (
        "replace catalog",
        _in_resource(parameters=lambda long: {"a": long}, tags=lambda long: [long.lower()], file=str),
    ),
    "version and code_id": ("replace catalog", lambda long: {"version": long, "code_id": long}),
    "a message, a name, a file": (
        "store report",
        _in_report(events=lambda long: [event(message=long, name=long)], file=str),
    ),
    "a resource that contains it": ("store report", _in_report(containment_path=lambda long: [f"File[{long}]"])),
    "a log": ("store report", lambda long: {"logs": [log(message=long, source=long, level=long, tags=[long])]}),
    "a metric": ("store report", lambda long: {"metrics": [{"category": long, "name": long, "value": 1}]}),
    "versions": (
        "store report",
        lambda long: {"configuration_version": long, "puppet_version": long, "code_id": long},
    ),
}


def payload(name: str, change: Change, long: str, certname: str) -> dict[str, Any]:
    """The payload of `name` with `long` in it."""
    return BY_COMMAND[name](certname=certname) | change(long)
