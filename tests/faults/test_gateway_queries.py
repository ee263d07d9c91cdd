"""Queries through the gateway: whole, or from the next server, or so broken that no client takes them for whole."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pdbclient.gateway.upstream import HELD
from pdbclient.http.outcome import Operation

from .conftest import Site, catalog
from .fake import Answer, Request, answer, chunked
from .gateway import (
    GatewayProcess,
    GatewayThread,
    ask,
    client_context,
    connected,
    eventually,
    gateway_config,
    write_config,
)

Start = Callable[..., GatewayThread]
NODES = "/pdb/query/v4/nodes"
ROW = json.dumps({"certname": "node.example", "title": 'a "quoted" \\ [{ title', "é": "ü"}).encode()
LARGE = b"[" + b", ".join([ROW] * (2 * HELD // len(ROW))) + b"]"
SMALL = b"[" + b", ".join([ROW] * 50) + b"]"


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of the proxy and the replica."""
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            return stack.enter_context(GatewayThread(gateway_config(site.config(), site.pki.server, **changes)))

        yield run


def in_pieces(body: bytes, size: int = 60_000) -> Iterable[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def rows(body: bytes, *, end: bool = True, **headers: str) -> Answer:
    """Rows as PuppetDB sends them."""
    return chunked(in_pieces(body), end=end, Content_Type="application/json;charset=utf-8", **headers)


def closing(body: bytes) -> Answer:
    """An answer that ends where its connection ends."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    return Answer([head + body], close=True)


@pytest.mark.parametrize("size", ["small", "large"])
def test_an_answer_comes_through_byte_by_byte_with_its_headers(site: Site, start: Start, size: str) -> None:
    body = LARGE if size == "large" else SMALL
    site.primary.reply = rows(body, X_Records="1234")
    told = ask(start().port, site.pki.client, NODES + "?query=%5B%22%3D%22%2C%22a%22%2C%22b+c%22%5D&limit=3")
    assert told.status == 200
    assert told.body == body
    assert told.headers["X-Records"] == "1234"
    assert told.headers["Content-Type"] == "application/json;charset=utf-8"
    assert told.headers["Server"] is None or "Fake" not in told.headers["Server"]
    (sent,) = site.primary.queries
    assert sent.target == NODES + "?query=%5B%22%3D%22%2C%22a%22%2C%22b+c%22%5D&limit=3"


def test_a_posted_query_goes_on_with_its_body_and_content_type(site: Site, start: Start) -> None:
    body = '{"query": "nodes { certname = \\"ü\\" }"}'.encode()
    lines = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json", "X-Secret": "no"}
    assert ask(start().port, site.pki.client, "/pdb/query/v4", "POST", body, lines).json == []
    (sent,) = site.primary.queries
    assert (sent.method, sent.body) == ("POST", body)
    assert (sent.headers["content-type"], sent.headers["accept"]) == (lines["Content-Type"], "application/json")
    assert "x-secret" not in sent.headers


BROKEN: dict[str, Answer] = {
    "cut, Content-Length": Answer(
        [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n" + SMALL[:500]],
        close=True,
    ),
    "cut, no length": closing(SMALL[:500]),
    "cut after a row": closing(SMALL[: SMALL.index(b"}, {") + 1]),
    "cut, chunked": rows(SMALL[:500], end=False),
    "chunks of half an answer": rows(SMALL[:-1]),
    "cut before a MB": rows(LARGE[: HELD // 2], end=False),
    "HTML that says it is": answer(b"<html>It works!</html>", Content_Type="text/html"),
    "HTML that says it is JSON": answer(b"<html>It works!</html>"),
    "without a content type": Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]),
    "empty": answer(b""),
    "blank": answer(b" \n"),
    "null": answer(b"null"),
    "a string": answer(b'"[]"'),
    "two arrays": answer(b"[][]"),
    "text after the end": answer(SMALL + b"and so on"),
    "an error": answer({"error": "canceling statement due to user request"}),
    "an error, spaced": answer(b' {\n  "error" : "x"\n}'),
    "204": answer(b"", 204),
    "500": answer(b"oops", 500, Content_Type="text/plain"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_answer_that_breaks_within_the_first_megabyte_is_the_next_servers(
    site: Site, start: Start, what: str
) -> None:
    site.primary.reply = BROKEN[what]
    site.replica.reply = rows(SMALL)
    told = ask(start().port, site.pki.client, NODES)
    assert (told.status, told.body) == (200, SMALL)
    assert (told.server, told.headers["X-Pdbclient-Failed-Over"]) == (site.replica.port, "true")


@pytest.mark.parametrize("what", ["cut, no length", "HTML that says it is", "empty", "an error"])
def test_without_a_whole_answer_from_anybody_there_is_an_error(site: Site, start: Start, what: str) -> None:
    site.primary.reply = site.replica.reply = BROKEN[what]
    told = ask(start().port, site.pki.client, NODES)
    assert told.status == 503
    assert told.json["error"].count("incomplete") == 2


def with_requests(port: int, site: Site) -> bytes:
    tls = site.pki.client
    with requests.Session() as session:
        session.trust_env = False
        cert = (str(tls.cert), str(tls.key))
        return session.get(f"https://localhost:{port}{NODES}", verify=str(tls.ca), cert=cert, timeout=10).content


def with_http_client(port: int, site: Site) -> bytes:
    return ask(port, site.pki.client, NODES).body


def with_a_socket(port: int, site: Site) -> bytes:
    """Takes for whole what ends with the last chunk; raises when the connection ends without."""
    with connected(port, site.pki.client) as sock:
        sock.sendall(f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        got = b""
        while not got.endswith(b"\r\n0\r\n\r\n"):
            more = sock.recv(65536)
            if not more:
                raise ConnectionError("the end of the connection, without the last chunk")
            got += more
        return got


READERS = {"requests": with_requests, "http.client": with_http_client, "socket": with_a_socket}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("how", ["cut off", "ended early"])
def test_an_answer_that_breaks_after_that_is_taken_for_whole_by_nobody(
    site: Site, start: Start, reader: str, how: str
) -> None:
    site.primary.reply = lambda _: rows(LARGE[: -len(ROW) // 2], end=how == "ended early")
    gateway = start()
    with pytest.raises((requests.RequestException, http.client.HTTPException, OSError)):
        READERS[reader](gateway.port, site)
    assert eventually(lambda: gateway.places_taken == 0)
    site.primary.reply = lambda _: rows(LARGE)
    assert READERS[reader](gateway.port, site)


def test_a_server_whose_large_answers_break_off_is_not_asked_for_a_fourth(site: Site, start: Start) -> None:
    site.primary.reply = lambda _: rows(LARGE[: -len(ROW)], end=False)
    site.replica.reply = lambda _: rows(LARGE)
    gateway = start()
    for _ in range(3):
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(gateway.port, site.pki.client, NODES)
    assert ask(gateway.port, site.pki.client, NODES).body == LARGE
    assert gateway.registry.usable(gateway.config.server_urls[0], Operation.COMMAND), "commands still go there"


def by_http_1_0(port: int, site: Site, *lines: str) -> tuple[bytes, bytes]:
    """Head and body for a client of HTTP/1.0, to which the end of the connection is that of the answer."""
    with connected(port, site.pki.client) as sock:
        # An end without TLS's good-bye is none.
        vars(sock)["suppress_ragged_eofs"] = False
        sock.settimeout(10)
        sock.sendall("\r\n".join([f"GET {NODES} HTTP/1.0", *lines, "", ""]).encode())
        got = b""
        while more := sock.recv(65536):
            got += more
    head, _, body = got.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize("lines", [[], ["Connection: keep-alive"], ["Host: localhost", "Accept-Encoding: gzip"]])
def test_a_large_answer_for_http_1_0_ends_with_the_connection(site: Site, start: Start, lines: list[str]) -> None:
    site.primary.reply = lambda _: rows(LARGE)
    head, body = by_http_1_0(start().port, site, *lines)
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"chunked" not in head
    assert b"keep-alive" not in head.lower()
    assert (gzip.decompress(body) if b"Content-Encoding: gzip" in head else body) == LARGE


@pytest.mark.parametrize("how", ["cut off", "ended early"])
@pytest.mark.parametrize("lines", [[], ["Accept-Encoding: gzip"]])
def test_a_large_answer_that_breaks_is_no_whole_one_for_http_1_0_either(
    site: Site, start: Start, lines: list[str], how: str
) -> None:
    site.primary.reply = lambda _: rows(LARGE[: -len(ROW) // 2], end=how == "ended early")
    # Either may come first: the end without TLS's own, or the reset behind it (Python 3.13 tells the reset).
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        by_http_1_0(start().port, site, *lines)


def test_a_broken_answer_ends_with_a_reset(site: Site, start: Start) -> None:
    """Of the TCP connection: many clients take its plain end for the end of the answer, whatever TLS says."""
    site.primary.reply = lambda _: rows(LARGE[: -len(ROW) // 2], end=False)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(site.pki.client).wrap_bio(received, sent, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", start().port), timeout=10) as plain:

        def carried(step: Callable[[], object]) -> None:
            """Do it, with what TLS sends and receives carried by hand."""
            done = False
            while not done:
                with suppress(ssl.SSLWantReadError):
                    step()
                    done = True
                plain.sendall(sent.read())
                if not done:
                    received.write(plain.recv(65536))

        carried(tls.do_handshake)
        carried(lambda: tls.write(f"GET {NODES} HTTP/1.0\r\n\r\n".encode()))
        with pytest.raises(ConnectionResetError):
            all(iter(lambda: plain.recv(65536), b""))


@pytest.mark.parametrize(
    ("wanted", "encoded"),
    [
        *(("gzip", True), ("GZIP", True), ("deflate, gzip;q=1.0, *;q=0.5", True), ("br,gzip ; q=0.1", True)),
        *(("", False), ("deflate, br", False), ("*", False), ("x-gzip", False), ("identity", False)),
        *(("gzip;q=0", False), ("gzip; q=0.000", False), ("gzipped", False), ("gzip;q=", False)),
    ],
)
@pytest.mark.parametrize("size", ["small", "large"])
def test_an_answer_is_compressed_for_who_asks_for_it(
    site: Site, start: Start, wanted: str, encoded: bool, size: str
) -> None:
    body = LARGE if size == "large" else SMALL
    site.primary.reply = rows(body, X_Records="1234")
    told = ask(start().port, site.pki.client, NODES, headers={"Accept-Encoding": wanted} if wanted else None)
    assert told.headers["Vary"] == "Accept-Encoding"
    assert told.headers["X-Records"] == "1234"
    assert told.headers["Content-Encoding"] == ("gzip" if encoded else None)
    assert (gzip.decompress(told.body) if encoded else told.body) == body
    if encoded:
        assert len(told.body) < len(body) / 3


def test_what_is_short_or_an_error_is_not_compressed(site: Site, start: Start) -> None:
    port, lines = start().port, {"Accept-Encoding": "gzip"}
    told = ask(port, site.pki.client, NODES, headers=lines)
    assert (told.body, told.headers["Content-Encoding"], told.headers["Vary"]) == (b"[]", None, "Accept-Encoding")
    site.primary.reply = answer({"error": "x" * 1000}, 400)
    told = ask(port, site.pki.client, NODES, headers=lines)
    assert (told.status, told.headers["Content-Encoding"]) == (400, None)
    assert told.json == {"error": "x" * 1000}


def test_two_lines_of_accept_encoding_are_one(site: Site, start: Start) -> None:
    site.primary.reply = rows(SMALL)
    with connected(start().port, site.pki.client) as sock:
        lines = "Host: localhost\r\nAccept-Encoding: br\r\nAccept-Encoding: gzip\r\nConnection: close"
        sock.sendall(f"GET {NODES} HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        got = b""
        while more := sock.recv(65536):
            got += more
    assert gzip.decompress(got.partition(b"\r\n\r\n")[2]) == SMALL


@pytest.mark.parametrize("reader", ["requests", "http.client"])
def test_a_compressed_answer_that_breaks_is_taken_for_whole_by_nobody(site: Site, start: Start, reader: str) -> None:
    site.primary.reply = lambda _: rows(LARGE[: -len(ROW) // 2], end=False)
    port = start().port

    def read() -> None:
        if reader == "requests":
            with_requests(port, site)  # asks for gzip by itself
        else:
            ask(port, site.pki.client, NODES, headers={"Accept-Encoding": "gzip"})

    with pytest.raises((requests.RequestException, http.client.HTTPException, OSError)):
        read()
    assert site.replica.queries == []


@pytest.mark.parametrize("limit", [16_384, 65_536])
def test_a_request_line_may_have_as_many_bytes_as_is_configured(site: Site, start: Start, limit: int) -> None:
    port = start(gateway_max_url_bytes=limit).port
    target = f"{NODES}?query="
    longest = target + "a" * (limit - len(target))
    assert ask(port, site.pki.client, longest).json == []
    assert [request.target for request in site.primary.queries] == [longest]
    assert ask(port, site.pki.client, longest + "a" * 10).status == 400


NOT_FOUND = answer({"error": "No information is known about node nope"}, 404)


def test_what_puppetdb_does_not_have_is_its_own_answer(site: Site, start: Start) -> None:
    site.primary.reply = NOT_FOUND
    told = ask(start().port, site.pki.client, NODES + "/nope")
    assert (told.status, told.json) == (404, {"error": "No information is known about node nope"})
    assert site.replica.requests == []


def test_a_404_of_a_server_that_took_over_says_so(site: Site, start: Start) -> None:
    site.proxy.refuse()
    site.replica.reply = NOT_FOUND
    told = ask(start().port, site.pki.client, NODES + "/nope")
    assert (told.status, told.server) == (404, site.replica.port)
    assert told.headers["X-Pdbclient-Failed-Over"] == "true"


def test_a_head_request_is_no_broken_answer(site: Site, start: Start) -> None:
    gateway = start()
    for _ in range(4):
        told = ask(gateway.port, site.pki.client, "/pdb/meta/v1/version", "HEAD")
        assert (told.status, told.body) == (200, b"")
    first = gateway.config.server_urls[0]
    assert all(gateway.registry.usable(first, operation) for operation in Operation)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("HEAD", "/status/v1/services"),
        ("HEAD", "/status/v1/simple"),
        ("POST", "/status/v1/services"),
        ("DELETE", "/status/v1/simple"),
        ("HEAD", "/metrics/v2"),
        ("PUT", "/metrics/v2"),
    ],
)
def test_a_method_that_puppetdb_forbids_shuts_no_server_out(
    site: Site, start: Start, method: str, target: str
) -> None:
    gateway = start()
    told = ask(gateway.port, site.pki.client, target, method, b"{}" if method != "HEAD" else None)
    assert told.status == 403, "as PuppetDB says"
    for endpoint in gateway.config.server_urls:
        assert all(gateway.registry.usable(endpoint, operation) for operation in Operation)
    assert site.primary.requests == site.replica.requests == []


def test_a_client_that_goes_away_in_an_answer_frees_its_place_and_the_connection(site: Site, start: Start) -> None:
    over = threading.Event()
    ended = threading.Event()

    def endless(_: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            yield b"1\r\n[\r\n"
            try:
                while not over.is_set():
                    yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            finally:
                ended.set()

        return Answer(pieces(), close=True)

    site.primary.reply = endless
    gateway = start()
    try:
        with connected(gateway.port, site.pki.client) as sock:
            sock.sendall(f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while len(sock.recv(65536)) == 0:
                pass
            assert gateway.places_taken == 1
        assert eventually(lambda: gateway.places_taken == 0)
        # Without a reader, the server cannot go on for long.
        assert ended.wait(5)
    finally:
        over.set()
    assert all(gateway.registry.usable(endpoint, Operation.QUERY) for endpoint in gateway.config.server_urls)


def test_a_reader_that_stops_is_cut_off(site: Site, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.BODY_PATIENCE", 0.3)
    # More than all the buffers on the way can hold.
    site.primary.reply = lambda _: rows(b"[" + b", ".join([LARGE] * 16) + b"]")
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert eventually(lambda: gateway.places_taken == 1)
        assert eventually(lambda: gateway.places_taken == 0)
    assert all(gateway.registry.usable(endpoint, Operation.QUERY) for endpoint in gateway.config.server_urls)


SIZE = 500_000_000
BOUND = 150_000_000
BLOCK = b", ".join([ROW] * 2000) + b", "


@pytest.fixture
def process(site: Site, tmp_path: Path) -> Iterator[GatewayProcess]:
    config = write_config(tmp_path / "puppetdb.conf", gateway_config(site.config(), site.pki.server))
    port = int(config.read_text().partition("https://localhost:")[2].partition(",")[0])
    with GatewayProcess(config, port, tmp_path / "log") as gateway:
        yield gateway.up()


def test_500_mb_pass_in_little_memory_and_a_slow_reader_makes_it_no_more(site: Site, process: GatewayProcess) -> None:
    def half_a_gigabyte(_: Request) -> Answer:
        def chunks() -> Iterator[bytes]:
            yield b"["
            for _ in range(SIZE // len(BLOCK)):
                yield BLOCK
            yield ROW + b"]"

        return chunked(chunks(), Content_Type="application/json")

    site.primary.reply = half_a_gigabyte
    connection = http.client.HTTPSConnection("localhost", process.port, context=client_context(site.pki.client))
    connection.request("GET", NODES)
    response = connection.getresponse()
    buffer, total = bytearray(1 << 20), 0
    stopped = threading.Event()
    while read := response.readinto(buffer):
        total += read
        if total > SIZE // 2 and not stopped.is_set():
            stopped.set()
            threading.Event().wait(1.0)  # what it had held back by now would be much
            assert process.peak() < BOUND
    connection.close()
    assert total == SIZE // len(BLOCK) * len(BLOCK) + len(ROW) + 2
    assert process.peak() < BOUND


def test_a_large_command_passes(site: Site, start: Start) -> None:
    command = catalog(20_000_000)
    target = "/pdb/cmd/v1?version=9&certname=node.example&command=replace_catalog"
    told = ask(start().port, site.pki.client, target, "POST", command.body)
    assert told.status == 200
    assert site.primary.commands[0].body == command.body
