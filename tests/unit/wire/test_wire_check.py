"""What PuppetDB would refuse is refused here, with its path; what it takes is taken."""

from __future__ import annotations

from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.wire import Command
from tests.unit.wire.wire_payloads import BY_COMMAND, NOW, facts
from tests.unit.wire.wire_verdicts import FACTS, IGNORED, REFUSED, STRICTER, STUCK, TAKEN


@pytest.mark.parametrize(("name", "payload", "path", "reason"), REFUSED + STUCK + IGNORED + STRICTER)
def test_a_payload_that_cannot_be_stored_is_refused_with_its_path(
    name: str, payload: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        Command.create(name, payload, now=NOW)
    assert refusal.value.path == path
    assert reason in refusal.value.reason
    assert refusal.value.command == name
    assert refusal.value.certname == "web1.example"


@pytest.mark.parametrize(("name", "payload"), TAKEN)
def test_a_payload_that_the_server_stores_is_taken(name: str, payload: dict[str, Any]) -> None:
    assert Command.create(name, payload, now=NOW).warnings == ()


@pytest.mark.parametrize("name", BY_COMMAND)
@pytest.mark.parametrize("certname", ["", " \t", None, 5, "a\x00b", "\ud800", b"\xff"])
def test_a_certname_that_cannot_name_a_node_is_refused(name: str, certname: Any) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        Command.create(name, BY_COMMAND[name](certname=certname), now=NOW)
    assert refusal.value.path == "$.certname"


@pytest.mark.parametrize("certname", ["a/b", "100%", "a b", "q\"'", "ünï", "日本", "WEB1", "x" * 300, "a\\u0000"])
def test_any_other_certname_is_taken_as_it_is(certname: str) -> None:
    command = Command.create(FACTS, facts(certname=certname), now=NOW)
    assert command.certname == certname
    assert dict(command.params())["certname"] == certname


def test_an_unknown_command_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidCommand, match="must be one of: configure expiration, deactivate node, replace"):
        Command.create("replace_facts", facts(), now=NOW)


@pytest.mark.parametrize("payload", [[], "x", None])
def test_a_payload_that_is_no_object_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidCommand, match="must be an object"):
        Command.create(FACTS, payload, now=NOW)
