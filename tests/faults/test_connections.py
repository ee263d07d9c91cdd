"""What goes wrong before, during and between requests: the next server has the command, at the right price."""

from __future__ import annotations

import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from urllib3.connection import HTTPSConnection

from pdbclient import AllEndpointsFailed, Client
from pdbclient.http.outcome import Kind, Operation, Sent

from .conftest import SHORT, Site, catalog, deactivation, descriptors
from .fake import Answer, Request, healthy
from .proxy import BlackHole, Drip, Latency, Reset, SlowClose, Truncate, syn_black_hole


def usable(client: Client, operation: Operation = Operation.COMMAND) -> list[bool]:
    """Whether the servers' circuits are closed, in order."""
    health = client.health()
    return [health[endpoint, operation].usable for endpoint in client.config.server_urls]


def soft_failures(client: Client) -> int:
    """How many failures count against the first server's commands, without having opened its circuit."""
    return len(client.health()[client.config.server_urls[0], Operation.COMMAND].soft)


def test_a_refusal_sends_the_command_to_the_next_server_at_once(site: Site, took: Callable[[], float]) -> None:
    client = site.client()
    client.submit(deactivation())
    site.proxy.refuse()
    took()
    done = client.submit(deactivation(1))
    assert took() < 0.5
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.NOT_SENT, Kind.ACCEPTED]
    assert done.failed_over
    assert done.endpoint == client.config.server_urls[1]
    assert len(site.replica.commands) == 1


def test_after_a_refusal_the_next_hundred_commands_do_not_touch_the_primary(site: Site) -> None:
    site.proxy.refuse()
    client = site.client()
    client.submit(deactivation())
    retry_at = client.health()[client.config.server_urls[0], Operation.COMMAND].retry_at
    site.proxy.accept()
    results = [client.submit(deactivation(n)) for n in range(100)]
    assert time.monotonic() < retry_at, "this machine is too slow to tell traffic from a probe"
    assert site.proxy.connections == 0
    assert {result.endpoint for result in results} == {client.config.server_urls[1]}
    assert {tuple(a.outcome.kind for a in result.attempts) for result in results} == {(Kind.SKIPPED, Kind.ACCEPTED)}


def test_writes_return_by_themselves_after_two_probes_five_seconds_apart(site: Site) -> None:
    site.proxy.refuse()
    client = site.client()
    client.submit(deactivation())
    site.proxy.accept()
    began = time.monotonic()
    while not usable(client)[0]:
        assert time.monotonic() - began < 20
        client.submit(deactivation(1))
        assert site.primary.commands == []
        time.sleep(0.05)
    assert time.monotonic() - began > 5
    probes = [request.target for request in site.primary.requests if not request.is_query]
    assert probes == ["/status/v1/services/puppetdb-status"] * 2
    assert client.submit(deactivation(2)).endpoint == client.config.server_urls[0]


def outage(site: Site, kind: str) -> int:
    """A port behind which the primary has failed in that way."""
    if kind == "takes all and says nothing":
        site.proxy.fault = BlackHole()
    elif kind == "half a handshake":
        site.proxy.fault = BlackHole(after=200)
    else:
        site.proxy.fault = Drip(every=0.2)
    return site.proxy.port


@pytest.mark.parametrize("kind", ["takes all and says nothing", "half a handshake", "handshake byte by byte"])
def test_a_server_that_never_ends_the_handshake_costs_one_connect_timeout(
    site: Site, took: Callable[[], float], kind: str
) -> None:
    client = site.client(outage(site, kind), site.replica.port)
    took()
    done = client.submit(deactivation())
    assert SHORT.connect * 0.9 < took() < SHORT.connect + 1
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.NOT_SENT, Kind.ACCEPTED]
    for n in range(20):
        client.submit(deactivation(n))
    assert took() < SHORT.connect
    assert site.primary.commands == []
    assert site.proxy.connections == 1


def test_a_lost_syn_costs_one_connect_timeout(site: Site, took: Callable[[], float]) -> None:
    with syn_black_hole() as port:
        client = site.client(port, site.replica.port)
        took()
        done = client.submit(deactivation())
        assert SHORT.connect * 0.9 < took() < SHORT.connect + 1
        assert "connect timeout" in done.attempts[0].outcome.detail
        for n in range(20):
            client.submit(deactivation(n))
        assert took() < SHORT.connect
        client.close()


