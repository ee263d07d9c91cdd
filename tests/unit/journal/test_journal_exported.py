"""Exported resources: a server is brought up to date from the journal before it answers about them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from pdbclient.config.model import NODE_TTL, Endpoint
from pdbclient.errors import DeadlineExceeded, JournalError, NotSent, Rejected, ServerError, StaleAnswer
from pdbclient.http.outcome import Operation, error_for_status
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.session import Session
from pdbclient.http.staleness import Freshness
from pdbclient.journal import CopyState, EntryState
from pdbclient.journal.ledger import deliveries, exported_sql
from pdbclient.journal.model import ANY, LATER, Copy
from pdbclient.journal.work import exported
from pdbclient.journal.work.exported import PATIENCE, ROUND, Exported
from pdbclient.journal.work.witness import RENEWED
from pdbclient.wire.command import Command

from .puppetdb import Clock, FakeRemote
from .store import CATALOG, DEACTIVATE, FACTS, LEASE, REPORT, A, B, Store, command, stamp

SERVERS = (Endpoint("a.example", 8081, 0), Endpoint("b.example", 8081, 1))
BUDGET, WITHIN = 5.0, 60.0
SETTLED = PATIENCE + ROUND + 1
"""Seconds after which nothing that was in flight can show any more."""


class ExportedJournal:
    """Two servers and the journal of what was submitted to them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock(store.now)
        store.journal.clock = self.clock
        self.registry = ServerRegistry(SERVERS, self.clock, lambda: 0.0)
        self.a, self.b = (FakeRemote(server, self.clock) for server in SERVERS)
        self.unsure = False
        self.lost: list[Endpoint] = []
        self.aged: Callable[[], float] = self.clock
        self._made: list[Exported] = []
        self.exported = self.made()
        store.journal.run(exported_sql.enrol, [A, B])

    def made(self, *, budget: float = BUDGET, serve: bool = True, node_ttl: float = NODE_TTL) -> Exported:
        made = Exported(
            self.store.journal,
            self.registry,
            SERVERS,
            budget=budget,
            serve=serve,
            aged=lambda: self.aged(),
            node_ttl=node_ttl,
            unsure=lambda: self.unsure,
            lost=self.lost.append,
            clock=self.clock,
        )
        self._made.append(made)
        return made

    def close(self) -> None:
        for each in self._made:
            each.close()

    def after(self, server: str) -> int:
        """Up to where the server was noted to have all."""
        sql = "SELECT after FROM replicas WHERE server = :server"
        return int(self.store.journal.run(lambda tx: tx.rows(sql, server=server))[0][0])

    def put(self, name: str = CATALOG, certname: str = "node.example", at: int = 0, *by: FakeRemote) -> int:
        """A command that these servers took at once, and show."""
        self.store.now = self.clock.now
        entry = self.store.put(command(name, certname, at))
        copies = [Copy(server.endpoint.url, CopyState.ACCEPTED, "uuid", self.clock.now) for server in by]
        if copies:
            self.store.settle(entry, *copies)
        for server in by:
            server.show(command(name, certname, at))
        self.clock.now += 0.01
        return entry

    def ask(self, server: FakeRemote, by: Exported | None = None, within: float = WITHIN) -> Freshness:
        return (by or self.exported).bring_up(cast(Session, server), within)

    def read(self, server: FakeRemote, meanwhile: Callable[[], object] = lambda: None) -> tuple[set[str], Freshness]:
        """The nodes whose catalogs an answer shows. `meanwhile` happens at the server before it gives the first."""
        events = [meanwhile]

        def ask(within: float) -> set[str]:
            assert within > 0
            while events:
                events.pop()()
            return {certname for name, certname in server._shown if name == CATALOG}

        return self.exported.answer(cast(Session, server), WITHIN, ask)

    def site_of(self, nodes: int) -> list[str]:
        """So many nodes whose catalogs A took and was seen to have, the last one but for that."""
        certnames = [f"n{number}.example" for number in range(nodes)]
        entries = [self.put(CATALOG, certname, 1, self.a) for certname in certnames]
        self.store.shown(*entries[:-1], server=A)
        return certnames

    def shows(self, server: FakeRemote, name: str, certname: str) -> str | None:
        return server._shown.get((name, certname))


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture
def site(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExportedJournal]:
    made = ExportedJournal(store)
    monkeypatch.setattr(exported, "time", made.clock)
    try:
        yield made
    finally:
        made.close()


# -- who gets what


def test_a_server_that_took_the_newest_commands_is_not_asked_anything(site: ExportedJournal) -> None:
    site.put(CATALOG, "one.example", 1, site.a)
    site.put(DEACTIVATE, "two.example", 2, site.a)
    assert site.ask(site.a) == Freshness()
    assert (site.a.looks, site.a.taken) == (0, [])


def test_a_server_that_lacks_a_catalog_gets_the_exact_command_and_is_asked_when_it_shows_it(
    site: ExportedJournal,
) -> None:
    entry = site.put(CATALOG, "node.example", 1, site.a)
    site.b.delay = 2.0
    began = site.clock.now
    assert site.ask(site.b) == Freshness()
    assert site.b.taken == [command(CATALOG, "node.example", 1)]
    assert 2.0 <= site.clock.now - began < 2.5
    assert site.store.copies(entry) == {A: CopyState.ACCEPTED, B: CopyState.CONFIRMED}


