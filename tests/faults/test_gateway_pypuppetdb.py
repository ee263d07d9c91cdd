"""pypuppetdb, as it comes from PyPI, and the gateway: a client that tells a command's time in the payload alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pypuppetdb
import pytest
from pypuppetdb.api.command import CommandAPI

from pdbclient.config.model import TlsFiles
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries

from .conftest import Site
from .fake import Answer, Request, answer, queued
from .gateway import GatewayProcess, ask, eventually, gateway_config, write_config

Start = Callable[[], GatewayProcess]
CERTNAME = "api.example"
WRITTEN, STAMP = "2026-01-31T14:00:00.5+02:00", "2026-01-31T12:00:00.500Z"
COMMANDS = ("replace facts", "replace catalog", "store report", "deactivate node")
EXPORTED = ["and", ["=", "type", "Notify"], ["=", "exported", True]]


@pytest.fixture
def start(site: Site, tmp_path: Path) -> Iterator[Start]:
    """Start a gateway with a journal, as a process."""
    with ExitStack() as stack:

        def run() -> GatewayProcess:
            config = gateway_config(site.config(site.primary.port, site.replica.port), site.pki.server)
            path = write_config(tmp_path / "puppetdb.conf", config)
            with path.open("a") as file:
                file.write(f"journal = {tmp_path / 'journal'}\n")
            assert config.gateway_url is not None
            return stack.enter_context(GatewayProcess(path, config.gateway_url.port, tmp_path / "log")).up()

        yield run


def client(port: int, tls: TlsFiles) -> CommandAPI:
    made: CommandAPI = pypuppetdb.connect(
        host="localhost", port=port, ssl_verify=str(tls.ca), ssl_cert=str(tls.cert), ssl_key=str(tls.key)
    )
    return made


def payload() -> dict[str, Any]:
    return {"certname": CERTNAME, "values": {"producer_timestamp": "no"}, "producer_timestamp": WRITTEN}


class Showing:
    """A fake PuppetDB that shows a catalog as soon as it has it, of the time that stands in it."""

    def __init__(self) -> None:
        self.taken = False

    def __call__(self, request: Request) -> Answer:
        if request.is_command:
            self.taken = True
            return queued()
        if request.target.startswith("/pdb/query/v4/catalogs") and self.taken:
            return answer([{"certname": CERTNAME, "producer_timestamp": STAMP}])
        return answer([])


@pytest.mark.parametrize("name", COMMANDS)
def test_server_and_journal_are_told_the_payloads_own_time(
    site: Site, start: Start, tmp_path: Path, name: str
) -> None:
    gateway = start()
    with client(gateway.port, site.pki.client) as api:
        assert api.command(name, payload())["uuid"]
    (sent,) = site.primary.commands
    assert parse_qs(urlsplit(sent.target).query)["producer-timestamp"] == [STAMP]
    assert json.loads(sent.body) == payload()
    with Journal.open(str(tmp_path / "journal"), beside=True) as journal:
        # Its outcome is noted after the answer.
        assert eventually(lambda: journal.run(entries.listing)[0].state is EntryState.DELIVERED)
        (entry,) = journal.run(entries.listing)
    assert (entry.name, entry.certname, entry.producer_timestamp) == (name, CERTNAME, STAMP)


def test_its_catalog_is_not_waited_for_once_the_server_shows_it(site: Site, start: Start) -> None:
    gateway = start()
    site.primary.reply, site.replica.reply = Showing(), Showing()
    with client(gateway.port, site.pki.client) as api:
        api.command("replace catalog", payload())
    for away in (False, True):
        if away:
            site.primary.reply = answer(b"maintenance", 503, Retry_After="60")
        told = ask(
            gateway.port, site.pki.client, f"/pdb/query/v4/resources?query={quote(json.dumps(EXPORTED))}", timeout=4
        )
        assert (told.status, told.headers["X-Pdbclient-Stale"]) == (200, "false")
