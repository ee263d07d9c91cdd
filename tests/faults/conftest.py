"""Certificates, servers and clients for the fault tests; whatever a test starts ends with it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient import Client
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import Timeouts, TlsFiles
from pdbclient.lab.certificates import CertificateAuthority
from pdbclient.wire import Command, deactivate_node

from .fake import Fake, Reply, healthy
from .proxy import Fault, Proxy

SHORT = Timeouts(attempt=5.0, connect=0.6, read=0.6, operation=8.0)
"""Limits that a test can wait for."""


@dataclass(frozen=True)
class Pki:
    """A CA that servers and clients share. `foreign` is another one that nobody trusts."""

    authority: CertificateAuthority
    foreign: CertificateAuthority
    server: TlsFiles
    client: TlsFiles


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    directory = tmp_path_factory.mktemp("pki")
    authority = CertificateAuthority(directory / "own", "fault test CA")
    foreign = CertificateAuthority(directory / "foreign", "foreign CA")
    authority.create()
    foreign.create()
    return Pki(authority, foreign, authority.issue("server"), replace(authority.issue("client"), crl=None))


class Site:
    """Two fake PuppetDBs, `primary` behind a proxy and `replica`, and clients of them."""

    def __init__(self, pki: Pki, stack: ExitStack) -> None:
        self.pki = pki
        self._stack = stack
        self.primary = self.server()
        self.replica = self.server()
        self.proxy = self.proxy_to(self.primary)

    def server(self, reply: Reply = healthy, tls: TlsFiles | None = None, **options: Any) -> Fake:
        return self._stack.enter_context(Fake(tls or self.pki.server, reply, **options))

    def proxy_to(self, server: Fake, fault: Fault = None) -> Proxy:
        return self._stack.enter_context(Proxy(server.port, fault))

    def config(self, *ports: int, timeouts: Timeouts = SHORT, **changes: Any) -> ClientConfig:
        """A configuration for these ports, else for the proxy and the replica."""
        chosen = ports or (self.proxy.port, self.replica.port)
        servers = tuple(Endpoint("localhost", port, order) for order, port in enumerate(chosen))
        return replace(ClientConfig(servers, self.pki.client, timeouts=timeouts), **changes)

    def client(self, *ports: int, **changes: Any) -> Client:
        return self._stack.enter_context(Client(self.config(*ports, **changes)))


@pytest.fixture
def site(pki: Pki) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(pki, stack)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No test leaves a descriptor or a thread behind."""
    before = _held()
    yield
    deadline = time.monotonic() + 5
    while (left := _more(before, _held())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def _more(before: tuple[list[str], set[Any]], after: tuple[list[str], set[Any]]) -> list[Any]:
    """What was not there before. What a test in another directory has left may go meanwhile."""
    descriptors = Counter(after[0]) - Counter(before[0])
    return [*descriptors.elements(), *(after[1] - before[1])]


def descriptors() -> list[str]:
    """The open descriptors of this process, as what they are."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        # The one that lists the directory is gone by now.
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(names)


def _held() -> tuple[list[str], set[threading.Thread]]:
    return descriptors(), set(threading.enumerate())


def deactivation(number: int = 0) -> Command:
    """A small command, another one for each number."""
    return deactivate_node(f"node{number}.example", now=datetime.now(UTC))


def catalog(size: int) -> Command:
    """A catalog command whose body has about `size` bytes of text that gzip cannot make much smaller."""
    resource = {
        "type": "File",
        "title": "/etc/motd",
        "exported": False,
        "tags": [],
        "parameters": {"content": os.urandom(size // 2).hex()},
    }
    payload = {
        "certname": "node.example",
        "version": "1",
        "environment": "production",
        "transaction_uuid": None,
        "catalog_uuid": None,
        "code_id": None,
        "job_id": None,
        "producer": None,
        "resources": [resource],
        "edges": [],
    }
    return Command.create("replace catalog", payload, now=datetime.now(UTC))


@pytest.fixture
def took() -> Callable[[], float]:
    """Seconds since this fixture was last asked, or made."""
    last = time.monotonic()

    def ask() -> float:
        nonlocal last
        last, before = time.monotonic(), last
        return last - before

    return ask
