"""The entrance: which connections it takes, closes and leaves waiting."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack

import pytest

from pdbclient.config import Endpoint
from pdbclient.config.ports import PRIVILEGE
from pdbclient.errors import GatewayError
from pdbclient.gateway import listen
from pdbclient.gateway.listen import Entrance, listening_sockets

from .conftest import Connect, taken


def test_what_is_inside_or_closed_takes_no_room(stack: ExitStack, listening: socket.socket, connect: Connect) -> None:
    inside: set[int] = set()
    entrance = stack.enter_context(Entrance(listening, 2, lambda: inside))
    for _ in range(4):
        connect()
    first, second = taken(entrance, stack), taken(entrance, stack)
    with pytest.raises(BlockingIOError):
        entrance.accept()
    inside.add(first.fileno())
    third = taken(entrance, stack)
    second.close()
    taken(entrance, stack)
    assert third.fileno() >= 0


def test_the_oldest_makes_room_once_it_has_had_its_time(
    stack: ExitStack, listening: socket.socket, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrance = stack.enter_context(Entrance(listening, 1, set))
    silent = connect()
    taken(entrance, stack)
    late = connect()
    with pytest.raises(BlockingIOError):
        entrance.accept()
    monkeypatch.setattr(listen, "PATIENCE", 0.0)
    taken(entrance, stack)
    assert silent.recv(1) == b"", "it is told"
    late.setblocking(False)
    with pytest.raises(BlockingIOError):
        late.recv(1)


def test_no_descriptor_is_said_once_for_a_second(
    stack: ExitStack, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio asks 512 times in a row, and logs a traceback each time."""

    def none_left(_: socket.socket) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    entrance = stack.enter_context(Entrance(listening, 1, set))
    monkeypatch.setattr(socket.socket, "accept", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        entrance.accept()
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            entrance.accept()


@pytest.mark.parametrize(
    ("port", "number", "advice"),
    [
        (443, errno.EACCES, f"Permission denied: ports below 1024 need a privilege: {PRIVILEGE}"),
        (8085, errno.EACCES, "Permission denied"),
        (443, errno.EADDRNOTAVAIL, "Cannot assign requested address (is that a name of this machine?)"),
    ],
)
def test_why_it_cannot_listen_is_what_to_do_about(
    port: int, number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may listen at every port: what the kernel tells others stands here in its place."""

    def refuse(_: socket.socket, __: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(GatewayError) as caught:
        listening_sockets(Endpoint("127.0.0.1", port))
    assert str(caught.value) == f"gateway_url https://127.0.0.1:{port}: cannot listen there: {advice}"
