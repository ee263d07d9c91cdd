"""The demo's verdict, its exit code, and that it cleans up; the story itself is played on a real pair."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pdbclient import demo
from pdbclient.demo import Outcome
from pdbclient.errors import AllEndpointsFailed, LabError
from pdbclient.lab import Lab, LabOptions
from tests.ended import Ended

from .conftest import Run

GOOD = Outcome(60, 0, 3, {"catalogs": 7, "facts": 7}, True, 0)
BAD = {
    "lost": replace(GOOD, lost=1),
    "not converged": replace(GOOD, converged=False),
    "not quiet": replace(GOOD, second_pass_transferred=1),
}


ROOT = Path(__file__).parents[3]
LINES = [
    (path.relative_to(ROOT), line.strip())
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
    for line in path.read_text().splitlines()
    if line.strip().startswith('{"submitted"')
]
"""The demo's last line, as the documentation has it."""


class Stage:
    """Instead of a pair: notes what the demo does with it."""

    def __init__(self) -> None:
        self.directory = Path()
        self.ended: list[bool] = []
        self.outcome: Outcome | Exception | signal.Signals = GOOD
        self.nodes = 0
        self.options = LabOptions()

    def up(self, directory: Path, *, options: LabOptions, progress: Any) -> Stage:
        directory.mkdir()
        self.directory, self.options = directory, options
        progress("up")
        return self

    def down(self, *, purge: bool) -> None:
        self.ended.append(purge)

    def play(self, lab: Stage, say: Any, *, nodes: int) -> Outcome:
        assert lab is self
        self.nodes = nodes
        say("a story")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if isinstance(self.outcome, signal.Signals):
            os.kill(os.getpid(), self.outcome)
            raise AssertionError("the signal should have ended it")
        return self.outcome


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(Lab, "up", stage.up)
    monkeypatch.setattr(demo, "play", stage.play)
    return stage


def _ended(stage: Stage, run: Run, *argv: str) -> Ended:
    ended = run("demo", *argv)
    assert stage.ended == [True]
    assert not stage.directory.parent.exists()
    return ended


def test_it_is_well_when_nothing_is_lost_and_all_is_equal_and_stays_so() -> None:
    """One thing amiss is enough."""
    assert GOOD.ok
    assert [name for name, outcome in BAD.items() if outcome.ok] == []


def test_the_documentation_shows_the_last_line_as_it_is() -> None:
    """Its keys in their order; a demo on a real pair is compared with these, too."""
    good = replace(GOOD, transferred=dict.fromkeys(demo.KINDS, 20) | {"nodes": 0})
    for path, line in LINES:
        told = json.loads(line)
        assert list(told) == list(asdict(good)), path
        assert told["transferred"] == good.transferred, path
        assert list(told["transferred"]) == list(good.transferred), path
    assert LINES, "nowhere"


def test_the_story_goes_to_standard_error_and_the_outcome_to_standard_output(stage: Stage, run: Run) -> None:
    """One JSON line; exit 0; everything is stopped and removed."""
    ended = _ended(stage, run, "--nodes", "7")
    assert ended.code == 0
    assert ended.out.count("\n") == 1
    assert json.loads(ended.out) == asdict(GOOD)
    assert "a story" in ended.err
    assert stage.nodes == 7


def test_it_is_played_with_the_programs_that_are_given(stage: Stage, run: Run) -> None:
    """As `lab up` would."""
    argv = "--puppetdb-jar 8.jar --node-jar replica=7.jar --postgres-bin pg --java java21 --java replica=java17"
    assert _ended(stage, run, *argv.split()).code == 0
    assert stage.options == LabOptions(
        puppetdb_jar=Path("8.jar"),
        node_jars={"replica": Path("7.jar")},
        postgres_bin=Path("pg"),
        java=Path("java21"),
        node_javas={"replica": Path("java17")},
    )


@pytest.mark.parametrize("name", BAD)
def test_it_fails_when_it_should_not_have_ended_so(name: str, stage: Stage, run: Run) -> None:
    """Exit 1, and the line says what is wrong."""
    stage.outcome = BAD[name]
    ended = _ended(stage, run)
    assert ended.code == 1
    assert json.loads(ended.out) == asdict(BAD[name])


@pytest.mark.parametrize(("error", "code"), [(LabError("no jar"), 1), (AllEndpointsFailed("x", []), 3)])
def test_an_error_leaves_nothing_behind(error: Exception, code: int, stage: Stage, run: Run) -> None:
    """No line of JSON either."""
    stage.outcome = error
    ended = _ended(stage, run)
    assert (ended.code, ended.out) == (code, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(number: signal.Signals, stage: Stage, run: Run) -> None:
    """Whoever ends the demo ends its servers, and finds the signal handlers as they were."""
    before = signal.getsignal(number)
    stage.outcome = number
    assert _ended(stage, run).code == 128 + number
    assert signal.getsignal(number) is before
