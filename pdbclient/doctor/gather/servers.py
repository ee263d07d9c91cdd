"""What each PuppetDB says of itself, and lacks of what the others have: all at once, each with its own deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pdbclient.config.model import Endpoint, Timeouts, TlsFiles
from pdbclient.doctor.model import PeerFacts, ServerFacts
from pdbclient.errors import Busy, Misrouted, PdbError, ServerError, TransportError
from pdbclient.http.outcome import Outcome
from pdbclient.http.session import Session
from pdbclient.http.status import STATUS_PATH, read_status
from pdbclient.sync.inventory.identity import newest_reports, process
from pdbclient.sync.policy.identity import Arrivals
from pdbclient.sync.run.preflight import VERSION_PATH, clock_range
from pdbclient.wire import timestamp

__all__ = ["LIMITS", "PER_SERVER", "ask_servers"]

log = logging.getLogger("pdbclient.doctor")

LIMITS = Timeouts(attempt=5.0, connect=3.0, read=5.0, operation=5.0, query=5.0)
PER_SERVER = 12.0
"""Seconds for all questions to one server."""
ONE_QUESTION = 5.0
GATEWAY_HEADER = "X-Pdbclient-Server"


@dataclass(slots=True)
class _Asked:
    """A server, what it said so far, and what it received last: the hash of each report, and when (s, our clock)."""

    session: Session
    facts: ServerFacts
    end: float
    received: Mapping[str, float] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds for the next question."""
        return max(min(ONE_QUESTION, self.end - time.monotonic()), 0.1)


def ask_servers(
    endpoints: Sequence[Endpoint], tls: TlsFiles, certname: str | None, graces: Mapping[Endpoint, float]
) -> tuple[tuple[ServerFacts, ...], tuple[PeerFacts, ...]]:
    """Each server, and each pair of those that answer, both ways.

    What `graces` has for a server is how long (s) it may lack what another one has. None of them keeps another one
    waiting: a server has `PER_SERVER` seconds, for everything, and the pairs as many again. Raises `ConfigError` for
    TLS files that cannot be used.
    """
    sessions = [Session(endpoint, tls, LIMITS) for endpoint in endpoints]
    if not sessions:
        return (), ()
    with ThreadPoolExecutor(len(sessions), thread_name_prefix="doctor") as pool:
        asked = list(pool.map(lambda session: _ask(session, certname), sessions))
        well = [each for each in asked if each.facts.error is None and not each.facts.is_gateway]
        list(pool.map(_identity, well))  # once more, after all were looked at
        pairs = [(source, target) for source in well for target in well if source is not target and source.received]
        peers = list(pool.map(lambda pair: _compare(pair[0], pair[1], graces[pair[1].session.endpoint]), pairs))
    for session in sessions:
        session.close()
    return tuple(each.facts for each in asked), tuple(peer for peer in peers if peer is not None)


def _ask(session: Session, certname: str | None) -> _Asked:
    asked = _Asked(session, ServerFacts(session.endpoint.url, certname), time.monotonic() + PER_SERVER)
    try:
        for question in (_status, _version, _query):
            question(asked)
    except (TransportError, ServerError) as error:
        outcome = Outcome.of(error)
        asked.facts = replace(asked.facts, met=str(outcome.kind), error=outcome.detail)
        return asked
    for question in (_identity, _oldest_report, _oldest_dead, _newest):
        try:
            question(asked)
        except PdbError as error:
            # It serves: of what is looked at beside that, there is nothing to be said then.
            log.info("%s: %s", session.endpoint, error)
    return asked


def _status(asked: _Asked) -> None:
    began = time.monotonic()
    answer = asked.session.document(STATUS_PATH, within=asked.left())
    status = read_status(answer.value)
    offset = clock_range(answer, began, time.monotonic())
    depth = status.queue_depth if isinstance(status.queue_depth, int) else None
    ours = time.time() - time.monotonic()
    clock = None if offset is None else (offset[0] - ours, offset[1] - ours)
    is_gateway = GATEWAY_HEADER in answer.headers
    asked.facts = replace(asked.facts, queue=depth, clock=clock, is_gateway=is_gateway)
    url = asked.session.endpoint.url
    if status.state is None:
        raise Misrouted(url, 200, "that is no PuppetDB: what it says of itself has no state")
    if not status.running or status.maintenance:
        mode = " and in maintenance mode" if status.maintenance else ""
        raise Busy(url, 503, f"it is {status.state!r}, not 'running'{mode}", 0.0)


def _version(asked: _Asked) -> None:
    meta = asked.session.document(VERSION_PATH, within=asked.left()).value
    version = meta.get("version") if isinstance(meta, dict) else None
    if not isinstance(version, str):
        raise Misrouted(asked.session.endpoint.url, 200, "that is no PuppetDB: it does not tell its version")
    asked.facts = replace(asked.facts, version=version)


def _query(asked: _Asked) -> None:
    """Whether its database answers, and it lets us in to it."""
    for _ in asked.session.rows("/nodes", query=["=", "certname", ""], within=asked.left()):
        pass


def _identity(asked: _Asked) -> None:
    try:
        look = process(asked.session, asked.left())
    except PdbError as error:
        log.info("%s: %s", asked.session.endpoint, error)
        return
    if look is not None:
        asked.facts = replace(asked.facts, looks=(*asked.facts.looks, look))


def _oldest_report(asked: _Asked) -> None:
    query = ["extract", ["producer_timestamp"], ["=", "type", "any"]]
    age = _age(asked, "/reports", query, "producer_timestamp")
    asked.facts = replace(asked.facts, oldest_report=age)


def _oldest_dead(asked: _Asked) -> None:
    query = ["=", "node_state", "inactive"]
    ages = [age for column in ("deactivated", "expired") if (age := _age(asked, "/nodes", query, column)) is not None]
    asked.facts = replace(asked.facts, oldest_dead=max(ages, default=None))


def _newest(asked: _Asked) -> None:
    arrivals: Arrivals = newest_reports(asked.session, asked.left())
    ours = 0.0 if asked.facts.clock is None else asked.facts.clock[0]
    asked.received = {key: millis / 1000 - ours for key, millis in arrivals.items()}


def _age(asked: _Asked, path: str, query: list[Any], column: str) -> float | None:
    """The age (s) of the least value in a column; None where there is none."""
    params = {"limit": 1, "order_by": [{"field": column, "order": "asc"}]}
    rows: Iterator[Any] = asked.session.records(path, query=query, params=params, within=asked.left())
    found = next((row.get(column) for row in list(rows) if isinstance(row, dict)), None)
    if not isinstance(found, str):
        return None
    try:
        return datetime.now(UTC).timestamp() - timestamp.to_millis(found) / 1000
    except ValueError:
        return None


def _compare(source: _Asked, target: _Asked, grace: float) -> PeerFacts | None:
    """What `target` lacks of the newest that `source` has had for `grace` seconds; None where that is not known."""
    before = time.time() - grace
    settled = [key for key, at in source.received.items() if at < before]
    if not settled:
        return None
    query = ["extract", ["hash"], ["in", "hash", ["array", settled]]]
    try:
        held = {row["hash"] for row in target.session.records("/reports", query=query, within=ONE_QUESTION)}
    except (PdbError, TypeError, KeyError) as error:
        log.debug("%s: which reports it has cannot be told: %s", target.session.endpoint, error)
        return None
    missing = len(set(settled) - held)
    return PeerFacts(source.facts.url, target.facts.url, grace, len(settled), missing)
