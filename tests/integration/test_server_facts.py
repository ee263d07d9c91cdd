"""The facts of `tests/versions.py`, each put to the real server of its version: three of them, in one lab.

The fake servers of the unit and fault tests stand on these.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from pdbclient.errors import PdbError, ServerError
from pdbclient.gateway.intake import OLDEST_VERSIONS, Refused, command_from
from pdbclient.http.session import Session
from pdbclient.lab import Lab, LabOptions
from pdbclient.sync.inventory.kinds import FACTS
from pdbclient.wire import Command
from pdbclient.wire.record import catalog_command
from pdbclient.wire.report_hash import report_hash
from pdbclient.wire.timestamp import as_stored
from tests import puppetdbs
from tests.unit.sync import fake
from tests.unit.sync.fake import FakeNode, FakePuppetDB
from tests.unit.wire.large_texts import FREE, INDEXED, text
from tests.unit.wire.large_texts import payload as large_payload
from tests.unit.wire.report_hash_cases import CASES, CHANGED_IN_STORE, report
from tests.unit.wire.test_wire_command import ALIKE
from tests.unit.wire.wire_payloads import STAMP as JANUARY
from tests.unit.wire.wire_payloads import resource
from tests.versions import STARTING, STARTING_STATUS, Refusal, release_of

from .admin_commands import clean
from .conftest import ready, running_lab
from .locked_table import locked
from .one_server import QUERY, OneServer
from .schema import close_connections, flags_table

pytestmark = pytest.mark.integration

NODES = dict(zip(("primary", "replica", "replica2"), puppetdbs.VERSIONS, strict=True))
Json = dict[str, Any]
STATUS = "/status/v1/services/puppetdb-status"
EXPIRES = "expires_facts_updated"
HOUR = 3_600_000
RUN = "1b5ad2e0-0000-4000-8000-{:012d}"


@pytest.fixture(scope="module")
def lab(lab_directory: Path) -> Iterator[Lab]:
    jars = {name: puppetdbs.jar(version) for name, version in NODES.items()}
    options = LabOptions(
        puppetdb_jar=jars.pop("primary"), node_jars=jars, heap="512m", gc_interval=0, report_ttl="14d"
    )
    with running_lab(lab_directory, "versions", 3, options) as three:
        yield ready(three)


@pytest.fixture(params=NODES, ids=[f"PuppetDB-{version}" for version in NODES.values()])
def server(lab: Lab, request: pytest.FixtureRequest) -> OneServer:
    return OneServer(lab, request.param, release_of(puppetdbs.held(NODES[request.param])))


def assert_refused(answer: requests.Response, refusal: Refusal) -> None:
    assert (answer.status_code, answer.content) == (refusal.status, refusal.body)
    assert answer.headers.get("Content-Type") == refusal.content_type
    assert answer.headers.get("Location", "").endswith(refusal.location)


def test_version_and_schema(server: OneServer) -> None:
    assert server.request("GET", "/pdb/meta/v1/version").json() == {"version": server.release.version}
    ((schema,),) = server.lab.sql(server.name, "select max(version) from schema_migrations")
    assert server.release.schema in (int(schema), None)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        *("/pdb/nope", "/pdb/meta/v1/nope", f"{QUERY}/nope", f"{QUERY}/reports/abc", f"{QUERY}/factsets/a%20b"),
        *(f"{QUERY}//nodes", "/pdb/query/v5/nodes", "/pdb/dashboard/nope", f"{QUERY}/nodes/a/b"),
    ],
)
def test_an_unknown_address(server: OneServer, path: str, method: str) -> None:
    answer = server.request(method, path, json={} if method == "POST" else None)
    assert_refused(answer, server.release.unknown)


def test_the_latest_version_has_an_address(server: OneServer) -> None:
    answer = server.request("GET", "/pdb/meta/v1/version/latest")
    assert server.release.has_latest
    assert answer.status_code == 200
    assert answer.json()["version"] == server.release.version


@pytest.mark.parametrize(
    ("path", "status", "content_type"),
    [
        (f"{QUERY}/nodes/nope", 404, "application/json;charset=utf-8"),
        (f"{QUERY}/factsets/nope", 404, "application/json;charset=utf-8"),
        (f"{QUERY}/environments/nope", 404, "application/json;charset=utf-8"),
        ("/status/v1/services/nope", 404, "application/json;charset=utf-8"),
        ("/pdb/query/v3/nodes", 404, "text/plain;charset=utf-8"),
        ("/nope", 404, "text/html;charset=iso-8859-1"),
        ("/metrics/v1/mbeans", 404, "text/html;charset=iso-8859-1"),
        (f"{QUERY}/nodes/%00", 400, "text/html;charset=iso-8859-1"),
        ("/", 302, None),
    ],
)
def test_what_all_refuse_alike(server: OneServer, path: str, status: int, content_type: str | None) -> None:
    answer = server.request("GET", path)
    assert (answer.status_code, answer.headers.get("Content-Type")) == (status, content_type)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("origin", "x"), ("timeout", 5), ("nope", 1), ("limit", 1), ("include_facts_expiration", True)],
)
def test_a_parameter_that_it_does_not_know(server: OneServer, parameter: str, value: Any) -> None:
    known = server.release.parameters | fake.PARAMETERS
    for answer in (
        server.query("/nodes", ["=", "node_state", "any"], **{parameter: value}),
        server.request("GET", f"{QUERY}/nodes", params={parameter: str(value).lower()}),
    ):
        if parameter in known:
            assert answer.status_code == 200
        else:
            message = f"Unsupported query parameter '{parameter}'".encode()
            assert_refused(answer, Refusal(400, message, "text/plain;charset=utf-8"))


ANY = ["=", "node_state", "any"]
SET = ["null?", EXPIRES, False]
LOST = [
    (["extract", ["certname", "expires_facts", EXPIRES], SET], True),
    (["extract", ["certname", EXPIRES], ["and", ANY, SET]], True),
    (["extract", ["certname", "expires_facts"], ANY], True),
    (["extract", ["certname"], SET], True),
    (["extract", ["certname", "report_environment"], ANY], False),
    (["extract", ["certname"], ["null?", "report_environment", False]], False),
]
FOUND = [
    (SET, True),
    (["and", ANY, SET, ["in", "certname", ["array", ["n"]]]], True),
    (["extract", ["certname", EXPIRES, "latest_report_hash"], SET], True),
    (["extract", ["certname", "deactivated", "expired"], ANY], False),
    (["null?", "report_environment", False], False),
]


@pytest.mark.parametrize(("query", "expiration"), [*LOST, *FOUND], ids=lambda each: json.dumps(each))
def test_columns_of_nodes_whose_table_is_forgotten(server: OneServer, query: Any, expiration: bool) -> None:
    params = {"include_facts_expiration": True} if expiration else {}
    answer = server.query("/nodes", query, **params)
    refusal = server.release.lost_join
    if (query, expiration) in FOUND or refusal is None:
        assert answer.status_code == 200, answer.text
        return
    told = answer.content.partition(b"Position")[0]
    assert (answer.status_code, told) == (refusal.status, refusal.body.partition(b"Position")[0])
    assert answer.headers["Content-Type"] == refusal.content_type


@pytest.mark.parametrize("path", [f"{QUERY}/nodes", "/pdb/meta/v1/version", "/pdb/cmd/v1"])
def test_what_it_says_to_other_types(server: OneServer, path: str) -> None:
    method = "POST" if path == "/pdb/cmd/v1" else "GET"
    refused = [server.request(method, path, headers={"Accept": "text/html", "Content-Type": "application/json"})]
    if path.startswith((QUERY, "/pdb/cmd")):
        refused.append(server.request("POST", path, data=b"{}", headers={"Content-Type": "text/plain"}))
    assert [answer.status_code for answer in refused] == [406, 415][: len(refused)]
    for answer, kind in zip(refused, ("not-acceptable", "unsupported-type"), strict=False):
        if server.release.refuses_in_json:
            assert answer.headers["Content-Type"] == "application/json;charset=utf-8"
            assert (answer.json()["kind"], answer.json().keys()) == (kind, {"kind", "msg"})
        else:
            assert answer.headers["Content-Type"] == "text/plain;charset=utf-8"


def test_the_version_of_puppet_enterprises_sync(server: OneServer) -> None:
    def status(number: int) -> int:
        return server.request("GET", f"{QUERY}/nodes", headers={"x-pdb-sync-ver": str(number)}).status_code

    assert {number for number in range(4) if status(number) == 200} == {server.release.sync_version}


REFUSED_OR_NOT: list[tuple[str, Any, Json]] = [
    ("/nope", SET, {}),
    ("/nodes", ANY, {"origin": "x"}),
    ("/nodes", ANY, {"timeout": 5}),
    *(("/nodes", query, {"include_facts_expiration": "true"}) for query, expiration in LOST + FOUND if expiration),
]


def test_the_fake_answers_as_the_server_does(server: OneServer) -> None:
    """As a session tells it."""

    def told(other: Session | FakePuppetDB, path: str, query: Any, params: Json) -> Any:
        try:
            return len(list(other.rows(path, query=query, params=params)))
        except PdbError as error:
            return type(error), error.status if isinstance(error, ServerError) else None

    model = FakePuppetDB("model", time.time, server.release)
    server.lab.empty(server.name)
    with server.session() as real:
        for each in REFUSED_OR_NOT:
            assert told(real, *each) == told(model, *each), each


FRACTIONS = ("1", "123", "1234", "1239", "123999", "1239997", "1230003", "123999999", "999999", "9999999")


def test_how_much_of_a_stamp_is_stored_and_shown(server: OneServer) -> None:
    makes: dict[str, Callable[[str, int], Json]] = {
        "replace facts": fake.facts,
        "replace catalog": fake.catalog,
        "replace catalog inputs": fake.inputs,
        "configure expiration": fake.expiration,
        "store report": lambda certname, millis: report(certname, status="failed"),
    }
    for number, fraction in enumerate(FRACTIONS):
        stamp, certname = f"2026-11-20T10:00:11.{fraction}Z", f"stamp{number}.example"
        stamps = dict.fromkeys(("producer_timestamp", "start_time", "end_time"), stamp)
        for command, make in makes.items():
            payload = make(certname, 0)
            server.store(command, payload | {key: value for key, value in stamps.items() if key in payload})
        server.store("deactivate node", {"certname": certname, "producer_timestamp": stamp})
        stored = server.release.stored(stamp)
        for path in ("/factsets", "/catalogs", "/catalog-inputs", "/reports"):
            (row,) = server.rows(path, ["and", ["=", "node_state", "any"], ["=", "certname", certname]])
            found = {row[key] for key in stamps if key in row}
            assert found == {server.release.shown(stored)}, (path, stamp)
        (node,) = server.rows("/nodes", ["and", ANY, ["=", "certname", certname]], include_facts_expiration=True)
        assert {node["deactivated"], node[EXPIRES]} == {server.release.shown(stored)}, stamp
        for table in ("factsets", "catalogs", "reports"):
            text = """to_char(producer_timestamp at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
            ((kept,),) = server.lab.sql(server.name, f"select {text} from {table} where certname = '{certname}'")
            assert kept == stored.removesuffix("Z").ljust(26, "0") + "Z"


STAMP, PATHS = "2026-11-20T10:00:11.500Z", {"replace facts": "/factsets", "replace catalog": "/catalogs"}
PATHS |= {"replace catalog inputs": "/catalog-inputs", "store report": "/reports"}
WRITTEN = ("2026-11-20T10:00:11.5Z", "2026-11-20T12:00:11.500999999+02:00", "2026-11-20t04:30:11.5-05:30")
LAX = (
    *("2026-11-20T12:00:11.5+0200", "2026-11-20T10:00:11,5Z", "20261120T100011.500Z", 1_795_168_811_500),
    *("2026-11-20T10:00:11.500", "2026-W47-5T10:00:11.500Z"),
)
LAX_OTHERS = ("2026-11-20T10", "2026-11-20 10:00:11", "2026-11-20", "20261120", "2026-W47-5", "2026-11", "2026", 5)
UNREADABLE: tuple[Any, ...] = (
    "2026-11-20 10:00:11Z",
    "1795168811500",
    "yesterday",
    "2026-11-20T24:00:00Z",
    5.5,
    True,
    [],
    "",
)


def shown_stamps(server: OneServer, command: str, certname: str) -> list[str]:
    if command in PATHS:
        rows = server.rows(PATHS[command], ["and", ANY, ["=", "certname", certname]])
        return [row["producer_timestamp"] for row in rows]
    rows = server.rows("/nodes", ["and", ANY, ["=", "certname", certname]], include_facts_expiration=True)
    return [row["deactivated"] or row[EXPIRES] for row in rows]


def made(command: str, certname: str, stamp: Any) -> Json:
    makes: dict[str, Callable[[str, int], Json]] = {
        "replace facts": fake.facts,
        "replace catalog": fake.catalog,
        "replace catalog inputs": fake.inputs,
        "configure expiration": fake.expiration,
        "store report": lambda certname, _: report(certname, status="failed"),
        "deactivate node": lambda certname, _: {"certname": certname},
    }
    return makes[command](certname, 0) | {"producer_timestamp": stamp}


@pytest.mark.parametrize("command", OLDEST_VERSIONS)
def test_which_time_a_payload_is_of(server: OneServer, command: str) -> None:
    """However it is written. Reports are read as their format says, the others less strictly."""
    lax = () if command == "store report" else (*LAX, *LAX_OTHERS)
    for number, stamp in enumerate((*WRITTEN, *lax)):
        certname = f"written{number}-{command.replace(' ', '-')}.example"
        server.store(command, made(command, certname, stamp))
        assert shown_stamps(server, command, certname) == [as_stored(stamp)], stamp
        assert stamp in LAX_OTHERS or as_stored(stamp) == STAMP
    refused = [f"unreadable{number}-{command.replace(' ', '-')}.example" for number in range(len(UNREADABLE))]
    if command == "replace catalog inputs":
        return  # it would try each of these again for hours
    for certname, stamp in zip(refused, UNREADABLE, strict=True):
        server.submit(command, made(command, certname, stamp), 0)
    server.store(command, made(command, f"last-{command.replace(' ', '-')}.example", STAMP))
    for certname, stamp in zip(refused, UNREADABLE, strict=True):
        assert shown_stamps(server, command, certname) == [], stamp
        with pytest.raises(ValueError, match=r"timestamp|hour|Invalid"):
            as_stored(stamp)


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda body: body,
    "blanks": lambda body: b" \r\n\t" + body + b"\n",
    "more behind it": lambda body: body + b" and more",
    "twice": lambda body: b'{"producer_timestamp":"2020-01-01T00:00:00Z",' + body[1:],
    "escaped": lambda body: body.replace(b"r_timestamp", b"r\\u005ftimestamp"),
    "nested": lambda body: body.replace(b'"tag"', b'"producer_timestamp"'),
    "half a surrogate pair": lambda body: body.replace(b'"tag"', b'"\\ud800"'),
    "not UTF-8": lambda body: body.replace(b'"tag"', b'"\xff"'),
    "a control character": lambda body: body.replace(b'"tag"', b'"\x01"'),
    "gzip": gzip.compress,
    "gzip and more": lambda body: gzip.compress(body) + b"xx",
    "gzip twice": lambda body: gzip.compress(body) + gzip.compress(b"{}"),
}


