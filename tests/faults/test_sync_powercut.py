"""The reconciler's state file when its disk loses power at any moment: it opens, with all that was written."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pdbclient.sync.policy.model import Entity, Version
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.state.store import State
from tests.unit.sync.test_state import SCHEMA_1

from ..soak import rounds
from .powercut import Power, at_each_change, mounted

pytestmark = [pytest.mark.soak, pytest.mark.timeout(rounds(300, 3600))]

SEEDS = rounds(1, 20)
WRITES = 3


@pytest.fixture
def power(tmp_path: Path) -> Iterator[Power]:
    with mounted(tmp_path / "disk") as made:
        yield made


def numbered(number: int) -> ReportMemory:
    """Of several pages."""
    return ReportMemory(number, {at: f"{number}-{at:03} {'x' * 100}" for at in range(100)})


def write(state: State, number: int) -> None:
    state.remember_reports("r", lambda _: numbered(number))


def remembered(path: Path) -> int:
    """What a pass, and whoever looks beside it, finds: which number, and all of it."""
    with closing(State(path, read_only=True)) as state:
        seen = state.reports("r")
    with closing(State(path)) as state:
        found = state.reports("r")
    assert found == seen
    assert found.cursor is not None
    assert found == numbered(found.cursor)
    return found.cursor


def test_while_it_is_written(power: Power, tmp_path: Path) -> None:
    made, path = tmp_path / "state", power.path / "state"
    with closing(State(made)) as state:
        write(state, 0)
    done = 0

    def work() -> None:
        nonlocal done
        done = 0
        with closing(State(path)) as state:
            for number in range(1, WRITES + 1):
                write(state, number)
                done = number

    cuts = 0
    for seed in at_each_change(power, lambda: shutil.copyfile(made, path), work, seeds=SEEDS):
        assert done <= remembered(path) <= done + 1, f"seed {seed}: what was written stays"
        cuts += 1
    assert cuts > 10 * WRITES * SEEDS


def test_while_it_is_made(power: Power) -> None:
    path = power.path / "state"
    done = False

    def work() -> None:
        nonlocal done
        done = False
        with closing(State(path)) as state:
            write(state, 1)
            done = True

    for seed in at_each_change(power, lambda: None, work, seeds=SEEDS):
        with closing(State(path)) as state:
            found = state.reports("r")
        assert found in ((numbered(1),) if done else (ReportMemory(), numbered(1))), f"seed {seed}"


def test_while_one_of_an_older_schema_is_taken_over(power: Power, tmp_path: Path) -> None:
    made, path = tmp_path / "state", power.path / "state"
    with closing(sqlite3.connect(made)) as db:
        db.executescript(SCHEMA_1)
    work = lambda: State(path).close()  # noqa: E731
    for _ in at_each_change(power, lambda: shutil.copyfile(made, path), work, seeds=SEEDS):
        with closing(State(path)) as state:
            assert state.unequal("r", Entity.FACTS) == {"n": Version(2000, "bb", "u")}
            assert state.seen("r", Entity.NODES) == 7


def test_while_what_the_cut_before_left_half_done_is_undone(power: Power, tmp_path: Path) -> None:
    made, path = tmp_path / "state", power.path / "state"
    ends = ("", "-journal")
    with closing(State(made)) as state:
        write(state, 1)
        # What does not fit into memory is in the file already.
        state._db.execute("PRAGMA cache_size = 1")
        state._db.execute("BEGIN IMMEDIATE")
        state._db.execute("UPDATE reports SET memory = hex(randomblob(200000))")
        for end in ends:
            shutil.copyfile(f"{made}{end}", f"{tmp_path}/half{end}")
        state._db.execute("ROLLBACK")

    def prepare() -> None:
        for end in ends:
            shutil.copyfile(f"{tmp_path}/half{end}", f"{path}{end}")

    cuts = 0
    for seed in at_each_change(power, prepare, lambda: State(path).close(), seeds=SEEDS):
        assert remembered(path) == 1, f"seed {seed}"
        cuts += 1
    assert cuts > 5 * SEEDS
