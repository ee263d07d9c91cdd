"""Submitting: patience with a server that is up, and an end with one that is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pdbclient.errors import Ambiguous, Busy, NotSent, PdbError, Rejected
from pdbclient.sync.inventory.budget import Budget, Stopped
from pdbclient.sync.policy.model import Entity, Mode, Outcome
from pdbclient.sync.run.seed import seed
from pdbclient.sync.run.submit import Submitter, submit_patiently
from pdbclient.wire.command import Command
from pdbclient.wire.record import deactivation_command

from .conftest import FakeTime, SyncPair
from .fake import FakePuppetDB, catalog, facts

COMMAND = deactivation_command("n", "2026-01-31T12:00:00.000Z")
BUSY = Busy("b", 503, "maintenance", retry_after=7.0)
BROKEN = Ambiguous("b", "reset")


class Moody(FakePuppetDB):
    """Meets each submission with the next of `moods`, and takes it when there is none left."""

    def __init__(self, time: FakeTime, *moods: Exception) -> None:
        super().__init__("b", time.clock.wall)
        self.moods = list(moods)
        self.tries = 0

    def submit(self, *arguments: object, **options: object) -> str:
        self.tries += 1
        if self.moods:
            raise self.moods.pop(0)
        return "uuid"


@pytest.mark.parametrize(
    ("moods", "tries", "waited"),
    [
        ((), 1, 0.0),
        ((BUSY,), 2, 7.0),
        ((BROKEN,), 2, 0.0),
        ((BUSY, BROKEN), 3, 7.0),
    ],
)
def test_a_server_that_is_busy_or_drops_a_connection_is_asked_again(
    moods: tuple[Exception, ...], tries: int, waited: float
) -> None:
    time = FakeTime()
    server = Moody(time, *moods)
    submit_patiently(server, COMMAND, Budget(time.clock, 100.0))
    assert (server.tries, time.elapsed) == (tries, waited)


@pytest.mark.parametrize(
    ("moods", "tries"),
    [
        ((BUSY, BUSY, BUSY), 3),
        ((BROKEN, BROKEN, BROKEN), 3),
        ((BROKEN, BUSY, BROKEN), 3),
        ((NotSent("b", "refused"),), 1),
        ((Rejected("b", 413, "too big"),), 1),
    ],
)
def test_patience_ends_with_what_the_last_try_met(moods: tuple[Exception, ...], tries: int) -> None:
    time = FakeTime()
    server = Moody(time, *moods)
    with pytest.raises(type(moods[-1])):
        submit_patiently(server, COMMAND, Budget(time.clock, 100.0))
    assert server.tries == tries


def test_a_batch_waits_until_the_local_queue_has_room(tmp_path: Path) -> None:
    site = SyncPair(tmp_path)
    site.b.depth = 1001
    budget = Budget(site.clock, 100.0)
    with Submitter(site.b, 2, 1000, budget) as submitter:
        waits: list[float] = []

        def shorten(timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            site.b.depth -= 1
            return False

        site.time.wait = shorten  # type: ignore[method-assign]
        submitter.room()
    assert len(waits) == 1


def test_a_queue_that_is_worked_off_slowly_is_waited_for_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = SyncPair(tmp_path)
    site.b.depth = 1020
    with Submitter(site.b, 2, 1000, Budget(site.clock, math.inf)) as submitter:
        wait = site.time.wait

        def shorten(timeout: float | None = None) -> bool:
            site.b.depth = 1020 - int(site.time.elapsed / 500)
            return wait(timeout)

        site.time.wait = shorten  # type: ignore[method-assign]
        submitter.room()
    assert 10_000 <= site.time.elapsed < 10_010
    assert "1020 commands wait in the local queue, more than max_queue_depth (1000)" in caplog.messages[0]
    assert 300 <= len(caplog.messages) <= 340, "every half minute"


def test_a_queue_that_does_not_get_shorter_ends_a_seeding_with_the_reason(site: SyncPair) -> None:
    """It waited for ever: a seeding has no time limit."""
    for number in range(60):
        site.a.apply("replace facts", facts(f"n{number}", site.ago(600)))
        site.a.apply("replace catalog", catalog(f"n{number}", site.ago(600)))
    site.options = {"max_queue_depth": 10}

    def queued(command: Command, *, within: float | None = None) -> str:
        site.b.depth += 1
        return ""

    site.b.submit = queued  # type: ignore[method-assign]
    config = site.config(site.b)
    (result,) = seed(config, site.a.endpoint, Mode(seed=True), connect=site.connect, clock=site.clock)
    assert result.outcome is Outcome.REFUSED
    (error,) = result.errors
    assert "commands in its queue, the limit is 10, and they have not become fewer for 600 s" in error
    assert site.time.elapsed < 700, "not once more for each entity"
    assert site.b.depth < 60


def test_a_stop_while_the_queue_is_full_ends_the_waiting(tmp_path: Path) -> None:
    site = SyncPair(tmp_path)
    site.b.depth = 5000
    site.time.set()
    with pytest.raises(Stopped), Submitter(site.b, 2, 1000, Budget(site.clock, 100.0)) as submitter:
        submitter.room()


def test_what_reached_the_queue_before_the_server_went_away_is_counted(tmp_path: Path) -> None:
    site = SyncPair(tmp_path)
    told: list[PdbError | None] = []

    def gone() -> None:
        raise NotSent("b", "refused")

    def work() -> None:
        with Submitter(site.b, 1, 1000, Budget(site.clock, 100.0)) as submitter:
            for job in (lambda: None, lambda: Rejected("b", 400, "no"), gone):
                submitter.put(job, told.append)
            submitter.drain()

    with pytest.raises(NotSent):
        work()
    assert [type(error) for error in told] == [type(None), Rejected]


def test_the_time_of_the_transfers_is_told_also_of_one_that_fails(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.options["concurrency"] = 1
    for name in ("n1", "n2"):
        site.a.apply("replace facts", facts(name, site.ago(60)))
    site.b.refuses["n2"] = Rejected("b", 400, "no")
    submit = site.b.submit

    def slowly(command: Command, *, within: float | None = None) -> str:
        site.time.elapsed += 2.0
        return submit(command, within=within)

    monkeypatch.setattr(site.b, "submit", slowly)
    result = site.pull(site.b).entities[Entity.FACTS]
    assert (result.transferred, result.failed, result.transfer_seconds) == (1, 1, 4.0)
