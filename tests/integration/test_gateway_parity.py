"""The gateway beside the PuppetDB behind it: the same request, the same status; every difference is meant."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from pdbclient.config import load_config
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.sync.policy.versions import release

from ..faults.gateway import GatewayProcess, Told, ask, eventually, gateway_config, write_config

pytestmark = [pytest.mark.integration, pytest.mark.every_server]

JSON = {"Content-Type": "application/json"}
FACTS = json.dumps(
    {
        "certname": "a.example",
        "environment": "production",
        "values": {"a": 1, "float": 1.5, "ü": "é"},
        "producer_timestamp": "2026-01-31T12:00:00.000Z",
        "producer": "puppet.example",
    }
).encode()
COMMAND, QUERY = "/pdb/cmd/v1", "/pdb/query/v4"
OK = "version=5&certname=a.example&command=replace_facts"


@dataclass(frozen=True)
class ParityCase:
    """One request."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] | None = None

    def put(self, port: int, lab: Lab) -> Told:
        return ask(port, lab.client_tls, self.target, self.method, self.body, self.headers)


def command(query: str = OK, body: bytes = FACTS, **headers: str) -> ParityCase:
    lines = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return ParityCase(
        "POST", f"{COMMAND}?{query}", body, {name: value for name, value in lines.items() if value != "none"}
    )


def old(body: bytes | None = None, query: str = "", **changes: Any) -> ParityCase:
    if body is None:
        document = {"command": "replace facts", "version": 5, "payload": json.loads(FACTS)} | changes
        body = json.dumps({key: value for key, value in document.items() if value is not ...}).encode()
    return ParityCase("POST", COMMAND + query, body, JSON)


def get(target: str, **headers: str) -> ParityCase:
    return ParityCase("GET", target, None, headers)


def post(target: str, body: bytes, **headers: str) -> ParityCase:
    return ParityCase("POST", target, body, JSON | headers)


def changed(old_text: str, new_text: str) -> ParityCase:
    assert old_text in OK
    return command(OK.replace(old_text, new_text))


