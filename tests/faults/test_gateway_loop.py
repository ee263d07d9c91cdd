"""Gateways among their own servers: a request never comes to one of them twice, and reaches a PuppetDB behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pdbclient.config import Endpoint
from pdbclient.config.model import Timeouts
from pdbclient.http.outcome import Operation
from pdbclient.lab.ports import free_port

from .conftest import Site
from .fake import answer, queued
from .gateway import (
    FACTS,
    GatewayProcess,
    GatewayThread,
    ask,
    connected,
    eventually,
    gateway_config,
    submit,
    write_config,
)

Start = Callable[..., GatewayThread]
HEADER = "X-Pdbclient-Gateway"
EXPORTED = quote('["and", ["=", "type", "Notify"], ["=", "exported", true]]')
LONG = Timeouts(attempt=20.0, connect=3.0, read=5.0, operation=16.0)


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway whose first server is itself under another name, and the second the primary."""
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            port = free_port()
            servers = (Endpoint("127.0.0.1", port, 0), Endpoint("localhost", site.primary.port, 1))
            own: dict[str, Any] = {"gateway_url": Endpoint("localhost", port), "gateway_allow": ("client", "server")}
            config = gateway_config(site.config(timeouts=LONG), site.pki.server, server_urls=servers, **own)
            return stack.enter_context(GatewayThread(replace(config, **changes)))

        yield run


@pytest.mark.parametrize("changes", [{}, {"command_broadcast": True}], ids=["in order", "broadcast"])
def test_a_command_arrives_once_at_the_next_server(site: Site, start: Start, changes: dict[str, Any]) -> None:
    gateway = start(**changes)
    told = submit(gateway.port, site.pki.client)
    assert (told.status, told.server) == (200, site.primary.port)
    assert [request.body for request in site.primary.commands] == [FACTS]


def test_with_a_journal_too_a_command_arrives_once(site: Site, start: Start, tmp_path: Path) -> None:
    gateway = start(journal=str(tmp_path / "journal"))
    assert submit(gateway.port, site.pki.client).server == site.primary.port
    assert ask(gateway.port, site.pki.client, f"/pdb/query/v4/resources?query={EXPORTED}").status == 200
    assert [request.body for request in site.primary.commands] == [FACTS]


@pytest.mark.parametrize("target", ["/pdb/query/v4/nodes", "/pdb/meta/v1/version"])
def test_a_query_is_asked_once_of_the_next_server(site: Site, start: Start, target: str) -> None:
    gateway = start()
    for times in range(1, 5):
        told = ask(gateway.port, site.pki.client, target)
        assert (told.status, told.server) == (200, site.primary.port)
        assert sum(request.target == target for request in site.primary.requests) == times


def test_it_says_so_in_words(site: Site, start: Start) -> None:
    gateway = start()
    site.primary.reply = answer(b"", 503)
    told = submit(gateway.port, site.pki.client)
    assert told.status == 503
    assert "HTTP 508" in told.json["error"]
    assert "this gateway itself, or another one that has it among its servers" in told.json["error"]


def test_a_loop_shuts_out_itself_and_no_healthy_server(site: Site, start: Start) -> None:
    gateway = start(gateway_health_interval=0.1)
    loop, primary = gateway.config.server_urls
    assert eventually(lambda: not gateway.registry.usable(loop, Operation.QUERY))
    for _ in range(5):
        assert submit(gateway.port, site.pki.client).server == site.primary.port
    assert not gateway.registry.usable(loop, Operation.COMMAND)
    for operation in Operation:
        assert gateway.registry.usable(primary, operation)


