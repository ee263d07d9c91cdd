"""Whether a server shows what it took and still has what it had: the rules, and what is said and done."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from pdbclient.errors import NotSent, ServerError
from pdbclient.journal import Journal
from pdbclient.journal.ledger import exported_sql, holdings
from pdbclient.journal.model import LATE, Copy, CopyState, EntryState, Listed
from pdbclient.journal.work import audit, recovery
from pdbclient.journal.work.audit import SETTLING, Audit, Loss, judge_loss, late
from pdbclient.journal.work.leases import Leased, hold
from pdbclient.journal.work.seen import Shown
from pdbclient.wire import timestamp

from .server import FakeServer
from .store import CATALOG, DEACTIVATE, EXPIRE, FACTS, INPUTS, ON_DISK, REPORT, A, B, Store, command, stamp

NOW = timestamp.to_millis(stamp(1000)) / 1000
DAY = 86400


def listed(name: str, certname: str, at: int = 100) -> Listed:
    return Listed(1, "uuid", 0.0, EntryState.DELIVERED, name, 5, certname, stamp(at), "identity", 2, 2)


def there(*entries: Listed) -> Shown:
    """A server that has these."""
    return Shown(
        {(e.name, e.certname): e.producer_timestamp for e in entries if e.name != REPORT},
        {(e.certname, e.producer_timestamp) for e in entries if e.name == REPORT},
        {},
    )


def nodes(names: Iterable[str], *kinds: str) -> list[Listed]:
    return [listed(kind, name) for name in names for kind in kinds or (FACTS, CATALOG, REPORT)]


# -- the rule about lost data


def test_a_server_that_has_all_or_something_newer_lost_nothing() -> None:
    sample = nodes("abc")
    assert judge_loss(sample, there(*sample), NOW) is None
    newer = [listed(FACTS, "a", 101), *(entry for entry in sample if (entry.name, entry.certname) != (FACTS, "a"))]
    assert judge_loss(sample, there(*newer), NOW) is None
    assert judge_loss([], there(), NOW) is None


def test_an_emptied_server_has_lost_data() -> None:
    loss = judge_loss(nodes("abc"), there(), NOW)
    assert loss is not None
    assert (loss.went_back, loss.gone, loss.nodes) == ((), ("a", "b", "c"), 3)


@pytest.mark.parametrize("kind", [FACTS, CATALOG, INPUTS])
def test_one_node_that_went_back_is_enough(kind: str) -> None:
    sample = [*nodes("bcdefg"), listed(kind, "a")]
    loss = judge_loss(sample, there(*sample[:-1], listed(kind, "a", 99)), NOW)
    assert loss == Loss(("a",), (), 7, sample[-1])


def test_a_node_that_is_gone_was_purged_or_deleted() -> None:
    sample = nodes("abc")
    assert judge_loss(sample, there(*nodes("bc")), NOW) is None
    assert judge_loss(nodes("a"), there(), NOW) is None, "the only one, even"


@pytest.mark.parametrize(("total", "gone", "lost"), [(10, 4, False), (10, 5, True), (2, 1, False), (3, 2, True)])
def test_half_of_the_nodes_and_two_at_the_least_are_a_loss(total: int, gone: int, lost: bool) -> None:
    names = "abcdefghij"[:total]
    assert (judge_loss(nodes(names), there(*nodes(names[gone:])), NOW) is not None) is lost


def test_reports_alone_can_be_lost_while_they_are_young() -> None:
    sample = nodes("abcd")
    without_reports = there(*nodes("abcd", FACTS, CATALOG))
    assert judge_loss(sample, without_reports, NOW) is not None
    assert judge_loss(sample, without_reports, NOW + DAY + 1000) is None, "report-ttl may have taken them"


def test_a_report_that_is_gone_where_an_older_one_is_was_lost() -> None:
    """Neither a node's deletion nor report-ttl leaves the older of two."""
    sample = nodes("abcd")
    without = there(*[entry for entry in sample if (entry.name, entry.certname) != (REPORT, "a")])
    assert judge_loss(sample, without, NOW) is None, "deleted, and enrolled anew"
    assert judge_loss(sample, without, NOW, {"a": stamp(101)}) is None, "deleted, and enrolled anew"
    loss = judge_loss(sample, without, NOW, {"a": stamp(99)})
    assert loss == Loss((), ("a",), 4, sample[2])
    assert judge_loss(sample, without, NOW + DAY + 1000, {"a": stamp(99)}) is None


