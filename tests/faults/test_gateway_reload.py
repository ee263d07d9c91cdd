"""What a running gateway takes up: certificates, a revocation list, another list of servers; and what it keeps."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import LocalAddress, TlsFiles
from pdbclient.errors import ConfigError, GatewayError
from pdbclient.http.outcome import Operation
from pdbclient.lab.ports import free_port

from .conftest import Site
from .fake import Answer, Request, answer, healthy
from .gateway import (
    FACTS,
    FACTS_URL,
    GatewayThread,
    ask,
    client_context,
    connected,
    eventually,
    gateway_config,
    submit,
)
from .test_gateway_security import kept_out
from .test_tls import revoking, some

Start = Callable[..., GatewayThread]
GET = b"GET /pdb/query/v4/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of the proxy and the replica."""
    with ExitStack() as stack:

        def run(tls: TlsFiles | None = None, **changes: Any) -> GatewayThread:
            config = gateway_config(site.config(), tls or site.pki.server, **changes)
            return stack.enter_context(GatewayThread(config))

        yield run


def serial(sock: ssl.SSLSocket) -> str:
    certificate = sock.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def session_of(sock: ssl.SSLSocket) -> ssl.SSLSession:
    """The session of a connection that has read an answer: with TLS 1.3, its ticket comes after the handshake."""
    sock.sendall(GET)
    assert b"200 OK" in sock.recv(1000)
    assert sock.session is not None
    return sock.session


def test_new_connections_see_the_new_certificate_and_old_ones_are_not_cut(site: Site, start: Start) -> None:
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        before = serial(sock)
    renewed = site.pki.authority.issue("gateway-renewed")
    gateway.reload(replace(gateway.config, tls=renewed))
    with connected(gateway.port, site.pki.client) as sock:
        assert serial(sock) != before
    assert submit(gateway.port, site.pki.client).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_is_revoked_cannot_come_back_not_even_by_a_resumed_session(
    site: Site, start: Start, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    client = site.pki.authority.issue("soon-revoked")
    gateway = start(gateway_allow=("soon-revoked",))
    context = client_context(client)
    context.minimum_version = context.maximum_version = version
    with connected(gateway.port, context) as sock:
        session = session_of(sock)
    with connected(gateway.port, context, session) as sock:
        assert sock.session_reused, "as Puppet Server does it"
        session = session_of(sock)
    crl = revoking(site.pki, tmp_path, client)
    gateway.reload(replace(gateway.config, tls=replace(gateway.config.tls, crl=crl)))
    asked = len(site.primary.queries)
    for each in (session, None):
        with suppress(ssl.SSLError, ConnectionError), connected(gateway.port, context, each) as sock:
            sock.sendall(GET)
            assert not sock.recv(1000)
    assert len(site.primary.queries) == asked


def test_the_kept_connection_of_a_revoked_client_ends(site: Site, start: Start, tmp_path: Path) -> None:
    client = site.pki.authority.issue("soon-revoked")
    gateway = start(gateway_allow=("soon-revoked",))
    with connected(gateway.port, client) as sock:
        session_of(sock)
        gateway.reload(
            replace(gateway.config, tls=replace(gateway.config.tls, crl=revoking(site.pki, tmp_path, client)))
        )
        with suppress(ssl.SSLError, ConnectionError):
            sock.sendall(GET)
            while (more := sock.recv(1000)) and b"HTTP/1.1" not in more:
                pass
            assert not more
    assert len(site.primary.queries) == 1


def test_who_was_in_the_handshake_during_a_reload_is_served_by_the_new_one_or_not_at_all(
    site: Site, start: Start, tmp_path: Path
) -> None:
    client = site.pki.authority.issue("soon-revoked")
    gateway = start(gateway_allow=("soon-revoked", "client"))
    context, incoming, outgoing = client_context(client), ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            talk.do_handshake()
        sock.sendall(outgoing.read())
        incoming.write(sock.recv(65536))
        crl = revoking(site.pki, tmp_path, client)
        gateway.reload(replace(gateway.config, tls=replace(gateway.config.tls, crl=crl)))
        with suppress(ssl.SSLError, ConnectionError):
            while True:
                try:
                    talk.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    if not (more := sock.recv(65536)):
                        raise ConnectionError("closed") from None
                    incoming.write(more)
            talk.write(GET)
            sock.sendall(outgoing.read())
            answer = b""
            while more := sock.recv(65536):
                incoming.write(more)
                with suppress(ssl.SSLWantReadError):
                    if not (part := talk.read(65536)):
                        break
                    answer += part
            assert answer == b""
    assert site.primary.queries == []
    assert ask(gateway.port, site.pki.client).status == 200


def test_a_request_under_way_is_answered_by_what_it_began_with(site: Site, start: Start) -> None:
    arrived, over = threading.Event(), threading.Event()

    def slow(request: Request) -> Answer:
        arrived.set()
        over.wait(5)
        return healthy(request)

    site.primary.reply = slow
    gateway = start(timeouts=replace(site.config().timeouts, read=5.0))
    connection = http.client.HTTPSConnection("localhost", gateway.port, context=client_context(site.pki.client))
    try:
        connection.request("GET", "/pdb/query/v4/nodes")
        assert arrived.wait(5)
        gateway.reload(replace(gateway.config, gateway_allow=("nobody",)), wait=False)
        assert ask(gateway.port, site.pki.client).status == 403, "the new one is in force at once"
        over.set()
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"[]")
    finally:
        over.set()
        connection.close()


