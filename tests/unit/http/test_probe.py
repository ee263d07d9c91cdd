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
from pdbclient.http.outcome import ACCEPTED, Kind, Operation, Outcome, Sent
from pdbclient.http.probe import Prober
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.session import Session

from .fake import FakeSession, Rig, command, endpoints

REFUSED = Outcome(Kind.NOT_SENT, Sent.NO, detail="refused")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def out(rig: Rig, host: str = "a") -> None:
    rig.registry.note(rig.endpoint[host], Operation.COMMAND, REFUSED, rig.clock.now)
    rig.clock.now += 2


def state(rig: Rig, host: str = "a") -> State:
    return rig.registry.health()[rig.endpoint[host], Operation.COMMAND].state


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
def test_only_a_running_puppetdb_is_healthy(rig: Rig, status: str, expected: State) -> None:
    out(rig)
    rig.session["a"].status = status
    rig.prober.ask()
    assert state(rig) is expected
    assert rig.session["a"].probed == ["/status/v1/services/puppetdb-status"]
    assert rig.session["b"].probed == []
    assert rig.asked == [], "user traffic is no probe"


def test_a_server_that_is_back_is_asked_for_what_it_missed(rig: Rig) -> None:
    a = rig.endpoint["a"]
    for name, certname in (("replace facts", "n1"), ("replace catalog", "n1"), ("deactivate node", "n2")):
        rig.registry.accepted(command(certname, second=1, name=name), [rig.endpoint["b"]])
    held = rig.session["a"].held
    held["replace facts", "n1"] = "2026-01-01T01:00:01.000+01:00"  # another zone, the same instant
    held["replace catalog", "n1"] = "2026-01-01T00:00:00.999Z"  # the one before
    rig.prober.ask()
    assert sorted(rig.session["a"].probed) == ["/catalogs", "/factsets", "/nodes"]
    assert rig.registry.to_confirm(9) == {a: [("replace catalog", "n1"), ("deactivate node", "n2")]}
    held["replace catalog", "n1"] = "2026-01-01T00:00:01.000Z"
    held["deactivate node", "n2"] = "2026-01-01T00:00:01.000Z"
    rig.prober.ask()
    assert rig.registry.to_confirm(9) == {}
    assert rig.registry.order(Operation.QUERY) == (rig.endpoint["a"], rig.endpoint["b"])


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
    rig.registry.accepted(command("node1", second=1), [rig.endpoint["b"]])
    rig.prober.ask()
    assert list(rig.registry.to_confirm(9)) == [rig.endpoint["a"]]


def test_a_server_that_cannot_say_what_it_holds_stays_held_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, query: object, within: float) -> Iterator[Any]:
        yield {"certname": "node1", "producer_timestamp": "2026-01-01T00:00:01.000Z"}
        raise IncompleteResponse("https://a:8081", "broke off")

    monkeypatch.setattr(rig.session["a"], "records", broken)
    rig.registry.accepted(command("node1", second=1), [rig.endpoint["b"]])
    rig.registry.accepted(command("node2", second=1), [rig.endpoint["b"]])
    rig.prober.ask()
    assert rig.registry.to_confirm(9)[rig.endpoint["a"]] == [("replace facts", "node2")], "what was seen is seen"


# -- the thread, in real time


def eventually(done: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.002)
    return done()


def probe_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in ("pdbclient-probe", "pdbclient-confirm")]


class Live:
    """A real prober over fake sessions, in real time."""

    def __init__(self) -> None:
        self.a, self.b = endpoints("ab")
        self.fakes = {e: FakeSession(e) for e in (self.a, self.b)}
        self.registry = ServerRegistry((self.a, self.b), time.monotonic, lambda: -1.0)
        self.prober = Prober(self.registry, cast(Mapping[Endpoint, Session], self.fakes))

    def out(self, seconds: float) -> None:
        busy = Outcome(Kind.BUSY, Sent.YES, 503, seconds)
        self.registry.note(self.a, Operation.COMMAND, busy, time.monotonic())
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
    assert eventually(lambda: live.registry.health()[live.a, Operation.COMMAND].state is State.HALF_OPEN)


def test_a_wake_shortens_the_wait_for_a_later_probe(live: Live) -> None:
    live.out(60)
    live.registry.note(live.b, Operation.COMMAND, Outcome(Kind.BUSY, Sent.YES, 503, 0.05), time.monotonic())
    live.prober.wake()
    assert eventually(lambda: bool(live.fakes[live.b].probed))
    assert live.fakes[live.a].probed == []


