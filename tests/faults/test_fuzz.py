"""Requests that are spoilt in any place, and answers that are none: no traceback, and no false acknowledgement.

In every run some, always the same; in the long form 18,000, always others.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from pdbclient import PdbError
from pdbclient.config.model import Timeouts
from tests.soak import LONG, rounds

from .conftest import Site, deactivation
from .fake import Answer, Request, answer, healthy, queued
from .gateway import FACTS, FACTS_URL, GatewayThread, client_context, gateway_config
from .test_answers import BODILESS, BROKEN
from .test_deadlines import DRIPS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)] if LONG else []

INPUTS = rounds(130, 18_000)
QUICK = Timeouts(attempt=5.0, connect=1.0, read=1.0, operation=3.0, query=2.0)


def request(line: str, body: bytes = b"", **headers: str) -> bytes:
    lines = {"Host": "localhost", "Connection": "close"} | {k.replace("_", "-"): v for k, v in headers.items()}
    if body:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "\r\n".join([f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""])
    return head.encode() + body


OLD_FORM = json.dumps({"command": "replace facts", "version": 5, "payload": json.loads(FACTS)}).encode()
PACKED = gzip.compress(FACTS, mtime=0)
GOOD = [
    request(f"POST {FACTS_URL}", FACTS),
    request(f"POST {FACTS_URL}&producer-timestamp=2026-01-31T12:00:00.000Z", FACTS),
    request(f"POST {FACTS_URL}", PACKED, Content_Encoding="gzip", X_Uncompressed_Length=str(len(FACTS))),
    request("POST /pdb/cmd/v1", OLD_FORM),
    request(f"POST {FACTS_URL}&secondsToWaitForCompletion=1", FACTS),
    request("POST /pdbclient/v1/report", b'{"host": "a.example", "metrics": {}, "logs": []}'),
    request("GET /pdb/query/v4/nodes?query=%5B%22%3D%22,%22certname%22,%22a%22%5D", Accept_Encoding="gzip"),
    request("POST /pdb/query/v4", b'{"query": "nodes { certname = \'a\' }"}', Accept="application/json"),
    request("GET /pdb/query/v4/resources?query=exported"),
    request("GET /status/v1/services/puppetdb-status"),
    request("GET /pdbclient/v1/metrics"),
]
PIECES = [
    *(b"\x00", b"\xff", b"\r\n", b"\r\n\r\n", b" ", b":", b"%", b"%00", b"{", b'"', b"-1", b"\\ud800"),
    *(b"9" * 400, b"[" * 5000),
]


def spoilt(good: bytes, choice: random.Random) -> bytes:
    """`good` with one to three things done to it, anywhere."""
    data = bytearray(good)
    for _ in range(choice.randint(1, 3)):
        at = choice.randrange(len(data) + 1)
        match choice.randrange(6):
            case 0:
                data[at : at + 1] = bytes([choice.randrange(256)])
            case 1:
                data[at:at] = choice.choice(PIECES)
            case 2:
                del data[at : at + choice.randint(1, 20)]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + choice.randint(1, 200)]
            case _:
                other = choice.choice(GOOD)
                data[at:] = other[choice.randrange(len(other)) :]
        if not data:
            break
    return bytes(data)


def told(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    """What the gateway says to that, as far as it says anything."""
    heard = b""
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=8) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(data)
        while more := sock.recv(65536):
            heard += more
    return heard


@pytest.fixture
def gateway(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayThread]:
    # What does not come is not waited for.
    monkeypatch.setattr("pdbclient.gateway.exchange.BODY_PATIENCE", 0.2)
    monkeypatch.setattr("pdbclient.gateway.server.IDLE_LIMIT", 0.2)
    with ExitStack() as stack:
        yield stack.enter_context(GatewayThread(gateway_config(site.config(timeouts=QUICK), site.pki.server)))


def test_requests_that_are_spoilt(site: Site, gateway: GatewayThread, caplog: pytest.LogCaptureFixture) -> None:
    # It does not look into queries, which may be anything.
    site.primary.reply = site.replica.reply = lambda request: queued() if request.is_command else answer([])
    seed = random.SystemRandom().randrange(2**32) if LONG else 13
    choice = random.Random(seed)
    context = client_context(site.pki.client)
    answered = 0
    for number in range(INPUTS):
        data = spoilt(GOOD[number % len(GOOD)], choice)
        taken = len(site.primary.commands) + len(site.replica.commands)
        heard = told(gateway.port, context, data)
        case = f"seed {seed}, input {number}: {data[:300]!r} -> {heard[:200]!r}"
        status = heard[9:12]
        answered += status.isdigit()
        assert status != b"500", case
        if b'{"uuid"' in heard and status == b"200":
            assert len(site.primary.commands) + len(site.replica.commands) > taken, case
        trouble = [record.getMessage() for record in caplog.records if record.exc_info]
        assert trouble == [], case
        caplog.clear()
    assert answered > INPUTS / 4
    assert told(gateway.port, context, GOOD[0]).startswith(b"HTTP/1.1 200")


def scripted() -> Iterator[tuple[str, Answer]]:
    """Answers to a command of which none is an acknowledgement."""
    yield from (BROKEN | BODILESS).items()
    statuses = (*(201, 202, 204, 206, 300, 301, 302, 304, 307), *range(400, 418), 429, *range(500, 506))
    for status in statuses:
        yield f"status {status}", answer({"uuid": "1b5ad2e0-0000-4000-8000-000000000001"}, status)
    texts = ("{}", '{"uuid": null}', '{"uuid": 1}', '{"uuid": ["x"]}', '["uuid"]', '"uuid"', '{"UUID": "x"}')
    for body in map(str.encode, texts):
        yield f"200 {body!r}", answer(body)


SCRIPTED = dict(scripted())


@pytest.mark.parametrize("name", [*SCRIPTED, *(f"dripping {where}" for where in DRIPS)])
def test_answers_that_acknowledge_nothing(
    site: Site, gateway: GatewayThread, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def reply(request: Request) -> Answer:
        if not request.is_command:
            return healthy(request)
        if name in SCRIPTED:
            return SCRIPTED[name]
        dripping = DRIPS[name.removeprefix("dripping ")]
        return dripping(request)

    site.primary.reply = site.replica.reply = reply
    heard = told(gateway.port, client_context(site.pki.client), GOOD[0])
    assert heard.startswith(b"HTTP/1.1 "), heard
    assert not heard.startswith(b"HTTP/1.1 200"), heard
    with pytest.raises(PdbError):
        site.client(timeouts=QUICK).submit(deactivation())
    assert not [record for record in caplog.records if record.exc_info]
