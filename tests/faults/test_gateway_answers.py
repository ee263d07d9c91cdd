"""What the gateway's front says: as a PuppetDB does, and never a traceback, whatever a client or a server sends."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .fake import Answer, Request, healthy
from .gateway import (
    FACTS,
    FACTS_URL,
    GatewayProcess,
    GatewayThread,
    connected,
    eventually,
    gateway_config,
    write_config,
)

Start = Callable[..., GatewayThread]
NODES = "/pdb/query/v4/nodes"
REPORT = "/pdbclient/v1/report"


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of the primary and the replica."""
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            config = gateway_config(site.config(site.primary.port, site.replica.port), site.pki.server, **changes)
            return stack.enter_context(GatewayThread(config))

        yield run


@dataclass(frozen=True)
class Raw:
    """An answer as it came over the connection, which the other side closed."""

    head: list[bytes]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head[0].split()[1])

    def header(self, name: str) -> bytes | None:
        """The value of a header that came once."""
        values = [
            line.partition(b":")[2].strip()
            for line in self.head[1:]
            if line.lower().startswith(name.lower().encode() + b":")
        ]
        assert len(values) < 2
        return values[0] if values else None


def send(site: Site, port: int, request: bytes) -> bytes:
    """All that comes back for these bytes until the connection ends."""
    with connected(port, site.pki.client) as sock:
        sock.settimeout(10)
        sock.sendall(request)
        got = b""
        while more := sock.recv(65536):
            got += more
    return got


def raw(
    site: Site,
    port: int,
    target: str | bytes,
    *lines: str | bytes,
    method: str = "GET",
    body: bytes = b"",
    version: str = "1.1",
) -> Raw:
    """One request with these header lines; a `Host` of its own unless they have one."""
    given = [line if isinstance(line, bytes) else line.encode() for line in lines]
    if not any(line.lower().startswith(b"host:") for line in given):
        given.append(b"Host: localhost")
    if body:
        given.append(b"Content-Length: %d" % len(body))
    address = target if isinstance(target, bytes) else target.encode()
    start = b"%s %s HTTP/%s" % (method.encode(), address, version.encode())
    head, _, rest = send(site, port, b"\r\n".join([start, *given, b"Connection: close", b"", body])).partition(
        b"\r\n\r\n"
    )
    return Raw(head.split(b"\r\n"), rest)


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was logged as a failure of the gateway itself."""
    assert [
        record.getMessage() for record in caplog.records if record.exc_info or record.levelno > logging.WARNING
    ] == []


# -- never a traceback


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("control", [b"\x00", b"\x01", b"\r\n ", b"\r\n\t", b"\x7f"], ids=repr)
def test_a_control_character_in_a_servers_header_becomes_a_blank(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture, control: bytes, status: int
) -> None:
    def odd(_: Request) -> Answer:
        body = b"[]" if status == 200 else b'{"error": "none"}'
        head = b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n" % status
        return Answer([head + b"X-Odd: a%sb\r\nContent-Length: %d\r\n\r\n" % (control, len(body)) + body])

    site.primary.reply = odd
    told = raw(site, start().port, NODES)
    assert (told.status, told.header("X-Odd")) == (status, b"a b")
    assert_quiet(caplog)


@pytest.mark.parametrize(
    "line", [b"X Y: 1", b"X-Odd: a\rb", b": x", b"no colon", b"X\x00Y: 1", b"X\xffY: 1"], ids=repr
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_head_that_is_no_http_is_a_broken_answer(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture, line: bytes, status: int
) -> None:
    head = b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n%s\r\nContent-Length: 2\r\n\r\n[]"
    site.primary.reply = Answer([head % (status, line)], close=True)
    told = raw(site, start().port, NODES)
    assert (told.status, told.header("X-Pdbclient-Failed-Over")) == (200, b"true")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("urllib3")] == []
    assert_quiet(caplog)


def test_a_control_character_in_the_header_of_a_refused_command_is_no_traceback(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nX-Odd: a\x00b\r\nContent-Length: 2\r\n\r\n{}"
    site.primary.reply = Answer([head])
    told = raw(site, start().port, FACTS_URL, "Content-Type: application/json", method="POST", body=FACTS)
    assert told.status in (200, 400)
    assert_quiet(caplog)


ODD = [b"\xff", b"\xe9", "ü".encode(), "語".encode(), b"a, \xe8\xaa\x9e"]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("name", ["Accept", "Content-Type"])
def test_a_header_that_is_no_latin_1_arrives_as_it_came(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture, name: str, value: bytes
) -> None:
    told = raw(site, start().port, NODES, name.encode() + b": " + value, method="POST", body=b"{}")
    assert told.status == 200
    (sent,) = site.primary.queries
    assert sent.headers[name.lower()].encode("latin-1") == value
    assert_quiet(caplog)


@pytest.mark.parametrize(
    "host", [b"Host: " + value for value in ODD] + [b"Host: a b", b"Host: a\r\nHost: b"], ids=repr
)
@pytest.mark.parametrize("target", [NODES, "/", "/pdb/x", FACTS_URL])
def test_a_host_that_is_none_is_refused_as_by_puppetdb(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture, host: bytes, target: str
) -> None:
    told = raw(site, start().port, target, host, "Content-Type: application/json", method="POST", body=FACTS)
    assert told.status == 400
    assert b"Host" in told.body
    assert site.primary.requests == []
    assert_quiet(caplog)


YAML = """--- !ruby/object:Puppet::Reports
host: node.example
time: 2026-01-31T12:00:00.000000000+00:00
environment: production
report_format: 12
puppet_version: 7.23.0
configuration_version: 1
transaction_uuid: 00000000-0000-4000-8000-000000000000
status: changed
logs: []
metrics:
  {category}:
    name: {category}
    label: Metric
    values:
    - - total
      - Total
      - {number}
