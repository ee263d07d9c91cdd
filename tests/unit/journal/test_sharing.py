"""What several processes on one journal share: one rate for one server, and work that one of them does at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import Timeouts, TlsFiles
from pdbclient.errors import JournalError
from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries
from pdbclient.journal.model import ANY
from pdbclient.journal.work import leases, paces
from pdbclient.journal.work.leases import LEASE, Lease, Leased, hold
from pdbclient.journal.work.paces import Pace, Paces, take
from pdbclient.journal.work.submission import lease_for

from .store import START, A, B, Store, command


@pytest.fixture
def other(store: Store) -> Iterator[Journal]:
    """The same journal, as another process has it."""
    with Journal.open(store.place, beside=True) as journal:
        journal.clock = lambda: store.now
        yield journal


# -- the bucket


def test_what_was_not_used_is_kept_for_a_second() -> None:
    pace = Pace(10.0, at=100.0)
    assert pace.at_time(100.5).allowance == 5.0
    assert pace.at_time(100.5).used(4).at_time(100.6).allowance == pytest.approx(2.0)
    assert pace.at_time(200.0).allowance == 10.0
    assert Pace(0.5, at=100.0).at_time(200.0).allowance == 1.0
    assert Pace(10.0, 4.0).seconds_until(5) == pytest.approx(0.1)
    assert Pace(10.0, 4.0).seconds_until(3) == 0.0


def test_clocks_that_differ_a_little_give_nothing_away() -> None:
    """Two who look in turn, one by a clock that is 20 ms ahead, got 20 ms worth of commands more each time."""
    pace = Pace(100.0, at=100.0)
    for step in range(1, 101):
        pace = pace.at_time(100.0 + step * 0.001 + 0.02 * (step % 2))
    assert pace.allowance <= 100 * (0.1 + 0.02) + 0.01


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    pace = Pace(10.0, at=100_000.0).at_time(5.0)
    assert pace == Pace(10.0, 0.0, 5.0)
    assert pace.at_time(5.5).allowance == 5.0


# -- one rate for one server


def test_all_together_get_no_more_than_the_rate(store: Store, other: Journal) -> None:
    """J17: four gateways with a rate of 5 sent 18.8 a second to one server."""
    got = 0
    for step in range(101):
        store.now = START + step * 0.05
        for journal in (store.journal, other):
            for _ in range(2):
                got += journal.run(take, A, 5.0, 1, store.now)[0]
    assert got == 5 + 5 * 5


def test_each_server_has_a_rate_of_its_own(store: Store) -> None:
    assert [store.journal.run(take, url, 5.0, 99, store.now)[0] for url in (A, A, B)] == [5, 0, 5]


def test_who_gets_nothing_is_told_when_asking_again_helps(store: Store) -> None:
    store.journal.run(take, A, 50.0, 50, store.now)
    taken, wait = store.journal.run(take, A, 50.0, 5, store.now)
    assert (taken, round(wait, 6)) == (0, 0.1)
    store.now += 0.1
    taken, _ = store.journal.run(take, A, 50.0, 5, store.now + 0.001)
    assert taken == 5


def test_a_process_takes_several_at_once_and_asks_the_journal_no_more_often(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = 0.0, 0
    monkeypatch.setattr(paces, "monotonic", lambda: now)
    run = store.journal.run

    def counting(*args: object) -> object:
        nonlocal asked
        asked += 1
        return run(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store.journal, "run", counting)
    pace, sent = Paces(store.journal, 50.0), 0
    while now < 10.0:
        wait = pace.take(A)
        sent += not wait
        now += wait
        store.now = START + now
    assert 50 * 10 <= sent <= 50 * 11 + 5
    assert asked <= sent / 4


def test_what_a_process_does_not_use_at_once_it_must_take_anew(
    store: Store, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(paces, "monotonic", lambda: now)
    first, second = Paces(store.journal, 20.0), Paces(other, 20.0)
    assert first.take(A) == 0.0
    assert sum(not second.take(A) for _ in range(30)) == 18, "the other one holds two of twenty"
    now += paces.KEPT
    assert first.take(A) > 0.0


# -- one process at a time


def test_what_one_does_no_other_does_beside_it(store: Store, other: Journal) -> None:
    with hold(store.journal, "work"):
        with (
            pytest.raises(Leased, match=r"work: another process is at it \(.+/\d+\): .* 60 s after that"),
            hold(other, "work"),
        ):
            pass
        with hold(other, "other work"):
            pass
    with hold(other, "work"):
        pass


def test_nor_is_it_done_twice_in_one_process(store: Store) -> None:
    with hold(store.journal, "work"), pytest.raises(Leased), hold(store.journal, "work"):
        pass


def test_when_its_owner_died_another_one_takes_over(store: Store, other: Journal) -> None:
    assert Lease(store.journal, "work").take() is None
    store.now += LEASE - 1
    assert Lease(other, "work").take() == store.journal.owner
    store.now += 1
    assert Lease(other, "work").take() is None


def test_who_lives_puts_the_end_off(store: Store, other: Journal) -> None:
    lease = Lease(store.journal, "work")
    for _ in range(5):
        assert lease.take() is None
        store.now += LEASE - 1
        assert Lease(other, "work").take() is not None


def test_who_was_frozen_and_overtaken_goes_no_further(
    store: Store, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    lease = Lease(store.journal, "work")
    lease.take()
    now = LEASE - 0.1
    lease.require()
    now = LEASE
    with pytest.raises(JournalError, match="work: broken off: this process did not get on for more than 60 s"):
        lease.require()
    store.now += LEASE
    assert Lease(other, "work").take() is None
    assert lease.take() is not None
    lease.give_back()
    assert lease.take() is not None, "what another one holds it does not give back"


def test_a_clock_that_was_set_back_keeps_nobody_waiting_for_long(store: Store, other: Journal) -> None:
    Lease(store.journal, "work").take()
    store.now -= 10 * LEASE
    assert Lease(other, "work").take() is None


@pytest.fixture
def died() -> int:
    """The pid of a process that is no more."""
    ran = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(ran.stdout)


def taken_by(store: Store, monkeypatch: pytest.MonkeyPatch, pid: int, host: str = "") -> None:
    """The process of this id has the work."""
    with monkeypatch.context() as patched:
        patched.setattr(store.journal, "owner", f"{host or store.journal.writer}/{pid}")
        assert Lease(store.journal, "work").take() is None


def test_what_a_process_of_this_host_held_that_died_is_free_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, died: int
) -> None:
    """A recovery that was killed is repeated without waiting."""
    taken_by(store, monkeypatch, died)
    assert Lease(store.journal, "work").take() is None


def test_pids_of_other_containers_and_hosts_tell_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, died: int
) -> None:
    taken_by(store, monkeypatch, died, host="other.example")
    assert Lease(store.journal, "work").take() is not None
    store.now += LEASE
    with monkeypatch.context() as patched:
        patched.setattr(leases, "_pid_namespace", lambda: "another")
        taken_by(store, monkeypatch, died)
    assert Lease(store.journal, "work").take() is not None


def test_who_cannot_see_where_pids_are_told_apart_says_of_nobody_that_it_died(
    store: Store, monkeypatch: pytest.MonkeyPatch, died: int
) -> None:
    """Where there is no /proc, that raised, and nothing was healed."""

    stat = os.stat

    def hidden(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(path)
        return stat(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", hidden)
        taken_by(store, monkeypatch, died)
        assert Lease(store.journal, "work").take() is not None
        with hold(store.journal, "other work"):
            pass


def test_another_users_process_that_lives_keeps_its_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ProtectProc=invisible, root's process is not in /proc: it counted as dead."""

    def not_ours(pid: int, signal: int) -> None:
        raise PermissionError(f"{pid}: {signal}")

    taken_by(store, monkeypatch, 2**22 + 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", not_ours)
        assert Lease(store.journal, "work").take() is not None


def test_a_service_that_sees_little_of_proc_holds_work_and_tells_the_dead_from_the_living(tmp_path: Path) -> None:
    """As the unit has it: ProcSubset=pid, ProtectProc=invisible. Nothing was ever healed under it."""
    hidden = "mount -t proc -o subset=pid,hidepid=invisible proc /proc && "
    unshare = ["unshare", "--mount", "--pid", "--fork", "sh", "-c"]
    if os.geteuid():
        pytest.skip("only root can hide /proc; what an unprivileged process meets is in the tests before")
    ran = subprocess.run(
        [*unshare, f"{hidden} exec {sys.executable} -c '{SEES_LITTLE}' {tmp_path / 'journal.db'}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.split() == ["True", "False", "True"], ran.stderr


SEES_LITTLE = """
import os, subprocess, sys
from pdbclient.journal import Journal
from pdbclient.journal.work.leases import Lease

other = subprocess.Popen(["sleep", "60"])
with Journal.open(sys.argv[1]) as journal:
    own, journal.owner = journal.owner, f"{journal.writer}/{other.pid}"
    print(Lease(journal, "work").take() is None)
    journal.owner = own
    os.setresuid(0, 65534, 0)
    print(Lease(journal, "work").take() is None)
    os.setresuid(0, 0, 0)
    other.kill()
    other.wait()
    print(Lease(journal, "work").take() is None)
"""


def test_it_is_renewed_in_the_background(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.01)
    with hold(store.journal, "work"):
        store.now += 1000
        end = time.monotonic() + 10
        while until(store) < store.now and time.monotonic() < end:
            time.sleep(0.01)
        assert until(store) >= store.now
    assert store.journal.run(lambda tx: tx.rows("SELECT * FROM leases")) == []


def until(store: Store) -> float:
    return float(store.journal.run(lambda tx: tx.rows("SELECT until FROM leases"))[0][0])


# -- what is under way


@pytest.mark.parametrize("operation", [45.0, 601.0, 2000.0])
def test_what_is_under_way_is_nobody_elses_however_long_an_operation_may_take(
    store: Store, other: Journal, operation: float
) -> None:
    """J18: with an `operation_timeout` above 600 s, what was put in could be claimed at once."""
    limits = Timeouts(operation=operation)
    lease = lease_for(ClientConfig((Endpoint("localhost", 1),), TlsFiles(Path("ca"), None, None), timeouts=limits))
    store.journal.lease = lease
    entry = store.journal.append(command(), [ANY]).result().id

    def claimed() -> list[int]:
        claims = other.run(deliveries.claim, ANY, 10, store.now, store.now + lease, other.owner)
        return [claim.entry for claim in claims]

    assert claimed() == []
    store.now += lease - 1
    assert claimed() == []
    store.now += 1
    assert claimed() == [entry]