@pytest.mark.parametrize("how", BODIES)
def test_the_gateway_finds_the_time_and_the_certname_where_the_server_does(server: OneServer, how: str) -> None:
    certname = f"{how.replace(' ', '-')}.example"
    facts = fake.facts(certname, 0) | {"values": {"key": "tag"}, "producer_timestamp": STAMP}
    body = BODIES[how](json.dumps(facts, separators=(",", ":")).encode())
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if how.startswith("gzip") else {})
    params = {"command": "replace_facts", "version": "5", "certname": "other.example"}
    answer = server.request(
        "POST", "/pdb/cmd/v1", params=params | {"secondsToWaitForCompletion": "20"}, data=body, headers=headers
    )
    assert answer.json().get("processed"), answer.text
    assert shown_stamps(server, "replace facts", certname) == [STAMP]
    read = command_from(urlencode(params), headers, body, now=datetime.now(UTC), limit=1 << 20)
    assert (read.certname, read.producer_timestamp, read.body) == (certname, STAMP, body)


def given_beside(server: OneServer, payload: Json, **beside: str) -> None:
    """Facts with parameters of their own: `certname`, `producer_timestamp`."""
    params = {"command": "replace_facts", "version": "5", "certname": payload["certname"]}
    params |= {name.replace("_", "-"): value for name, value in beside.items()}
    answer = server.request("POST", "/pdb/cmd/v1", params=params, json=payload)
    assert answer.status_code == 200, answer.text


