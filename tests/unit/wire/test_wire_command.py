"""Commands are stamped once, encoded once, and carry exactly what they were given."""

from __future__ import annotations

import copy
import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.wire import VERSIONS, Command, configure_expiration, deactivate_node
from tests.unit.wire.wire_payloads import BY_COMMAND, NOW, STAMP, catalog, deactivation, facts, resource, without

NOW_TEXT = "2026-01-31T12:00:00.123Z"


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_body_is_the_payload_and_the_payload_stays_as_it_was(name: str) -> None:
    payload = BY_COMMAND[name]()
    before = copy.deepcopy(payload)
    command = Command.create(name, payload, now=NOW)
    assert json.loads(command.body) == before == payload
    assert (command.name, command.version, command.certname) == (name, VERSIONS[name], "web1.example")
    assert (command.encoding, command.length) == ("identity", len(command.body))
    assert command.producer_timestamp == STAMP


@pytest.mark.parametrize("name", BY_COMMAND)
@pytest.mark.parametrize("missing", [without, lambda payload, key: payload | {key: None}])
def test_a_missing_or_null_timestamp_is_stamped_with_now(name: str, missing: Any) -> None:
    payload = missing(BY_COMMAND[name](), "producer_timestamp")
    command = Command.create(name, payload, now=NOW)
    assert command.producer_timestamp == NOW_TEXT
    assert json.loads(command.body)["producer_timestamp"] == NOW_TEXT
    assert payload.get("producer_timestamp") is None


ALIKE: list[dict[str, Any]] = [
    {"file": None},
    {"line": None},
    {"file": None, "line": None},
    {"file": "/site.pp", "line": None},
    {"file": None, "line": 3},
    {"parameters": ...},
    {"parameters": ..., "file": None},
    {"parameters": None},
    {},
]
"""Members of a catalog's resource that PuppetDB shows alike and hashes apart. `...`: left out."""


@pytest.mark.parametrize("members", ALIKE, ids=repr)
def test_what_of_a_catalog_is_shown_alike_and_hashed_apart_is_written_as_copies_have_it(
    members: dict[str, Any],
) -> None:
    """A copy is made of what is shown: file and line only when known, parameters always."""
    odd = {key: value for key, value in resource(**members).items() if value is not ...}
    payload = catalog(resources=[resource(title="/b"), odd])
    before = copy.deepcopy(payload)
    command = Command.create("replace catalog", payload, now=NOW)
    assert payload == before
    known = {key: value for key, value in odd.items() if key not in ("file", "line") or value is not None}
    first, second = json.loads(command.body)["resources"]
    assert (first, second) == (payload["resources"][0], {"parameters": None} | known)
    text = json.dumps(payload).encode()
    assert Command.from_bytes("replace catalog", text, now=NOW).body == text


@pytest.mark.parametrize("resources", [None, 5, [1], "x", {}, [None]], ids=repr)
def test_what_is_no_list_of_resources_is_refused_as_before(resources: object) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        Command.create("replace catalog", catalog(resources=resources), now=NOW)
    assert refusal.value.path.startswith("$.resources")


def test_the_payloads_own_timestamp_wins_and_keeps_its_text() -> None:
    own = "2026-01-31T13:00:00.123456+02:00"
    command = Command.create("replace facts", facts(producer_timestamp=own), now=NOW, producer_timestamp=STAMP)
    assert json.loads(command.body)["producer_timestamp"] == own
    assert command.producer_timestamp == "2026-01-31T11:00:00.123Z"


def test_timestamps_may_be_aware_datetimes() -> None:
    moment = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=2)))
    by_argument = deactivate_node("a", now=NOW, producer_timestamp=moment)
    in_payload = Command.create("deactivate node", deactivation(producer_timestamp=moment), now=NOW)
    assert by_argument.producer_timestamp == in_payload.producer_timestamp == STAMP
    with pytest.raises(InvalidCommand, match="needs a timezone"):
        deactivate_node("a", now=NOW, producer_timestamp=datetime(2026, 1, 31))


def test_the_certname_argument_fills_in_and_may_not_contradict() -> None:
    nameless = without(facts(), "certname")
    assert Command.create("replace facts", nameless, now=NOW, certname="a").certname == "a"
    with pytest.raises(InvalidCommand, match=r"the command is for 'a'") as refusal:
        Command.create("replace facts", facts(), now=NOW, certname="a")
    assert refusal.value.path == "$.certname"


