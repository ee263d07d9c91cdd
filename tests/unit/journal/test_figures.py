"""What is told of a journal to those who cannot wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pdbclient.journal import EntryState
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import Counts
from pdbclient.journal.store.database import Transaction, Unreachable
from pdbclient.journal.work import figures
from pdbclient.journal.work.figures import Figures

from .store import Store, command


class Gate:
    """Counting that takes until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.times = 0
        self._count = entries.counts
        monkeypatch.setattr(entries, "counts", self)

    def __call__(self, tx: Transaction) -> Counts:
        self.times += 1
        self.go.wait(10)
        return self._count(tx)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.01)


def pending(made: Figures) -> int | None:
    counts = made.counts()
    return None if counts is None else counts.entries.get(EntryState.PENDING, 0)


def test_a_small_journal_is_counted_when_somebody_asks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "QUICK", 10.0)
    monkeypatch.setattr(figures, "WAIT", 10.0)
    monkeypatch.setattr(figures, "REST", 0.0)
    made = Figures(store.journal)
    assert pending(made) == 0
    store.put(command())
    assert pending(made) == 1


def test_a_large_one_is_counted_beside_and_nobody_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """J5: at a million entries whoever asked waited for 0.4 s, and writers with it."""
    monkeypatch.setattr(figures, "QUICK", 0.0)
    monkeypatch.setattr(figures, "REST", 0.0)
    gate = Gate(monkeypatch)
    made = Figures(store.journal)
    assert pending(made) is None
    gate.go.set()
    until(lambda: pending(made) == 0)
    store.put(command())
    gate.go.clear()
    times = gate.times
    until(lambda: (pending(made), gate.times) == (0, times + 1))
    gate.go.set()
    until(lambda: pending(made) == 1)


def test_what_takes_long_is_seldom_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "REST", 1e9)
    gate = Gate(monkeypatch)
    made = Figures(store.journal)
    gate.go.set()
    until(lambda: made.counts() is not None)
    for _ in range(10):
        made.counts()
    assert gate.times == 1


def test_while_the_journal_does_not_answer_they_are_as_they_last_were(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Figures(store.journal)
    until(lambda: made.counts() is not None)
    monkeypatch.setattr(figures, "REST", 0.0)
    with monkeypatch.context() as patched:
        reads = store.journal._reads or store.journal._commits
        patched.setattr(reads._first, "failure", Unreachable("away"))
        patched.setattr(made, "_again_at", 0.0)
        assert pending(made) == 0
        assert Figures(store.journal).counts() is None
