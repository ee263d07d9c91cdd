"""Commands through the gateway: every fault of a server costs Puppet a failover at most, and no command its bytes."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pdbclient.config import Endpoint
from pdbclient.config.model import Timeouts
from pdbclient.gateway import exchange
from pdbclient.gateway.intake import command_from
from pdbclient.http.outcome import Operation
from pdbclient.wire import Command

from .conftest import Site
from .fake import Answer, Fake, Request, answer
from .gateway import FACTS, FACTS_URL, GatewayThread, ask, gateway_config, submit
from .proxy import BlackHole, Fault, Reset, syn_black_hole

Start = Callable[..., GatewayThread]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of these ports, else of the proxy and the replica."""
    with ExitStack() as stack:

        def run(*ports: int, **changes: Any) -> GatewayThread:
            config = gateway_config(site.config(*ports), site.pki.server, **changes)
            return stack.enter_context(GatewayThread(config))

        yield run


def params(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.target).query, keep_blank_values=True)


def test_a_command_goes_to_the_first_server_and_its_uuid_comes_back(site: Site, start: Start) -> None:
    site.primary.reply = answer({"uuid": "the-uuid"})
    told = submit(start().port, site.pki.client)
    assert (told.status, told.json) == (200, {"uuid": "the-uuid"})
    assert told.headers["Content-Type"] == "application/json; charset=utf-8"
    (sent,) = site.primary.commands
    assert sent.body == FACTS
    assert site.replica.requests == []


FAULTS: dict[str, Fault | Answer | str] = {
    "refused": "refused",
    "SYN black hole": "syn",
    "TLS black hole": BlackHole(),
    "reset after the body": Reset(sent=1500, grace=0.3),
    "503": answer(b"maintenance", 503, Content_Type="text/plain"),
    "500": answer(b"oops", 500, Content_Type="text/plain"),
    "404 of something else": answer(b"<html></html>", 404, Content_Type="text/html"),
    "403": answer(b"Permission denied", 403, Content_Type="text/plain"),
    "200 without a uuid": answer({}),
    "200 with HTML": answer(b"<html>It works!</html>", Content_Type="text/html"),
    "200 and an error": answer({"error": "no"}),
    "200 cut off": Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"], close=True),
    "closed": Answer([], close=True),
}


@contextmanager
def faulty(site: Site, fault: Fault | Answer | str) -> Iterator[int]:
    """The port of a primary with that fault."""
    if fault == "syn":
        with syn_black_hole() as port:
            yield port
        return
    if fault == "refused":
        site.proxy.refuse()
    elif isinstance(fault, Answer):
        site.primary.reply = fault
    else:
        assert not isinstance(fault, str)
        site.proxy.fault = fault
    yield site.proxy.port


@pytest.mark.parametrize("what", FAULTS)
def test_a_command_that_the_first_server_does_not_take_goes_to_the_next(site: Site, start: Start, what: str) -> None:
    site.replica.reply = answer({"uuid": "from the replica"})
    with faulty(site, FAULTS[what]) as port:
        told = submit(start(port, site.replica.port).port, site.pki.client)
    assert (told.status, told.json) == (200, {"uuid": "from the replica"})
    assert (told.server, told.headers["X-Pdbclient-Failed-Over"]) == (site.replica.port, "true")
    assert [request.body for request in site.replica.commands] == [FACTS]


@pytest.mark.parametrize("stamp", ["", "&producer-timestamp=2026-01-31T13:00:00.500%2B01:00"], ids=["none", "given"])
def test_the_next_server_gets_the_same_bytes_and_the_same_timestamp(site: Site, start: Start, stamp: str) -> None:
    site.primary.reply = answer(b"", 500)
    gateway = start()
    assert ask(gateway.port, site.pki.client, FACTS_URL + stamp, "POST", FACTS).status == 200
    (first,), (second,) = site.primary.commands, site.replica.commands
    assert (first.target, first.body) == (second.target, second.body)
    assert params(second)["producer-timestamp"] == [json.loads(FACTS)["producer_timestamp"]]