def test_deactivations_go_with_their_nodes() -> None:
    assert judge_loss(nodes("abcd", DEACTIVATE), there(), NOW) is None


def test_expiration_is_gone_only_with_its_node_and_does_not_go_back() -> None:
    sample = nodes("abcd", EXPIRE)
    assert judge_loss(sample, there(), NOW) is not None
    assert judge_loss(sample, there(*nodes("bcd", EXPIRE), listed(EXPIRE, "a", 99)), NOW) is None


def test_a_loss_says_how_many_and_names_one() -> None:
    sample = nodes("abc", FACTS)
    text = str(judge_loss(sample, there(listed(FACTS, "b", 99)), NOW))
    assert text == (
        f"of 3 nodes 1 are older there than they were, 2 lack something, such as {FACTS} of b as of {stamp(100)}"
    )


@pytest.mark.parametrize(("ago", "expected"), [(LATE + 1, True), (LATE - 1, False), (-LATE, False), (-864_000, True)])
def test_what_was_taken_long_ago_or_by_a_clock_that_was_ahead_is_late_where_it_was_taken(
    ago: float, expected: bool
) -> None:
    entry = replace(listed(FACTS, "a"), copies=(Copy(A, CopyState.ACCEPTED, "uuid", NOW - ago),))
    assert late(entry, A, NOW) is expected
    assert not late(entry, B, NOW)


# -- at work


