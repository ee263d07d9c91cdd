"""`pdbclient sync seed`: fill an empty or partly filled PuppetDB from a peer, and see how far it is."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from pdbclient.cli import output
from pdbclient.cli.arguments import add_log_options
from pdbclient.cli.sync_options import (
    add_command,
    add_mode_options,
    add_remote_option,
    chosen_mode,
    chosen_remotes,
    configure_logging,
)
from pdbclient.cli.sync_pass import exit_code, print_result
from pdbclient.config import Remote, SyncConfig, load_sync_config
from pdbclient.errors import ConfigError, PdbError, Problem
from pdbclient.sync import Entity, Mode, Outcome, PassResult, stop_on_signals
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.run.context import Progress as Report
from pdbclient.sync.run.seed import left_over, outstanding, seed

__all__ = ["Lines", "Tally", "register"]

_logger = logging.getLogger(__name__)

LINE_EVERY = 10.0

_SEED = """\
Fill the local PuppetDB, empty or not, with what a remote has: passes without a time limit, until one finds nothing,
or only what came in meanwhile. The speed is that at which the local PuppetDB stores commands; its queue does not grow
beyond max_queue_depth. Ctrl-C, SIGTERM and even SIGKILL are safe: what was transferred stands, and the same command
goes on from there. Progress, with the records a second and the time left, is shown on a terminal, else logged.
"""
_EXIT_CODES = """\
exit codes:
  0    nothing is left
  1    a pass was refused or stopped by a brake, or some records are not here (failed, waiting, quarantined, unusable,
       stamped in the future); or another process has a lock
  2    the configuration or the command line is wrong
  3    the remote or the local PuppetDB cannot be reached, or went away
  130  interrupted: what was transferred stands
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `seed`."""
    parser = add_command(commands, "seed", "fill an empty server from a remote", _SEED, _EXIT_CODES, _seed)
    add_remote_option(parser)
    add_mode_options(parser)
    output.add_json_option(parser)
    add_log_options(parser)


def _seed(args: argparse.Namespace) -> int:
    config = load_sync_config(args.config)
    remote = _one_remote(config, args)
    mode = chosen_mode(config, args, seed=True)
    terminal = sys.stderr.isatty()
    configure_logging(args, config, logging.WARNING if terminal else logging.INFO)
    clock = Clock()
    tally = Tally(_expected(config, remote, mode, clock), time.monotonic)
    with stop_on_signals(clock), _shown(tally, terminal) as progress:
        results = []
        for result in seed(config, remote.endpoint, mode, clock=clock, progress=progress):
            results.append(result)
            tally.next_pass()
    if args.json:
        output.print_json([result.as_json() for result in results])
    else:
        for result in results:
            print_result(result)
    output.note(f"{remote.endpoint}: {tally.text()}")
    return _exit_code(config, mode, results[-1])


def _exit_code(config: SyncConfig, mode: Mode, last: PassResult) -> int:
    if last.outcome is Outcome.STOPPED:
        output.note("pdbclient: interrupted: what was transferred stands, the same command goes on from there")
    elif number := left_over(config, last, mode.selection, time.time()):
        # An earlier pass may have met them, and the last one let them wait.
        output.note(
            f"pdbclient: {number} records of {last.remote} are not here: `pdbclient sync quarantine list` and "
            f"`pdbclient sync diff` tell which, and why; the same command tries again what waits"
        )
        return exit_code(last) or 1
    return exit_code(last)


def _one_remote(config: SyncConfig, args: argparse.Namespace) -> Remote:
    remotes = chosen_remotes(config, args)
    if len(remotes) > 1:
        known = ", ".join(remote.endpoint.url for remote in remotes)
        raise ConfigError([Problem(str(args.config), None, "--remote", f"is needed, to choose one of: {known}")])
    return remotes[0]


def _expected(config: SyncConfig, remote: Remote, mode: Mode, clock: Clock) -> int | None:
    try:
        return outstanding(config, remote.endpoint, mode.selection, clock=clock)
    except PdbError as error:
        # The pass asks the same servers, and says better what is wrong with them.
        _logger.info("how much there is to do cannot be told: %s", error)
        return None


@dataclass(slots=True)
class Tally:
    """How far a seeding is, over all entities and passes. `expected` records were lacking at its start, if known."""

    expected: int | None
    monotonic: Callable[[], float]
    began: float = field(init=False)
    _before: int = 0
    _now: dict[Entity, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.monotonic()

    def count(self, entity: Entity, done: int) -> None:
        """`done` records of `entity` are done in this pass."""
        self._now[entity] = done

    def next_pass(self) -> None:
        """What is counted from here on comes on top."""
        self._before, self._now = self.done, {}

    @property
    def done(self) -> int:
        """Records in all."""
        return self._before + sum(self._now.values())

    @property
    def total(self) -> int | None:
        """Records to do in all, as far as known; never less than are done."""
        return None if self.expected is None else max(self.expected, self.done)

    @property
    def rate(self) -> float:
        """Records a second since the start."""
        return self.done / max(self.monotonic() - self.began, 0.001)

    @property
    def left(self) -> float | None:
        """Seconds left at that rate, None when that cannot be told."""
        if self.total is None or not self.done:
            return None
        return (self.total - self.done) / self.rate

    def text(self) -> str:
        """`1200 of about 9000 records, 60.1 a second, 2 min 10 s left`."""
        parts = [f"{self.done} records" if self.total is None else f"{self.done} of about {self.total} records"]
        if self.done:
            parts.append(f"{self.rate:.1f} a second")
        if self.left:
            parts.append(f"{_span(self.left)} left")
        return ", ".join(parts)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Rest(ProgressColumn):
    """Rate and time left, of the whole seeding."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def render(self, task: Task) -> Text:
        return Text(self._tally.text())


@contextmanager
def _shown(tally: Tally, terminal: bool) -> Iterator[Report]:
    """One bar for all on a terminal; elsewhere a line in the log now and then."""
    if not terminal:
        yield Lines(tally, time.monotonic).show
        return
    columns = (TextColumn("{task.description:15}"), BarColumn(), _Rest(tally), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("seed", total=tally.total)

        def show(entity: Entity, done: int, total: int) -> None:
            tally.count(entity, done)
            bars.update(task, description=str(entity), completed=tally.done, total=tally.total)

        yield show


class Lines:
    """Logs how far it is, at most every LINE_EVERY seconds."""

    def __init__(self, tally: Tally, monotonic: Callable[[], float]) -> None:
        self._tally = tally
        self._monotonic = monotonic
        self._next = monotonic() + LINE_EVERY

    def show(self, entity: Entity, done: int, total: int) -> None:
        """As `pdbclient.sync.run.context.Progress`."""
        self._tally.count(entity, done)
        if self._monotonic() >= self._next:
            self._next = self._monotonic() + LINE_EVERY
            _logger.info("%s: %s", entity, self._tally.text())