CASES: dict[str, ParityCase] = {
    "a command": command(),
    "timestamp": command(OK + "&producer-timestamp=2026-01-31T12:00:00.000Z"),
    "timestamp unreadable": command(OK + "&producer-timestamp=yesterday"),
    "timestamp blank": command(OK + "&producer-timestamp="),
    "timestamp before the year 1": command(OK + "&producer-timestamp=0001-01-01T00:00:00%2B18:00"),
    "checksum": command(OK + "&checksum=abc"),
    "no wait": command(OK + "&secondsToWaitForCompletion=0"),
    "wait": command(OK + "&secondsToWaitForCompletion=5"),
    "wait for a half": command(OK + "&secondsToWaitForCompletion=%20+5e-1"),
    "wait for less than nothing": command(OK + "&secondsToWaitForCompletion=-1"),
    "wait for what cannot be processed": command(OK.replace("=5", "=99") + "&secondsToWaitForCompletion=5"),
    "wait for what is not processed in time": command(OK + "&secondsToWaitForCompletion=1", b"garbage"),
    "wait, old": old(query="?secondsToWaitForCompletion=5"),
    "command with blanks": changed("replace_facts", "replace%20facts"),
    "command with plus": changed("replace_facts", "replace+facts"),
    "command in upper case": changed("replace_facts", "Replace_facts"),
    "command unknown": changed("replace_facts", "eat_cake"),
    "command blank": changed("replace_facts", ""),
    "command twice": command(OK + "&command=replace_facts"),
    "no command": command("version=5&certname=a.example"),
    "only the command": command("command=replace_facts"),
    "no version": command("certname=a.example&command=replace_facts"),
    "version x": changed("=5", "=x"),
    "version blank": changed("=5", "="),
    "version 5.0": changed("=5", "=5.0"),
    "version with blank": changed("=5", "=%205"),
    "version +5": changed("=5", "=%2B5"),
    "version 05": changed("=5", "=05"),
    "version 99": changed("=5", "=99"),
    "version 3": changed("=5", "=3"),
    "version 1": changed("=5", "=1"),
    "version -5": changed("=5", "=-5"),
    "version 2^31": changed("=5", "=2147483648"),
    "no certname": command("version=5&command=replace_facts"),
    "certname blank": changed("a.example", ""),
    "certname of blanks": changed("a.example", "%20"),
    "certname twice": command(OK + "&certname=b"),
    "certname not UTF-8": changed("a.example", "%FF"),
    "further parameters": command(OK + "&foo=1&bar=2"),
    "semicolons": command(OK.replace("&", ";")),
    "no content type": command(Content_Type="none"),
    "content type blank": command(Content_Type=""),
    "content type with charset": command(Content_Type="application/json; charset=utf-8"),
    "content type in upper case": command(Content_Type="Application/JSON"),
    "accept anything": command(Accept="*/*"),
    "accept application": command(Accept="application/*"),
    "gzip": command(body=gzip.compress(FACTS), Content_Encoding="gzip"),
    "GZIP": command(body=gzip.compress(FACTS), Content_Encoding="GZIP"),
    "gzip that is none": command(body=b"xx", Content_Encoding="gzip"),
    "identity": command(Content_Encoding="identity"),
    "encoding blank": command(Content_Encoding=""),
    "length that is none": command(X_Uncompressed_Length="x"),
    "empty body": command(body=b""),
    "garbage body": command(body=b"garbage"),
    "expecting leave": command(Expect="100-continue"),
    "old": old(),
    "old, checksum parameter": old(query="?checksum=abc"),
    "old, unknown parameter": old(query="?foo=abc"),
    "old, version parameter": old(query="?version=1"),
    "old without certname": old(payload={"values": {}}),
    "old, certname null": old(payload={"certname": None}),
    "old, certname a number": old(payload={"certname": 5}),
    "old, certname infinite": old(b'{"command":"replace facts","version":5,"payload":{"certname":1e999}}'),
    "old, timestamp a list": old(payload={"certname": "a.example", "producer_timestamp": []}),
    "old, payload a string": old(payload=FACTS.decode()),
    "old, payload a list": old(payload=[1]),
    "old, empty": old(b""),
    "old, garbage": old(b"garbage"),
    "old, with a BOM": old(b"\xef\xbb\xbf" + (old().body or b"")),
    "old without version": old(version=...),
    "old, version null": old(version=None),
    "old, version text": old(version="5"),
    "old, version true": old(version=True),
    "old, version 5.0": old(version=5.0),
    "old, version 3": old(version=3),
    "old, version 99": old(version=99),
    "old, underscore": old(command="replace_facts"),
    "old, unknown": old(command="eat cake"),
    "old, null": old(command=None),
    "old, further member": old(foo=1),
    "old, version twice": old(
        b'{"command":"replace facts","version":1,"version":5,"payload":{"certname":"a.example"}}'
    ),
    "old, gzip": ParityCase("POST", COMMAND, gzip.compress(old().body or b""), JSON | {"Content-Encoding": "gzip"}),
    "GET a command": get(COMMAND),
    "PUT a command": ParityCase("PUT", COMMAND, FACTS, JSON),
    "command with slash": ParityCase("POST", f"{COMMAND}/?{OK}", FACTS, JSON),
    "below the command": ParityCase("POST", f"{COMMAND}/x?{OK}", FACTS, JSON),
    "command v2": ParityCase("POST", f"/pdb/cmd/v2?{OK}", FACTS, JSON),
    "version of the server": get("/pdb/meta/v1/version"),
    "version, HEAD": ParityCase("HEAD", "/pdb/meta/v1/version"),
    "version, POST": post("/pdb/meta/v1/version", b""),
    "time of the server": get("/pdb/meta/v1/server-time"),
    "meta": get("/pdb/meta/v1"),
    "meta, unknown": get("/pdb/meta/v1/x"),
    "status": get("/status/v1/services"),
    "status of PuppetDB": get("/status/v1/services/puppetdb-status?level=debug"),
    "status of nothing": get("/status/v1/services/x"),
    "status, HEAD": ParityCase("HEAD", "/status/v1/services"),
    "status, POST": post("/status/v1/services", b""),
    "status, DELETE": ParityCase("DELETE", "/status/v1/services"),
    "status, unknown": get("/status/v1/x"),
    "simple": get("/status/v1/simple"),
    "simple, HEAD": ParityCase("HEAD", "/status/v1/simple"),
    "simple of nothing": get("/status/v1/simple/x"),
    "metrics": get("/metrics/v2"),
    "metrics, list": get("/metrics/v2/list"),
    "metrics, read": get("/metrics/v2/read/java.lang:type=Memory/HeapMemoryUsage"),
    "metrics, POST": post("/metrics/v2", b'{"type":"version"}'),
    "metrics, HEAD": ParityCase("HEAD", "/metrics/v2"),
    "metrics, PUT": ParityCase("PUT", "/metrics/v2", b"{}", JSON),
    "metrics v1": get("/metrics/v1/mbeans"),
    "unknown": get("/foo"),
    "pdb, unknown": get("/pdb/x"),
    "two slashes": get("//pdb/query/v4/nodes"),
    "two slashes inside": get("/pdb//query/v4/nodes"),
    "query, PQL": get(f"{QUERY}?query=nodes%7B%7D"),
    "query, PQL wrong": get(f"{QUERY}?query=nope%7B"),
    "query, none": get(QUERY),
    "query, as AST": get(f"{QUERY}?query=nodes%7B%7D&ast_only=true"),
    "query, explained": get(f"{QUERY}/nodes?explain=analyze"),
    "query, pretty": get(f"{QUERY}/nodes?pretty=true"),
    "query, cut": get(f"{QUERY}/nodes?query=%5B%22x"),
    "query, unknown parameter": get(f"{QUERY}/nodes?foo=1"),
    "query, wrong limit": get(f"{QUERY}/nodes?limit=x"),
    "query, paged": get(f"{QUERY}/nodes?include_total=true&limit=1"),
    "query, no node": get(f"{QUERY}/nodes/nope"),
    "query, blank node": get(f"{QUERY}/nodes/"),
    "query, no factset": get(f"{QUERY}/factsets/nope"),
    "query, odd factset": get(f"{QUERY}/factsets/a%20b"),
    "query, slash in a factset": get(f"{QUERY}/factsets/a%2Fb"),
    "query, no report": get(f"{QUERY}/reports/abc/logs"),
    "query, unknown entity": get(f"{QUERY}/foo"),
    "query, two slashes": get(f"{QUERY}//nodes"),
    "query, accepting HTML": get(f"{QUERY}/nodes", Accept="text/html"),
    "query, DELETE": ParityCase("DELETE", f"{QUERY}/nodes"),
    "query, HEAD": ParityCase("HEAD", f"{QUERY}/nodes"),
    "query, PUT": ParityCase("PUT", f"{QUERY}/nodes", b"{}", JSON),
    "query, OPTIONS": ParityCase("OPTIONS", f"{QUERY}/nodes"),
    "query, POST": post(QUERY, b'{"query":"nodes{}"}'),
    "query, POST without type": ParityCase("POST", QUERY, b'{"query":"nodes{}"}'),
    "query, POST of text": ParityCase("POST", QUERY, b'{"query":"nodes{}"}', {"Content-Type": "text/plain"}),
    "query, POST of nothing": post(QUERY, b""),
    "query, POST of nothing to nodes": post(f"{QUERY}/nodes", b""),
    "query, POST of garbage": post(QUERY, b"garbage"),
    "query, POST of a list": post(QUERY, b"[]"),
    "command, two Accept": ParityCase(
        "POST", f"{COMMAND}?{OK}", FACTS, JSON | {"Accept": "text/html, application/json"}
    ),
    "command without parameters": get("/pdb/cmd"),
    "command v2 without parameters": get("/pdb/cmd/v2"),
    "command v2, no certname": post("/pdb/cmd/v2?command=x", FACTS),
    "version, PUT": ParityCase("PUT", "/pdb/meta/v1/version", b"", JSON),
    "version, DELETE": ParityCase("DELETE", "/pdb/meta/v1/version"),
    "status itself": get("/status"),
    "status v1": get("/status/v1"),
    "status v2": get("/status/v2"),
    "status, PUT unknown": ParityCase("PUT", "/status/v1/x", b"", JSON),
    "statusx": get("/statusx"),
    "root, HEAD": ParityCase("HEAD", "/"),
    "root, POST": post("/", b""),
    "root, PUT": ParityCase("PUT", "/", b""),
    "ext": get("/pdb/ext/v1"),
    "admin itself": get("/pdb/admin"),
    "query v1": get("/pdb/query/v1"),
    "query v3": get("/pdb/query/v3/nodes"),
    "query v3, POST": post("/pdb/query/v3/nodes", b"{}"),
    "query v5": get("/pdb/query/v5/nodes"),
    "a way up": get(f"{QUERY}/../../x"),
    "a way up, encoded": get(f"{QUERY}/%2e%2e/x"),
    "a way up with parameters": get(f"{QUERY}/..;/..;/admin/v1/summary-stats"),
    "a way up with parameters, encoded": get(f"{QUERY}/%2e%2e;/x"),
    "escape that is none": get(f"{QUERY}/nodes/%zz"),
    "escape that is none, in a query": get(f"{QUERY}/nodes?query=%ZZ"),
    "backslash": get(f"{QUERY}/nodes/a\\b"),
    "backslash in a query": get(f"{QUERY}/nodes?query=a\\b"),
    "bar": get(f"{QUERY}/nodes?query=a|b"),
    "host that is none": get(f"{QUERY}/nodes", Host="a b"),
    "host not Latin-1": get(f"{QUERY}/nodes", Host="\xe8\xaa\x9e"),
    "accept not Latin-1": get(f"{QUERY}/nodes", Accept="\xe8\xaa\x9e"),
    "accept not UTF-8": get(f"{QUERY}/nodes", Accept="\xff"),
    "accept q=0": get(f"{QUERY}/nodes", Accept="application/json;q=0"),
    "long line": get(f"{QUERY}/nodes?query=" + "a" * 9000),
}