def of_hour(certname: str, hour: int) -> Json:
    return fake.facts(certname, 0) | {"producer_timestamp": at_hour(hour)}


def at_hour(hour: int) -> str:
    return f"2026-11-20T{hour:02d}:00:00.000Z"


def test_parameters_that_contradict_the_payload(server: OneServer) -> None:
    """What is shown, whose it is, and what replaces what: the payload decides, in the order in which they come."""
    for given, own in ((20, 10), (22, 9), (1, 11)):
        payload = of_hour("contrary.example", own)
        given_beside(server, payload, producer_timestamp=at_hour(given), secondsToWaitForCompletion="20")
        assert shown_stamps(server, "replace facts", "contrary.example") == [at_hour(max(own, 10))]
    given_beside(server, of_hour("own.example", 10), certname="given.example", secondsToWaitForCompletion="20")
    assert shown_stamps(server, "replace facts", "own.example") == [at_hour(10)]
    assert shown_stamps(server, "replace facts", "given.example") == []


QUEUED: dict[str, tuple[list[tuple[str, int | None, str, int]], dict[str, list[int]]]] = {
    "as the payloads": ([("a", 10, "a", 10), ("a", 13, "a", 13), ("a", 11, "a", 11)], {"a": [13]}),
    "no time given": ([("b", None, "b", 10), ("b", None, "b", 13)], {"b": [13]}),
    "the newest given as older": ([("c", 12, "c", 10), ("c", 11, "c", 13)], {"c": [10]}),
    "the older given as newest": ([("d", 12, "d", 13), ("d", 14, "d", 11)], {"d": [11]}),
    "another node's given as newer": ([("e", 10, "e1", 10), ("e", 11, "e2", 11)], {"e1": [], "e2": [11]}),
    "one node given as two": ([("f1", 12, "f", 10), ("f2", 11, "f", 9)], {"f": [10]}),
}