def test_a_name_with_several_dead_addresses_costs_one_connect_timeout_all_the_same(
    site: Site, took: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    with syn_black_hole() as port:
        client = site.client(port, site.replica.port)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: real(*a, **k) * (3 if a[1] == port else 1))
        took()
        done = client.submit(deactivation())
        assert SHORT.connect * 0.9 < took() < SHORT.connect + 0.5
        assert done.endpoint == client.config.server_urls[1]
        client.close()


def test_the_second_address_of_a_name_is_used_when_the_first_is_dead(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    with syn_black_hole() as dead:

        def both(host: str, port: int, *rest: object, **options: object) -> list[tuple[object, ...]]:
            found = real(host, port, *rest, **options)  # type: ignore[arg-type]
            return [(*entry[:4], ("127.0.0.1", dead)) for entry in found] + list(found)

        monkeypatch.setattr(socket, "getaddrinfo", both)
        done = site.client(site.primary.port).submit(deactivation())
    assert done.uuid is not None


def test_a_connection_that_is_reset_before_the_handshake_leaves_no_descriptor(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would forget to close it, until a collection of garbage comes by."""
    made, connect = [], HTTPSConnection._new_conn
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def meet_a_reset(connection: HTTPSConnection) -> socket.socket:
            made.append(connect(connection))
            peer, _ = listener.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return made[-1]

        monkeypatch.setattr(HTTPSConnection, "_new_conn", meet_a_reset)
        before = descriptors()
        gc.disable()
        try:
            with pytest.raises(AllEndpointsFailed, match=r"no connection: (Connection reset|Transport endpoint)"):
                site.client(listener.getsockname()[1]).submit(deactivation())
            assert len(made) == 1
            assert descriptors() == before
        finally:
            gc.enable()


def test_a_reset_after_the_command_gives_the_next_server_the_same_bytes_and_timestamp(site: Site) -> None:
    def reset(request: Request) -> Answer:
        if request.is_command:
            site.proxy.reset_all()
            site.proxy.fault = BlackHole()
        return healthy(request)

    site.primary.reply = reset
    client = site.client()
    done = client.submit(catalog(60_000))
    assert [(a.outcome.kind, a.outcome.sent) for a in done.attempts] == [
        (Kind.AMBIGUOUS, Sent.UNKNOWN),
        (Kind.ACCEPTED, Sent.YES),
    ]
    (first,), (second,) = site.primary.commands, site.replica.commands
    assert (first.target, first.body) == (second.target, second.body)
    assert first.headers["x-uncompressed-length"] == second.headers["x-uncompressed-length"]
    assert parse_qs(urlsplit(first.target).query)["producer-timestamp"] == [done.command.producer_timestamp]
    assert usable(client) == [True, True]
    assert soft_failures(client) == 1


def test_a_reset_before_the_body_sends_the_command_to_the_next_server(site: Site) -> None:
    site.proxy.fault = Reset(sent=20_000)
    done = site.client(gzip_min_bytes=10**9).submit(catalog(4_000_000))
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.AMBIGUOUS, Kind.ACCEPTED]
    assert site.primary.commands == []
    assert len(site.replica.commands) == 1


def test_three_resets_within_a_minute_open_the_circuit(site: Site) -> None:
    site.proxy.fault = Reset(sent=20_000)
    client = site.client(gzip_min_bytes=10**9)
    command = catalog(4_000_000)
    for _ in range(3):
        assert usable(client)[0]
        client.submit(command)
    assert not usable(client)[0]
    assert not usable(client, Operation.QUERY)[0], "what the connection meets counts for reads as well"


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_an_idle_connection_that_the_server_ended_is_replaced_silently(site: Site, how: str) -> None:
    client = site.client()
    client.submit(deactivation())
    if how == "closed":
        site.proxy.close_idle()
    else:
        site.proxy.reset_all()
    done = client.submit(deactivation(1))
    assert done.endpoint == client.config.server_urls[0]
    assert len(done.attempts) == 1
    assert soft_failures(client) == 0
    assert (site.proxy.connections, len(site.primary.commands)) == (2, 2)


def test_a_server_that_died_while_the_connection_was_idle_is_shut_out_and_the_command_may_have_arrived(
    site: Site,
) -> None:
    client = site.client()
    client.submit(deactivation())

    def dies(request: Request) -> Answer:
        site.proxy.refuse()
        return healthy(request)

    site.primary.reply = dies
    done = client.submit(deactivation(1))
    first, second = (attempt.outcome for attempt in done.attempts)
    assert (first.kind, first.sent, second.kind) == (Kind.NOT_SENT, Sent.UNKNOWN, Kind.ACCEPTED)
    assert "refused" in first.detail
    assert usable(client) == [False, True]
    assert len(site.primary.commands) == 2


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
INFORMATIONAL = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": EARLY,
    "199": b"HTTP/1.1 199 Odd\r\nX-Odd: 1\r\n\r\n",
    "several": EARLY * 20 + b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY,
}


@pytest.mark.parametrize("name", INFORMATIONAL)
def test_an_informational_answer_is_not_the_answer(site: Site, name: str) -> None:
    """The answer that came after it was taken for that of the next request, a command's too."""

    def late(of: str) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield INFORMATIONAL[name]
            time.sleep(0.2)
            body = json.dumps([of] if of == "query" else {"uuid": of}).encode()
            yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

        return Answer(pieces())

    site.primary.reply = lambda r: late("query" if r.is_query else f"uuid-{len(site.primary.commands)}")
    client = site.client(site.primary.port)
    assert list(client.query("nodes {}")) == ["query"]
    assert [client.submit(deactivation(n)).uuid for n in range(2)] == ["uuid-1", "uuid-2"]
    assert list(client.query("nodes {}")) == ["query"]
    assert site.primary.connections == 1


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", EARLY * 101], ids=["101", "without end"]
)
def test_what_is_no_answer_breaks_its_connection(site: Site, reply: bytes) -> None:
    bad = Answer([reply + b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"uuid": "no"}'])
    site.primary.reply = lambda r: bad if len(site.primary.commands) == 1 else healthy(r)
    client = site.client(site.primary.port)
    with pytest.raises(AllEndpointsFailed, match=r"protocol|informational") as failed:
        client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in failed.value.attempts] == [Kind.AMBIGUOUS]
    assert client.submit(deactivation(1)).uuid != "no"
    assert site.primary.connections == 2


def test_informational_answers_do_not_put_the_deadline_off(site: Site, took: Callable[[], float]) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            yield EARLY
            time.sleep(0.1)

    site.primary.reply = lambda r: Answer(pieces(), close=True)
    client = site.client()
    took()
    assert client.query("nodes {}", timeout=3.0).failed_over
    assert took() < 2.5


def test_an_idle_connection_that_ends_just_as_it_is_used_is_replaced_silently(site: Site) -> None:
    seen: list[bytes] = []

    def closes_the_second(request: Request) -> Answer:
        seen.append(request.body)
        return Answer([], close=True) if len(seen) == 2 else healthy(request)

    site.primary.reply = closes_the_second
    client = site.client()
    client.submit(deactivation())
    done = client.submit(deactivation(1))
    assert len(done.attempts) == 1
    assert (soft_failures(client), site.primary.connections) == (0, 2)
    assert seen[1] == seen[2]


def test_a_fresh_connection_that_ends_before_an_answer_is_not_retried_on_the_same_server(site: Site) -> None:
    site.primary.reply = Answer([], close=True)
    client = site.client()
    done = client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.AMBIGUOUS, Kind.ACCEPTED]
    assert (len(site.primary.commands), soft_failures(client)) == (1, 1)


