"""The command `python -m tests.partitions`: its exit codes, the files that it writes, and how it shrinks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.partitions import __main__ as command
from tests.partitions.__main__ import Options, Result, main
from tests.partitions.checkers import Kind, Violation
from tests.partitions.model import Arrangement, Front
from tests.partitions.safeties import Safety
from tests.partitions.schedule import Schedule, Step, dump, load
from tests.partitions.work import RunFailed

STEPS = tuple(Step(30.0 + 20 * n, 10.0, "cut", f"db{n % 2 + 1}") for n in range(6))
WRONG = Violation(Kind.LOST, "facts 1 of a", "db1, db2", 12.0, ("because",))


class Runs:
    """In the place of real runs: what was asked for, and whether it goes wrong."""

    def __init__(self, wrong: Callable[[Schedule], bool]) -> None:
        self.asked: list[Options] = []
        self._wrong = wrong

    def __call__(self, options: Options, directory: Path) -> Result:
        assert directory.is_dir()
        self.asked.append(options)
        schedule = options.replay or Schedule(options.seed, options.minutes * 60, STEPS)
        violations = (WRONG,) if self._wrong(schedule) else ()
        line = {"partitions": options.arrangement, "ok": not violations}
        return Result(schedule, violations, line, {**line, "whole": True}, "<!doctype html>")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Schedule], bool]], Runs]:
    def install(wrong: Callable[[Schedule], bool]) -> Runs:
        fake = Runs(wrong)
        monkeypatch.setattr(command, "run", fake)
        return fake

    return install


Install = Callable[[Callable[[Schedule], bool]], Runs]


def last(text: str) -> object:
    return json.loads(text.splitlines()[-1])


def test_without_violations_it_is_0_and_the_last_line_is_json(
    runs: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = runs(lambda _: False)
    arguments = (
        "--seed 7 --minutes 3 --arrangement sqlite --front haproxy --only cut,stop --off freshness --databases 3"
    )
    assert main(arguments.split()) == 0
    (options,) = fake.asked
    assert options == Options(
        7, 3.0, Arrangement.FILES, Front.HAPROXY, frozenset({Safety.FRESHNESS}), ("cut", "stop"), databases=3
    )
    assert last(capsys.readouterr().out) == {"partitions": "sqlite", "ok": True}
    again = "--seed 7 --minutes 3 --arrangement sqlite --front haproxy --off freshness --only cut,stop --databases 3"
    assert options.again() == f"python -m tests.partitions {again}"


def test_with_violations_it_is_1_and_each_is_told(runs: Install, capsys: pytest.CaptureFixture[str]) -> None:
    runs(lambda _: True)
    assert main(["--arrangement", "sqlite"]) == 1
    assert "lost: facts 1 of a (db1, db2): because" in capsys.readouterr().out.splitlines()


def test_what_could_not_be_run_is_2_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(options: Options, directory: Path) -> Result:
        raise RunFailed("cut db1 could not begin: OSError: no such device")

    monkeypatch.setattr(command, "run", broken)
    assert main(["--arrangement", "both"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["partitions"] for line in lines] == ["postgresql", "sqlite"]
    assert json.loads(lines[0])["failed"] == "RunFailed: cut db1 could not begin: OSError: no such device"


def test_both_arrangements_have_files_of_their_own(runs: Install, tmp_path: Path) -> None:
    runs(lambda _: False)
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html"), "--keep", str(tmp_path / "kept")]
    assert main(files) == 0
    for name in ("postgresql", "sqlite"):
        assert json.loads((tmp_path / f"r-{name}.json").read_text()) == {
            "partitions": name,
            "ok": True,
            "whole": True,
        }
        assert (tmp_path / f"r-{name}.html").read_text() == "<!doctype html>"
        assert (tmp_path / f"kept-{name}" / "report.html").exists()


def test_one_that_is_replayed_is_the_one_that_was_saved(runs: Install, tmp_path: Path) -> None:
    fake = runs(lambda _: False)
    path = tmp_path / "schedule.json"
    schedule = Schedule(3, 200.0, STEPS)
    path.write_text(dump(schedule, arrangement="sqlite", front="stock"))
    assert main(["--replay", str(path), "--off", "verification"]) == 0
    (options,) = fake.asked
    assert (options.replay, options.arrangement, options.front) == (schedule, Arrangement.FILES, Front.STOCK)
    assert options.again().startswith(f"python -m tests.partitions --replay {path} --arrangement sqlite")


def test_one_that_fails_is_shrunk_by_running_and_saved_so_that_it_can_be_replayed(
    runs: Install, tmp_path: Path
) -> None:
    fake = runs(lambda schedule: STEPS[3].target in {step.target for step in schedule.steps})
    path = tmp_path / "short.json"
    assert main(["--arrangement", "sqlite", "--minutes", "5", "--shrink", str(path)]) == 1
    short, about = load(path.read_text())
    assert [step.target for step in short.steps] == [STEPS[3].target]
    assert about == {"arrangement": "sqlite", "front": "gateway", "kinds": ["lost"]}
    assert 1 < len(fake.asked) <= 1 + command.TRIES
    assert Options.of(path).replay == short