@pytest.mark.parametrize("broadcast", [False, True], ids=["in order", "broadcast"])
def test_two_gateways_among_each_others_servers(site: Site, tmp_path: Path, broadcast: bool) -> None:
    """In processes of their own: each is another gateway to the other one."""
    site.primary.reply = site.replica.reply = queued
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        running = []
        for at, server in enumerate((site.primary, site.replica)):
            servers = (Endpoint("127.0.0.1", ports[1 - at], 0), Endpoint("localhost", server.port, 1))
            settings = {"gateway_url": Endpoint("localhost", ports[at]), "gateway_allow": ("client", "server")}
            config = gateway_config(site.config(timeouts=LONG), site.pki.server, server_urls=servers, **settings)
            path = write_config(tmp_path / f"{at}.conf", config)
            if broadcast:
                text = path.read_text().replace("[main]\n", "[main]\ncommand_broadcast = true\n")
                path.write_text(text)
            running.append(stack.enter_context(GatewayProcess(path, ports[at], tmp_path / f"{at}.log")))
        first, _ = (process.up() for process in running)
        told = submit(first.port, site.pki.client)
        assert told.status == 200, told.body
        assert len(site.replica.commands) == 1, "the other gateway went on to its own server"
        assert len(site.primary.commands) == int(broadcast)
        assert "a loop" in first.text
    for request in (*site.primary.commands, *site.replica.commands):
        assert request.headers[HEADER.lower()], "whoever sends through a gateway is seen"


def test_a_gateway_before_a_gateway_is_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after one of them was read again."""
    # So long, what was before the reload waits for the connection that the other gateway keeps.
    monkeypatch.setattr("pdbclient.gateway.server.IDLE_LIMIT", 2.0)
    behind = gateway_config(site.config(site.primary.port), site.pki.server, gateway_allow=("server",))
    assert behind.gateway_url is not None
    before = gateway_config(site.config(behind.gateway_url.port), site.pki.server)
    with GatewayThread(behind) as second, GatewayThread(before) as first:
        for gateway in (first, second):
            assert submit(first.port, site.pki.client).status == 200
            assert ask(first.port, site.pki.client).status == 200
            gateway.reload(gateway.config)
        assert submit(first.port, site.pki.client).status == 200
    assert len({request.headers[HEADER.lower()] for request in site.primary.commands}) == 1


def test_a_loop_is_seen_after_a_reload_too(site: Site, start: Start) -> None:
    gateway = start()
    gateway.reload(gateway.config)
    assert submit(gateway.port, site.pki.client).server == site.primary.port
    assert len(site.primary.commands) == 1


def test_a_header_in_two_lines_is_read(site: Site, start: Start) -> None:
    """A proxy may part it."""
    gateway = start()
    assert submit(gateway.port, site.pki.client).status == 200
    own = site.primary.commands[0].headers[HEADER.lower()].rpartition(", ")[2]
    with closing(connected(gateway.port, site.pki.client)) as sock:
        head = (
            f"GET /pdb/query/v4/nodes HTTP/1.1\r\nHost: localhost\r\n{HEADER}: {'0' * 16}\r\n{HEADER}: {own}\r\n\r\n"
        )
        sock.sendall(head.encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 508")


def test_a_gateway_that_this_one_has_never_met_is_no_loop(site: Site) -> None:
    config = gateway_config(site.config(), site.pki.server)
    with GatewayThread(config) as gateway:
        told = submit(gateway.port, site.pki.client, X_Pdbclient_Gateway="0123456789abcdef")
    assert told.status == 200
    (sent,) = site.primary.commands
    first, own = sent.headers[HEADER.lower()].split(", ")
    assert (first, len(own)) == ("0123456789abcdef", 16)


def test_a_header_that_no_gateway_sent_is_not_passed_on(site: Site) -> None:
    config = gateway_config(site.config(), site.pki.server)
    with GatewayThread(config) as gateway:
        assert submit(gateway.port, site.pki.client, X_Pdbclient_Gateway="nonsense, x" * 100).status == 200
        endless = ", ".join(f"{number:016x}" for number in range(50))
        assert submit(gateway.port, site.pki.client, X_Pdbclient_Gateway=endless).status == 508
    (sent,) = site.primary.commands
    assert len(sent.headers[HEADER.lower()]) == 16


def test_a_client_does_not_send_it(site: Site) -> None:
    client = site.client()
    client.submit_payload("replace facts", json.loads(FACTS))
    client.query(path="nodes")
    assert len(site.primary.requests) >= 2
    assert not any(HEADER.lower() in request.headers for request in site.primary.requests)
