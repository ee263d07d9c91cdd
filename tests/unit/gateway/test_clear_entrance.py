"""The entrance of the clear-text address: how many connections there are at most."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

import pytest

from pdbclient.gateway import clear_entrance
from pdbclient.gateway.clear_entrance import ClearEntrance

from .conftest import Connect, taken


def waits(client: socket.socket) -> bool:
    """Whether it is neither answered nor closed."""
    client.settimeout(0.1)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    return False


def test_the_oldest_without_a_request_makes_room(
    stack: ExitStack, listening: socket.socket, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clear_entrance, "PATIENCE", 0.0)
    busy: set[int] = set()
    entrance = stack.enter_context(ClearEntrance(listening, 3, lambda: busy))
    clients = [connect() for _ in range(4)]
    inside = [taken(entrance, stack) for _ in range(3)]
    busy.add(inside[0].fileno())
    taken(entrance, stack)
    assert [waits(client) for client in clients] == [True, False, True, True]


@pytest.mark.parametrize("why", ["all are busy", "all have just come"])
def test_where_nobody_can_make_room_the_new_one_is_closed_and_does_not_wait(
    stack: ExitStack, listening: socket.socket, connect: Connect, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    busy: set[int] = set()
    entrance = stack.enter_context(ClearEntrance(listening, 2, lambda: busy))
    clients = [connect() for _ in range(3)]
    inside = [taken(entrance, stack) for _ in range(2)]
    if why == "all are busy":
        monkeypatch.setattr(clear_entrance, "PATIENCE", 0.0)
        busy.update(each.fileno() for each in inside)
    with pytest.raises(BlockingIOError):
        entrance.accept()
    assert [waits(client) for client in clients] == [True, True, False]
    inside[0].close()
    clients.append(connect())
    taken(entrance, stack)
    assert waits(clients[-1])
    with pytest.raises(BlockingIOError):
        entrance.accept()


def test_without_a_descriptor_for_the_new_one_asyncio_is_told_once(
    stack: ExitStack, listening: socket.socket, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rests for a second then; told that nobody waits, it asked 78,000 times in that second."""
    entrance = stack.enter_context(ClearEntrance(listening, 1, set))
    connect(), connect()
    taken(entrance, stack)
    asked = []

    def exhausted(self: socket.socket) -> tuple[socket.socket, object]:
        asked.append(self)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", exhausted)
    with pytest.raises(OSError, match="Too many open files") as told:
        entrance.accept()
    assert not isinstance(told.value, BlockingIOError)
    assert asked == [entrance]