def test_parameters_that_contradict_the_payload_while_commands_wait(server: OneServer) -> None:
    """The parameters decide what is dropped from the queue: what is sent on says what its payload says."""
    with locked(server.lab, server.name, "factsets", "access exclusive"):
        for number in range(4):  # more than it works on at once
            given_beside(server, of_hour(f"before{number}.example", 10), producer_timestamp=at_hour(10))
        for commands, _ in QUEUED.values():
            for certname, given, own, hour in commands:
                beside = {} if given is None else {"producer_timestamp": at_hour(given)}
                given_beside(server, of_hour(own, hour), certname=certname, **beside)
    for number in range(4):
        server.store("replace facts", of_hour(f"after{number}.example", 10))
    for how, (_, expected) in QUEUED.items():
        for certname, hours in expected.items():
            shown = shown_stamps(server, "replace facts", certname)
            assert shown == [at_hour(hour) for hour in hours], how


def test_what_may_stand_beside_the_payload_in_the_old_form(server: OneServer) -> None:
    accepted: list[Json] = [{"checksum": "x", "certname": "given.example"}, {"producer-timestamp": at_hour(20)}]
    accepted += [{"foo": None, "secondsToWaitForCompletion": None}, {"producer-timestamp": "yesterday"}]
    refused: list[Json] = [{"foo": 1}, {"producer-timestamp": 5}]
    for number, beside in enumerate(accepted + refused):
        certname = f"old{number}.example"
        document = {"command": "replace facts", "version": 5, "payload": of_hour(certname, 10)} | beside
        status = server.request("POST", "/pdb/cmd/v1", json=document).status_code
        body = json.dumps(document).encode()
        if beside in accepted:
            assert status == 200
            read = command_from("", {}, body, now=datetime.now(UTC), limit=1 << 20)
            assert (read.certname, read.producer_timestamp) == (certname, at_hour(10))
        else:
            assert status in (400, 500)
            with pytest.raises(Refused):
                command_from("", {}, body, now=datetime.now(UTC), limit=1 << 20)


