"""Slow is not dead, and dead is not slow, on a real pair: a locked database, and a frozen primary."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient import Client
from pdbclient.config import ClientConfig, load_config
from pdbclient.http.pulse import SILENCE
from pdbclient.http.sender import STATUS_LIMIT
from pdbclient.lab import Lab
from pdbclient.wire import deactivate_node
from tests.soak import LONG

from ..faults.gateway import GatewayProcess, ask, gateway_config, submit, write_config
from .client_site import ago, facts
from .locked_table import locked

pytestmark = [
    pytest.mark.integration,
    pytest.mark.soak,
    pytest.mark.every_server("8.8.1+7.12.1", long=["8.4.1+8.8.1"]),
]

SLOW = 25.0 if LONG else 6.0
"""Seconds for which the database is locked: more than one server's silence was ever allowed (2 s here)."""
SEEN_DEAD = SILENCE + STATUS_LIMIT + (1.0 if LONG else 5.0)
"""Seconds until a frozen server is left; a busy machine takes its time. It was 10 s before anybody asked."""
PRIMARY = "primary"


class SlowSite:
    """A pair, and a client and a gateway of it."""

    def __init__(self, lab: Lab, config: ClientConfig, client: Client, gateway: GatewayProcess) -> None:
        self.lab, self.config, self.client, self.gateway = lab, config, client, gateway
        assert self.client.submit_payload("replace facts", facts("node.example"), producer_timestamp=ago()).uuid
        for node in lab.nodes:
            lab.settle(node.name)

    def through_client(self) -> bool:
        """A query; whether another server than the primary answered it."""
        return self.client.query("nodes {}").failed_over

    def through_gateway(self) -> bool:
        told = ask(self.gateway.port, self.lab.client_tls, timeout=60)
        assert told.status == 200, told.body
        return told.headers["X-Pdbclient-Failed-Over"] == "true"

    def command_of_client(self) -> bool:
        return self.client.submit(deactivate_node("gone.example", now=ago())).failed_over

    def command_of_gateway(self) -> bool:
        told = submit(self.gateway.port, self.lab.client_tls)
        assert told.status == 200, told.body
        return told.headers["X-Pdbclient-Failed-Over"] == "true"

    @property
    def ways(self) -> tuple[Callable[[], bool], ...]:
        return (self.through_client, self.through_gateway, self.command_of_client, self.command_of_gateway)


@pytest.fixture
def site(pair: Lab) -> Iterator[SlowSite]:
    config = load_config(pair.puppetdb_conf)
    config = replace(config, timeouts=replace(config.timeouts, read=10.0))
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        served = gateway_config(config, pair.client_tls, gateway_health_interval=2.0)
        assert served.gateway_url is not None
        path = write_config(Path(name) / "puppetdb.conf", served)
        gateway = stack.enter_context(GatewayProcess(path, served.gateway_url.port, Path(name) / "log"))
        yield SlowSite(pair, config, stack.enter_context(Client(config)), gateway.up())


@contextmanager
def frozen(lab: Lab) -> Iterator[None]:
    lab.fault(PRIMARY, "freeze")
    try:
        yield
    finally:
        lab.fault(PRIMARY, "thaw")


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_query_that_waits_for_a_lock_is_answered_by_the_server_it_was_sent_to(site: SlowSite) -> None:
    short = replace(site.config, timeouts=replace(site.config.timeouts, read=2.0))
    with Client(short) as client, ThreadPoolExecutor(2) as pool:
        with locked(site.lab, PRIMARY, "certnames", "access exclusive"):
            began = time.monotonic()
            asked = [pool.submit(lambda: client.query("nodes {}").failed_over), pool.submit(site.through_gateway)]
            time.sleep(SLOW)
            assert not any(each.done() for each in asked)
        assert [each.result() for each in asked] == [False, False]
        assert time.monotonic() - began > SLOW


def test_what_waits_for_a_primary_that_freezes_is_answered_by_the_replica(site: SlowSite) -> None:
    healthy = {way: statistics.median(seconds(way) for _ in range(5)) for way in site.ways}
    with frozen(site.lab), ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        asked = [pool.submit(way) for way in site.ways]
        assert [each.result() for each in asked] == [True] * 4
        waited = time.monotonic() - began
        later = {way: statistics.median(seconds(way) for _ in range(5)) for way in site.ways}
    print(f"primary frozen: the first took {waited:.2f} s, later ones", end=" ")
    print({way.__name__: f"{later[way]:.3f} s (healthy {healthy[way]:.3f})" for way in site.ways})
    assert waited < SEEN_DEAD
    assert all(later[way] < healthy[way] + 0.5 for way in site.ways)
