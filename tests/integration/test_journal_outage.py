"""Every PuppetDB down for long while Puppet goes on: what the journal delivers when they are back, how, how fast."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import Listed
from pdbclient.lab import Lab
from pdbclient.wire import Command

from ..soak import rounds
from .journal_gateway import JournalGateway
from .journal_load import Ledger, Sender, Traffic, identity
from .journal_truth import Verdict, held, judge, process_all

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(rounds(600, 10_800))]

SECONDS = rounds(0, 8 * 60)
"""How long the outage lasts; at least until `FEWEST` commands are in."""
FEWEST = rounds(200, 600)
MOST = 170.0
"""Commands a second that come in."""
RATE = rounds(40, 100)
"""Commands a second that go out at most (`journal_rate`)."""
NODES = rounds(30, 500)
CLIENTS = 8


def due(traffic: Traffic, client: int) -> Iterator[Command]:
    """What one client sends, each when it is due: facts, catalog and report of one of its nodes, then of the next."""
    nodes = range(client, NODES, CLIENTS)
    began = time.monotonic()
    for number in itertools.count():
        late = time.monotonic() - began > SECONDS
        if late and number >= FEWEST / CLIENTS:
            return
        time.sleep(max(began + number * CLIENTS / MOST - time.monotonic(), 0))
        make = (traffic.facts, traffic.catalog, traffic.report)[number % 3]
        yield make(f"node{nodes[number // 3 % len(nodes)]:03}.example")


def test_an_outage_of_all_servers_loses_nothing_and_ends_in_order_at_the_rate_that_is_set(
    pair: Lab, tmp_path: Path
) -> None:
    ledger, traffic = Ledger(), Traffic(pair.puppetdb_jar, NODES, seed=1)
    with JournalGateway(pair, tmp_path, {"journal_rate": RATE}) as gateway:
        try:
            for node in pair.nodes:
                pair.fault(node.name, "kill")
            began = time.monotonic()
            submitted_by_many(gateway, pair, traffic, ledger)
            lasted = time.monotonic() - began
        finally:
            with ThreadPoolExecutor(len(pair.nodes)) as pool:
                list(pool.map(lambda node: pair.fault(node.name, "start"), pair.nodes))
        waited = gateway.wait_until_nothing_is_pending(rounds(300, 9000))
        gateway.stop()
    for node in pair.nodes:
        process_all(pair, node.name, rounds(300, 3000))
    verdict = judge(
        ledger.sent, ledger.acknowledged, [held(gateway.config, server) for server in gateway.config.server_urls]
    )
    noted = all_entries(gateway.journal)
    came = received(pair)
    superseded = len(ledger.sent) - len(noted)
    print(
        f"\n{len(ledger.sent)} commands in {lasted:.0f} s without a server ({len(ledger.sent) / lasted:.0f}/s): "
        f"{dict(ledger.answers)}, {ledger.journal_only} by the journal only\n"
        f"delivered in {waited:.0f} s: {len(came)}, of which in one second at most {busiest(came)} "
        f"(journal_rate {RATE}); superseded: {superseded}\n"
        f"lost: {len(verdict.lost)}, duplicated: {len(verdict.duplicated)}, never sent: {len(verdict.phantoms)}",
        flush=True,
    )
    assert ledger.answers == {"200": len(ledger.sent)}
    assert ledger.journal_only == len(ledger.sent) >= FEWEST
    assert verdict == Verdict((), (), ())
    # What a newer one was shown in the place of is gone.
    assert len(came) == len(noted)
    assert {entry.state for entry in noted} == {EntryState.DELIVERED}
    require_order(came, gateway.delivered(), noted)
    require_few_words(gateway.warned(), len(ledger.sent))
    require_rate([each for each in came if each.name != "replace catalog"])


def require_few_words(warned: Sequence[tuple[str, str]], commands: int) -> None:
    """Each server is told to be unhealthy, and that there is none; then that there is one again. No more of each."""
    levels = [level for level, _ in warned]
    assert levels == ["WARNING", "WARNING", "ERROR", *["WARNING"] * (len(warned) - 3)], warned
    assert warned[2][1].startswith("no PuppetDB can be used for commands and queries: https://")
    *still, over = warned[3:]
    assert all(text.startswith("still no PuppetDB can be used for ") for _, text in still)
    assert len(still) <= SECONDS / 600 + 1
    assert over[1].startswith("a PuppetDB can be used again, after ")
    assert over[1].endswith(f"; {commands} commands and 0 queries found none meanwhile")


def submitted_by_many(gateway: JournalGateway, lab: Lab, traffic: Traffic, ledger: Ledger) -> None:
    def run(client: int) -> None:
        with Sender(gateway.port, lab.client_tls, ledger) as sender:
            for command in due(traffic, client):
                sender.send(command, identity(command))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, range(CLIENTS)))


def all_entries(path: Path) -> list[Listed]:
    found: list[Listed] = []
    with Journal.open(str(path)) as journal:
        while page := journal.run(entries.listing, after=found[-1].id if found else 0, limit=5000):
            found += page
    return found


@dataclass(frozen=True, slots=True, order=True)
class Received:
    """What a PuppetDB took, `at` seconds since 1970 by its own account."""

    at: float
    name: str
    certname: str
    producer_timestamp: str


def received(lab: Lab) -> list[Received]:
    """What the servers took, in that order: every report, and the catalog and facts that each node has.

    The first time, where both have it: catalogs are sent to a second one that is asked for exported resources.
    """
    stamp = """to_char(producer_timestamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
    places = {
        "replace catalog": ("catalogs", "timestamp"),
        "replace facts": ("factsets", "timestamp"),
        "store report": ("reports", "receive_time"),
    }
    first: dict[tuple[str, str, str], float] = {}
    for node in lab.nodes:
        for name, (table, column) in places.items():
            sql = f"select extract(epoch from {column}), certname, {stamp} from {table}"
            for at, certname, stamped in lab.sql(node.name, sql):
                key = (name, certname, stamped)
                first[key] = min(float(at), first.get(key, float("inf")))
    return sorted(Received(at, *key) for key, at in first.items())


def require_order(came: Sequence[Received], delivered: Sequence[str], noted: Sequence[Listed]) -> None:
    """Catalogs before facts before reports; of the first two a node's newest only; all reports, oldest first.

    Catalogs are also sent for the sake of exported resources, in an order of their own, and PuppetDB tells only when
    it got a catalog last. So the place of the catalogs is as the log has it of what delivery itself brought.
    """
    catalogs, facts = newest_first(noted, "replace catalog"), newest_first(noted, "replace facts")
    reports = [entry for entry in noted if entry.name == "store report"]
    assert {shown(each) for each in came if each.name == "replace catalog"} == {shown(each) for each in catalogs}
    assert [shown(each) for each in came if each.name != "replace catalog"] == [shown(e) for e in (*facts, *reports)]
    by_delivery = [entry for entry in catalogs if entry.uuid in delivered]
    assert delivered == [entry.uuid for entry in (*by_delivery, *facts, *reports)]


def newest_first(noted: Sequence[Listed], name: str) -> list[Listed]:
    newest = {entry.certname: entry for entry in noted if entry.name == name}
    return sorted(newest.values(), key=lambda entry: -entry.id)


def shown(command: Received | Listed) -> tuple[str, str, str]:
    return command.name, command.certname, command.producer_timestamp


def busiest(came: Sequence[Received]) -> int:
    """The most that came in any second."""
    most = start = 0
    for end, each in enumerate(came):
        while came[start].at < each.at - 1:
            start += 1
        most = max(most, end - start + 1)
    return most


def require_rate(came: Sequence[Received]) -> None:
    """No more than what was set, and what was not used of the second before; a few may arrive together."""
    assert busiest(came) <= 2 * RATE + 5
    assert (len(came) - RATE) / (came[-1].at - came[0].at) <= RATE
