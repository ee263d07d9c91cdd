"""However a pass ends, it is recorded, and told for what it is; a crash is never a success."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pdbclient.cli.sync_pass import exit_code
from pdbclient.config.model import Endpoint, SyncConfig
from pdbclient.errors import ServerError, SyncError
from pdbclient.observe.exposition import exposition
from pdbclient.sync import Daemon, Entity, Mode, Outcome, PassResult, Reconciler
from pdbclient.sync.inventory.interfaces import Clock, Server
from pdbclient.sync.policy.model import Selection
from pdbclient.sync.service.daemon import Runner
from pdbclient.sync.service.metrics import Counted, SyncMetrics
from pdbclient.sync.state.status import RemoteStatus, read_status
from pdbclient.sync.state.store import State

from .conftest import SyncPair
from .fake import RECOGNISING, FakePuppetDB, catalog, facts, report

Break = Callable[[SyncPair, BaseException], None]


def fill(site: SyncPair) -> None:
    for name in ("n", "m"):
        site.a.apply("replace facts", facts(name, site.ago(50)))
        site.a.apply("replace catalog", catalog(name, site.ago(40)))
        site.a.apply("store report", report(name, site.ago(30), f"r{name}"))


def status(site: SyncPair) -> RemoteStatus:
    return read_status(site.config(site.b), site.clock.wall())[0]


def metric(site: SyncPair, name: str, counted: Counted | None = None) -> str:
    """The value of a metric of the remote."""
    text = exposition(SyncMetrics([status(site)], {}), counted or Counted()).decode()
    return next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"pdbclient_sync_{name}{{"))


def tracebacks(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.exc_info is not None for record in caplog.records)


def answering(server: FakePuppetDB, path: str, error: BaseException) -> None:
    def broken(asked: str, query: Any) -> Exception | None:
        if asked == path and query not in RECOGNISING:
            raise error
        return None

    server.broken = broken


def connecting(site: SyncPair, error: BaseException) -> None:
    def connect(endpoint: Endpoint) -> Server:
        raise error

    site.connect = connect  # type: ignore[method-assign]


def closing(site: SyncPair, error: BaseException) -> None:
    def close() -> None:
        raise error

    site.a.close = close  # type: ignore[method-assign]


def checking(site: SyncPair, error: BaseException) -> None:
    def document(path: str, *, within: float | None = None) -> Any:
        raise error

    site.b.document = document  # type: ignore[method-assign]


def recognising(site: SyncPair, error: BaseException) -> None:
    def broken(asked: str, query: Any) -> Exception | None:
        if query in RECOGNISING:
            raise error
        return None

    site.a.broken = broken


def storing(site: SyncPair, error: BaseException) -> None:
    def submit(command: object, *, within: float | None = None) -> str:
        raise error

    site.b.submit = submit  # type: ignore[method-assign]


PLACES: dict[str, Break] = {
    "connecting": connecting,
    "preflight": checking,
    "telling the servers apart": recognising,
    "nodes": lambda site, error: answering(site.a, "/nodes", error),
    "an entity": lambda site, error: answering(site.a, "/catalogs", error),
    "an entity here": lambda site, error: answering(site.b, "/reports", error),
    "submitting": storing,
    "closing": closing,
}
CRASHES = [KeyError("hash"), RuntimeError(""), AssertionError("a \udcff b"), RecursionError("deep"), MemoryError()]


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_is_recorded_as_one_wherever_it_is(
    site: SyncPair, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.pull(site.b)
    before = status(site)
    assert before.succeeded
    fill(site)
    site.time.elapsed += 100
    PLACES[place](site, KeyError("hash"))
    result = site.pull(site.b)
    assert (result.outcome, result.ok, exit_code(result)) == (Outcome.CRASHED, False, 1)
    assert "KeyError: 'hash'" in "; ".join(result.errors)
    found = status(site)
    assert (found.succeeded, found.failed_after_working, found.last_success) == (False, True, before.last_success)
    assert "KeyError: 'hash'" in (found.last_error or "")
    assert found.last_pass["outcome"] == "crashed"
    assert metric(site, "last_sync_succeeded") == "0.0"
    assert tracebacks(caplog) == 1


@pytest.mark.parametrize("error", CRASHES, ids=lambda error: type(error).__name__)
def test_whatever_the_crash_is_its_name_is_told(
    site: SyncPair, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    # Its traceback would be in pytest's report, which only takes what is UTF-8.
    caplog.set_level("CRITICAL")
    answering(site.a, "/factsets", error)
    result = site.pull(site.b)
    assert result.errors[0].startswith(f"facts: {type(error).__name__}")
    assert (status(site).last_error or "").startswith(f"facts: {type(error).__name__}")


def test_a_crash_in_one_entity_leaves_the_others_their_turn(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    fill(site)
    answering(site.a, "/factsets", ZeroDivisionError("a defect"))
    result = site.pull(site.b)
    assert result.outcome is Outcome.CRASHED
    assert {entity for entity, part in result.entities.items() if part.transferred} == {
        Entity.CATALOGS,
        Entity.REPORTS,
    }
    assert {entity for entity, part in status(site).entities.items() if part.last_error} == {Entity.FACTS}
    assert tracebacks(caplog) == 1


def test_crashes_in_several_entities_leave_one_traceback(site: SyncPair, caplog: pytest.LogCaptureFixture) -> None:
    def broken(path: str, query: Any) -> Exception | None:
        return None if path == "/nodes" or query in RECOGNISING else ZeroDivisionError("a defect")

    site.a.broken = broken
    result = site.pull(site.b)
    assert len(result.errors) == 4
    assert tracebacks(caplog) == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(3)], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("place", PLACES)
def test_an_interruption_ends_the_process_and_is_neither_a_failure_nor_a_success(
    site: SyncPair, place: str, interruption: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    site.pull(site.b)
    before = status(site)
    fill(site)
    site.time.elapsed += 100
    PLACES[place](site, interruption)
    with pytest.raises(type(interruption)):
        site.pull(site.b)
    found = status(site)
    assert found.last_pass["outcome"] == "stopped"
    assert (found.last_success, found.last_failure) == (before.last_success, None)
    assert not found.failed_after_working
    assert not any(part.last_error for part in found.entities.values())
    assert tracebacks(caplog) == 0


def test_a_first_pass_that_is_interrupted_is_no_success(site: SyncPair) -> None:
    PLACES["an entity"](site, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        site.pull(site.b)
    found = status(site)
    assert (found.succeeded, found.worked, found.last_success) == (False, False, None)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(frozenset({Entity.FACTS})),
        Selection(certnames=("no*",)),
        Selection(max_age=60.0),
    ],
)
def test_a_pass_of_a_part_of_what_is_configured_is_no_success_of_the_whole(
    site: SyncPair, selection: Selection
) -> None:
    """`sync once --entity facts --certname nosuch` made the lag 0 while another entity failed."""
    answering(site.a, "/catalogs", ServerError(str(site.a.endpoint), 500, "boom"))
    site.pull(site.b)
    failed = status(site)
    assert failed.lag is None
    assert failed.last_error
    site.a.broken = lambda path, query: None
    site.time.elapsed += 60
    assert site.pull(site.b, mode=Mode(selection)).ok
    after = status(site)
    assert (after.lag, after.last_error, after.entities) == (None, failed.last_error, failed.entities)
    assert site.pull(site.b).ok
    assert status(site).lag == 0


def test_a_pass_that_is_told_to_stop_is_recorded_with_what_it_did(site: SyncPair) -> None:
    site.pull(site.b)
    before = status(site)
    fill(site)
    site.time.elapsed += 100

    def stop(path: str, query: Any) -> Exception | None:
        if path == "/catalogs":
            site.clock.stop.set()
        return None

    site.a.broken = stop
    assert site.pull(site.b).outcome is Outcome.STOPPED
    found = status(site)
    assert (found.last_pass["outcome"], found.last_pass["transferred"]["facts"]) == ("stopped", 2)
    assert (found.last_success, found.last_failure, found.last_error) == (before.last_success, None, None)
    assert found.entities[Entity.FACTS].last_success == site.clock.wall()
    assert found.entities[Entity.CATALOGS] == before.entities[Entity.CATALOGS]


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt(), SystemExit(0)])
def test_a_pass_that_is_stopped_tells_what_had_failed_before_and_says_nothing_of_what_it_was_at(
    site: SyncPair, stop: BaseException | None
) -> None:
    fill(site)
    site.pull(site.b)
    done = status(site).entities
    site.time.elapsed += 60
    site.a.apply("replace facts", facts("n", site.ago(1)))

    def broken(path: str, query: Any) -> Exception | None:
        if path == "/catalogs":
            site.time.set()
            if stop is not None:
                raise stop
        return ServerError("a", 500, "boom") if path == "/factsets" and query[0] == "extract" else None

    site.a.broken = broken
    if stop is None:
        assert site.pull(site.b).outcome is Outcome.STOPPED
    else:
        with pytest.raises(type(stop)):
            site.pull(site.b)
    found = status(site).entities
    assert "boom" in (found[Entity.FACTS].last_error or "")
    assert found[Entity.FACTS].last_success == done[Entity.FACTS].last_success
    # In the one it was stopped, the other it did not come to.
    assert found[Entity.INPUTS] == done[Entity.INPUTS]
    assert found[Entity.REPORTS] == done[Entity.REPORTS]
    if stop is not None:
        assert found[Entity.CATALOGS] == done[Entity.CATALOGS]


def test_a_daemon_lives_on_after_crashes_and_its_status_tells_of_them(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    fill(site)
    answering(site.a, "/catalogs", KeyError("hash"))
    results: list[PassResult] = []
    seen: list[str] = []

    class Watched(Reconciler):
        def run_once(self, remote: Endpoint) -> PassResult:
            results.append(super().run_once(remote))
            seen.append(metric(site, "last_sync_succeeded"))
            if len(results) == 2:
                site.a.broken = lambda path, query: None
            if len(results) == 3:
                site.clock.stop.set()
            return results[-1]

    def runner(config: SyncConfig, clock: Clock) -> AbstractContextManager[Runner]:
        return Watched(config, connect=site.connect, clock=clock)

    caplog.set_level(logging.INFO)
    daemon = Daemon(lambda: site.config(site.b), clock=site.clock, runner=runner)
    daemon.run()
    assert [result.outcome for result in results] == [Outcome.CRASHED, Outcome.CRASHED, Outcome.DONE]
    assert seen == ["0.0", "0.0", "1.0"]
    text = exposition(SyncMetrics([], {}), daemon._counted).decode()
    assert f'passes_total{{outcome="crashed",remote="{site.a.endpoint.url}"}} 2.0' in text
    assert tracebacks(caplog) == 2


def test_a_pass_that_cannot_be_recorded_is_no_success(
    site: SyncPair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def remember_pass(self: State, result: PassResult, now: float, whole: bool) -> None:
        raise SyncError("state.sqlite: cannot be written: database is locked")

    monkeypatch.setattr(State, "remember_pass", remember_pass)
    result = site.pull(site.b)
    assert (result.ok, exit_code(result)) == (False, 1)
    assert "database is locked" in result.errors[0]
    assert "is not recorded" in caplog.text
    assert tracebacks(caplog) == 0
