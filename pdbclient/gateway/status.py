"""What the status port of the gateway shows: its servers, requests, failovers and journal as they are now."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

from pdbclient.config.journal_place import without_password
from pdbclient.config.model import ClientConfig
from pdbclient.gateway.handover import without
from pdbclient.gateway.server import Server
from pdbclient.http.breaker import State
from pdbclient.http.outcome import Operation
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.tls_dates import expiries
from pdbclient.journal.model import ANY, EntryState
from pdbclient.journal.work.service import Service
from pdbclient.observe.page import document as shown
from pdbclient.observe.status_client import ADDRESS
from pdbclient.observe.status_port import StatusPort
from pdbclient.observe.traffic import DAY, Circuit, Ending, Kind, TrafficSnapshot

__all__ = ["StatusPage", "document", "outages"]


class StatusPage:
    """The status port of a gateway: it shows the server that is in force, on the port that its settings say."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open, self._over = ExitStack(), False
        self._port: int | None = None
        self._server: Server | None = None
        self._listening: socket.socket | None = None

    def show(self, server: Server) -> None:
        """Show this one from now on. It takes a moment: not for the event loop.

        Raises `StatusError` when the port cannot be had; the one before is shown as before then, and where.
        """
        with self._lock:
            wanted = server.config.gateway_status_port
            if self._over or (wanted == self._port and without(self.sockets, server.sockets) == self.sockets):
                self._server = server
                return
            port: StatusPort | None = None
            if wanted is not None:
                port = StatusPort(wanted, self, setting="gateway_status_port", listening=self._held(wanted, server))
            before, self._server = self._server, server
            opened = ExitStack()
            try:
                if port is not None:
                    opened.enter_context(port)
            except BaseException:
                self._server = before
                raise
            self._open.close()
            self._open, self._port = opened, wanted
            self._listening = None if port is None else port.listening

    @property
    def sockets(self) -> list[socket.socket]:
        """What it listens with."""
        return [] if self._listening is None else [self._listening]

    def _held(self, port: int, server: Server) -> socket.socket | None:
        """What the one before listens with at this port, if `server` does not."""
        held = () if self._server is None else without(self._server.sockets, server.sockets)
        return next((sock for sock in held if sock.getsockname() == (ADDRESS, port)), None)

    def close(self) -> None:
        """Show nothing any more, whoever is still about to be shown."""
        with self._lock:
            self._over = True
            self._open.close()

    def document(self) -> shown.Document:
        """The status document, as of now."""
        server = self._shown
        upstream = server.upstream
        return document(server.config, upstream.registry, upstream.traffic.snapshot(), upstream.journal)

    def metrics(self) -> bytes:
        """The text form of Prometheus."""
        return self._shown.upstream.exposition()

    @property
    def _shown(self) -> Server:
        assert self._server is not None, "nobody asks before there is a port"
        return self._server


def document(
    config: ClientConfig, registry: ServerRegistry, counted: TrafficSnapshot, journal: Service | None
) -> shown.Document:
    """The status document of a gateway with this configuration."""
    return shown.Document(
        shown.Program("gateway", socket.gethostname(), version("pdbclient"), _time(counted.since)),
        _time(counted.at),
        servers=tuple(_servers(config, registry, counted)),
        requests=tuple(_requests(counted)),
        oldest_request=None if counted.oldest is None else max(counted.at - counted.oldest, 0.0),
        failovers=tuple(
            shown.Failover(_time(each.at), str(each.kind), each.source, each.target, each.why)
            for each in counted.failovers
        ),
        outages=tuple(outages(counted)),
        journal=None if journal is None else _journal(config, journal),
        exported=None if journal is None else shown.Exported(counted.stale_answers, config.stale_exported),
        certificates=tuple(
            shown.Certificate(each.setting, str(each.path), each.name, each.ends, each.error)
            for each in expiries(config.tls)
        ),
    )


def outages(counted: TrafficSnapshot) -> list[shown.Outage]:
    """When which server was unhealthy in the last day, by the changes of its circuits; the oldest first."""
    found: list[shown.Outage] = []
    for server in dict.fromkeys([each.server for each in (*counted.circuits, *counted.changes)]):
        changes = _in_order([each for each in counted.changes if each.server == server], counted.at)
        now = [each for each in counted.circuits if each.server == server]
        # One that is not asked any more has none: it was left out when the others were begun with.
        until = max((each.since for each in now), default=min(each.since for each in counted.circuits))
        found += _outages_of(server, changes, now, counted.at - DAY, until)
    return sorted(found, key=lambda each: each.began)