def test_packages_asked_for_apart_are_those_that_come_with_the_facts(server: OneServer) -> None:
    """Asked for with all facts, they cost a server a look at those of all its nodes (`sync.inventory.kinds`)."""
    several = [["bash", "5.2", "apt"], ['ünïcode"', "1:0~", "gem"], ["bash", "5.2", "rpm"], ["bash", "5.3", "apt"]]
    nodes = {"several.example": several, "one.example": several[:1], "none.example": [], "other.example": several}
    for certname, packages in nodes.items():
        server.store("replace facts", of_hour(certname, 12) | {"package_inventory": packages})
    server.store("deactivate node", {"certname": "one.example", "producer_timestamp": at_hour(13)})
    wanted = [*nodes][:3]
    together = server.rows("/factsets", FACTS.records(wanted), include_package_inventory="true")
    with server.session() as session:
        apart = [json.loads(row) for row in FACTS.rows(session, wanted, lambda: 60.0)]

    # A server says none as null, or not at all.
    for row in (*apart, *together):
        row["package_inventory"] = sorted(row.get("package_inventory") or [])

    def by_node(rows: list[Json]) -> dict[str, Json]:
        return {row["certname"]: row for row in rows}

    assert by_node(apart) == by_node(together)
    assert {row["certname"]: row["package_inventory"] for row in apart} == {
        name: sorted(nodes[name]) for name in wanted
    }


