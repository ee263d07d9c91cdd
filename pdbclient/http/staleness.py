"""Which server may lack what another one accepted: how fresh an answer can be.

PuppetDBs do not replicate by themselves, so a command that one server accepted is missing on the others until
a reconciler (or a broadcast) brings it there. This record knows only what went through this client.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from pdbclient.config.model import Endpoint
from pdbclient.wire.command import Command

__all__ = ["Freshness", "PendingWrites"]

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
class _PerServer:
    """One server's part. `failed_over` is what a *later* server of the list took in its place."""

    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    failed_over: dict[tuple[str, str], str] = field(default_factory=dict)
    since: float = float("-inf")


class PendingWrites:
    """What each server lacks. Not thread-safe: its owner holds a lock. `now` is monotonic seconds."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._servers = {endpoint: _PerServer() for endpoint in endpoints if not endpoint.submit_only}

    def accepted(self, command: Command, by: Collection[Endpoint], now: float) -> None:
        """Note that the servers `by` accepted `command` and the others did not (or may not have)."""
        if command.name not in TRACKED or not by:
            return
        key = (command.name, command.certname)
        last = max(endpoint.order for endpoint in by)
        for endpoint, of_server in self._servers.items():
            if endpoint in by:
                _drop(of_server, key, command.producer_timestamp)
                continue
            _put(of_server.missing, key, command.producer_timestamp)
            if endpoint.order < last:
                if not of_server.failed_over:
                    of_server.since = now
                _put(of_server.failed_over, key, command.producer_timestamp)

    def found(self, endpoint: Endpoint, present: Mapping[tuple[str, str], str]) -> None:
        """Note what `endpoint` was seen to hold: (command name, certname) -> producer timestamp."""
        if endpoint.submit_only:
            return  # it answers no queries
        for key, timestamp in present.items():
            _drop(self._servers[endpoint], key, timestamp)

    def freshness(self, endpoint: Endpoint) -> Freshness:
        """How fresh an answer of `endpoint` can be."""
        # A submit-only server is none of them: it answers no queries.
        of_server = self._servers.get(endpoint, _PerServer())
        return Freshness(len(of_server.missing), min(of_server.missing.values(), default=None))

    def behind(self) -> dict[Endpoint, float]:
        """The servers that lack what a later one took in their place, and since when (monotonic seconds)."""
        return {endpoint: of_server.since for endpoint, of_server in self._servers.items() if of_server.failed_over}

    def behind_by(self, endpoint: Endpoint) -> int:
        """How many commands (the newest per kind and certname) a later server took in the place of `endpoint`."""
        return len(self._servers.get(endpoint, _PerServer()).failed_over)

    def failed_over(self, endpoint: Endpoint, limit: int) -> list[tuple[str, str]]:
        """At most `limit` (command name, certname) of what a later server took in the place of `endpoint`."""
        return list(islice(self._servers[endpoint].failed_over, limit))


def _put(missing: dict[tuple[str, str], str], key: tuple[str, str], timestamp: str) -> None:
    # Producer timestamps of a Command are all UTC with milliseconds and Z: they sort as text.
    if timestamp >= missing.get(key, ""):
        missing.pop(key, None)
        missing[key] = timestamp
    if len(missing) > LIMIT:
        # The oldest entry goes: the count is then a lower bound, and the server is stale all the same.
        del missing[next(iter(missing))]


def _drop(of_server: _PerServer, key: tuple[str, str], timestamp: str) -> None:
    for entries in (of_server.missing, of_server.failed_over):
        if entries.get(key, "\uffff") <= timestamp:
            del entries[key]
