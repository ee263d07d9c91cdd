"""What the gateway knows of its servers while nobody asks, and what it says about where an answer came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pdbclient.http.outcome import Operation

from .conftest import Site
from .fake import Answer, Request, answer
from .gateway import GatewayThread, ask, eventually, gateway_config, submit
from .proxy import BlackHole

Start = Callable[..., GatewayThread]
NODES = "/pdb/query/v4/nodes"


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of the proxy and the replica."""
    with ExitStack() as stack:

        def run(*ports: int, **changes: Any) -> GatewayThread:
            return stack.enter_context(GatewayThread(gateway_config(site.config(*ports), site.pki.server, **changes)))

        yield run


def usable(gateway: GatewayThread, operation: Operation) -> bool:
    return gateway.registry.usable(gateway.config.server_urls[0], operation)


# -- headers


def test_a_healthy_first_server_is_named_and_lacks_nothing(site: Site, start: Start) -> None:
    gateway = start()
    for told in (ask(gateway.port, site.pki.client), ask(gateway.port, site.pki.client, "/pdb/meta/v1/version")):
        assert told.server == site.proxy.port
        assert told.headers["X-Pdbclient-Failed-Over"] == "false"
        assert told.headers["X-Pdbclient-Missing"] == "0"
        assert told.headers["X-Pdbclient-Missing-Since"] is None
    told = submit(gateway.port, site.pki.client)
    assert (told.server, told.headers["X-Pdbclient-Failed-Over"]) == (site.proxy.port, "false")


def test_a_server_that_took_over_says_what_it_lacks_and_since_when(site: Site, start: Start) -> None:
    gateway = start()
    for name, second in (("node1", 3), ("node2", 1), ("node2", 2)):
        target = f"/pdb/cmd/v1?version=5&certname={name}&command=replace_facts"
        target += f"&producer-timestamp=2026-01-31T12:00:0{second}.000Z"
        assert ask(gateway.port, site.pki.client, target, "POST", b"{}").status == 200
    site.proxy.refuse()
    told = ask(gateway.port, site.pki.client)
    assert told.server == site.replica.port
    assert told.headers["X-Pdbclient-Failed-Over"] == "true"
    assert told.headers["X-Pdbclient-Missing"] == "2"
    assert told.headers["X-Pdbclient-Missing-Since"] == "2026-01-31T12:00:02.000Z"


def test_reads_stay_with_the_server_that_has_what_the_first_one_missed(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdbclient.http.breaker.BACKOFF_FIRST", 0.3)
    monkeypatch.setattr("pdbclient.http.breaker.PROBE_GAP", 0.1)
    site.proxy.refuse()
    gateway = start()
    assert submit(gateway.port, site.pki.client).headers["X-Pdbclient-Failed-Over"] == "true"
    site.proxy.accept()
    assert eventually(lambda: usable(gateway, Operation.COMMAND), 12)
    assert submit(gateway.port, site.pki.client, "another.example").server == site.proxy.port
    told = ask(gateway.port, site.pki.client)
    assert (told.server, told.headers["X-Pdbclient-Failed-Over"]) == (site.replica.port, "true")


# -- the background check


def test_a_server_that_dies_while_nobody_asks_costs_the_next_command_nothing(
    site: Site, start: Start, took: Callable[[], float]
) -> None:
    gateway = start(gateway_health_interval=0.1)
    submit(gateway.port, site.pki.client)
    site.proxy.fault = BlackHole()
    assert eventually(lambda: not usable(gateway, Operation.COMMAND))
    took()
    told = submit(gateway.port, site.pki.client)
    assert (told.status, told.server) == (200, site.replica.port)
    assert took() < 0.5, "a read timeout is 0.6 s"


def test_a_server_that_is_killed_while_nobody_asks_is_known(site: Site, start: Start) -> None:
    gateway = start(gateway_health_interval=0.1)
    site.proxy.refuse()
    assert eventually(lambda: not usable(gateway, Operation.COMMAND) and not usable(gateway, Operation.QUERY))


class Status:
    """What every fake server says of itself; a running one unless `answer` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: Answer | None = None
        self.asked = 0

        def healthy(request: Request) -> Answer:
            if request.target.startswith("/status/"):
                self.asked += 1
                if self.answer is not None:
                    return self.answer
                return answer({"state": "running"})
            return answer(b"", 404)

        # What a Fake says to requests that are neither commands nor queries.
        monkeypatch.setattr("tests.faults.fake.healthy", healthy)


@pytest.fixture
def told_status(monkeypatch: pytest.MonkeyPatch) -> Status:
    return Status(monkeypatch)


NOT_WELL: dict[str, Answer] = {
    "503": answer({"state": "error"}, 503),
    "starting": answer({"state": "starting"}),
    "no status": answer([]),
    "HTML": answer(b"<html></html>", Content_Type="text/html"),
}


@pytest.mark.parametrize("what", NOT_WELL)
def test_a_server_that_says_it_is_not_well_gets_commands_but_no_queries(
    site: Site, start: Start, told_status: Status, what: str
) -> None:
    told_status.answer = NOT_WELL[what]
    gateway = start(site.primary.port, gateway_health_interval=0.1)
    assert eventually(lambda: not usable(gateway, Operation.QUERY))
    assert usable(gateway, Operation.COMMAND)
    assert submit(gateway.port, site.pki.client).server == site.primary.port


def test_a_server_is_back_soon_after_a_short_trouble_that_only_checks_saw(
    site: Site, start: Start, told_status: Status
) -> None:
    told_status.answer = NOT_WELL["503"]
    gateway = start(site.primary.port, gateway_health_interval=0.05)
    assert eventually(lambda: not usable(gateway, Operation.QUERY))
    time.sleep(0.6)
    told_status.answer = None
    first = gateway.config.server_urls[0]
    health = gateway.registry.health()[first, Operation.QUERY]
    assert health.openings == 1, "checks of what is out already must not put off its return"
    assert health.retry_at - time.monotonic() < 2.5


def test_checks_go_on_for_a_server_that_is_well_and_count_for_nothing(
    site: Site, start: Start, told_status: Status
) -> None:
    gateway = start(site.primary.port, site.replica.port, gateway_health_interval=0.05)
    assert eventually(lambda: told_status.asked >= 5)
    assert usable(gateway, Operation.QUERY)
    site.primary.reply = answer(b"oops", 500)
    for _ in range(3):
        ask(gateway.port, site.pki.client)
    assert not usable(gateway, Operation.QUERY), "good checks do not forgive bad answers"
