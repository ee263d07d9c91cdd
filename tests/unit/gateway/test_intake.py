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

from pdbclient.gateway.compression import TooLarge
from pdbclient.gateway.intake import OLDEST_VERSIONS, Refused, command_from, is_about_exported, seconds_to_wait
from pdbclient.wire import Command

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
STAMP = "2026-01-31T12:00:00.123Z"
FACTS = b'{"certname":"a.example","values":{"n":1.50}}'
OK = "version=5&certname=a.example&command=replace_facts"


def taken(query: str = OK, body: bytes = FACTS, limit: int = 1 << 20, **headers: str) -> Command:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return command_from(query, lines, body, now=NOW, limit=limit)


def refused(query: str = OK, body: bytes = FACTS, **options: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        taken(query, body, **options)
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
def test_headers_are_checked_in_both_forms(headers: dict[str, Any], status: int) -> None:
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


@pytest.mark.parametrize(
    "beside",
    [
        {"checksum": "abc", "certname": "other"},
        {"secondsToWaitForCompletion": "0"},
        {"secondsToWaitForCompletion": None, "producer-timestamp": None, "foo": None},
    ],
)
def test_in_the_old_form_parameters_may_stand_beside_the_payload(beside: dict[str, object]) -> None:
    assert taken("", old(**beside)) == taken("", old())


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
        (old(foo=1, bar=2, baz=None), "invalid parameters: bar, foo"),
        (old(secondsToWaitForCompletion="soon"), "secondsToWaitForCompletion must be a number of seconds"),
        (old(secondsToWaitForCompletion=[5]), "secondsToWaitForCompletion must be a number of seconds"),
        (old(**{"producer-timestamp": 5}), "producer-timestamp must be a string"),
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


@pytest.mark.parametrize("stamp", ["yesterday", None, 5.5, []])
def test_in_the_old_form_too_an_unreadable_timestamp_counts_as_none(stamp: object) -> None:
    body = old(payload={"certname": "a", "producer_timestamp": stamp})
    assert taken("", body).producer_timestamp == STAMP


@pytest.mark.parametrize("stamp", ["9999-12-31T23:00:00-18:00", "+12999-01-01T00:00:00.000Z", 1_796_056_000_000_000])
def test_a_timestamp_of_years_beyond_ours_is_the_last_of_ours(stamp: object) -> None:
    """As an integer, microseconds by mistake, it was noted as it is: what was acknowledged counted as damaged."""
    body = old(payload={"certname": "a", "producer_timestamp": stamp})
    assert taken("", body).producer_timestamp == "9999-12-31T23:59:59.999Z"


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
    for body in (b"{}", json.dumps({"certname": certname}).encode()):
        assert taken(urlencode(parameters), body).certname == certname
        assert taken(urlencode(parameters, quote_via=quote), body).certname == certname
    assert taken("", old(payload={"certname": certname})).certname == certname


@given(st.text(max_size=60) | st.text("=&;%+command", max_size=60), st.binary(max_size=200))
def test_no_request_does_anything_but_make_a_command_or_be_refused(query: str, body: bytes) -> None:
    for each in (query, OK + "&" + query):
        with suppress(Refused):
            taken(each, body)


@pytest.mark.parametrize(
    "name", ["replace_catalog_inputs", "store_report", "deactivate_node", "configure_expiration"]
)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("own", ["", ',"producer_timestamp":null'])
def test_a_body_that_the_server_would_stamp_is_stamped_here_once(name: str, compressed: bool, own: str) -> None:
    body = f'{{"certname":"a","big":1e400{own}}}'.encode()
    query = f"command={name}&version=8&certname=a"
    command = taken(query, gzip.compress(body), Content_Encoding="gzip") if compressed else taken(query, body)
    sent = gzip.decompress(command.body) if compressed else command.body
    assert json.loads(sent)["producer_timestamp"] == command.producer_timestamp == STAMP
    assert b"1e400" in sent
    assert command.length == len(sent)


@pytest.mark.parametrize(
    "body", [b'{"certname":"a","producer_timestamp":"2026-01-01T01:00:00+01:00"}', b"[1]", b"", b"\xff", b'{"a":']
)
def test_a_body_with_a_timestamp_of_its_own_or_that_is_no_payload_goes_on_as_it_is(body: bytes) -> None:
    command = taken("command=store_report&version=8&certname=a", body)
    assert command.body == body
    own = "2026-01-01T00:00:00.000Z" if body.startswith(b'{"cert') else STAMP
    assert command.producer_timestamp == own


def test_a_body_that_says_gzip_and_is_none_goes_on_as_it_is() -> None:
    command = taken("command=store_report&version=8&certname=a", b"not gzip", Content_Encoding="gzip")
    assert command.body == b"not gzip"


def test_a_timestamp_that_only_the_request_has_is_put_into_the_body() -> None:
    query = "command=store_report&version=8&certname=a&producer-timestamp=2026-01-01T00:00:00.000Z"
    command = taken(query, b'{"certname":"a"}')
    assert command.producer_timestamp == "2026-01-01T00:00:00.000Z"
    assert json.loads(command.body)["producer_timestamp"] == command.producer_timestamp


OWN = "2026-01-01T11:30:00.123Z"
VERSIONS_TAKEN = [(name, version) for name, oldest in OLDEST_VERSIONS.items() for version in range(oldest, 10)]


def forms(name: str, version: int, payload: bytes, given: str) -> dict[str, tuple[str, bytes, dict[str, Any]]]:
    """Each form of a command: query, body, headers. `given` is the timestamp beside the payload."""
    query = f"version={version}&certname=a.example&command={name.replace(' ', '_')}{given and '&producer-timestamp='}"
    beside = f',"producer-timestamp":"{given}"' if given else ""
    whole = f'{{"command":"{name}","version":{version},"payload":'.encode() + payload + f"{beside}}}".encode()
    return {
        "plain": (query + quote(given), payload, {}),
        "gzip": (query + quote(given), gzip.compress(payload), {"Content_Encoding": "gzip"}),
        "old": ("", whole, {}),
    }


@pytest.mark.parametrize("form", ["plain", "gzip", "old"])
@pytest.mark.parametrize("given", ["", "2025-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z", "yesterday"])
@pytest.mark.parametrize(("name", "version"), VERSIONS_TAKEN)
def test_the_payloads_own_timestamp_counts_in_every_form(name: str, version: int, given: str, form: str) -> None:
    payload = (
        b'{"certname":"a.example","x":{"producer_timestamp":1},"producer_timestamp":"2026-01-01T13:30:00.1239+02"}'
    )
    query, body, headers = forms(name, version, payload, given)[form]
    command = taken(query, body, **headers)
    assert (command.name, command.version, command.producer_timestamp) == (name, version, OWN)
    assert command.body == (body if form == "gzip" else payload)


@pytest.mark.parametrize(
    "payload",
    [
        '{"producer_timestamp":"2020-01-01T00:00:00Z","producer_timestamp":"%"}',
        '{"producer\\u005ftimestamp":"%"}',
        '{"values":{"producer_timestamp":"2020-01-01T00:00:00Z"},"producer_timestamp":"%"}',
        '{"producer_timestamp":"%","values":{"producer_timestamp":"2020-01-01T00:00:00Z"}}',
        '{"values":"\\"producer_timestamp\\":\\"2020-01-01T00:00:00Z\\"","producer_timestamp":"%"}',
        ' \r\n\t{ "producer_timestamp" \n:\t"%" } \n',
        '{"producer_timestamp":"2026-01-01T11:30:00.123\\u005a"}',
        '{"producer_timestamp":"%","values":"\\ud800"}',
        '{"producer_timestamp":"%"} and more',
        '{"producer_timestamp":"%","values":"\x01"}',
        '{"producer_timestamp":"%","n":[1e999,-0.5E-7,123456789012345678901234567890]}',
        '{"producer_timestamp":"%","Producer_timestamp":"no","producer-timestamp":"no"}',
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_it_is_found_as_the_server_finds_it(payload: str, compressed: bool) -> None:
    body = payload.replace("%", OWN).encode()
    command = taken(OK, gzip.compress(body), Content_Encoding="gzip") if compressed else taken(OK, body)
    assert command.producer_timestamp == OWN


def test_it_is_found_beside_what_is_not_utf_8() -> None:
    body = b'{"producer_timestamp":"%s","values":{"\xff":"\xfe"}}' % OWN.encode()
    assert taken(OK, body).producer_timestamp == OWN


@pytest.mark.parametrize(
    "own", ["null", '"yesterday"', "5.5", "true", "[]", "{}", "1" * 5000, '"2026-01-01 00:00:00Z"']
)
def test_where_the_payload_has_none_that_can_be_read_the_parameter_counts_and_then_the_clock(own: str) -> None:
    body = f'{{"certname":"a.example","values":{{"producer_timestamp":"{OWN}"}},"producer_timestamp":{own}}}'.encode()
    assert taken(f"{OK}&producer-timestamp={OWN}", body).producer_timestamp == OWN
    assert taken(OK, body).producer_timestamp == STAMP
    assert taken(OK, body).body == body


def test_the_payloads_own_certname_counts() -> None:
    assert taken(OK, b'{"certname":"b.example"}').certname == "b.example"
    for other in ('""', '" "', "5", "null", "[]", '"b\\ud800"', '"b\\u0000"'):
        command = taken(OK, f'{{"certname":{other}}}'.encode())
        assert command.certname == "a.example"
        assert urlencode(command.params())
    assert taken(OK, b"{}").certname == taken(OK, b"[]").certname == "a.example"


def test_of_several_gzip_files_only_the_first_counts() -> None:
    body = gzip.compress(b'{"producer_timestamp":"%s"}' % OWN.encode()) + gzip.compress(FACTS)
    assert taken(OK, body, Content_Encoding="gzip").producer_timestamp == OWN


def test_what_unpacks_to_more_than_the_limit_is_too_large() -> None:
    body = gzip.compress(b'{"a":"%s"}' % (b" " * 100_000))
    assert taken(OK, body, limit=100_008, Content_Encoding="gzip").body == body
    with pytest.raises(TooLarge):
        taken(OK, body, limit=100_007, Content_Encoding="gzip")


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
