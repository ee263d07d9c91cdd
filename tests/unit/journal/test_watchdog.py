"""What ends the wait for a silent PostgreSQL goes on doing that, whatever became of the connections before."""

from __future__ import annotations

import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from pdbclient.journal.store.watchdog import Watchdog

LIMIT = 0.1


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    made = Watchdog()
    yield made
    made.close()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connection(opened: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection: shutting it down fails when the other end is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = opened.enter_context(socket.create_connection(listening.getsockname()))
        theirs, _ = listening.accept()
    return ours, opened.enter_context(theirs)


def assert_ends_a_wait(watchdog: Watchdog, opened: ExitStack) -> None:
    ours, _ = connection(opened)
    ours.settimeout(20)
    with watchdog.over(ours.fileno(), LIMIT):
        assert ours.recv(1) == b""
    assert ours.fileno() >= 0


def test_a_silent_wait_is_ended(watchdog: Watchdog, opened: ExitStack) -> None:
    assert_ends_a_wait(watchdog, opened)
    assert_ends_a_wait(watchdog, opened)


def test_after_a_connection_that_was_reset_meanwhile(watchdog: Watchdog, opened: ExitStack) -> None:
    """As after a suspend: its thread ended, and a frozen PostgreSQL was waited for without a limit."""
    ours, theirs = connection(opened)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with watchdog.over(ours.fileno(), LIMIT):
        time.sleep(3 * LIMIT)
    assert_ends_a_wait(watchdog, opened)


def test_after_what_is_no_connection_any_more(
    watchdog: Watchdog, opened: ExitStack, tmp_path: os.PathLike[str]
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    opened.callback(os.close, descriptor)
    with watchdog.over(descriptor, LIMIT):
        time.sleep(3 * LIMIT)
    assert_ends_a_wait(watchdog, opened)


def test_without_a_descriptor_to_be_had(watchdog: Watchdog, opened: ExitStack) -> None:
    ours, _ = connection(opened)
    ours.settimeout(20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ours.fileno() + 2, hard))
    filling: list[int] = []
    try:
        with suppress(OSError):
            while True:
                filling.append(os.dup(ours.fileno()))
        assert filling
        with watchdog.over(ours.fileno(), LIMIT):
            assert ours.recv(1) == b""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in filling:
            os.close(each)