def _in_order(changes: Sequence[Circuit], at: float) -> list[Circuit]:
    """Changes, none of which is later than the next one, or than `at`: where the clock was set back, they were."""
    ordered: list[Circuit] = []
    for each in reversed(changes):
        at = min(at, each.since)
        ordered.append(replace(each, since=at))
    return ordered[::-1]


def _outages_of(
    server: str, changes: Sequence[Circuit], now: Sequence[Circuit], day_ago: float, until: float
) -> Iterator[shown.Outage]:
    """Those of one server. When it is healthy now, and no change says so, it is so since `until`: by a reload."""
    first = {each.operation: each for each in reversed(changes)}
    lasting = [each for each in now if not each.healthy and each.operation not in first]
    # What changes to healthy in the day was not so before.
    out = {each.operation for each in lasting} | {each.operation for each in first.values() if each.healthy}
    began, why = (lasting[0].since, lasting[0].why) if lasting else (day_ago, "since before that day")
    for each in changes:
        if not each.healthy:
            began, why = (began, why) if out else (each.since, each.why)
            out.add(each.operation)
        elif out:
            out.discard(each.operation)
            if not out:
                yield shown.Outage(server, _time(began), _time(each.since), why)
    if out:
        lasts = any(not each.healthy for each in now)
        yield shown.Outage(server, _time(began), None if lasts else _time(max(began, until)), why)


def _servers(config: ClientConfig, registry: ServerRegistry, counted: TrafficSnapshot) -> Iterator[shown.Server]:
    health = registry.health()
    noted = {(each.server, each.operation): each for each in counted.circuits}
    answered: Counter[str] = Counter()
    for (_, server, ending), number in counted.requests.items():
        answered[server] += number if ending is Ending.ANSWERED else 0
    failed: Counter[str] = Counter()
    for (server, _, _), number in counted.failed_attempts.items():
        failed[server] += number
    for endpoint in (*config.server_urls, *config.submit_only_server_urls):
        # Where there is nothing to be read, only what is written counts.
        operations = (Operation.COMMAND,) if endpoint.submit_only else tuple(Operation)
        circuits = []
        for operation in operations:
            state = health[endpoint, operation].state if (endpoint, operation) in health else State.CLOSED
            last = noted.get((endpoint.url, str(operation)))
            since, why = (counted.since, "") if last is None else (last.since, last.why)
            circuits.append(shown.Circuit(str(operation), str(state), _time(since), why))
        yield shown.Server(
            endpoint.url,
            tuple(circuits),
            registry.behind_by(endpoint),
            registry.next_probe(endpoint),
            endpoint.submit_only,
            answered[endpoint.url],
            failed[endpoint.url],
        )


def _requests(counted: TrafficSnapshot) -> Iterator[shown.Requests]:
    for kind in (Kind.COMMAND, Kind.QUERY, Kind.EXPORTED):
        endings: Counter[str] = Counter()
        for (what, _, ending), number in counted.requests.items():
            endings[str(ending)] += number if what is kind else 0
        latencies = counted.latencies[kind]
        quantiles = (latencies.recent_quantile(part) for part in (0.5, 0.95, 0.99))
        yield shown.Requests(str(kind), counted.in_flight[kind], +endings, *quantiles)


def _journal(config: ClientConfig, service: Service) -> shown.JournalFigures:
    place, counts = without_password(config.journal or ""), service.figures.counts()
    if counts is None:
        return shown.JournalFigures(place, service.journal.answers, False, journal_only=service.journal_only)
    oldest = counts.oldest_pending
    return shown.JournalFigures(
        place,
        service.journal.answers,
        pending={"any" if target == ANY else target: number for target, number in counts.pending.items()},
        parked=counts.entries.get(EntryState.PARKED, 0),
        delivered=counts.entries.get(EntryState.DELIVERED, 0),
        bytes=counts.bytes,
        oldest=None if oldest is None else max(service.journal.clock() - oldest, 0.0),
        journal_only=service.journal_only,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