def has(server: OneServer, name: str, certname: str, change: str) -> bool:
    """Whether it shows what such a command brought, the part that the change is in included."""
    rows = server.rows(PATHS[name], ["and", ANY, ["=", "certname", certname]])
    if not rows or name == "store report":
        return bool(rows) and bool(rows[0]["resource_events"]["data"])
    if "package" in change or "provider" in change:
        return bool(server.rows("/package-inventory", ["=", "certname", certname]))
    return True


@pytest.mark.parametrize("change", [*INDEXED, *FREE])
def test_texts_that_are_too_long_for_an_index(server: OneServer, change: str) -> None:
    """What repeats itself is compressed, and fits. All that has no index is stored, at any length."""
    name, make = (INDEXED | FREE)[change]

    def large(long: str, what: str) -> Json:
        # Of a day that no report-ttl has reached.
        written = json.dumps(large_payload(name, make, long, f"{what}-{certname}"))
        recent: Json = json.loads(written.replace(JANUARY, STAMP))
        return recent

    fits = {"short": text(2400), "compressed": "a" * 4000} if change in INDEXED else {"long": text(10_000)}
    certname = f"{change.replace(' ', '-').replace(chr(39), '')}.example"
    for what, long in fits.items():
        server.store(name, large(long, what))
        assert has(server, name, f"{what}-{certname}", change), what
    if change in INDEXED:
        server.submit(name, large(text(2700), "long"), 5)
        assert not has(server, name, f"long-{certname}", change)


def test_the_longest_name_of_a_fact(server: OneServer) -> None:
    for length in (1024, 1025):
        certname = f"fact{length}.example"
        told = server.submit(
            "replace facts", made("replace facts", certname, STAMP) | {"values": {"é" * length: 1}}, 5
        )
        assert ("error" in told or told["timed_out"]) is (length > 1024)
        assert bool(shown_stamps(server, "replace facts", certname)) is (length <= 1024)


@pytest.mark.parametrize("members", ALIKE, ids=repr)
def test_a_catalog_from_a_dict_and_its_copy_have_one_hash(server: OneServer, members: Json) -> None:
    odd = {key: value for key, value in resource(**members).items() if value is not ...}
    certname = f"copied{ALIKE.index(members)}.example"
    payload = made("replace catalog", certname, STAMP) | {"resources": [odd], "edges": []}

    def stored(command: Command, stamp: str) -> Json:
        server.store("replace catalog", json.loads(command.body) | {"producer_timestamp": stamp})
        (row,) = server.rows("/catalogs", ["=", "certname", certname])
        assert row["producer_timestamp"] == stamp
        return row

    row = stored(Command.create("replace catalog", payload, now=datetime.now(UTC)), STAMP)
    copy = catalog_command(json.dumps(row).encode())
    assert stored(copy, STAMP.replace("11.500Z", "12.500Z"))["hash"] == row["hash"]


