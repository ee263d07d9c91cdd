"""A real PuppetDB stores what the wire layer sends, refuses what it refuses, and gives equal records back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import requests

from pdbclient.errors import InvalidCommand
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.wire import VERSIONS, Command, configure_expiration, deactivate_node, parse_collector, record
from pdbclient.wire import query as ast

# The payloads on which the unit tests have this package's verdict are put to the server here.
from tests.unit.wire import wire_payloads as small
from tests.unit.wire.wire_verdicts import IGNORED, REFUSED, STRICTER, STUCK, TAKEN

pytestmark = pytest.mark.integration

Json = dict[str, Any]
Row = Json
ENTITY = {
    "replace catalog": "catalogs",
    "replace catalog inputs": "catalog-inputs",
    "replace facts": "factsets",
    "store report": "reports",
    "deactivate node": "nodes",
    "configure expiration": "nodes",
}
BESIDE: dict[str, Json] = {
    "factsets": {"include_package_inventory": True},
    "nodes": {"include_facts_expiration": True},
}
ALL = ["and", ["=", "node_state", "any"]]


class BarePair:
    """The pair, spoken to with bare requests, so that only the wire layer is under test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._session = requests.Session()
        self._session.trust_env = False
        tls = lab.client_tls
        self._session.verify = str(tls.ca)
        self._session.cert = (str(tls.cert), str(tls.key))

    def close(self) -> None:
        self._session.close()

    def post(self, command: Command, node: str = "primary", wait: float = 20) -> Json:
        """Submit it and wait until it is processed; returns the answer."""
        headers = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json"}
        if command.encoding == "gzip":
            headers["Content-Encoding"] = "gzip"
        params = command.params()
        if wait:
            params.append(("secondsToWaitForCompletion", str(wait)))
        url = f"{self.lab.node(node).url}/pdb/cmd/v1"
        answer = self._session.post(url, params=params, data=command.body, headers=headers, timeout=60)
        told: Json = answer.json()
        return told | {"http": answer.status_code}

    def store(self, command: Command, node: str = "primary") -> None:
        told = self.post(command, node)
        assert (told["http"], told["processed"]) == (200, True), told

    def raw(self, entity: str, query: ast.Ast, node: str = "primary") -> list[bytes]:
        url = f"{self.lab.node(node).url}/pdb/query/v4/{entity}".rstrip("/")
        body = {"query": query, **BESIDE.get(entity, {})}
        answer = self._session.post(url, json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return [bytes(row) for row in msgspec.json.decode(answer.content, type=list[msgspec.Raw])]

    def rows(self, entity: str, query: ast.Ast, node: str = "primary") -> list[Row]:
        return [json.loads(row, parse_float=Decimal) for row in self.raw(entity, query, node)]

    def row(self, name: str, certname: str, node: str = "primary") -> Row:
        (row,) = self.rows(ENTITY[name], ast.by_certnames(ENTITY[name], [certname]), node)
        return row


@pytest.fixture
def servers(pair: Lab) -> Iterator[BarePair]:
    both = BarePair(pair)
    yield both
    both.close()


@pytest.fixture(scope="module")
def samples(lab: Lab) -> Samples:
    return Samples(lab.puppetdb_jar)


def now() -> datetime:
    return datetime.now(UTC)


def create(name: str, **members: Any) -> Command:
    """The small payload of that command, stamped now."""
    payload = small.BY_COMMAND[name](producer_timestamp=None, **members)
    return Command.create(name, payload, now=now())


def comparable(row: Row) -> str:
    """Text that is equal for equal records: without the time of receipt, lists of the server in one order."""
    row = {key: value for key, value in row.items() if key not in ("receive_time", "timestamp", "href")}
    for value in row.values():
        if isinstance(value, dict) and isinstance(value.get("data"), list):
            value["data"].sort(key=lambda item: json.dumps(item, sort_keys=True, default=str))
    # a report's hash is in the addresses of its parts too, and those are alike when the hashes are
    return json.dumps(row, sort_keys=True, default=str)


@pytest.mark.every_server
@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", small.BY_COMMAND)
def test_every_command_is_stored_plain_and_gzipped(servers: BarePair, name: str, gzipped: bool) -> None:
    command = create(name)
    servers.store(command.gzipped() if gzipped else command)
    row = servers.row(name, "web1.example")
    stamp = {"deactivate node": "deactivated", "configure expiration": "expires_facts_updated"}.get(
        name, "producer_timestamp"
    )
    assert row[stamp] == command.producer_timestamp


ROUND_TRIPS: list[tuple[str, Callable[[bytes], Command]]] = [
    ("replace catalog", record.catalog_command),
    ("replace facts", record.factset_command),
    ("store report", record.report_command),
    ("replace catalog inputs", record.catalog_inputs_command),
]


def sample(samples: Samples, name: str, index: int) -> Json:
    stamp = now() - timedelta(minutes=5)
    certname = f"node{index}.example"
    if name == "replace catalog":
        return samples.catalog(certname, index, stamp)
    if name == "replace facts":
        return samples.facts(certname, index, stamp)
    if name == "store report":
        return samples.report(certname, index, stamp)
    return small.inputs(certname=certname, inputs=[["hiera", "a"], ["hiera", "b %/é"], ["function", "a"]])


@pytest.mark.every_server
@pytest.mark.parametrize(("name", "build"), ROUND_TRIPS)
@pytest.mark.parametrize("index", range(3))
def test_a_record_copied_to_the_other_server_is_equal_and_has_the_same_hash(
    servers: BarePair, samples: Samples, name: str, build: Callable[[bytes], Command], index: int
) -> None:
    command = Command.create(name, sample(samples, name, index), now=now())
    servers.store(command.gzipped())
    (row,) = servers.raw(ENTITY[name], ast.by_certnames(ENTITY[name], [command.certname]))
    copy = build(row)
    assert copy.params() == command.params()
    servers.store(copy, "replica")
    here, there = servers.row(name, command.certname), servers.row(name, command.certname, "replica")
    assert comparable(there) == comparable(here)
    assert there.get("hash") == here.get("hash")


def test_plan_skipped_and_split_events_survive_the_copy_of_a_report(servers: BarePair) -> None:
    resources = [
        small.report_resource(events=[small.event(), small.event(property="mode", new_value={"a": [2**70]})]),
        small.report_resource(resource_title="/s", skipped=True, events=[], file=None, line=None),
        small.report_resource(resource_title="/n", containment_path=None, timestamp="2026-01-31T11:00:00.123456Z"),
    ]
    command = create("store report", resources=resources, type="plan", metrics=None, logs=None)
    servers.store(command)
    (row,) = servers.raw("reports", ast.by_certnames("reports", [command.certname]))
    servers.store(record.report_command(row), "replica")
    here, there = (servers.row("store report", command.certname, node) for node in ("primary", "replica"))
    assert comparable(there) == comparable(here)
    assert len(here["resource_events"]["data"]) == 4


def test_deactivations_and_expirations_are_copied_with_their_times(servers: BarePair) -> None:
    for command in (
        configure_expiration("a", False, now=now() - timedelta(minutes=1)),
        deactivate_node("a", now=now()),
    ):
        servers.store(command)
    (raw,) = servers.raw("nodes", ast.facts_expiration())
    row = json.loads(raw)
    servers.store(record.expiration_command(raw), "replica")
    servers.store(record.deactivation_command("a", row["deactivated"]), "replica")
    (copy,) = servers.rows("nodes", ast.facts_expiration(), "replica")
    assert {key: copy[key] for key in ("deactivated", "expires_facts", "expires_facts_updated")} == {
        "deactivated": row["deactivated"],
        "expires_facts": False,
        "expires_facts_updated": row["expires_facts_updated"],
    }


CERTNAMES = [
    "a/b",
    "100%",
    "%41",
    "a+b",
    "a&b=c",
    "a b",
    "q\"'",
    "ünïcode.日本",
    "\U0001f600",
    "WEB1.Example",
    "x" * 300,
    "a\\u0000",
    "#?",
]


@pytest.mark.parametrize("name", small.BY_COMMAND)
def test_any_certname_is_stored_as_it_is(servers: BarePair, name: str) -> None:
    for certname in CERTNAMES:
        servers.store(create(name, certname=certname, **_own(name)))
    rows = servers.rows(ENTITY[name], ast.by_certnames(ENTITY[name], CERTNAMES))
    assert sorted(row["certname"] for row in rows) == sorted(CERTNAMES)


def _own(name: str) -> Json:
    """Reports are told apart by this."""
    return {"type": "agent"} if name == "store report" else {}


def fact(servers: BarePair, certname: str = "web1.example") -> bytes:
    """The stored text of the fact `v`."""
    (row,) = servers.raw("facts", ["and", *ALL[1:], ["=", "certname", certname], ["=", "name", "v"]])
    return bytes(msgspec.json.decode(row, type=dict[str, msgspec.Raw])["value"])


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (2**70, b"1180591620717411303424"),
        (-(2**70), b"-1180591620717411303424"),
        (10**400, b"1" + b"0" * 400),
        (0.1, b"0.1"),
        (1.0, b"1.0"),
        ("é日\U0001f600\ufffd", '"é日\U0001f600\ufffd"'.encode()),
        ("\\u0000", b'"\\\\u0000"'),
        ("", b'""'),
        (None, b"null"),
        # PostgreSQL's numbers have no exponent and no negative zero
        (1e22, b"10000000000000000000000"),
        (-0.0, b"0.0"),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_value_is_stored_faithfully_or_as_stated(servers: BarePair, value: object, stored: bytes) -> None:
    servers.store(create("replace facts", values={"v": value}))
    assert fact(servers) == stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [("a\x00b", "a\ufffdb"), (b"caf\xc3\xa9\xff", "café\ufffd"), ("a\ud800", "a\ufffd")],
)
def test_text_that_cannot_be_stored_arrives_with_u_fffd_in_every_entity(
    servers: BarePair, value: Any, stored: str
) -> None:
    commands = [
        create("replace facts", values={"v": value}),
        create("replace catalog", resources=[small.resource(title=value, parameters={"p": [value]})], edges=[]),
        create(
            "store report",
            resources=[small.report_resource(resource_title=value, events=[small.event(new_value=value)])],
            logs=[small.log(message=value)],
        ),
        create("replace catalog inputs", inputs=[["hiera", value]]),
    ]
    for command in commands:
        assert len(command.warnings) == 1
        servers.store(command)
    assert json.loads(fact(servers)) == stored
    (resource,) = servers.row("replace catalog", "web1.example")["resources"]["data"]
    assert (resource["title"], resource["parameters"]) == (stored, {"p": [stored]})
    report = servers.row("store report", "web1.example")
    (event,) = report["resource_events"]["data"]
    assert (event["resource_title"], event["new_value"]) == (stored, stored)
    assert report["logs"]["data"][0]["message"] == stored
    assert servers.row("replace catalog inputs", "web1.example")["inputs"] == [["hiera", stored]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e400, {"a\x00": 1}])
