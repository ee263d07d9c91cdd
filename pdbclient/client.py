"""The client: submit commands and ask queries, with ordered failover. The API that programs use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from pdbclient.config import ClientConfig, Endpoint, load_config
from pdbclient.config.values import checked_timeout
from pdbclient.errors import AllEndpointsFailed, IncompleteResponse, ServerError, TransportError
from pdbclient.http.breaker import Health
from pdbclient.http.failover import Accepted, Answered, Failover
from pdbclient.http.outcome import Attempt, Operation
from pdbclient.http.session import Selection, Session
from pdbclient.http.staleness import Freshness
from pdbclient.http.status import STATUS_PATH, read_status
from pdbclient.journal.work.service import Service
from pdbclient.wire.collector import Filter
from pdbclient.wire.command import Command
from pdbclient.wire.query import QueryText, address, checked, exported_resources

__all__ = ["Client", "Found", "QueryResult", "Rows", "ServerStatus", "Submission"]

log = logging.getLogger("pdbclient")

STREAM_TIMEOUT = 600.0

_Whole = tuple[tuple[Any, ...], int | None]


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a command.

    `uuids` has the uuid given by each server that took it (one, without broadcast), `attempts` what every server
    tried met. Taken means: durable in that server's queue, soon visible to queries there. With every server down,
    `uuids` is empty: then the command is in the journal under the uuid `journalled`, to be delivered; or it is lost,
    with `soft_write_failure`, and `error` says why.
    """

    command: Command
    uuids: Mapping[Endpoint, str]
    attempts: tuple[Attempt, ...]
    error: AllEndpointsFailed | None = None
    journalled: str | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """The first server that took it."""
        return next(iter(self.uuids), None)

    @property
    def uuid(self) -> str | None:
        """The uuid that `endpoint` gave, or the journal."""
        return next(iter(self.uuids.values()), self.journalled)

    @property
    def failed_over(self) -> bool:
        """Whether the server that comes first did not take it."""
        return bool(self.attempts) and self.attempts[0].endpoint not in self.uuids


@dataclass(frozen=True, slots=True)
class _FromServer:
    """Where an answer came from.

    `attempts` has what each server met that comes before this one, and then this one. `failed_over`: it was not
    the first of `server_urls`, because that one failed, or lacks what was written past it.
    """

    endpoint: Endpoint
    attempts: tuple[Attempt, ...]
    freshness: Freshness
    failed_over: bool


@dataclass(frozen=True, slots=True)
class QueryResult(_FromServer, Sequence[Any]):
    """A whole answer: a sequence of rows, and where it came from.

    `total` is the number of rows without paging, when the query asked for it with `include_total`.
    """

    rows: tuple[Any, ...]
    total: int | None = None

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Found(_FromServer):
    """One thing that was asked for by its address, and where the answer came from."""

    value: Any


@dataclass(frozen=True, slots=True)
class Rows(_FromServer, Iterator[Any]):
    """An answer that is read row by row, once. The rows are all there only if the iteration ends without an error.

    Use it as a context manager, or read it to its end: it holds a connection.
    """

    elements: Iterator[Any]

    def __next__(self) -> Any:
        return next(self.elements)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading."""
        close = getattr(self.elements, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server, asked just now. `version` and `queue_depth` are None when it did not say."""

    endpoint: Endpoint
    state: str
    version: str | None = None
    queue_depth: int | None = None
    error: str | None = None


