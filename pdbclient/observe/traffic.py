"""What the gateway has done: requests, failovers and circuits, counted in memory for its metrics and status page.

Counters begin at 0 with the process and go on through a reload. Events are kept for a day. A request costs a few
microseconds; whoever looks gets a copy that does not change any more.
"""

from __future__ import annotations

import threading
import time
from asyncio import CancelledError
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

__all__ = [
    "BUCKETS",
    "DAY",
    "JOURNAL",
    "Circuit",
    "Ending",
    "Failed",
    "Failover",
    "Kind",
    "Latencies",
    "Traffic",
    "TrafficSnapshot",
    "UnderWay",
]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram, in seconds; beyond the last one is infinity."""
DAY = 86400.0
MOST_EVENTS = 1000
"""Events that are kept at most: a server that comes and goes all day must not fill the memory."""
RECENT = 256
"""Requests of each kind whose latencies are kept one by one: what it is like now, which no histogram tells."""
JOURNAL = "journal"
"""Stands in a failover for the place of a server: no server took the commands."""
AGAIN = "the preferred server is in use again"


class Kind(StrEnum):
    """What a request is about. `EXPORTED`: a query about exported resources. `OWN`: of the gateway itself."""

    COMMAND = "command"
    QUERY = "query"
    EXPORTED = "exported"
    OWN = "own"


class Ending(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    """By a server, or taken by one."""
    JOURNALLED = "journalled"
    """No server took the command; the journal did."""
    REJECTED = "rejected"
    """A server refused the request itself."""
    STALE = "stale"
    """Not answered: the server could not be brought up to date (`stale_exported = fail`)."""
    REFUSED = "refused"
    """By the gateway: malformed, too large, not allowed."""
    UNAVAILABLE = "unavailable"
    """No server could do it, nor the journal."""
    SERVER_ERROR = "server_error"
    """Every server that was asked answered with the same error."""
    OVERLOADED = "overloaded"
    """The gateway had no place, no memory or no thread for it."""
    CUT_OFF = "cut_off"
    """The answer broke off at the server."""
    CLIENT_LEFT = "client_left"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt at a server that failed: `error` is the kind of error, `why` says it in words."""

    server: str
    error: str
    why: str


