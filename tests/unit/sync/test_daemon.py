"""The daemon's schedule, on a clock that only waiting moves."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint, Remote, SyncConfig
from pdbclient.errors import ConfigError, Problem, StatusError, SyncError
from pdbclient.lab.ports import free_port
from pdbclient.observe.status_client import ask_for_pass
from pdbclient.sync import Daemon, Outcome, PassResult, stop_on_signals
from pdbclient.sync.inventory.interfaces import Clock

from .conftest import FakeTime, SyncPair

A, B = Endpoint("a.example.com", 8081), Endpoint("b.example.com", 8081)


class PassRecorder:
    """Stands in for the reconciler: notes when each pass began, and does what `act` says during it."""

    def __init__(self, time: FakeTime, passes: int, act: Callable[[int], float] = lambda number: 1.0) -> None:
        self.time, self.passes, self.act = time, passes, act
        self.began: list[tuple[float, str]] = []
        self.configs: list[SyncConfig] = []
        self.running = False

    @contextmanager
    def __call__(self, config: SyncConfig, clock: Clock) -> Iterator[PassRecorder]:
        self.configs.append(config)
        yield self

    def run_once(self, remote: Endpoint) -> PassResult:
        assert not self.running, "two passes at the same time"
        self.running = True
        self.began.append((round(self.time.elapsed, 3), remote.host))
        if len(self.began) >= self.passes:
            self.time.set()
        try:
            self.time.elapsed += self.act(len(self.began))
        finally:
            self.running = False
        return PassResult(remote.url, Outcome.DONE, {}, (), 0)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def config(tmp_path: Path) -> SyncConfig:
    site = SyncPair(tmp_path)
    return replace(site.config(site.b), remotes=(Remote(A, 60.0),))


def daemon(config: SyncConfig, recorder: PassRecorder, jitter: float = 0.0) -> Daemon:
    return Daemon(lambda: config, clock=recorder.time.clock, runner=recorder, uniform=lambda low, high: high * jitter)


def test_passes_begin_at_once_and_then_an_interval_after_the_last_one_ended(
    time: FakeTime, config: SyncConfig
) -> None:
    recorder = PassRecorder(time, 3, lambda number: 5.0)
    daemon(config, recorder).run()
    assert recorder.began == [(0.0, A.host), (65.0, A.host), (130.0, A.host)]


def test_the_interval_is_stretched_by_a_tenth_at_most(time: FakeTime, config: SyncConfig) -> None:
    recorder = PassRecorder(time, 2, lambda number: 0.0)
    daemon(config, recorder, jitter=1.0).run()
    assert recorder.began[1][0] == pytest.approx(66.0)


def test_each_remote_has_its_own_interval_and_passes_never_overlap(time: FakeTime, config: SyncConfig) -> None:
    config = replace(config, remotes=(Remote(A, 60.0), Remote(B, 25.0)))
    recorder = PassRecorder(time, 6, lambda number: 1.0)
    daemon(config, recorder).run()
    assert [host for _, host in recorder.began] == [A.host, B.host, B.host, B.host, A.host, B.host]


def test_a_pass_that_takes_longer_than_its_interval_does_not_starve_the_other_remote(
    time: FakeTime, config: SyncConfig
) -> None:
    config = replace(config, remotes=(Remote(A, 10.0), Remote(B, 10.0)))
    recorder = PassRecorder(time, 6, lambda number: 100.0)
    daemon(config, recorder).run()
    assert [host for _, host in recorder.began] == [A.host, B.host] * 3


def test_a_pass_that_breaks_off_unexpectedly_is_logged_and_scheduled_again(
    time: FakeTime, config: SyncConfig, caplog: pytest.LogCaptureFixture
) -> None:
    def act(number: int) -> float:
        if number == 1:
            raise RuntimeError("a defect")
        return 1.0

    recorder = PassRecorder(time, 2, act)
    daemon(config, recorder).run()
    assert [round(when) for when, _ in recorder.began] == [0, 60]
    assert "broke off" in caplog.text


def test_a_stop_while_waiting_ends_the_daemon_at_once(time: FakeTime, config: SyncConfig) -> None:
    recorder = PassRecorder(time, 1)
    daemon(config, recorder).run()
    assert len(recorder.began) == 1
    assert time.elapsed < 2


def test_a_reload_takes_the_new_configuration_and_a_bad_one_leaves_the_old(
    time: FakeTime, config: SyncConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bad = ConfigError([Problem("sync.conf", 3, "interval", "a unit is missing")])
    loads: list[SyncConfig | ConfigError] = [config, bad, replace(config, batch_size=7)]

    def load() -> SyncConfig:
        loaded = loads.pop(0)
        if isinstance(loaded, ConfigError):
            raise loaded
        return loaded

    def act(number: int) -> float:
        running.reload()
        return 1.0

    recorder = PassRecorder(time, 3, act)
    running = Daemon(load, clock=time.clock, runner=recorder, uniform=lambda low, high: 0.0)
    running.run()
    assert [c.batch_size for c in recorder.configs] == [20, 7]
    assert "sync.conf:3: interval: a unit is missing" in caplog.text


def test_a_bad_configuration_at_the_start_is_an_error(time: FakeTime) -> None:
    def load() -> SyncConfig:
        raise ConfigError([Problem("sync.conf", None, None, "is not there")])

    with pytest.raises(ConfigError):
        Daemon(load, clock=time.clock).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_sets_the_flag_and_the_old_handlers_come_back(number: signal.Signals) -> None:
    clock = Clock()
    before = signal.getsignal(number)
    with stop_on_signals(clock):
        os.kill(os.getpid(), number)
        assert clock.wait(5.0)
    assert signal.getsignal(number) is before


def test_a_hangup_reloads(time: FakeTime) -> None:
    calls: list[str] = []
    with stop_on_signals(Clock(), lambda: calls.append("reload")):
        os.kill(os.getpid(), signal.SIGHUP)
        assert not Clock().wait(0.05)
    assert calls == ["reload"]


def test_a_new_configuration_whose_state_directory_cannot_be_used_leaves_the_old_one_in_force(
    time: FakeTime, config: SyncConfig, caplog: pytest.LogCaptureFixture
) -> None:
    unusable = replace(config, state_dir=Path("/unusable"))
    configs = [config, unusable]
    entered: list[SyncConfig] = []

    class Refusing(PassRecorder):
        @contextmanager
        def __call__(self, config: SyncConfig, clock: Clock) -> Iterator[PassRecorder]:
            entered.append(config)
            if config == unusable:
                raise SyncError("/unusable: cannot be made")
            yield self

    def act(number: int) -> float:
        if number == 1:
            running.reload()
        return 1.0

    recorder = Refusing(time, 2, act)
    running = Daemon(lambda: configs.pop(0), clock=time.clock, runner=recorder, uniform=lambda low, high: 0.0)
    running.run()
    assert entered == [config, unusable, config]
    assert "/unusable: cannot be made" in caplog.text


def test_a_configuration_that_cannot_be_used_at_the_start_ends_the_daemon(time: FakeTime, config: SyncConfig) -> None:
    @contextmanager
    def refuse(config: SyncConfig, clock: Clock) -> Iterator[PassRecorder]:
        raise SyncError("no state directory")
        yield

    with pytest.raises(SyncError, match="no state directory"):
        Daemon(lambda: config, clock=time.clock, runner=refuse).run()


def test_a_pass_that_is_asked_for_is_made_at_once_and_the_interval_counts_from_it(
    time: FakeTime, config: SyncConfig
) -> None:
    config = replace(config, remotes=(Remote(A, 600.0), Remote(B, 600.0)))

    def act(number: int) -> float:
        if number == 2:
            running.trigger(B)
            running.trigger(B)
        return 1.0

    recorder = PassRecorder(time, 4, act)
    running = daemon(config, recorder)
    running.run()
    assert recorder.began == [(0.0, A.host), (1.0, B.host), (2.0, B.host), (601.0, A.host)]


def test_a_pass_asked_for_while_the_daemon_waits_begins_within_a_second(time: FakeTime, config: SyncConfig) -> None:
    recorder = PassRecorder(time, 2, lambda number: 0.0)
    running = daemon(config, recorder)
    wait = time.wait

    def asking(timeout: float | None = None) -> bool:
        if 10 <= time.elapsed < 11:
            running.trigger(A)
        return wait(timeout)

    time.wait = asking  # type: ignore[method-assign]
    running.run()
    assert recorder.began[1][0] <= 12.0


def test_a_pass_against_somebody_who_is_no_remote_any_more_is_not_made(time: FakeTime, config: SyncConfig) -> None:
    recorder = PassRecorder(time, 2, lambda number: 0.0)
    running = daemon(config, recorder)
    running.trigger(B)
    running.run()
    assert [host for _, host in recorder.began] == [A.host, A.host]


def test_the_status_port_is_there_while_the_daemon_runs_and_a_reload_moves_it(
    time: FakeTime, config: SyncConfig
) -> None:
    first, second = free_port(), free_port()
    configs = [replace(config, status_port=first), replace(config, status_port=second)]
    seen: list[tuple[list[str], bool]] = []

    def act(number: int) -> float:
        port, other = (first, second) if number == 1 else (second, first)
        answered = ask_for_pass(port, f"{A.url.upper().replace('HTTPS', 'https')}/")
        for nobody in (B.url, "nonsense"):
            with pytest.raises(StatusError, match="is not one of the remotes"):
                ask_for_pass(port, nobody)
        with pytest.raises(StatusError, match="no daemon listens"):
            ask_for_pass(other, None)
        seen.append((answered, number == 1))
        running.reload()
        return 1.0

    recorder = PassRecorder(time, 2, act)
    running = Daemon(lambda: configs.pop(0) if len(configs) > 1 else configs[0], clock=time.clock, runner=recorder)
    running.run()
    assert seen == [([A.url], True), ([A.url], False)]
    # What was asked for on the first port is done by the second configuration, at once.
    assert recorder.began[1][0] == pytest.approx(1.0)
    assert not [thread for thread in threading.enumerate() if "status-port" in thread.name]


def test_the_status_port_shows_the_state_file_and_what_this_daemon_counted(
    time: FakeTime, config: SyncConfig
) -> None:
    port = free_port()
    shown: list[bytes] = []

    def act(number: int) -> float:
        for path in ("status", "metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                shown.append(answer.read())
        return 1.0

    daemon(replace(config, status_port=port), PassRecorder(time, 2, act)).run()
    (remote,) = json.loads(shown[0])["remotes"]
    assert (remote["remote"], remote["last_success"]) == (A.url, None)
    counted = f'pdbclient_sync_passes_total{{outcome="done",remote="{A.url}"}}'
    assert counted.encode() not in shown[1]
    assert f"{counted} 1.0".encode() in shown[3]


def test_a_reload_to_a_port_that_is_taken_leaves_the_old_one_in_force(
    time: FakeTime, config: SyncConfig, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = int(listener.getsockname()[1])
        configs = [replace(config, status_port=port), replace(config, status_port=taken)]

        def act(number: int) -> float:
            assert ask_for_pass(port, None) == [A.url]
            if number == 1:
                running.reload()
            return 1.0

        recorder = PassRecorder(time, 2, act)
        running = Daemon(lambda: configs.pop(0), clock=time.clock, runner=recorder)
        running.run()
    assert f"status_port {taken}: cannot listen" in caplog.text
    assert "the old one stays" in caplog.text


def test_a_status_port_that_is_taken_at_the_start_ends_the_daemon(time: FakeTime, config: SyncConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = int(listener.getsockname()[1])
        recorder = PassRecorder(time, 1)
        with pytest.raises(StatusError, match=f"status_port {taken}"):
            daemon(replace(config, status_port=taken), recorder).run()
    assert recorder.began == []