# (there, up to 8.4; here): what the gateway does otherwise, and why.
JSON_REASON = "here every refusal of a command is JSON, there these are text up to 8.7"
ENCODING_REASON = "here every refusal of a command is JSON, there this one is text"
A_500 = "a 500 would send the terminus on to the next server with the same request"
NOT_OFFERED = "no part of what Puppet needs"
DIFFERENT: dict[str, tuple[ParityCase, tuple[int, bool], tuple[int, bool], str]] = {
    "version twice": (command(OK + "&version=5"), (500, False), (400, True), A_500),
    "old, a list": (old(b"[]"), (500, False), (400, True), A_500),
    "old, lone surrogate": (
        old(b'{"command":"replace facts","version":5,"payload":{"certname":"\\ud800"}}'),
        *((500, False), (400, True), A_500),
    ),
    "wait for x": (command(OK + "&secondsToWaitForCompletion=x"), (500, False), (400, True), A_500),
    "content type text": (command(Content_Type="text/plain"), (415, False), (415, True), JSON_REASON),
    "old, a form": (
        ParityCase("POST", COMMAND, b"payload=%7B%7D", {"Content-Type": "application/x-www-form-urlencoded"}),
        *((415, False), (415, True), JSON_REASON),
    ),
    "accept JSON never": (command(Accept="application/json;q=0"), (406, False), (406, True), JSON_REASON),
    "command v2, accept HTML": (
        post("/pdb/cmd/v2", FACTS, Accept="text/html"),
        (406, False),
        (406, True),
        JSON_REASON,
    ),
    "accept HTML": (command(Accept="text/html"), (406, False), (406, True), JSON_REASON),
    "deflate": (command(Content_Encoding="deflate"), (415, False), (415, True), ENCODING_REASON),
    "brotli": (command(Content_Encoding="br"), (415, False), (415, True), ENCODING_REASON),
    "accept JSON among others": (
        command(Accept="text/html, application/json;q=0.5"),
        *((406, False), (200, True), "JSON is what it gets"),
    ),
    "content type twice": (
        command(Content_Type="application/json, application/json"),
        *((200, True), (415, True), "no content type"),
    ),
    "old, text after the end": (
        old((old().body or b"") + b" x"),
        *((200, True), (400, True), "half of something else, maybe"),
    ),
    "old, not UTF-8": (
        old(b'{"command":"replace facts","version":5,"payload":{"certname":"\xff"}}'),
        *((200, True), (400, True), "no JSON"),
    ),
    "escape that is none": (
        command("version=5&certname=%zz&command=replace_facts"),
        *((400, True), (200, True), "taken for what it says"),
    ),
    "admin": (get("/pdb/admin/v1/summary-stats"), (200, True), (404, False), NOT_OFFERED),
    "admin, POST": (post("/pdb/admin/v1/cmd", b""), (400, True), (404, False), NOT_OFFERED),
    "dashboard": (get("/pdb/dashboard/index.html"), (200, False), (404, False), NOT_OFFERED),
    "root": (get("/"), (302, False), (404, False), NOT_OFFERED),
    "pdb": (get("/pdb"), (302, False), (404, False), NOT_OFFERED),
    "absolute form": (get("https://localhost/pdb/query/v4/nodes"), (200, True), (404, False), "no proxy"),
    "asterisk": (ParityCase("OPTIONS", "*"), (404, False), (404, False), "no path"),
    "header of 9 KB": (get(f"{QUERY}/nodes", **{"X-A": "a" * 9000}), (431, False), (200, True), "16 KB are taken"),
}


