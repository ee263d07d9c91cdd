"""What waits in the local queue when a pass ends before it has seen it there is not submitted once more."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

import pytest

from pdbclient.config.model import Remote
from pdbclient.sync import Outcome, plan, reconcile
from pdbclient.wire.command import Command
from pdbclient.wire.record import deactivation_command
from pdbclient.wire.summary import from_millis

from .conftest import SyncPair
from .fake import FakePuppetDB, deactivation, facts, report


class PassKilled(BaseException):
    """In the place of kill -9: nothing that a pass does about errors is done."""


class Queueing(FakePuppetDB):
    """Commands wait, and are worked off at `pace` a second of the site's time, in their order."""

    def __init__(self, site: SyncPair, pace: float) -> None:
        super().__init__("b", site.clock.wall)
        self.pace = pace
        self._site = site
        self.sent: Counter[str] = Counter()
        self.dies_after: int | None = None
        self._waiting: deque[Command] = deque()
        self._one_at_a_time = threading.RLock()
        self._since, self._time = site.clock.monotonic(), site.clock.monotonic
        self.arrives = self._work

    def submit(self, command: Command, *, within: float | None = None) -> str:
        with self._one_at_a_time:
            if self.dies_after == sum(self.sent.values()):
                raise PassKilled
            self._work()
            self._waiting.append(command)
            self.depth = len(self._waiting)
            self.sent[f"{command.name} of {command.certname}"] += 1
        return "6b5f4a2e-0000-4000-8000-000000000000"

    def goes_on(self, pace: float, after: float) -> None:
        """From so many seconds on, in which nothing is worked off."""
        self._site.time.elapsed += after
        self.pace, self._since = pace, self._time()

    def _work(self) -> None:
        with self._one_at_a_time:
            done = int((self._time() - self._since) * self.pace)
            self._since = self._since + done / self.pace if self._waiting else self._time()
            for _ in range(min(done, len(self._waiting))):
                super().submit(self._waiting.popleft())
            self.depth = len(self._waiting)


@pytest.fixture
def queueing(site: SyncPair) -> Queueing:
    site.b = Queueing(site, pace=10.0)
    return site.b


def killed(site: SyncPair) -> None:
    with pytest.raises(PassKilled):
        site.pull(site.b)


def fill(site: SyncPair, nodes: int = 100) -> None:
    for number in range(nodes):
        site.a.apply("replace facts", facts(f"n{number}", site.ago(5000)))
        site.a.apply("store report", report(f"n{number}", site.ago(5000), "r"))


def dies_while_it_verifies(site: SyncPair, path: str) -> None:
    def dies(where: str, query: Any) -> Exception | None:
        if where == path and site.b.depth:
            raise PassKilled
        return None

    site.b.broken = dies


@pytest.mark.parametrize("path", ["/factsets", "/reports"])
def test_what_waits_when_a_pass_is_killed_is_not_sent_again(site: SyncPair, queueing: Queueing, path: str) -> None:
    fill(site)
    dies_while_it_verifies(site, path)
    killed(site)
    assert queueing.depth == 100
    queueing.broken = lambda where, query: None
    result = site.pull(site.b)
    assert result.ok, result.errors
    assert set(queueing.sent.values()) == {1}
    assert len(queueing.tables["factsets"]) == len(queueing.tables["reports"]) == 100


def test_a_pass_that_is_killed_between_two_submissions_goes_on_after_the_first(
    site: SyncPair, queueing: Queueing
) -> None:
    fill(site)
    queueing.dies_after = 60
    killed(site)
    queueing.dies_after = None
    assert site.pull(site.b).ok
    assert set(queueing.sent.values()) == {1}


