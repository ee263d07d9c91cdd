"""An answer is complete or an error: never a short list, never an empty one that is not, never unbounded memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

from pdbclient import AllEndpointsFailed, Client, IncompleteResponse
from pdbclient.errors import ServerError
from pdbclient.http.outcome import Kind, Operation

from .conftest import Site, deactivation
from .fake import Answer, Fake, Reply, Request, answer, chunked, healthy
from .proxy import Truncate

ROWS = [{"certname": f"node{n}.example", "type": "Sshkey", "title": f"node{n}", "exported": True} for n in range(50)]
WHOLE = json.dumps(ROWS).encode()
SHORT_BODY = WHOLE[: len(WHOLE) // 2]


def without_length(body: bytes, headers: bytes = b"") -> Answer:
    """An answer that ends where its connection ends."""
    return Answer([b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + headers + b"\r\n" + body], close=True)


GZIP = b"Content-Encoding: gzip\r\n"
LIMIT = 64 * 1024 * 1024
BOMB = b'["' + b"a" * (2 * LIMIT + 1_000_000) + b'"]'

BROKEN: dict[str, Answer] = {
    "truncated, Content-Length": Answer(
        [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(WHOLE) + SHORT_BODY], close=True
    ),
    "truncated, no length": without_length(SHORT_BODY),
    "truncated between two rows": without_length(WHOLE[: WHOLE.index(b"}, {") + 1]),
    "truncated after a comma": without_length(WHOLE[: WHOLE.index(b"}, {") + 2]),
    "without the closing bracket": without_length(WHOLE[:-1]),
    "gzip cut, no length": without_length(gzip.compress(WHOLE)[:-200], GZIP),
    "gzip of truncated JSON": without_length(gzip.compress(SHORT_BODY), GZIP),
    "gzip that is none": without_length(WHOLE, GZIP),
    "gzip with a flipped byte": without_length(
        (z := gzip.compress(WHOLE))[:60] + bytes([z[60] ^ 0xFF]) + z[61:], GZIP
    ),
    "chunks without the last": chunked([SHORT_BODY], end=False),
    "chunks of truncated JSON": chunked([SHORT_BODY]),
    "cut inside a chunk": Answer(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + SHORT_BODY], close=True
    ),
    "no chunk length": Answer([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"], close=True),
    "an error object": answer({"error": "canceling statement due to user request"}),
    "an error object after rows": answer(WHOLE[:-1] + b', {"error": "x"}'),
    "an object": answer({}),
    "HTML": answer(b"<html><body>It works!</body></html>", Content_Type="text/html"),
    "empty": answer(b""),
    "blank": answer(b" \n"),
    "null": answer(b"null"),
    "a bracket": answer(b"["),
    "two brackets": answer(b"[["),
    "a string": answer(b'"[]"'),
    "two arrays": answer(b"[][]"),
    "text after the array": answer(WHOLE + b" and so on"),
    "two arrays of rows": answer(WHOLE + WHOLE),
    "a trailing comma": answer(b"[1,]"),
    "no comma": answer(b"[1 2]"),
    "NaN": answer(b'[{"value": NaN}]'),
    "Infinity": answer(b'[{"value": -Infinity}]'),
    "a number beyond doubles": answer(b'[{"value": 1e400}]'),
    "a duplicate key": answer(b'[{"certname": "a", "certname": "b"}]'),
    "a duplicate key far inside": answer(b'[{"value": [{"a": {"b": 1, "b": 2}}]}]'),
    "deep lists": answer(b"[" * 50_000 + b"]" * 50_000),
    "deep objects": answer(b'[{"a":' * 50_000 + b"1" + b"}]" * 50_000),
    "deep and open": answer(b"[" * 50_000),
    "not UTF-8": answer(b'["\xff"]'),
    "cut inside a character": without_length('["é'.encode()[:-1]),
    "UTF-16": answer("[]".encode("utf-16")),
    "a control character": answer(b'["a\nb"]'),
    "a garbage total": answer([], X_Records="many"),
}
BODILESS: dict[str, Answer] = {
    "no HTTP at all": Answer([b"220 mail.example ESMTP\r\n"], close=True),
    "half a status line": Answer([b"HTTP/1.1 2"], close=True),
    "half the headers": Answer([b"HTTP/1.1 200 OK\r\nContent-Le"], close=True),
    "a status that is none": Answer([b"HTTP/1.1 abc OK\r\n\r\n[]"], close=True),
    "an endless header": Answer([b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n[]"], close=True),
    "a thousand headers": Answer([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n[]"], close=True),
    "a length that is none": Answer([b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n["], close=True),
    "two lengths": Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n[]"], close=True),
    "a negative length": Answer([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n["], close=True),
    "no content": Answer([b"HTTP/1.1 204 No Content\r\n\r\n"], close=True),
    "partial content": answer(b"[]", 206),
    "not modified": Answer([b"HTTP/1.1 304 Not Modified\r\n\r\n"], close=True),
}


def alone(site: Site, reply: Reply) -> tuple[Client, Fake]:
    """A client of one server with that reply."""
    server = site.server(reply)
    return site.client(server.port), server


@pytest.mark.parametrize("name", [*BROKEN, *BODILESS])
def test_a_broken_answer_is_an_error_and_not_a_list(site: Site, name: str) -> None:
    client, _ = alone(site, (BROKEN | BODILESS)[name])
    with pytest.raises((AllEndpointsFailed, ServerError)) as failed:
        client.query("resources {}")
    assert isinstance(failed.value, AllEndpointsFailed | ServerError)
    (attempt,) = failed.value.attempts
    wanted = {Kind.INCOMPLETE} if name in BROKEN else {Kind.AMBIGUOUS, Kind.INCOMPLETE, Kind.SERVER_ERROR}
    assert attempt.outcome.kind in wanted
    assert attempt.outcome.detail
    assert len(str(failed.value)) < 1000


@pytest.mark.parametrize("name", [*BROKEN, *BODILESS])
def test_the_next_server_answers_in_place_of_a_broken_answer(site: Site, name: str) -> None:
    site.primary.reply = (BROKEN | BODILESS)[name]
    site.replica.reply = answer(ROWS)
    client = site.client()
    result = client.query("resources {}")
    assert list(result) == ROWS
    assert result.endpoint == client.config.server_urls[1]
    assert result.failed_over
    assert len(client.health()[client.config.server_urls[0], Operation.QUERY].soft) == 1


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "a garbage total"])
def test_a_stream_of_a_broken_answer_ends_with_an_error_after_only_true_rows(site: Site, name: str) -> None:
    client, _ = alone(site, BROKEN[name])
    got: list[Any] = []

    def read() -> None:
        with client.stream("resources {}") as rows:
            got.extend(rows)

    with pytest.raises((AllEndpointsFailed, IncompleteResponse)):
        read()
    assert got in (ROWS[: len(got)], [1], [[]])


def test_a_stream_that_breaks_off_tells_how_many_rows_came_and_counts_against_its_server(site: Site) -> None:
    site.primary.reply = without_length(SHORT_BODY)
    client = site.client()
    got: list[Any] = []

    def read() -> None:
        got.extend(client.stream("resources {}"))

    with pytest.raises(IncompleteResponse) as broken:
        read()
    assert broken.value.records_seen == len(got)
    assert broken.value.endpoint == client.config.server_urls[0].url
    assert len(client.health()[client.config.server_urls[0], Operation.QUERY].soft) == 1


def test_streams_that_break_off_do_not_shut_out_the_only_server(site: Site) -> None:
    client, server = alone(site, without_length(SHORT_BODY))
    for _ in range(4):
        with pytest.raises(IncompleteResponse):
            list(client.stream("resources {}"))
    server.reply = answer(ROWS)
    assert list(client.query("nodes {}")) == ROWS


def test_no_exported_resource_of_a_truncated_answer_is_handed_out(site: Site) -> None:
    client, _ = alone(site, without_length(SHORT_BODY))
    with pytest.raises(AllEndpointsFailed):
        client.exported_resources("Sshkey", for_certname="web.example")


@pytest.mark.parametrize("cut", [0, 1, 150, 1000, 2500])
def test_a_connection_cut_anywhere_in_the_answer_is_an_error(site: Site, cut: int) -> None:
    site.primary.reply = without_length(WHOLE)
    client = site.client(site.proxy.port)
    client.query("nodes {}")
    site.proxy.fault = Truncate(after=cut)
    with pytest.raises(AllEndpointsFailed):
        client.query("resources {}")


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"uuid"),
        answer([]),
        answer({}),
        answer({"uuid": None}),
        answer({"uuid": 7}),
        answer(b"null"),
        answer(b""),
        answer(b'{"uuid": "a"'),
        answer(b'{"uuid": "a"} {"uuid": "b"}'),
        answer(b'{"uuid": "a", "uuid": "b"}'),
        answer(b"<html>OK</html>"),
        answer(b"", 204),
        answer({"uuid": "a"}, 201),
    ],
)
def test_a_command_is_not_acknowledged_without_the_uuid_of_a_whole_answer(site: Site, reply: Answer) -> None:
    client, server = alone(site, reply)
    with pytest.raises(AllEndpointsFailed):
        client.submit(deactivation())
    assert len(server.commands) == 1


@pytest.mark.parametrize(
    "reply",
    [
        answer(ROWS),
        without_length(WHOLE),
        without_length(gzip.compress(WHOLE), GZIP),
        chunked([WHOLE[:7], WHOLE[7:]]),
        chunked([bytes([byte]) for byte in WHOLE]),
        chunked([gzip.compress(WHOLE)], Content_Encoding="gzip"),
        answer(b"\r\n \t" + json.dumps(ROWS, indent=4).encode() + b"\n"),
    ],
)
def test_a_whole_answer_comes_whole_however_it_is_sent(site: Site, reply: Reply) -> None:
    client, server = alone(site, reply)
    assert list(client.query("resources {}")) == ROWS
    server.reply = reply if isinstance(reply, Answer) and isinstance(reply.pieces, list) else chunked([WHOLE])
    assert list(client.stream("resources {}")) == ROWS


def test_numbers_and_text_of_an_answer_are_not_changed(site: Site) -> None:
    values = [2**70, -(2**70), 0.1, "é \U0001f600 \ufffd", True, None, [], {}]
    client, _ = alone(site, answer(values))
    assert list(client.query("facts {}")) == values


def endless() -> Iterable[bytes]:
    row = b'{"certname": "%s"},' % (b"a" * 60_000)
    while True:
        yield row


def test_a_stream_without_end_is_read_in_bounded_memory(site: Site) -> None:
    def reply(_: Request) -> Answer:
        def pieces() -> Iterable[bytes]:
            yield b"HTTP/1.1 200 OK\r\n\r\n["
            yield from endless()

        return Answer(pieces(), close=True)

    client, _ = alone(site, reply)
    tracemalloc.start()
    try:
        with client.stream("resources {}", timeout=60.0) as rows:
            for _ in range(1000):
                next(rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_row_without_end_is_an_error_in_bounded_memory(site: Site, compressed: bool) -> None:
    reply = without_length(gzip.compress(BOMB, 1), GZIP) if compressed else without_length(BOMB)
    client, _ = alone(site, reply)
    tracemalloc.start()
    try:
        with pytest.raises(AllEndpointsFailed, match=f"more than {LIMIT}"):
            client.query("resources {}", timeout=60.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * LIMIT


def test_a_document_without_end_is_an_error_at_the_limit(site: Site) -> None:
    client, _ = alone(site, without_length(BOMB))
    with pytest.raises(AllEndpointsFailed, match=f"more than {LIMIT}"):
        client.get("catalogs/a", timeout=60.0)


def test_a_huge_error_body_is_shown_in_one_short_line(site: Site) -> None:
    client, _ = alone(site, answer(b"x\n" * 5_000_000, 500))
    with pytest.raises(ServerError) as failed:
        client.query("nodes {}")
    assert len(failed.value.attempts[0].outcome.detail) <= 300


def test_after_a_stream_that_was_left_early_the_client_goes_on(site: Site) -> None:
    client, server = alone(site, lambda request: answer(ROWS * 1000) if request.is_query else healthy(request))
    with client.stream("resources {}") as rows:
        assert next(rows) == ROWS[0]
    rows = client.stream("resources {}")
    rows.close()
    server.reply = healthy
    assert list(client.query("nodes {}")) == []