def told_of(told: Told) -> tuple[int, bool]:
    return told.status, "json" in (told.headers["Content-Type"] or "")


def newest(told: tuple[int, bool]) -> tuple[int, bool]:
    """What is said here where a server says `told`: up to 8.4, to an unknown address a redirect to its dashboard."""
    return (404, False) if told[0] == 302 else told


def later(told: tuple[int, bool], number: tuple[int, int]) -> tuple[int, bool]:
    """What a server of this release says where those up to 8.4 say `told`."""
    return (told[0], True) if told[0] in (406, 415) and number >= (8, 8) else told


class ServerAndGateway:
    """The primary, and a gateway in front of the pair."""

    def __init__(self, lab: Lab, process: GatewayProcess) -> None:
        self.lab = lab
        self.direct = load_config(lab.puppetdb_conf).server_urls[0].port
        self.gateway = process.port
        self.process = process
        number = release(lab.status()[0].version or "")
        assert number is not None
        self.release = number

    def both(self, case: ParityCase) -> tuple[Told, Told]:
        return case.put(self.direct, self.lab), case.put(self.gateway, self.lab)


@pytest.fixture(scope="module")
def process(lab: Lab) -> Iterator[GatewayProcess]:
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        config = gateway_config(load_config(lab.puppetdb_conf), lab.client_tls, gateway_health_interval=2.0)
        assert config.gateway_url is not None
        path = write_config(Path(name) / "puppetdb.conf", config)
        with GatewayProcess(path, config.gateway_url.port, Path(name) / "log") as gateway:
            yield gateway.up()


