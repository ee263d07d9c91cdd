"""The clear-text address on the loopback: who may read there, and that nobody else and nothing else gets in."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from pdbclient.config.model import LocalAddress
from pdbclient.lab.ports import free_port

from .conftest import Site
from .fake import answer
from .gateway import FACTS, FACTS_URL, GatewayThread, ask, connected, eventually, gateway_config, submit

Start = Callable[..., GatewayThread]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            config = gateway_config(site.config(), site.pki.server, **changes)
            local = LocalAddress("127.0.0.1", free_port())
            return stack.enter_context(GatewayThread(replace(config, gateway_local_url=local)))

        yield run


def local(gateway: GatewayThread, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    address = gateway.config.gateway_local_url
    assert address is not None
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    try:
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", target, body, {**(JSON if body else {}), **lines})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_tool_without_a_certificate_reads(site: Site, start: Start) -> None:
    site.primary.reply = answer([{"certname": "a.example"}])
    gateway = start()
    for target, body in (("/pdb/query/v4/nodes", None), ("/pdb/query/v4", b'{"query": "nodes {}"}')):
        status, rows = local(gateway, target, body)
        assert (status, json.loads(rows)) == (200, [{"certname": "a.example"}])
    assert local(gateway, "/pdbclient/v1/metrics")[0] == 200
    assert len(site.primary.queries) == 2


@pytest.mark.parametrize("target", [FACTS_URL, "/pdb/cmd/v1", "/pdb/cmd/v1/x", "/pdbclient/v1/report"])
def test_it_submits_nothing_unless_that_is_configured(site: Site, start: Start, target: str) -> None:
    status, why = local(start(), target, FACTS)
    assert (status, b"gateway_local_commands" in why) == (403, True)
    assert site.primary.requests == []


def test_it_submits_where_that_is_configured(site: Site, start: Start) -> None:
    assert local(start(gateway_local_commands=True), FACTS_URL, FACTS)[0] == 200
    assert len(site.primary.commands) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.0.2.1:80"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
    ],
)
def test_a_page_in_a_browser_reads_nothing(site: Site, start: Start, headers: dict[str, str]) -> None:
    assert local(start(), "/pdb/query/v4/nodes", None, **headers)[0] == 403
    assert site.primary.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LocalHost", "[::1]", "[::1]:8080"])
def test_the_loopback_has_several_names(start: Start, host: str) -> None:
    assert local(start(), "/pdb/query/v4/nodes", Host=host)[0] == 200


def test_the_address_for_puppet_lets_nobody_in_without_a_certificate(site: Site, start: Start) -> None:
    gateway = start()
    clear = LocalAddress("127.0.0.1", gateway.port)
    gateway.config = replace(gateway.config, gateway_local_url=clear)
    with pytest.raises((http.client.HTTPException, OSError)):
        local(gateway, "/pdb/query/v4/nodes")
    assert ask(gateway.port, site.pki.client).status == 200


def test_a_reload_keeps_it_moves_it_and_closes_it(start: Start) -> None:
    gateway = start()
    gateway.reload(gateway.config)
    assert local(gateway, "/pdb/query/v4/nodes")[0] == 200
    before = gateway.config.gateway_local_url
    assert before is not None
    gateway.reload(replace(gateway.config, gateway_local_url=LocalAddress("127.0.0.1", free_port())))
    assert local(gateway, "/pdb/query/v4/nodes")[0] == 200
    gateway.reload(replace(gateway.config, gateway_local_url=None))
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(before.host, before.port, timeout=5).connect()


POST = b"POST /pdb/query/v4 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CLAIM = POST + b"Content-Length: 10000\r\n\r\n"


@pytest.mark.parametrize("where", ["local", "tls, before it has leave"])
def test_whoever_only_says_how_much_it_will_send_takes_no_memory_from_commands(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.MEMORY_PATIENCE", 0.2)
    gateway = start(gateway_max_body_bytes=10_000, gateway_max_total_bytes=20_000)
    with ExitStack() as held:
        for _ in range(4):
            if where == "local":
                held.enter_context(clear(gateway)).sendall(CLAIM)
            else:
                head = CLAIM.replace(b"/pdb/query/v4", FACTS_URL.encode())
                sock = held.enter_context(connected(gateway.port, site.pki.client))
                sock.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert eventually(lambda: gateway.places_taken == 4)
        body = FACTS + b" " * 9000
        assert submit(gateway.port, site.pki.client, body=body).status == 200


def test_what_readers_send_leaves_commands_half_of_the_memory(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.gateway.exchange.MEMORY_PATIENCE", 0.2)
    gateway = start(gateway_max_body_bytes=10_000, gateway_max_total_bytes=20_000)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(clear(gateway)).sendall(CLAIM + b" " * 4900)
        assert eventually(lambda: gateway.places_taken == 2)
        with clear(gateway) as third:
            third.sendall(CLAIM + b" " * 4900)
            assert b" 503 " in third.recv(1000).partition(b"\r\n")[0]
        body = FACTS + b" " * 9000
        assert submit(gateway.port, site.pki.client, body=body).status == 200


def clear(gateway: GatewayThread) -> socket.socket:
    address = gateway.config.gateway_local_url
    assert address is not None
    return socket.create_connection((address.host, address.port), timeout=10)