def test_the_silent_retry_happens_once(site: Site) -> None:
    client = site.client()
    client.submit(deactivation())
    site.primary.reply = Answer([], close=True)
    done = client.submit(deactivation(1))
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.AMBIGUOUS, Kind.ACCEPTED]
    assert (len(site.primary.commands), soft_failures(client)) == (3, 1)


def test_latency_within_the_limits_and_a_slow_close_change_nothing(site: Site) -> None:
    site.proxy.fault = Latency(0.05)
    client = site.client()
    assert client.submit(deactivation()).endpoint == client.config.server_urls[0]
    site.proxy.fault = SlowClose(0.3)
    site.primary.reply = lambda request: Answer(healthy(request).pieces, close=True)
    assert client.submit(deactivation(1)).endpoint == client.config.server_urls[0]
    assert client.submit(deactivation(2)).endpoint == client.config.server_urls[0]
    assert usable(client) == [True, True]


def test_a_command_without_an_answer_opens_the_circuit_and_the_outage_is_paid_once(
    site: Site, took: Callable[[], float]
) -> None:
    client = site.client()
    client.submit(deactivation())
    site.proxy.fault = BlackHole()
    took()
    done = [client.submit(deactivation(n)) for n in range(100)]
    assert took() < SHORT.read + 1.5
    assert [attempt.outcome.kind for attempt in done[0].attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]
    assert usable(client) == [False, True]
    assert len(site.replica.commands) == 100


