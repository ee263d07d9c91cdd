"""`sync run`: a pass against each remote at its interval, one at a time, until told to stop.

Signals only set flags; the loop acts on them between the steps of a pass. A pass that fails, however it
fails, is scheduled again: a reconciler that gave up would let the two servers drift apart unnoticed.

With a `status_port` it shows there what it did, and can be asked for a pass now.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

from pdbclient.config.model import Endpoint, Remote, SyncConfig
from pdbclient.errors import ConfigError, StatusError, SyncError
from pdbclient.observe.status_port import StatusPort
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.policy.model import PassResult
from pdbclient.sync.run.reconciler import Reconciler
from pdbclient.sync.service.metrics import Counted
from pdbclient.sync.service.sources import Shown

__all__ = ["Daemon", "Runner", "stop_on_signals"]

_logger = logging.getLogger(__name__)

JITTER = 0.1


class Runner(Protocol):
    """What the daemon needs of a `Reconciler`."""

    def run_once(self, remote: Endpoint) -> PassResult: ...


class Daemon:
    """Runs passes until `clock.stop` is set. `uniform` gives the jitter's random numbers.

    `load` reads the configuration; it is called at the start, where its errors are raised, and after each
    `reload()`, where a bad configuration is logged and the old one stays.
    """

    def __init__(
        self,
        load: Callable[[], SyncConfig],
        *,
        clock: Clock | None = None,
        runner: Callable[[SyncConfig, Clock], AbstractContextManager[Runner]] | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._load = load
        self._clock = clock or Clock()
        self._runner = runner or _reconciler
        self._uniform = uniform
        self._reload = threading.Event()
        self._asked: SimpleQueue[Endpoint] = SimpleQueue()
        self._counted = Counted()
        self._started = self._clock.wall()

    def reload(self) -> None:
        """Read the configuration again before the next pass. May be called from a signal handler."""
        self._reload.set()

    def trigger(self, remote: Endpoint) -> None:
        """Make a pass against `remote` as soon as no other is being made. May be called from any thread."""
        self._asked.put(remote)

    def run(self) -> None:
        """Run until asked to stop. Raises `ConfigError` at the start, `SyncError` for a lock or a state file that
        cannot be had, and `StatusError` for a status port.
        """
        config = self._load()
        working: SyncConfig | None = None
        while not self._clock.stop.is_set():
            try:
                with self._runner(config, self._clock) as runner, self._status_port(config):
                    working = config
                    config = self._serve(config, runner)
            except (SyncError, StatusError) as error:
                # A pass raises none: this is a new configuration whose state directory or port cannot be had.
                if working is None or working == config:
                    raise
                _logger.error("the new configuration cannot be used, the old one stays: %s", error)
                config = working

    def _serve(self, config: SyncConfig, runner: Runner) -> SyncConfig:
        """Passes with one configuration; gives the next one, after a reload that brought one."""
        due = {remote: self._clock.monotonic() for remote in config.remotes}
        while not self._clock.stop.is_set():
            if self._reload.is_set():
                self._reload.clear()
                if (changed := self._reloaded(config)) is not None:
                    return changed
            self._hear(due)
            remote = min(due, key=lambda candidate: due[candidate])
            wait = due[remote] - self._clock.monotonic()
            if wait > 0:
                # A signal wakes the main thread only for its handler: short waits notice the flag it set, and
                # what was asked for meanwhile.
                self._clock.wait(min(wait, 1.0))
                continue
            self._pass(runner, remote)
            due[remote] = self._clock.monotonic() + remote.interval * (1 + self._uniform(-JITTER, JITTER))
        return config

    def _hear(self, due: dict[Remote, float]) -> None:
        """Make due now what was asked for."""
        while True:
            try:
                asked = self._asked.get_nowait()
            except Empty:
                return
            for remote in due:
                if remote.endpoint == asked:
                    due[remote] = min(due[remote], self._clock.monotonic())

    def _pass(self, runner: Runner, remote: Remote) -> None:
        try:
            self._counted.add(runner.run_once(remote.endpoint))
        except Exception:
            # A pass tells its own end. This is for what comes after it; the next one may still work.
            _logger.exception("pass against %s broke off", remote.endpoint)

    def _status_port(self, config: SyncConfig) -> AbstractContextManager[object]:
        if config.status_port is None:
            return nullcontext()
        shown = Shown(config, self._clock, self._counted, self.trigger, self._started)
        return StatusPort(config.status_port, shown, actions={"/trigger": shown.trigger})

    def _reloaded(self, old: SyncConfig) -> SyncConfig | None:
        try:
            config = self._load()
        except ConfigError as error:
            _logger.error("the configuration was not read again, the old one stays: %s", error)
            return None
        if config == old:
            _logger.info("configuration read again: nothing changed")
            return None
        _logger.info("configuration read again")
        return config


def _reconciler(config: SyncConfig, clock: Clock) -> AbstractContextManager[Runner]:
    return Reconciler(config, clock=clock)


@contextmanager
def stop_on_signals(clock: Clock, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside: SIGTERM and SIGINT set `clock.stop`, SIGHUP calls `reload`. Only on the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        clock.stop.set()

    def again(number: int, frame: FrameType | None) -> None:
        if reload is not None:
            reload()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop}
    if reload is not None:
        handlers[signal.SIGHUP] = again
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