def test_what_the_server_cannot_hold_is_refused_before_it_leaves(value: object) -> None:
    with pytest.raises(InvalidCommand):
        create("replace facts", values={"v": value})


def test_the_deepest_value_that_is_taken_is_stored(servers: BarePair) -> None:
    value: object = 1
    for _ in range(199):
        value = [value]
    servers.store(create("replace facts", values={"v": value}))
    assert json.loads(fact(servers)) == value


def test_a_value_of_10_mb_is_stored(servers: BarePair) -> None:
    servers.store(create("replace facts", values={"v": "é" * 5_000_000}).gzipped())
    assert len(json.loads(fact(servers))) == 5_000_000


def unchecked(name: str, payload: Json, certname: str) -> Command:
    """The payload as it is, under another name, past all checks."""
    body = json.dumps(payload | {"certname": certname}).encode()
    return Command.ready(name, VERSIONS[name], certname, small.STAMP, body)


@pytest.mark.every_server
def test_the_server_agrees_with_every_verdict(servers: BarePair) -> None:
    """All payloads of the unit tests' tables: stored, dead-lettered, stuck or ignored, as the tables say."""
    tables: dict[str, Sequence[tuple[Any, ...]]] = {
        "taken": TAKEN,
        "stricter": STRICTER,
        "refused": REFUSED,
        "stuck": STUCK,
        "ignored": IGNORED,
    }
    sent: dict[str, tuple[str, str]] = {}
    for fate, table in tables.items():
        for number, (name, payload, *_) in enumerate(table):
            certname = f"{fate}-{number}"
            sent[certname] = (fate, name)
            assert servers.post(unchecked(name, payload, certname), wait=0)["http"] == 200
    stored: set[str] = set()
    dead: set[str] = set()
    expected = {certname for certname, (fate, _) in sent.items() if fate in ("taken", "stricter")}
    letters = {certname for certname, (fate, _) in sent.items() if fate == "refused"}
    deadline = time.monotonic() + 60
    while not (stored >= expected and dead >= letters) and time.monotonic() < deadline:
        time.sleep(0.5)
        stored = {row for name in VERSIONS for row in _stored(servers, name)} & set(sent)
        dead = {path.stem.rpartition("_")[2] for path in servers.lab.discarded("primary")} & set(sent)
    assert stored == expected
    assert dead == letters


