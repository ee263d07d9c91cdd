"""Reports under any history: once both sides are quiet they are equal, without an audit that somebody asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdbclient.sync import Entity, reconcile

from ...soak import rounds
from ...versions import Release
from .conftest import MEMORY, PAIRS, SyncPair
from .fake import FakePuppetDB, facts, report

SIDES = st.sampled_from(["a", "b"])
AGES = st.sampled_from([0.0, 30.0, 1800.0, 4000.0, 9000.0, 86_400.0, 400_000.0])
STEPS = st.one_of(
    st.tuples(st.just("run"), SIDES, AGES, st.sampled_from([0.0, 30.0, 900.0, 7200.0, -7200.0])),
    st.tuples(st.just("both"), AGES, AGES, st.just(0.0)),
    st.tuples(st.just("pull"), SIDES, st.just(0.0), st.just(0.0)),
    st.tuples(st.just("time"), SIDES, st.sampled_from([1.0, 60.0, 700.0, 3600.0, 90_000.0]), st.just(0.0)),
    st.tuples(st.just("save"), SIDES, st.just(0.0), st.just(0.0)),
    st.tuples(st.just("restore"), SIDES, st.just(0.0), st.just(0.0)),
)


class ReportHistory:
    def __init__(self, directory: Path, releases: tuple[Release, Release]) -> None:
        self.site = SyncPair(directory, *releases)
        self.sides = {"a": self.site.a, "b": self.site.b}
        self.saved: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
        self.number = 0
        for side in self.sides.values():
            side.apply("replace facts", facts("n", self.site.ago(600_000)))

    def run(self, name: str, ago: float, received_ago: float = 0.0, uuid: str | None = None) -> None:
        side = self.sides[name]
        self.number += 1
        before = set(side.tables["reports"])
        side.apply("store report", report("n", self.site.ago(ago), uuid or f"r{self.number}"))
        for key in set(side.tables["reports"]) - before:
            side.received[key] = self.site.ago(received_ago)

    def pull(self, local: FakePuppetDB) -> int:
        (result,) = reconcile(self.site.config(local), connect=self.site.connect, clock=self.site.clock)
        assert result.ok, result
        return result.entities[Entity.REPORTS].transferred

    def step(self, what: str, where: str, one: float, other: float) -> None:
        match what:
            case "run":
                self.run(where, one, other)
            case "both":
                self.number += 1
                for name in self.sides:
                    self.run(name, one, uuid=f"both{self.number}")
            case "pull":
                self.pull(self.sides[where])
            case "time":
                self.site.time.elapsed += one
            case "save":
                self.saved[where] = dict(self.sides[where].tables["reports"])
            case "restore":
                self.sides[where].tables["reports"] = dict(self.saved[where])

    def same(self) -> bool:
        return self.site.a.tables["reports"].keys() == self.site.b.tables["reports"].keys()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(rounds(300, 3600))
@settings(max_examples=rounds(15, 1000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=4, max_size=24), releases=st.sampled_from(PAIRS))
def test_whatever_happened_both_sides_are_equal_after_two_rounds_and_then_nothing_is_pulled(
    steps: list[tuple[str, str, float, float]], releases: tuple[Release, Release]
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        history = ReportHistory(Path(directory), releases)
        for step in steps:
            history.step(*step)
        rounds = [[history.pull(side) for side in history.sides.values()] for _ in range(2)]
        if not history.same():
            # Counts that agree by chance, or hours still hot: what the rotation is for.
            history.site.time.elapsed += 90_000
            rounds += [[history.pull(side) for side in history.sides.values()] for _ in range(3)]
        assert history.same()
        assert [history.pull(side) for side in history.sides.values()] == [0, 0]