def test_a_deactivation_is_not_pushed_beside_a_newer_catalog(site: ExportedJournal) -> None:
    """PuppetDB works off both at once, and may leave the node deactivated."""
    site.put(DEACTIVATE, "alive.example", 1, site.a)
    site.put(CATALOG, "alive.example", 2, site.a)
    site.put(CATALOG, "dead.example", 1, site.a)
    site.put(DEACTIVATE, "dead.example", 2, site.a)
    assert site.ask(site.b) == Freshness()
    assert sorted((command.name, command.certname) for command in site.b.taken) == [
        (DEACTIVATE, "dead.example"),
        (CATALOG, "alive.example"),
        (CATALOG, "dead.example"),
    ]


@pytest.mark.parametrize("confirmed", [True, False])
def test_what_made_a_deactivated_node_active_again_is_pushed_until_its_next_catalog(
    site: ExportedJournal, confirmed: bool
) -> None:
    """Its last catalog counts again then: who took the deactivation alone goes on to hide it."""
    catalog = site.put(CATALOG, "node.example", 1, site.a, site.b)
    dead = site.put(DEACTIVATE, "node.example", 2, site.a, site.b)
    alive = site.put(FACTS, "node.example", 3, site.a)
    if confirmed:
        site.store.shown(catalog, dead, server=B)
        site.store.shown(catalog, dead, alive, server=A)
    assert site.ask(site.b) == Freshness()
    assert site.b.taken == [command(FACTS, "node.example", 3)]
    assert site.ask(site.b) == Freshness()
    site.put(CATALOG, "node.example", 4, site.a, site.b)
    site.put(FACTS, "node.example", 5, site.a)
    assert site.ask(site.b) == Freshness()
    assert len(site.b.taken) == 1, "that counts no more"


@pytest.mark.parametrize("name", [FACTS, REPORT])
def test_a_deactivation_is_not_pushed_beside_anything_newer_of_its_node(site: ExportedJournal, name: str) -> None:
    site.put(CATALOG, "node.example", 1, site.a)
    site.put(DEACTIVATE, "node.example", 2, site.a)
    site.put(name, "node.example", 3, site.a)
    assert site.ask(site.b) == Freshness()
    assert DEACTIVATE not in {each.name for each in site.b.taken}
    assert CATALOG in {each.name for each in site.b.taken}


def test_what_no_server_has_does_not_keep_a_deactivation_from_being_pushed(site: ExportedJournal) -> None:
    """A report that is pending still, or that a server took long ago and makes nothing of."""
    site.put(CATALOG, "node.example", 1, site.a, site.b)
    site.put(DEACTIVATE, "node.example", 2, site.a)
    site.put(REPORT, "node.example", 3)
    assert site.ask(site.b) == Freshness()
    assert [each.name for each in site.b.taken] == [DEACTIVATE]


def test_a_time_that_no_year_of_ours_has_keeps_nobody_from_the_others(site: ExportedJournal) -> None:
    """I5: one node's `+12999-01-01`, which every PuppetDB takes, kept the server from all queries like this one."""
    for certname in ("good.example", "weird.example"):
        site.put(CATALOG, certname, 1, site.a)
    site.b._shown[CATALOG, "weird.example"] = "+12999-01-01T00:00:00.000Z"
    assert site.ask(site.b) == Freshness()
    assert [each.certname for each in site.b.taken] == ["good.example"]


def test_a_catalog_that_an_older_deactivation_hides_is_sent_once_more(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 2, site.a, site.b)
    site.b.hide("node.example", stamp(1))
    assert site.ask(site.b) == Freshness()
    assert site.b.taken == [command(CATALOG, "node.example", 2)]
    site.b.hide("node.example", stamp(3))
    assert site.ask(site.b) == Freshness()
    assert len(site.b.taken) == 1


def test_one_that_stays_hidden_is_sent_once_for_each_query_and_told(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 2, site.a, site.b)
    site.b.hide("node.example", stamp(1))
    site.b.delay = None
    assert site.ask(site.b) == Freshness(1, stamp(2))
    assert len(site.b.taken) == 1


def test_a_server_that_got_it_once_is_not_asked_again(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a)
    site.ask(site.b)
    looks = site.b.looks
    assert site.ask(site.b) == Freshness()
    assert (site.b.looks, len(site.b.taken)) == (looks, 1)


def test_what_a_server_already_shows_is_confirmed_and_not_sent(site: ExportedJournal) -> None:
    """A reconciler brought it, or something newer."""
    entry = site.put(CATALOG, "node.example", 1, site.a)
    site.b.show(command(CATALOG, "node.example", 2))
    assert site.ask(site.b) == Freshness()
    assert site.b.taken == []
    assert site.store.copies(entry)[B] is CopyState.CONFIRMED


def test_of_a_nodes_catalogs_only_the_newest_is_sent(site: ExportedJournal) -> None:
    for at in range(3):
        site.put(CATALOG, "node.example", at, site.a)
    site.ask(site.b)
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(2)]


