"""What a request to `/pdb/cmd/v1` asks for, and the refusals.

That the statuses are a real PuppetDB's is tested in the integration tests (`test_gateway_parity`).
"""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.gateway.intake import OLDEST_VERSIONS, Refused, command_from, is_about_exported, seconds_to_wait
from pdbclient.wire import Command

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
STAMP = "2026-01-31T12:00:00.123Z"
FACTS = b'{"certname":"a.example","values":{"n":1.50}}'
OK = "version=5&certname=a.example&command=replace_facts"


def taken(query: str = OK, body: bytes = FACTS, **headers: str) -> Command:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return command_from(query, lines, body, now=NOW)


def refused(query: str = OK, body: bytes = FACTS, **headers: str) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        taken(query, body, **headers)
    return error.value.status, error.value.reason


def old(**changes: Any) -> bytes:
    """The old form of the same command."""
    document = {"command": "replace facts", "version": 5, "payload": {"certname": "a.example"}} | changes
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def test_the_parameters_make_the_command_and_the_body_goes_on_as_it_is() -> None:
    command = taken(OK + "&producer-timestamp=2026-01-31T14:00:00.5%2B02:00&checksum=0123")
    assert command == Command("replace facts", 5, "a.example", "2026-01-31T12:00:00.500Z", FACTS)
    assert command.length == len(FACTS)


@pytest.mark.parametrize("name", OLDEST_VERSIONS)
@pytest.mark.parametrize("spelt", ["_", "+", "%20"])
def test_every_command_is_known_with_blanks_and_underscores(name: str, spelt: str) -> None:
    oldest = OLDEST_VERSIONS[name]
    query = f"version={oldest}&certname=a&command={name.replace(' ', spelt)}"
    assert (taken(query).name, taken(query).version) == (name, oldest)
    assert "is retired" in refused(query.replace(f"={oldest}", f"={oldest - 1}"))[1]
    assert taken(query.replace(f"={oldest}", f"={oldest + 90}")).version == oldest + 90


@pytest.mark.parametrize(("text", "version"), [("5", 5), ("%2B5", 5), ("05", 5), ("99", 99)])
def test_a_version_is_any_integer(text: str, version: int) -> None:
    assert taken(OK.replace("=5", f"={text}")).version == version


@pytest.mark.parametrize("text", ["", "x", "5.0", "5e0", "0x5", "%205", "9999999999", "--5"])
def test_what_is_no_integer_is_no_version(text: str) -> None:
    assert refused(OK.replace("=5", f"={text}")) == (400, "version must be an integer")


