"""The checkers of figures: latencies while an outage is known, and what the daemons took of their machines."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.partitions.checkers import Evidence, Kind, Violation
from tests.partitions.checkers.figures import grown, latencies, percentile, slow
from tests.partitions.history import Event, Phase, Read, UsageMeasured

from .made_up import evidence, nemesis, read

HEALTHY = [read(float(n), took=0.10 + n / 10_000) for n in range(150)]


def during(begin: float, took: float, number: int = 150) -> list[Read]:
    """Reads in half a minute."""
    return [read(begin + n * 0.19, took=took) for n in range(number)]


def of(reads: Iterable[Event], *events: Event | tuple[Event, ...]) -> Evidence:
    return evidence([*HEALTHY, *reads, *events])


def kinds(found: Iterable[Violation]) -> list[Kind]:
    return [each.kind for each in found]


CUT = nemesis("cut", "db1", 200, 260)


def test_percentiles_are_the_nearest_rank() -> None:
    assert [percentile(range(1, 101), percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile([3.0], 99) == 3.0


def test_answers_that_take_too_long_once_an_outage_is_known_are_wrong() -> None:
    (found,) = slow(of(during(210, 0.2), CUT))
    assert (found.kind, found.what, found.where) == (Kind.SLOW, "exported: p99 200 ms, healthy 115 ms", "cut")
    assert list(slow(of(during(210, 0.16), CUT))) == []


def test_one_slow_answer_of_a_hundred_is_not_what_the_percentile_is_about() -> None:
    reads = [*during(210, 0.12, 149), read(240, took=8.0)]
    assert list(slow(of(reads, CUT))) == []


@pytest.mark.parametrize(
    ("reads", "events"),
    [
        (during(210, 0.2, 99), [CUT]),
        (during(201, 5.0, 30), [CUT]),
        (during(210, 0.2), [nemesis("cut", "puppet1", 200, 260)]),
        (during(210, 0.2), [nemesis("stop", "puppet1 gateway", 200, 260)]),
        (during(210, 0.2), [nemesis("delay", "db1", 200, 260)]),
        (during(210, 0.2), [nemesis("kill", "db1 puppetdb", 200, 260, called=205)]),
        (during(210, 0.2), [CUT, nemesis("kill", "db2 puppetdb", 150, 195, called=180)]),
        (during(210, 0.2), [CUT, nemesis("flap", "db2", 200, 260)]),
        (during(270, 0.2), [CUT]),
    ],
    ids=[
        "too few",
        "not known yet",
        "of the host itself",
        "of the gateway",
        "no outage",
        "being started again",
        "another server starts",
        "another one at once",
        "over",
    ],
)
def test_nothing_is_said_where_it_would_say_nothing(reads: list[Read], events: list[tuple[Event, ...]]) -> None:
    assert list(slow(of(reads, *events))) == []


def test_what_a_kill_does_before_the_server_is_started_again_is_judged() -> None:
    kill = nemesis("kill", "db1 puppetdb", 200, 290, called=250)
    assert kinds(slow(of(during(210, 0.2), kill))) == [Kind.SLOW]


def test_latencies_are_by_phase_and_kind() -> None:
    others = [read(205 + n, kind="node", took=0.3) for n in range(10)]
    found = latencies(of([*during(210, 0.2), *others], CUT))
    assert {key: len(values) for key, values in found.items()} == {
        ("healthy", "exported"): 150,
        ("cut", "exported"): 150,
        ("cut", "node"): 7,
    }


def measured(at: float, **figures: float) -> UsageMeasured:
    usage = {"descriptors": 20.0, "threads": 10.0, "megabytes": 80.0, **figures}
    return UsageMeasured(at, {"puppet1 gateway": usage})


PHASES = [Phase(50, "nemeses"), Phase(100, "healed")]


@pytest.mark.parametrize("what", ["descriptors", "threads", "megabytes"])
def test_a_daemon_that_has_more_in_the_end_is_told(what: str) -> None:
    end = [measured(110, **{what: 200.0}), measured(120, **{what: 190.0})]
    (found,) = grown(evidence([*PHASES, measured(10), measured(40), *end]))
    assert (found.kind, found.where) == (Kind.GROWN, "puppet1 gateway")
    assert found.what.startswith(f"{what}: at most ")
    assert found.what.endswith("at least 190 in the end")


def test_one_that_had_more_for_a_while_or_has_a_little_more_is_not() -> None:
    meanwhile = measured(70, descriptors=500.0)
    assert list(grown(evidence([*PHASES, measured(40), meanwhile, measured(110, descriptors=30.0)]))) == []
    falling = [measured(110, descriptors=200.0), measured(120)]
    assert list(grown(evidence([*PHASES, measured(40), *falling]))) == []
    assert list(grown(evidence([*PHASES, measured(40, threads=60.0), measured(110, threads=70.0)]))) == []


def test_what_was_not_there_at_the_start_is_not_compared() -> None:
    assert list(grown(evidence([*PHASES, UsageMeasured(10, {}), measured(110, threads=900.0)]))) == []
    assert list(grown(evidence([measured(10), measured(110, threads=900.0)]))) == []
