"""The gate before a pass, and the time by which records are judged."""

from __future__ import annotations

from typing import Any

import pytest

from pdbclient.errors import NotSent
from pdbclient.sync import Outcome, PassResult
from pdbclient.sync.policy.clocks import clock_skew
from pdbclient.sync.run.preflight import pass_gate

from ...versions import PUPPETDB_8_4
from .conftest import NOW, SyncPair
from .fake import facts, report


def moved(result: PassResult) -> dict[str, int]:
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


def test_the_gate_tells_what_it_learned_of_both_servers(site: SyncPair) -> None:
    site.a.become(PUPPETDB_8_4)
    site.b.depth = 7
    there, here = pass_gate(site.b, site.a, site.config(site.b), site.clock)
    assert (there.version, here.version, here.depth) == ("8.4.1", "7.12.1", 7)
    assert there.epoch == here.epoch == (NOW, NOW + 1)


def test_puppetdb_7_and_8_together_pass_the_gate_in_both_directions(site: SyncPair) -> None:
    site.a.become(PUPPETDB_8_4)
    site.a.apply("replace facts", facts("n", site.ago(50)))
    site.b.apply("replace facts", facts("m", site.ago(50)))
    assert [moved(site.pull(side)) for side in (site.a, site.b)] == [{"facts": 1}, {"facts": 1}]
    assert site.a.tables == site.b.tables


@pytest.mark.parametrize(
    ("one", "other", "skew"),
    [
        ((0.0, 1.0), (0.5, 1.5), 0.0),
        ((0.0, 1.0), (1.0, 2.0), 0.0),
        ((0.0, 1.0), (5.0, 6.0), 4.0),
        ((5.0, 6.0), (0.0, 1.0), 4.0),
        (None, (5.0, 6.0), 0.0),
        ((5.0, 6.0), None, 0.0),
    ],
)
def test_only_what_two_ranges_cannot_explain_counts_as_skew(
    one: tuple[float, float] | None, other: tuple[float, float] | None, skew: float
) -> None:
    assert clock_skew(one, other) == skew


def test_an_unreachable_remote_is_told_rather_than_an_unreachable_local_server(site: SyncPair) -> None:
    site.a.down = NotSent("https://a", "refused")
    site.b.down = NotSent("https://b", "refused")
    assert site.pull(site.b).errors == ["https://a: refused"]


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0, 86_400.0 * 365])
def test_a_wrong_clock_of_our_own_holds_nothing_back_and_lets_nothing_in(site: SyncPair, wrong_by: float) -> None:
    """Both servers agree on the time; only this process's machine is wrong."""
    true = site.clock.wall
    site.time.clock = site.clock = type(site.clock)(
        wall=lambda: true() + wrong_by, monotonic=site.clock.monotonic, stop=site.clock.stop
    )
    now = int(true() * 1000)
    site.a.apply("replace facts", facts("now", now))
    site.a.apply("replace facts", facts("later", now + 1_800_000))
    result = site.pull(site.b)
    assert moved(result) == {"facts": 1}
    assert result.as_json()["held"] == 1
    assert list(site.b.tables["factsets"]) == ["now"]


def test_a_clock_that_steps_during_a_pass_changes_nothing_in_it(site: SyncPair) -> None:
    stepped = [0.0]
    true = site.clock.wall
    site.clock = type(site.clock)(
        wall=lambda: true() + stepped[0], monotonic=site.clock.monotonic, stop=site.clock.stop
    )
    site.a.apply("replace facts", facts("n", site.ago(5)))
    site.a.apply("store report", report("n", site.ago(5), "r"))
    site.a.apply("store report", report("n", site.ago(12 * 86_400), "old"))

    def step(path: str, query: Any) -> Exception | None:
        stepped[0] = -7200.0
        return None

    site.a.broken = step
    result = site.pull(site.b)
    assert (moved(result)["facts"], result.as_json()["held"]) == (1, 0)
    assert result.elapsed_ms < 3_600_000


def no_date(site: SyncPair) -> None:
    document = site.b.document

    def without(path: str, **options: Any) -> Any:
        answer = document(path, **options)
        return type(answer)(answer.value, {})

    site.b.document = without  # type: ignore[method-assign]


def test_a_local_server_that_does_not_tell_the_time_leaves_ours(site: SyncPair) -> None:
    no_date(site)
    site.a.apply("replace facts", facts("n", site.ago(5)))
    site.a.apply("replace facts", facts("m", site.ago(-600)))
    result = site.pull(site.b)
    assert (moved(result), result.as_json()["held"]) == ({"facts": 1}, 1)


@pytest.mark.parametrize("depth", [None, 0, 999, 1000])
def test_a_queue_that_is_not_loaded_yet_or_short_lets_a_pass_through(site: SyncPair, depth: Any) -> None:
    site.b.depth = depth
    assert site.pull(site.b).ok


def test_a_queue_depth_that_is_no_number_refuses_the_pass(site: SyncPair) -> None:
    site.b.depth = "many"  # type: ignore[assignment]
    result = site.pull(site.b)
    assert result.outcome is Outcome.REFUSED
    assert "queue_depth is 'many'" in result.errors[0]