def test_the_hash_of_a_report(server: OneServer) -> None:
    def stored(name: str) -> Json:
        payload, _ = CASES[name]
        server.store("store report", payload)
        (row,) = server.rows("/reports", ["and", ["=", "type", "any"], ["=", "certname", payload["certname"]]])
        return row

    with ThreadPoolExecutor(4) as pool:
        rows = dict(zip(CASES, pool.map(stored, CASES), strict=True))
    for name, row in rows.items():
        payload, expected = CASES[name]
        assert row["hash"] == expected == report_hash(payload), name
        assert (report_hash(row) == row["hash"]) is (name not in CHANGED_IN_STORE), name


ODD_DAYS = [
    *(["1400-01-01"], ["1582-10-15"], ["1969-12-31"], ["9999-12-30"], ["9999-12-31"]),
    *(["2026-11-20", "1400-01-01"], ["1400-01-01", "2026-11-20"]),
    *(["2026-11-20", "9999-12-31"], ["9999-12-31", "2026-11-20"]),
]


@pytest.mark.parametrize("days", ODD_DAYS, ids="+".join)
def test_reports_of_odd_days(server: OneServer, days: list[str]) -> None:
    model = FakePuppetDB("model", time.time, server.release)
    certname = f"{'-'.join(days)}.example"
    for number, day in enumerate(days):
        stamp, run = f"{day}T10:00:00.000Z", RUN.format(number)
        payload = report(certname, producer_timestamp=stamp, transaction_uuid=run, type="agent")
        told = server.submit("store report", payload)
        model.apply("store report", payload)
        assert ("error" in told) is (report_hash(payload) not in model.tables["reports"])
    rows = server.rows("/reports", ["and", ["=", "type", "any"], ["=", "certname", certname]])
    assert {row["hash"] for row in rows} == set(model.tables["reports"])


def test_a_second_catalog_of_a_node(server: OneServer) -> None:
    certname = "double.example"
    server.store("replace catalog", fake.catalog(certname, 1_790_000_000_000))
    column_names = "select string_agg(column_name, ', ') from information_schema.columns"
    ((columns,),) = server.lab.sql(
        server.name,
        f"{column_names} where table_name = 'catalogs' and table_schema = 'public' and column_name <> 'id'",
    )
    double = f"insert into catalogs ({columns}) select {columns} from catalogs where certname = '{certname}'"
    if server.release.one_catalog:
        with pytest.raises(Exception, match="duplicate key"):
            server.lab.sql(server.name, double)
    else:
        server.lab.sql(server.name, double)
    shown = server.rows("/catalogs", ["=", "certname", certname])
    assert len(shown) == (1 if server.release.one_catalog else 2)


@pytest.mark.parametrize("flag", ["deactivated", "expired"])
def test_a_record_between_the_two_flags_of_a_node(server: OneServer, flag: str) -> None:
    """The other flag is after the record."""
    certname, other = f"flags-{flag}.example", {"deactivated": "expired", "expired": "deactivated"}[flag]
    now = int(time.time() * 1000)
    server.store("replace facts", fake.facts(certname, now - 9 * HOUR))
    table = flags_table(server.lab, server.name)
    times = {flag: now - 3 * HOUR, other: now - HOUR}
    texts = ", ".join(f"{name} = to_timestamp({millis} / 1000.0)" for name, millis in times.items())
    server.lab.sql(server.name, f"update {table} set {texts} where certname = '{certname}'")
    model = FakePuppetDB("model", time.time, server.release)
    model.nodes[certname] = FakeNode(times["deactivated"], times["expired"])
    for each in (server.store, model.apply):
        each("replace facts", fake.facts(certname, now - 2 * HOUR))
    (node,) = server.rows("/nodes", ["and", ANY, ["=", "certname", certname]])
    revived = node["deactivated"] is None and node["expired"] is None
    assert revived is (not server.release.newer_flag_holds)
    assert revived is (not model.nodes[certname].flags)