@pytest.fixture
def beside(pair: Lab, process: GatewayProcess) -> ServerAndGateway:
    return ServerAndGateway(pair, process)


@pytest.fixture(scope="module")
def started(lab: Lab, process: GatewayProcess) -> ServerAndGateway:
    """The pair as it is: what these tests leave in it does not matter to them."""
    for node in lab.nodes:
        lab.fault(node.name, "start")
    return ServerAndGateway(lab, process)


@pytest.mark.parametrize("name", CASES)
def test_the_gateway_answers_as_the_server_behind_it(started: ServerAndGateway, name: str) -> None:
    there, here = started.both(CASES[name])
    assert told_of(here) == newest(told_of(there)), (there.body[:200], here.body[:200])
    assert bool(here.body) == bool(there.body) or there.status in (404, 302)
    assert here.headers["Location"] is None
    assert here.headers["Server"] is None
    if there.status == 302 and CASES[name].target != "/pdb/admin":
        assert (here.body, here.headers["Content-Type"]) == (b"Not Found", "text/html;charset=utf-8")


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("wait")])
def test_who_waits_is_told_the_same(started: ServerAndGateway, name: str) -> None:
    there, here = started.both(CASES[name])
    assert here.json.keys() == there.json.keys()
    for key in ("processed", "timed_out", "error"):
        assert here.json.get(key) == there.json.get(key)


@pytest.mark.parametrize(
    "wanted", ["gzip", "GZIP", "deflate, gzip;q=0.5", "gzip;q=0", "", "*", "x-gzip", "br", "identity", "br, gzip"]
)
def test_the_same_clients_get_gzip(started: ServerAndGateway, wanted: str) -> None:
    lines = {"Accept-Encoding": wanted} if wanted else {}
    there, here = started.both(get("/metrics/v2/list", **lines))
    assert here.headers["Content-Encoding"] == there.headers["Content-Encoding"]
    assert "Accept-Encoding" in (there.headers["Vary"] or "")
    assert here.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_different_is_meant_to_be(started: ServerAndGateway, name: str) -> None:
    case, expected_there, expected_here, why = DIFFERENT[name]
    if why is not ENCODING_REASON:
        expected_there = later(expected_there, started.release)
    there, here = started.both(case)
    assert (told_of(there), told_of(here)) == (expected_there, expected_here), (
        why,
        there.body[:200],
        here.body[:200],
    )


