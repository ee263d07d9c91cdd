"""A run in a small fake world: its workers are real processes, its PuppetDBs fakes, its nemeses short."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faults.conftest import Pki, pki  # noqa: F401
from tests.partitions import run as runs
from tests.partitions.checkers import Evidence, Held, Kind, check, databases
from tests.partitions.history import NemesisBegan, NemesisEnded, Phase, Probed, Read, Submitted
from tests.partitions.page import page
from tests.partitions.report import About, document
from tests.partitions.run import Limits, choices, play
from tests.partitions.schedule import Schedule, Step
from tests.partitions.site import WorldLike
from tests.partitions.work import RunFailed, Work, Workforce

from .fake_world import FakeDatabase, FakeNemesis, FakeWorld, make_jar, running
from .made_up import evidence as made_up_evidence
from .made_up import held_of, submitted

LIMITS = Limits(not_now=0.1, heal=5, healed=0.5, pending=5, settle=5, passes_seconds=5, quiet=0.3)
SCHEDULE = Schedule(1, 3.5, (Step(1.0, 1.2, "cut", "db1"), Step(2.5, 0.5, "cut", "db2")))
AT_ONCE = Schedule(1, 1.0, (Step(0.1, 0.1, "cut", "db1"),))
ABOUT = About("postgresql", "stock", (), "python -m tests.partitions --seed 1")


@contextmanager
def world(pki: Pki, tmp_path: Path, **second: Any) -> Iterator[FakeWorld]:  # noqa: F811
    with running(pki, tmp_path, FakeDatabase(**second), FakeDatabase(**second)) as fake:
        yield fake


def work(tmp_path: Path, **more: Any) -> Work:
    return Work(make_jar(tmp_path), 1, nodes=4, pause=0.1, read_pause=0.1, seconds=2.0, **more)


def played(fake: FakeWorld, tmp_path: Path, schedule: Schedule = SCHEDULE, breaks: str = "") -> Evidence:
    nemeses = {"cut": FakeNemesis("cut", [], breaks)}
    return play(fake, nemeses, schedule, work(tmp_path), tmp_path, gateways=False, limits=LIMITS, say=lambda _: None)


@dataclass(frozen=True)
class Ran:
    """A run that is over, and the URLs of its PuppetDBs."""

    evidence: Evidence
    urls: frozenset[str]
    healed: int


def ran(pki: Pki, directory: Path, **second: Any) -> Ran:  # noqa: F811
    with world(pki, directory, **second) as fake:
        evidence = played(fake, directory)
        return Ran(evidence, frozenset(map(fake.url, fake.databases)), fake.healed)


@pytest.fixture(scope="module")
def well(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Ran:  # noqa: F811
    """With servers that keep what they take."""
    return ran(pki, tmp_path_factory.mktemp("well"))


@pytest.fixture(scope="module")
def losing(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Ran:  # noqa: F811
    """With servers that lose reports."""
    return ran(pki, tmp_path_factory.mktemp("losing"), forgets=frozenset({"store report"}))


def test_a_run_records_what_was_sent_and_seen_and_when_what_was_wrong(well: Ran) -> None:
    assert well.healed == 1
    evidence, history = well.evidence, well.evidence.history
    assert [each.name for each in history.all(Phase)] == ["healthy", "nemeses", "healed", "end"]
    assert [(each.nemesis, each.target) for each in history.all(NemesisBegan)] == [("cut", "db1"), ("cut", "db2")]
    assert len(history.all(NemesisEnded)) == 2
    sent, reads = history.all(Submitted), history.all(Read)
    assert {each.kind for each in sent} == {"facts", "catalog", "inputs", "report", "deactivate"}
    assert {each.host for each in sent} == {each.host for each in reads} == {"puppet1", "puppet2"}
    assert {each.by for each in sent if each.acknowledged} == well.urls, "the second one took over"
    assert {each.error[:4] for each in sent if each.error} == {"503:"}
    assert any(each.seen for each in reads if each.kind == "exported")
    assert {(each.host, each.target) for each in history.all(Probed)} >= {("puppet1", "db1"), ("puppet2", "db2")}
    # Fakes that refuse are not out of reach, and a site without a gateway goes back in time: only these are wrong.
    assert {each.kind for each in check(evidence)} <= {Kind.BACKWARDS, Kind.QUERY_FAILED}
    assert evidence.held["db1"].reports
    assert evidence.held["db1"].newest["inputs"]


def test_each_node_sends_its_commands_one_after_the_other_with_growing_numbers(well: Ran) -> None:
    sent = well.evidence.history.all(Submitted)
    for certname in {each.certname for each in sent}:
        own = [each for each in sent if each.certname == certname]
        numbers = [each.number for each in own]
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
        assert numbers == sorted(numbers)
        assert [each.stamp for each in own] == sorted(each.stamp for each in own)
        assert all(one.end <= other.at for one, other in itertools.pairwise(own))


def test_servers_that_lose_what_they_took_are_found_out(losing: Ran) -> None:
    evidence = losing.evidence
    reports = [each for each in evidence.history.all(Submitted) if each.kind == "report" and each.acknowledged]
    lost = [each for each in check(evidence) if each.kind is Kind.LOST]
    assert len(lost) == len(reports) > 0
    assert all(each.what.startswith("report ") for each in lost)


@pytest.mark.parametrize("breaks", ["begin", "end"])
def test_a_nemesis_that_cannot_begin_or_end_ends_the_run_by_name(
    pki: Pki,  # noqa: F811
    tmp_path: Path,
    breaks: str,
) -> None:
    with (
        world(pki, tmp_path) as fake,
        pytest.raises(RunFailed, match=rf"cut db1 could not {breaks}: OSError: no such device"),
    ):
        played(fake, tmp_path, AT_ONCE, breaks)


def test_one_that_cannot_begin_yet_is_tried_again(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    nemeses = {"cut": FakeNemesis("cut", [], "not yet")}
    limits = replace(LIMITS, not_now=5.0)
    with world(pki, tmp_path) as fake:
        options: dict[str, Any] = {"gateways": False, "limits": limits, "say": lambda _: None}
        evidence = play(fake, nemeses, AT_ONCE, work(tmp_path), tmp_path, **options)
    assert [each.nemesis for each in evidence.history.all(NemesisEnded)] == ["cut"]


def test_what_stays_in_a_queue_is_noted_and_waited_for_once(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    with world(pki, tmp_path) as fake:
        fake.stuck.add("db1")
        evidence = played(fake, tmp_path, Schedule(1, 0.5, ()))
    assert evidence.notes == ("db1: 1 command still queued",)
    assert fake.settled == ["db1", "db2", "db2"]


@pytest.mark.parametrize("comes", [True, False])
def test_what_was_taken_and_lost_has_time_to_come_again(comes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    report = submitted(1, 1, "report")
    there = Held() if not comes else held_of([report])
    looks = iter([Held(), Held(), there, *[there] * 1000])
    monkeypatch.setattr(runs, "_held", lambda site: dict.fromkeys(("db1", "db2"), next(looks)))
    first = made_up_evidence([report], held=dict.fromkeys(("db1", "db2"), Held()))
    began = time.monotonic()
    evidence = runs._given_time(cast(WorldLike, None), first, Limits(late=0.5))
    assert [each.kind for each in databases.lost(evidence)] == ([] if comes else [Kind.LOST])
    assert evidence.held == first.held
    assert time.monotonic() - began < 10


def test_a_worker_that_ends_by_itself_ends_the_run(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    with world(pki, tmp_path) as fake:
        started = Workforce(fake, work(tmp_path), tmp_path)
        with started:
            started.require()
            started._workers[0].process.kill()
            started._workers[0].process.wait()
            with pytest.raises(RunFailed, match="the worker of puppet1 has ended with -9"):
                started.require()
        assert all(each.process.poll() is not None for each in started._workers), "and the others end with it"


def test_a_worker_that_does_not_start_says_why(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    with world(pki, tmp_path) as fake:
        without_jar = replace(work(tmp_path), jar=tmp_path / "missing.jar")
        with (
            pytest.raises(RunFailed, match=r"(?s)does not start: .*missing\.jar"),
            Workforce(fake, without_jar, tmp_path),
        ):
            pass


def test_what_can_be_drawn_is_what_there_is_and_what_was_asked_for(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    nemeses = {name: FakeNemesis(name, []) for name in ("cut", "stop")}
    with world(pki, tmp_path) as fake:
        assert [each.name for each in choices(fake, nemeses)] == ["cut", "stop"]
        assert [(each.name, each.targets) for each in choices(fake, nemeses, ["stop"])] == [("stop", ("db1", "db2"))]
        with pytest.raises(RunFailed, match="no nemesis is called rain; there are: cut, stop"):
            choices(fake, nemeses, ["rain"])
        fake.databases = ()
        with pytest.raises(RunFailed, match="nothing here that cut could be aimed at"):
            choices(fake, nemeses, ["cut"])


def test_the_report_counts_and_the_page_shows_all_of_it_and_needs_nothing_else(losing: Ran) -> None:
    evidence = losing.evidence
    violations = check(evidence)
    told = document(ABOUT, SCHEDULE, evidence, violations)
    assert json.loads(json.dumps(told))["by_kind"][Kind.LOST] == sum(each.kind is Kind.LOST for each in violations)
    assert told["ok"] is False
    assert told["counts"]["nemeses"] == {"cut": 2}
    assert told["counts"]["commands"]["facts"] > 0
    assert told["counts"]["failovers"] == len(told["failovers"]) > 0
    assert [each["target"] for each in told["nemeses"]] == ["db1", "db2"]
    shown = page(told, evidence, violations)
    svg = ElementTree.fromstring(shown[shown.index("<svg") : shown.index("</svg>") + 6])
    drawn = [each.get("class") for each in svg.iter()]
    assert drawn.count("nemesis") == 2
    assert drawn.count("violation") == len([each for each in violations if each.at is not None])
    assert drawn.count("failover") == len(told["failovers"])
    assert drawn.count("failed") == told["counts"]["attempts_failed"] + told["counts"]["reads_failed"]
    assert "median" in drawn
    assert "prefers-color-scheme: dark" in shown
    assert not any(outside in shown.partition("</style>")[2] for outside in ("<script", "<link", "src=", "@import"))
    assert ABOUT.command in shown


def test_a_report_without_violations_says_so(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    with world(pki, tmp_path) as fake:
        evidence = played(fake, tmp_path, Schedule(1, 1.0, ()))
    assert check(evidence) == ()
    told = document(ABOUT, SCHEDULE, evidence, ())
    assert (told["ok"], told["by_kind"]) == (True, {})
    assert "no violations" in page(told, evidence, ())


def test_workers_end_when_whoever_started_them_is_gone(pki: Pki, tmp_path: Path) -> None:  # noqa: F811
    with world(pki, tmp_path) as fake, Workforce(fake, work(tmp_path), tmp_path) as workforce:
        processes: list[subprocess.Popen[Any]] = [each.process for each in workforce._workers]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(20) for process in processes] == [0, 0]