def test_facts_and_reports_are_not_sent(site: ExportedJournal) -> None:
    site.put(FACTS, "node.example", 1, site.a)
    site.put("store report", "node.example", 2, site.a)
    assert site.ask(site.b) == Freshness()
    assert (site.b.taken, site.b.looks) == ([], 0)


def test_a_deactivation_that_another_server_took_is_sent_too(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a, site.b)
    site.put(DEACTIVATE, "node.example", 2, site.a)
    assert site.ask(site.b) == Freshness()
    assert [each.name for each in site.b.taken] == [DEACTIVATE]


def test_a_node_that_would_have_expired_is_not_brought_back_to_life(site: ExportedJournal) -> None:
    site.put(CATALOG, "gone.example", 1, site.a)
    site.clock.now += NODE_TTL + 1
    site.put(CATALOG, "alive.example", 2, site.a)
    assert site.ask(site.b) == Freshness()
    assert [each.certname for each in site.b.taken] == ["alive.example"]


@pytest.mark.parametrize("node_ttl", [30 * 86400.0, 0.0])
def test_where_nodes_expire_later_or_never_a_quiet_nodes_catalog_is_pushed(
    site: ExportedJournal, node_ttl: float
) -> None:
    """It was left out after 7 days, PuppetDB's default, and the answer called fresh."""
    site.put(CATALOG, "quiet.example", 1, site.a)
    site.clock.now += 8 * 86400
    assert site.ask(site.b, site.made(node_ttl=node_ttl)) == Freshness()
    assert [each.certname for each in site.b.taken] == ["quiet.example"]


def test_a_clock_that_jumps_ahead_for_a_moment_leaves_nothing_out(site: ExportedJournal) -> None:
    """It lasted for two minutes: all that was there was too old then, and taken for had for good."""
    site.put(CATALOG, "node.example", 1, site.a)
    right = site.clock.now
    site.aged = lambda: right
    site.clock.now += NODE_TTL + 1
    assert site.ask(site.b) == Freshness()
    assert [each.certname for each in site.b.taken] == ["node.example"]


def test_after_a_failover_what_is_on_its_way_is_awaited_where_readers_saw_something_newer(
    site: ExportedJournal,
) -> None:
    """B took the third one itself, at once, and still showed the first: the second was seen at A."""
    site.put(CATALOG, "node.example", 1, site.a, site.b)
    site.put(CATALOG, "node.example", 2, site.a)
    third = site.put(CATALOG, "node.example", 3)
    site.store.settle(third, Copy(B, CopyState.ACCEPTED, None, site.clock.now))
    assert site.ask(site.b).missing == 1
    site.b.show(command(CATALOG, "node.example", 3))
    assert site.ask(site.b) == Freshness()


def test_so_is_what_was_pushed_while_a_newer_one_is_under_way(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a, site.b)
    second = site.put(CATALOG, "node.example", 2, site.a)
    site.store.settle(second, Copy(B, CopyState.ACCEPTED, None, site.clock.now))
    site.store.journal.append(command(CATALOG, "node.example", 3), (ANY,)).result()
    assert site.ask(site.b).missing == 1
    site.b.show(command(CATALOG, "node.example", 2))
    assert site.ask(site.b) == Freshness()


def test_where_one_server_took_and_shows_everything_nothing_is_awaited(site: ExportedJournal) -> None:
    """The ordinary life of a site."""
    for number in range(3):
        site.put(CATALOG, "node.example", number, site.a)
        assert site.ask(site.a) == Freshness()
    assert (site.a.looks, site.a.taken) == (0, [])


@pytest.mark.parametrize("after", [0.005, 0.5, 5.0])
def test_what_no_server_took_at_first_is_awaited_however_soon_one_did(site: ExportedJournal, after: float) -> None:
    """Its client was told that the journal has it: whoever asks then sees it. For a second, it was not awaited."""
    entry = site.put(CATALOG, "node.example", 1)
    site.clock.now += after
    site.store.settle(entry, Copy(A, CopyState.ACCEPTED, None, site.clock.now, LATER))
    assert site.ask(site.a).missing == 1
    site.a.show(command(CATALOG, "node.example", 1))
    assert site.ask(site.a) == Freshness()


def test_what_a_server_took_after_another_one_hung_is_not_awaited(site: ExportedJournal) -> None:
    """Nobody was told before it had it."""
    entry = site.put(CATALOG, "node.example", 1)
    site.clock.now += 5.0
    site.store.settle(entry, Copy(A, CopyState.ACCEPTED, None, site.clock.now))
    assert site.ask(site.a) == Freshness()


def test_with_broadcast_what_one_server_took_is_not_hidden_by_another_that_hangs(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a, site.b)
    under_way = site.store.journal.append(command(CATALOG, "node.example", 2), (A, B)).result().id
    assert site.ask(site.b) == Freshness(), "nobody was told"
    site.store.settle(under_way, Copy(A, CopyState.ACCEPTED, None, site.clock.now))
    assert site.ask(site.b) == Freshness()
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(2)]


def test_while_something_could_not_be_noted_no_answer_is_called_fresh(site: ExportedJournal) -> None:
    """On a full disk, what was acknowledged looked as if it were under way still."""
    site.unsure = True
    assert site.ask(site.b) == Freshness(1)
    site.unsure = False
    assert site.ask(site.b) == Freshness()


