"""Names looked up with a limit: one look-up for all that wait, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pdbclient.http import resolver
from pdbclient.http.resolver import Resolver


class Names:
    """Name servers that answer when they are told to, and how often they were asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = threading.Event()
        self.error: Exception | None = None

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        assert self.answer.wait(10)
        if self.error is not None:
            raise self.error
        return [(None, None, None, "", (address, port)) for address in ("192.0.2.1", "192.0.2.2")]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.answer.set()


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::1"])
def test_an_address_is_not_looked_up(names: Names, address: str) -> None:
    assert Resolver(address, 8081).addresses(0.0) == [address]
    assert names.asked == 0


def test_all_that_ask_at_once_wait_for_one_look_up(names: Names) -> None:
    found = Resolver("puppetdb", 8081)
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(found.addresses, 10.0) for _ in range(20)]
        while any(not each.running() for each in asked):
            pass
        names.answer.set()
        assert {tuple(each.result()) for each in asked} == {("192.0.2.1", "192.0.2.2")}
    assert names.asked <= 20
    assert found.addresses(10.0) == ["192.0.2.1", "192.0.2.2"], "and who comes later has it looked up anew"


def test_one_that_hangs_costs_one_thread_and_is_left_alone_in_the_end(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Resolver("puppetdb", 8081)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            found.addresses(0.01)
    assert names.asked == 1
    monkeypatch.setattr(resolver, "GIVEN_UP_AFTER", 0.0)
    with pytest.raises(TimeoutError):
        found.addresses(0.01)
    assert names.asked == 2


def test_look_ups_that_never_end_take_a_few_threads_and_no_more(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "GIVEN_UP_AFTER", 0.0)
    found = Resolver("puppetdb", 8081)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            found.addresses(0.01)
    assert names.asked == resolver.MOST


def test_what_a_look_up_meets_is_told_to_all(names: Names) -> None:
    names.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names.answer.set()
    with pytest.raises(socket.gaierror, match="not known"):
        Resolver("puppetdb", 8081).addresses(5.0)


def test_an_unknown_host_without_a_descriptor_is_a_descriptor_that_lacks(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    names.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names.answer.set()
    with pytest.raises(OSError, match="Too many open files"):
        Resolver("puppetdb", 8081).addresses(5.0)
