"""Slow is not dead, and dead is not slow: what a request does whose server is silent, through client and gateway."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from pdbclient import AllEndpointsFailed, Client
from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.outcome import Kind, Operation
from pdbclient.http.sender import PLACES, STATUS_LIMIT

from .conftest import Site, deactivation
from .fake import Answer, Request, answer, healthy
from .gateway import FACTS, FACTS_URL, GatewayThread, ask, connected, eventually, gateway_config, submit
from .proxy import BlackHole

QUICK = Timeouts(attempt=20.0, connect=0.6, read=10.0, operation=15.0)
"""A read limit that nothing here reaches: what leaves a server sooner has learnt that it is dead."""
SEEN_DEAD = 1.0 + STATUS_LIMIT + 0.5
"""Seconds within which a request leaves a server that died: a second of silence, the health check, some slack."""

Start = Callable[..., GatewayThread]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(**changes: Any) -> GatewayThread:
            config = gateway_config(site.config(timeouts=QUICK), site.pki.server, **changes)
            return stack.enter_context(GatewayThread(config))

        yield started


def slow(seconds: float, *, queries: bool = True) -> Callable[[Request], Answer]:
    """Its status comes at once, queries (or commands) take so long."""

    def reply(request: Request) -> Answer:
        if request.is_query if queries else request.is_command:
            time.sleep(seconds)
        return answer([1]) if request.is_query else healthy(request)

    return reply


def dripping(over: threading.Event) -> Callable[[Request], Answer]:
    """A query's answer that begins at once, and of which a little comes now and then."""

    def pieces() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[1"
        while not over.wait(0.2):
            yield b",1"

    return lambda request: Answer(pieces(), close=True) if request.is_query else healthy(request)


# -- slow (H1)


def test_a_query_may_take_longer_than_the_read_limit(site: Site, start: Start) -> None:
    site.primary.reply = slow(3.0)
    limits = replace(QUICK, read=0.5)
    result = site.client(timeouts=limits).query("nodes {}")
    assert (list(result), result.failed_over) == ([1], False)
    told = ask(start(timeouts=limits).port, site.pki.client)
    assert (told.status, told.json, told.headers["X-Pdbclient-Failed-Over"]) == (200, [1], "false")


def test_a_slow_query_ends_in_time_for_the_next_server(site: Site, took: Callable[[], float]) -> None:
    site.primary.reply = slow(5.0)
    client = site.client(timeouts=QUICK)
    took()
    result = client.query("nodes {}", timeout=4.0)
    assert 1.9 < took() < 3.5
    assert [attempt.outcome.kind for attempt in result.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]


def test_a_command_keeps_its_read_limit_at_a_server_that_is_alive(site: Site) -> None:
    site.primary.reply = slow(2.5, queries=False)
    client = site.client(timeouts=replace(QUICK, read=1.5))
    done = client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.TIMEOUT, Kind.ACCEPTED]
    primary = client.config.server_urls[0]
    assert not client.health()[primary, Operation.COMMAND].usable
    assert client.health()[primary, Operation.QUERY].usable


# -- dead (H2)


@contextmanager
def frozen_after(site: Site, seconds: float) -> Iterator[None]:
    """The primary answers nothing any more, on any connection, after so many seconds."""

    def freeze() -> None:
        site.proxy.fault = BlackHole()

    timer = threading.Timer(seconds, freeze)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_query_and_a_command_that_wait_leave_a_server_that_dies(site: Site, took: Callable[[], float]) -> None:
    site.primary.reply = slow(6.0)
    client = site.client(timeouts=QUICK)
    with ThreadPoolExecutor(2) as pool, frozen_after(site, 0.5):
        took()
        query = pool.submit(client.query, "nodes {}")
        time.sleep(0.6)
        command = pool.submit(client.submit, deactivation())
        assert query.result().failed_over
        assert took() < 0.6 + SEEN_DEAD
        assert command.result().failed_over
        assert took() < SEEN_DEAD
    assert query.result().attempts[0].outcome.kind is Kind.UNRESPONSIVE
    primary = client.config.server_urls[0]
    assert not any(client.health()[primary, operation].usable for operation in Operation)
    took()
    client.query("nodes {}")
    client.submit(deactivation())
    assert took() < 0.5, "later ones do not pay for it"


