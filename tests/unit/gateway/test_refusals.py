"""What the log is told of a journal that takes no commands: little, however many come."""

from __future__ import annotations

import pytest

from pdbclient.errors import JournalFull
from pdbclient.gateway.refusals import REMIND, JournalRefusals

FULL = JournalFull("/var/lib/pdbclient/journal.db: the disk is full")


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def refusals(now: list[float]) -> JournalRefusals:
    return JournalRefusals(lambda: now[0])


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    lines = [(each.levelname, each.message) for each in caplog.records if each.levelname != "DEBUG"]
    caplog.clear()
    return lines


def test_a_thousand_refused_commands_are_two_lines(
    refusals: JournalRefusals, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        refusals.met(FULL)
    now[0] += 42
    for _ in range(3):
        refusals.over()
    assert told(caplog) == [
        ("ERROR", f"the journal takes no commands, which are refused until it does: {FULL}"),
        ("WARNING", "the journal takes commands again, after 42 s; 1000 were refused"),
    ]


def test_one_that_lasts_is_told_again(
    refusals: JournalRefusals, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    refusals.met(FULL)
    told(caplog)
    now[0] += REMIND - 1
    refusals.met(FULL)
    assert told(caplog) == []
    now[0] += 1
    refusals.met(FULL)
    refusals.met(FULL)
    assert told(caplog) == [("ERROR", f"the journal still takes no commands, after 600 s, 3 refused: {FULL}")]


def test_the_next_one_begins_anew(
    refusals: JournalRefusals, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        refusals.met(FULL)
        now[0] += 5
        refusals.over()
    assert [level for level, _ in told(caplog)] == ["ERROR", "WARNING"] * 2


def test_nothing_is_told_while_all_is_well(refusals: JournalRefusals, caplog: pytest.LogCaptureFixture) -> None:
    refusals.over()
    assert told(caplog) == []
