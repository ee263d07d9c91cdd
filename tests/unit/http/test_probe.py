"""The background prober: what it asks, what it makes of the answers, and when its thread lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import IncompleteResponse
from pdbclient.http import probe
from pdbclient.http.breaker import State
from pdbclient.http.memory import Memory
from pdbclient.http.outcome import Kind, Operation, Outcome, Sent
from pdbclient.http.probe import Prober, Watch
from pdbclient.http.session import Document, Session

from .fake import FakeSession, Rig, command, endpoints

REFUSED = Outcome(Kind.NOT_SENT, Sent.NO, detail="refused")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def out(rig: Rig, host: str = "a") -> None:
    rig.memory.note(rig.endpoint[host], Operation.COMMAND, REFUSED, rig.clock.now)
    rig.clock.now += 2


def state(rig: Rig, host: str = "a") -> State:
    return rig.memory.health()[rig.endpoint[host], Operation.COMMAND].state


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ok", State.HALF_OPEN),
        ("starting", State.OPEN),
        ("refused", State.OPEN),
        ("503", State.OPEN),
        ("404 html", State.OPEN),
        ("truncated", State.OPEN),
        ("tls", State.OPEN),
    ],
)
def test_only_a_running_puppetdb_is_well(rig: Rig, status: str, expected: State) -> None:
    out(rig)
    rig.session["a"].status = status
    rig.prober.ask()
    assert state(rig) is expected
    assert rig.session["a"].probed == ["/status/v1/services/puppetdb-status"]
    assert rig.session["b"].probed == []
    assert rig.asked == [], "user traffic is no probe"


def test_an_answer_that_is_no_status_is_not_well(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.session["a"], "document", lambda path, within: Document(["running"], {}))
    out(rig)
    rig.prober.ask()
    assert state(rig) is State.OPEN


def test_a_server_that_is_back_is_asked_for_what_it_missed(rig: Rig) -> None:
    a = rig.endpoint["a"]
    for name, certname in (("replace facts", "n1"), ("replace catalog", "n1"), ("deactivate node", "n2")):
        rig.memory.accepted(command(certname, second=1, name=name), [rig.endpoint["b"]])
    held = rig.session["a"].held
    held["replace facts", "n1"] = "2026-01-01T01:00:01.000+01:00"  # another zone, the same instant
    held["replace catalog", "n1"] = "2026-01-01T00:00:00.999Z"  # the one before
    rig.prober.ask()
    assert sorted(rig.session["a"].probed) == ["/catalogs", "/factsets", "/nodes"]
    assert rig.memory.to_confirm(9) == {a: [("replace catalog", "n1"), ("deactivate node", "n2")]}
    held["replace catalog", "n1"] = "2026-01-01T00:00:01.000Z"
    held["deactivate node", "n2"] = "2026-01-01T00:00:01.000Z"
    rig.prober.ask()
    assert rig.memory.to_confirm(9) == {}
    assert rig.memory.order(Operation.QUERY) == (rig.endpoint["a"], rig.endpoint["b"])


@pytest.mark.parametrize(
    "rows",
    [
        ["not a row"],
        [{}],
        [{"certname": "node1"}],
        [{"certname": "node1", "producer_timestamp": None}],
        [{"certname": "node1", "producer_timestamp": "yesterday"}],
        [{"certname": ["x"], "producer_timestamp": "2026-01-01T00:00:01.000Z"}],
    ],
)
def test_rows_that_are_none_of_puppetdbs_confirm_nothing(
    rig: Rig, rows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.session["a"], "records", lambda path, query, within: iter(rows))
    rig.memory.accepted(command("node1", second=1), [rig.endpoint["b"]])
    rig.prober.ask()
    assert list(rig.memory.to_confirm(9)) == [rig.endpoint["a"]]


def test_a_server_that_cannot_say_what_it_holds_stays_held_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, query: object, within: float) -> Iterator[Any]:
        yield {"certname": "node1", "producer_timestamp": "2026-01-01T00:00:01.000Z"}
        raise IncompleteResponse("https://a:8081", "broke off")

    monkeypatch.setattr(rig.session["a"], "records", broken)
    rig.memory.accepted(command("node1", second=1), [rig.endpoint["b"]])
    rig.memory.accepted(command("node2", second=1), [rig.endpoint["b"]])
    rig.prober.ask()
    assert rig.memory.to_confirm(9)[rig.endpoint["a"]] == [("replace facts", "node2")], "what was seen is seen"


# -- the thread, in real time


def eventually(done: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.002)
    return done()


def probe_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pdbclient-probe"]


class Live:
    """A real prober over fake sessions, in real time."""

    def __init__(self) -> None:
        self.a, self.b = endpoints("ab")
        self.fakes = {e: FakeSession(e) for e in (self.a, self.b)}
        self.memory = Memory((self.a, self.b), time.monotonic, lambda: -1.0)
        self.prober = Prober(self.memory, cast(Mapping[Endpoint, Session], self.fakes))

    def out(self, seconds: float) -> None:
        busy = Outcome(Kind.BUSY, Sent.YES, 503, seconds)
        self.memory.note(self.a, Operation.COMMAND, busy, time.monotonic())
        self.prober.wake()


@pytest.fixture
def live() -> Iterator[Live]:
    live = Live()
    yield live
    live.prober.close()
    assert probe_threads() == []


def test_a_closed_prober_has_no_thread_and_starts_none(live: Live) -> None:
    live.out(60)
    assert len(probe_threads()) == 1
    began = time.monotonic()
    live.prober.close()
    assert time.monotonic() - began < 1, "it waits for nothing"
    assert probe_threads() == []
    live.prober.wake()
    assert probe_threads() == []


def test_a_probe_goes_out_when_it_is_due_not_before(live: Live) -> None:
    live.out(0.2)
    time.sleep(0.05)
    assert live.fakes[live.a].probed == []
    assert eventually(lambda: bool(live.fakes[live.a].probed))
    assert eventually(lambda: live.memory.health()[live.a, Operation.COMMAND].state is State.HALF_OPEN)


def test_a_wake_shortens_the_wait_for_a_later_probe(live: Live) -> None:
    live.out(60)
    live.memory.note(live.b, Operation.COMMAND, Outcome(Kind.BUSY, Sent.YES, 503, 0.05), time.monotonic())
    live.prober.wake()
    assert eventually(lambda: bool(live.fakes[live.b].probed))
    assert live.fakes[live.a].probed == []
    assert len(probe_threads()) == 1


def test_the_thread_ends_when_there_is_nothing_left_to_ask_and_starts_again(live: Live) -> None:
    live.prober.wake()
    assert eventually(lambda: probe_threads() == [])
    live.out(0.01)
    assert eventually(lambda: bool(live.fakes[live.a].probed))


def test_a_server_that_is_held_back_is_asked_every_few_seconds(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CONFIRM_GAP", 0.02)
    live.memory.accepted(command("node1", second=1), [live.b])
    live.prober.wake()
    assert eventually(lambda: len(live.fakes[live.a].probed) >= 3)
    live.fakes[live.a].held["replace facts", "node1"] = "2026-01-01T00:00:01.000Z"
    assert eventually(lambda: probe_threads() == [])
    assert live.memory.to_confirm(1) == {}


# -- the watch over servers in use


def watch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pdbclient-watch"]


class Watched(Live):
    """A watch over fake sessions, in real time; `woken` counts how often the prober was."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0
        self.watch = Watch(self.memory, cast(Mapping[Endpoint, Session], self.fakes), 0.02, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def usable(self, operation: Operation) -> bool:
        return self.memory.usable(self.a, operation)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.watch.close()
    watched.prober.close()
    assert watch_threads() == []


def test_every_server_in_use_is_asked_again_and_again(watched: Watched) -> None:
    assert len(watch_threads()) == 2
    assert eventually(lambda: all(len(fake.probed) >= 3 for fake in watched.fakes.values()))
    assert set(watched.fakes[watched.a].probed) == {"/status/v1/services/puppetdb-status"}
    assert watched.woken == 0
    assert all(watched.usable(operation) for operation in Operation)


@pytest.mark.parametrize("status", ["refused", "timeout", "tls"])
def test_a_server_that_cannot_be_reached_is_shut_out_once_and_left_to_the_prober(
    watched: Watched, status: str
) -> None:
    watched.fakes[watched.a].status = status
    assert eventually(lambda: watched.woken == 1)
    assert not any(watched.usable(operation) for operation in Operation)
    asked = len(watched.fakes[watched.a].probed)
    time.sleep(0.1)
    assert len(watched.fakes[watched.a].probed) <= asked + 1
    assert watched.woken == 1
    assert watched.memory.usable(watched.b, Operation.COMMAND)


@pytest.mark.parametrize("status", ["503", "starting", "truncated", "404 html"])
def test_a_server_that_is_not_well_is_shut_out_for_queries_and_still_watched(watched: Watched, status: str) -> None:
    watched.fakes[watched.a].status = status
    assert eventually(lambda: watched.woken == 1)
    assert not watched.usable(Operation.QUERY)
    assert watched.usable(Operation.COMMAND)
    watched.fakes[watched.a].status = "refused"
    assert eventually(lambda: not watched.usable(Operation.COMMAND))


def test_a_silent_server_delays_the_check_of_no_other(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def silent(path: str, within: float) -> Document:
        over.wait(5)
        return Document({"state": "running"}, {})

    monkeypatch.setattr(watched.fakes[watched.a], "document", silent)
    try:
        asked = len(watched.fakes[watched.b].probed)
        assert eventually(lambda: len(watched.fakes[watched.b].probed) > asked + 2)
    finally:
        over.set()


def test_a_watch_ends_without_waiting_for_its_interval() -> None:
    live = Live()
    watch = Watch(live.memory, cast(Mapping[Endpoint, Session], live.fakes), 600, lambda: None)
    began = time.monotonic()
    watch.close()
    watch.close()
    assert time.monotonic() - began < 1
    assert live.fakes[live.a].probed == []