def test_a_reload_forgets_nothing_about_the_same_servers(site: Site, start: Start) -> None:
    site.proxy.refuse()
    gateway = start()
    assert submit(gateway.port, site.pki.client).server == site.replica.port
    registry = gateway.registry
    gateway.reload(replace(gateway.config, gateway_concurrency=8))
    assert gateway.registry is registry
    assert not gateway.registry.usable(gateway.config.server_urls[0], Operation.COMMAND)
    assert gateway.registry.freshness(gateway.config.server_urls[0]).missing == 1
    site.proxy.accept()
    assert submit(gateway.port, site.pki.client).server == site.replica.port


def test_a_server_that_was_out_before_a_reload_is_asked_whether_it_is_back(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.http.breaker.BACKOFF_FIRST", 0.3)
    monkeypatch.setattr("pdbclient.http.breaker.PROBE_GAP", 0.1)
    site.proxy.refuse()
    gateway = start()
    submit(gateway.port, site.pki.client)
    gateway.reload(replace(gateway.config, gateway_concurrency=8))
    site.proxy.accept()
    first = gateway.config.server_urls[0]
    assert eventually(lambda: gateway.registry.usable(first, Operation.COMMAND), 12)


def test_another_list_of_servers_is_used_from_then_on(site: Site, start: Start) -> None:
    gateway = start()
    third = site.server()
    config: ClientConfig = gateway.config
    assert ask(gateway.port, site.pki.client).server == site.proxy.port
    gateway.reload(replace(config, server_urls=(Endpoint("localhost", third.port), config.server_urls[1])))
    told = ask(gateway.port, site.pki.client)
    assert (told.server, told.headers["X-Pdbclient-Failed-Over"]) == (third.port, "false")


def test_another_port_is_listened_on_and_the_old_one_is_closed(site: Site, start: Start) -> None:
    gateway = start()
    old, new = gateway.port, free_port()
    gateway.reload(replace(gateway.config, gateway_url=Endpoint("localhost", new)))
    assert ask(new, site.pki.client).status == 200
    with pytest.raises(ConnectionRefusedError):
        connected(old, site.pki.client)


def test_a_port_that_is_taken_leaves_the_old_one_as_it_is(site: Site, start: Start) -> None:
    gateway = start()
    with pytest.raises(GatewayError, match="another process listens there already"):
        gateway.reload(replace(gateway.config, gateway_url=Endpoint("localhost", site.primary.port)))
    assert ask(gateway.port, site.pki.client).status == 200


def test_a_name_that_its_certificate_has_not_leaves_the_old_one_as_it_is(site: Site, start: Start) -> None:
    gateway = start()
    with pytest.raises(ConfigError, match=r"no client of gateway_url accepts it: IP address mismatch.* '127.0.0.2'"):
        gateway.reload(replace(gateway.config, gateway_url=Endpoint("127.0.0.2", gateway.port)))
    assert ask(gateway.port, site.pki.client).status == 200


def test_another_name_of_the_same_address_is_taken_up_and_loses_no_connection(site: Site, start: Start) -> None:
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        session_of(sock)
        gateway.reload(replace(gateway.config, gateway_url=Endpoint("127.0.0.1", gateway.port)), wait=False)
        session_of(sock)
    assert ask(gateway.port, site.pki.client).status == 200


def test_two_addresses_that_come_to_be_one_leave_the_old_ones_as_they_are(site: Site, start: Start) -> None:
    local = LocalAddress("127.0.0.1", free_port())
    gateway = start(gateway_local_url=local)
    for changes in (
        {"gateway_url": Endpoint("127.0.0.1", local.port)},
        {"gateway_local_url": LocalAddress("127.0.0.1", gateway.port)},
    ):
        with pytest.raises(GatewayError):
            gateway.reload(replace(gateway.config, **changes))
    assert ask(gateway.port, site.pki.client).status == 200


def test_many_reloads_leave_nothing_behind(site: Site, start: Start) -> None:
    gateway = start()
    for number in range(8):
        gateway.reload(replace(gateway.config, gateway_concurrency=4 + number))
        assert ask(gateway.port, site.pki.client).status == 200
    assert sum(thread.name.startswith("pdbclient-probe") for thread in threading.enumerate()) == 2
    assert not kept_out(gateway.port, site.pki.client)
    assert some(gateway.config.tls.crl).exists()


# -- what is under way when the next configuration comes, or comes then


def slow(seconds: float) -> Callable[[Request], Answer]:
    def reply(request: Request) -> Answer:
        if request.is_query:
            time.sleep(seconds)
        return healthy(request)

    return reply


def test_a_query_may_take_longer_than_the_end_of_a_gateway(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.DRAIN_LIMIT", 0.5)
    site.primary.reply = slow(2.5)
    gateway = start()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, gateway.port, site.pki.client)
        assert eventually(lambda: len(site.primary.queries) == 1)
        gateway.reload(gateway.config, wait=False)
        assert asked.result().status == 200


def test_requests_that_wait_for_a_place_get_it_after_a_reload(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.DRAIN_LIMIT", 0.5)
    site.primary.reply = site.replica.reply = slow(1.5)
    gateway = start(gateway_concurrency=1)
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, gateway.port, site.pki.client) for _ in range(5)]
        assert eventually(lambda: gateway.places_taken == 2)
        gateway.reload(gateway.config, wait=False)
        assert [each.result().status for each in asked] == [200] * 5