@pytest.mark.parametrize(
    "stamp", ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "0001-01-01T00:00:00%2B18:00"]
)
def test_an_unreadable_timestamp_counts_as_none(stamp: str) -> None:
    assert taken(f"{OK}&producer-timestamp={stamp}").producer_timestamp == STAMP


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("certname=a&command=replace_facts", "version must be an integer"),
        ("version=5&command=replace_facts", "missing parameters: certname"),
        ("command=replace_facts", "missing parameters: certname, version"),
        ("version=5&certname=&command=replace_facts", "certname must be a non-empty string"),
        ("version=5&certname=%20&command=replace_facts", "certname must be a non-empty string"),
        ("version=5&certname=a&command=", "command must be one of: configure expiration, deactivate node"),
        ("version=5&certname=a&command=eat_cake", "command must be one of: "),
        ("version=5&certname=a&command=Replace_facts", "command must be one of: "),
        (OK + "&foo=1&bar=2", "invalid parameters: bar, foo"),
        (OK + "&Version=5", "invalid parameters: Version"),
        (OK + "&certname=b", "a parameter is given twice"),
        (OK + "&version=5", "a parameter is given twice"),
        (OK + "&command=replace_facts", "a parameter is given twice"),
        (OK + "&secondsToWaitForCompletion=", "secondsToWaitForCompletion must be a number of seconds"),
        (OK + "&secondsToWaitForCompletion=x", "secondsToWaitForCompletion must be a number of seconds"),
        (OK.replace("&", ";"), "without the parameter command, the body must be an object"),
        ("", "without the parameter command, the body must be an object"),
        ("version=5&certname=a", "without the parameter command, the body must be an object"),
    ],
)
def test_each_wrong_parameter_has_its_reason(query: str, reason: str) -> None:
    status, said = refused(query)
    assert status == 400
    assert said.startswith(reason)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("5", 5), ("2.5", 2.5), (".5", 0.5), ("2.", 2), ("%205+", 5), ("%2B5", 5), ("-1", 0), ("1e3", 1000)],
)
def test_to_wait_is_any_number_of_seconds(text: str, seconds: float) -> None:
    query = f"{OK}&secondsToWaitForCompletion={text}"
    assert taken(query).name == "replace facts"
    assert seconds_to_wait(query) == seconds
    assert seconds_to_wait(f"secondsToWaitForCompletion={text}") == 0, "the old form"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
        ({"Content_Type": "Application/JSON"}, 200),
        ({"Content_Type": ""}, 200),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Accept": "*/*"}, 200),
        ({"Accept": "application/*"}, 200),
        ({"Accept": "application/json"}, 200),
        ({"Accept": "text/html"}, 406),
        ({"Accept": ""}, 406),
        ({"Content_Encoding": "identity"}, 200),
        ({"Content_Encoding": ""}, 200),
        ({"Content_Encoding": "GZIP"}, 200),
        ({"Content_Encoding": "deflate"}, 415),
        ({"Content_Encoding": "br"}, 415),
        ({"Content_Encoding": "x-gzip"}, 415),
    ],
)
def test_headers_are_checked_in_both_forms(headers: dict[str, str], status: int) -> None:
    for query, body in ((OK, FACTS), ("", old())):
        if status == 200:
            assert taken(query, body, **headers).certname == "a.example"
        else:
            assert refused(query, body, **headers)[0] == status


@pytest.mark.parametrize(
    ("said", "length"), [("1234", 1234), ("x", 21), ("-1", 21), ("", 21), ("²", 21), ("9" * 20, 21)]
)
def test_a_compressed_body_goes_on_untouched_with_the_length_that_was_said(said: str, length: int) -> None:
    body = gzip.compress(b"{}", mtime=0)[:21].ljust(21, b"\0")
    command = taken(OK, body, Content_Encoding="gzip", X_Uncompressed_Length=said)
    assert (command.body, command.encoding, command.length) == (body, "gzip", length)


@pytest.mark.parametrize("body", [b"", b"garbage", b"[]"])
def test_the_payload_is_the_servers_business(body: bytes) -> None:
    assert taken(OK, body).body == body


def test_the_old_form_gives_the_payload_with_its_own_text() -> None:
    payload = b'{"certname":"a/b \\u00e9", "n":1.50,"big":123456789012345678901234567890,"producer_timestamp":"%s"}'
    payload = payload.replace(b"%s", b"2026-01-31T14:00:00.5+02:00")
    command = taken("", b' {"payload" : ' + payload + b' , "version":5, "command":"replace facts"}\n')
    assert command == Command("replace facts", 5, "a/b é", "2026-01-31T12:00:00.500Z", payload)


@pytest.mark.parametrize("query", ["checksum=abc", "foo=1", "version=9&certname=other"])
def test_in_the_old_form_parameters_count_for_nothing(query: str) -> None:
    command = taken(query, old())
    assert (command.version, command.certname, command.producer_timestamp) == (5, "a.example", STAMP)


MUST = "without the parameter command, the body must be an object"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", MUST),
        (b"garbage", MUST),
        (b"[]", MUST),
        (b"null", MUST),
        (gzip.compress(old(), mtime=0), MUST),
        (b"\xef\xbb\xbf" + old(), MUST),
        (old(command=...), MUST),
        (old(version=...), MUST),
        (old(payload=...), MUST),
        (old(payload="{}"), MUST),
        (old(payload=[1]), MUST),
        (old(payload={}), "missing parameters: certname"),
        (old(payload={"certname": None}), "missing parameters: certname"),
        (old(payload={"certname": " "}), "certname must be a non-empty string"),
        (old(payload={"certname": 5}), "certname must be a non-empty string"),
        (old(payload={"certname": ["a"]}), "certname must be a non-empty string"),
        (old(command="replace_facts"), "command must be one of: "),
        (old(command="eat cake"), "command must be one of: "),
        (old(command=None), "command must be one of: "),
        (old(command=["replace facts"]), "command must be one of: "),
        (old(version="5"), "version must be an integer"),
        (old(version=5.0), "version must be an integer"),
        (old(version=True), "version must be an integer"),
        (old(version=None), "version must be an integer"),
        (old(version=3), "version 3 of 'replace facts' is retired, the oldest is 4"),
        (old(foo=1, bar=2), "invalid parameters: bar, foo"),
        (b'{"command":"replace facts","version":5,"payload":{"certname":"\xff"}}', MUST),
        (b'{"command":"replace facts","version":5,"payload":{"certname":"\\ud800"}}', MUST),
        (b'{"command":"replace facts","version":5,"payload":{"certname":1e999}}', MUST),
        (b"[" * 100_000, MUST),
        (b'{"payload":' * 100_000, MUST),
        (b'{"command":"x","version":5,"payload":{"certname":' + b"[" * 100_000, MUST),
    ],
)
def test_each_wrong_old_form_has_its_reason(body: bytes, reason: str) -> None:
    status, said = refused("", body)
    assert status == 400
    assert said.startswith(reason)


@pytest.mark.parametrize("stamp", ["yesterday", None, 5, [], "9999-12-31T23:00:00-18:00"])
def test_in_the_old_form_too_an_unreadable_timestamp_counts_as_none(stamp: object) -> None:
    body = old(payload={"certname": "a", "producer_timestamp": stamp})
    assert taken("", body).producer_timestamp == STAMP


CERTNAMES = [
    "a b",
    "a+b",
    "a/b",
    "100%",
    "a&b=c",
    "a'\"b",
    "ümläut",
    "語.example",
    "x" * 300,
    "UPPER.Case",
    "\U0001f600",
]


@pytest.mark.parametrize("certname", CERTNAMES)
def test_odd_certnames_come_through_both_forms(certname: str) -> None:
    parameters = {"version": 5, "command": "replace facts", "certname": certname}
    assert taken(urlencode(parameters)).certname == certname
    assert taken(urlencode(parameters, quote_via=quote)).certname == certname
    assert taken("", old(payload={"certname": certname})).certname == certname


@given(st.text(max_size=60) | st.text("=&;%+command", max_size=60), st.binary(max_size=200))
def test_no_request_does_anything_but_make_a_command_or_be_refused(query: str, body: bytes) -> None:
    for each in (query, OK + "&" + query):
        with suppress(Refused):
            taken(each, body)


@pytest.mark.parametrize("name", ["store_report", "deactivate_node", "configure_expiration"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("own", ["", ',"producer_timestamp":null'])
def test_a_body_that_the_server_would_stamp_is_stamped_here_once(name: str, compressed: bool, own: str) -> None:
    body = f'{{"certname":"a","big":1e400{own}}}'.encode()
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    query = f"command={name}&version=8&certname=a"
    command = command_from(query, headers, gzip.compress(body) if compressed else body, now=NOW)
    sent = gzip.decompress(command.body) if compressed else command.body
    assert json.loads(sent)["producer_timestamp"] == command.producer_timestamp == STAMP
    assert b"1e400" in sent
    assert command.length == len(sent)


@pytest.mark.parametrize(
    "body", [b'{"certname":"a","producer_timestamp":"2026-01-01T01:00:00+01:00"}', b"[1]", b"", b"\xff", b'{"a":']
)
def test_a_body_with_a_timestamp_of_its_own_or_that_is_no_payload_goes_on_as_it_is(body: bytes) -> None:
    command = command_from("command=store_report&version=8&certname=a", {}, body, now=NOW)
    assert command.body == body
    own = "2026-01-01T00:00:00.000Z" if body.startswith(b'{"cert') else STAMP
    assert command.producer_timestamp == own


def test_a_body_that_says_gzip_and_is_none_goes_on_as_it_is() -> None:
    headers = {"Content-Encoding": "gzip"}
    command = command_from("command=store_report&version=8&certname=a", headers, b"not gzip", now=NOW)
    assert command.body == b"not gzip"


def test_with_a_timestamp_in_the_request_no_body_is_looked_into() -> None:
    query = "command=store_report&version=8&certname=a&producer-timestamp=2026-01-01T00:00:00.000Z"
    assert command_from(query, {}, b'{"certname":"a"}', now=NOW).body == b'{"certname":"a"}'


@pytest.mark.parametrize(
    ("target", "body", "so"),
    [
        ("/pdb/query/v4/resources?query=%5B%22%3D%22%2C%22exported%22%2Ctrue%5D", None, True),
        ("/pdb/query/v4/resources?query=%5B%22%3D%22%2C%22%65xported%22%2Ctrue%5D", None, True),
        ("/pdb/query/v4", b'{"query": "resources { exported = true }"}', True),
        ("/pdb/query/v4/nodes", None, False),
        ("/pdb/query/v4", b'{"query": "nodes { }"}', False),
    ],
)
def test_a_query_that_may_be_about_exported_resources_is_known(target: str, body: bytes | None, so: bool) -> None:
    assert is_about_exported(target, body) is so
