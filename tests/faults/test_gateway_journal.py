"""The gateway with a journal: what is acknowledged is on disk, and what it says about exported resources is true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pdbclient.errors import JournalBusy
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries

from .conftest import Site
from .fake import Answer, Fake, Request, answer, queued
from .gateway import FACTS, GatewayThread, Told, ask, eventually, gateway_config, submit

Start = Callable[..., GatewayThread]
EXPORTED = ["and", ["=", "type", "Notify"], ["=", "exported", True], ["not", ["=", "certname", "b.example"]]]
STAMP = "2026-01-31T12:00:00.000Z"


@pytest.fixture
def start(site: Site, tmp_path: Path) -> Iterator[Start]:
    """Start a gateway with a journal in front of the primary and the replica."""
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            settings = {"journal": str(tmp_path / "journal"), **changes}
            config = gateway_config(site.config(site.primary.port, site.replica.port), site.pki.server, **settings)
            return stack.enter_context(GatewayThread(config))

        yield run


def exported(port: int, site: Site) -> Told:
    return ask(port, site.pki.client, f"/pdb/query/v4/resources?query={quote(json.dumps(EXPORTED))}")


def catalog(port: int, site: Site, certname: str = "a.example") -> Told:
    url = f"/pdb/cmd/v1?version=9&certname={certname}&command=replace_catalog&producer-timestamp={STAMP}"
    return ask(port, site.pki.client, url, "POST", b"{}", {"Content-Type": "application/json"})


class ShowingServer:
    """A fake PuppetDB that shows the catalogs that it took, after `delay` further queries."""

    def __init__(self, fake: Fake, delay: int = 0) -> None:
        self.catalogs: dict[str, int] = {}
        self.delay = delay
        fake.reply = self

    def __call__(self, request: Request) -> Answer:
        if request.is_command:
            certname = request.target.partition("certname=")[2].partition("&")[0]
            self.catalogs[certname] = self.delay
            return queued()
        if request.target.startswith("/pdb/query/v4/catalogs"):
            shown = [name for name, wait in self.catalogs.items() if wait <= 0]
            self.catalogs = {name: wait - 1 for name, wait in self.catalogs.items()}
            return answer([{"certname": name, "producer_timestamp": STAMP} for name in shown])
        if request.is_query:
            return answer([])
        return answer({"state": "running"})


def stored(path: Path) -> dict[EntryState, int]:
    with Journal.open(str(path / "journal"), beside=True) as journal:
        return dict(journal.run(entries.counts).entries)


def test_with_every_server_down_puppet_still_gets_200_and_a_uuid(site: Site, start: Start, tmp_path: Path) -> None:
    gateway = start()
    site.primary.reply = site.replica.reply = answer(b"maintenance", 503, Retry_After="60")
    told = submit(gateway.port, site.pki.client)
    assert told.status == 200
    assert told.headers["X-Pdbclient-Journalled"] == "true"
    assert told.headers["X-Pdbclient-Server"] is None
    with Journal.open(str(tmp_path / "journal"), beside=True) as journal:
        (entry,) = journal.run(entries.listing)
        assert told.json == {"uuid": entry.uuid}


def test_what_the_journal_alone_has_is_delivered_by_the_next_gateway(
    site: Site, start: Start, tmp_path: Path
) -> None:
    gateway = start()
    site.primary.reply = site.replica.reply = answer(b"maintenance", 503, Retry_After="60")
    submit(gateway.port, site.pki.client)
    gateway.stop()
    site.primary.reply = queued
    before = len(site.primary.commands)
    start()
    assert eventually(lambda: len(site.primary.commands) == before + 1)
    assert site.primary.commands[-1].body == FACTS
    assert eventually(lambda: stored(tmp_path) == {EntryState.DELIVERED: 1})


def test_a_journal_that_is_moved_away_is_503(site: Site, start: Start, tmp_path: Path) -> None:
    gateway = start()
    site.primary.reply = queued
    for name in ("journal", "journal-journal"):
        (tmp_path / name).rename(tmp_path / f"{name}-away")
    before = len(site.primary.commands)
    told = submit(gateway.port, site.pki.client)
    assert (told.status, len(site.primary.commands)) == (503, before)
    assert b"is not there any more" in told.body


def test_a_journal_that_cannot_be_written_is_503_before_anything_is_sent(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = start()
    site.primary.reply = queued
    upstream: Any = gateway._site._upstream
    upstream._journal.journal._commits._first.database._connection.execute("PRAGMA query_only = ON")
    told = submit(gateway.port, site.pki.client)
    assert told.status == 503
    assert "journal" in told.json["error"]
    assert site.primary.commands == []


def test_a_journal_that_cannot_be_written_is_told_once_until_it_can(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start()
    site.primary.reply = queued
    upstream: Any = gateway._site._upstream
    connection = upstream._journal.journal._commits._first.database._connection
    connection.execute("PRAGMA query_only = ON")
    assert {submit(gateway.port, site.pki.client).status for _ in range(20)} == {503}
    connection.execute("PRAGMA query_only = OFF")
    assert eventually(lambda: submit(gateway.port, site.pki.client).status == 200)
    told = [each.message for each in caplog.records if each.levelname in ("ERROR", "WARNING")]
    began, ended = (line for line in told if "takes " in line)
    assert began.startswith("the journal takes no commands, which are refused until it does: ")
    assert re.fullmatch(r"the journal takes commands again, after \d+ s; \d\d were refused", ended)
    assert len(told) <= 4, "the journal itself tells its beginning and its end, too"


def test_a_second_gateway_on_the_same_journal_does_not_start(site: Site, start: Start) -> None:
    start()
    with pytest.raises(JournalBusy, match="pid"):
        start()


def test_a_reload_goes_on_with_the_same_journal(site: Site, start: Start, tmp_path: Path) -> None:
    gateway = start()
    site.primary.reply = queued
    submit(gateway.port, site.pki.client)
    gateway.reload(gateway.config)
    submit(gateway.port, site.pki.client)
    assert eventually(lambda: stored(tmp_path) == {EntryState.DELIVERED: 2})


@pytest.mark.parametrize("to", ["other", None])
def test_a_reload_that_leaves_a_journal_tells_what_is_pending_there(
    site: Site, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, to: str | None
) -> None:
    """J18: it was left behind without a word."""
    gateway = start()
    site.primary.reply = site.replica.reply = answer(b"maintenance", 503, Retry_After="60")
    for certname in ("a.example", "b.example"):
        assert submit(gateway.port, site.pki.client, certname).status == 200
    gateway.reload(replace(gateway.config, journal=None if to is None else str(tmp_path / to)))
    (told,) = [record for record in caplog.records if "which is left" in record.message]
    assert told.levelname == "WARNING"
    assert told.message.startswith(f"2 commands are pending in the journal {tmp_path / 'journal'}, which is left")
    assert "start a gateway with that journal again" in told.message
    gateway.stop()
    site.primary.reply = queued
    start()
    assert eventually(lambda: stored(tmp_path) == {EntryState.DELIVERED: 2}, 20)


def test_a_journal_that_is_left_with_nothing_pending_is_no_warning(
    site: Site, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pdbclient.journal")
    gateway = start()
    gateway.reload(gateway.config)
    assert "is left" not in caplog.text
    gateway.reload(replace(gateway.config, journal=str(tmp_path / "other")))
    (told,) = [record for record in caplog.records if "is left" in record.message]
    assert (told.levelname, told.message) == (
        "INFO",
        f"the journal {tmp_path / 'journal'} is left, with nothing pending in it",
    )


def test_a_query_of_exported_resources_brings_its_server_up_to_date_first(site: Site, start: Start) -> None:
    gateway = start()
    ShowingServer(site.primary)
    replica = ShowingServer(site.replica, delay=2)
    assert catalog(gateway.port, site).status == 200
    assert exported(gateway.port, site).headers["X-Pdbclient-Stale"] == "false"
    assert not site.replica.commands
    site.primary.reply = answer(b"maintenance", 503, Retry_After="60")
    told = exported(gateway.port, site)
    assert (told.status, told.headers["X-Pdbclient-Stale"], told.server) == (200, "false", site.replica.port)
    assert list(replica.catalogs) == ["a.example"]
    assert replica.catalogs["a.example"] < 0, "it was asked again until it showed the catalog"
    # What it has now is not sent again.
    exported(gateway.port, site)
    assert len(site.replica.commands) == 1


@pytest.mark.parametrize(("policy", "status"), [("serve", 200), ("fail", 409)])
def test_an_answer_that_could_not_be_brought_up_to_date_is_marked_or_refused(
    site: Site, start: Start, policy: str, status: int
) -> None:
    gateway = start(stale_exported=policy, stale_exported_budget=0.3)
    ShowingServer(site.primary)
    ShowingServer(site.replica, delay=10_000)
    catalog(gateway.port, site)
    site.primary.reply = answer(b"maintenance", 503, Retry_After="60")
    told = exported(gateway.port, site)
    assert told.status == status
    if policy == "serve":
        assert told.headers["X-Pdbclient-Stale"] == "true"
        assert told.headers["X-Pdbclient-Missing"] == "1"
        assert told.headers["X-Pdbclient-Missing-Since"] == STAMP
    else:
        assert "1 command missing" in told.json["error"]
    metrics = ask(gateway.port, site.pki.client, "/pdbclient/v1/metrics")
    assert "pdbclient_stale_answers_total 1.0" in metrics.body.decode()


def test_other_queries_do_not_wait_for_the_journal(site: Site, start: Start) -> None:
    gateway = start()
    ShowingServer(site.primary)
    ShowingServer(site.replica)
    catalog(gateway.port, site)
    site.primary.reply = answer(b"maintenance", 503, Retry_After="60")
    told = ask(gateway.port, site.pki.client, "/pdb/query/v4/nodes")
    assert (told.status, told.headers["X-Pdbclient-Stale"]) == (200, None)
    assert not site.replica.commands


def test_metrics_tell_what_is_pending_and_who_is_asked(site: Site, start: Start) -> None:
    gateway = start()
    site.primary.reply = site.replica.reply = answer(b"maintenance", 503, Retry_After="60")
    submit(gateway.port, site.pki.client)

    def lines_now() -> list[str]:
        told = ask(gateway.port, site.pki.client, "/pdbclient/v1/metrics")
        assert told.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return told.body.decode().splitlines()

    # What was counted a moment ago is told again where counting took long.
    assert eventually(lambda: 'pdbclient_journal_entries{state="pending"} 1.0' in lines_now(), 60)
    lines = lines_now()
    assert 'pdbclient_journal_pending{target="any"} 1.0' in lines
    assert f'pdbclient_server_usable{{for="command",server="https://localhost:{site.primary.port}"}} 0.0' in lines
    assert "pdbclient_journal_only_total 1.0" in lines