def test_a_body_that_comes_slowly_outlives_a_reload(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.DRAIN_LIMIT", 0.5)
    gateway = start()
    lines = ("Host: x", "Content-Type: application/json", f"Content-Length: {len(FACTS)}", "", "")
    head = "\r\n".join((f"POST {FACTS_URL} HTTP/1.1", *lines))
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(head.encode() + FACTS[:10])
        assert eventually(lambda: gateway.places_taken == 1)
        gateway.reload(gateway.config, wait=False)
        time.sleep(1.2)
        sock.sendall(FACTS[10:])
        assert b"200 OK" in sock.recv(2000)


def test_what_the_next_one_answers_on_an_old_connection_is_not_cut(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.IDLE_LIMIT", 0.5)
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        session_of(sock)
        site.primary.reply = slow(2.0)
        gateway.reload(gateway.config, wait=False)
        sock.sendall(GET)
        assert b"200 OK" in sock.recv(1000)


def test_a_slow_reader_outlives_a_reload(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pdbclient.gateway.server.DRAIN_LIMIT", 0.5)
    body = json.dumps(["x" * 1000] * 20_000).encode()
    site.primary.reply = lambda request: answer(body) if request.is_query else healthy(request)
    gateway = start()
    with connected(gateway.port, site.pki.client) as sock:
        sock.sendall(GET)
        got = sock.recv(1000)
        gateway.reload(gateway.config, wait=False)
        time.sleep(1.5)
        while not got.endswith(b"0\r\n\r\n") and (more := sock.recv(1 << 20)):
            got = got[-10:] + more
        assert got.endswith(b"0\r\n\r\n")
    assert not [record for record in caplog.records if record.exc_info]
