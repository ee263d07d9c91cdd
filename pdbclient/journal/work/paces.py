"""How fast commands may go to one server: one rate for all who deliver from a journal, whatever for.

What may be sent now stands in the journal. Each process takes a tenth of a second's worth of it at once, which it may
use within a second: so it costs one small transaction for several commands.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import monotonic

from pdbclient.journal.journal import Journal
from pdbclient.journal.store.database import Transaction

__all__ = ["Pace", "Paces", "take"]

SET_BACK = 1.0
"""Seconds by which the clocks of those who share a journal differ at most: more, and the clock was set back."""
SHARE = 0.1
"""Seconds' worth of commands that a process takes at once, and waits for when there is nothing to be taken."""
KEPT = 1.0
"""Seconds for which it may use them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `rate` commands a second, `allowance` of them now, as of `at` (seconds). Pure."""

    rate: float
    allowance: float = 0.0
    at: float = 0.0

    def at_time(self, now: float) -> Pace:
        """The pace at a later time: what was not used is kept for a second at most.

        An earlier time, by a clock that is a little behind, changes nothing; by one that was set back, it counts.
        """
        if self.at - SET_BACK <= now < self.at:
            return self
        gained = max(now - self.at, 0.0) * self.rate
        return Pace(self.rate, min(self.allowance + gained, max(self.rate, 1.0)), now)

    def used(self, commands: int) -> Pace:
        """The pace after so many commands."""
        return Pace(self.rate, self.allowance - commands, self.at)

    def seconds_until(self, commands: int) -> float:
        """How long it takes until so many may be sent."""
        return max(commands - self.allowance, 0.0) / self.rate


def take(tx: Transaction, server: str, rate: float, most: int, now: float) -> tuple[int, float]:
    """Take up to `most` of the commands that `server` may be sent now: how many, and seconds until there are more.

    `now` is in seconds since 1970, by the clock of all who share the journal.
    """
    full = max(rate, 1.0)
    tx.execute(
        "INSERT INTO paces (server, allowance, at) VALUES (:server, :full, :now) ON CONFLICT (server) DO NOTHING",
        server=server,
        full=full,
        now=now,
    )
    (allowance, at), *_ = tx.rows(f"SELECT allowance, at FROM paces WHERE server = :server{tx.locked}", server=server)
    pace = Pace(rate, allowance, at).at_time(now)
    taken = min(int(pace.allowance), most)
    pace = pace.used(taken)
    tx.execute(
        "UPDATE paces SET allowance = :allowance, at = :at WHERE server = :server",
        allowance=pace.allowance,
        at=pace.at,
        server=server,
    )
    return taken, pace.seconds_until(most)


class Paces:
    """What this process may send to each server, at most `rate` commands a second by all together. Thread-safe."""

    def __init__(self, journal: Journal, rate: float) -> None:
        self._journal, self._rate = journal, rate
        self._most = max(int(rate * SHARE), 1)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}

    def take(self, server: str) -> float:
        """Take one command for the server at this URL: 0, it may be sent; else the seconds until asking again helps.

        Raises `JournalError`.
        """
        with self._lock:
            held, now = self._held.get(server, _NOTHING), monotonic()
            if (not held.commands or now >= held.until) and now >= held.again:
                taken, wait = self._journal.run(take, server, self._rate, self._most, self._journal.clock())
                held = _Held(taken, now + KEPT, now + wait)
            if held.commands and now < held.until:
                self._held[server] = _Held(held.commands - 1, held.until, held.again)
                return 0.0
            self._held[server] = held
            return held.again - now


@dataclass(frozen=True, slots=True)
class _Held:
    """So many commands may be sent `until` then; asking before `again` brings little (monotonic seconds)."""

    commands: int
    until: float
    again: float


_NOTHING = _Held(0, 0.0, 0.0)