class Client:
    """High availability for PuppetDB: commands to the primary first, queries to a server that is well.

    Thread-safe: share one client. It keeps connections open and remembers which servers failed; close it, or use
    it as a context manager. The only threads it makes are in the background, to see whether such a server is back.
    A forked child may go on with it, on connections of its own; fork between requests, not while another thread is
    in one: OpenSSL's locks do not survive that. Not with a journal, which belongs to one process.

    With a journal configured, commands are on disk before anything else, and what no server took is delivered in the
    background, by this client or the next one. Raises `JournalError` when the journal cannot be opened.
    """

    def __init__(self, config: ClientConfig, *, failover: Failover | None = None) -> None:
        self.config = config
        self._failover = failover or Failover(config)
        try:
            self._journal = Service.start(self._failover, config)
        except BaseException:
            self._failover.close()
            raise

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Self:
        """A client for the `puppetdb.conf` at `path` (None: where Puppet has it). Raises `ConfigError`."""
        return cls(load_config(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and end background threads."""
        if self._journal is not None:
            self._journal.close()
        self._failover.close()

    # -- commands

    def submit(self, command: Command) -> Submission:
        """Submit a command; it is stamped and encoded already, so every server gets the same bytes.

        Bodies from `gzip_min_bytes` on are compressed. Raises `Rejected` when a server calls the command bad, and
        `AllEndpointsFailed` when too few servers took it; the latter is logged and returned instead with
        `soft_write_failure`. With a journal, the command is accepted even then; `JournalError` is raised, and nothing
        sent, when it could not be put on disk.
        """
        for warning in command.warnings:
            log.warning("%s", warning)
        ready = command.gzipped() if command.length >= self.config.gzip_min_bytes else command
        try:
            accepted = self._sent(ready)
        except AllEndpointsFailed as error:
            if not self.config.soft_write_failure:
                raise
            log.error("%s; the command is lost, as soft_write_failure allows", error)
            return Submission(command, MappingProxyType({}), error.attempts, error)
        return Submission(command, accepted.uuids, accepted.attempts, journalled=accepted.journalled)

    def _sent(self, command: Command) -> Accepted:
        if self._journal is None:
            return self._failover.submit(command)
        return self._journal.submit(command, self._failover.submit)

    def submit_payload(self, name: str, payload: Mapping[str, object] | bytes, **stamp: Any) -> Submission:
        """Check, stamp and encode a payload (a mapping, or JSON bytes), and submit it as the command `name`.

        `name` is `replace facts`, `replace catalog`, `replace catalog inputs`, `store report`, `deactivate node`
        or `configure expiration`; `stamp` may give `certname` and `producer_timestamp`. Raises `InvalidCommand`
        with the path of what PuppetDB would refuse; nothing was sent then. Else as `submit`.
        """
        make = Command.from_bytes if isinstance(payload, bytes) else Command.create
        return self.submit(make(name, payload, now=datetime.now(UTC), **stamp))  # type: ignore[arg-type]

    # -- queries

    def query(
        self,
        query: QueryText | None = None,
        *,
        path: str = "",
        limit: int | None = None,
        offset: int | None = None,
        order_by: Sequence[Mapping[str, str]] | None = None,
        include_total: bool = False,
        timeout: float | None = None,
        **params: Any,
    ) -> QueryResult:
        """Ask a query and hold the whole answer in memory; a broken answer goes to the next server.

        `query` is PQL or AST; `path` an entity (`nodes`, `resources`, …) that an AST query is for. `limit`,
        `offset`, `order_by` (`[{"field": "certname", "order": "desc"}]`) and `include_total` page through it;
        each page may come from another server: use `stream` to read all. Further `params` go to PuppetDB as they
        are. `timeout` in seconds, above 0 and at most a day, is for the whole query, whatever it meets (default:
        `query_timeout`).

        Raises `InvalidQuery`, `Rejected` (the server does not understand it), `NotFound`, `AllEndpointsFailed`, and
        the `ServerError` that every server failed with which was asked; `ValueError` for a timeout that is none.
        """
        paging = {"limit": limit, "offset": offset, "order_by": order_by, "include_total": include_total or None}
        body = params | {key: value for key, value in paging.items() if value is not None}
        ask = _whole(query, path, body)
        answered = self._failover.read(_described(query, path), ask, timeout=checked_timeout(timeout))
        return _result(answered, answered.value, answered.freshness)

    def stream(
        self, query: QueryText | None = None, *, path: str = "", timeout: float = STREAM_TIMEOUT, **params: Any
    ) -> Rows:
        """Ask a query and read its answer row by row, in bounded memory, however long it is.

        A server that fails before its first row is passed over. Once rows were handed out that cannot be: a broken
        answer then raises `IncompleteResponse` or `DeadlineExceeded` from the iteration. `timeout` in seconds
        bounds the whole reading. Else as `query`.
        """

        def begin(session: Session, within: float) -> Iterator[Any]:
            return _begun(_select(session, query, path, params, within))

        checked_timeout(timeout)
        answered = self._failover.read(_described(query, path), begin, timeout=timeout, streamed=True)
        elements = self._watched(answered)
        return Rows(answered.endpoint, answered.attempts, answered.freshness, answered.failed_over, elements)

    def _watched(self, answered: Answered[Iterator[Any]]) -> Iterator[Any]:
        """The rows; an answer that breaks off counts against the server that gave it."""
        try:
            yield from answered.value
        except (TransportError, ServerError) as error:
            self._failover.broke(answered, error)
            raise
        self._failover.completed(answered)

    def get(self, path: str, *, timeout: float | None = None) -> Found:
        """One thing that PuppetDB has an address for: `nodes/CERTNAME`, `factsets/CERTNAME`, `catalogs/CERTNAME`.

        `path` is used as it is: percent-encode what stands in it (`urllib.parse.quote(certname, safe="")`). An
        address that PuppetDB does not have is `Rejected`; it has none below `factsets` for odd names. Raises
        `NotFound` when the first server that answers does not have it; the error's `attempts` tell whether a
        server that may have it failed before. Else as `query`.
        """

        def whole(session: Session, within: float) -> Any:
            return session.document(f"/pdb/query/v4/{address(path)}", within=within).value

        checked_timeout(timeout)
        answered = self._failover.read(f"GET {path}", whole, timeout=timeout)
        return Found(answered.endpoint, answered.attempts, answered.freshness, answered.failed_over, answered.value)

    def exported_resources(
        self, type_name: str, filters: Filter | None = None, *, for_certname: str, timeout: float | None = None
    ) -> QueryResult:
        """What the collector `Type <<| filters |>>` in the catalog of `for_certname` takes.

        The stock terminus's own query. `filters` as `pdbclient.wire.parse_collector` gives them. An answer with
        `freshness.stale` may be older than what another server has accepted. With a journal, whoever answers has got
        from it first what it lacked; when that takes longer than `stale_exported_budget`, the answer is stale, or
        with `stale_exported = fail`, `StaleAnswer` is raised. Errors else as for `query`.
        """
        query = exported_resources(type_name, filters, for_certname)
        journal = self._journal
        if journal is None:
            return self.query(query, path="resources", timeout=timeout)
        checked_timeout(timeout)
        ask = _whole(query, "resources", {})

        def up_to_date(session: Session, within: float) -> tuple[_Whole, Freshness]:
            return journal.answer(session, within, lambda left: ask(session, left))

        answered = self._failover.read(_described(query, "resources"), up_to_date, timeout=timeout)
        rows, freshness = answered.value
        return _result(answered, rows, freshness)

    # -- the servers

    def status(self) -> tuple[ServerStatus, ...]:
        """Ask every server how it is, all at once; one that is silent is given some seconds."""

        def ask(session: Session, within: float) -> tuple[Any, Any]:
            status = session.document(STATUS_PATH, within=within).value
            return status, session.document("/pdb/meta/v1/version", within=within).value

        answers = self._failover.ask_all(ask)
        return tuple(_status(endpoint, answer) for endpoint, answer in answers.items())

    def next_in_line(self, operation: Operation) -> tuple[Endpoint, ...]:
        """The servers that a command or a query would be sent to now, in order, as far as this client knows."""
        return self._failover.next_in_line(operation)

    def health(self) -> Mapping[tuple[Endpoint, Operation], Health]:
        """What this client remembers of each server."""
        return self._failover.registry.health()


def _whole(query: QueryText | None, path: str, params: Mapping[str, Any]) -> Callable[[Session, float], _Whole]:
    """The attempt that reads the whole answer: its rows, and the total without paging."""

    def whole(session: Session, within: float) -> _Whole:
        answer = _select(session, query, path, params, within)
        rows = tuple(value for value, _ in answer.elements)
        return rows, _total(session, answer.headers.get("X-Records"))

    return whole


def _result(answered: Answered[Any], whole: _Whole, freshness: Freshness) -> QueryResult:
    rows, total = whole
    return QueryResult(answered.endpoint, answered.attempts, freshness, answered.failed_over, rows, total)


def _select(
    session: Session,
    query: QueryText | None,
    path: str,
    params: Mapping[str, Any],
    within: float,
) -> Selection:
    checked_query = query if query is None and path else checked(query or "")
    path = f"/{address(path)}" if path else ""
    return session.select(path, query=checked_query, params=params, within=within)


def _total(session: Session, text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise IncompleteResponse(session.endpoint.url, f"a total number of rows that is none: {text[:50]!r}")
    return None if text is None else int(text)


def _begun(selection: Selection) -> Iterator[Any]:
    """The rows of an answer whose first row is there: until then, another server can still be asked."""
    nothing = object()
    values = (value for value, _ in selection.elements)
    first = next(values, nothing)

    def rows() -> Iterator[Any]:
        if first is not nothing:
            yield first
        yield from values

    return rows()


def _status(endpoint: Endpoint, answer: tuple[Any, Any] | TransportError | ServerError) -> ServerStatus:
    if isinstance(answer, Exception):
        return ServerStatus(endpoint, "unreachable", error=str(answer))
    status, meta = read_status(answer[0]), answer[1]
    version = meta.get("version") if isinstance(meta, dict) else None
    return ServerStatus(endpoint, status.state or "unknown", version, status.queue_depth)


def _described(query: QueryText | None, path: str) -> str:
    text = query if isinstance(query, str) else repr(query or "")
    return f"query {path or 'v4'} {text[:200]}".rstrip()
