"""A command whose client waits until it is processed: what a PuppetDB said of it, or what is known here."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from pdbclient.http.outcome import Operation
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries

from .conftest import Site
from .fake import Answer, Request, answer, healthy
from .gateway import FACTS, FACTS_URL, GatewayThread, Told, ask, eventually, gateway_config

Start = Callable[..., GatewayThread]
STAMP = "2026-01-31T12:00:00.000Z"
SECONDS = "secondsToWaitForCompletion"
DONE = {"processed": True, "timed_out": False}
NOT_YET = {"processed": False, "timed_out": True}
FAILED = {
    "processed": True,
    "timed_out": False,
    "error": "Unsupported command",
    "stack_trace": ["puppetlabs.puppetdb"],
}
"""What PuppetDB says beside the uuid, with 200, 503 and 503."""


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a gateway in front of the primary and the replica."""
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            config = gateway_config(site.config(site.primary.port, site.replica.port), site.pki.server, **changes)
            return stack.enter_context(GatewayThread(config))

        yield run


def says(status: int, document: dict[str, Any]) -> Callable[[Request], Answer]:
    """A server that says this of each command that it has taken."""
    return lambda _: answer({"uuid": str(uuid.uuid4()), **document}, status)


def wait(port: int, site: Site, seconds: str = "5", body: bytes = FACTS, **headers: str) -> Told:
    lines = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{FACTS_URL}&producer-timestamp={STAMP}&{SECONDS}={seconds}"
    return ask(port, site.pki.client, url, "POST", body, lines)


@pytest.mark.parametrize(("status", "document"), [(200, DONE), (503, NOT_YET), (503, FAILED)])
def test_what_the_server_says_of_it_is_passed_on(
    site: Site, start: Start, status: int, document: dict[str, Any]
) -> None:
    site.primary.reply = says(status, document)
    gateway = start()
    for _ in range(4):
        told = wait(gateway.port, site)
        assert (told.status, told.server) == (status, site.primary.port)
        assert {key: value for key, value in told.json.items() if key != "uuid"} == document
        uuid.UUID(told.json["uuid"])
    assert site.replica.commands == [], "a 503 with a uuid is a command that was taken"
    assert gateway.registry.usable(gateway.config.server_urls[0], Operation.COMMAND)


def test_the_server_gets_the_same_command_and_the_time_to_wait(site: Site, start: Start) -> None:
    site.primary.reply = says(200, DONE)
    port, body = start().port, gzip.compress(FACTS)
    told = wait(port, site, "2.5", body, Content_Encoding="gzip", X_Uncompressed_Length=str(len(FACTS)))
    assert told.status == 200
    (sent,) = site.primary.commands
    asked = {name: values[0] for name, values in parse_qs(sent.target.partition("?")[2]).items()}
    assert asked.pop("command") == "replace_facts"
    assert float(asked.pop(SECONDS)) == 2.5
    assert asked == {"version": "5", "certname": "node.example", "producer-timestamp": STAMP}
    assert (sent.body, sent.headers["content-encoding"]) == (body, "gzip")
    assert sent.headers["x-uncompressed-length"] == str(len(FACTS))


def test_a_server_may_be_silent_while_it_waits_for_longer_than_others_may(site: Site, start: Start) -> None:
    def slowly(request: Request) -> Answer:
        time.sleep(1.5)  # the read timeout of these tests is 0.6 s
        return says(200, DONE)(request)

    site.primary.reply = slowly
    told = wait(start().port, site, "2")
    assert (told.status, told.json["processed"], told.server) == (200, True, site.primary.port)


@pytest.mark.parametrize("seconds", ["60", "1e9", "1e999"])
def test_nobody_waits_longer_than_an_operation_may_take(site: Site, start: Start, seconds: str) -> None:
    site.primary.reply = says(503, NOT_YET)
    assert wait(start().port, site, seconds).status == 503
    (sent,) = site.primary.commands
    assert 1 < float(parse_qs(sent.target)[SECONDS][0]) < 5


