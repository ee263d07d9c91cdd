"""Who listens already at an address of the next configuration, hands over its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pdbclient.config import Endpoint
from pdbclient.errors import GatewayError
from pdbclient.gateway.handover import sockets_for, without
from pdbclient.lab.ports import free_port


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def at(stack: ExitStack, host: str, port: int) -> socket.socket:
    return stack.enter_context(socket.create_server((host, port)))


def stands_for(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Have the name `many` stand for all of these."""
    real = socket.getaddrinfo

    def found(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        names = hosts if host == "many" else (host,)
        return [each for name in names for each in real(name, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def names(sockets: list[socket.socket]) -> list[str]:
    found = [sock.getsockname()[0] for sock in sockets]
    for sock in sockets:
        sock.close()
    return found


def test_another_name_of_an_address_is_that_socket_and_what_is_not_held_is_bound(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    held = at(stack, "127.0.0.1", port)
    # The last is for documents: it is no address of this machine.
    stands_for(monkeypatch, "127.0.0.1", "127.0.0.2", "192.0.2.1")
    sockets = sockets_for(Endpoint("many", port), "gateway_url", [held])
    assert sockets[0].getsockname() == held.getsockname()
    assert names(sockets) == ["127.0.0.1", "127.0.0.2"]
    assert names(sockets_for(Endpoint("127.0.0.3", port), "gateway_url", [held])) == ["127.0.0.3"]


def test_where_another_process_listens_it_is_refused_and_nothing_is_left_open(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    held = at(stack, "127.0.0.1", port)
    at(stack, "127.0.0.2", port)
    stands_for(monkeypatch, "127.0.0.1", "127.0.0.2")
    with pytest.raises(GatewayError, match="another process listens there already"):
        sockets_for(Endpoint("many", port), "gateway_url", [held])
    with pytest.raises(GatewayError, match="another process listens there already"):
        sockets_for(Endpoint("127.0.0.1", port), "gateway_url", without([held], [held]))