def test_an_answer_lost_after_the_server_took_the_command_is_not_an_acknowledgement(site: Site) -> None:
    site.primary.reply = Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b'{"uuid": "'], close=True)
    done = site.client().submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.INCOMPLETE, Kind.ACCEPTED]
    assert len(site.primary.commands) == len(site.replica.commands) == 1


def test_a_connection_cut_in_the_answer_is_not_an_acknowledgement(site: Site) -> None:
    client = site.client()
    client.submit(deactivation())
    site.proxy.fault = Truncate(after=0)
    done = client.submit(deactivation(1))
    assert done.endpoint == client.config.server_urls[1]


def test_when_all_fail_the_error_tells_what_each_server_met(site: Site) -> None:
    site.proxy.refuse()
    site.replica.reply = Answer([], close=True)
    client = site.client()
    with pytest.raises(AllEndpointsFailed) as failed:
        client.submit(deactivation())
    primary, replica = client.config.server_urls
    assert [(a.endpoint, a.outcome.kind) for a in failed.value.attempts] == [
        (primary, Kind.NOT_SENT),
        (replica, Kind.AMBIGUOUS),
    ]
    for endpoint in (primary, replica):
        assert endpoint.url in str(failed.value)
    assert "refused" in str(failed.value)
    assert "node0.example" in str(failed.value)


def test_with_every_circuit_open_each_server_is_still_tried_once_a_second(site: Site) -> None:
    site.proxy.refuse()
    client = site.client(site.proxy.port)
    with pytest.raises(AllEndpointsFailed):
        client.submit(deactivation())
    kinds = []
    for _ in range(2):
        with pytest.raises(AllEndpointsFailed) as failed:
            client.submit(deactivation())
        kinds += [attempt.outcome.kind for attempt in failed.value.attempts]
    assert kinds == [Kind.SKIPPED, Kind.NOT_SENT, Kind.SKIPPED]
    site.proxy.accept()
    time.sleep(1.1)
    assert client.submit(deactivation()).endpoint == client.config.server_urls[0]
    assert usable(client) == [True], "what a forced attempt shows counts"


def test_a_broadcast_with_a_silent_server_costs_one_timeout_however_many_threads_send(
    site: Site, took: Callable[[], float]
) -> None:
    site.proxy.fault = BlackHole()
    # Time enough for 60 handshakes at once with the server that is well, on a busy machine.
    patient = replace(SHORT, connect=2.0)
    client = site.client(command_broadcast=True, timeouts=patient)
    took()
    with ThreadPoolExecutor(60) as pool:
        results = list(pool.map(client.submit, map(deactivation, range(120))))
    assert took() < patient.connect * 3
    assert all(result.uuids for result in results)
    assert len({request.target for request in site.replica.commands}) == 120


def test_a_server_without_tls_is_called_plain_http(site: Site) -> None:
    """As PuppetDB's own port in clear text, which answers a TLS handshake with an HTTP 400."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        client = site.client(server.server_port)
        try:
            with pytest.raises(AllEndpointsFailed, match="no connection: that is plain HTTP") as failed:
                client.submit(deactivation())
            assert "PuppetDB's is 8081" in str(failed.value)
        finally:
            server.shutdown()
            thread.join()
