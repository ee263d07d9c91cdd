"""Delivery from the journal past commands that servers do not manage: the others go on, and nobody is shut out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from pdbclient import Client
from pdbclient.config.model import Timeouts
from pdbclient.http.outcome import Operation
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import ANY
from pdbclient.wire import Command

from .conftest import Site
from .fake import Answer, Request, answer, healthy, queued
from .gateway import eventually
from .journal_place import as_sent, command, reports

LIMITS = Timeouts(attempt=20.0, connect=5.0, read=15.0, operation=20.0)
BAD = "bad.example"


@contextmanager
def delivering(
    site: Site, path: Path, *commands: Command, targets: Sequence[str] = (ANY,), **changes: object
) -> Iterator[Client]:
    """A client whose journal had these commands pending when it was opened."""
    with Journal.open(str(path)) as journal:
        for each in commands:
            journal.append(each, targets).result()
    config = site.config(site.primary.port, site.replica.port, timeouts=LIMITS, journal=str(path), **changes)
    with Client(config) as client:
        yield client


def states(client: Client) -> dict[str, EntryState]:
    """What became of each command: by its timestamp, which are all different."""
    service = client._journal
    assert service is not None
    return {e.producer_timestamp: e.state for e in service.journal.run(entries.listing, limit=1000)}


def delivered(client: Client, *commands: Command) -> bool:
    now = states(client)
    return all(now[each.producer_timestamp] is EntryState.DELIVERED for each in commands)


def of_bad_node(request: Request) -> bool:
    return request.is_command and parse_qs(request.target.partition("?")[2])["certname"] == [BAD]


def hanging(over: threading.Event) -> Callable[[Request], Answer]:
    """No answer to what concerns the bad node, else as a PuppetDB that is well."""

    def reply(request: Request) -> Answer:
        if of_bad_node(request):
            over.wait(60)
        return healthy(request)

    return reply


def failing(status: int) -> Callable[[Request], Answer]:
    return lambda request: answer(b"on purpose", status) if of_bad_node(request) else healthy(request)


def bad(number: int = 500) -> Command:
    return command("replace catalog", number, BAD)


def nobody_is_shut_out(client: Client) -> bool:
    return client._failover.registry.all_closed()


@pytest.mark.parametrize("hang", [1, 4])
def test_what_no_server_answers_keeps_neither_the_others_nor_a_server(site: Site, tmp_path: Path, hang: int) -> None:
    """J1: 41 of 41 were pending after 100 s, and both servers out for commands and queries in turn."""
    over = threading.Event()
    site.primary.reply = site.replica.reply = hanging(over)
    good = reports(40)
    kinds = ("replace catalog", "replace facts", "replace catalog inputs", "store report")
    stuck = [command(name, 500 + number, BAD) for number, name in enumerate(kinds[:hang])]
    try:
        with delivering(site, tmp_path / "journal", *stuck, *good) as client:
            began = time.monotonic()
            while not delivered(client, *good):
                assert nobody_is_shut_out(client)
                assert client.query("nodes {}").endpoint.port == site.primary.port
                assert time.monotonic() < began + 10
                time.sleep(0.05)
            # Each of them is tried at both servers before it backs off.
            assert eventually(lambda: all(_tried(server, each) for server in both(site) for each in stuck), 40)
            assert nobody_is_shut_out(client)
            assert {states(client)[each.producer_timestamp] for each in stuck} == {EntryState.PENDING}
            over.set()
            site.primary.reply = site.replica.reply = healthy
            assert eventually(lambda: delivered(client, *stuck), 40)
    finally:
        over.set()


def both(site: Site) -> tuple[object, object]:
    return site.primary, site.replica


def _tried(server: object, sent: Command) -> bool:
    return sent in [as_sent(request) for request in server.commands]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [500, 502])
def test_what_one_server_fails_is_tried_at_the_next_as_a_live_one_is(site: Site, tmp_path: Path, status: int) -> None:
    """J6: four tries at the first server, and none at the other."""
    site.primary.reply = failing(status)
    good = reports(10)
    with delivering(site, tmp_path / "journal", bad(), *good) as client:
        assert eventually(lambda: delivered(client, bad(), *good), 10)
        assert nobody_is_shut_out(client)
    assert [as_sent(request) for request in site.replica.commands] == [bad()]
    assert [as_sent(request) for request in site.primary.commands] == [bad(), *good]


def test_what_all_servers_fail_is_tried_less_and_less_often(site: Site, tmp_path: Path) -> None:
    site.primary.reply = site.replica.reply = failing(500)
    good = reports(10)
    with delivering(site, tmp_path / "journal", bad(), *good) as client:
        assert eventually(lambda: delivered(client, *good), 10)
        time.sleep(8)
        assert nobody_is_shut_out(client)
    assert [len([r for r in server.commands if of_bad_node(r)]) for server in (site.primary, site.replica)] == [2, 2]


def test_an_older_one_is_delivered_when_no_server_manages_the_newer_one(site: Site, tmp_path: Path) -> None:
    older, newer = command("replace catalog", 1, "node.example"), command("replace catalog", 2, "node.example")

    def reply(request: Request) -> Answer:
        is_newer = request.is_command and as_sent(request) == newer
        return answer(b"on purpose", 500) if is_newer else healthy(request)

    site.primary.reply = site.replica.reply = reply
    with delivering(site, tmp_path / "journal", older, newer) as client:
        assert eventually(lambda: delivered(client, older), 10)
        assert states(client)[newer.producer_timestamp] is EntryState.PENDING


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_server_that_takes_no_commands_is_left_alone_by_delivery_and_by_nobody_else(
    site: Site, tmp_path: Path, status: int
) -> None:
    def reply(request: Request) -> Answer:
        if request.is_command:
            return answer(b"on purpose", status, Retry_After="60")
        return healthy(request)

    site.primary.reply = reply
    sent = reports(30)
    with delivering(site, tmp_path / "journal", *sent) as client:
        assert eventually(lambda: delivered(client, *sent), 10)
        assert nobody_is_shut_out(client)
        assert client._failover.next_in_line(Operation.COMMAND)[0].port == site.primary.port
    assert [as_sent(request) for request in site.replica.commands] == sent
    assert len(site.primary.commands) <= 5


def test_what_was_not_sent_before_its_time_was_over_was_not_tried(site: Site, tmp_path: Path) -> None:
    """Else they are tried again late, and with long limits, when the servers are back."""

    def reply(request: Request) -> Answer:
        return answer(b"on purpose", 503, Retry_After="60") if request.is_command else healthy(request)

    def tried(*, under_way: bool) -> list[tuple[int, int]]:
        sql = f"SELECT tries, count(*) FROM deliveries WHERE owner {'<>' if under_way else '='} '' GROUP BY tries"
        return journal.run(lambda tx: tx.rows(sql))

    site.primary.reply = site.replica.reply = reply
    with delivering(site, tmp_path / "journal", *reports(20)) as client:
        assert client._journal is not None
        journal = client._journal.journal
        assert eventually(lambda: tried(under_way=True) == [(1, 19)] and tried(under_way=False) == [(0, 1)], 10)
        late = journal.lease + 1
        journal.clock = lambda: time.time() + late
        assert eventually(lambda: tried(under_way=False) == [(0, 20)], 10)


def test_with_broadcast_one_servers_bad_command_costs_the_other_server_nothing(site: Site, tmp_path: Path) -> None:
    over = threading.Event()
    site.primary.reply = hanging(over)
    good = reports(20)
    urls = [f"https://localhost:{server.port}" for server in (site.primary, site.replica)]
    try:
        with delivering(site, tmp_path / "journal", bad(), *good, targets=urls, command_broadcast=True) as client:
            assert eventually(lambda: delivered(client, *good), 10)
            assert len(site.replica.commands) == 21
            assert nobody_is_shut_out(client)
            assert states(client)[bad().producer_timestamp] is EntryState.PENDING
            over.set()
    finally:
        over.set()


def test_a_slow_server_gets_commands_in_order_and_one_after_the_other(site: Site, tmp_path: Path) -> None:
    def reply(request: Request) -> Answer:
        if request.is_command:
            time.sleep(0.1)
            return queued()
        return healthy(request)

    site.primary.reply = reply
    sent = reports(15)
    with delivering(site, tmp_path / "journal", *sent) as client:
        assert eventually(lambda: delivered(client, *sent), 20)
    assert [as_sent(request) for request in site.primary.commands] == sent
