"""Events on disk and back, and what the timeline makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.partitions.history import (
    Applied,
    Event,
    NemesisBegan,
    NemesisEnded,
    Phase,
    Probed,
    Recorder,
    RunHistory,
    UsageMeasured,
    WallClock,
    read,
    to_line,
)
from tests.partitions.timeline import Timeline

from . import made_up as site

EVENTS: list[Event] = [
    site.submitted(3.0, error="500: no", status=500),
    site.read(2.0, {"a": 1}, stale=True),
    Probed(1.0, 0.5, "puppet1", "db1", False, "timeout"),
    Applied(4.0, 1.5, "puppet1", "real", 2),
    NemesisBegan(5.0, "cut", "db1"),
    NemesisEnded(6.0, "cut", "db1", 5.9),
    Phase(0.0, "healthy"),
    UsageMeasured(7.0, {"db1 reconciler": {"descriptors": 20, "threads": 3, "megabytes": 50.5}}),
    WallClock(0.5, 1_800_000_000.0),
]


def test_what_was_recorded_in_several_files_is_read_by_time(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for number, path in enumerate(files):
        with Recorder(path) as recorder:
            for event in EVENTS[number::2]:
                recorder.note(event)
    assert list(read(files).events) == sorted(EVENTS, key=lambda event: event.at)


def test_a_line_that_broke_off_or_is_no_event_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "events"
    for wrong in (to_line(EVENTS[0])[:-5], '{"event": "unheard"}', '{"event": "phase", "when": 1}', "[]"):
        path.write_text(f"{to_line(EVENTS[1])}\n{wrong}\n")
        with pytest.raises(ValueError, match=f"{path}:2: "):
            read([path])


def test_the_wall_clock_is_known_by_where_it_was_once() -> None:
    history = RunHistory.of(EVENTS)
    assert history.monotonic(1_800_000_010.0) == 10.5
    assert history.begins("healthy") == 0.0
    assert history.begins("end") is None
    assert history.end == 7.0


def test_a_nemesis_without_an_end_lasts_until_all_was_healed() -> None:
    events: list[Event] = [
        NemesisBegan(1.0, "cut", "db1"),
        NemesisBegan(2.0, "stop", "db1 puppetdb"),
        NemesisEnded(3.0, "cut", "db1", 3.0),
    ]
    healed = Timeline.of(RunHistory.of([*events, Phase(9.0, "healed"), Phase(20.0, "end")]))
    assert [(each.nemesis, each.begin, each.end) for each in healed.intervals] == [
        ("cut", 1.0, 3.0),
        ("stop", 2.0, 9.0),
    ]
    never = Timeline.of(RunHistory.of([*events, Phase(20.0, "nemeses")]))
    assert never.intervals[1].end == 20.0


def test_what_is_disturbed_is_what_the_target_names() -> None:
    pairs = [
        site.nemesis("cut", "db1", 10, 20),
        site.nemesis("one_way", "puppet1 db2", 10, 20),
        site.nemesis("kill", "puppet1 gateway", 30, 40),
        site.nemesis("halves", "puppet1 db1", 50, 60),
        site.nemesis("delay", "db1", 70, 80),
    ]
    timeline = site.evidence(pairs).timeline
    assert [str(each) for each in timeline.path_disturbed("puppet1", "db1", 15, 16)] == ["cut db1"]
    assert [str(each) for each in timeline.path_disturbed("db2", "puppet1", 15, 16)] == ["one_way puppet1 db2"]
    assert timeline.path_disturbed("puppet2", "db2", 15, 16) == ()
    assert [str(each) for each in timeline.path_disturbed("puppet2", "db1", 15, 16)] == ["cut db1"]
    assert timeline.path_disturbed("puppet2", "db1", 20.1, 29) == ()
    assert [str(each) for each in timeline.path_disturbed("puppet2", "db1", 55, 55)] == ["halves puppet1 db1"]
    assert (
        timeline.path_disturbed("puppet1", "db1", 55, 55) == timeline.path_disturbed("puppet2", "db2", 55, 55) == ()
    )
    assert timeline.path_disturbed("puppet1", "db1", 75, 75) == ()
    assert timeline.service_disturbed("puppet1", "gateway", 39, 45)
    assert not timeline.service_disturbed("puppet1", "gateway", 41, 45)
    assert not timeline.service_disturbed("puppet2", "gateway", 30, 40)


def test_something_was_reached_when_every_probe_was_answered_and_there_was_one() -> None:
    good = site.evidence(site.probes(0, 10)).timeline
    assert good.reached("puppet1", "db1", 3, 6)
    assert not good.reached("puppet2", "db1", 3, 6), "another host's probes say nothing"
    assert not good.reached("puppet1", "db1", 30, 31), "no probe says nothing"
    one_bad = [*site.probes(0, 10), *site.probes(5, 5, ok=False)]
    assert not site.evidence(one_bad).timeline.reached("puppet1", "db1", 3, 6)
    assert site.evidence(one_bad).timeline.reached("puppet1", "db1", 7, 9)
