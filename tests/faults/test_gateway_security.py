"""Who gets into the gateway, what a client can make it do, and how long and how much it may ask."""

from __future__ import annotations

import gc
import json
import logging
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config.model import TlsFiles
from pdbclient.errors import ConfigError
from pdbclient.http.outcome import Operation
from pdbclient.observe.traffic import Ending, Kind

from .conftest import Site
from .fake import Answer, Request, healthy
from .gateway import (
    FACTS,
    FACTS_URL,
    GatewayThread,
    ask,
    client_context,
    connected,
    eventually,
    gateway_config,
)
from .test_tls import revoking, some

Start = Callable[..., GatewayThread]
NODES = "/pdb/query/v4/nodes"
GET = f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of the primary and the replica."""
    with ExitStack() as stack:

        def run(tls: TlsFiles | None = None, **changes: Any) -> GatewayThread:
            config = site.config(site.primary.port, site.replica.port)
            return stack.enter_context(GatewayThread(gateway_config(config, tls or site.pki.server, **changes)))

        yield run


def kept_out(port: int, tls: TlsFiles | ssl.SSLContext, version: ssl.TLSVersion | None = None) -> bool:
    """Whether TLS keeps a client out. With TLS 1.3, it learns of that only when it reads."""
    context = tls if isinstance(tls, ssl.SSLContext) else client_context(tls)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    try:
        with connected(port, context) as sock:
            sock.sendall(GET)
            return not sock.recv(1000)
    except (ssl.SSLError, ConnectionError):
        return True


def strangers(site: Site) -> dict[str, TlsFiles]:
    own, client = site.pki.authority, site.pki.client
    return {
        "none": replace(client, cert=None, key=None),
        "foreign": replace(site.pki.foreign.issue("client"), ca=client.ca),
        "expired": own.issue("expired-client", days=-1),
        "revoked": own.issue("revoked-client"),
    }


def test_only_a_current_certificate_of_the_ca_gets_through_tls(
    site: Site, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    who = strangers(site)
    crl = revoking(site.pki, tmp_path, who["revoked"])
    allowed = ("client", "expired-client", "revoked-client")
    gateway = start(replace(site.pki.server, crl=crl), gateway_allow=allowed)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for what, files in who.items():
            assert kept_out(gateway.port, files, version), what
    told = [line.partition("client rejected: ")[2] for line in caplog.messages if "client rejected" in line]
    assert [line.rpartition(": ")[2] for line in told] == 2 * [
        "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        "unable to get local issuer certificate",
        "certificate has expired",
        "certificate revoked",
    ]
    assert ask(gateway.port, site.pki.client).status == 200
    assert len(site.primary.requests) == 1


def test_a_certname_that_is_not_allowed_is_told_so_and_reaches_nobody(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start(gateway_allow=("somebody", "client2"))
    for target, method, body in ((NODES, "GET", None), (FACTS_URL, "POST", FACTS), ("/nothing", "GET", None)):
        told = ask(gateway.port, site.pki.client, target, method, body)
        assert told.status == 403
        assert told.body == b"client may not use this gateway: it is not in gateway_allow\n"
    assert site.primary.requests == site.replica.requests == []
    assert [r.levelname for r in caplog.records if "gateway_allow" in r.message] == ["WARNING"] * 3


def test_without_a_list_only_the_gateways_own_certname_is_allowed(site: Site, start: Start) -> None:
    gateway = start(gateway_allow=())
    assert ask(gateway.port, site.pki.server).status == 200
    assert ask(gateway.port, site.pki.client).status == 403


def test_certnames_are_compared_as_puppet_has_them_in_lower_case(site: Site, start: Start) -> None:
    odd = site.pki.authority.issue("Client.Example")
    assert ask(start(gateway_allow=("client.example",)).port, odd).status == 200


def test_a_gateway_without_a_common_name_in_its_certificate_needs_a_list(site: Site) -> None:
    not_a_certificate = replace(site.pki.server, cert=site.pki.server.key)
    with (
        pytest.raises(ConfigError) as refused,
        GatewayThread(gateway_config(site.config(), not_a_certificate, gateway_allow=())),
    ):
        pass
    assert str(site.pki.server.key) in str(refused.value)


def test_tls_1_1_is_refused(site: Site, start: Start) -> None:
    gateway = start()
    context = client_context(site.pki.client)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    assert kept_out(gateway.port, context)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert not kept_out(gateway.port, site.pki.client, version)


# -- limits


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not(site: Site, start: Start, form: str) -> None:
    gateway = start(gateway_max_body_bytes=10_000)

    def status(size: int) -> int:
        with connected(gateway.port, site.pki.client) as sock:
            head = f"POST {FACTS_URL} HTTP/1.1\r\nHost: localhost\r\n"
            if form == "length":
                sock.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + b"x" * size)
            else:
                sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                for _ in range(size // 1000):
                    sock.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
                with suppress(OSError):
                    sock.sendall(f"{size % 1000:x}\r\n".encode() + b"x" * (size % 1000) + b"\r\n")
                    sock.sendall(b"0\r\n\r\n" if size % 1000 else b"")
            return int(sock.recv(1000).split()[1])

    assert status(9_999) == 200
    assert status(10_001) == 413
    assert [len(request.body) for request in site.primary.commands] == [9_999]


def test_a_body_that_only_claims_to_be_too_large_is_refused_before_it_comes(site: Site, start: Start) -> None:
    gateway = start(gateway_max_body_bytes=1000)
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(f"POST {FACTS_URL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n".encode())
        assert b" 413 " in sock.recv(1000)


@pytest.mark.parametrize(
    "head",
    [
        f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\nX-Long: {'a' * 16400}\r\n\r\n",
        f"GET {NODES}?query={'a' * 16400} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n" + "X-Many: a\r\n" * 500 + "\r\n",
        f"POST {NODES} HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"POST {NODES} HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    ],
    ids=["long header", "long line", "many headers", "length and chunks", "two lengths"],
)
def test_a_head_that_is_too_large_or_ambiguous_is_refused(
    site: Site, start: Start, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(start().port, site.pki.client) as sock:
        sock.sendall(head.encode())
        assert sock.recv(1000).split()[1] in (b"400", b"414", b"431")
    assert site.primary.requests == []
    assert all(record.exc_info is None for record in caplog.records)


def test_a_header_of_twice_what_puppetdb_takes_is_let_through(site: Site, start: Start) -> None:
    assert ask(start().port, site.pki.client, NODES, headers={"X-Long": "a" * 16000}).status == 200


def cut_off(sock: socket.socket, drip: bytes = b"", seconds: float = 4.0) -> float:
    """Seconds until the other side ends the connection, while a byte of `drip` goes out now and then."""
    began = time.monotonic()
    sock.settimeout(0.1)
    while time.monotonic() < began + seconds:
        try:
            if not sock.recv(1000):
                return time.monotonic() - began
        except TimeoutError:
            with suppress(ConnectionError, ssl.SSLError):
                sock.sendall(drip[:1])
                drip = drip[1:]
        except (ConnectionError, ssl.SSLError):
            return time.monotonic() - began
    raise AssertionError("it is still open")


def test_who_says_nothing_in_the_tls_handshake_is_cut_off(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.HANDSHAKE_LIMIT", 0.4)
    port = start().port
    for beginning in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(beginning)
            cut_off(sock)


@pytest.mark.parametrize("most", [1, 8])
def test_more_honest_clients_at_once_than_may_be_in_their_handshake_are_all_served(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.most_handshakes", lambda: most)
    monkeypatch.setattr("pdbclient.gateway.server.FEWEST", most)
    port, together = start().port, threading.Barrier(24)

    def come(_: int) -> int:
        together.wait()
        return ask(port, site.pki.client).status

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(come, range(24))) == {200}


def test_clients_that_come_and_reset_hold_up_nobody_in_the_entrance(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.most_handshakes", lambda: 2)
    monkeypatch.setattr("pdbclient.gateway.server.FEWEST", 2)
    port, over = start().port, threading.Event()

    def come_and_reset() -> None:
        while not over.is_set():
            with suppress(OSError), connected(port, site.pki.client) as sock:
                sock.sendall(GET)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(come_and_reset)
        try:
            for _ in range(100):
                assert ask(port, site.pki.client, timeout=5).status == 200
        finally:
            over.set()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_the_addresses_of_a_host_share_the_handshakes(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.most_handshakes", lambda: 64)
    real = socket.getaddrinfo

    def four(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        found = real("127.0.0.1", port, *rest, **options)
        return [(*found[0][:4], (f"127.0.0.{last}", port)) for last in range(1, 5)]

    monkeypatch.setattr("pdbclient.gateway.listen.socket.getaddrinfo", four)
    with GatewayThread(gateway_config(site.config(), site.pki.server)) as gateway:
        monkeypatch.setattr("pdbclient.gateway.listen.socket.getaddrinfo", real)
        assert [entrance._most for entrance in gateway._site._entrances] == [16] * 4


@pytest.mark.parametrize("what", ["nothing", "a slow first head", "a slow second head", "idle"])
def test_who_sends_no_whole_head_in_time_is_cut_off(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.IDLE_LIMIT", 0.5)
    with connected(start().port, site.pki.client) as sock:
        if "second" in what or what == "idle":
            sock.sendall(GET)
            assert b"200 OK" in sock.recv(1000)
        cut_off(sock, GET if "head" in what else b"")


def test_who_sends_a_body_slowly_is_cut_off_and_reaches_nobody(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.BODY_PATIENCE", 0.5)
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(f"POST {FACTS_URL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n".encode())
        assert cut_off(sock, b"x" * 400) > 0.3
    assert eventually(lambda: gateway.places_taken == 0)
    assert site.primary.requests == []


def test_who_takes_a_small_answer_slowly_holds_no_place(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.BODY_PATIENCE", 0.5)
    body = json.dumps(["x" * 900_000]).encode()
    site.primary.reply = lambda _: Answer([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body])
    gateway = start(gateway_concurrency=1)
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(GET)
        assert sock.recv(10)
        assert ask(gateway.port, site.pki.client).body == body


def test_more_requests_than_five_times_the_places_are_refused(site: Site, start: Start) -> None:
    over = threading.Event()

    def slow(request: Request) -> Answer:
        over.wait(10)
        return healthy(request)

    site.primary.reply = site.replica.reply = slow
    gateway = start(gateway_concurrency=2)
    app: Any = gateway._site._http.request_handler
    door = app.__self__._doors[Operation.QUERY]
    with ThreadPoolExecutor(20) as pool:
        try:
            asked = [pool.submit(ask, gateway.port, site.pki.client) for _ in range(20)]
            assert eventually(lambda: gateway.places_taken == 4 and door._before == 16)
            told = ask(gateway.port, site.pki.client)
            assert (told.status, told.headers["Retry-After"]) == (503, None)
            assert b"more requests than it can hold" in told.body
        finally:
            over.set()
        assert {future.result().status for future in asked} == {200}
    assert ask(gateway.port, site.pki.client).status == 200


# -- what is no request


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\x00\xff" * 20 + b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        "GET /ü HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \xff\xfe\r\n\r\n",
        b"CONNECT puppetdb:8081 HTTP/1.1\r\nHost: puppetdb\r\n\r\n",
        b"GET /pdb/query/v4/nodes HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_garbage_is_one_line_at_most_and_no_traceback(
    site: Site, start: Start, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gateway = start()
    caplog.clear()
    with connected(gateway.port, site.pki.client) as sock:
        sock.settimeout(3)
        sock.sendall(garbage)
        with suppress(OSError):
            sock.recv(1000)
    assert ask(gateway.port, site.pki.client).status == 200
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) <= 1
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in lines)
    assert all(record.exc_text is None and "\n" not in record.getMessage() for record in lines)


@pytest.mark.parametrize("pause", [0, 0.2], ids=["with the head", "after the head"])
@pytest.mark.parametrize("rest", [b"zzz\r\n", b"5\r\nab", b"5\r\nabcdefgh\r\n", b""])
def test_a_body_that_breaks_is_no_traceback_and_reaches_nobody(
    site: Site,
    start: Start,
    rest: bytes,
    pause: float,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What breaks the rules of HTTP after the head, aiohttp does not tell: that is cut off as a slow body is.
    monkeypatch.setattr("pdbclient.gateway.exchange.BODY_PATIENCE", 0.5)
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(f"POST {FACTS_URL} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        time.sleep(pause)
        sock.sendall(rest)
        if rest not in (b"5\r\nab", b""):
            sock.settimeout(3)
            answer = sock.recv(1000)
            assert answer == b"" or b" 400 " in answer
    assert eventually(lambda: gateway.places_taken == 0)
    assert site.primary.requests == []
    assert all(record.exc_info is None and record.levelno < logging.ERROR for record in caplog.records)


@pytest.mark.parametrize("garbage", [b"", b"hello\r\n\r\n", GET, b"\x16\x03\x01\x00\x05hello"])
def test_what_is_no_tls_is_no_traceback(
    site: Site, start: Start, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start()
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.sendall(garbage)
        if garbage:
            cut_off(sock)
    assert ask(gateway.port, site.pki.client).status == 200
    assert all(record.exc_info is None for record in caplog.records)


ELSEWHERE = [
    "/pdb/query/v4/../../admin/v1/summary-stats",
    "/pdb/query/v4/%2e%2e/%2e%2e/admin/v1/summary-stats",
    "/pdb/query/v4/%2E%2e/.%2e/admin/v1/archive",
    "/pdb/query/v4/x%2f..%2f..%2f..%2fadmin/v1/summary-stats",
    "/pdb/query/v4/nodes/../../../admin/v1/cmd",
    "/pdb/query/v4/./nodes",
    "/pdb/meta/v1/../../admin/v1/summary-stats",
    "/pdb/meta/v1/%2e%2e/%2e%2e/admin/v1/summary-stats",
    "/status/v1/services/../../../pdb/admin/v1/summary-stats",
    "/metrics/v2/../../pdb/admin/v1/summary-stats",
    "/metrics/v2/%2e%2e/%2e%2e/pdb/admin/v1/archive",
    "//pdb/query/v4/nodes",
    "/pdb//query/v4/nodes",
    "/pdb/admin/v1/summary-stats",
    "/pdb/admin/v1/archive",
    "/pdb/ext/v1",
    "/pdb/dashboard/index.html",
    "https://localhost/pdb/query/v4/nodes",
    "http://169.254.169.254/pdb/query/v4/nodes",
    "https://user@localhost:1/pdb/cmd/v1",
    "pdb/query/v4/nodes",
    "*",
    "/",
    "/pdb",
    "/etc/passwd",
    "/pdb/query/v4x/nodes",
    "/pdb/query/v4%2fnodes",
    "/pdb/queryx",
    "/pdb/query/v4/..;/..;/admin/v1/summary-stats",
    "/pdb/query/v4/..;x=1/..;/admin/v1/summary-stats",
    "/pdb/query/v4/%2e%2E;/..;y/admin/v1/summary-stats",
    "/pdb/query/v4/..%3b/..%3b/admin/v1/summary-stats",
    "/pdb/query/v4/.;/nodes",
    "/pdb/meta/v1/..;/..;/admin/v1/summary-stats",
    "/status/v1/services/..;/..;/..;/pdb/admin/v1/archive",
    "/metrics/v2/..;/..;/pdb/admin/v1/archive",
    "/pdb/cmd/v1/..;/v1",
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_no_target_leads_anywhere_but_where_it_seems_to(site: Site, start: Start, method: str) -> None:
    gateway = start()
    for target in ELSEWHERE:
        with connected(gateway.port, site.pki.client) as sock:
            sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            status = int(sock.recv(1000).split()[1])
        assert status in (400, 403, 404), target
        assert site.primary.requests == site.replica.requests == [], target


@pytest.mark.parametrize(
    "target",
    [
        "/pdb/query/v4/nodes/a%2Fb",
        "/pdb/query/v4/nodes/a%20b",
        "/pdb/query/v4/nodes/%C3%BC",
        "/pdb/query/v4/nodes/..a",
        "/pdb/query/v4/nodes?query=%5B%22~%22%2C%22certname%22%2C%22../..%22%5D",
        "/pdb/query/v4/nodes?query=%5B%22=%22%5D&x=a+b&y=%7E~%2E",
        "/pdb/query/v4/nodes;x=1",
        "/status/v1/services/puppetdb-status?level=debug",
    ],
)
def test_a_plain_target_arrives_exactly_as_it_came(site: Site, start: Start, target: str) -> None:
    ask(start().port, site.pki.client, target)
    assert [request.target for request in site.primary.requests] == [target]


@pytest.mark.parametrize("name", ["Cookie", "Authorization", "X-Forwarded-For", "Range", "If-None-Match"])
def test_a_clients_other_headers_stay_here(site: Site, start: Start, name: str) -> None:
    gateway = start()
    assert ask(gateway.port, site.pki.client, headers={name: "bytes=0-1"}).json == []
    assert ask(gateway.port, site.pki.client, FACTS_URL, "POST", FACTS, {name: "bytes=0-1"}).status == 200
    for request in site.primary.requests:
        assert name.lower() not in request.headers


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(site: Site, start: Start) -> None:
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        sock.settimeout(3)
        head = f"POST {FACTS_URL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(FACTS)}\r\n"
        sock.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(FACTS)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert [request.body for request in site.primary.commands] == [FACTS]


def test_a_client_of_http_1_0_is_not_given_leave_which_it_does_not_know(site: Site, start: Start) -> None:
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        sock.settimeout(3)
        head = f"POST {FACTS_URL} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(FACTS)}\r\n"
        sock.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode() + FACTS)
        assert sock.recv(1000).startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("target", [FACTS_URL, "/pdbclient/v1/report"])
def test_a_client_that_leaves_before_it_has_leave_to_send_its_body_is_no_traceback(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    over = threading.Event()

    def slow(request: Request) -> Answer:
        over.wait(10)
        return healthy(request)

    site.primary.reply = site.replica.reply = slow
    gateway = start(gateway_concurrency=1)
    with ThreadPoolExecutor(2) as pool:
        try:
            busy = [pool.submit(ask, gateway.port, site.pki.client, FACTS_URL, "POST", FACTS) for _ in range(2)]
            assert eventually(lambda: gateway.places_taken == 2)
            with connected(gateway.port, site.pki.client) as sock:
                sock.sendall(
                    f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n"
                    "Expect: 100-continue\r\n\r\n".encode()
                )
                assert eventually(lambda: gateway.traffic.snapshot().in_flight[Kind.COMMAND] == 3)
            time.sleep(0.2)
        finally:
            over.set()
        for each in busy:
            each.result()
    left = (Kind.COMMAND, "", Ending.CLIENT_LEFT)
    assert eventually(lambda: gateway.traffic.snapshot().requests.get(left) == 1)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.exc_info or record.name == "asyncio"] == []


def test_a_certificate_without_a_common_name_is_told_so(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = start()
    monkeypatch.setattr("pdbclient.gateway.app.certname_of_peer", lambda certificate: None)
    told = ask(gateway.port, site.pki.client)
    assert told.status == 403
    assert b"a client without a common name in its certificate may not use this gateway" in told.body


def test_no_key_ever_shows_in_the_log_or_in_an_answer(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway = start()
    told = [
        ask(gateway.port, site.pki.client),
        ask(gateway.port, site.pki.server),
        ask(gateway.port, site.pki.client, "/x"),
    ]
    with pytest.raises(ConfigError) as broken:
        gateway.reload(replace(gateway.config, tls=replace(site.pki.server, cert=site.pki.server.key)))
    text = caplog.text + str(broken.value) + repr(gateway.config) + "".join(str(each) for each in told)
    for key in (site.pki.server.key, site.pki.client.key):
        for line in some(key).read_text().splitlines()[1:-1]:
            assert line not in text
    assert gateway.registry.usable(gateway.config.server_urls[0], Operation.COMMAND)