resource_statuses: {{}}
"""


@pytest.mark.parametrize("digits", [309, 400, 1000, 1001, 4299, 4301, 5000, 20_000])
@pytest.mark.parametrize("category", ["time", "resources"])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_metric_of_many_digits_is_no_traceback(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture, form: str, category: str, digits: int
) -> None:
    number = "1" + "0" * (digits - 1)
    body = YAML.format(category=category, number=number)
    if form == "json":
        report: dict[str, Any] = {"host": "node.example", "time": "2026-01-31T12:00:00.000Z", "report_format": 12}
        report |= {"environment": "production", "puppet_version": "7.23.0", "configuration_version": 1, "logs": []}
        report |= {"transaction_uuid": None, "status": "changed", "resource_statuses": {}}
        report |= {"metrics": {category: {"name": category, "values": [["total", "Total", "@"]]}}}
        body = json.dumps(report).replace('"@"', number)
    told = raw(site, start().port, REPORT, method="POST", body=body.encode())
    # A duration of so many seconds has no end, and 4,300 digits are all that Python reads.
    refused = digits > 4300 or (category == "time" and digits <= 1000)
    assert told.status == (400 if refused else 200), told.body
    # PuppetDB would take one of more than 1,000 digits and never process the report.
    assert [number.encode() in request.body for request in site.primary.commands] == [digits <= 1000] * (not refused)
    assert b"error" in told.body or b"uuid" in told.body
    assert_quiet(caplog)


# -- addresses, methods, headers

ELSEWHERE = "https://localhost/pdb/query/v4/x/dashboard/index.html"
REDIRECT = Answer([f"HTTP/1.1 302 Found\r\nLocation: {ELSEWHERE}\r\nContent-Length: 0\r\n\r\n".encode()])
NOWHERE = [
    "/",
    "/pdb",
    "/pdb/",
    "/pdb/dashboard/index.html",
    "/pdb/admin/v1/summary-stats",
    "/pdb/x",
    "/x",
    "/status",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("target", [*NOWHERE, "/pdb/cmd", "/pdb/cmd/v2", "/pdb/query/v3/nodes", "/pdb/query/v4/x"])
def test_nothing_is_a_redirect_and_nobody_says_what_serves_it(
    site: Site, start: Start, target: str, method: str
) -> None:
    site.primary.reply = site.replica.reply = REDIRECT
    told = raw(site, start().port, target, method=method)
    assert told.status in (400, 403, 404)
    assert told.header("Location") is None
    assert told.header("Server") is None
    assert told.header("Date") is not None


def test_a_redirect_of_an_older_puppetdb_is_not_found_here(site: Site, start: Start) -> None:
    site.primary.reply = REDIRECT
    told = raw(site, start().port, "/pdb/query/v4/x")
    assert (told.status, told.body, told.header("Content-Type")) == (404, b"Not Found", b"text/html;charset=utf-8")
    assert (told.header("X-Pdbclient-Server") or b"").endswith(b":%d" % site.primary.port)


@pytest.mark.parametrize("garbage", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_what_is_no_http_is_not_told_either_what_serves_it(site: Site, start: Start, garbage: bytes) -> None:
    told = send(site, start().port, garbage)
    assert told.startswith(b"HTTP/1.")
    assert b"aiohttp" not in told
    assert b"\r\nServer:" not in told


@pytest.mark.parametrize("target", ["/pdb/cmd", "/pdb/cmd/", "/pdb/cmd/v2", "/pdb/cmd/v1/"])
def test_a_command_at_another_address_is_judged_before_its_address(site: Site, start: Start, target: str) -> None:
    port, query = start().port, FACTS_URL.partition("?")[2]
    assert raw(site, port, target).status == 400
    assert raw(site, port, f"{target}?command=x", method="POST", body=FACTS).status == 400
    assert raw(site, port, target, "Accept: text/html", method="POST", body=FACTS).status == 406
    told = raw(site, port, f"{target}?{query}", method="POST", body=FACTS)
    assert (told.status, told.body) == (404, b"Not Found")
    assert site.primary.requests == []


TARGETS = [
    *("%zz", "a%", "a%2", "%2g", "a\\b", "a|b", 'a"b', "a^b{}", "a<b>`", "a%2fb%2F", "%7e~%41", "a'b!*()", "%c3%bc"),
    *("a;b", "a//b", "a b".replace(" ", "+"), "a%00", "%u0041", "[a]", "a,b@c:d$e&f=g"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "form", ["/pdb/query/v4/nodes/{}", "/pdb/query/v4/nodes?query={}", "/pdb/query/v4/{0}?{0}={0}"]
)
def test_a_target_is_handed_on_as_it_came(site: Site, start: Start, form: str, method: str) -> None:
    gateway, asked = start(), []
    for text in TARGETS:
        raw(site, gateway.port, form.format(text), method=method, body=b"{}" if method == "POST" else b"")
        asked.append(form.format(text))
    assert [request.target for request in site.primary.queries] == asked


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Accept: text/html", "Accept: application/json"], 200),
        (["Accept: application/json", "Accept: text/html"], 200),
        (["Accept: text/html", "Accept: text/plain"], 406),
        (["Accept: application/json;q=0"], 406),
        (["Accept: application/json; Q=0.000"], 406),
        (["Accept: */*;q=0"], 406),
        (["Accept: application/json;q=0, */*"], 200),
        (["Accept: application/json;q=0.1"], 200),
        (["Accept: application/json;level=1;q=0.0"], 406),
    ],
)
def test_accept_is_all_its_lines_and_q_0_means_never(site: Site, start: Start, lines: list[str], status: int) -> None:
    port = start().port
    assert raw(site, port, FACTS_URL, *lines, method="POST", body=FACTS).status == status
    raw(site, port, NODES, *lines)
    (sent,) = site.primary.queries
    assert sent.headers["accept"] == ", ".join(line.partition(": ")[2] for line in lines)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_puppetdb_heeds_no_method_below_meta(site: Site, start: Start, method: str) -> None:
    told = raw(site, start().port, "/pdb/meta/v1/version", method=method)
    assert told.status == 200
    assert [request.method for request in site.primary.requests] == [method]


# -- memory

REPORT_URL = "/pdb/cmd/v1?command=store_report&version=8&certname=node.example"
GZIPPED = "Content-Encoding: gzip"


def bomb(size: int) -> bytes:
    """JSON of that many bytes, packed to a thousandth."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"a" * 1_000_000
    blocks = [stream.compress(block) for _ in range(size // len(block))]
    return (
        stream.compress(b'{"certname":"node.example","x":"')
        + b"".join(blocks)
        + stream.compress(b'"}')
        + stream.flush()
    )


@pytest.mark.parametrize("stamp", ["", "&producer-timestamp=never"])
def test_a_gzip_bomb_is_refused_in_little_memory_while_others_are_answered(
    site: Site, tmp_path: Path, stamp: str
) -> None:
    config = gateway_config(site.config(site.primary.port, site.replica.port), site.pki.server)
    assert config.gateway_url is not None
    port, body = config.gateway_url.port, bomb(600_000_000)
    with GatewayProcess(write_config(tmp_path / "puppetdb.conf", config), port, tmp_path / "log") as process:
        process.up()
        with ThreadPoolExecutor(3) as pool:
            posted = [
                pool.submit(raw, site, port, REPORT_URL + stamp, GZIPPED, method="POST", body=body) for _ in range(3)
            ]
            slowest = 0.0
            while not all(future.done() for future in posted):
                began = time.monotonic()
                assert raw(site, port, "/pdb/x").status == 404
                slowest = max(slowest, time.monotonic() - began)
        for future in posted:
            assert future.result().status == 413
            assert b"gateway_max_body_bytes" in future.result().body
        assert slowest < 3
        assert process.peak() < 900_000_000
        assert site.primary.commands == []
        small = gzip.compress(b'{"certname":"node.example"}')
        assert raw(site, port, REPORT_URL, GZIPPED, method="POST", body=small).status == 200


def test_what_unpacks_to_the_limit_is_stamped_and_passes(site: Site, start: Start) -> None:
    port, room = start(gateway_max_body_bytes=100_000).port, 100_000 - 12
    for size, status in ((room, 200), (room + 1, 413)):
        body = gzip.compress(b'{"x":"%s"}    ' % (b"a" * (size)))
        assert raw(site, port, REPORT_URL, GZIPPED, method="POST", body=body).status == status
    (sent,) = site.primary.commands
    assert b"producer_timestamp" in gzip.decompress(sent.body)


def slow_commands(site: Site) -> threading.Event:
    """Commands are answered once this is set."""
    over = threading.Event()

    def reply(request: Request) -> Answer:
        if request.is_command:
            over.wait(10)
        return healthy(request)

    site.primary.reply = site.replica.reply = reply
    return over


CHUNKED = b"Transfer-Encoding: chunked\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("form", ["length", "chunked", "gzip"])
def test_bodies_beyond_the_total_are_refused_in_words(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.MEMORY_PATIENCE", 0.2)
    over = slow_commands(site)
    gateway = start(gateway_max_body_bytes=10_000, gateway_max_total_bytes=20_000)
    url = f"{FACTS_URL}&producer-timestamp=2026-01-31T12:00:00Z"
    with ThreadPoolExecutor(2) as pool:
        try:
            held = [pool.submit(raw, site, gateway.port, url, method="POST", body=b"x" * 8000) for _ in range(2)]
            assert eventually(lambda: gateway.places_taken == 2)
            if form == "length":
                told = raw(site, gateway.port, url, method="POST", body=b"x" * 5000)
            elif form == "gzip":
                told = raw(site, gateway.port, REPORT_URL, GZIPPED, method="POST", body=gzip.compress(b"x" * 9000))
            else:
                pieces = b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"
                got = send(site, gateway.port, f"POST {url} HTTP/1.1\r\n".encode() + CHUNKED + pieces)
                told = Raw(got.partition(b"\r\n\r\n")[0].split(b"\r\n"), got.partition(b"\r\n\r\n")[2])
            assert told.status == 503
            assert b"gateway_max_total_bytes" in told.body
            assert raw(site, gateway.port, NODES).status == 200, "what needs no memory is answered"
        finally:
            over.set()
        assert {future.result().status for future in held} == {200}
    assert raw(site, gateway.port, url, method="POST", body=b"x" * 10_000).status == 200


def test_a_body_beyond_the_total_waits_for_its_turn(site: Site, start: Start) -> None:
    over = slow_commands(site)
    gateway = start(gateway_max_body_bytes=10_000, gateway_max_total_bytes=20_000)
    url = f"{FACTS_URL}&producer-timestamp=2026-01-31T12:00:00Z"
    with ThreadPoolExecutor(6) as pool:
        try:
            asked = [pool.submit(raw, site, gateway.port, url, method="POST", body=b"x" * 9000) for _ in range(6)]
            assert eventually(lambda: gateway.places_taken == 6)
            assert len(site.primary.commands) <= 2
        finally:
            over.set()
        assert [future.result().status for future in asked] == [200] * 6


def test_no_memory_is_held_for_more_than_a_body_can_be_unpacked_to(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.MEMORY_PATIENCE", 0.2)
    over = slow_commands(site)
    gateway = start(gateway_max_body_bytes=200_000, gateway_max_total_bytes=400_000)
    url = f"{FACTS_URL}&producer-timestamp=2026-01-31T12:00:00Z"
    small, claim = gzip.compress(b'{"certname":"node.example"}'), "X-Uncompressed-Length: 199000"
    with ThreadPoolExecutor(3) as pool:
        try:
            held = [
                pool.submit(raw, site, gateway.port, url, GZIPPED, claim, method="POST", body=small) for _ in range(2)
            ]
            assert eventually(lambda: len(site.primary.commands) == 2)
            third = pool.submit(raw, site, gateway.port, url, method="POST", body=b"x" * 190_000)
            assert eventually(lambda: len(site.primary.commands) == 3), third.result().body
        finally:
            over.set()
        assert {future.result().status for future in (*held, third)} == {200}