def test_the_constructors_of_small_commands_write_their_payload() -> None:
    assert json.loads(deactivate_node("a", now=NOW).body) == {"certname": "a", "producer_timestamp": NOW_TEXT}
    expire = configure_expiration("a", False, now=NOW, producer_timestamp=STAMP)
    assert json.loads(expire.body) == {
        "certname": "a",
        "expire": {"facts": False},
        "producer_timestamp": STAMP,
    }


def test_the_query_parameters_are_the_terminuss_in_its_order() -> None:
    command = Command.create("replace facts", facts(certname="a b%/é"), now=NOW)
    assert command.params() == [
        ("version", "5"),
        ("certname", "a b%/é"),
        ("command", "replace_facts"),
        ("producer-timestamp", STAMP),
    ]


def test_gzip_is_deterministic_keeps_the_length_and_is_done_once() -> None:
    command = Command.create("replace facts", facts(), now=NOW)
    small = command.gzipped()
    assert gzip.decompress(small.body) == command.body
    assert (small.encoding, small.length) == ("gzip", command.length)
    assert small == command.gzipped()
    assert small.gzipped() is small


def test_a_ready_command_is_not_looked_at() -> None:
    command = Command.ready("replace facts", 4, "a", STAMP, b"not JSON")
    assert (command.version, command.body, command.length) == (4, b"not JSON", 8)


def test_the_repr_of_a_command_leaves_the_body_out() -> None:
    assert len(repr(Command.create("replace facts", facts(values={"a": "x" * 10**6}), now=NOW))) < 300


def test_json_bytes_are_sent_as_they_came() -> None:
    text = json.dumps(facts(), indent=2).replace('"n": 1', '"n": [1e22, -0.0, 1.0, 1180591620717411303424, 0.10]')
    assert Command.from_bytes("replace facts", text.encode(), now=NOW).body == text.encode()


def test_json_bytes_keep_their_numbers_when_the_timestamp_is_put_in() -> None:
    text = '{"values": {"n": [1e22, -0.0, 0.10]}, "environment": null, "producer": null, "producer_timestamp": null}'
    command = Command.from_bytes("replace facts", text.encode(), now=NOW, certname="a")
    assert b'{"n": [1e22, -0.0, 0.10]}' in command.body
    assert json.loads(command.body) == json.loads(text) | {"certname": "a", "producer_timestamp": NOW_TEXT}
    assert command.length == len(command.body)


def test_json_bytes_may_have_a_byte_order_mark() -> None:
    body = json.dumps(facts()).encode()
    assert Command.from_bytes("replace facts", b"\xef\xbb\xbf" + body, now=NOW).body == body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"certname": "a"} x', "is no JSON"),
        (b'{"certname": NaN}', "NaN is no JSON"),
        (b"[" * 100_000, "nested too deep"),
        (json.dumps(facts()).replace(": 1", ": -Infinity").encode(), "-Infinity is no JSON"),
        (json.dumps(facts()).replace(": 1", ": 1e400").encode(), "$.values.n: 1E+400 is not a number"),
        (json.dumps(facts(version=1)).encode(), "unknown field `version`"),
        (json.dumps(facts()).replace(": 1", ": " + "1" * 5000).encode(), "no JSON: Exceeds the limit"),
    ],
)
def test_bytes_that_are_no_payload_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        Command.from_bytes("replace facts", body, now=NOW)
    assert reason in f"{refusal.value.path}: {refusal.value.reason}"


def test_json_bytes_that_are_not_utf_8_lose_only_the_bad_bytes() -> None:
    body = (
        json.dumps(facts())
        .encode()
        .replace(b"Debian", b"D\xc3\xa9\xff\xfeb\\ud800\\u0000")
        .replace(b": 1", b": 0.10")
    )
    command = Command.from_bytes("replace facts", body, now=NOW)
    assert json.loads(command.body)["values"]["os"]["family"] == "Dé\ufffd\ufffdb\ufffd\ufffd"
    assert b'"n":0.10' in command.body
    (warning,) = command.warnings
    assert warning.endswith("became U+FFFD at $.values.os.family")


def test_the_module_needs_no_clock() -> None:
    late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert deactivate_node("a", now=late).producer_timestamp == "9999-12-31T23:59:59.000Z"