class AuditSite:
    """A journal, a server, the audit of it; `later` moves both clocks."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.store, self.server = store, FakeServer(A)
        store.now = NOW
        self.elapsed = 1000.0
        monkeypatch.setattr(audit, "monotonic", lambda: self.elapsed)
        self.audit = Audit(store.journal, self.server.session, **{"heal": False, "rate": 100_000, **options})

    def later(self, seconds: float) -> None:
        self.store.now += seconds
        self.elapsed += seconds

    def take(self, name: str = FACTS, certname: str = "n", at: int = 1, body: bytes = b"{}") -> int:
        """The server takes it and shows it, unless it discards."""
        sent = command(name, certname, at, body)
        entry = self.store.put(sent)
        self.store.taken(entry, A, self.server.submit(sent))
        return entry

    def state(self, entry: int) -> CopyState:
        return self.store.copies(entry)[A]


@pytest.fixture
def site(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> AuditSite:
    for name, seconds in (("QUIET", 0.05), ("LOOK_FIRST", 0.01), ("DEPTH_POLL", 0.01)):
        monkeypatch.setattr(recovery, name, seconds)
    caplog.set_level(logging.INFO, "pdbclient.journal")
    return AuditSite(store, monkeypatch)


def test_what_shows_is_confirmed_once_it_had_time_to(site: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    entries = [site.take(FACTS), site.take(REPORT), site.take(DEACTIVATE, at=2)]
    site.audit.round()
    assert {site.state(entry) for entry in entries} == {CopyState.ACCEPTED}
    site.later(SETTLING + 1)
    site.audit.round()
    assert {site.state(entry) for entry in entries} == {CopyState.CONFIRMED}
    assert caplog.messages == []
    asked = len(site.server.queries)
    site.audit.round()
    assert len(site.server.queries) == asked, "nobody is asked about what is confirmed"


def test_what_a_server_cannot_be_asked_about_is_neither_late_nor_lost_and_the_rest_is_confirmed(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    unseen = [site.take(EXPIRE, certname) for certname in "ab"]
    entries = [site.take(FACTS, certname) for certname in "ab"]
    site.server.cannot = {EXPIRE: ServerError(A, 500, "missing FROM-clause entry")}
    for _ in range(3):
        site.later(LATE + 1)
        site.audit.round()
    assert {site.state(entry) for entry in entries} == {CopyState.CONFIRMED}
    assert {site.state(entry) for entry in unseen} == {CopyState.ACCEPTED}
    assert len(caplog.messages) == 1, "once"
    assert "'configure expiration' commands cannot be seen" in caplog.text
    site.server.cannot = {}
    site.later(LATE + 1)
    site.audit.round()
    assert {site.state(entry) for entry in unseen} == {CopyState.CONFIRMED}


def test_what_does_not_show_after_ten_minutes_is_told_once(site: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    site.server.discards = {f"bad{n}" for n in range(7)}
    bad = [site.take(FACTS, f"bad{n}") for n in range(7)]
    good = site.take(FACTS, "good")
    site.later(60)
    site.audit.round()
    assert (site.state(good), site.state(bad[0])) == (CopyState.CONFIRMED, CopyState.ACCEPTED)
    assert caplog.messages == []
    site.later(LATE)
    site.audit.round()
    (said,) = caplog.messages
    assert f"{A} took 7 commands more than 10 minutes ago and does not show them" in said
    assert "replace facts for bad0 (uuid-1), " in said
    assert said.count("replace facts for") == 5
    assert "and 2 more" in said
    for _ in range(30):
        site.later(600)
        site.audit.round()
    assert len(caplog.messages) == 1


def test_one_that_is_late_is_told_by_its_command_node_and_uuid(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    site.server.discards = {"bad"}
    site.take(REPORT, "bad")
    site.later(LATE + 1)
    site.audit.round()
    (said,) = caplog.messages
    assert "took 1 command more than 10 minutes ago and does not show it: store report for bad (uuid-1)." in said


def test_late_ones_are_asked_for_less_and_less_and_confirmed_in_the_end(site: AuditSite) -> None:
    site.server.discards = {"bad"}
    bad = site.take(FACTS, "bad")
    site.later(LATE + 1)
    site.audit.round()
    asked = []
    for _ in range(600):
        before = len(site.server.queries)
        site.later(60)
        site.audit.round()
        if len(site.server.queries) > before:
            asked.append(site.elapsed)
    pauses = [after - before for before, after in pairwise(asked)]
    assert 3 <= len(asked) <= 8
    assert pauses == sorted(pauses)
    site.server.newest[FACTS, "bad"] = stamp(1)
    site.later(7 * 3600)
    site.audit.round()
    assert site.state(bad) is CopyState.CONFIRMED


def test_many_that_are_late_do_not_stand_before_what_comes_after_them(
    site: AuditSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 3)
    site.server.discards = {"bad"}
    for at in range(7):
        site.take(REPORT, "bad", at)
    site.later(LATE + 1)
    good = site.take(FACTS, "good")
    site.later(SETTLING + 1)
    for _ in range(3):
        site.audit.round()
    assert site.state(good) is CopyState.CONFIRMED


def test_what_is_delivered_out_of_order_is_found_at_once(site: AuditSite) -> None:
    first, second = site.store.put(command(REPORT, "a")), site.take(REPORT, "b")
    site.later(SETTLING + 1)
    site.audit.round()
    site.store.taken(first, A, site.server.submit(command(REPORT, "a")))
    site.later(SETTLING + 1)
    site.audit.round()
    assert [site.state(entry) for entry in (first, second)] == [CopyState.CONFIRMED] * 2


def test_inputs_that_are_none_are_not_missed(site: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    void = site.take(INPUTS, "n", body=b'{"inputs": []}')
    site.later(LATE + 1)
    site.audit.round()
    assert site.state(void) is CopyState.CONFIRMED
    assert caplog.messages == []


def test_a_server_that_does_not_answer_is_no_trouble(site: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    entry = site.take()
    site.later(LATE + 1)
    site.server.down = NotSent(A, "refused")
    site.audit.round()
    assert caplog.messages == []
    site.server.down = None
    site.audit.round()
    assert site.state(entry) is CopyState.CONFIRMED


def filled(site: AuditSite, number: int = 4) -> None:
    for n in range(number):
        site.take(FACTS, f"n{n}")
    site.later(SETTLING + 1)
    site.audit.round()


def test_lost_data_are_told_with_what_to_do_and_again_only_after_an_hour(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    filled(site)
    site.later(audit.LOSS_EVERY)
    site.audit.round()
    site.server.forget()
    site.audit.round()
    assert caplog.messages == [], "not asked every time"
    site.audit.came_back()
    site.audit.round()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"{A} has lost data: of 4 nodes 4 lack something" in record.message
    assert record.message.endswith(f"run `pdbclient recover --server {A}`")
    for _ in range(10):
        site.later(audit.LOSS_EVERY)
        site.audit.round()
    assert len(caplog.records) == 1
    site.later(audit.REMIND_EVERY)
    site.audit.round()
    assert len(caplog.records) == 2
    assert len(site.server.commands) == 4, "nothing was sent"


def test_when_it_has_all_again_that_is_told(site: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    filled(site)
    before = dict(site.server.newest)
    site.server.forget()
    site.audit.came_back()
    site.audit.round()
    site.server.newest = before
    site.audit.came_back()
    site.audit.round()
    assert caplog.messages[1:] == [f"{A} has again what it was seen to have"]


def test_a_server_that_lost_data_is_not_taken_for_up_to_date_any_more(site: AuditSite) -> None:
    """It answered without what it had lost, and that was called fresh."""
    site.store.journal.run(exported_sql.enrol, [A])
    for n in range(4):
        site.take(CATALOG, f"n{n}")
    site.later(SETTLING + 1)
    site.audit.round()
    site.store.journal.run(exported_sql.advance, A, 4, 0)

    def lacking() -> int:
        return len(site.store.journal.run(exported_sql.behind, A, site.store.now, 0.0, 300.0).missing)

    assert lacking() == 0
    site.server.forget()
    site.audit.came_back()
    site.audit.round()
    assert lacking() == 4


def test_what_was_lost_is_looked_for_until_it_is_there_again(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    """That it was lost is also noted in the journal: with that, nothing seemed to be lacking any more."""
    for n in range(4):
        site.take(CATALOG, f"n{n}")
    site.later(SETTLING + 1)
    site.audit.round()
    before = dict(site.server.newest)
    site.server.forget()
    for _ in range(2):
        site.audit.came_back()
        site.audit.round()
    assert len(caplog.messages) == 1
    assert "has lost data" in caplog.messages[0]
    site.server.newest = before
    site.audit.came_back()
    site.audit.round()
    assert caplog.messages[1:] == [f"{A} has again what it was seen to have"]


def test_what_a_server_cannot_be_asked_about_does_not_stand_before_what_comes_after_it(
    site: AuditSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 5)
    for n in range(5):
        site.take(REPORT, f"n{n}")
    entry = site.take(FACTS, "n")
    site.server.cannot[REPORT] = ServerError(A, 500, "a bug")
    site.later(LATE + 1)
    site.audit.round()
    site.audit.round()
    assert site.store.copies(entry)[A] is CopyState.CONFIRMED


def test_what_is_confirmed_after_a_loss_does_not_hide_it(site: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    filled(site)
    site.later(audit.LOSS_EVERY)
    site.audit.round()
    site.server.forget()
    for n in range(60):
        site.take(FACTS, f"new{n}")
    site.later(SETTLING + 1)
    site.audit.round()
    assert caplog.messages == []
    site.later(audit.LOSS_EVERY)
    site.audit.round()
    assert "has lost data: of 4 nodes 4 lack something" in caplog.messages[0]


def refilled(site: AuditSite, nodes: int = 8) -> None:
    """The server was emptied, and filled again by its reconciler and by the nodes' next runs: but for one report."""
    for n in range(nodes):
        for at, kind in ((1, REPORT), (2, FACTS), (3, REPORT)):
            site.take(kind, f"n{n}", at)
    site.later(SETTLING + 1)
    site.audit.round()
    had = site.server.reports - {("n3", stamp(3))}
    site.server.forget()
    site.server.reports |= had
    for n in range(nodes):
        site.take(FACTS, f"n{n}", 4)