def test_what_garbage_collection_leaves_of_reports(server: OneServer) -> None:
    """As the fake does it, many times over: a server drops one day at a time, and days of other tests, too."""
    server.lab.empty(server.name)
    model = FakePuppetDB("model", time.time, server.release)
    now = datetime.now(UTC)
    for number, (certname, days, kind) in enumerate(
        [
            *(("idle.example", 25, "agent"), ("idle.example", 20, "agent"), ("idle.example", 22, "agent")),
            *(("busy.example", 25, "agent"), ("busy.example", 1, "agent")),
            *(("plan.example", 22, "plan"), ("both.example", 25, "agent"), ("both.example", 20, "plan")),
        ]
    ):
        stamp = f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%S}.000Z"
        payload = report(certname, producer_timestamp=stamp, transaction_uuid=RUN.format(number), type=kind)
        server.store("store report", payload)
        model.apply("store report", payload)
    for _ in range(50):
        clean(server.lab, server.name, "purge_reports")
        model.purge_reports()
    left = server.rows("/reports", ["extract", ["certname", "hash"], ["=", "type", "any"]])
    assert {row["hash"] for row in left} == set(model.tables["reports"])
    idle = [row for row in left if row["certname"] == "idle.example"]
    assert len(idle) == (1 if server.release.keeps_newest else 0)


POOL = 25
"""Connections to its database that a PuppetDB has at most for queries, as configured by nobody."""


def test_a_query_whose_connection_to_the_database_was_just_closed(server: OneServer) -> None:
    def asked() -> requests.Response:
        return server.request("GET", f"{QUERY}/nodes")

    for _ in range(20):
        for _ in range(8):
            assert asked().status_code == 200
        close_connections(server.lab, server.name)
        answer = asked()
        if answer.status_code != 200:  # 200: this took more than half a second
            break
    # Several that were just in use, and closed, may come one after the other: each costs an answer.
    refusals = 0
    while answer.status_code != 200:
        assert_refused(answer, server.release.disconnected)
        refusals += 1
        answer = asked()
    assert 1 <= refusals <= POOL


def test_what_it_says_while_it_starts(server: OneServer) -> None:
    """From when it listens until it runs. It waits for its migrations here, so that this takes long enough."""
    server.lab.fault(server.name, "kill")
    with ThreadPoolExecutor(1) as pool:
        with locked(server.lab, server.name, "schema_migrations", "access exclusive"):
            started = pool.submit(server.lab.fault, server.name, "start")
            _wait_until_it_listens(server)
            for path in ("/nope", "/nodes", "/reports"):
                assert_refused(server.request("GET", f"{QUERY}{path}"), STARTING)
            status = server.request("GET", STATUS)
            assert (status.status_code, status.json()["state"]) == (503, STARTING_STATUS)
            assert not started.done()
        seen = _until_it_runs(server)
        started.result()
    assert seen <= {(503, STARTING_STATUS), (503, "starting"), (200, "starting"), (200, "running")}
    assert_refused(server.request("GET", f"{QUERY}/nope"), server.release.unknown)


def _wait_until_it_listens(server: OneServer) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            server.request("GET", STATUS)
            return
        except requests.ConnectionError:
            assert time.monotonic() < until, f"{server.release} does not listen"
            time.sleep(0.1)


def _until_it_runs(server: OneServer) -> set[tuple[int, str]]:
    """All that its status says until then; before it says so, unknown addresses are refused as ever."""
    seen: set[tuple[int, str]] = set()
    until = time.monotonic() + 120
    while (200, "running") not in seen:
        assert time.monotonic() < until, f"{server.release} does not run"
        answer = server.request("GET", f"{QUERY}/nope")
        status = server.request("GET", STATUS)
        seen.add((status.status_code, status.json()["state"]))
        assert (answer.status_code, answer.content) in {
            (each.status, each.body) for each in (STARTING, server.release.unknown)
        }
        time.sleep(0.05)
    return seen