def test_deactivations_that_wait_are_not_sent_again_either(site: SyncPair, queueing: Queueing) -> None:
    for number in range(8):
        for side in (site.a, site.b):
            side.apply("replace facts", facts(f"n{number}", site.ago(5000)))
        if number < 4:
            site.a.apply("deactivate node", deactivation(f"n{number}", site.ago(500)))
    dies_while_it_verifies(site, "/nodes")
    killed(site)
    assert queueing.depth == 4
    queueing.broken = lambda where, query: None
    assert site.pull(site.b).ok
    assert set(queueing.sent.values()) == {1}


def test_a_pass_that_ran_out_of_time_is_no_other(site: SyncPair, queueing: Queueing) -> None:
    fill(site)
    queueing.pace = 0.01
    site.options["entity_time_limit"] = 20.0
    assert "not finished within" in site.pull(site.b).errors[0]
    queueing.goes_on(10.0, after=1.0)
    assert site.pull(site.b).ok
    assert set(queueing.sent.values()) == {1}


def test_nor_is_one_that_was_asked_to_stop(site: SyncPair, queueing: Queueing) -> None:
    fill(site)

    def stops(where: str, query: Any) -> Exception | None:
        if where == "/factsets" and queueing.depth:
            site.time.set()
        return None

    queueing.broken = stops
    assert site.pull(site.b).outcome is Outcome.STOPPED
    assert queueing.depth
    site.time.clear()
    queueing.broken = lambda where, query: None
    assert site.pull(site.b).ok
    assert set(queueing.sent.values()) == {1}


def test_a_pass_against_another_remote_waits_for_it_too(site: SyncPair, queueing: Queueing) -> None:
    fill(site)
    other = FakePuppetDB("c", site.clock.wall)
    other.restore(site.a.backup())
    dies_while_it_verifies(site, "/factsets")
    killed(site)
    queueing.broken = lambda where, query: None
    (result,) = reconcile(
        site.config(site.b),
        [Remote(other.endpoint, 60.0)],
        connect=lambda endpoint: other if endpoint == other.endpoint else site.b,
        clock=site.clock,
    )
    assert result.ok, result.errors
    assert set(queueing.sent.values()) == {1}


def test_what_is_given_up_as_not_visible_is_waited_for_before_it_is_sent_again(
    site: SyncPair, queueing: Queueing
) -> None:
    fill(site, nodes=3)
    queueing.pace = 0.005
    assert site.pull(site.b).entities
    assert queueing.depth
    queueing.goes_on(10.0, after=3600.0)
    assert site.pull(site.b).ok
    assert set(queueing.sent.values()) == {1}


def test_a_queue_that_does_not_move_is_waited_for_no_longer_than_it_may_need(
    site: SyncPair, queueing: Queueing, caplog: pytest.LogCaptureFixture
) -> None:
    fill(site)
    dies_while_it_verifies(site, "/factsets")
    killed(site)
    queueing.broken = lambda where, query: None
    queueing.pace = 1e-9
    began = site.time.elapsed

    def first_listing(where: str, query: Any) -> Exception | None:
        if where == "/nodes":
            assert site.time.elapsed - began <= 30 + 100 / 5 + 1
            raise PassKilled
        return None

    site.a.broken = first_listing
    killed(site)
    assert "the local queue had 100 commands and has 100 after 50 s" in caplog.text


def test_a_queue_of_others_is_not_waited_for(site: SyncPair, queueing: Queueing) -> None:
    """What agents send waits there on any server at work; only a pass that ended early makes a difference."""
    fill(site, nodes=1)
    assert site.pull(site.b).ok
    queueing.pace = 1e-9
    queueing.submit(deactivation_command("agent", from_millis(site.ago(5))))
    began = site.time.elapsed
    assert site.pull(site.b).ok
    assert site.time.elapsed == began


def test_a_dry_run_waits_for_nothing(site: SyncPair, queueing: Queueing) -> None:
    fill(site)
    dies_while_it_verifies(site, "/factsets")
    killed(site)
    queueing.broken = lambda where, query: None
    began = site.time.elapsed
    plan(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)
    assert site.time.elapsed == began