def test_what_went_to_all_servers_at_once_is_awaited_on_each(site: ExportedJournal) -> None:
    """With broadcast. Whoever saw it on one of them finds it on the other."""
    entry = site.put(CATALOG, "node.example", 1)
    at = site.clock.now
    copies = [Copy(server, CopyState.ACCEPTED, None, at) for server in (A, B)]
    site.store.journal.run(deliveries.ack, entry, copies)
    for server in (site.a, site.b):
        assert site.ask(server).missing == 1


def test_on_the_way_back_the_first_server_gets_what_the_second_took(site: ExportedJournal) -> None:
    site.put(CATALOG, "before.example", 1, site.a)
    site.ask(site.b)
    site.put(CATALOG, "during.example", 2, site.b)
    assert site.ask(site.a) == Freshness()
    assert [each.certname for each in site.a.taken] == ["during.example"]
    assert site.shows(site.b, CATALOG, "before.example") == stamp(1)


def test_what_no_server_took_is_sent_and_delivery_has_nothing_left_to_do(site: ExportedJournal) -> None:
    entry = site.put(CATALOG, "node.example", 1)
    site.clock.now += 2.0
    site.b.delay = 1.0
    assert site.ask(site.b) == Freshness()
    assert site.store.state(entry) is EntryState.DELIVERED
    assert site.store.counts().pending == {}
    assert site.shows(site.b, CATALOG, "node.example") == stamp(1)


def test_what_delivery_brings_there_meanwhile_is_not_sent_again(site: ExportedJournal) -> None:
    """Both work through the same list, when the second server is the first one back."""
    first, second = site.put(CATALOG, "first.example", 1), site.put(CATALOG, "second.example", 2)
    site.clock.now += 2.0
    site.b.delay = 1.0

    def deliver() -> None:
        if not site.b.taken:
            site.b.submit(command(CATALOG, "second.example", 2))
            site.store.settle(second, Copy(B, CopyState.ACCEPTED, "uuid", site.clock.now, LATER))

    site.b.silence = deliver
    assert site.ask(site.b) == Freshness()
    assert [each.certname for each in site.b.taken] == ["second.example", "first.example"]
    assert [site.store.copies(entry) for entry in (first, second)] == [{B: CopyState.CONFIRMED}] * 2


# -- what nobody was told of


def test_what_is_under_way_for_the_first_time_is_not_waited_for(site: ExportedJournal) -> None:
    site.store.journal.append(command(CATALOG, "node.example", 1), (ANY,)).result()
    assert site.ask(site.b) == Freshness()
    assert (site.b.taken, site.b.looks) == ([], 0)


def test_a_newer_catalog_under_way_does_not_hide_the_one_that_counts_until_then(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 0, site.a)
    site.put(CATALOG, "node.example", 1, site.a)
    site.store.journal.append(command(CATALOG, "node.example", 2), (ANY,)).result()
    assert site.ask(site.b) == Freshness()
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(1)]


def test_what_a_server_called_bad_is_not_sent_to_another(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a)
    site.store.rejected(site.put(CATALOG, "node.example", 2))
    assert site.ask(site.b) == Freshness()
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(1)]


# -- the budget


def test_when_the_budget_runs_out_the_answer_is_stale_and_says_how_much_is_missing_since_when(
    site: ExportedJournal, caplog: pytest.LogCaptureFixture
) -> None:
    site.b.delay = None
    for at in (3, 1, 2):
        site.put(CATALOG, f"node{at}.example", at, site.a)
    began = site.clock.now
    assert site.ask(site.b) == Freshness(3, stamp(1))
    assert site.clock.now - began == pytest.approx(BUDGET, abs=0.2)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "b.example:8081 answers about exported resources without 3 newer commands" in record.getMessage()
    assert f"the oldest of {stamp(1)}: not visible there within 5 s" in record.getMessage()


def test_with_stale_exported_fail_there_is_an_error_instead(site: ExportedJournal) -> None:
    site.b.delay = None
    site.put(CATALOG, "node.example", 1, site.a)
    with pytest.raises(
        StaleAnswer, match=f"b.example:8081: 1 command missing since {stamp(1)}: not visible"
    ) as error:
        site.ask(site.b, site.made(serve=False))
    assert (error.value.missing, error.value.since) == (1, stamp(1))


def test_bringing_up_leaves_time_for_the_answer(site: ExportedJournal) -> None:
    site.b.delay = None
    site.put(CATALOG, "node.example", 1, site.a)
    began = site.clock.now
    site.ask(site.b, within=2.0)
    assert site.clock.now - began == pytest.approx(1.0, abs=0.2)


def test_a_budget_that_is_too_small_makes_a_stale_answer_and_no_failure_of_the_server(site: ExportedJournal) -> None:
    """Whatever ends it at its very end, be it that no connection was made in a hundredth of a second."""

    def slow(*_: object) -> None:
        site.clock.now += 1.0
        raise NotSent(B, "no connection (TCP and TLS) within the connect timeout")

    site.put(CATALOG, "node.example", 1, site.a)
    site.b.silence = slow
    assert site.ask(site.b, site.made(budget=0.01)) == Freshness(1, stamp(1))


