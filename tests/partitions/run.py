"""One run: work and nemeses by a schedule, healing, and all that is known then, for the checkers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .checkers import Evidence, Held, databases
from .history import NemesisBegan, NemesisEnded, Phase, Recorder, UsageMeasured, WallClock, read
from .model import NotNow, WorldError
from .rows import held
from .schedule import Choice, Schedule, Step
from .site import NemesisLike, WorldLike
from .work import ROOT, RunFailed, Work, Workforce

__all__ = ["Limits", "choices", "play"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for what comes after the schedule; `healed` is how long the work goes on then, `passes` how many more
    passes each reconciler ends: one was under way, and within two all is to be equal;
    `late`, until what a server took and lost is sent again.
    """

    not_now: float = 30.0
    heal: float = 180.0
    healed: float = 15.0
    pending: float = 90.0
    settle: float = 20.0
    passes_seconds: float = 240.0
    passes: int = 3
    late: float = 90.0
    measure: float = 5.0
    quiet: float = 10.0


def choices(site: WorldLike, nemeses: Mapping[str, NemesisLike], only: Sequence[str] = ()) -> list[Choice]:
    """What can be drawn here. Raises `RunFailed` when one that was asked for is unknown, or has no target here."""
    unknown = sorted(set(only) - set(nemeses))
    if unknown:
        raise RunFailed(f"no nemesis is called {', '.join(unknown)}; there are: {', '.join(nemeses)}")
    found = [Choice(each.name, tuple(each.targets(site)), each.lasting) for each in nemeses.values()]
    missing = [each.name for each in found if each.name in only and not each.targets]
    if missing:
        raise RunFailed(f"nothing here that {', '.join(missing)} could be aimed at")
    return [each for each in found if each.targets and (not only or each.name in only)]


def play(
    site: WorldLike,
    nemeses: Mapping[str, NemesisLike],
    schedule: Schedule,
    work: Work,
    directory: Path,
    *,
    gateways: bool = True,
    shared: bool = True,
    limits: Limits = Limits(),
    say: Say = print,
) -> Evidence:
    """Do all of it; the files are in `directory`. Raises `RunFailed`, or what the world raises."""
    path = directory / "run.jsonl"
    with Recorder(path) as recorder, Workforce(site, work, directory) as workforce:
        stage = _Stage(site, nemeses, recorder, workforce, limits, say)
        stage.schedule(schedule)
        recorder.note(Phase(time.monotonic(), "healed"))
        stage.wait(limits.healed)
        workforce.end()
        say("the work has ended")
        unsettled = list(_journals(site, limits)) if gateways else []
        notes = _settled(site, limits)
        unsettled += _passes(site, limits) if gateways else ()
        # Those that were not at rest before are not waited for again.
        notes = {**notes, **_settled(site, limits, but=notes)}
        say("all is at rest" if not unsettled else f"not at rest: {'; '.join(unsettled)}")
        stage.quiet()
        recorder.note(Phase(time.monotonic(), "end"))
        histories = [path, *workforce.histories]
    fronts = {host.name: site.urls(host)[0] for host in site.puppets} if gateways else {}
    evidence = Evidence(
        history=read(histories),
        databases={each.name: site.url(each) for each in site.databases},
        fronts=fronts,
        shared=shared,
        seconds=work.seconds,
        held=_held(site),
        logs={name: file.read_text(errors="replace") for name, file in site.logs().items()},
        unsettled=tuple(unsettled),
        notes=tuple(notes.values()),
        failures=site.failures(),
    )
    return _given_time(site, evidence, limits) if gateways else evidence


