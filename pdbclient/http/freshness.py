"""Which server may lack what another one accepted: how fresh an answer can be. Pure values and one small book.

PuppetDBs do not replicate by themselves, so a command that one server accepted is missing on the others until
a reconciler (or a broadcast) brings it there. This book knows only what went through this client.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from pdbclient.config.model import Endpoint
from pdbclient.wire.command import Command

__all__ = ["Freshness", "Ledger"]

LIMIT = 10_000
TRACKED = ("replace catalog", "replace facts", "deactivate node")


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a server may lack, as far as this client knows.

    `missing` counts the commands (the newest per kind and certname) that another server accepted and this one
    is not known to have; `since` is the oldest producer timestamp among them. Other clients' commands, and what
    happened before this client started, are not known to it.
    """

    missing: int = 0
    since: str | None = None

    @property
    def stale(self) -> bool:
        """Whether an answer of this server may be older than one of another server."""
        return self.missing > 0


@dataclass(slots=True)
class _Shelf:
    """One server's share of the book. `failed_over` is what a *later* server of the list took in its place."""

    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    failed_over: dict[tuple[str, str], str] = field(default_factory=dict)
    since: float = float("-inf")


class Ledger:
    """The book of what each server lacks. Not thread-safe: its owner holds a lock. `now` is monotonic seconds."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._shelves = {endpoint: _Shelf() for endpoint in endpoints if not endpoint.submit_only}

    def accepted(self, command: Command, by: Collection[Endpoint], now: float) -> None:
        """Note that the servers `by` accepted `command` and the others did not (or may not have)."""
        if command.name not in TRACKED or not by:
            return
        key = (command.name, command.certname)
        last = max(endpoint.order for endpoint in by)
        for endpoint, shelf in self._shelves.items():
            if endpoint in by:
                _drop(shelf, key, command.producer_timestamp)
                continue
            _put(shelf.missing, key, command.producer_timestamp)
            if endpoint.order < last:
                if not shelf.failed_over:
                    shelf.since = now
                _put(shelf.failed_over, key, command.producer_timestamp)

    def found(self, endpoint: Endpoint, present: Mapping[tuple[str, str], str]) -> None:
        """Note what `endpoint` was seen to hold: (command name, certname) -> producer timestamp."""
        for key, timestamp in present.items():
            _drop(self._shelves[endpoint], key, timestamp)

    def freshness(self, endpoint: Endpoint) -> Freshness:
        """How fresh an answer of `endpoint` can be."""
        # A submit-only server has no shelf: it answers no queries.
        shelf = self._shelves.get(endpoint, _Shelf())
        return Freshness(len(shelf.missing), min(shelf.missing.values(), default=None))

    def behind(self) -> dict[Endpoint, float]:
        """The servers that lack what a later one took in their place, and since when (monotonic seconds)."""
        return {endpoint: shelf.since for endpoint, shelf in self._shelves.items() if shelf.failed_over}

    def failed_over(self, endpoint: Endpoint, limit: int) -> list[tuple[str, str]]:
        """At most `limit` (command name, certname) of what a later server took in the place of `endpoint`."""
        return list(islice(self._shelves[endpoint].failed_over, limit))


def _put(shelf: dict[tuple[str, str], str], key: tuple[str, str], timestamp: str) -> None:
    # Producer timestamps of a Command are all UTC with milliseconds and Z: they sort as text.
    if timestamp >= shelf.get(key, ""):
        shelf.pop(key, None)
        shelf[key] = timestamp
    if len(shelf) > LIMIT:
        # The oldest entry goes: the count is then a lower bound, and the server is stale all the same.
        del shelf[next(iter(shelf))]


def _drop(shelf: _Shelf, key: tuple[str, str], timestamp: str) -> None:
    for entries in (shelf.missing, shelf.failed_over):
        if entries.get(key, "\uffff") <= timestamp:
            del entries[key]