def test_so_they_do_behind_a_gateway(site: Site, start: Start, took: Callable[[], float]) -> None:
    gateway = start(gateway_health_interval=2.0)
    site.proxy.fault = BlackHole()
    with ThreadPoolExecutor(2) as pool:
        took()
        query = pool.submit(ask, gateway.port, site.pki.client)
        command = pool.submit(submit, gateway.port, site.pki.client)
        assert [query.result().status, command.result().status] == [200, 200]
        assert took() < SEEN_DEAD
    took()
    assert ask(gateway.port, site.pki.client).status == submit(gateway.port, site.pki.client).status == 200
    assert took() < 0.7


def test_queries_leave_a_server_whose_database_is_away_and_commands_stay(site: Site) -> None:
    away = threading.Event()

    def silent(request: Request) -> Answer:
        away.set()
        time.sleep(6.0)
        return healthy(request)

    site.primary.reply = silent
    site.primary.otherwise = lambda request: answer({}, 503) if away.is_set() else healthy(request)
    client = site.client(timeouts=QUICK)
    with ThreadPoolExecutor(2) as pool:
        query, command = pool.submit(client.query, "nodes {}"), pool.submit(client.submit, deactivation())
        assert query.result().attempts[0].outcome.kind is Kind.BUSY
        assert not command.result().failed_over
    primary = client.config.server_urls[0]
    assert not client.health()[primary, Operation.QUERY].usable
    assert client.health()[primary, Operation.COMMAND].usable


def test_four_silent_servers_cost_little_more_than_one(site: Site, start: Start, took: Callable[[], float]) -> None:
    """H5: Puppet, which waits for 6 s here, had left before the fifth was asked."""
    silent = [site.proxy_to(site.server(), BlackHole()) for _ in range(4)]
    ports = [proxy.port for proxy in silent] + [site.replica.port]
    servers = tuple(Endpoint("localhost", port, order) for order, port in enumerate(ports))
    gateway = start(server_urls=servers, timeouts=replace(QUICK, attempt=6.0), gateway_health_interval=2.0)
    took()
    told = ask(gateway.port, site.pki.client, headers={"User-Agent": "Puppet/8.0.0"})
    assert (told.status, told.server) == (200, site.replica.port)
    assert took() < 5.0


def test_silent_servers_do_not_keep_puppet_for_longer_than_it_waits(
    site: Site, start: Start, took: Callable[[], float]
) -> None:
    """H5: its query was answered after 8.1 s, though it waits for 6 s."""
    over = threading.Event()

    def silent(request: Request) -> Answer:
        over.wait(30)
        return healthy(request)

    ports = [site.server(silent).port for _ in range(4)] + [site.replica.port]
    servers = tuple(Endpoint("localhost", port, order) for order, port in enumerate(ports))
    gateway = start(server_urls=servers, timeouts=replace(QUICK, attempt=6.0), gateway_health_interval=60.0)
    took()
    try:
        ask(gateway.port, site.pki.client, headers={"User-Agent": "Puppet/8.0.0"})
        assert took() < 6.0
    finally:
        over.set()


# -- bulkheads