def test_after_a_stale_answer_the_next_one_takes_up_where_that_ended(site: ExportedJournal) -> None:
    site.b.delay = 6.0
    site.put(CATALOG, "node.example", 1, site.a)
    assert site.ask(site.b).stale
    assert site.ask(site.b) == Freshness()
    assert len(site.b.taken) == 1


def test_preparing_a_server_takes_its_own_time_and_makes_no_answer_stale(site: ExportedJournal) -> None:
    site.b.delay = 20.0
    site.put(CATALOG, "node.example", 1, site.a)
    site.exported.prepare(cast(Session, site.b), 30.0)
    assert site.ask(site.b) == Freshness()


def test_more_than_a_page_is_brought_up_page_by_page(site: ExportedJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdbclient.journal.ledger.exported_sql.PAGE", 10)
    for at in range(35):
        site.put(CATALOG, f"node{at}.example", at, site.a)
    assert site.ask(site.b) == Freshness()
    assert len(site.b.taken) == 35
    assert {each.producer_timestamp for each in site.b.taken[:10]} == {stamp(at) for at in range(25, 35)}


# -- failures


def test_a_push_that_is_rejected_is_noted_and_not_repeated(
    site: ExportedJournal, caplog: pytest.LogCaptureFixture
) -> None:
    entry = site.put(CATALOG, "node.example", 1, site.a)
    site.b.verdict = failing(Rejected(B, 413, "too large"))
    assert site.ask(site.b) == Freshness()
    assert site.store.copies(entry) == {A: CopyState.ACCEPTED, B: CopyState.REJECTED}
    assert site.store.state(entry) is EntryState.DELIVERED
    looks = site.b.looks
    site.ask(site.b)
    assert site.b.looks == looks
    assert "b.example:8081 does not take replace catalog for node.example" in caplog.text


def test_a_damaged_entry_is_noted_and_the_others_are_sent(
    site: ExportedJournal, caplog: pytest.LogCaptureFixture
) -> None:
    bad = site.put(CATALOG, "bad.example", 1, site.a)
    site.put(CATALOG, "good.example", 2, site.a)
    body = b"\x00" * 20
    site.store.journal.run(lambda tx: tx.execute("UPDATE entries SET body = :body WHERE id = :id", body=body, id=bad))
    assert site.ask(site.b) == Freshness()
    assert [each.certname for each in site.b.taken] == ["good.example"]
    assert site.store.copies(bad)[B] is CopyState.REJECTED
    assert "damaged in the journal" in caplog.text


@pytest.mark.parametrize("error", [NotSent(B, "Connection refused"), DeadlineExceeded(B, "no answer")])
def test_a_server_that_fails_meanwhile_is_passed_over_as_with_any_query(
    site: ExportedJournal, error: NotSent
) -> None:
    for at in range(30):
        site.put(CATALOG, f"node{at}.example", at, site.a)
    for way in ("silence", "verdict"):
        setattr(site.b, way, failing(error))
        with pytest.raises(type(error)):
            site.ask(site.b)
        setattr(site.b, way, lambda *_: None)
    assert site.ask(site.b) == Freshness()
    assert len({each.certname for each in site.b.taken}) == 30


def failing_status(status: int) -> ServerError:
    made = error_for_status(B, status, {}, b"on purpose", Operation.COMMAND)
    assert made is not None
    return made


@pytest.mark.parametrize("status", [500, 502, 503, 429, 403])
def test_a_server_that_takes_no_commands_answers_all_the_same_and_it_is_stale(
    site: ExportedJournal, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """J4: the push's error became the query's. Nobody waits for what the server did not take."""
    for at in range(30):
        site.put(CATALOG, f"node{at}.example", at, site.a)
    site.b.verdict = failing(failing_status(status))
    began = site.clock.now
    assert site.ask(site.b) == Freshness(30, stamp(0))
    assert site.clock.now == began
    assert "without 30 newer commands" in caplog.text
    assert f"it does not take them: HTTP {status}: on purpose" in caplog.text
    with pytest.raises(StaleAnswer, match=f"HTTP {status}: on purpose"):
        site.ask(site.b, by=site.made(serve=False))
    site.b.verdict = lambda _: None
    assert site.ask(site.b) == Freshness()


def test_one_command_that_a_server_fails_keeps_the_others_from_nothing(site: ExportedJournal) -> None:
    for at in range(10):
        site.put(CATALOG, f"node{at}.example", at, site.a)

    def verdict(sent: Command) -> None:
        if sent.certname == "node5.example":
            raise failing_status(500)

    site.b.verdict = verdict
    assert site.ask(site.b) == Freshness(1, stamp(5))
    assert len(site.b.taken) == 9


def test_without_its_journal_nobody_knows_what_is_missing_and_the_answer_says_so(
    site: ExportedJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal = site.store.journal
    reads = journal._reads or journal._commits
    reads._first.database.transact = failing(JournalError("no room"))  # type: ignore[method-assign]
    assert site.ask(site.a) == Freshness(1)
    assert "without 1 newer commands: what it lacks is not known: no room" in caplog.text


def test_what_a_server_took_and_never_shows_is_given_up_after_a_while(site: ExportedJournal) -> None:
    site.b.delay = None
    site.put(CATALOG, "node.example", 1, site.a)
    assert site.ask(site.b).stale
    site.clock.now += PATIENCE
    looks = site.b.looks
    assert site.ask(site.b) == Freshness()
    assert (site.b.looks, len(site.b.taken)) == (looks, 1)


# -- several askers


def test_two_queries_at_once_push_once_and_both_wait(site: ExportedJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "time", time)
    real = Exported(
        site.store.journal, site.registry, SERVERS, budget=20.0, serve=True, aged=site.store.journal.clock
    )
    site.b = FakeRemote(SERVERS[1], time.monotonic, 0.5)
    for at in range(20):
        site.put(CATALOG, f"node{at}.example", at, site.a)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: real.bring_up(cast(Session, site.b), WITHIN), range(8)))
    real.close()
    assert answers == [Freshness()] * 8
    assert sorted(each.certname for each in site.b.taken) == sorted(f"node{at}.example" for at in range(20))


def test_whoever_cannot_wait_for_another_ones_work_knows_how_much_is_missing(
    site: ExportedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "time", time)
    entered, leave = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        assert leave.wait(20)

    site.put(CATALOG, "node.example", 1, site.a)
    site.b.silence = hang
    real = Exported(
        site.store.journal, site.registry, SERVERS, budget=20.0, serve=True, aged=site.store.journal.clock
    )
    hasty = Exported(
        site.store.journal, site.registry, SERVERS, budget=0.05, serve=True, aged=site.store.journal.clock
    )
    hasty._progress = real._progress
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(real.bring_up, cast(Session, site.b), WITHIN)
        assert entered.wait(20)
        second = hasty.bring_up(cast(Session, site.b), WITHIN)
        leave.set()
        assert first.result(20) == Freshness()
    real.close()
    hasty.close()
    assert second == Freshness(1, stamp(1))


def test_what_another_process_pushed_or_this_one_before_a_restart_is_waited_for(site: ExportedJournal) -> None:
    site.b.delay = 3.0
    site.put(CATALOG, "node.example", 1, site.a)
    assert site.ask(site.b, site.made(budget=1.0)).stale
    began = site.clock.now
    assert site.ask(site.b, site.made()) == Freshness()
    assert site.clock.now - began > 1.5
    assert len(site.b.taken) == 1


# -- what the look costs, and what is remembered


def test_the_look_begins_behind_what_a_server_has_but_never_past_what_was_under_way(site: ExportedJournal) -> None:
    first = site.put(CATALOG, "one.example", 1, site.a)
    under_way = site.store.journal.append(command(CATALOG, "two.example", 2), (ANY,)).result()
    last = site.put(CATALOG, "three.example", 3, site.a)
    site.ask(site.a)
    site.clock.now += LEASE / 2
    site.ask(site.a)
    assert site.after(A) < first, "what was under way then may still end anywhere"
    # It ended on the other server.
    site.store.settle(under_way.id, Copy(B, CopyState.ACCEPTED, "uuid", site.clock.now))
    assert site.ask(site.a) == Freshness()
    assert [each.certname for each in site.a.taken] == ["two.example"]
    site.clock.now += SETTLED
    site.ask(site.a)
    assert site.after(A) == last
    site.put(CATALOG, "four.example", 4, site.b)
    site.ask(site.a)
    assert [each.certname for each in site.a.taken] == ["two.example", "four.example"]


def test_the_look_does_not_move_on_while_something_is_missing(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a)
    site.b.delay = None
    for _ in range(5):
        assert site.ask(site.b).stale
        site.clock.now += LEASE / 4
    assert site.after(B) == 0


def far_ahead(site: ExportedJournal, last: int) -> None:
    """The first server was noted to have all up to there."""
    for _ in range(3):
        assert site.ask(site.a) == Freshness()
        site.clock.now += SETTLED
    assert site.after(A) == last


def test_one_that_was_parked_and_is_tried_again_is_pushed_however_old_it_is(site: ExportedJournal) -> None:
    """J14: its id lay below the mark in memory."""
    parked = site.put(CATALOG, "node.example", 1)
    site.store.rejected(parked, B)
    far_ahead(site, site.put(CATALOG, "other.example", 2, site.a))
    site.store.retry(parked)
    assert site.ask(site.a) == Freshness()
    assert [each.certname for each in site.a.taken] == ["node.example"]


def test_what_counts_again_while_it_is_looked_at_is_not_passed_over(site: ExportedJournal) -> None:
    parked = site.put(CATALOG, "node.example", 1)
    site.store.rejected(parked, B)
    last = site.put(CATALOG, "other.example", 2, site.a)
    site.ask(site.a)
    site.clock.now += SETTLED / 2
    site.store.retry(parked)
    site.store.rejected(parked, B)
    site.store.retry(parked)
    site.clock.now += SETTLED
    site.a.delay = None
    assert site.ask(site.a).stale
    assert site.after(A) < parked < last


@pytest.mark.parametrize("pause", [1.0, 60.0])
def test_how_often_it_is_asked_does_not_decide_whether_it_is_up_to_date(site: ExportedJournal, pause: float) -> None:
    """The mark went past what was still to be found to be ignored."""
    site.put(CATALOG, "node.example", 1, site.a)
    began = site.clock.now
    site.store.taken(site.put(CATALOG, "node.example", 2), B)
    for _ in range(int(2 * PATIENCE / pause)):
        waits = site.clock.now < began + PATIENCE
        assert site.ask(site.b).missing == waits
        site.clock.now += pause
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(1)]


