"""What the state file tells of the passes."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from pdbclient.errors import NotSent, Rejected, SafetyBrake, SyncError
from pdbclient.observe.exposition import exposition
from pdbclient.sync.policy.model import Entity, Version
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.service.metrics import SyncMetrics
from pdbclient.sync.state.status import RemoteStatus, read_status
from pdbclient.sync.state.store import State, state_path

from .conftest import NOW, SyncPair
from .fake import catalog, facts, report

V = Version(1, "h")
DAY = 86_400.0


def opened(site: SyncPair) -> closing[State]:
    path = state_path(site.config(site.b).state_dir, site.b.endpoint)
    path.parent.mkdir(exist_ok=True)
    return closing(State(path))


def status(site: SyncPair) -> RemoteStatus:
    (found,) = read_status(site.config(site.b), site.clock.wall())
    return found


def test_without_a_pass_nothing_is_known_and_nothing_has_succeeded(site: SyncPair) -> None:
    found = status(site)
    assert (found.ran, found.succeeded, found.worked, found.lag, found.cursor_age) == (
        False,
        False,
        False,
        None,
        None,
    )


def test_after_a_pass_it_has_what_the_pass_did(site: SyncPair) -> None:
    site.a.apply("replace facts", facts("n", site.ago(50)))
    site.pull(site.b)
    site.time.elapsed += 90
    found = status(site)
    assert found.succeeded
    assert found.lag == pytest.approx(90, abs=1)
    assert found.total("transferred") == 1
    assert found.of(Entity.FACTS, "transferred") == 1
    assert found.of(Entity.CATALOGS, "transferred") == 0
    assert found.transfer_mean is not None


def test_a_failed_pass_keeps_the_last_success_and_its_lag(site: SyncPair) -> None:
    site.pull(site.b)
    site.a.down = NotSent("a", "refused")
    site.time.elapsed += 60
    site.pull(site.b)
    found = status(site)
    assert not found.succeeded
    assert found.worked
    assert found.failed_after_working
    assert found.lag == pytest.approx(60, abs=1)
    assert found.last_error is not None
    assert "refused" in found.last_error


def test_a_pass_in_which_a_record_failed_succeeded_and_that_record_is_lacking(site: SyncPair) -> None:
    for name in ("good", "bad"):
        site.a.apply("replace facts", facts(name, site.ago(50)))
    site.b.refuses["bad"] = Rejected("b", 400, "no")
    assert not site.pull(site.b).ok
    found = status(site)
    assert (found.succeeded, found.lacking, found.total("failed")) == (True, True, 1)
    assert found.as_json()["ok"]
    del site.b.refuses["bad"]
    site.pull(site.b)
    # It was not due yet: this pass had no failure, and the record is still not here.
    found = status(site)
    assert (found.succeeded, found.lacking, found.total("failed")) == (True, True, 0)
    site.time.elapsed += 3600
    site.pull(site.b)
    assert not status(site).lacking


def test_what_waits_and_what_is_quarantined_is_counted_by_entity_and_what_was_dropped_is_not(site: SyncPair) -> None:
    remote = site.a.endpoint.url
    with opened(site) as state:
        for tries, key in ((1, "a"), (3, "b"), (3, "c")):
            for _ in range(tries):
                state.remember_refused(remote, Entity.FACTS, {key: (V, "bad")}, NOW)
        state.drop(remote, Entity.FACTS, "c")
        state.remember_refused("https://elsewhere:8081", Entity.FACTS, {"d": (V, "bad")}, NOW)
    for elapsed in (0, 100_000):
        site.time.elapsed = elapsed
        found = status(site)
        # What is due to be tried again waits for the pass that does it.
        assert found.waiting == {Entity.FACTS: 1}
        assert found.quarantined == {Entity.FACTS: 1}


def test_the_age_of_the_cursor_is_told(site: SyncPair) -> None:
    with opened(site) as state:
        state.remember_reports(site.a.endpoint.url, lambda _: ReportMemory(cursor=int((NOW - 30) * 1000)))
    assert status(site).cursor_age == pytest.approx(30)


@pytest.mark.parametrize(
    "selection",
    [{"max_age": 3 * 86_400.0}, {"certnames": ("web*", "n")}, {"max_age": 86_400.0, "certnames": ("n",)}],
)
def test_the_cursor_of_what_is_configured_is_told(site: SyncPair, selection: dict[str, Any]) -> None:
    site.options = selection
    site.a.apply("store report", report("n", site.ago(600), "r"))
    site.pull(site.b)
    site.time.elapsed += 600
    assert status(site).cursor_age == pytest.approx(600, abs=2)


class TestWhatIsConfiguredNoMore:
    """No pass comes to it again: it neither waits nor is it quarantined, and its entity's last error is of no use."""

    @pytest.mark.parametrize("tries", [1, 3])
    @pytest.mark.parametrize(
        "narrowed",
        [{"entities": ("nodes",)}, {"certnames": ("n*",)}, {"max_age": 10.0 * DAY}],
        ids=lambda each: str(*each),
    )
    def test_records_that_failed(self, site: SyncPair, tries: int, narrowed: dict[str, Any]) -> None:
        site.options = {}
        site.a.apply("replace facts", facts("bad", site.ago(6 * DAY)))
        site.a.apply("store report", report("bad", site.ago(6 * DAY), "r"))
        site.b.refuses["bad"] = Rejected("b", 400, "no")
        for _ in range(tries):
            site.pull(site.b)
            site.time.elapsed += 3600
        assert status(site).lacking
        site.options = narrowed
        for seconds in (5 * DAY, 3600):
            site.time.elapsed += seconds
            assert site.pull(site.b).ok
        found = status(site)
        assert not found.lacking
        assert not any((*found.waiting.values(), *found.quarantined.values()))

    def test_an_entity_that_failed_and_its_brake(self, site: SyncPair) -> None:
        site.a.apply("store report", report("n", site.ago(60), "r"))
        site.b.apply("replace catalog", catalog("n", site.ago(60)))
        with opened(site) as state:
            state.remember_seen(site.a.endpoint.url, Entity.CATALOGS, 5)
        assert not site.pull(site.b).ok
        assert SafetyBrake.PREFIX in (status(site).entities[Entity.CATALOGS].last_error or "")
        site.options = {"entities": ("facts", "reports")}  # type: ignore[dict-item]
        site.pull(site.b)
        found = status(site)
        assert set(found.entities) == {Entity.FACTS, Entity.REPORTS}
        metrics = exposition(SyncMetrics([found], {})).decode()
        assert 'entity="catalogs"} 0.0' not in [line for line in metrics.splitlines() if "entity_succeeded" in line]
        assert not [line for line in metrics.splitlines() if "entity_braked" in line and line.endswith(" 1.0")]


def test_it_can_be_read_while_another_has_the_file_open(site: SyncPair) -> None:
    with opened(site) as state:
        state.remember_seen(site.a.endpoint.url, Entity.FACTS, 1)
        assert not status(site).ran


def test_a_damaged_file_is_said(site: SyncPair) -> None:
    path = state_path(site.config(site.b).state_dir, site.b.endpoint)
    path.parent.mkdir()
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(SyncError, match="Move the file away"):
        status(site)
