"""What holds for a command from a thread holds for one from an event loop: the same tests, the other way to send.

And what only the other way can get wrong.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from pdbclient import Client
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import Timeouts
from pdbclient.errors import Ambiguous, IncompleteResponse
from pdbclient.http import exchange
from pdbclient.http.exchange import AsyncSession
from pdbclient.http.failover import Accepted, Failover
from pdbclient.http.outcome import Kind
from pdbclient.http.session import Session
from pdbclient.http.tls import client_context
from pdbclient.wire import Command

from . import conftest
from .conftest import SHORT, Pki, catalog, deactivation
from .fake import Answer, Request, answer, chunked, queued
from .proxy import BlackHole, Stall
from .test_answers import test_a_command_is_not_acknowledged_without_the_uuid_of_a_whole_answer  # noqa: F401
from .test_connections import (  # noqa: F401
    test_a_command_without_an_answer_opens_the_circuit_and_the_outage_is_paid_once,
    test_a_connection_cut_in_the_answer_is_not_an_acknowledgement,
    test_a_fresh_connection_that_ends_before_an_answer_is_not_retried_on_the_same_server,
    test_a_lost_syn_costs_one_connect_timeout,
    test_a_name_with_several_dead_addresses_costs_one_connect_timeout_all_the_same,
    test_a_refusal_sends_the_command_to_the_next_server_at_once,
    test_a_reset_after_the_command_gives_the_next_server_the_same_bytes_and_timestamp,
    test_a_reset_before_the_body_sends_the_command_to_the_next_server,
    test_a_server_that_died_while_the_connection_was_idle_is_shut_out_and_the_command_may_have_arrived,
    test_a_server_that_never_ends_the_handshake_costs_one_connect_timeout,
    test_after_a_refusal_the_next_hundred_commands_do_not_touch_the_primary,
    test_an_answer_lost_after_the_server_took_the_command_is_not_an_acknowledgement,
    test_an_idle_connection_that_ends_just_as_it_is_used_is_replaced_silently,
    test_an_idle_connection_that_the_server_ended_is_replaced_silently,
    test_latency_within_the_limits_and_a_slow_close_change_nothing,
    test_the_second_address_of_a_name_is_used_when_the_first_is_dead,
    test_the_silent_retry_happens_once,
    test_three_resets_within_a_minute_open_the_circuit,
    test_when_all_fail_the_error_tells_what_each_server_met,
    test_with_every_circuit_open_each_server_is_still_tried_once_a_second,
)
from .test_deadlines import HEAD, PATIENT, dripping
from .test_environment import (  # noqa: F401
    test_a_ca_bundle_of_the_environment_does_not_add_trust,
    test_a_ca_bundle_of_the_environment_does_not_take_trust_away,
    test_a_proxy_of_the_environment_is_not_used,
    test_cookies_of_an_answer_are_not_kept,
    test_credentials_of_a_netrc_file_are_not_sent,
)
from .test_statuses import (  # noqa: F401
    test_a_404_to_a_command_is_never_final,
    test_a_413_that_comes_before_the_body_was_read_is_still_a_413,
    test_a_command_called_bad_is_reported_and_not_failed_over,
    test_a_redirect_is_not_followed,
    test_a_server_error_goes_to_the_next_server_and_three_of_them_open_the_circuit,
    test_a_server_that_does_not_allow_us_is_left_alone_for_a_minute,
    test_one_oversized_command_does_not_stop_the_others,
    test_puppetdbs_own_redirect_of_an_unknown_address_shuts_no_server_out,
    test_retry_after_is_kept_within_a_second_and_a_minute,
)
from .test_tls import (  # noqa: F401
    test_a_certificate_fault_names_server_and_file_and_opens_the_circuit_for_a_minute,
    test_a_current_revocation_list_without_the_server_changes_nothing,
    test_a_large_body_does_not_hide_that_our_certificate_is_refused,
    test_an_outdated_revocation_list_is_named,
)

T = TypeVar("T")

AMPLE = Timeouts(attempt=20.0, connect=20.0, read=20.0, operation=40.0)
"""For what is not about limits: many handshakes at once take their time."""


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        if not self._loop.is_closed():
            self.run(self._loop.shutdown_default_executor())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class LoopFailover(Failover):
    """Its commands go out from an event loop."""

    def __init__(self, config: ClientConfig) -> None:
        context = client_context(config.tls)
        self.sessions = {
            endpoint: AsyncSession(endpoint, config.tls, config.timeouts, context=context)
            for endpoint in (*config.server_urls, *config.submit_only_server_urls)
        }
        super().__init__(config, sessions=self.sessions)
        self.loop = Loop()

    def submit(self, command: Command) -> Accepted:
        def post(endpoint: Endpoint, within: float) -> Coroutine[Any, Any, str]:
            return self.sessions[endpoint].post(command, within)

        return self.loop.run(self.submit_async(command, post))

    def close(self) -> None:
        super().close()
        self.loop.close()


class Site(conftest.Site):
    """As the other tests' site; its clients are such."""

    def client(self, *ports: int, **changes: Any) -> Client:
        config = self.config(*ports, **changes)
        return self._stack.enter_context(Client(config, failover=LoopFailover(config)))