def test_the_thread_ends_when_there_is_nothing_left_to_ask_and_starts_again(live: Live) -> None:
    live.prober.wake()
    assert eventually(lambda: probe_threads() == [])
    live.out(0.01)
    assert eventually(lambda: bool(live.fakes[live.a].probed))


def test_a_server_that_is_held_back_is_asked_every_few_seconds(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CONFIRM_GAP", 0.02)
    live.registry.accepted(command("node1", second=1), [live.b])
    live.prober.wake()
    assert eventually(lambda: len(live.fakes[live.a].probed) >= 3)
    live.fakes[live.a].held["replace facts", "node1"] = "2026-01-01T00:00:01.000Z"
    assert eventually(lambda: probe_threads() == [])
    assert live.registry.to_confirm(1) == {}


# -- the watch over servers in use


class Watched(Live):
    """A prober that watches fake sessions, in real time."""

    def __init__(self) -> None:
        super().__init__()
        self.prober.watch(0.02)

    def usable(self, operation: Operation) -> bool:
        return self.registry.usable(self.a, operation)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.prober.close()
    assert probe_threads() == []


def test_every_server_in_use_is_asked_again_and_again(watched: Watched) -> None:
    assert len(probe_threads()) == 2
    assert eventually(lambda: all(len(fake.probed) >= 3 for fake in watched.fakes.values()))
    assert set(watched.fakes[watched.a].probed) == {"/status/v1/services/puppetdb-status"}
    assert all(watched.usable(operation) for operation in Operation)


@pytest.mark.parametrize("status", ["refused", "timeout", "tls", "unresponsive"])
def test_a_server_that_cannot_be_reached_is_shut_out_and_then_only_probed(watched: Watched, status: str) -> None:
    watched.fakes[watched.a].status = status
    assert eventually(lambda: not any(watched.usable(operation) for operation in Operation))
    asked = len(watched.fakes[watched.a].probed)
    time.sleep(0.1)
    assert len(watched.fakes[watched.a].probed) <= asked + 1
    assert watched.registry.usable(watched.b, Operation.COMMAND)


@pytest.mark.parametrize("status", ["503", "starting", "truncated", "404 html"])
def test_a_server_that_is_not_healthy_is_shut_out_for_queries_only(watched: Watched, status: str) -> None:
    watched.fakes[watched.a].status = status
    assert eventually(lambda: not watched.usable(Operation.QUERY))
    assert watched.usable(Operation.COMMAND)
    watched.fakes[watched.a].status = "refused"
    assert eventually(lambda: not watched.usable(Operation.COMMAND))


def test_what_this_machine_cannot_ask_shuts_nobody_out_and_is_asked_again(watched: Watched) -> None:
    watched.fakes[watched.a].status = "local"
    asked = len(watched.fakes[watched.a].probed)
    assert eventually(lambda: len(watched.fakes[watched.a].probed) >= asked + 3)
    assert all(watched.usable(operation) for operation in Operation)


def test_a_silent_server_delays_neither_the_check_nor_the_probe_of_another(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H8: with 8 silent servers beside it, a primary was back after 26 s instead of 12."""
    over = threading.Event()

    def silent() -> Outcome:
        over.wait(5)
        return ACCEPTED

    monkeypatch.setattr(watched.fakes[watched.a], "ask", silent)
    try:
        asked = len(watched.fakes[watched.b].probed)
        assert eventually(lambda: len(watched.fakes[watched.b].probed) > asked + 2)
        watched.registry.note(watched.b, Operation.COMMAND, Outcome(Kind.BUSY, Sent.YES, 503, 0.05), time.monotonic())
        watched.prober.wake()
        half_open = watched.registry.health
        assert eventually(lambda: half_open()[watched.b, Operation.COMMAND].state is State.HALF_OPEN)
    finally:
        over.set()


def test_a_thread_that_cannot_be_started_is_started_the_next_time(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H12."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        live.out(0.01)
    assert probe_threads() == []
    live.prober.wake()
    assert eventually(lambda: bool(live.fakes[live.a].probed))


def test_a_watch_ends_without_waiting_for_its_interval() -> None:
    live = Live()
    live.prober.watch(600)
    began = time.monotonic()
    live.prober.close()
    live.prober.close()
    assert time.monotonic() - began < 1
    assert live.fakes[live.a].probed == []