def test_where_the_newest_was_called_bad_the_one_before_is_pushed(site: ExportedJournal) -> None:
    site.put(CATALOG, "node.example", 1, site.a)
    newest = site.put(CATALOG, "node.example", 2, site.a)
    site.store.rejected(newest, B)
    assert site.ask(site.b) == Freshness()
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(1)]


def test_a_server_that_lost_data_is_not_taken_for_up_to_date(site: ExportedJournal) -> None:
    entry = site.put(CATALOG, "node.example", 1, site.a, site.b)
    site.store.shown(entry, server=B)
    far_ahead(site, entry)
    site.b._shown.clear()
    assert site.ask(site.b) == Freshness()
    site.store.journal.run(exported_sql.forget, B)
    assert site.ask(site.b) == Freshness()
    assert [each.certname for each in site.b.taken] == ["node.example"]


def test_a_journal_that_was_put_back_begins_where_it_was(site: ExportedJournal) -> None:
    """J14: the mark in memory was that of the later one."""
    far_ahead(site, site.put(CATALOG, "one.example", 1, site.a))
    site.ask(site.a)
    site.store.journal.run(lambda tx: tx.execute("UPDATE replicas SET after = 0"))
    site.store.drop(*site.store.ids())
    assert site.ask(site.a) == Freshness()
    site.clock.now += SETTLED
    site.ask(site.a)
    assert site.after(A) == 0


