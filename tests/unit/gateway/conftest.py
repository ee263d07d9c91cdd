"""A listening socket, and clients of it, for the tests of the entrances."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pdbclient.gateway.listen import Entrance

Connect = Callable[[], socket.socket]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture
def listening(stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


@pytest.fixture
def connect(stack: ExitStack, listening: socket.socket) -> Connect:
    return lambda: stack.enter_context(socket.create_connection(listening.getsockname(), timeout=5))


def taken(entrance: Entrance, stack: ExitStack) -> socket.socket:
    """The next connection."""
    return stack.enter_context(entrance.accept()[0])
