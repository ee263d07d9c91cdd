"""The gateway as a service: its notices, its signals, its exit codes, and what it leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import TlsFiles
from pdbclient.gateway import Gateway
from pdbclient.lab.ports import free_port

from .conftest import Site
from .fake import Answer, Request, answer, healthy
from .gateway import (
    ROOT,
    GatewayProcess,
    ask,
    client_context,
    connected,
    eventually,
    gateway_config,
    notices,
    submit,
    write_config,
)
from .proxy import BlackHole
from .test_gateway_security import kept_out
from .test_tls import revoking, some

NODES = "/pdb/query/v4/nodes"
FAST = {"pdbclient.gateway.daemon.FILES_INTERVAL": 0.1}


class GatewayService:
    """A gateway process, its configuration file, and copies of its TLS files that a test may replace."""

    def __init__(self, site: Site, directory: Path, stack: ExitStack) -> None:
        self._site, self._directory, self._stack = site, directory, stack
        server = site.pki.server
        pki: dict[str, Any] = {}
        for name in ("ca", "cert", "key", "crl"):
            pki[name] = directory / f"{name}.pem"
            pki[name].write_bytes(some(getattr(server, name)).read_bytes())
        self.tls = TlsFiles(**pki)
        self.config: ClientConfig = gateway_config(site.config(), self.tls)
        self.path = directory / "puppetdb.conf"

    def write(self, **changes: Any) -> ClientConfig:
        self.config = replace(self.config, **changes)
        write_config(self.path, self.config)
        return self.config

    def run(self, environment: Mapping[str, str] | None = None, **patches: float) -> GatewayProcess:
        """Start it, whether it can serve or not."""
        if not self.path.exists():
            self.write()
        assert self.config.gateway_url is not None
        constants = FAST | {f"pdbclient.gateway.{place.replace('__', '.')}": v for place, v in patches.items()}
        log = self._directory / "log"
        process = GatewayProcess(
            self.path, self.config.gateway_url.port, log, environment=environment, patches=constants
        )
        return self._stack.enter_context(process)


@pytest.fixture
def service(site: Site, tmp_path: Path) -> Iterator[GatewayService]:
    with ExitStack() as stack:
        yield GatewayService(site, tmp_path, stack)


class HeldAnswers:
    """Answers that wait until they are let go."""

    def __init__(self) -> None:
        self.arrived, self.over = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> Answer:
        self.arrived.set()
        self.over.wait(10)
        return healthy(request)


@pytest.fixture
def slow(site: Site) -> Iterator[HeldAnswers]:
    site.primary.reply = reply = HeldAnswers()
    yield reply
    reply.over.set()


def test_sigterm_lets_the_request_under_way_end_and_takes_no_other(
    site: Site, service: GatewayService, slow: HeldAnswers
) -> None:
    service.write(timeouts=replace(service.config.timeouts, read=8.0))
    process = service.run().up()
    busy = http.client.HTTPSConnection("localhost", process.port, context=client_context(site.pki.client))
    try:
        busy.request("GET", NODES)
        assert slow.arrived.wait(5)
        process.signal(signal.SIGTERM)
        process.said("ending")

        def refused() -> bool:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", process.port)):
                return False
            return True

        assert eventually(refused)
        slow.over.set()
        response = busy.getresponse()
        assert (response.status, response.read()) == (200, b"[]")
        assert process.ended() == 0
    finally:
        busy.close()
    assert "Traceback" not in process.text
    assert "ResourceWarning" not in process.text
    assert process.text.splitlines()[-1].endswith("pdbclient.gateway: ended")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_connection_does_not_hold_up_the_end(
    site: Site, service: GatewayService, number: signal.Signals, took: Callable[[], float]
) -> None:
    process = service.run().up()
    with connected(process.port, site.pki.client) as sock:
        sock.sendall(f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert sock.recv(1000)
        took()
        process.signal(number)
        assert process.ended() == 0
    assert took() < 2


def test_a_request_that_does_not_end_in_time_is_cut_off(
    site: Site, service: GatewayService, slow: HeldAnswers
) -> None:
    service.write(timeouts=replace(service.config.timeouts, read=1.5))
    process = service.run(server__DRAIN_LIMIT=0.3).up()
    with connected(process.port, site.pki.client) as sock:
        sock.sendall(f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert slow.arrived.wait(5)
        process.signal(signal.SIGTERM)
        with suppress(ConnectionError, ssl.SSLError):
            assert b" 200 " not in sock.recv(1000)
    assert process.ended() == 0
    assert "Traceback" not in process.text


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told_of_the_start_a_reload_and_the_end(
    service: GatewayService, tmp_path: Path, abstract: bool
) -> None:
    with notices(tmp_path, abstract=abstract) as (address, read):
        process = service.run({"NOTIFY_SOCKET": address})
        ready = read()
        assert ready["READY"] == "1"
        assert ready["STATUS"].startswith("for client, in front of https://localhost:")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        process.signal(signal.SIGHUP)
        reloading = read()
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert read()["READY"] == "1"
        process.signal(signal.SIGTERM)
        assert read() == {"STOPPING": "1"}
        assert process.ended() == 0


def test_a_notice_that_nobody_reads_holds_up_nothing(site: Site, service: GatewayService, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(address))
        process = service.run({"NOTIFY_SOCKET": str(address)}).up()
        for number in range(20):
            process.signal(signal.SIGHUP)
            process.said("reloaded: ", number + 1)
        assert ask(process.port, site.pki.client).status == 200


def test_a_notice_that_nobody_hears_ends_nothing(site: Site, service: GatewayService, tmp_path: Path) -> None:
    process = service.run({"NOTIFY_SOCKET": str(tmp_path / "gone")}).up()
    assert ask(process.port, site.pki.client).status == 200
    process.signal(signal.SIGTERM)
    assert process.ended() == 0


def test_a_replaced_certificate_is_taken_up_without_a_signal(site: Site, service: GatewayService) -> None:
    process = service.run().up()

    def serial() -> object:
        with connected(process.port, site.pki.client) as sock:
            return (sock.getpeercert() or {})["serialNumber"]

    before = serial()
    renewed = site.pki.authority.issue("renewed")
    # As Puppet does it: one file after the other; what does not go together is not taken.
    some(service.tls.key).write_bytes(some(renewed.key).read_bytes())
    process.said("the old configuration stays")
    assert serial() == before
    some(service.tls.cert).write_bytes(some(renewed.cert).read_bytes())
    process.said("configuration and certificates reloaded: a certificate")
    assert serial() != before
    assert submit(process.port, site.pki.client).status == 200
    time.sleep(0.5)
    assert process.text.count("reloaded: ") == 1, "once for each change"


def test_a_new_revocation_list_keeps_a_client_out_without_a_signal(
    site: Site, service: GatewayService, tmp_path: Path
) -> None:
    service.write(gateway_allow=("client", "soon-revoked"))
    process = service.run().up()
    client = site.pki.authority.issue("soon-revoked")
    assert not kept_out(process.port, client)
    (tmp_path / "new").mkdir()
    revoking(site.pki, tmp_path / "new", client).replace(some(service.tls.crl))
    process.said("reloaded: ")
    assert kept_out(process.port, client)
    assert not kept_out(process.port, site.pki.client)


def test_sighup_takes_the_new_configuration_and_a_broken_one_changes_nothing(
    site: Site, service: GatewayService
) -> None:
    process = service.run().up()
    assert submit(process.port, site.pki.client).server == site.proxy.port
    good = service.path.read_text()
    service.path.write_text(good.replace("= client", "= not a name").replace("read_timeout = ", "read_timeout = x"))
    process.signal(signal.SIGHUP)
    process.said("the old configuration stays")
    for reason in ("gateway_allow: 'not a name' is not a certname", "read_timeout"):
        assert reason in process.text
    assert str(service.path) in process.text
    assert submit(process.port, site.pki.client).server == site.proxy.port
    third = site.server()
    service.write(server_urls=(Endpoint("localhost", third.port),), gateway_allow=("server",))
    process.signal(signal.SIGHUP)
    process.said("reloaded: asked to")
    assert ask(process.port, site.pki.client).status == 403
    assert submit(process.port, site.pki.server).server == third.port
    service.path.unlink()
    process.signal(signal.SIGHUP)
    process.said("the old configuration stays", 2)
    assert submit(process.port, site.pki.server).server == third.port
    assert "Traceback" not in process.text


def test_a_reload_that_fails_is_tried_again_until_it_is_done(
    site: Site, service: GatewayService, tmp_path: Path
) -> None:
    """H14: a revoked client got in until the next SIGHUP."""
    service.write(gateway_allow=("client", "soon-revoked"))
    process = service.run().up()
    client = site.pki.authority.issue("soon-revoked")
    assert not kept_out(process.port, client)
    good = service.path.read_text()
    service.path.write_text(good + "no_such_setting = 1\nread_timeout = ?\n")
    (tmp_path / "new").mkdir()
    revoking(site.pki, tmp_path / "new", client).replace(some(service.tls.crl))
    process.said("the old configuration stays in force: ")
    time.sleep(0.5)
    assert process.text.count("the old configuration stays") == 1, "it is said once a minute"
    service.path.write_text(good)
    process.said("reloaded: a certificate or the revocation list was replaced")
    assert kept_out(process.port, client)
    assert not kept_out(process.port, site.pki.client)


def test_a_reload_for_which_there_is_no_descriptor_leaves_the_old_configuration(service: GatewayService) -> None:
    """H13: the process ended, with exit code 1."""
    process = service.run().up()
    pid = process.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(process.descriptors()), limits[1]))
    process.signal(signal.SIGHUP)
    process.said("the old configuration stays in force: ")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    process.said("reloaded: asked to")
    assert process.process.poll() is None
    process.signal(signal.SIGTERM)
    assert process.ended() == 0


def test_nobody_waits_while_the_configuration_is_read(site: Site, service: GatewayService) -> None:
    """H10: everything stopped while the host's name was looked up. Here, a file that does not come."""
    process = service.run().up()
    text = service.path.read_text()
    service.path.unlink()
    os.mkfifo(service.path)
    process.signal(signal.SIGHUP)
    time.sleep(0.5)
    for _ in range(10):
        assert ask(process.port, site.pki.client).status == 200
    assert "reloaded" not in process.text
    service.path.write_text(text)
    process.said("reloaded: asked to")