@pytest.fixture
def site(pki: Pki) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(pki, stack)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def session(site: Site, loop: Loop) -> Iterator[AsyncSession]:
    """A session at the primary, behind the proxy."""
    made = AsyncSession(Endpoint("localhost", site.proxy.port), site.pki.client, AMPLE)
    yield made
    made.close()


UUID = b'{"uuid": "the-uuid"}'
PACKED = gzip.compress(UUID)


def byte_by_byte(whole: bytes) -> Answer:
    return Answer([whole[n : n + 1] for n in range(len(whole))])


def in_chunks(chunks: list[bytes], **headers: str) -> Answer:
    """`chunked`, to be sent more than once."""
    return Answer(list(chunked(chunks, end=True, **headers).pieces))


WHOLE = {
    "chunks": in_chunks([b"{", UUID[1:]], Content_Type="application/json"),
    "byte by byte": byte_by_byte(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + UUID),
    "chunks byte by byte": byte_by_byte(b"".join(in_chunks([UUID[:5], UUID[5:]]).pieces)),
    "gzip": answer(PACKED, Content_Encoding="gzip"),
    "gzip in chunks": in_chunks([PACKED[:9], PACKED[9:]], Content_Encoding="gzip"),
    "after an interim answer": Answer([b"HTTP/1.1 100 Continue\r\n\r\n", *answer(UUID).pieces]),
    "with a second, which nobody asked for": Answer([b"".join(answer(UUID).pieces) * 2]),
    "until the end": Answer([HEAD + b"\r\n" + UUID], close=True),
    "HTTP/1.0": Answer([b"HTTP/1.0 200 OK\r\n\r\n" + UUID], close=True),
    "and a close": Answer([HEAD + b"Connection: close\r\nContent-Length: 20\r\n\r\n" + UUID], close=True),
}


@pytest.mark.parametrize("how", WHOLE)
def test_a_whole_answer_is_taken_however_it_is_sent(site: Site, loop: Loop, session: AsyncSession, how: str) -> None:
    for number in range(3):
        site.primary.reply = WHOLE[how]
        assert loop.run(session.post(deactivation(number), 20)) == "the-uuid"
        site.primary.reply = answer({"uuid": "the next"})
        assert loop.run(session.post(deactivation(number), 20)) == "the next"
    assert len(site.primary.commands) == 6, "none of them was sent twice"