def test_answers_that_drip_take_nothing_from_commands_nor_from_the_next_server(site: Site, start: Start) -> None:
    """H3: they held all places of the gateway."""
    over = threading.Event()
    site.primary.reply = dripping(over)
    gateway = start(gateway_concurrency=4)
    try:
        with ExitStack() as stack:
            for _ in range(4):
                sock = stack.enter_context(connected(gateway.port, site.pki.client))
                sock.sendall(b"GET /pdb/query/v4/nodes HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually(lambda: gateway.places_taken == 4)
            command = submit(gateway.port, site.pki.client)
            assert (command.status, command.headers["X-Pdbclient-Failed-Over"]) == (200, "false")
            time.sleep(1.1)
            query = ask(gateway.port, site.pki.client)
            assert (query.status, query.server) == (200, site.replica.port)
        assert eventually(lambda: gateway.places_taken == 0), "clients that leave free their places"
    finally:
        over.set()


def test_a_gateway_ends_in_time_though_an_answer_drips(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, took: Callable[[], float]
) -> None:
    """H4."""
    monkeypatch.setattr("pdbclient.gateway.server.DRAIN_LIMIT", 0.5)
    over = threading.Event()
    site.primary.reply = dripping(over)
    gateway = start()
    try:
        with connected(gateway.port, site.pki.client) as sock:
            sock.sendall(b"GET /pdb/query/v4/nodes HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually(lambda: gateway.places_taken == 1)
            took()
            gateway.stop()
            assert took() < 3.5
    finally:
        over.set()


def test_a_server_whose_places_are_all_taken_is_passed_over_and_not_blamed(
    site: Site, took: Callable[[], float]
) -> None:
    over = threading.Event()

    def held(request: Request) -> Answer:
        if request.is_query:
            over.wait(20)
        return healthy(request)

    site.primary.reply = held
    client = site.client(timeouts=QUICK)
    with ThreadPoolExecutor(PLACES) as pool:
        waiting = [pool.submit(client.query, "nodes {}") for _ in range(PLACES)]
        try:
            assert eventually(lambda: len(site.primary.queries) == PLACES)
            time.sleep(1.1)
            took()
            result = client.query("nodes {}")
            assert took() < 0.5
            assert [attempt.outcome.kind for attempt in result.attempts] == [Kind.NO_PLACE, Kind.ACCEPTED]
            assert not client.submit(deactivation()).failed_over
            assert client.health()[client.config.server_urls[0], Operation.QUERY].usable
        finally:
            over.set()
        assert not any(future.result().failed_over for future in waiting)


def test_a_broadcast_does_not_wait_behind_a_silent_server(site: Site) -> None:
    """H7: 38 of 200 failed, though the replica was healthy."""
    client = site.client(timeouts=QUICK, command_broadcast=True)
    site.proxy.fault = BlackHole()
    with ThreadPoolExecutor(100) as pool:
        taken = list(pool.map(lambda n: client.submit(deactivation(n)), range(200)))
    assert {done.endpoint for done in taken} == {client.config.server_urls[1]}


def test_a_broadcast_leaves_out_a_server_whose_places_are_all_taken(site: Site, took: Callable[[], float]) -> None:
    over = threading.Event()

    def held(request: Request) -> Answer:
        if request.is_command:
            over.wait(20)
        return healthy(request)

    site.primary.reply = held
    client = site.client(timeouts=replace(QUICK, read=30.0), command_broadcast=True)
    with ThreadPoolExecutor(PLACES) as pool:
        waiting = [pool.submit(client.submit, deactivation(n)) for n in range(PLACES)]
        try:
            assert eventually(lambda: len(site.primary.commands) == PLACES)
            time.sleep(1.1)
            took()
            done = client.submit(deactivation(PLACES))
            assert took() < 0.5
            assert done.endpoint == client.config.server_urls[1]
            assert done.attempts[0].outcome.kind is Kind.NO_PLACE
        finally:
            over.set()
        assert all(len(each.result().uuids) == 2 for each in waiting)


def test_a_name_that_is_not_looked_up_costs_the_others_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, took: Callable[[], float]
) -> None:
    """H9: 20 of 20 commands failed, and the replica was blamed."""
    over, real = threading.Event(), socket.getaddrinfo

    def hanging(host: str, *rest: Any, **options: Any) -> Any:
        if host == "localhost":
            over.wait(15)
        return real(host, *rest, **options)

    primary, replica = Endpoint("localhost", site.primary.port), Endpoint("127.0.0.1", site.replica.port, 1)
    client = Client(replace(site.config(timeouts=QUICK), server_urls=(primary, replica)))
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        with client, ThreadPoolExecutor(20) as pool:
            took()
            taken = list(pool.map(lambda n: client.submit(deactivation(n)), range(20)))
            assert {done.endpoint for done in taken} == {replica}
            assert took() < QUICK.connect + 1.5
            assert client.health()[replica, Operation.COMMAND].usable
            looking = [thread for thread in threading.enumerate() if thread.name == "pdbclient-resolver"]
            assert len(looking) == 1
            over.set()
    finally:
        over.set()


# -- this machine (H11)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process has none, whatever it wants to open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_descriptor_that_this_machine_does_not_have_is_no_servers_fault(site: Site, host: str) -> None:
    servers = (Endpoint(host, site.primary.port), Endpoint(host, site.replica.port, 1))
    client = site.client(server_urls=servers)
    with no_descriptor_left():
        with pytest.raises(AllEndpointsFailed) as told:
            client.submit(deactivation())
        with pytest.raises(AllEndpointsFailed):
            client.query("nodes {}")
    assert {attempt.outcome.kind for attempt in told.value.attempts} == {Kind.LOCAL}
    assert "Too many open files" in str(told.value)
    assert all(health.usable for health in client.health().values())
    assert not client.submit(deactivation()).failed_over


def test_a_thread_that_this_machine_does_not_have_is_no_servers_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H12: a bare RuntimeError."""
    client = site.client()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(AllEndpointsFailed, match="can't start new thread"):
            client.submit(deactivation())
    assert all(health.usable for health in client.health().values())
    assert not client.submit(deactivation()).failed_over


def test_a_thread_that_this_machine_does_not_have_is_told_by_a_gateway(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = start()
    real = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(("pdbclient-queries", "pdbclient-commands", "pdbclient-hands")):
            raise RuntimeError("can't start new thread")
        real(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        told = [ask(gateway.port, site.pki.client), submit(gateway.port, site.pki.client)]
    assert [each.status for each in told] == [503, 503]
    assert all(b"can't start new thread" in each.body for each in told)
    assert submit(gateway.port, site.pki.client).status == 200


def test_commands_whose_clients_have_left_keep_their_places(site: Site, start: Start) -> None:
    """Else they would wait in a queue without a bound, with bodies that nobody counts."""
    over = threading.Event()

    def held(request: Request) -> Answer:
        if request.is_command:
            over.wait(20)
        return healthy(request)

    site.primary.reply = site.replica.reply = held
    gateway = start(gateway_concurrency=1)
    lines = ("Host: x", "Content-Type: application/json", f"Content-Length: {len(FACTS)}", "", "")
    head = "\r\n".join((f"POST {FACTS_URL} HTTP/1.1", *lines))
    try:
        for _ in range(6):
            with connected(gateway.port, site.pki.client) as sock:
                sock.sendall(head.encode() + FACTS)
                assert eventually(lambda: gateway.places_taken > 0)
        time.sleep(0.5)
        assert gateway.places_taken == 2
        assert gateway._site._upstream._commands._work_queue.qsize() == 0
    finally:
        over.set()
    assert eventually(lambda: gateway.places_taken == 0)


def test_a_request_waits_for_its_turn_no_longer_than_its_client_does(
    site: Site, start: Start, took: Callable[[], float]
) -> None:
    over = threading.Event()

    def held(request: Request) -> Answer:
        if request.is_query:
            over.wait(20)
        return healthy(request)

    site.primary.reply = site.replica.reply = held
    gateway = start(gateway_concurrency=1, timeouts=replace(QUICK, operation=2.0))
    with ThreadPoolExecutor(2) as pool:
        try:
            first = [pool.submit(ask, gateway.port, site.pki.client) for _ in range(2)]
            assert eventually(lambda: gateway.places_taken == 2)
            took()
            told = ask(gateway.port, site.pki.client)
            assert (told.status, b"more requests than it can work on" in told.body) == (503, True)
            assert took() < 4.0
        finally:
            over.set()
        assert [each.result().status for each in first] == [200, 200]


def test_a_dead_server_is_seen_with_a_connect_limit_as_long_as_that_of_its_status(
    site: Site, took: Callable[[], float]
) -> None:
    """As by default: the health check then has no less time to connect than any other request."""
    client = site.client(timeouts=replace(QUICK, connect=STATUS_LIMIT, query=60.0))
    client.query("nodes {}")
    with frozen_after(site, 0.0):
        took()
        assert client.query("nodes {}").failed_over
        assert took() < SEEN_DEAD + 1.0
