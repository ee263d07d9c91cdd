"""What counts against a server, and what does not: faults and limits that are the caller's, or this program's own."""

from __future__ import annotations

import errno
import gc
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pdbclient import Client
from pdbclient.errors import AllEndpointsFailed, OutOfTime, ServerError
from pdbclient.http.breaker import Health
from pdbclient.http.connection import TracingAdapter
from pdbclient.http.outcome import Kind, Operation
from pdbclient.http.pulse import Pulse
from pdbclient.http.sender import Sender

from .conftest import Site, deactivation
from .fake import Answer, Request, answer, healthy
from .proxy import Latency

ROW = b'{"a": "%s"}' % (b"x" * 1000)
LARGE = b"[" + b",".join([ROW] * 20_000) + b"]"


def sender(client: Client) -> Sender:
    """What sends to the primary."""
    return client._failover.session(client.config.server_urls[0])._sender


def usable(client: Client) -> bool:
    """Whether the primary is asked, for both kinds."""
    return all(client.health()[client.config.server_urls[0], operation].usable for operation in Operation)


def large(request: Request) -> Answer:
    return answer(LARGE) if request.is_query else healthy(request)


# -- what the caller was handling when it asked


OTHERS = [OSError(errno.EMFILE, "another one's"), ssl.SSLCertVerificationError(1, "another one's"), TimeoutError()]


def handling(error: Exception, call: Callable[[], Any]) -> Any:
    """What `call` gives in the middle of an `except` block."""
    try:
        raise error
    except Exception:  # noqa: BLE001  # whatever a caller may be handling
        return call()


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_an_error_that_the_caller_is_handling_is_no_part_of_what_an_attempt_met(site: Site, error: Exception) -> None:
    client = site.client()
    site.proxy.refuse()
    done = handling(error, lambda: client.submit(deactivation()))
    first, second = done.attempts
    assert (first.outcome.kind, second.outcome.kind) == (Kind.NOT_SENT, Kind.ACCEPTED)
    assert "another one's" not in first.outcome.detail


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_nor_is_it_when_an_idle_connection_turns_out_to_be_closed(site: Site, error: Exception) -> None:
    def closes(request: Request) -> Answer:
        return (
            Answer([], close=True) if request.connection == 1 and len(site.primary.commands) > 1 else healthy(request)
        )

    site.primary.reply = closes
    client = site.client()
    client.submit(deactivation())
    done = handling(error, lambda: client.submit(deactivation(1)))
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.ACCEPTED]


# -- our own time


def test_a_limit_too_short_for_a_connection_is_not_the_servers(site: Site) -> None:
    client = site.client()
    site.proxy.fault = Latency(0.15)
    result = client.query("nodes {}", timeout=0.2)
    assert result.attempts[0].outcome.kind is Kind.OUT_OF_TIME
    assert usable(client)


def test_a_reader_that_takes_its_time_is_not_the_servers(site: Site) -> None:
    site.primary.reply = large
    client = site.client()
    for _ in range(3):
        rows = client.stream("nodes {}", timeout=1.0)
        next(rows)
        time.sleep(1.1)
        with pytest.raises(OutOfTime):
            list(rows)
    assert usable(client)


# -- our own connections, locks and files


def test_a_pool_that_is_replaced_under_a_request_is_not_the_servers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client()
    client.query("nodes {}")
    real = TracingAdapter.cert_verify

    def meanwhile(adapter: TracingAdapter, *args: Any) -> None:
        """The TLS files are taken up between the choice of the pool and its use, as another thread would do it."""
        real(adapter, *args)
        monkeypatch.setattr(TracingAdapter, "cert_verify", real)
        sender(client)._take_files(sender(client)._seen, time.monotonic())

    monkeypatch.setattr(TracingAdapter, "cert_verify", meanwhile)
    assert not client.query("nodes {}").failed_over


