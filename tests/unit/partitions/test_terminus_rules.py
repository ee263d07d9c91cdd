"""Requests as the stock terminus makes them: which answers end it, and which make it go on to the next server."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.conftest import Pki, Site, pki, site  # noqa: F401
from tests.faults.fake import Answer, answer, queued
from tests.faults.gateway import client_context
from tests.partitions.history import TIMEOUT
from tests.partitions.terminus import Attempt, StockRequest, attempts, within

GET = StockRequest("GET", "/pdb/query/v4/nodes")


def asked(site: Site, *urls: str, request: StockRequest = GET, seconds: float = 5.0) -> list[Attempt]:  # noqa: F811
    servers = urls or tuple(f"https://localhost:{fake.port}" for fake in (site.primary, site.replica))
    return list(attempts(servers, request, client_context(site.pki.client), seconds))


def test_the_first_server_that_answers_ends_it(site: Site) -> None:  # noqa: F811
    (one,) = asked(site)
    assert (one.answer and one.answer.status, one.error) == (200, None)
    assert site.replica.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 429, 302])
def test_so_does_one_that_refuses(site: Site, status: int) -> None:  # noqa: F811
    site.primary.reply = answer(b"no", status)
    assert [made.answer and made.answer.status for made in asked(site)] == [status]


@pytest.mark.parametrize("status", [500, 502, 503, 404])
def test_it_goes_on_after_a_failure_of_the_server_and_after_a_404(site: Site, status: int) -> None:  # noqa: F811
    site.primary.reply = answer({"error": "no"}, status)
    assert [made.answer and made.answer.status for made in asked(site)] == [status, 200]


def test_it_goes_on_after_a_connection_that_fails_or_breaks(site: Site) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"https://localhost:{listener.getsockname()[1]}"
    good = f"https://localhost:{site.replica.port}"
    refused, _ = asked(site, closed, good)
    assert (refused.error or "").startswith("ConnectionRefusedError: ")
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[]"
    for pieces in (
        [],
        [broken[:10]],
        [broken],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"],
    ):
        site.primary.reply = Answer(pieces, close=True)
        one, other = asked(site)
        assert one.answer is None, pieces
        assert one.error not in (None, TIMEOUT)
        assert other.answer is not None


def test_a_certificate_of_another_name_or_ca_is_a_connection_that_fails(site: Site) -> None:  # noqa: F811
    foreign = site.server(tls=site.pki.foreign.issue("server"))
    (one,) = asked(site, f"https://localhost:{foreign.port}")
    assert "CERTIFICATE_VERIFY_FAILED" in (one.error or "")
    (other,) = asked(site, f"https://127.0.0.2:{site.primary.port}")
    assert other.answer is None


def test_one_attempt_has_its_time_for_everything_even_for_one_that_drips(site: Site) -> None:  # noqa: F811
    def drip() -> Answer:
        def pieces() -> object:
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
            for _ in range(30):
                time.sleep(0.1)
                yield b"x"

        return Answer(pieces())  # type: ignore[arg-type]

    site.primary.reply = lambda _: drip()
    one, other = asked(site, seconds=0.4)
    assert one.error == TIMEOUT
    assert one.took < 1.5
    assert other.answer is not None


def test_the_same_bytes_go_to_each(site: Site) -> None:  # noqa: F811
    site.primary.reply, site.replica.reply = answer(b"", 503), queued
    request = StockRequest("POST", "/pdb/cmd/v1?command=replace_facts", b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert len(asked(site, request=request)) == 2
    (one,), (other,) = site.primary.commands, site.replica.commands
    assert (one.body, one.target) == (other.body, other.target) == (b"\x1f\x8b", request.target)
    assert one.headers["content-encoding"] == other.headers["content-encoding"] == "gzip"
    assert one.headers["user-agent"].startswith("Puppet/"), "so the gateway knows how long it waits"


def test_what_takes_too_long_is_left_alone_and_what_fails_fails_here() -> None:
    assert within(1.0, lambda: 7) == 7
    with pytest.raises(TimeoutError):
        within(0.05, lambda: time.sleep(0.5))
    with pytest.raises(ZeroDivisionError):
        within(1.0, lambda: 1 // 0)