def test_what_a_server_makes_nothing_of_is_followed_by_the_one_before(site: ExportedJournal) -> None:
    """J10: the newest one counted, though PuppetDB discarded it after its 200."""
    site.put(CATALOG, "node.example", 1, site.a)
    site.put(CATALOG, "node.example", 2, site.a)
    site.b.discards = {stamp(2)}
    assert site.ask(site.b).stale
    site.clock.now += PATIENCE + 1
    assert site.ask(site.b) == Freshness()
    assert [each.producer_timestamp for each in site.b.taken] == [stamp(2), stamp(1)]


def test_pushing_to_a_server_does_not_make_another_one_look_behind(site: ExportedJournal) -> None:
    site.registry.accepted(command(CATALOG, "node.example", 1), [SERVERS[0]])
    site.put(CATALOG, "node.example", 1, site.a)
    assert site.registry.freshness(SERVERS[1]).missing == 1
    site.ask(site.b)
    assert site.registry.freshness(SERVERS[1]) == Freshness()
    assert site.registry.freshness(SERVERS[0]) == Freshness()


def test_reads_go_home_once_the_first_server_shows_what_was_written_past_it(site: ExportedJournal) -> None:
    site.registry.accepted(command(CATALOG, "node.example", 1), [SERVERS[1]])
    site.put(CATALOG, "node.example", 1, site.b)
    assert SERVERS[0] in site.registry.to_confirm(10)
    site.ask(site.a)
    assert site.registry.to_confirm(10) == {}