def test_connections_that_never_speak_tls_take_no_descriptor_from_a_server(
    site: Site, service: GatewayService
) -> None:
    """H11: 80 of them with 64 descriptors shut the healthy server out."""
    process = service.run().up()
    pid = process.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, limits[1]))
    process.signal(signal.SIGHUP)
    process.said("reloaded: asked to")
    with ExitStack() as stack:
        kept = stack.enter_context(connected(process.port, site.pki.client))
        for _ in range(80):
            stack.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=10))
            # In the middle of the flood, too.
            answer = ask(process.port, site.pki.client)
            assert (answer.status, answer.server) == (200, site.proxy.port)
        assert submit(process.port, site.pki.client).server == site.proxy.port
        kept.sendall(b"GET /pdb/query/v4/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200"), "whoever is inside stays"
        assert len(process.descriptors()) < 64
    assert process.text.count("without TLS yet") == 1
    assert "Too many open files" not in process.text


@pytest.mark.parametrize("setting", ["gateway_local_url", "gateway_status_port"])
def test_idle_connections_in_clear_text_take_no_descriptor_from_puppet(
    site: Site, service: GatewayService, setting: str
) -> None:
    """120 of them with 96 descriptors: no command got in, and the log was tracebacks of what could not be logged."""
    port = free_port()
    service.write()
    value = port if setting == "gateway_status_port" else f"http://127.0.0.1:{port}"
    service.path.write_text(f"{service.path.read_text()}{setting} = {value}\n")
    process = service.run().up()
    pid = process.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (96, limits[1]))
    process.signal(signal.SIGHUP)
    process.said("reloaded: asked to")
    with ExitStack() as stack:
        for number in range(120):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if number % 10 == 9:
                assert submit(process.port, site.pki.client).server == site.proxy.port
        time.sleep(1.1)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as late:
            target = b"/status" if setting == "gateway_status_port" else b"/pdb/query/v4/nodes"
            late.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in late.recv(100), "who has something to ask gets in"
        assert len(process.descriptors()) < 90
    assert "Too many open files" not in process.text
    assert "Traceback" not in process.text


