"""Whatever drips in, an attempt ends at its deadline, and an operation at its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pdbclient import AllEndpointsFailed
from pdbclient.config.model import Timeouts
from pdbclient.errors import DeadlineExceeded, ServerError, Unresponsive
from pdbclient.http.outcome import Kind, Operation
from pdbclient.http.pulse import SILENCE
from pdbclient.http.sender import STATUS_LIMIT

from .conftest import Site, catalog, deactivation
from .fake import Answer, Request, answer, healthy
from .proxy import BlackHole, Drip, Stall

PATIENT = Timeouts(attempt=1.5, connect=1.0, read=1.0, operation=4.0, query=1.5)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def dripping(beginning: bytes, piece: bytes) -> Callable[[Request], Answer]:
    """An answer that begins at once and goes on, a piece every 0.1 seconds, without end."""

    def pieces() -> Iterator[bytes]:
        yield beginning
        while True:
            time.sleep(0.1)
            yield piece

    return lambda request: Answer(pieces(), close=True)


DRIPS = {
    "status line": dripping(b"HTTP/1.", b"1"),
    "one header": dripping(HEAD + b"X-Long: ", b"a"),
    "headers": dripping(HEAD, b"X: y\r\n"),
    "body": dripping(HEAD + b"Content-Length: 1000000\r\n\r\n[", b"1,"),
    "body, no length": dripping(HEAD + b"\r\n[", b"1,"),
    "blanks": dripping(HEAD + b"\r\n", b" "),
    "chunks": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n", b"2\r\n1,\r\n"),
    "a chunk's length": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "an error's body": dripping(b"HTTP/1.1 500 Error\r\n\r\n", b"x"),
    "interim answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_query_ends_at_its_deadline_wherever_the_answer_drips(
    site: Site, took: Callable[[], float], where: str
) -> None:
    server = site.server(DRIPS[where])
    client = site.client(server.port, timeouts=PATIENT)
    took()
    with pytest.raises((AllEndpointsFailed, ServerError)) as failed:
        client.query("nodes {}")
    assert isinstance(failed.value, AllEndpointsFailed | ServerError)
    assert abs(took() - PATIENT.query) < 0.5
    wanted = Kind.SERVER_ERROR if where == "an error's body" else Kind.TIMEOUT
    assert failed.value.attempts[0].outcome.kind is wanted


@pytest.mark.parametrize("where", ["status line", "headers", "body, no length"])
def test_a_command_goes_to_the_next_server_at_the_deadline_of_the_attempt(
    site: Site, took: Callable[[], float], where: str
) -> None:
    site.primary.reply = DRIPS[where]
    client = site.client(timeouts=PATIENT)
    took()
    done = client.submit(deactivation())
    assert abs(took() - PATIENT.attempt) < 0.5
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]


def test_bytes_of_tls_that_never_make_a_record_do_not_put_the_deadline_off(
    site: Site, took: Callable[[], float]
) -> None:
    client = site.client(site.proxy.port, timeouts=PATIENT)
    client.query("nodes {}")
    site.proxy.fault = Drip(every=0.3)
    took()
    with pytest.raises(AllEndpointsFailed):
        client.query("nodes {}")
    assert took() < PATIENT.attempt + 0.5


def test_a_stream_of_slow_rows_ends_at_its_timeout(site: Site, took: Callable[[], float]) -> None:
    row = b'"%s",' % (b"a" * 20_000)
    server = site.server(dripping(HEAD + b"\r\n[", row))
    client = site.client(server.port, timeouts=PATIENT)
    took()
    rows = client.stream("nodes {}", timeout=2.0)
    assert len(next(rows)) == 20_000
    with pytest.raises(DeadlineExceeded):
        list(rows)
    assert abs(took() - 2.0) < 0.5


def test_a_stream_from_a_server_that_is_cut_off_ends_when_that_is_seen(site: Site, took: Callable[[], float]) -> None:
    def silent(request: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield HEAD + b"\r\n[1,2,"
            site.proxy.fault = BlackHole()
            time.sleep(SILENCE + STATUS_LIMIT + 1)

        return Answer(pieces(), close=True)

    site.primary.reply = silent
    client = site.client(site.proxy.port, timeouts=PATIENT)
    took()
    with pytest.raises((Unresponsive, AllEndpointsFailed), match="none about its health"):
        list(client.stream("nodes {}", timeout=30.0))
    assert took() < SILENCE + STATUS_LIMIT + 1


def test_a_slow_query_is_waited_for_when_its_own_timeout_allows_it(site: Site) -> None:
    def slow(_: Request) -> Answer:
        time.sleep(1.3)
        return answer([1])

    server = site.server(slow)
    client = site.client(server.port, timeouts=PATIENT)
    assert list(client.query("nodes {}", timeout=5.0)) == [1]


def test_a_query_that_times_out_does_not_close_the_server_to_commands(site: Site) -> None:
    def slow_query(request: Request) -> Answer:
        if request.is_query:
            time.sleep(PATIENT.query)
        return healthy(request)

    site.primary.reply = slow_query
    client = site.client(timeouts=PATIENT)
    result = client.query("nodes {}")
    assert [attempt.outcome.kind for attempt in result.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]
    primary = client.config.server_urls[0]
    assert client.health()[primary, Operation.QUERY].usable
    assert client.health()[primary, Operation.COMMAND].soft == ()
    assert client.submit(deactivation()).endpoint == primary


def test_a_body_that_the_server_does_not_take_ends_at_the_read_limit(site: Site, took: Callable[[], float]) -> None:
    client = site.client(timeouts=PATIENT, gzip_min_bytes=10**9)
    client.submit(deactivation())
    command = catalog(20_000_000)
    site.proxy.fault = Stall()
    took()
    done = client.submit(command)
    assert took() < PATIENT.attempt + 1.5
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]


def test_the_whole_operation_ends_at_its_own_deadline(site: Site, took: Callable[[], float]) -> None:
    limits = Timeouts(attempt=1.5, connect=1.0, read=10.0, operation=2.5)
    ports = [site.server(DRIPS["body"]).port for _ in range(4)]
    client = site.client(*ports, timeouts=limits)
    took()
    with pytest.raises(AllEndpointsFailed) as failed:
        client.submit(deactivation())
    assert abs(took() - limits.operation) < 0.5
    assert [attempt.outcome.kind for attempt in failed.value.attempts] == [
        Kind.TIMEOUT,
        Kind.TIMEOUT,
        Kind.SKIPPED,
        Kind.SKIPPED,
    ]


def test_an_attempt_may_have_no_limit_at_all(site: Site) -> None:
    """Seeding has none: `OverflowError: timestamp out of range for platform time_t`."""
    client = site.client()
    session = client._failover.session(client.config.server_urls[0])
    assert list(session.rows("/nodes", within=float("inf"))) == []
    assert session.submit(deactivation(), within=float("inf"))
