"""Whether a silent server is slow or dead: who is asked when, and whom the answer ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pdbclient.errors import CallerLeft
from pdbclient.http import pulse as module
from pdbclient.http.outcome import ACCEPTED, Kind, Operation, Outcome, Sent
from pdbclient.http.pulse import SILENCE, Pulse

DEAD = Outcome(Kind.TIMEOUT, Sent.UNKNOWN, detail="silent")
DATABASE_AWAY = Outcome(Kind.BUSY, Sent.YES, 503, 5.0)


class PolledServer:
    """What a server says of its health, and how often it was asked."""

    def __init__(self) -> None:
        self.outcome = ACCEPTED
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> Outcome:
        self.asked += 1
        assert self.may_answer.wait(10)
        return self.outcome


@pytest.fixture
def server() -> PolledServer:
    return PolledServer()


@pytest.fixture
def pulse(server: PolledServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    monkeypatch.setattr(module, "GAP", 0.05)
    pulse = Pulse(server)
    yield pulse
    server.may_answer.set()
    pulse.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "pdbclient-pulse"]


def eventually(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not done() and time.monotonic() < end:
        time.sleep(0.002)
    return done()


def test_a_request_that_is_answered_soon_has_nothing_asked(server: PolledServer, pulse: Pulse) -> None:
    waiting = pulse.waiting(Operation.QUERY)
    waiting(SILENCE - 0.1)
    pulse.ended(waiting)
    assert server.asked == 0


def test_a_slow_server_is_asked_again_and_again_until_the_request_ends(server: PolledServer, pulse: Pulse) -> None:
    waiting = pulse.waiting(Operation.QUERY)
    waiting(SILENCE)
    assert eventually(lambda: server.asked >= 3)
    waiting(99.0)
    pulse.ended(waiting)
    assert eventually(lambda: not pulse._worker.running)


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (DEAD, {Operation.QUERY, Operation.COMMAND}),
        (Outcome(Kind.NOT_SENT, Sent.NO), {Operation.QUERY, Operation.COMMAND}),
        (Outcome(Kind.OUT_OF_TIME, Sent.NO), {Operation.QUERY, Operation.COMMAND}),
        (DATABASE_AWAY, {Operation.QUERY}),
        (Outcome(Kind.SERVER_ERROR, Sent.YES, 500), set()),
        (Outcome(Kind.LOCAL, Sent.NO), set()),
        (Outcome(Kind.TLS, Sent.NO), set()),
    ],
)
def test_what_its_health_ends(server: PolledServer, pulse: Pulse, outcome: Outcome, ended: set[Operation]) -> None:
    server.outcome = outcome
    waiting = {operation: pulse.waiting(operation) for operation in Operation}
    for each in waiting.values():
        each(SILENCE)
    assert eventually(lambda: server.asked >= 2)
    met = set()
    for operation, each in waiting.items():
        try:
            each(SILENCE + 1)
        except ConnectionAbortedError:
            met.add(operation)
    assert met == ended


def test_who_is_not_silent_goes_on_whatever_the_health_check_met(server: PolledServer, pulse: Pulse) -> None:
    server.outcome = DEAD
    lively, silent = pulse.waiting(Operation.QUERY), pulse.waiting(Operation.QUERY)
    lively(0.0)
    silent(SILENCE)
    assert eventually(lambda: silent.given_up is not None)
    lively(0.1)
    silent(0.0)
    assert silent.given_up is None, "something came in after all"


def test_all_that_wait_share_one_question(server: PolledServer, pulse: Pulse) -> None:
    server.may_answer.clear()
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(pulse.ask) for _ in range(5)]
        pulse.waiting(Operation.QUERY)(SILENCE)
        assert eventually(lambda: server.asked == 1 and sum(each.running() for each in asked) == 5)
        server.may_answer.set()
        assert {each.result() for each in asked} == {ACCEPTED}
    assert server.asked <= 2


def test_a_caller_that_left_ends_its_request(pulse: Pulse) -> None:
    left = threading.Event()
    waiting = pulse.waiting(Operation.QUERY, left)
    waiting(0.0)
    left.set()
    with pytest.raises(CallerLeft):
        waiting(0.0)
