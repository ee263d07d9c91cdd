"""What PuppetDB takes and may never store is warned of; nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.wire import Command
from pdbclient.wire.limits import WARNED
from tests.unit.wire.large_texts import FREE, INDEXED, Change, payload, text
from tests.unit.wire.wire_payloads import BY_COMMAND, NOW, facts


@pytest.mark.parametrize(("name", "change"), INDEXED.values(), ids=INDEXED)
def test_a_text_that_may_be_too_long_for_an_index_is_warned_of_and_sent(name: str, change: Change) -> None:
    large = payload(name, change, text(2700), "web1.example")
    command = Command.create(name, large, now=NOW)
    (warning,) = command.warnings
    assert "web1.example" in warning
    assert "2704" in warning
    assert len(warning) < 400
    assert json.loads(command.body) == large
    assert Command.create(name, payload(name, change, text(2400), "a"), now=NOW).warnings == ()


@pytest.mark.parametrize(("name", "change"), INDEXED.values(), ids=INDEXED)
def test_json_bytes_with_such_a_text_are_sent_as_they_are(name: str, change: Change) -> None:
    body = json.dumps(payload(name, change, text(2700), "a"), indent=2).encode()
    command = Command.from_bytes(name, body, now=NOW)
    assert command.body == body
    assert len(command.warnings) == 1


@pytest.mark.parametrize(("name", "change"), FREE.values(), ids=FREE)
def test_where_there_is_no_index_nothing_is_warned_of(name: str, change: Change) -> None:
    assert Command.create(name, payload(name, change, text(10_000), "a"), now=NOW).warnings == ()


@pytest.mark.parametrize("name", BY_COMMAND)
def test_a_certname_too(name: str) -> None:
    (warning,) = Command.create(name, BY_COMMAND[name](certname=text(2600)), now=NOW).warnings
    assert warning.startswith("the certname ")


def test_bytes_are_counted_and_not_characters() -> None:
    for name, sized in (("é" * (WARNED // 2), False), ("é" * (WARNED // 2 + 1), True)):
        command = Command.create("replace facts", facts(environment=name), now=NOW)
        assert bool(command.warnings) is sized


def test_what_was_lost_is_told_before_what_may_be() -> None:
    lossy: dict[str, Any] = {"values": {"a": "\x00"}, "environment": text(2600)}
    lost, long = Command.create("replace facts", facts(**lossy), now=NOW).warnings
    assert lost.startswith("Lossy encoding")
    assert long.startswith("the environment")


@pytest.mark.parametrize("character", ["n", "é", "語", "\U0001f600"])
def test_the_name_of_a_fact_has_1024_characters_at_most(character: str) -> None:
    assert Command.create("replace facts", facts(values={character * 1024: {character * 100: 1}}), now=NOW)
    for make in (
        Command.create,
        lambda *args, **more: Command.from_bytes(args[0], json.dumps(args[1]).encode(), **more),
    ):
        with pytest.raises(
            InvalidCommand, match="has 1025 characters, and PuppetDB stores names of facts up to 1024"
        ) as error:
            make("replace facts", facts(values={"a": 1, character * 1025: 1}), now=NOW)
        assert error.value.path.startswith(f"$.values['{character * 70}")
        assert len(str(error.value)) < 400