@dataclass(slots=True)
class _Stage:
    """Where the schedule is played. Its clock stands still while a nemesis is begun or ended."""

    site: WorldLike
    nemeses: Mapping[str, NemesisLike]
    recorder: Recorder
    workforce: Workforce
    limits: Limits
    say: Say
    _began: float = field(default_factory=time.monotonic)
    _late: float = 0.0
    _measured: float = float("-inf")

    def schedule(self, schedule: Schedule) -> None:
        """From the beginning to the end of healing."""
        now = self._began = time.monotonic()
        self.recorder.note(WallClock(now, time.time()))
        self.recorder.note(Phase(now, "healthy"))
        undo: dict[Step, Callable[[], None]] = {}
        actions = [(step.at, 1, step) for step in schedule.steps] + [(step.end, 0, step) for step in schedule.steps]
        for number, (at, begins, step) in enumerate(sorted(actions, key=lambda each: each[:2])):
            self._until(at)
            if number == 0:
                self.recorder.note(Phase(time.monotonic(), "nemeses"))
            called = time.monotonic()
            if begins:
                self.say(f"{self._now():6.1f} s: {step.nemesis} {step.target}")
                self.recorder.note(NemesisBegan(called, step.nemesis, step.target))
                undo[step] = self._do(step, "begin", lambda step=step: self._begin(step))  # type: ignore[misc]
            else:
                self._do(step, "end", undo.pop(step))
                self.say(f"{self._now():6.1f} s: {step.nemesis} {step.target} is over")
                self.recorder.note(NemesisEnded(time.monotonic(), step.nemesis, step.target, called))
            self._late += time.monotonic() - called
        self._until(schedule.seconds)
        self.say("healing")
        self.site.heal(self.limits.heal)
        self.say(f"healed after {self._now() - schedule.seconds:.0f} s")

    def wait(self, seconds: float) -> None:
        """Let the work go on for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._measure()
            self.workforce.require()
            time.sleep(min(left, 0.5))

    def quiet(self) -> None:
        """What the daemons have when nobody wants anything of them."""
        for _ in range(3):
            time.sleep(self.limits.quiet / 3)
            self._measured = float("-inf")
            self._measure()

    def _until(self, at: float) -> None:
        self.wait(at - self._now())

    def _now(self) -> float:
        return time.monotonic() - self._began - self._late

    def _begin(self, step: Step) -> Callable[[], None]:
        """Begin it; what cannot be now, as a server is being started still, for half a minute again and again."""
        end = time.monotonic() + self.limits.not_now
        while True:
            try:
                return self.nemeses[step.nemesis].begin(self.site, step.target)
            except NotNow:
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)

    def _do(self, step: Step, what: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            raise RunFailed(
                f"{step.nemesis} {step.target} could not {what}: {type(error).__name__}: {error}"
            ) from error

    def _measure(self) -> None:
        now = time.monotonic()
        if now < self._measured + self.limits.measure:
            return
        self._measured = now
        usage = {
            name: {"descriptors": each.descriptors, "threads": each.threads, "megabytes": each.megabytes}
            for name, each in self.site.usage().items()
        }
        self.recorder.note(UsageMeasured(now, usage))


def _journals(site: WorldLike, limits: Limits) -> Iterator[str]:
    """Wait until the gateways have delivered all; what is not delivered when the time is over."""
    end = time.monotonic() + limits.pending
    for host in site.puppets:
        if (journal := site.journal(host)) is None:
            continue
        while (pending := _pending(site, host, journal)) and time.monotonic() < end:
            time.sleep(1.0)
        if pending:
            yield f"{host.name}: {pending} commands are pending {limits.pending:.0f} s after healing"


def _pending(site: WorldLike, host: Any, journal: str) -> int:
    argv = [sys.executable, "-m", f"{__package__}.pending", journal]
    process = site.spawn(host, argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    with process:
        try:
            output, errors = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RunFailed(f"the journal of {host.name} cannot be looked at: {errors[-1000:]}")
    return int(output)


def _passes(site: WorldLike, limits: Limits) -> Iterator[str]:
    """Wait until every reconciler had its passes from now on; which have not ended when the time is over."""
    end = time.monotonic() + limits.passes_seconds
    due = {database: site.passes(database) + limits.passes for database in site.databases}
    for database, number in due.items():
        while (missing := number - site.passes(database)) > 0 and time.monotonic() < end:
            time.sleep(0.5)
        if missing > 0:
            seconds = f"{limits.passes_seconds:.0f} s"
            yield f"{database.name}: {missing} of {limits.passes} passes have not ended in {seconds}"


def _settled(site: WorldLike, limits: Limits, but: Collection[str] = ()) -> dict[str, str]:
    """Wait until servers have processed what they took; by name, what stays in the queue of which.

    That is noted, and left to the checkers: of two commands of a node that are in its queue at once, PuppetDB 7.12.1
    may trip over one (a NullPointerException), which it then tries again for hours.
    """
    notes: dict[str, str] = {}
    for database in site.databases:
        if database.name in but:
            continue
        try:
            site.settle(database, limits.settle)
        except WorldError as error:
            notes[database.name] = f"{database.name}: {error}"
    return notes


def _given_time(site: WorldLike, evidence: Evidence, limits: Limits) -> Evidence:
    """With what the databases hold when the journals have had the time to send again what a server took and lost."""
    end = time.monotonic() + limits.late
    while next(databases.lost(evidence), None) is not None and time.monotonic() < end:
        time.sleep(min(5.0, limits.late / 5))
        evidence = replace(evidence, later=_held(site))
    return evidence


def _held(site: WorldLike) -> dict[str, Held]:
    return {each.name: held(_asking(site, each)) for each in site.databases}


def _asking(site: WorldLike, database: Any) -> Callable[[str], Sequence[tuple[Any, ...]]]:
    return lambda statement: site.sql(database, statement)
