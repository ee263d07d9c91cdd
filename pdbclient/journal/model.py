"""What the journal holds, as values, and the rules about it. Pure.

An *entry* is one command that somebody was told was accepted. It is *pending* for a target, one server or any of
them, until one takes it; a *copy* is what is known of it on one server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pdbclient.wire.command import Command

__all__ = [
    "ANY",
    "CATALOG",
    "DEACTIVATION",
    "DECIDING",
    "FIRST_MOMENT",
    "LAST_MOMENT",
    "LATE",
    "LATER",
    "REPLACED",
    "Claim",
    "Copy",
    "CopyState",
    "Counts",
    "Entry",
    "EntryState",
    "Listed",
    "attempt_limit",
    "backoff",
    "doubled",
    "is_moment",
    "lane",
    "state_after",
]

ANY = ""
"""The target of an entry that any server may take (ordered failover). With broadcast, each server's URL is one."""

REPLACED = ("replace catalog", "replace facts", "replace catalog inputs")
"""Commands of which only the newest of a node counts: it is delivered first, and an older one not at all after it."""

DEACTIVATION = "deactivate node"
CATALOG = "replace catalog"

DECIDING = (CATALOG, DEACTIVATION)
"""The commands that decide what a query of exported resources gives."""

# Small commands that decide what a node is, then what other nodes' catalogs need, then the bulk.
_LANES: Mapping[str, int] = MappingProxyType(
    {
        "deactivate node": 0,
        "configure expiration": 0,
        "replace catalog": 1,
        "replace facts": 2,
        "replace catalog inputs": 3,
        "store report": 4,
    }
)

FIRST_MOMENT, LAST_MOMENT = -62_135_596_800.0, 253_402_300_799.0
"""Seconds since 1970: the years 1 to 9999. What lies outside was no clock's."""

LATE = 600.0
"""Seconds after which what a server took should show there."""
BACKOFF_FIRST = 5.0
BACKOFF_LIMIT = 600.0
ATTEMPT_FIRST, ATTEMPT_LAST = 5.0, 5120.0


class EntryState(StrEnum):
    """What became of an entry. `PARKED`: none took it, and it is pending for none: a server called it bad."""

    PENDING = "pending"
    DELIVERED = "delivered"
    PARKED = "parked"


LATER = "later"
"""Of a copy: whoever submitted the command may have been told before this server took it."""


class CopyState(StrEnum):
    """What is known of an entry on one server; no copy there means: not sent."""

    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Copy:
    """An entry on the server at the URL `server`. `at` is in seconds since 1970. `reason` is why it was rejected; of
    one that was accepted it is `LATER`, unless that was by the submission itself.
    """

    server: str
    state: CopyState
    uuid: str | None = None
    at: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry with its command, whose body is the exact bytes that are sent. `received` is in seconds since 1970."""

    id: int
    uuid: str
    received: float
    state: EntryState
    command: Command


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry without its body: `size` is the bytes that it takes in the journal.

    `void`, 0 or 1: PuppetDB keeps nothing of it.
    """

    id: int
    uuid: str
    received: float
    state: EntryState
    name: str
    version: int
    certname: str
    producer_timestamp: str
    encoding: str
    length: int
    size: int
    void: int = 0
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry that this process alone delivers now: to `target`, after `tries` attempts before."""

    entry: int
    target: str
    tries: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a journal holds: entries by state, deliveries still pending by target, bytes of bodies."""

    entries: Mapping[EntryState, int] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    oldest_pending: float | None = None


def is_moment(at: object) -> bool:
    """Whether this is a time that a clock can have told, in seconds since 1970."""
    return isinstance(at, int | float) and FIRST_MOMENT <= at <= LAST_MOMENT


def lane(name: str) -> int:
    """The lane of a command: all of a lower one are delivered first. Unknown commands go last."""
    return _LANES.get(name, len(_LANES))


def doubled(first: float, times: int, limit: float) -> float:
    """`first`, doubled so many times (none, when that is negative): `limit` at most."""
    # The exponent has a bound, too: what fails for a week has been tried too often for a float.
    return min(first * 2.0 ** min(max(times, 0), 64), limit)


def backoff(tries: int) -> float:
    """Seconds until an entry is tried again that a server, otherwise well, failed to take `tries` times."""
    return doubled(BACKOFF_FIRST, tries - 1, BACKOFF_LIMIT)


def attempt_limit(tries: int, most: float) -> float:
    """Seconds that one delivery may take after `tries` that failed: few at first, `most` (0: no limit) at last.

    A command that servers leave without an answer holds up others by so much.
    """
    return min(doubled(ATTEMPT_FIRST, tries, ATTEMPT_LAST), most or float("inf"))


def state_after(pending: bool, copies: Iterable[CopyState]) -> EntryState:
    """The state of an entry with these copies, that is still `pending` for some target or not."""
    if pending:
        return EntryState.PENDING
    has = not {CopyState.ACCEPTED, CopyState.CONFIRMED}.isdisjoint(copies)
    return EntryState.DELIVERED if has else EntryState.PARKED