def test_a_server_that_was_emptied_and_filled_again_but_for_one_report_has_lost_data(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    refilled(site)
    site.audit.came_back()
    site.audit.round()
    assert f"of 8 nodes 1 lack something, such as {REPORT} of n3 as of {stamp(3)}" in caplog.messages[0]


def test_what_was_lost_from_a_server_that_was_filled_again_is_sent_again(
    store: Store, site: AuditSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    healing = AuditSite(store, monkeypatch, heal=True)
    refilled(healing)
    healing.audit.came_back()
    healing.audit.round()
    assert ("n3", stamp(3)) in healing.server.reports
    healing.audit.came_back()
    healing.audit.round()
    assert "has again what it was seen to have" in caplog.messages[-1]


def test_what_was_confirmed_since_the_last_look_is_looked_at_too(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    """Long ago, and before much else, is where its reconciler's last pass ended."""
    filled(site)
    site.later(audit.LOSS_EVERY)
    site.audit.round()
    for n in range(60):
        for at in (1, 2):
            site.take(REPORT, f"m{n}", at)
    site.later(SETTLING + 1)
    site.audit.round()
    site.server.reports -= {(f"m{n}", stamp(2)) for n in range(20, 30)}
    for n in range(60):
        site.take(REPORT, f"m{n}", 3)
    site.later(SETTLING + 1)
    site.audit.round()
    site.audit.came_back()
    site.audit.round()
    assert "has lost data: of " in caplog.messages[0]


def test_a_node_that_was_deleted_and_enrolled_anew_lost_nothing(
    site: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(8):
        for at in (1, 2):
            site.take(REPORT, f"n{n}", at)
    site.later(SETTLING + 1)
    site.audit.round()
    site.server.reports = {(name, at) for name, at in site.server.reports if name != "n3"}
    site.take(REPORT, "n3", 3)
    site.later(SETTLING + 1)
    for _ in range(2):
        site.audit.came_back()
        site.audit.round()
    assert caplog.messages == []


@pytest.mark.parametrize("what", ["stamp", "state"])
def test_a_damaged_entry_does_not_hide_a_loss(site: AuditSite, caplog: pytest.LogCaptureFixture, what: str) -> None:
    """The newest one that a server was seen to hold says whether there is anything to look at."""
    filled(site)
    newest = site.store.journal.run(holdings.confirmed, A, 10**9, 1)[0].id
    site.store.damage(what, newest)
    site.server.forget()
    site.later(audit.LOSS_EVERY)
    site.audit.round()
    assert any("has lost data" in message for message in caplog.messages)


def test_healing_sends_it_again_and_says_so(
    store: Store, site: AuditSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    healing = AuditSite(store, monkeypatch, heal=True)
    filled(healing)
    healing.server.forget()
    healing.audit.came_back()
    healing.audit.round()
    assert len(healing.server.newest) == 4
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "what the journal has is sent again" in caplog.messages[0]
    assert caplog.messages[1] == (
        f"{A}: recovered: looked at 4 entries, had 0 of them, 4 sent again, 4 seen there; 0 rejected, 0 failed,"
        " 0 missing, 0 damaged in the journal, 0 older than node-ttl left out"
    )


@pytest.mark.parametrize("what", ON_DISK)
def test_what_is_damaged_on_disk_keeps_nobody_from_the_others(site: AuditSite, what: str) -> None:
    """The audit of that server was over, with its thread."""
    ids = [site.take(REPORT, f"n{n}") for n in range(4)]
    site.store.damage(what, ids[1])
    site.later(SETTLING + 1)
    for _ in range(2):
        site.audit.came_back()
        site.audit.round()
    assert {site.state(entry) for entry in ids if entry != ids[1]} == {CopyState.CONFIRMED}


@pytest.fixture
def healing(store: Store, site: AuditSite, monkeypatch: pytest.MonkeyPatch) -> AuditSite:
    return AuditSite(store, monkeypatch, heal=True)


def lose_queue(site: AuditSite, number: int = 5) -> list[int]:
    """The server took these, and lost its queue before it came to them."""
    site.server.discards = {f"n{n}" for n in range(number)}
    lost = [site.take(FACTS, f"n{n}") for n in range(number)]
    site.server.discards = set()
    return lost


def test_what_a_destroyed_queue_held_is_sent_again(healing: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    """J15: 5 of 5 were not, with a warning only."""
    lost = lose_queue(healing)
    healing.later(LATE + 1)
    healing.audit.round()
    assert {healing.state(entry) for entry in lost} == {CopyState.CONFIRMED}
    assert len(healing.server.commands) == 10
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "took 5 commands more than 10 minutes ago and does not show them" in caplog.messages[0]
    assert "5 sent again, 5 seen there" in caplog.messages[1]
    healing.later(100 * LATE)
    healing.audit.round()
    assert len(healing.server.commands) == 10


def test_without_heal_it_is_only_told(site: AuditSite) -> None:
    lose_queue(site)
    site.later(LATE + 1)
    site.audit.round()
    assert len(site.server.commands) == 5


def test_what_may_still_be_in_the_queue_is_not_sent_again(healing: AuditSite) -> None:
    lost = lose_queue(healing)
    healing.later(LATE + 1)
    healing.server.depths = [3]
    healing.audit.round()
    assert len(healing.server.commands) == 5
    healing.later(LATE + 1)
    healing.audit.round()
    assert {healing.state(entry) for entry in lost} == {CopyState.CONFIRMED}


def test_what_could_not_be_sent_again_is_not_counted_as_sent(
    healing: AuditSite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was given up as sent three times, while another process was at work on that server."""

    def leased(*_: object, **__: object) -> None:
        raise Leased("recovery", "elsewhere/1")

    lost = lose_queue(healing)
    with monkeypatch.context() as patched:
        patched.setattr(audit, "recover", leased)
        for _ in range(10):
            healing.later(LATE + 1)
            healing.audit.round()
    assert len(healing.server.commands) == 5
    healing.later(7 * 3600)
    healing.audit.round()
    assert {healing.state(entry) for entry in lost} == {CopyState.CONFIRMED}
    assert "given up" not in caplog.text


def test_what_is_discarded_each_time_is_sent_again_a_few_times_more_and_more_rarely(
    healing: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    healing.server.discards = {"bad"}
    healing.take(FACTS, "bad")
    began, sent_at = healing.elapsed, []
    for _ in range(5000):
        before = len(healing.server.commands)
        healing.later(60)
        healing.audit.round()
        if len(healing.server.commands) > before:
            sent_at.append(healing.elapsed - began)
    assert len(sent_at) == audit.SENT_AGAIN
    pauses = [after - before for before, after in pairwise([0.0, *sent_at])]
    assert pauses == sorted(pauses)
    assert pauses[0] >= LATE
    assert pauses[-1] >= 4 * LATE
    assert [message for message in caplog.messages if "given up" in message] == [
        f"{A} was sent this again 3 times and does not show it, which is given up: replace facts for bad (uuid-4)."
        " See its log, and the directory stockpile/discard of its vardir"
    ]


def test_what_is_discarded_keeps_nothing_from_being_confirmed(
    healing: AuditSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 3)
    healing.server.discards = {"bad"}
    for at in range(7):
        healing.take(REPORT, "bad", at)
    for _ in range(300):
        healing.later(60)
        healing.audit.round()
    good = healing.take(FACTS, "good")
    healing.later(SETTLING + 1)
    for _ in range(3):
        healing.audit.round()
    assert healing.state(good) is CopyState.CONFIRMED


def test_what_another_process_sends_again_is_left_to_it(healing: AuditSite, caplog: pytest.LogCaptureFixture) -> None:
    lose_queue(healing)
    filled(healing)
    healing.later(LATE + 1)
    with hold(healing.store.journal, f"recovery of {A}"):
        sent = len(healing.server.commands)
        healing.audit.round()
        healing.server.forget()
        healing.audit.came_back()
        healing.audit.round()
        assert len(healing.server.commands) == sent
    said = [record for record in caplog.records if "another process is at it" in record.message]
    assert {record.levelname for record in said} == {"INFO"}


def test_a_server_that_goes_away_while_it_heals_is_told_and_not_tried_each_time(
    healing: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    filled(healing)
    healing.server.forget()
    healing.server.refuses = {f"n{n}": NotSent(A, "refused") for n in range(4)}
    healing.audit.came_back()
    for _ in range(10):
        healing.later(5)
        healing.audit.round()
    assert len([record for record in caplog.records if "recovery broken off" in record.message]) == 1


def test_nodes_that_have_expired_are_not_brought_back_by_healing(
    healing: AuditSite, caplog: pytest.LogCaptureFixture
) -> None:
    filled(healing)
    sent = len(healing.server.commands)
    healing.later(8 * DAY)
    healing.server.forget()
    healing.audit.came_back()
    healing.audit.round()
    assert len(healing.server.commands) == sent
    assert caplog.messages[-1].endswith("4 older than node-ttl left out")


def test_of_three_who_see_a_loss_at_once_one_heals_it(store: Store, healing: AuditSite) -> None:
    """J17: three gateways healed 100 entries with 291 commands."""
    filled(healing, 100)
    with ExitStack() as stack:
        journals = [store.journal, *(stack.enter_context(Journal.open(store.place, beside=True)) for _ in range(2))]
        for journal in journals[1:]:
            journal.clock = store.journal.clock
        audits = [Audit(journal, healing.server.session, heal=True, rate=100_000) for journal in journals]
        healing.server.forget()
        with ThreadPoolExecutor(len(audits)) as pool:
            for done in [pool.submit(audit.round) for audit in audits]:
                done.result()
    assert len(healing.server.newest) == 100
    assert len(healing.server.commands) == 200
