"""What a server shows of certain nodes and reports: whether a command that it took is there, by its timestamp.

PuppetDB's 200 means "queued": what it made of a command shows only in its data. Timestamps are UTC with milliseconds
(`timestamp.to_utc`), by which they are compared; as text they sort as the instants do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pdbclient.errors import IncompleteResponse
from pdbclient.http.session import Session
from pdbclient.http.status import STATUS_PATH, read_status
from pdbclient.wire import timestamp
from pdbclient.wire.query import Ast

__all__ = ["NEWEST", "deactivated", "newest", "newest_reports", "oldest_reports", "queue_depth", "reports"]

BATCH = 500
"""Nodes, or reports, that one query asks about at most."""
TOGETHER = 3_600_000
"""Milliseconds that the reports of one query lie apart at most: it gives all that the nodes reported between them."""
STATUS_LIMIT = 15.0


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    field: str
    params: Mapping[str, Any] | None = None
    extract: bool = True


NEWEST: Mapping[str, _Place] = MappingProxyType(
    {
        "replace catalog": _Place("/catalogs", "producer_timestamp"),
        "replace facts": _Place("/factsets", "producer_timestamp"),
        "replace catalog inputs": _Place("/catalog-inputs", "producer_timestamp"),
        "deactivate node": _Place("/nodes", "deactivated"),
        # Whole nodes: from 8.5.0 on a server answers 500 when only two of their columns are asked for.
        "configure expiration": _Place(
            "/nodes", "expires_facts_updated", {"include_facts_expiration": True}, extract=False
        ),
    }
)
"""Where the newest command of each kind shows: of these a server has one of a node at most."""

_ANY_STATE = ["=", "node_state", "any"]
_ANY_TYPE = ["=", "type", "any"]


def newest(
    session: Session, name: str, certnames: Collection[str], *, within: float | None = None
) -> Iterator[tuple[str, str]]:
    """The certnames that have one of the command `name` (of `NEWEST`), with its producer timestamp, as they come in.

    `within` is the seconds that all of it may take. Raises the session's errors, and `IncompleteResponse` for rows
    that are none of PuppetDB's.
    """
    place, left = NEWEST[name], _Left(within)
    for batch in _batches(certnames):
        there: Ast = ["and", _among(batch), _ANY_STATE, ["null?", place.field, False]]
        query = ["extract", ["certname", place.field], there] if place.extract else there
        options: dict[str, Any] = {} if place.params is None else {"params": place.params}
        rows = session.records(place.path, query=query, within=left.seconds(), **options)
        yield from _stamps(session, rows, place.field)


def deactivated(
    session: Session, certnames: Collection[str], *, within: float | None = None
) -> Iterator[tuple[str, str]]:
    """The certnames of nodes that are deactivated, and have not expired, with the time of that. As `newest`."""
    left = _Left(within)
    for batch in _batches(certnames):
        dead = [["null?", "deactivated", False], ["null?", "expired", True]]
        query = ["extract", ["certname", "deactivated"], ["and", _among(batch), _ANY_STATE, *dead]]
        rows = session.records("/nodes", query=query, within=left.seconds())
        yield from _stamps(session, rows, "deactivated")


def newest_reports(
    session: Session, certnames: Collection[str], since: str, *, within: float | None = None
) -> Iterator[tuple[str, str]]:
    """The certnames that have reports newer than `since`, with the producer timestamp of the newest. As `newest`."""
    yield from _of_reports(session, "max", certnames, [">", "producer_timestamp", since], within)


def oldest_reports(
    session: Session, certnames: Collection[str], before: str, *, within: float | None = None
) -> Iterator[tuple[str, str]]:
    """The certnames that have reports older than `before`, with the producer timestamp of the oldest. As `newest`."""
    yield from _of_reports(session, "min", certnames, ["<", "producer_timestamp", before], within)


def reports(
    session: Session, wanted: Iterable[tuple[str, str]], *, within: float | None = None
) -> Iterator[tuple[str, str]]:
    """Certnames and producer timestamps of reports that are there: those of `wanted`, and maybe others.

    Of every type, of nodes in any state. `within` and errors as for `newest`.
    """
    left = _Left(within)
    for start, end, certnames in _runs(wanted):
        # Both ends: then the server looks into those days only. It may store more digits than it shows.
        during = [[">=", "producer_timestamp", start], ["<", "producer_timestamp", end]]
        condition = ["and", _among(certnames), _ANY_STATE, _ANY_TYPE, *during]
        query = ["extract", ["certname", "producer_timestamp"], condition]
        rows = session.records("/reports", query=query, within=left.seconds())
        yield from _stamps(session, rows, "producer_timestamp")


def queue_depth(session: Session) -> int:
    """How many commands wait in the server's queue. Raises the session's errors."""
    depth = read_status(session.document(STATUS_PATH, within=STATUS_LIMIT).value).queue_depth
    # PuppetDB says null until its queue is loaded.
    return depth if isinstance(depth, int) else 0


class _Left:
    """What is left of the seconds that several queries may take together."""

    def __init__(self, within: float | None) -> None:
        self._end = None if within is None else time.monotonic() + within

    def seconds(self) -> float | None:
        return None if self._end is None else max(self._end - time.monotonic(), 0.001)


def _batches(certnames: Collection[str]) -> Iterator[Sequence[str]]:
    names = [name for name in dict.fromkeys(certnames) if _can_be(name)]
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _can_be(certname: str) -> bool:
    """Whether PuppetDB can have such a node at all; a query for another would be refused whole."""
    return "\0" not in certname and certname.encode(errors="replace").decode() == certname


def _runs(wanted: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Reports close to each other, oldest first: from when, up to but not including when, of which nodes."""
    run: list[tuple[int, str]] = []
    askable = {(timestamp.to_millis(stamp), certname) for certname, stamp in wanted if _can_be(certname)}
    for stamp, certname in sorted(askable):
        if run and (len(run) == BATCH or stamp - run[0][0] > TOGETHER):
            yield _run(run)
            run = []
        run.append((stamp, certname))
    if run:
        yield _run(run)


def _run(run: Sequence[tuple[int, str]]) -> tuple[str, str, Sequence[str]]:
    start, end = timestamp.from_millis(run[0][0]), timestamp.sortable(run[-1][0] + 1)
    return start, end, list(dict.fromkeys(certname for _, certname in run))


def _of_reports(
    session: Session, function: str, certnames: Collection[str], when: Ast, within: float | None
) -> Iterator[tuple[str, str]]:
    left = _Left(within)
    for batch in _batches(certnames):
        columns = ["certname", ["function", function, "producer_timestamp"]]
        query = ["extract", columns, ["and", _among(batch), _ANY_STATE, _ANY_TYPE, when], ["group_by", "certname"]]
        rows = session.records("/reports", query=query, within=left.seconds())
        yield from _stamps(session, rows, function)


def _among(certnames: Sequence[str]) -> Ast:
    return ["in", "certname", ["array", list(certnames)]]


def _stamps(session: Session, rows: Iterator[Any], field: str) -> Iterator[tuple[str, str]]:
    for row in rows:
        certname, stamp = (row.get("certname"), row.get(field)) if isinstance(row, dict) else (None, None)
        try:
            if not isinstance(certname, str) or not isinstance(stamp, str):
                raise ValueError("no certname, or no timestamp")
            yield certname, timestamp.sortable(timestamp.to_millis(stamp))
        except ValueError as error:
            why = f"a row that is none of PuppetDB's: {error}"
            raise IncompleteResponse(session.endpoint.url, why) from error
