"""Places at one server: taken, given back, waited for while they move, refused when they do not."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pdbclient.http import places
from pdbclient.http.places import Places


def patient(_: float) -> float:
    return 0.05


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "STALLED", 0.2)


def test_places_are_bounded_and_come_back() -> None:
    two = Places(2)
    assert two.take(patient, elsewhere=True)
    assert two.take(patient, elsewhere=True)
    assert not two.take(patient, elsewhere=True)
    two.give_back()
    assert two.take(patient, elsewhere=True)


def test_a_place_that_becomes_free_is_taken_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "STALLED", 30.0)
    one = Places(1)
    assert one.take(patient, elsewhere=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.take, patient, elsewhere=True)
        one.give_back()
        assert waiting.result(5)


def test_nobody_waits_where_nothing_moves_and_there_is_somewhere_else_to_go() -> None:
    one = Places(1)
    assert one.take(patient, elsewhere=True)
    began = time.monotonic()
    assert not one.take(patient, elsewhere=True), "it moved just now, so it is waited for, but not for long"
    assert 0.1 < time.monotonic() - began < 2
    began = time.monotonic()
    assert not one.take(patient, elsewhere=True)
    assert time.monotonic() - began < 0.1


def test_who_has_nowhere_else_to_go_waits() -> None:
    one = Places(1)
    assert one.take(patient, elsewhere=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.take, patient, elsewhere=False)
        time.sleep(0.5)
        assert not waiting.done()
        one.give_back()
        assert waiting.result(5)


def test_who_waits_looks_up_and_may_be_told_to_leave() -> None:
    class Left(Exception):
        pass

    def leave(_: float) -> float:
        raise Left

    one = Places(1)
    assert one.take(patient, elsewhere=True)
    with pytest.raises(Left):
        one.take(leave, elsewhere=False)
    one.give_back()
    assert one.take(patient, elsewhere=True), "whoever left took nothing"


def test_no_more_than_there_are_at_any_time() -> None:
    four, lock, inside, most = Places(4), threading.Lock(), 0, 0

    def visit(_: int) -> bool:
        nonlocal inside, most
        if not four.take(patient, elsewhere=False):
            return False
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)
        with lock:
            inside -= 1
        four.give_back()
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(visit, range(300)))
    assert most == 4
