"""The status port of the gateway: what it shows, and that a reload keeps it, moves it and closes it."""

from __future__ import annotations

import http.client
import re
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.config import ClientConfig
from pdbclient.errors import StatusError
from pdbclient.gateway.server import Server
from pdbclient.gateway.status import StatusPage
from pdbclient.lab.ports import free_port
from pdbclient.observe.page.document import Document
from pdbclient.observe.status_client import read_document

from .conftest import Site
from .fake import answer
from .gateway import GatewayProcess, eventually, gateway_config, submit, write_config
from .proxy import Reset


def configured(path: Path, config: ClientConfig, port: int | None, **settings: object) -> Path:
    write_config(path, config)
    with path.open("a") as file:
        for name, value in {"gateway_status_port": port, **settings}.items():
            if value is not None:
                file.write(f"{name} = {value}\n")
    return path


def get(port: int, target: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def always_there(port: int, target: str) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return all(get(port, target)[0] == 200 for _ in range(20))
    return False


def shows(port: int, what: Callable[[Document], bool]) -> Document:
    assert eventually(lambda: what(read_document(port, "pdbclient gateway")), 20)
    return read_document(port, "pdbclient gateway")


def test_it_shows_requests_failovers_circuits_and_the_journal_as_they_are(site: Site, tmp_path: Path) -> None:
    port = free_port()
    config = gateway_config(site.config(), site.pki.server)
    path = configured(tmp_path / "puppetdb.conf", config, port, journal=tmp_path / "journal")
    primary, replica = (each.url for each in config.server_urls)
    with GatewayProcess(path, config.gateway_url.port if config.gateway_url else 0, tmp_path / "log") as gateway:
        gateway.said("status page at")
        told = shows(port, lambda document: document.journal is not None and document.journal.counted)
        assert [(each.url, [c.state for c in each.circuits]) for each in told.servers] == [
            (primary, ["closed", "closed"]),
            (replica, ["closed", "closed"]),
        ]
        assert {each.setting for each in told.certificates} >= {"ssl_cert", "ssl_ca_cert"}

        assert submit(gateway.port, site.pki.client).status == 200
        site.proxy.fault = Reset(0)
        assert submit(gateway.port, site.pki.client).headers["X-Pdbclient-Failed-Over"] == "true"
        told = shows(port, lambda document: document.requests[0].endings.get("answered") == 2)
        (failover,) = told.failovers
        assert (failover.kind, failover.source, failover.target) == ("command", primary, replica)
        (outage,) = told.outages
        assert (outage.server, outage.ended) == (primary, None)
        assert {circuit.why for circuit in told.servers[0].circuits} == {outage.why}
        assert re.match(r"[a-z ]+: .+", outage.why)
        assert (told.servers[0].failed, told.servers[1].answered) == (1, 1)
        assert told.requests[0].p50 is not None
        assert told.journal is not None
        assert (told.journal.answers, told.journal.place) == (True, str(tmp_path / "journal"))

        status, body = get(port, "/")
        assert (status, f"{primary} is unhealthy" in body) == (200, True)
        assert get(port, "/metrics")[1].count("pdbclient_server_usable{") == 4
        gateway.signal(signal.SIGTERM)
        assert gateway.ended() == 0
    assert not listens(port)


def test_nothing_of_a_puppetdb_is_passed_on_there_and_pages_of_other_sites_see_nothing(
    site: Site, tmp_path: Path
) -> None:
    port = free_port()
    site.primary.reply = answer([{"certname": "a.example"}])
    config = gateway_config(site.config(), site.pki.server)
    path = configured(tmp_path / "puppetdb.conf", config, port)
    with GatewayProcess(path, config.gateway_url.port if config.gateway_url else 0, tmp_path / "log") as gateway:
        gateway.said("status page at")
        assert get(port, "/pdb/query/v4/nodes")[0] == 404
        assert get(port, "/", Host="evil.example")[0] == 403
        assert get(port, "/", Origin="https://evil.example")[0] == 403
    assert site.primary.queries == []


def test_a_reload_keeps_it_moves_it_and_closes_it_and_what_was_counted_stays(site: Site, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    config = gateway_config(site.config(), site.pki.server)
    path = configured(tmp_path / "puppetdb.conf", config, first)
    with GatewayProcess(path, config.gateway_url.port if config.gateway_url else 0, tmp_path / "log") as gateway:
        gateway.said("status page at")
        assert submit(gateway.port, site.pki.client).status == 200
        gateway.signal(signal.SIGHUP)
        gateway.said("reloaded: asked to")
        before = shows(first, lambda document: document.requests[0].endings == {"answered": 1})

        configured(path, config, second)
        gateway.signal(signal.SIGHUP)
        gateway.said("reloaded: asked to", 2)
        after = read_document(second, "pdbclient gateway")
        assert (after.program, after.requests) == (before.program, before.requests)
        assert not listens(first)

        with socket.create_server(("127.0.0.1", first)):
            configured(path, config, first)
            gateway.signal(signal.SIGHUP)
            gateway.said(f"gateway_status_port {first}: cannot listen on 127.0.0.1: another process listens there")
            assert listens(second)
        # It is tried again, by itself.
        assert eventually(lambda: listens(first) and not listens(second), 20)

        configured(path, config, None)
        gateway.signal(signal.SIGHUP)
        assert eventually(lambda: not listens(first), 10)
        assert submit(gateway.port, site.pki.client).status == 200
        assert "Traceback" not in gateway.text


def test_addresses_change_hands_within_the_gateway(site: Site, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    config = gateway_config(site.config(), site.pki.server)
    path = configured(tmp_path / "puppetdb.conf", config, first, gateway_local_url=f"http://127.0.0.1:{second}")
    with GatewayProcess(path, config.gateway_url.port if config.gateway_url else 0, tmp_path / "log") as gateway:
        gateway.up()
        for times, (status, local) in enumerate(((second, first), (first, second), (second, first)), 1):
            configured(path, config, status, gateway_local_url=f"http://127.0.0.1:{local}")
            gateway.signal(signal.SIGHUP)
            gateway.said("reloaded: asked to", times)
            # In a moment, whoever had it before has left it: none of the two answers now and then.
            assert eventually(lambda: always_there(status, "/status"))  # noqa: B023
            assert eventually(lambda: always_there(local, "/pdb/query/v4/nodes"))  # noqa: B023
        configured(path, config, None, gateway_local_url=f"http://127.0.0.1:{second}")
        gateway.signal(signal.SIGHUP)
        gateway.said("reloaded: asked to", 4)
        assert get(second, "/pdb/query/v4/nodes")[0] == 200
        assert eventually(lambda: not listens(first), 10)
        assert "Traceback" not in gateway.text
        assert "ERROR" not in gateway.text


def test_a_status_port_at_an_address_that_clients_have_now_does_not_stay_there(site: Site, tmp_path: Path) -> None:
    port = free_port()
    config = gateway_config(site.config(), site.pki.server)
    path = configured(tmp_path / "puppetdb.conf", config, port)
    with GatewayProcess(path, config.gateway_url.port if config.gateway_url else 0, tmp_path / "log") as gateway:
        gateway.up()
        configured(path, config, port, gateway_local_url=f"http://127.0.0.1:{port}")
        gateway.signal(signal.SIGHUP)
        gateway.said("the old configuration stays in force")
        assert get(port, "/status")[0] == 200


def test_a_port_that_is_taken_at_the_start_ends_it_with_one_line(site: Site, tmp_path: Path) -> None:
    config = gateway_config(site.config(), site.pki.server)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = configured(tmp_path / "puppetdb.conf", config, port)
        with GatewayProcess(path, config.gateway_url.port if config.gateway_url else 0, tmp_path / "log") as gateway:
            assert gateway.ended(30) == 1
            assert f"pdbclient: gateway_status_port {port}: cannot listen on 127.0.0.1" in gateway.text
            assert "Traceback" not in gateway.text


def test_a_server_whose_port_cannot_be_had_does_not_take_over(site: Site) -> None:
    config = gateway_config(site.config(), site.pki.server, gateway_status_port=free_port())
    page = StatusPage()
    server = Server.open(config)
    try:
        page.show(server)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = Server.open(replace(config, gateway_status_port=taken.getsockname()[1]), server)
            try:
                with pytest.raises(StatusError, match="another process listens there"):
                    page.show(other)
            finally:
                other.discard()
        assert config.gateway_status_port is not None
        assert read_document(config.gateway_status_port, "").program.name == "gateway"
        # A reload that comes to its end after the gateway does opens nothing any more.
        page.close()
        page.show(server)
        assert not listens(config.gateway_status_port)
    finally:
        page.close()
        server.discard()


def test_a_server_for_whose_page_there_is_no_thread_does_not_take_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gateway_config(site.config(), site.pki.server, gateway_status_port=free_port())
    page = StatusPage()
    server = Server.open(config)
    try:
        page.show(server)
        other = Server.open(replace(config, gateway_status_port=free_port()), server)
        try:
            with monkeypatch.context() as patched:
                patched.setattr("threading.Thread.start", no_thread)
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    page.show(other)
        finally:
            other.discard()
        assert config.gateway_status_port is not None
        assert read_document(config.gateway_status_port, "").program.name == "gateway"
    finally:
        page.close()
        server.discard()


def no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")