def test_it_ends_while_the_configuration_is_read(service: GatewayService, took: Callable[[], float]) -> None:
    process = service.run().up()
    service.path.unlink()
    os.mkfifo(service.path)
    process.signal(signal.SIGHUP)
    time.sleep(0.5)
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    assert process.text.splitlines()[-1].endswith("pdbclient.gateway: ended")


def test_sigterm_lets_an_answer_out_to_whoever_reads_slowly(site: Site, service: GatewayService) -> None:
    """Its handler is done, its bytes are in buffers: the process ended without them."""
    rows = b"[" + b",".join([json.dumps({"a": "x" * 990}).encode()] * 6000) + b"]"
    site.primary.reply = lambda request: answer(rows) if request.is_query else healthy(request)
    process = service.run().up()
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    plain.settimeout(10)
    plain.connect(("127.0.0.1", process.port))
    with client_context(site.pki.client).wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(f"GET {NODES} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        received = sock.recv(4096)
        process.signal(signal.SIGTERM)
        while piece := sock.recv(16384):
            received += piece
            time.sleep(0.003)
    assert received.endswith(rows[-1000:])
    assert len(received.partition(b"\r\n\r\n")[2]) == len(rows)
    assert process.ended() == 0


def test_no_connection_is_lost_in_a_reload(site: Site, service: GatewayService) -> None:
    """H15: 18 of 223."""
    process = service.run().up()
    over, lost, served = threading.Event(), [], []

    def come_and_go() -> None:
        while not over.is_set():
            try:
                served.append(ask(process.port, site.pki.client).status)
            except OSError as error:
                lost.append(error)

    clients = [threading.Thread(target=come_and_go) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for number in range(10):
            process.signal(signal.SIGHUP)
            process.said("reloaded: ", number + 1)
            assert eventually(lambda: len(served) >= 5 * (number + 1), 20)  # noqa: B023
    finally:
        over.set()
        for client in clients:
            client.join()
    assert lost == []
    assert set(served) == {200}


def test_a_reload_that_fails_serves_nobody_and_loses_no_connection(site: Site, service: GatewayService) -> None:
    """It fails last, at the status port: by then the new one accepted, and what it had accepted was cut."""
    process = service.run(daemon__FILES_INTERVAL=0.1).up()
    good = service.path.read_text()
    over, told = threading.Event(), []

    def come_and_go() -> None:
        while not over.is_set():
            try:
                told.append(str(ask(process.port, site.pki.client).status))
            except OSError as error:
                told.append(repr(error))

    clients = [threading.Thread(target=come_and_go) for _ in range(4)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = good.replace("gateway_allow = client", "gateway_allow = somebody-else")
        service.path.write_text(f"{other}gateway_status_port = {taken.getsockname()[1]}\n")
        for client in clients:
            client.start()
        try:
            process.signal(signal.SIGHUP)
            process.said("the old configuration stays in force: gateway_status_port")
            assert eventually(lambda: len(told) >= 400, 60)
        finally:
            over.set()
            for client in clients:
                client.join()
    assert set(told) == {"200"}
    assert process.text.count("listening at") == 1
    service.path.write_text(good)
    process.said("reloaded: asked to")
    assert process.text.count("listening at") == 2


def test_sighup_keeps_what_was_known_of_the_servers(site: Site, service: GatewayService) -> None:
    site.proxy.fault = BlackHole()
    process = service.run().up()
    assert submit(process.port, site.pki.client).server == site.replica.port
    process.signal(signal.SIGHUP)
    process.said("reloaded: ")
    met = site.proxy.connections
    began = time.monotonic()
    for number in range(10):
        assert submit(process.port, site.pki.client, f"node{number}.example").server == site.replica.port
    assert time.monotonic() - began < 0.6 * 3, "nobody waited for the dead one again"
    assert site.proxy.connections - met <= 1


def test_signals_that_come_fast_are_all_heard(service: GatewayService) -> None:
    process = service.run().up()
    for _ in range(30):
        process.signal(signal.SIGHUP)
        time.sleep(0.003)
    service.write(gateway_allow=("last",))
    process.signal(signal.SIGHUP)
    process.said("for last, in front of")
    process.signal(signal.SIGTERM)
    assert process.ended() == 0


def hang_up() -> None:
    """Send SIGHUP to this process once it is the gateway's: before, it would be the end of it."""
    end = time.monotonic() + 60
    while signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGHUP)


def test_a_sighup_during_a_reload_is_another_reload(site: Site, service: GatewayService) -> None:
    loads: list[int] = []
    service.write()

    def load() -> ClientConfig:
        loads.append(len(loads))
        if len(loads) < 4:
            os.kill(os.getpid(), signal.SIGHUP) if len(loads) > 1 else starter.start()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        return service.config

    # One signal from outside begins it; another ends it should the ones from within have been lost.
    starter = threading.Thread(target=hang_up)
    last = threading.Timer(6, os.kill, (os.getpid(), signal.SIGTERM))
    last.start()
    try:
        Gateway(load).run()
    finally:
        last.cancel()
        last.join()
        starter.join()
    assert len(loads) == 4


@pytest.mark.parametrize("late", [0.0, 0.05, None], ids=["at once", "while it ends", "afterwards"])
def test_a_reload_that_nobody_waits_for_leaves_nothing(
    service: GatewayService, tmp_path: Path, late: float | None
) -> None:
    """The gateway is told to end while it reads its configuration, which is done then, in between, or afterwards."""
    loads: list[int] = []
    ended, read = threading.Event(), threading.Event()
    service.write(journal=str(tmp_path / "journal"))

    def load() -> ClientConfig:
        loads.append(len(loads))
        if len(loads) > 1:
            os.kill(os.getpid(), signal.SIGTERM)
            ended.wait(late)
            read.set()
        return service.config

    starter = threading.Thread(target=hang_up)
    starter.start()
    Gateway(load).run()
    ended.set()
    starter.join()
    assert read.wait(10)
    assert len(loads) == 2
    # And `no_leaks` sees that all of it was let go of.


def failed(service: GatewayService, code: int) -> str:
    """The one line that it says when it cannot start."""
    process = service.run()
    assert process.ended() == code, process.text
    (line,) = process.text.splitlines()
    assert line.startswith("pdbclient: ")
    return line


def test_a_taken_port_is_one_line_and_exit_code_1(site: Site, service: GatewayService) -> None:
    service.write(gateway_url=Endpoint("localhost", site.replica.port), server_urls=service.config.server_urls[:1])
    assert f"gateway_url https://localhost:{site.replica.port}: another process listens" in failed(service, 1)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_that_is_not_this_machine_is_one_line_and_exit_code_1(service: GatewayService, host: str) -> None:
    service.write(gateway_url=Endpoint(host, 8085))
    line = failed(service, 1)
    assert f"gateway_url https://{host}:8085" in line
    assert "this machine" in line


def test_no_gateway_url_is_one_line_and_exit_code_2(service: GatewayService) -> None:
    service.write()
    text = service.path.read_text()
    service.path.write_text(re.sub(r"gateway_url = .*\n", "", text))
    line = failed(service, 2)
    assert "gateway_url" in line
    assert str(service.path) in line


def test_a_certificate_that_is_not_there_is_one_line_and_exit_code_2(service: GatewayService) -> None:
    some(service.tls.key).unlink()
    line = failed(service, 2)
    assert str(service.tls.key) in line
    assert "ssl_key" in line


def test_an_address_that_others_can_reach_is_said(site: Site, service: GatewayService, tmp_path: Path) -> None:
    process = service.run().up()
    assert "other machines can reach" not in process.text, "localhost is this machine's own"
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    (tmp_path / "log").unlink()
    port = service.config.gateway_url.port if service.config.gateway_url else 0
    # Puppet would not use such a name; whoever has it in a certificate may.
    everywhere = site.pki.authority.issue("everywhere", names=["localhost", "0.0.0.0"])
    service.write(gateway_url=Endpoint("0.0.0.0", port), tls=everywhere)
    process = service.run()
    process.said("WARNING pdbclient.gateway: 0.0.0.0 port")
    assert "other machines can reach this address" in process.text


def test_it_gives_back_what_it_took(site: Site, service: GatewayService) -> None:
    process = service.run().up()
    for _ in range(3):
        ask(process.port, site.pki.client)
    before = process.descriptors()
    for number in range(60):
        assert submit(process.port, site.pki.client, f"node{number}.example").status == 200
        assert ask(process.port, site.pki.client).status == 200
        with connected(process.port, site.pki.client):
            pass
    for times in range(5):
        process.signal(signal.SIGHUP)
        process.said("reloaded: ", times + 1)
    ask(process.port, site.pki.client)
    assert eventually(lambda: len(process.descriptors()) <= len(before) + 2), process.descriptors()
    assert process.children() == []
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "Traceback" not in process.text


def test_it_ends_while_every_server_is_silent(site: Site, service: GatewayService, took: Callable[[], float]) -> None:
    site.proxy.fault = BlackHole()
    site.replica.reply = HeldAnswers()
    service.write(gateway_health_interval=0.1)
    process = service.run().up()
    time.sleep(0.5)
    took()
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    assert took() < 4.5
    site.replica.reply.over.set()


def test_help_says_what_the_signals_do() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pdbclient", "gateway", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        check=True,
    )
    for word in ("SIGTERM", "SIGHUP", "gateway_url", "gateway_allow", "exit codes"):
        assert word in told.stdout