@pytest.mark.parametrize("seconds", ["0", "-1", "0.0", "%200"])
def test_who_does_not_wait_gets_the_uuid_alone(site: Site, start: Start, seconds: str) -> None:
    assert wait(start().port, site, seconds).json.keys() == {"uuid"}
    (sent,) = site.primary.commands
    assert SECONDS not in sent.target


@pytest.mark.parametrize("seconds", ["x", "", "0x5", "NaN", "5;6", "5s"])
def test_what_is_no_number_of_seconds_is_refused(site: Site, start: Start, seconds: str) -> None:
    told = wait(start().port, site, seconds)
    assert told.status == 400
    assert SECONDS in told.json["error"]
    assert site.primary.commands == []


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"PuppetDB is currently down. Try again later.", 503, Content_Type="text/plain"),
        answer({"error": "busy"}, 503),
        answer(b"oops", 500),
        answer({}, 200),
        answer(b"{", 200),
        answer([], 503),
    ],
)
def test_who_did_not_take_it_is_passed_over(site: Site, start: Start, reply: Answer) -> None:
    site.primary.reply, site.replica.reply = reply, says(200, DONE)
    told = wait(start().port, site)
    assert (told.status, told.server, told.json["processed"]) == (200, site.replica.port, True)
    assert told.headers["X-Pdbclient-Failed-Over"] == "true"


def test_a_server_that_is_down_or_calls_it_bad(site: Site, start: Start) -> None:
    site.primary.reply = answer({"error": "bad"}, 400)
    told = wait(start().port, site)
    assert (told.status, told.json) == (400, {"error": "bad"})
    assert site.replica.commands == []
    site.primary.reply = site.replica.reply = answer(b"down", 503)
    assert "no PuppetDB could do it" in wait(start().port, site).json["error"]


def test_with_broadcast_nobody_waits_and_it_is_said(site: Site, start: Start) -> None:
    told = wait(start(command_broadcast=True).port, site)
    assert told.status == 400
    assert "command_broadcast" in told.json["error"]
    assert site.primary.commands == site.replica.commands == []


def test_with_a_journal_it_is_on_disk_first_and_then_as_the_server_says(
    site: Site, start: Start, tmp_path: Path
) -> None:
    site.primary.reply = says(503, FAILED)
    told = wait(start(journal=str(tmp_path / "journal")).port, site)
    assert (told.status, told.json["error"]) == (503, "Unsupported command")
    assert told.headers["X-Pdbclient-Journalled"] is None

    def delivered() -> bool:
        with Journal.open(str(tmp_path / "journal"), beside=True) as journal:
            return dict(journal.run(entries.counts).entries) == {EntryState.DELIVERED: 1}

    assert eventually(delivered), "it is noted when the answer has gone out"


def test_what_the_journal_alone_has_is_accepted_and_not_processed(site: Site, start: Start, tmp_path: Path) -> None:
    site.primary.reply = site.replica.reply = answer(b"down", 503)
    told = wait(start(journal=str(tmp_path / "journal")).port, site)
    assert told.status == 503
    assert told.headers["X-Pdbclient-Journalled"] == "true"
    assert told.json == {"uuid": told.json["uuid"], **NOT_YET}
    with Journal.open(str(tmp_path / "journal"), beside=True) as journal:
        (entry,) = journal.run(entries.listing)
        assert entry.uuid == told.json["uuid"]


def test_in_the_old_form_the_parameter_means_nothing(site: Site, start: Start) -> None:
    site.primary.reply = healthy
    document = {"command": "replace facts", "version": 5, "payload": json.loads(FACTS)}
    body = json.dumps(document).encode()
    url = f"/pdb/cmd/v1?{SECONDS}=5"
    told = ask(start().port, site.pki.client, url, "POST", body, {"Content-Type": "application/json"})
    assert told.json.keys() == {"uuid"}