@pytest.mark.parametrize("allocations", range(1, 12))
def test_an_answer_may_be_collected_in_whichever_line_that_comes(site: Site, allocations: int) -> None:
    """Half read, in a cycle: its place is given back by the collector, in the middle of anything."""
    site.primary.reply = large
    client = site.client()
    pulse: Pulse = sender(client)._pulse
    before = gc.get_threshold()

    def look() -> None:
        gc.set_threshold(gc.get_count()[0] + allocations)
        gc.enable()
        pulse._silent()

    gc.collect()
    gc.disable()
    try:
        rows = client.stream("nodes {}")
        next(rows)
        cycle: dict[str, Any] = {"rows": rows}
        cycle["itself"] = cycle
        del rows, cycle
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    finally:
        gc.set_threshold(*before)
        gc.enable()
        gc.collect()


def test_a_client_is_closed_in_a_forked_child_whatever_the_parents_threads_were_at(site: Site) -> None:
    client = site.client()
    client.query("nodes {}")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with sender(client)._pulse._worker._condition:
            held.set()
            over.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    child = os.fork()
    if child == 0:
        client.close()
        os._exit(0)
    try:
        end, ended = time.monotonic() + 10, 0
        while not ended and time.monotonic() < end:
            ended, _ = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ended == child
    finally:
        over.set()
        holder.join()


# -- what is sent again, and what is remembered


def test_a_command_whose_answer_is_no_http_is_not_sent_to_that_server_again(site: Site) -> None:
    def garbage(request: Request) -> Answer:
        again = request.is_command and len(site.primary.commands) > 1
        return Answer([b"garbage garbage garbage\r\n\r\n"], close=True) if again else healthy(request)

    site.primary.reply = garbage
    client = site.client()
    client.submit(deactivation())
    assert client.submit(deactivation(1)).failed_over
    assert len(site.primary.commands) == 2


def test_what_all_servers_were_asked_is_remembered_of_the_one_that_failed(site: Site) -> None:
    client = site.client()
    site.primary.reply = answer({"error": "of this query"}, 500)
    for _ in range(3):
        client._failover.ask_all(lambda session, within: list(session.rows("/nodes", within=within)))
    primary = client.config.server_urls[0]
    assert not client.health()[primary, Operation.QUERY].usable
    assert client.health()[primary, Operation.COMMAND].usable


# -- what one request meets at every server


def _hangs_up(_: Request) -> Answer:
    return Answer([], close=True)


BAD: dict[str, Callable[[Request], Answer]] = {
    "500": lambda _: answer({"error": "of this one"}, 500),
    "403": lambda _: answer(b"Forbidden request", 403),
    "hangs up": _hangs_up,
    "no HTTP": lambda _: Answer([b"garbage garbage garbage\r\n\r\n"], close=True),
    "an odd head": lambda _: Answer([b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\n[]"], close=True),
    "an error in the body": lambda _: answer({"error": "ERROR: canceling statement due to statement timeout"}),
    "cut off": lambda _: Answer([b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{"a":'], close=True),
}


@pytest.mark.parametrize("name", BAD)
def test_a_query_that_every_server_answers_badly_keeps_nothing_else_away(site: Site, name: str) -> None:
    """All other queries were 503, and of some kinds all commands."""
    site.primary.reply = site.replica.reply = lambda r: BAD[name](r) if b"the bad one" in r.body else healthy(r)
    client = site.client()
    for n in range(5):
        with pytest.raises((AllEndpointsFailed, ServerError)):
            client.query(["=", "certname", "the bad one"], path="nodes")
        if n > 2:
            assert not client.query("nodes {}").failed_over
            assert not client.submit(deactivation(n)).failed_over
    assert all(health == Health() for health in client.health().values())


@pytest.mark.parametrize("name", BAD)
def test_a_command_that_every_server_answers_badly_keeps_nothing_else_away(site: Site, name: str) -> None:
    """One node's, every run: the commands of 6 of 7 other nodes were lost."""
    site.primary.reply = site.replica.reply = lambda r: BAD[name](r) if "certname=node0" in r.target else healthy(r)
    client = site.client()
    for n in range(1, 5):
        with pytest.raises(AllEndpointsFailed):
            client.submit(deactivation(0))
        if n > 2:
            assert not client.submit(deactivation(n)).failed_over
            assert not client.query("nodes {}").failed_over
    assert all(health == Health() for health in client.health().values())
