"""How long an entity may take, and whether the process was asked to stop: looked at between the steps of a
pass.
"""

from __future__ import annotations

from pdbclient.errors import SyncError
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.policy.model import ASKED_TO_STOP

__all__ = ["Budget", "OutOfTime", "Stopped", "Stuck"]


class Stopped(SyncError):
    """The process was asked to end; what was submitted so far stands, the next pass goes on from there."""


class OutOfTime(SyncError):
    """An entity took longer than `entity_time_limit`; the next pass goes on from there."""


class Stuck(SyncError):
    """The local queue is too long for more, and does not get shorter: what is queued is not worked off."""


class Budget:
    """The time left for one entity, in seconds.

    The limit exists because every query holds a transaction open on the remote, which keeps its database from
    cleaning up.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._began = clock.monotonic()
        self._ends = self._began + seconds

    def check(self) -> None:
        """Raise `Stopped` or `OutOfTime` when it is time to end."""
        if self._clock.stop.is_set():
            raise Stopped(ASKED_TO_STOP)
        if self._clock.monotonic() >= self._ends:
            raise OutOfTime(f"not finished within the entity time limit of {self._seconds:.0f} s")

    def left(self) -> float:
        """Seconds left, more than 0; raises as `check` does."""
        self.check()
        return self._ends - self._clock.monotonic()

    def spent(self) -> float:
        """Seconds since it began."""
        return self._clock.monotonic() - self._began

    def wait(self, seconds: float) -> None:
        """Wait, and raise as `check` does."""
        self._clock.wait(min(seconds, self.left()))
        self.check()
