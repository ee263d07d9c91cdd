"""What happened in a run, as events: one JSON line each, in files that are merged by the monotonic clock.

All times are seconds of `time.monotonic()`, which the network namespaces of one machine share.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Self, TypeAlias, TypeVar, get_args

__all__ = [
    "Applied",
    "Event",
    "NemesisBegan",
    "NemesisEnded",
    "Phase",
    "Probed",
    "Read",
    "Recorder",
    "RunHistory",
    "Submitted",
    "UsageMeasured",
    "WallClock",
    "read",
]

KINDS = ("facts", "catalog", "inputs", "report", "deactivate")
"""What nodes send."""
TIMEOUT = "timeout"
"""The error of an attempt that its client gave up."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """One attempt to submit one command to one URL; the stock terminus makes the next one when it fails so.

    `number` is the node's own counter, one higher with each of its commands, `stamp` the producer timestamp (UTC,
    milliseconds, `Z`). `status`: of the answer, None when none came, and `error` says why. `by`: the URL of the
    PuppetDB that took it, None when none did; `journalled`: the gateway's journal alone has it.
    """

    at: float
    took: float
    host: str
    kind: str
    certname: str
    stamp: str
    number: int
    url: str
    run: str = ""
    status: int | None = None
    by: str | None = None
    journalled: bool = False
    error: str | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether the client was told that it is done."""
        return self.status == 200 and self.error is None

    @property
    def end(self) -> float:
        """When the attempt was over."""
        return self.at + self.took


@dataclass(frozen=True, slots=True)
class Read:
    """One attempt at a query: `kind` is `exported`, what a collector asks, or `node`, the facts of one node.

    `seen`: the exported counter of each node. `stale`: the answer was marked so. `final`: no other server was asked
    after this one.
    """

    at: float
    took: float
    host: str
    kind: str
    url: str
    status: int | None = None
    stale: bool = False
    by: str | None = None
    seen: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    final: bool = True

    @property
    def answered(self) -> bool:
        """Whether there was a whole answer."""
        return self.status == 200 and self.error is None

    @property
    def end(self) -> float:
        """When the attempt was over."""
        return self.at + self.took


@dataclass(frozen=True, slots=True)
class Probed:
    """Whether a program of `host` that is no part of what is tested had an answer of `target` just then.

    `target`: the name of a PuppetDB's host, or `journal`.
    """

    at: float
    took: float
    host: str
    target: str
    ok: bool
    error: str | None = None

    @property
    def end(self) -> float:
        """When it was over."""
        return self.at + self.took


@dataclass(frozen=True, slots=True)
class Applied:
    """A run of `puppet apply`, and its exit code (0 and 2: all is well)."""

    at: float
    took: float
    host: str
    certname: str
    status: int
    error: str | None = None

    @property
    def end(self) -> float:
        """When the run was over."""
        return self.at + self.took


@dataclass(frozen=True, slots=True)
class NemesisBegan:
    """A nemesis is about to be let loose."""

    at: float
    nemesis: str
    target: str


@dataclass(frozen=True, slots=True)
class NemesisEnded:
    """What it did is undone; `called`: when that was begun, which may take as long as a server takes to start."""

    at: float
    nemesis: str
    target: str
    called: float


@dataclass(frozen=True, slots=True)
class Phase:
    """What begins: `healthy`, `nemeses`, `healed`, `end`."""

    at: float
    name: str


@dataclass(frozen=True, slots=True)
class UsageMeasured:
    """By "host service": `descriptors`, `threads`, `megabytes`."""

    at: float
    usage: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class WallClock:
    """What the wall clock (seconds since 1970) shows at that time: logs go by it."""

    at: float
    wall: float


Event: TypeAlias = (
    Submitted | Read | Probed | Applied | NemesisBegan | NemesisEnded | Phase | UsageMeasured | WallClock
)
_EVENTS: Mapping[str, type[Event]] = {each.__name__.lower(): each for each in get_args(Event)}
E = TypeVar("E", Submitted, Read, Probed, Applied, NemesisBegan, NemesisEnded, Phase, UsageMeasured, WallClock)


class Recorder:
    """Appends events to the file at `path`, each at once. Thread-safe; leaving the context closes it."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, event: Event) -> None:
        """Append it."""
        line = to_line(event)
        with self._lock:
            self._file.write(f"{line}\n")


@dataclass(frozen=True, slots=True)
class RunHistory:
    """All events of a run, by time."""

    events: tuple[Event, ...]

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunHistory:
        """These, sorted."""
        return cls(tuple(sorted(events, key=lambda event: event.at)))

    def all(self, kind: type[E]) -> tuple[E, ...]:
        """All of one kind."""
        return tuple(event for event in self.events if isinstance(event, kind))

    def requests(self) -> tuple[Submitted | Read, ...]:
        """All attempts at commands and queries."""
        return tuple(event for event in self.events if isinstance(event, Submitted | Read))

    def begins(self, phase: str) -> float | None:
        """When that phase first began; None: never."""
        return next((each.at for each in self.all(Phase) if each.name == phase), None)

    @property
    def end(self) -> float:
        """When the last event was over."""
        return max((event.at + getattr(event, "took", 0.0) for event in self.events), default=0.0)

    def monotonic(self, wall: float) -> float | None:
        """The time of this history at which the wall clock showed that; None without a `WallClock`."""
        clocks = self.all(WallClock)
        return None if not clocks else clocks[0].at + wall - clocks[0].wall


def to_line(event: Event) -> str:
    """An event as JSON, without the end of the line."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)}, separators=(",", ":"))


def from_line(line: str) -> Event:
    """What `to_line` made. Raises `ValueError`."""
    fields = json.loads(line)
    if not isinstance(fields, dict) or fields.get("event") not in _EVENTS:
        raise ValueError(f"no event: {line[:200]!r}")
    try:
        return _EVENTS[fields.pop("event")](**fields)
    except TypeError as error:
        raise ValueError(f"{error}: {line[:200]!r}") from error


def read(paths: Iterable[Path]) -> RunHistory:
    """The events of all these files. Raises `ValueError` where a line is none, a last one that broke off included."""
    return RunHistory.of(event for path in paths for event in _lines(path))


def _lines(path: Path) -> Iterator[Event]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield from_line(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