def test_without_a_thread_to_send_it_what_a_server_lacks_is_told(
    site: ExportedJournal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The query ended with `RuntimeError`."""
    site.put(CATALOG, "node.example", 1, site.a)

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        assert site.ask(site.b) == Freshness(1, stamp(1))
    assert "can't start new thread" in caplog.text
    assert site.ask(site.b) == Freshness()
    assert len(site.b.taken) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_with_fewer_threads_than_usual_all_is_sent(
    site: ExportedJournal, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    for at in range(10):
        site.put(CATALOG, f"n{at}", at, site.a)
    start, started = threading.Thread.start, 0

    def few(thread: threading.Thread) -> None:
        nonlocal started
        if started == threads:
            raise RuntimeError("can't start new thread")
        started += 1
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", few)
        assert site.ask(site.b) == Freshness()
    assert {command.certname for command in site.b.taken} == {f"n{at}" for at in range(10)}


# -- a server that lost data, and was looked at a moment ago


def emptied(server: FakeRemote) -> None:
    server._shown.clear()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_server_that_was_emptied_answers_when_it_has_all_again(site: ExportedJournal, when: str) -> None:
    """It was found out minutes later, by the audit: until then its answers were called fresh."""
    certnames = site.site_of(6)
    assert site.read(site.a) == (set(certnames), Freshness())
    if when == "before":
        emptied(site.a)
    assert site.read(site.a, lambda: emptied(site.a)) == (set(certnames), Freshness())
    assert {each.certname for each in site.a.taken} == set(certnames), "what it only took is lost as well"
    assert site.lost == [SERVERS[0]]
    assert site.read(site.a) == (set(certnames), Freshness())
    assert site.lost == [SERVERS[0]]


def test_a_server_that_was_restored_answers_when_it_has_all_again(site: ExportedJournal) -> None:
    certnames = site.site_of(6)
    newest = site.put(CATALOG, certnames[0], 9, site.a)
    site.store.shown(newest, server=A)
    assert site.read(site.a)[1] == Freshness()
    site.a._shown[CATALOG, certnames[0]] = stamp(1)
    assert site.read(site.a) == (set(certnames), Freshness())
    assert site.shows(site.a, CATALOG, certnames[0]) == stamp(9)
    assert site.lost == [SERVERS[0]]


def test_what_a_server_was_seen_to_have_lately_counts_too(site: ExportedJournal) -> None:
    certnames = site.site_of(4)
    assert site.read(site.a)[1] == Freshness()
    later = site.put(CATALOG, certnames[0], 5, site.a)
    site.store.shown(later, server=A)
    site.clock.now += RENEWED
    site.a._shown[CATALOG, certnames[0]] = stamp(1)
    assert site.read(site.a)[1] == Freshness()
    assert site.lost == [SERVERS[0]]


def test_what_an_answer_showed_counts_though_no_audit_has_seen_it(site: ExportedJournal) -> None:
    """Its gateway was frozen meanwhile."""
    certnames = [f"n{number}.example" for number in range(3)]
    for certname in certnames:
        site.put(CATALOG, certname, 1, site.a)
    assert site.read(site.a) == (set(certnames), Freshness())
    emptied(site.a)
    assert site.read(site.a) == (set(certnames), Freshness())
    assert site.lost == [SERVERS[0]]


def test_what_an_answer_showed_counts_though_something_newer_is_in_the_queue(
    site: ExportedJournal,
) -> None:
    certnames = [f"n{number}.example" for number in range(3)]
    for certname in certnames:
        site.put(CATALOG, certname, 1, site.a)
    assert site.read(site.a)[1] == Freshness()
    for certname in certnames:
        site.store.settle(site.put(CATALOG, certname, 2), Copy(A, CopyState.ACCEPTED, "uuid", site.clock.now))
    emptied(site.a)
    site.clock.now += RENEWED
    assert site.read(site.a) == (set(certnames), Freshness())
    assert site.lost == [SERVERS[0]]


def test_what_waits_in_the_servers_queue_is_not_lost(site: ExportedJournal) -> None:
    certnames = site.site_of(6)
    for certname in certnames:
        site.store.settle(site.put(CATALOG, certname, 2), Copy(A, CopyState.ACCEPTED, "uuid", site.clock.now))
    for _ in range(3):
        assert site.read(site.a) == (set(certnames), Freshness())
    assert site.lost == []


def test_a_node_that_was_deleted_by_hand_does_not_come_back(site: ExportedJournal) -> None:
    certnames = site.site_of(6)
    del site.a._shown[CATALOG, certnames[0]]
    assert site.read(site.a) == (set(certnames[1:]), Freshness())
    assert (site.a.taken, site.lost) == ([], [])


def test_what_could_not_be_brought_back_in_time_makes_the_answer_stale(site: ExportedJournal) -> None:
    certnames = site.site_of(6)
    site.a.delay = 1000.0
    shown, freshness = site.read(site.a, lambda: emptied(site.a))
    assert (shown, freshness.missing) == (set(), len(certnames))
    # Not again for each: it is known to be behind.
    assert site.read(site.a)[1].missing == len(certnames)
    assert site.lost == [SERVERS[0]]


def test_nothing_is_answered_then_where_stale_answers_are_not_wanted(site: ExportedJournal) -> None:
    site.site_of(6)
    site.exported = site.made(serve=False)
    site.a.delay = 1000.0
    with pytest.raises(StaleAnswer):
        site.read(site.a, lambda: emptied(site.a))


def test_catalogs_of_nodes_that_expired_are_asked_for_once(site: ExportedJournal) -> None:
    """They are not sent again, and it is not found out at each query anew."""
    site.site_of(6)
    site.clock.now += NODE_TTL + 60
    assert site.read(site.a)[1] == Freshness()
    emptied(site.a)
    assert site.read(site.a) == (set(), Freshness())
    assert site.read(site.a) == (set(), Freshness())
    assert (site.lost, site.a.taken) == ([SERVERS[0]], [])


def test_an_answer_costs_one_more_question(site: ExportedJournal) -> None:
    site.site_of(100)
    site.read(site.a)
    before = site.a.looks
    site.read(site.a)
    assert site.a.looks == before + 1


def test_a_server_that_goes_before_that_is_seen_has_not_answered(site: ExportedJournal) -> None:
    site.site_of(6)
    site.a.silence = failing(NotSent("https://a.example:8081", "refused"))
    with pytest.raises(NotSent):
        site.read(site.a)


def test_without_the_journal_an_answer_of_which_nothing_is_known_is_stale(
    site: ExportedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    certnames = site.site_of(6)
    down = failing(JournalError("gone"))
    shown, freshness = site.read(site.a, lambda: monkeypatch.setattr(site.store.journal, "read", down))
    assert (shown, freshness.stale) == (set(certnames), True)


def test_an_answer_that_came_at_the_end_of_the_time_is_there_and_stale(site: ExportedJournal) -> None:
    certnames = site.site_of(6)

    def late() -> None:
        site.clock.now += WITHIN
        site.a.silence = failing(DeadlineExceeded("https://a.example:8081", "no answer within its time"))

    shown, freshness = site.read(site.a, late)
    assert (shown, freshness.stale) == (set(certnames), True)