@dataclass(frozen=True, slots=True)
class Failover:
    """From `at` (s since 1970) on, requests of this kind were answered by `target` in the place of `source`."""

    at: float
    kind: Kind
    source: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Circuit:
    """A server has been healthy for `operation` (command, query), or not asked, since then (s since 1970).

    `why` is empty when that has never changed.
    """

    server: str
    operation: str
    healthy: bool
    since: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long requests of one kind took, from the head of the request to the answer.

    `counts` are those within each of `BUCKETS`, and beyond, not added up. `recent` are the last ones' seconds.
    """

    counts: tuple[int, ...]
    seconds: float
    recent: tuple[float, ...]

    @property
    def number(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def recent_quantile(self, part: float) -> float | None:
        """The seconds within which `part` (0 to 1) of the recent ones were done; None without any."""
        ordered = sorted(self.recent)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else None


@dataclass(frozen=True, slots=True)
class TrafficSnapshot:
    """All of it at `at`. Times are seconds since 1970; servers are URLs.

    `requests` counts those that ended, by kind, server ("" for none) and ending; `failed_attempts` by server, kind
    and error; `switches` the failovers by kind, source and target. `failovers` and `changes` of circuits are those of
    the last day, the oldest first; `circuits` is how each is now. `oldest` is since when the oldest request under
    way has been.
    """

    at: float
    since: float
    requests: Mapping[tuple[Kind, str, Ending], int]
    latencies: Mapping[Kind, Latencies]
    in_flight: Mapping[Kind, int]
    oldest: float | None
    failed_attempts: Mapping[tuple[str, Kind, str], int]
    switches: Mapping[tuple[Kind, str, str], int]
    failovers: tuple[Failover, ...]
    circuits: tuple[Circuit, ...]
    changes: tuple[Circuit, ...]
    stale_answers: int


class Changed(Protocol):
    """Notes that a server is healthy, or is not, from now on, and why."""

    def __call__(self, server: str, operation: str, healthy: bool, why: str) -> None: ...


class Traffic:
    """The recorder of one process. Thread-safe. `clock` is monotonic seconds, `wall` seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._since = wall()
        self._lock = threading.Lock()
        self._under_way: set[UnderWay] = set()
        self._requests: Counter[tuple[Kind, str, Ending]] = Counter()
        self._latencies = {kind: _Histogram() for kind in Kind}
        self._failed_attempts: Counter[tuple[str, Kind, str]] = Counter()
        self._switches: Counter[tuple[Kind, str, str]] = Counter()
        self._failovers: deque[Failover] = deque(maxlen=MOST_EVENTS)
        self._changes: deque[Circuit] = deque(maxlen=MOST_EVENTS)
        self._stale_answers = 0
        self._circuits: dict[tuple[str, str], Circuit] = {}
        self._serving: dict[Kind, tuple[str, float]] = {}

    def watch(self, servers: Sequence[str]) -> Changed:
        """Begin with these servers, in the order in which they are asked, all of which are healthy.

        What is returned is to be told of each change of theirs; the one of an earlier call is heard no more.
        """
        now = self._wall()
        operations = (Kind.COMMAND, Kind.QUERY)
        circuits = {(each, str(op)): Circuit(each, str(op), True, now) for each in servers for op in operations}
        with self._lock:
            self._circuits = circuits
            self._serving = {kind: (servers[0], self._clock()) for kind in operations}

        def changed(server: str, operation: str, healthy: bool, why: str) -> None:
            change = Circuit(server, operation, healthy, self._wall(), why)
            with self._lock:
                if self._circuits is circuits:
                    circuits[server, operation] = change
                    self._changes.append(change)

        return changed

    def request(self, kind: Kind) -> UnderWay:
        """A request that begins: a context that ends with its answer."""
        return UnderWay(self, kind, self._clock())

    def snapshot(self) -> TrafficSnapshot:
        """All of it as it is now."""
        with self._lock:
            at, now = self._wall(), self._clock()
            under_way = Counter(each.kind for each in self._under_way)
            oldest = min((each.began for each in self._under_way), default=None)
            return TrafficSnapshot(
                at=at,
                since=self._since,
                requests=dict(self._requests),
                latencies={kind: histogram.latencies() for kind, histogram in self._latencies.items()},
                in_flight={kind: under_way[kind] for kind in Kind},
                oldest=None if oldest is None else at - (now - oldest),
                failed_attempts=dict(self._failed_attempts),
                switches=dict(self._switches),
                failovers=tuple(each for each in self._failovers if at - each.at <= DAY),
                circuits=tuple(self._circuits.values()),
                changes=tuple(each for each in self._changes if at - each.since <= DAY),
                stale_answers=self._stale_answers,
            )

    def _begin(self, request: UnderWay) -> None:
        with self._lock:
            self._under_way.add(request)

    def _end(self, request: UnderWay) -> None:
        with self._lock:
            seconds = self._clock() - request.began
            self._under_way.discard(request)
            self._requests[request.kind, request.server, request.ending] += 1
            self._latencies[request.kind].add(seconds)
            self._stale_answers += request.stale
            for failed in request.failures:
                self._failed_attempts[failed.server, request.kind, failed.error] += 1
            if request.ending is Ending.ANSWERED:
                self._served(request, request.server)
            elif request.ending is Ending.JOURNALLED:
                self._served(request, JOURNAL)

    def _served(self, request: UnderWay, by: str) -> None:
        """Note a failover where another one than before does the work."""
        # Those about exported resources take the same way as all queries.
        kind = Kind.COMMAND if request.kind is Kind.COMMAND else Kind.QUERY
        before, since = self._serving.get(kind, (by, 0.0))
        if by == before or request.began < since:
            # One from before the last failover says nothing of what came after it.
            return
        self._serving[kind] = (by, self._clock())
        self._switches[kind, before, by] += 1
        self._failovers.append(Failover(self._wall(), kind, before, by, self._why(before, str(kind), request)))

    def _why(self, server: str, operation: str, request: UnderWay) -> str:
        for failed in request.failures:
            if failed.server == server:
                return failed.why
        circuit = self._circuits.get((server, operation))
        return AGAIN if circuit is None or circuit.healthy else circuit.why


class UnderWay:
    """One request under way. Whoever works on it says by `note` what became of it, before the context ends."""

    __slots__ = ("_traffic", "began", "ending", "failures", "kind", "server", "stale")

    def __init__(self, traffic: Traffic, kind: Kind, began: float) -> None:
        self._traffic, self.kind, self.began = traffic, kind, began
        self.ending, self.server, self.stale = Ending.INTERNAL_ERROR, "", False
        self.failures: Sequence[Failed] = ()

    def note(self, ending: Ending, server: str = "", failures: Sequence[Failed] = (), *, stale: bool = False) -> None:
        """How it ended, at which server, after which failed attempts; `stale`: the answer may lack something."""
        self.ending, self.server, self.failures, self.stale = ending, server, failures, stale

    def __enter__(self) -> Self:
        self._traffic._begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, CancelledError):
            self.ending = Ending.CLIENT_LEFT
        self._traffic._end(self)


class _Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds
        self._recent.append(seconds)

    def latencies(self) -> Latencies:
        return Latencies(tuple(self._counts), self._seconds, tuple(self._recent))
