"""A gateway process with a journal that is killed, ended, reloaded or out of disk: nothing acknowledged is lost."""

from __future__ import annotations

import http.client
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pdbclient import Client
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries
from pdbclient.wire import Command

from .conftest import Site
from .fake import Answer, Request, healthy
from .gateway import ROOT, GatewayProcess, eventually
from .journal import mounted
from .journal_place import Place, SlowCommands, command, holding, reports, windows


@pytest.fixture
def place(site: Site, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(site, tmp_path, stack)


# -- all servers down, then up


def test_after_an_outage_comes_what_counts_in_order_and_no_faster_than_set(place: Place) -> None:
    nodes, runs, rate = 20, 5, 40
    times: list[float] = []

    def timed(request: Request) -> Answer:
        if request.is_command:
            times.append(time.monotonic())
        return healthy(request)

    place.site.primary.reply = timed
    place.away()
    process = place.run(rate)
    sent = [
        command(name, 3 * nodes * run + 3 * node + at, f"node{node}.example")
        for run in range(runs)
        for node in range(nodes)
        for at, name in enumerate(("replace facts", "replace catalog", "store report"))
    ]
    place.journalled(*sent, command("deactivate node", 10_000, "gone.example"))
    place.away(False)
    count, waiting = 1 + 2 * nodes + nodes * runs, 2 * nodes * (runs - 1)
    # This server shows nothing, so that the older ones wait.
    states = {EntryState.DELIVERED: count, EntryState.PENDING: waiting}
    assert eventually(lambda: place.states() == states, 60), place.states()
    came = place.arrived
    assert [each.name for each in came] == [
        "deactivate node",
        *["replace catalog"] * nodes,
        *["replace facts"] * nodes,
        *["store report"] * nodes * runs,
    ]
    for name in ("replace catalog", "replace facts"):
        assert [each for each in came if each.name == name] == newest_first(sent, name)[:nodes]
    assert came[1 + 2 * nodes :] == [each for each in sent if each.name == "store report"]
    most = max(count - rate * (1 + seconds) for count, seconds in windows(times))
    assert most <= 5, "what was not used is kept for a second; a few may arrive together"
    assert times[-1] - times[0] < 3 * len(times) / rate, "nor much slower"
    (error,) = (line for line in process.text.splitlines() if " ERROR " in line)
    assert "no PuppetDB can be used for " in error


def newest_first(sent: Sequence[Command], name: str) -> list[Command]:
    return sorted(
        (each for each in sent if each.name == name), key=lambda each: each.producer_timestamp, reverse=True
    )


# -- SIGTERM


def test_ended_while_it_heals_a_server_that_does_not_answer(place: Place) -> None:
    """A recovery's questions may take as long as a query (300 s): systemd had killed it before."""
    over, asked = threading.Event(), threading.Semaphore(0)

    def silent(request: Request) -> Answer:
        if request.is_query and "catalogs" in request.target:
            asked.release()
            if not first.acquire(blocking=False):
                over.wait(60)
        return healthy(request)

    # It answers the audit, which then sends again what the server does not show.
    first = threading.Semaphore(1)
    place.site.primary.reply = silent
    place.first = (
        "from pdbclient.journal.work import audit, service; audit.LATE = audit.SETTLING = 0.0; service.ROUND = 0.1"
    )
    process = place.run(journal_heal="heal")
    try:
        assert place.submit(command("replace catalog", 1)).status == 200
        assert asked.acquire(timeout=20)
        assert asked.acquire(timeout=20), process.text
        time.sleep(0.5)
        process.signal(signal.SIGTERM)
        assert process.ended(8.0) == 0
    finally:
        over.set()
    assert "recovery broken off" in process.text


# -- SIGKILL at the moments that matter


def killed(process: GatewayProcess) -> None:
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL


def sent_in_vain(place: Place, sent: Command) -> threading.Thread:
    """A client that will get no answer, as a thread that is running."""

    def run() -> None:
        with suppress(OSError, http.client.HTTPException):
            place.submit(sent)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_killed_before_the_acknowledgement_the_next_gateway_delivers_what_is_on_disk(place: Place) -> None:
    over = threading.Event()

    def silent(request: Request) -> Answer:
        if request.is_command:
            over.wait(20)
        return healthy(request)

    place.site.primary.reply = silent
    process = place.run()
    (sent,) = reports(1)
    client = sent_in_vain(place, sent)
    try:
        # A server has it only when it is on disk.
        assert eventually(lambda: len(place.arrived) == 1, 20)
        killed(process)
    finally:
        over.set()
        client.join()
    assert place.states() == {EntryState.PENDING: 1}
    place.run()
    assert eventually(place.nothing_pending, 30)
    assert place.arrived == [sent, sent], "the same bytes and the same timestamp: PuppetDB keeps one report of them"


def test_killed_before_a_servers_200_is_noted_the_command_is_sent_once_more(place: Place) -> None:
    with ExitStack() as locked:

        def accept(request: Request) -> Answer:
            if request.is_command and not locked_once:
                locked_once.append(locked.enter_context(holding(place.journal)))
            return healthy(request)

        locked_once: list[sqlite3.Connection] = []
        place.site.primary.reply = accept
        process = place.run()
        (sent,) = reports(1)
        told = place.submit(sent)
        assert (told.status, told.server) == (200, place.site.proxy.port)
        killed(process)
    assert place.states() == {EntryState.PENDING: 1}
    place.run()
    assert eventually(place.nothing_pending, 30)
    time.sleep(1.5)
    assert place.arrived == [sent, sent]


def test_killed_before_it_is_on_disk_a_command_was_neither_acknowledged_nor_sent(place: Place) -> None:
    process = place.run()
    (sent,) = reports(1)
    with holding(place.journal):
        client = sent_in_vain(place, sent)
        time.sleep(1)
        assert client.is_alive(), "it waits for the disk"
        killed(process)
        client.join()
    place.run()
    time.sleep(1.5)
    assert place.states() == {}
    assert place.arrived == []


# -- SIGTERM and SIGHUP


def test_what_a_gateway_was_ended_before_is_delivered_by_the_next_one_and_nothing_twice(place: Place) -> None:
    sent = reports(40)
    place.away()
    process = place.run()
    place.journalled(*sent)
    place.site.primary.reply = SlowCommands(0.05)
    place.away(False)
    assert eventually(lambda: len(place.arrived) >= 5, 20)
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    assert 5 <= len(place.arrived) < 40
    assert "Traceback" not in process.text
    place.run()
    assert eventually(place.nothing_pending, 30)
    assert place.arrived == sent
    assert place.states() == {EntryState.DELIVERED: 40}


def test_a_reload_in_the_middle_of_a_delivery_sends_nothing_twice(place: Place) -> None:
    sent = reports(60)
    place.away()
    process = place.run()
    place.journalled(*sent)
    place.site.primary.reply = SlowCommands(0.03)
    place.away(False)
    for times in range(3):
        assert eventually(lambda at=10 * times: len(place.arrived) > at, 20)  # type: ignore[misc]
        process.signal(signal.SIGHUP)
        process.said("reloaded: asked to", times + 1)
    assert eventually(place.nothing_pending, 30)
    assert Counter(place.arrived) == Counter(sent)
    assert process.descriptors().count(str(place.journal)) == 1
    assert "Traceback" not in process.text


def test_reloads_under_load_lose_nothing_acknowledged_and_send_nothing_twice(place: Place) -> None:
    process = place.run()
    over = threading.Event()
    sent: list[Command] = []
    acknowledged: list[Command] = []

    def load() -> None:
        while not over.is_set():
            sent.append(command("store report", len(sent)))
            # A connection that has asked nothing yet may be closed by a reload.
            with suppress(OSError, http.client.HTTPException):
                assert place.submit(sent[-1], patience=5).status == 200
                acknowledged.append(sent[-1])

    client = threading.Thread(target=load)
    client.start()
    try:
        for times in range(6):
            assert eventually(lambda at=5 * times: len(acknowledged) > at, 40)  # type: ignore[misc]
            process.signal(signal.SIGHUP)
            process.said("reloaded: asked to", times + 1)
    finally:
        over.set()
        client.join()
    assert eventually(place.nothing_pending, 30)
    arrived = Counter(place.arrived)
    assert not set(acknowledged) - arrived.keys()
    assert not arrived.keys() - set(sent)
    assert set(arrived.values()) == {1}
    assert eventually(lambda: process.descriptors().count(str(place.journal)) == 1)


def test_a_reload_with_another_journal_closes_the_old_one_which_keeps_what_it_owes(
    place: Place, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    first, second = command("store report", 1), command("store report", 2)
    place.away()
    process = place.run()
    place.journalled(first)
    place.write(other)
    process.signal(signal.SIGHUP)
    process.said("reloaded: asked to")
    assert eventually(lambda: str(place.journal) not in process.descriptors())
    assert str(other) in process.descriptors()
    place.journalled(second)
    place.away(False)
    assert eventually(lambda: place.arrived == [second])
    assert place.states() == {EntryState.PENDING: 1}
    with Journal.open(str(place.journal)) as free:
        assert len(free.run(entries.listing)) == 1, "nobody holds its lock"
    place.write(place.journal)
    process.signal(signal.SIGHUP)
    process.said("reloaded: asked to", 2)
    assert eventually(place.nothing_pending, 30)
    assert place.arrived == [second, first]
    assert eventually(lambda: place.states(other) == {EntryState.DELIVERED: 1})


def test_a_reload_with_a_journal_that_cannot_be_opened_changes_nothing(place: Place, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("not a journal\n" * 20)
    process = place.run()
    place.write(damaged)
    process.signal(signal.SIGHUP)
    process.said("the old configuration stays")
    assert str(damaged) in process.text
    assert "Traceback" not in process.text
    told = place.submit(command("store report", 1))
    assert (told.status, told.server) == (200, place.site.proxy.port)
    assert eventually(lambda: place.states() == {EntryState.DELIVERED: 1})


# -- no room


def test_a_full_disk_is_relieved_of_what_a_server_has_and_refuses_what_none_has(place: Place, tmp_path: Path) -> None:
    """J12: 37 were delivered, and 503 was the answer for ever."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=6m", "tmpfs") as disk:
        place.journal = disk / "journal"
        process = place.run()
        sent = [command("store report", number, size=20_000) for number in range(300)]
        assert {place.submit(each).status for each in sent} == {200}
        assert place.arrived == sent
        assert "entries that servers have left the journal, to make room" in process.text
        place.away()
        more = [command("store report", number, size=20_000) for number in range(300, 700)]
        told = [place.submit(each) for each in more]
        taken = [each for each, answer in zip(more, told, strict=True) if answer.status == 200]
        assert 100 < len(taken) < len(more)
        assert {answer.status for answer in told} == {200, 503}
        place.away(False)
        eventually(lambda: place.nothing_pending(), 200)
        # On a busy machine, one that takes long is overtaken, and one may have come as the server went away.
        arrived = place.arrived[len(sent) :]
        assert {each.producer_timestamp for each in arrived} == {each.producer_timestamp for each in taken}
        assert len(arrived) <= len(taken) + 1
        assert place.submit(command("store report", 1000, size=20_000)).status == 200
        assert "Traceback" not in process.text
        # Before it can be unmounted.
        place.end()


def small(process: GatewayProcess, full: bool) -> None:
    """Leave the journal no room, or give it room again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (1_500_000 if full else hard, hard))


def test_without_room_a_gateway_says_503_before_anything_is_sent_and_goes_on_when_there_is_some(
    site: Site, place: Place
) -> None:
    process = place.run()
    small(process, True)
    sent = [command("store report", number, size=20_000) for number in range(100)]
    told = [place.submit(each) for each in sent]
    taken = [each for each, answer in zip(sent, told, strict=True) if answer.status == 200]
    refused = [answer for answer in told if answer.status != 200]
    assert len(taken) > 5
    assert len(refused) > 20
    assert {answer.status for answer in refused} == {503}
    assert "journal" in refused[-1].json["error"]
    assert place.arrived == taken, "what could not be kept was not sent either"
    # Whoever submits goes on to the next server.
    with Client(site.config(place.gateway.port, site.replica.port)) as client:
        done = client.submit(sent[-1])
    assert done.endpoint is not None
    assert done.endpoint.port == site.replica.port
    small(process, False)
    later = [command("store report", number, size=20_000) for number in range(100, 120)]
    assert {place.submit(each).status for each in later} == {200}
    assert place.arrived[len(taken) : len(taken) + len(later)] == later
    assert "Traceback" not in process.text
    # What a server took while that could not be noted is sent again: when its time is over, or by the next process.
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    place.run()
    assert eventually(place.nothing_pending, 30)
    arrived = Counter(place.arrived)
    assert arrived.keys() == {*taken, *later}
    assert max(arrived.values()) <= 2


# -- a program that ends with work queued


PROGRAM = """
import sys, threading
from datetime import UTC, datetime
from pathlib import Path
from pdbclient import Client
from pdbclient.wire import deactivate_node

client = Client.from_config(sys.argv[1])

def submit(name):
    assert client.submit(deactivate_node(name, now=datetime.now(UTC))).uuid

for number in range(10):
    submit(f"node{number}.example")
"""
ENDS = {
    "falls off its end": ("", 0, 10),
    "is left by an exception": ("raise SystemExit(3)", 3, 10),
    "has a thread that goes on": ("threading.Thread(target=submit, args=['late.example']).start()", 0, 11),
}


@pytest.mark.parametrize(("end", "code", "count"), ENDS.values(), ids=list(ENDS))
@pytest.mark.parametrize("away", [True, False], ids=["no server", "a server"])
def test_a_program_that_ends_without_closing_its_client_loses_nothing(
    place: Place, tmp_path: Path, took: Callable[[], float], end: str, code: int, count: int, away: bool
) -> None:
    config = tmp_path / "client.conf"
    config.write_text(
        f"[main]\nserver_urls = https://localhost:{place.site.proxy.port}\n[pdbclient]\njournal = {place.journal}\n"
        f"ssl_ca_cert = {place.site.pki.client.ca}\nssl_cert = {place.site.pki.client.cert}\n"
        f"ssl_key = {place.site.pki.client.key}\nconnect_timeout = 1\nread_timeout = 1\n"
    )
    place.away(away)
    took()
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", PROGRAM + end, str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert took() < 10
    assert sum(place.states().values()) == count
    place.away(False)
    place.run()
    assert eventually(place.nothing_pending, 30)
    arrived = Counter(each.certname for each in place.arrived)
    assert len(arrived) == count
    # What was taken in the last moment may not have been noted, and is sent again.
    assert max(arrived.values()) <= (1 if away else 2)
