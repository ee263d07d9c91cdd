"""The memory about one server: closed, open, half-open. Pure: `step(health, event, now)` gives the next one.

Numbers: opens after 1 hard failure, or 3 soft ones within 60 s; stays open min(2 * 2^(n-1), 30) s +-20 %;
closes after two good probes at least 5 s apart. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from pdbclient.http.outcome import Effect

__all__ = ["Health", "State", "probe_due", "probed", "step"]

SOFT_LIMIT = 3
SOFT_WINDOW = 60.0
BACKOFF_FIRST = 2.0
BACKOFF_LAST = 30.0
JITTER = 0.2
PROBES_TO_CLOSE = 2
PROBE_GAP = 5.0


class State(StrEnum):
    """Closed: in use. Open: not asked. Half-open: one probe was good, the second decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Health:
    """What is remembered about one server. Only `step` and `probed` make new ones.

    `soft` holds the times of recent soft failures, `openings` counts openings since it was last closed,
    `retry_at` is when the next probe is due, `changed_at` when `state` last changed.
    """

    state: State = State.CLOSED
    soft: tuple[float, ...] = ()
    openings: int = 0
    retry_at: float = 0.0
    probes_ok: int = 0
    changed_at: float = float("-inf")

    @property
    def usable(self) -> bool:
        """Whether user traffic may go there."""
        return self.state is State.CLOSED


def step(health: Health, event: Effect, began: float, now: float, jitter: float = 0.0) -> Health:
    """The health after an attempt that began at `began` and ended at `now` with `event`.

    `jitter` in [-1, 1] spreads the retry time. An attempt from before the last change says nothing about the
    present state, so it changes nothing.
    """
    if began < health.changed_at:
        return health
    if event.success:
        return health if health == Health() else Health(changed_at=_changed(health, State.CLOSED, now))
    if event.open_for is not None:
        return _open(health, now, event.open_for)
    recent = (*(t for t in health.soft if now - t < SOFT_WINDOW), now)
    if event.hard or len(recent) >= SOFT_LIMIT or not health.usable:
        return _open(health, now, _backoff(health.openings + 1, jitter))
    return replace(health, soft=recent)


def probe_due(health: Health, now: float) -> bool:
    """Whether a background probe should go out now."""
    return not health.usable and now >= health.retry_at


def probed(health: Health, ok: bool, now: float, jitter: float = 0.0) -> Health:
    """The health after a background probe that ended at `now`."""
    if health.usable:
        return health
    if not ok:
        return _open(health, now, _backoff(health.openings + 1, jitter))
    if health.probes_ok + 1 >= PROBES_TO_CLOSE:
        return Health(changed_at=now)
    return replace(
        health,
        state=State.HALF_OPEN,
        probes_ok=health.probes_ok + 1,
        retry_at=now + PROBE_GAP,
        changed_at=_changed(health, State.HALF_OPEN, now),
    )


def _open(health: Health, now: float, seconds: float) -> Health:
    return Health(
        state=State.OPEN,
        openings=health.openings + 1,
        retry_at=now + seconds,
        changed_at=_changed(health, State.OPEN, now),
    )


def _changed(health: Health, state: State, now: float) -> float:
    return health.changed_at if health.state is state else now


def _backoff(opening: int, jitter: float) -> float:
    # The exponent is capped: a server may be away for months.
    seconds = min(BACKOFF_FIRST * 2.0 ** min(opening - 1, 10), BACKOFF_LAST)
    return float(seconds * (1 + JITTER * jitter))