def test_nothing_of_all_that_shut_a_server_out_or_left_a_traceback(started: ServerAndGateway) -> None:
    told = ParityCase("GET", f"{QUERY}/nodes").put(started.gateway, started.lab)
    assert (told.status, told.server) == (200, started.direct)
    assert "Traceback" not in started.process.text
    assert "is unhealthy, not asked for now" not in started.process.text


QUERIES = ["nodes{}", "facts{}", "factsets{}", "catalogs{}", "resources{}", "reports{}", "facts[certname]{name='a'}"]


def test_a_query_is_answered_byte_by_byte_as_by_the_server_itself(beside: ServerAndGateway) -> None:
    samples = Samples(beside.lab.puppetdb_jar)
    for number in range(3):
        now = datetime.now(UTC) - timedelta(minutes=1)
        body = json.dumps(samples.catalog(f"node{number}.example", number, now)).encode()
        query = {"version": 9, "certname": f"node{number}.example", "command": "replace_catalog"}
        assert command(urlencode(query), body).put(beside.gateway, beside.lab).status == 200
    assert command().put(beside.gateway, beside.lab).status == 200
    beside.lab.settle("primary")
    for query_text in QUERIES:
        parameters = urlencode({"query": query_text, "include_total": "true", "limit": 50})
        there, here = beside.both(get(f"{QUERY}?{parameters}"))
        assert sorted(json.loads(there.body), key=str) == sorted(here.json, key=str)
        assert here.headers["X-Records"] == there.headers["X-Records"] is not None
        for each in (there, here):
            assert each.status == 200
    ordered = f"{QUERY}/resources?" + urlencode({"order_by": '[{"field":"certname"},{"field":"resource"}]'})
    there, here = beside.both(get(ordered))
    assert here.body == there.body
    assert len(here.json) > 10
    there, here = beside.both(get(ordered + "&pretty=true"))
    assert here.body == there.body


def hashes(pair: ServerAndGateway) -> dict[str, str]:
    rows = pair.lab.sql("primary", "select certname, encode(hash, 'hex') from factsets")
    return {str(certname): str(digest) for certname, digest in rows}


def test_a_command_is_stored_as_if_it_had_been_sent_directly(beside: ServerAndGateway) -> None:
    compressed = command(OK, gzip.compress(FACTS), Content_Encoding="gzip", X_Uncompressed_Length=str(len(FACTS)))
    stored = []
    for port in (beside.direct, beside.gateway):
        for case in (command(), old(), compressed):
            beside.lab.empty("primary")
            assert case.put(port, beside.lab).status == 200
            beside.lab.settle("primary")
            assert eventually(lambda: bool(hashes(beside)), 10)
            stored.append(hashes(beside))
    assert set(stored[0]) == {"a.example"}
    assert stored == [stored[0]] * 6


CERTNAMES = ["a/b", "100%", "a+b", "a&b=c", "a b", "a'b", 'a"b', "ümläut", "語.example", "x" * 200]


def test_odd_certnames_are_stored_and_found_through_it(beside: ServerAndGateway) -> None:
    for number, certname in enumerate(CERTNAMES):
        body = FACTS.replace(b"a.example", json.dumps(certname)[1:-1].encode())
        query = {"version": 5, "certname": certname, "command": "replace_facts"}
        case = command(urlencode(query), body) if number % 2 else old(body=None, payload=json.loads(body))
        assert case.put(beside.gateway, beside.lab).status == 200
    beside.lab.settle("primary")
    assert eventually(lambda: hashes(beside).keys() == set(CERTNAMES), 10)
    for certname in CERTNAMES:
        its_own = quote(json.dumps(["=", "certname", certname]))
        there, here = beside.both(get(f"{QUERY}/nodes?query={its_own}"))
        assert here.body == there.body
        assert [row["certname"] for row in here.json] == [certname]
        there, here = beside.both(get(f"{QUERY}/nodes/{quote(certname, safe='')}"))
        assert told_of(here) == newest(told_of(there))