BROKEN = {
    "a chunk too short": chunked([UUID[:5]], end=False),
    "a chunk that is none": Answer([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"]),
    "gzip that is none": answer(b"\x1f\x8b" + UUID, Content_Encoding="gzip"),
    "gzip too short": answer(PACKED[:-9], Content_Encoding="gzip"),
    "two lengths": Answer([HEAD + b"Content-Length: 20\r\nContent-Length: 21\r\n\r\n" + UUID], close=True),
}


@pytest.mark.parametrize("how", BROKEN)
def test_after_a_broken_answer_which_is_no_acknowledgement_the_next_command_is_well(
    site: Site, loop: Loop, session: AsyncSession, how: str
) -> None:
    site.primary.reply = BROKEN[how]
    with pytest.raises((IncompleteResponse, Ambiguous)):
        loop.run(session.post(deactivation(), 20))
    site.primary.reply = answer(UUID)
    assert loop.run(session.post(deactivation(1), 20)) == "the-uuid"
    assert len(site.primary.commands) == 2


def test_an_answer_that_is_no_http_may_have_been_an_acknowledgement(
    site: Site, loop: Loop, session: AsyncSession
) -> None:
    site.primary.reply = Answer([b"220 mail.example ESMTP\r\n"])
    with pytest.raises(Ambiguous, match="the connection broke before an answer"):
        loop.run(session.post(deactivation(), 20))


def test_an_answer_without_end_is_an_error_at_the_limit(
    site: Site, loop: Loop, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "DOCUMENT_LIMIT", 100_000)
    site.primary.reply = answer(b" " * 1_000_000)
    with pytest.raises(IncompleteResponse, match="more than 100000 bytes"):
        loop.run(session.post(deactivation(), 20))


DRIPS = {
    "reason": dripping(b"HTTP/1.1 200 ", b"O"),
    "headers": dripping(HEAD, b"X: y\r\n"),
    "chunks": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n", b"2\r\n1,\r\n"),
    "body, no length": dripping(HEAD + b"\r\n[", b"1,"),
    "interim answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_command_goes_to_the_next_server_at_the_deadline_wherever_the_answer_drips(
    site: Site, took: Callable[[], float], where: str
) -> None:
    site.primary.reply = DRIPS[where]
    client = site.client(timeouts=PATIENT)
    took()
    done = client.submit(deactivation())
    assert abs(took() - PATIENT.attempt) < 0.5
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]


def test_a_server_that_stops_to_read_a_large_body_costs_one_read_limit(site: Site, took: Callable[[], float]) -> None:
    client = site.client(gzip_min_bytes=10**9)
    client.submit(deactivation())
    site.proxy.fault = Stall()
    took()
    done = client.submit(catalog(16_000_000))
    assert took() < SHORT.read + 1.5
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]
    assert len(site.replica.commands[0].body) > 16_000_000


def test_a_large_body_arrives_whole_while_small_ones_pass_it(site: Site, loop: Loop, session: AsyncSession) -> None:
    large = catalog(16_000_000)

    async def together() -> list[str]:
        return await asyncio.gather(*(session.post(each, 20) for each in (large, *map(deactivation, range(20)))))

    assert len(set(loop.run(together()))) == 21
    assert large.body in [request.body for request in site.primary.commands]


def test_many_at_once_share_what_connections_are_idle(site: Site, loop: Loop, session: AsyncSession) -> None:
    async def together() -> list[str]:
        return await asyncio.gather(*(session.post(deactivation(n), 20) for n in range(48)))

    assert len(set(loop.run(together()))) == 48
    met = site.proxy.connections
    assert met <= 48
    for _ in range(3):
        loop.run(together())
    assert site.proxy.connections == met
    assert len(site.primary.commands) == 4 * 48


@pytest.mark.parametrize("when", ["in the handshake", "before the answer"])
def test_an_exchange_that_is_cancelled_leaves_no_connection(
    site: Site, loop: Loop, session: AsyncSession, when: str
) -> None:
    if when == "before the answer":
        loop.run(session.post(deactivation(), 20))
    site.proxy.fault = BlackHole()

    async def given_up() -> None:
        task = asyncio.create_task(session.post(deactivation(1), 20))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run(given_up())
    assert session._idle == []


def test_a_connection_that_is_in_use_while_the_session_is_closed_is_closed_after_its_answer(
    site: Site, loop: Loop, session: AsyncSession
) -> None:
    def slow(request: Request) -> Answer:
        time.sleep(0.3)
        return queued()

    site.primary.reply = slow

    async def closed_meanwhile() -> str:
        task = asyncio.create_task(session.post(deactivation(), 20))
        await asyncio.sleep(0.1)
        session.close()
        return await task

    assert loop.run(closed_meanwhile())
    assert session._idle == []


def test_both_ways_send_the_same_bytes_but_for_the_order_of_the_headers(
    site: Site, loop: Loop, session: AsyncSession
) -> None:
    blocking = Session(session.endpoint, site.pki.client, AMPLE)
    try:
        for command in (deactivation(), deactivation(1).gzipped()):
            blocking.submit(command)
            loop.run(session.post(command, 20))
    finally:
        blocking.close()
    for one, other in zip(site.primary.commands[::2], site.primary.commands[1::2], strict=True):
        assert (one.method, one.target, one.headers, one.body) == (
            other.method,
            other.target,
            other.headers,
            other.body,
        )