def _stored(servers: BarePair, name: str) -> set[str]:
    """The certnames of which the command's own mark is there: nodes alone come from any command."""
    entity = ENTITY[name]
    # 7.12.1 makes broken SQL of an `and` of nothing but the two `any`
    query = [*ALL, ["~", "certname", "."], *([["=", "type", "any"]] if entity == "reports" else [])]
    rows = servers.rows(entity, query)
    mark = {"deactivate node": "deactivated", "configure expiration": "expires_facts_updated"}.get(name, "certname")
    return {row["certname"] for row in rows if row[mark] is not None}


@pytest.mark.every_server
def test_every_summary_query_is_understood_on_its_endpoint_and_at_the_root(servers: BarePair) -> None:
    for name in ("replace catalog", "replace facts", "store report", "replace catalog inputs", "deactivate node"):
        servers.store(create(name))
    start, end = (now() - timedelta(hours=1)).isoformat(), (now() + timedelta(hours=1)).isoformat()
    (report,) = servers.rows("reports", ast.report_hashes(start, end))
    for entity, query in [
        ("catalogs", ast.catalog_summary("any")),
        ("factsets", ast.factset_summary("any")),
        ("catalog-inputs", ast.catalog_inputs_summary("any")),
        ("nodes", ast.nodes_summary("any")),
        ("reports", ast.report_hashes(start, end)),
        ("reports", ast.report_hour_buckets(start, end)),
        ("reports", ast.by_hashes([report["hash"]])),
        ("reports", ast.by_hashes([report["hash"]], start, end)),
    ]:
        assert len(servers.rows(entity, query)) == 1, (entity, query)
        assert len(servers.rows("", ast.rooted(entity, query))) == 1, (entity, query)
    for entity, query in [("catalogs", ast.catalog_summary()), ("factsets", ast.factset_summary())]:
        assert servers.rows(entity, query) == [], "the node was deactivated"


def test_the_collectors_query_finds_what_other_nodes_export(servers: BarePair) -> None:
    exported = small.resource(exported=True, tags=["web"], parameters={"mode": "0755", "require": "File[/x]"})
    servers.store(create("replace catalog", certname="a", resources=[exported, small.resource(title="/b")], edges=[]))
    for text, found in [
        ("tag == 'WEB' and mode == '0755'", ["/a"]),
        ("title != '/a' or mode == '0644'", []),
        ("(require == File['/x'])", ["/a"]),
        ("owner == undef", []),
        ("mode == 755", []),
    ]:
        query = ast.exported_resources("file", parse_collector(text), "b")
        assert [row["title"] for row in servers.rows("resources", query)] == found, text
    assert len(servers.rows("resources", ast.exported_resources("file", None, "b"))) == 1
    assert servers.rows("resources", ast.exported_resources("file", None, "a")) == []