def test_a_compressed_body_goes_on_untouched(site: Site, start: Start) -> None:
    site.primary.reply = answer(b"", 500)
    packed = gzip.compress(FACTS, 9, mtime=12345)
    told = submit(
        start().port, site.pki.client, body=packed, Content_Encoding="gzip", X_Uncompressed_Length=str(len(FACTS))
    )
    assert told.status == 200
    for request in (*site.primary.commands, *site.replica.commands):
        assert request.body == packed
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["x-uncompressed-length"] == str(len(FACTS))
    assert len(site.replica.commands) == 1


def test_the_old_form_arrives_as_the_new_one_with_the_payloads_own_text(site: Site, start: Start) -> None:
    payload = '{"certname":"a b/%+&.example","values":{"n":1.50,"big":123456789012345678901234567890},"é":"\\u00e9"}'
    body = '{"command":"replace facts","version":5,"payload": ' + payload + " }"
    told = ask(start().port, site.pki.client, "/pdb/cmd/v1", "POST", body.encode())
    assert told.status == 200
    (sent,) = site.primary.commands
    assert sent.body == payload.encode()
    assert params(sent)["certname"] == ["a b/%+&.example"]
    assert params(sent)["command"] == ["replace_facts"]


def test_a_body_is_read_in_a_thread_of_its_own(site: Site, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one would hold up everybody else."""
    threads = []

    def noted(*args: Any, **options: Any) -> Command:
        threads.append(threading.current_thread().name)
        return command_from(*args, **options)

    monkeypatch.setattr(exchange, "command_from", noted)
    assert submit(start().port, site.pki.client).status == 200
    (name,) = threads
    assert name.startswith("pdbclient-commands"), name


def test_what_gzip_makes_too_large_is_refused(site: Site, start: Start) -> None:
    gateway = start(gateway_max_body_bytes=1_000_000)
    bomb = gzip.compress(FACTS + b" " * 2_000_000)
    assert len(bomb) < 10_000
    told = submit(gateway.port, site.pki.client, body=bomb, Content_Encoding="gzip")
    assert (told.status, "gateway_max_body_bytes" in told.json["error"]) == (413, True)
    assert site.primary.requests == []


VERDICTS = {
    "400 JSON": answer({"error": "no such version"}, 400),
    "413": answer(b"too large", 413, Content_Type="text/plain"),
    "415": answer(b"content type text/x not supported", 415, Content_Type="text/plain;charset=utf-8"),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_a_servers_verdict_on_the_command_comes_back_as_it_is_and_nobody_else_is_asked(
    site: Site, start: Start, what: str
) -> None:
    site.primary.reply = VERDICTS[what]
    gateway = start()
    for _ in range(4):
        told = submit(gateway.port, site.pki.client)
        head, _, body = b"".join(VERDICTS[what].pieces).partition(b"\r\n\r\n")
        assert told.status == int(head.split()[1])
        assert told.body == body
        assert f"Content-Type: {told.headers['Content-Type']}".encode() in head
        assert told.server == site.proxy.port
    assert len(site.primary.commands) == 4, "such a verdict shuts no server out"
    assert site.replica.requests == []


def test_with_every_server_down_the_answer_says_what_each_of_them_met(site: Site, start: Start) -> None:
    site.proxy.refuse()
    site.replica.reply = answer(b"PuppetDB is down for maintenance", 503, Retry_After="7")
    told = submit(start().port, site.pki.client)
    assert told.status == 503
    assert told.headers["Retry-After"] is None, "the stock terminus would sleep"
    reason = told.json["error"]
    assert f"https://localhost:{site.proxy.port}: not sent: no connection: Connection refused" in reason
    assert f"https://localhost:{site.replica.port}: busy HTTP 503: PuppetDB is down for maintenance" in reason


def test_a_broadcast_succeeds_with_as_many_servers_as_it_needs(site: Site, start: Start) -> None:
    gateway = start(command_broadcast=True)
    told = submit(gateway.port, site.pki.client)
    assert (told.status, told.server, told.headers["X-Pdbclient-Failed-Over"]) == (200, site.proxy.port, "false")
    assert [len(server.commands) for server in (site.primary, site.replica)] == [1, 1]
    assert site.primary.commands[0].target == site.replica.commands[0].target
    site.proxy.refuse()
    told = submit(gateway.port, site.pki.client)
    assert (told.status, told.server, told.headers["X-Pdbclient-Failed-Over"]) == (200, site.replica.port, "true")


def test_a_broadcast_that_too_few_servers_take_is_no_success(site: Site, start: Start) -> None:
    gateway = start(command_broadcast=True, min_successful_submissions=2)
    assert submit(gateway.port, site.pki.client).status == 200
    site.primary.reply = answer(b"", 500)
    told = submit(gateway.port, site.pki.client)
    assert told.status == 503
    assert "1 of the 2 servers it needs took it" in told.json["error"]
    site.primary.reply = answer({"error": "bad command"}, 400)
    assert submit(gateway.port, site.pki.client).status == 400


def test_a_dead_primary_is_met_once_however_many_connections_the_commands_come_on(site: Site, start: Start) -> None:
    site.proxy.fault = BlackHole()
    gateway = start()
    submit(gateway.port, site.pki.client)
    met = site.proxy.connections
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: submit(gateway.port, site.pki.client, f"node{n}.example"), range(100)))
    assert {each.status for each in told} == {200}
    # The background probes come every few seconds at the earliest.
    assert site.proxy.connections - met <= 2
    assert len({request.target for request in site.replica.commands}) == 101


def test_commands_under_way_together_pay_for_an_outage_together(site: Site, start: Start) -> None:
    # Time enough for 16 handshakes at once with the server that is well, on a busy machine.
    gateway = start(timeouts=Timeouts(attempt=20.0, connect=2.0, read=5.0, operation=16.0))
    site.proxy.fault = BlackHole()
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda n: submit(gateway.port, site.pki.client, f"node{n}.example"), range(64)))
    assert {each.status for each in told} == {200}
    # 16 commands at a time, and a health check now and then.
    assert site.proxy.connections < 32, "four rounds would have gone there"
    assert not gateway.registry.usable(gateway.config.server_urls[0], Operation.COMMAND)


def test_a_submit_only_server_gets_commands_when_the_others_are_down(site: Site, start: Start) -> None:
    site.proxy.refuse()
    spare: Fake = site.server()
    gateway = start(
        site.proxy.port, submit_only_server_urls=(Endpoint("localhost", spare.port, 1, submit_only=True),)
    )
    told = submit(gateway.port, site.pki.client)
    assert (told.status, told.server, told.headers["X-Pdbclient-Failed-Over"]) == (200, spare.port, "true")
    assert ask(gateway.port, site.pki.client).status == 503, "it answers no query"
    assert spare.queries == []


def test_a_refusal_of_the_gateway_itself_reaches_no_server(site: Site, start: Start) -> None:
    gateway = start()
    for target in (FACTS_URL + "&x=1", FACTS_URL + "&version=5", "/pdb/cmd/v1?command=eat_cake&version=1&certname=a"):
        told = ask(gateway.port, site.pki.client, target, "POST", FACTS)
        assert (told.status, list(told.json)) == (400, ["error"])
    assert site.primary.requests == site.replica.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"command":"replace facts","version":5,"payload":{"certname":"\xff"}}',
        b'{"command":"replace facts","version":5,"payload":{"certname":1e999}}',
        json.dumps(
            {
                "command": "replace facts",
                "version": 5,
                "payload": {"certname": "a", "producer_timestamp": "0001-01-01T00:00:00+18:00"},
            }
        ).encode(),
    ],
    ids=["not UTF-8", "infinite", "before the first year"],
)
def test_odd_old_forms_are_no_errors_of_the_gateway(site: Site, start: Start, body: bytes) -> None:
    told = ask(start().port, site.pki.client, "/pdb/cmd/v1", "POST", body)
    assert told.status in (200, 400)
