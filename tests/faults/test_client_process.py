"""One client in a whole process: many threads, a fork, an exit, and nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from pdbclient import Client
from pdbclient.config.model import Timeouts
from pdbclient.http.outcome import Operation
from pdbclient.http.sender import PLACES

from .conftest import Site, deactivation
from .fake import Answer, Request, answer, healthy
from .proxy import BlackHole

THREADS = 50
PATIENT = Timeouts(attempt=10.0, connect=5.0, read=5.0, operation=15.0)
"""Limits that fifty handshakes at once, of clients and servers in one process, do not reach."""


def echoing(request: Request) -> Answer:
    """Each command gets its own certname as its uuid, each query its own text as its only row."""
    if request.is_command:
        (certname,) = parse_qs(urlsplit(request.target).query)["certname"]
        assert certname.encode() in request.body
        return answer({"uuid": certname})
    return Answer([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n[" % (len(request.body) + 2), request.body + b"]"])


def mix(client: Client, number: int) -> None:
    """One command and one query, whose answers must be their own."""
    assert client.submit(deactivation(number)).uuid == f"node{number}.example"
    (row,) = client.query(f'nodes {{ certname = "{number}" }}')
    assert row == {"query": f'nodes {{ certname = "{number}" }}'}
    (row,) = client.stream(f"facts {{ value = {number} }}")
    assert row == {"query": f"facts {{ value = {number} }}"}


def test_more_threads_than_places_wait_for_one_without_a_warning(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """H29."""

    def reply(request: Request) -> Answer:
        time.sleep(0.05)
        return healthy(request)

    site.primary.reply = site.replica.reply = reply
    client = site.client(timeouts=replace(PATIENT, connect=30.0, operation=90.0))
    with ThreadPoolExecutor(3 * PLACES) as pool:
        for _ in range(2):
            found = list(pool.map(client.query, ["nodes {}"] * 3 * PLACES))
            assert not any(result.failed_over for result in found)
    assert site.primary.connections <= PLACES
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_fifty_threads_share_a_client_and_each_gets_its_own_answers(site: Site) -> None:
    site.primary.reply = site.replica.reply = echoing
    client = site.client(timeouts=PATIENT)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(mix, [client] * 500, range(500)))
    assert len({request.target for request in site.primary.commands}) == 500
    assert site.proxy.connections <= THREADS
    assert site.replica.requests == []


def test_fifty_threads_lose_and_mix_nothing_while_the_primary_comes_and_goes(site: Site) -> None:
    site.primary.reply = site.replica.reply = echoing
    client = site.client(timeouts=PATIENT)
    over = threading.Event()

    def trouble() -> None:
        while not over.wait(0.1):
            site.proxy.refuse()
            site.proxy.accept()
            site.proxy.reset_all()

    saboteur = threading.Thread(target=trouble)
    saboteur.start()
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(mix, [client] * 600, range(600)))
    finally:
        over.set()
        saboteur.join()
    arrived = {request.target for request in site.primary.commands + site.replica.commands}
    assert len(arrived) == 600


def test_an_outage_is_paid_once_by_every_thread_that_was_under_way(site: Site, took: Callable[[], float]) -> None:
    client = site.client(timeouts=replace(PATIENT, read=2.0))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(client.submit, map(deactivation, range(200))))
        site.proxy.fault = BlackHole()
        took()
        list(pool.map(client.submit, map(deactivation, range(500))))
    assert took() < 9, "ten rounds of threads would have paid 20 s"
    assert len({request.target for request in site.replica.commands}) == 500


class Forked(Protocol):
    """Runs `child` in a forked process, and `meanwhile` in this one; an error there is an error here.

    No other thread is to be inside OpenSSL at the fork, the fake servers' included: OpenSSL's own locks, held by a
    thread that the child does not have, stay held there for ever, and no program can mend that (seen: the one of its
    random generator, and the one that a thread takes when it first uses OpenSSL, and when it ends).
    """

    def __call__(self, child: Callable[[], None], meanwhile: Callable[[], None] = ...) -> None: ...


@pytest.fixture
def forked() -> Forked:
    def run(child: Callable[[], None], meanwhile: Callable[[], None] = lambda: None) -> None:
        end = time.monotonic() + 5
        # A thread of which Python knows no more may still be ending.
        while len(os.listdir("/proc/self/task")) > len(sys._current_frames()):
            assert time.monotonic() < end
            time.sleep(0.001)
        with warnings.catch_warnings():
            # Newer Pythons warn of a fork in a process with threads: that it works is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                # Ends the child whatever it hangs in: a handler would wait for it to come back from C.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)
                child()
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 - the parent reports it
                os.write(2, f"in the child: {error!r}\n".encode())
                os._exit(1)
        meanwhile()
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0

    return run


def test_a_child_and_its_parent_use_the_same_client_on_connections_of_their_own(site: Site, forked: Forked) -> None:
    site.primary.reply = site.replica.reply = echoing
    client = site.client(site.primary.port, site.replica.port)
    mix(client, 1)

    def child() -> None:
        for number in range(2, 5):
            mix(client, number)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(mix, [client] * 40, range(100, 140)))
        client.close()

    forked(child)
    mix(client, 5)
    parents = {r.connection for r in site.primary.commands if "node1." in r.target or "node5." in r.target}
    children = {r.connection for r in site.primary.commands} - parents
    assert len(parents) == 1
    assert children


def test_a_child_that_is_forked_from_a_process_whose_threads_use_the_client_works(site: Site, forked: Forked) -> None:
    site.primary.reply = site.replica.reply = echoing
    client = site.client(site.primary.port, site.replica.port)
    over = threading.Event()
    # Between two requests, not within one (`Forked`).
    turn = threading.Lock()

    def traffic(number: int) -> None:
        while not over.is_set():
            with turn:
                mix(client, number)

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(traffic, number) for number in range(8)]
        try:
            for round_ in range(5):
                with turn:
                    forked(lambda number=1000 + round_: mix(client, number))  # type: ignore[misc]
        finally:
            over.set()
        for each in running:
            each.result()


def test_a_child_that_is_forked_at_the_worst_moment_does_not_hang(site: Site, forked: Forked) -> None:
    site.primary.reply = site.replica.reply = echoing
    client = site.client(site.primary.port, site.replica.port)
    mix(client, 1)
    # Held at the fork, as by a thread that the child does not have.
    with client._failover.registry._lock:
        forked(lambda: mix(client, 2))
    mix(client, 3)


def test_a_child_probes_and_broadcasts_by_itself(site: Site, forked: Forked) -> None:
    site.proxy.refuse()
    client = site.client(command_broadcast=True)
    client.submit(deactivation())

    def child() -> None:
        end = time.monotonic() + 15
        while not client.health()[client.config.server_urls[0], Operation.COMMAND].usable:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(client.submit(deactivation(1)).uuids) == 2
        client.close()

    # Until then, who probes the primary meets a refusal: no TLS is under way at the fork.
    forked(child, meanwhile=site.proxy.accept)


PROGRAM = """
import sys, threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from pdbclient import Client
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import Timeouts, TlsFiles
from pdbclient.wire import deactivate_node

