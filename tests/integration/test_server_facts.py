"""The facts of `tests/versions.py`, each put to the real server of its version: three of them, in one lab.

The fake servers of the unit and fault tests stand on these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from pdbclient.errors import PdbError, ServerError
from pdbclient.http.session import Session
from pdbclient.lab import Lab, LabOptions
from pdbclient.wire.report_hash import report_hash
from tests import puppetdbs
from tests.unit.sync import fake
from tests.unit.sync.fake import FakeNode, FakePuppetDB
from tests.unit.wire.report_hash_cases import CASES, CHANGED_IN_STORE, report
from tests.versions import STARTING, STARTING_STATUS, Refusal, release_of

from .admin_commands import clean
from .conftest import ready, running_lab
from .locked_table import locked
from .one_server import QUERY, Server
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
def server(lab: Lab, request: pytest.FixtureRequest) -> Server:
    return Server(lab, request.param, release_of(puppetdbs.held(NODES[request.param])))


def assert_refused(answer: requests.Response, refusal: Refusal) -> None:
    assert (answer.status_code, answer.content) == (refusal.status, refusal.body)
    assert answer.headers.get("Content-Type") == refusal.content_type
    assert answer.headers.get("Location", "").endswith(refusal.location)


def test_version_and_schema(server: Server) -> None:
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
def test_an_unknown_address(server: Server, path: str, method: str) -> None:
    answer = server.request(method, path, json={} if method == "POST" else None)
    assert_refused(answer, server.release.unknown)


def test_the_latest_version_has_an_address(server: Server) -> None:
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
def test_what_all_refuse_alike(server: Server, path: str, status: int, content_type: str | None) -> None:
    answer = server.request("GET", path)
    assert (answer.status_code, answer.headers.get("Content-Type")) == (status, content_type)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("origin", "x"), ("timeout", 5), ("nope", 1), ("limit", 1), ("include_facts_expiration", True)],
)
def test_a_parameter_that_it_does_not_know(server: Server, parameter: str, value: Any) -> None:
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
def test_columns_of_nodes_whose_table_is_forgotten(server: Server, query: Any, expiration: bool) -> None:
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
def test_what_it_says_to_other_types(server: Server, path: str) -> None:
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


def test_the_version_of_puppet_enterprises_sync(server: Server) -> None:
    def status(number: int) -> int:
        return server.request("GET", f"{QUERY}/nodes", headers={"x-pdb-sync-ver": str(number)}).status_code

    assert {number for number in range(4) if status(number) == 200} == {server.release.sync_version}


REFUSED_OR_NOT: list[tuple[str, Any, Json]] = [
    ("/nope", SET, {}),
    ("/nodes", ANY, {"origin": "x"}),
    ("/nodes", ANY, {"timeout": 5}),
    *(("/nodes", query, {"include_facts_expiration": "true"}) for query, expiration in LOST + FOUND if expiration),
]


def test_the_fake_answers_as_the_server_does(server: Server) -> None:
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


def test_how_much_of_a_stamp_is_stored_and_shown(server: Server) -> None:
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


def test_the_hash_of_a_report(server: Server) -> None:
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
def test_reports_of_odd_days(server: Server, days: list[str]) -> None:
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


def test_a_second_catalog_of_a_node(server: Server) -> None:
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
def test_a_record_between_the_two_flags_of_a_node(server: Server, flag: str) -> None:
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


def test_what_garbage_collection_leaves_of_reports(server: Server) -> None:
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


def test_a_query_whose_connection_to_the_database_was_just_closed(server: Server) -> None:
    def asked() -> requests.Response:
        return server.request("GET", f"{QUERY}/nodes")

    for _ in range(20):
        for _ in range(8):
            assert asked().status_code == 200
        close_connections(server.lab, server.name)
        answer = asked()
        if answer.status_code != 200:  # 200: this took more than half a second
            break
    assert_refused(answer, server.release.disconnected)
    assert asked().status_code == 200


def test_what_it_says_while_it_starts(server: Server) -> None:
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


def _wait_until_it_listens(server: Server) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            server.request("GET", STATUS)
            return
        except requests.ConnectionError:
            assert time.monotonic() < until, f"{server.release} does not listen"
            time.sleep(0.1)


def _until_it_runs(server: Server) -> set[tuple[int, str]]:
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