ca, cert, key, primary, replica, how = sys.argv[1:]
servers = (Endpoint("localhost", int(primary), 0), Endpoint("localhost", int(replica), 1))
tls = TlsFiles(Path(ca), Path(cert), Path(key))
config = ClientConfig(servers, tls, timeouts=Timeouts(5, 0.6, 5, 8), command_broadcast="broadcast" in how)
client = Client(config)
done = client.submit(deactivate_node("a", now=datetime.now(UTC)))
rows = client.stream("nodes {}") if "stream" in how else None
if "daemon" in how:
    threading.Thread(target=client.query, args=("facts {}",), daemon=True).start()
print(done.endpoint.url, flush=True)
if "error" in how:
    raise RuntimeError("on purpose")
"""


def program(site: Site, how: str, primary: int) -> subprocess.CompletedProcess[str]:
    tls = site.pki.client
    arguments = [str(part) for part in (tls.ca, tls.cert, tls.key, primary, site.replica.port, how)]
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=Path(__file__).parents[2],
        check=False,
    )


@pytest.mark.parametrize("how", ["plain", "broadcast", "stream", "error", "daemon"])
@pytest.mark.parametrize("outage", [False, True], ids=["well", "primary dead"])
def test_the_interpreter_exits_at_once_though_the_client_was_never_closed(
    site: Site, took: Callable[[], float], how: str, outage: bool
) -> None:
    if outage:
        site.proxy.fault = BlackHole()
    slow = threading.Event()

    def reply(request: Request) -> Answer:
        if how == "daemon" and b"facts" in request.body:
            slow.wait(8)
        return healthy(request)

    site.replica.reply = site.primary.reply = reply
    took()
    try:
        ended = program(site, how, site.proxy.port)
    finally:
        slow.set()
    assert took() < 6, "it waited for something"
    assert ended.returncode == (1 if how == "error" else 0), ended.stderr
    for trouble in ("Warning", "Exception ignored", "Fatal"):
        assert trouble not in ended.stderr
    assert ended.stdout.startswith("https://localhost:")


def test_a_closed_client_leaves_no_connection_and_no_thread(site: Site) -> None:
    before = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))
    client = Client(site.config(command_broadcast=True))
    site.proxy.refuse()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(client.submit, map(deactivation, range(60))))
        list(pool.map(client.query, ["nodes {}"] * 60))
    rows = client.stream("nodes {}")
    assert {thread.name.split("_")[0] for thread in threading.enumerate()} & {
        "pdbclient-probe",
        "pdbclient-broadcast",
    }
    rows.close()
    client.close()
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("pdbclient")]
    deadline = time.monotonic() + 5
    # The servers' own ends and threads go as soon as they see ours go; one is the proxy's that accepts no more.
    while len(os.listdir("/proc/self/fd")) > descriptors and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_closing_twice_and_using_a_closed_client_do_no_harm(site: Site) -> None:
    client = site.client()
    client.submit(deactivation())
    client.close()
    client.close()
    assert client.submit(deactivation(1)).uuid
    client.close()


def test_closing_is_not_held_up_by_servers_that_say_nothing(site: Site, took: Callable[[], float]) -> None:
    silent = [site.proxy_to(site.primary, BlackHole()).port for _ in range(4)]
    client = Client(site.config(*silent, site.replica.port, command_broadcast=True))
    client.submit(deactivation())
    time.sleep(2.6)
    took()
    client.close()
    assert took() < 3.5
