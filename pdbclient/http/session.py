"""What one PuppetDB is asked: commands, queries, documents, one attempt each. No failover."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from requests.utils import requote_uri

from pdbclient.config.model import Endpoint, Timeouts, TlsFiles
from pdbclient.errors import IncompleteResponse
from pdbclient.http.json_completeness import JsonCompleteness
from pdbclient.http.outcome import Operation, Outcome
from pdbclient.http.sender import ENCODED, GET_JSON, PLACES, Answer, Sender
from pdbclient.http.stream import ArrayReader, MalformedJson, RowReader
from pdbclient.wire.command import Command
from pdbclient.wire.query import InvalidQuery, QueryText

__all__ = ["Document", "Page", "Selection", "Session"]

# U+0000 in JSON text: not a backslash that is itself escaped.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000").search

# What PuppetDB says when a query fails after the 200 has gone out; no entity has a field of that name.
_ERROR_OBJECT = re.compile(rb'\s*\{\s*"error"').match

_POST_JSON = {**GET_JSON, "Content-Type": "application/json; charset=utf-8"}

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Reader(Protocol[T_co]):
    @property
    def rows(self) -> int: ...

    def feed(self, chunk: bytes) -> Iterator[T_co]: ...

    def close(self) -> Iterator[T_co]: ...


@dataclass(frozen=True, slots=True)
class Document:
    """A whole JSON answer and the headers it came with (names in any case)."""

    value: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """A query's answer on its way: its headers, and each row as a pair of the decoded value and its exact text."""

    headers: Mapping[str, str]
    elements: Iterator[tuple[Any, str]]


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to be passed on: its headers, and its bytes as they come. Only the iteration's end makes it whole."""

    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Session:
    """HTTP to one PuppetDB. Thread-safe, and safe to use after a fork.

    Every method takes `within`, the seconds that the attempt may last in all, its last byte included (default:
    `timeouts.attempt` for a command, `timeouts.query` for a query), and raises the errors of one attempt:
    `TransportError` and its kinds when there was no usable answer, `ServerError` and its kinds when PuppetDB answered
    with an error status. A query may take all of that time as long as the server says meanwhile that it runs; the
    answer to a command never stops for longer than `timeouts.read`.

    At most `places` commands, and as many queries, are under way at a time. `gateway` is the name of the gateway that
    this is a session of, if any: see `via`. Raises `ConfigError` for TLS files that
    cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tls: TlsFiles,
        timeouts: Timeouts,
        *,
        places: int = PLACES,
        gateway: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._url, self._timeouts = endpoint.url, timeouts
        self._sender = Sender(endpoint, tls, timeouts, places, gateway)

    def close(self) -> None:
        """Close the idle connections. The session opens new ones when it is used again."""
        self._sender.close()

    def ask(self) -> Outcome:
        """How the server is: `ACCEPTED` when its status says that it runs, else what the question met.

        Never takes longer than some seconds, nor a place. Requests that the server keeps waiting in silence, and that
        have nothing to hope for any more, end then.
        """
        return self._sender.ask()

    def submit(self, command: Command, *, within: float | None = None) -> str:
        """Post a command; the uuid under which the server has queued it (durable there, not yet applied)."""
        document = self._post(command, {}, within).document()
        uuid = document.get("uuid") if isinstance(document, dict) else None
        if not isinstance(uuid, str):
            raise IncompleteResponse(self._url, "answered 200 to a command, but without a uuid")
        return uuid

    def submit_and_wait(self, command: Command, seconds: float, *, within: float) -> Any:
        """Post a command to a server that is to wait up to `seconds` for its processing: the JSON that it answers.

        One that was accepted, but not processed by then, is a `Busy` whose `body` says so.
        """
        params = {"secondsToWaitForCompletion": f"{seconds:.3f}"}
        return self._post(command, params, within, inactivity=seconds + self._timeouts.read).document()

    def _post(
        self, command: Command, params: Mapping[str, str], within: float | None, inactivity: float | None = None
    ) -> Answer:
        headers = {**_POST_JSON, "X-Uncompressed-Length": str(command.length)}
        if command.encoding != "identity":
            headers["Content-Encoding"] = command.encoding
        target = f"/pdb/cmd/v1?{urlencode([*command.params(), *params.items()])}"
        return self._sender.send(
            "POST", target, Operation.COMMAND, within, body=command.body, headers=headers, inactivity=inactivity
        )

    def select(
        self,
        path: str,
        *,
        query: QueryText | None = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> Selection:
        """Query `/pdb/query/v4{path}`: the answer's headers, its rows still to be read.

        `params` are further parameters of the query (`limit`, `include_package_inventory`, …). Raises `InvalidQuery`
        for a query that cannot be written as JSON.
        """
        answer = self._query(path, query=query, params=params, within=within)
        return Selection(answer.headers, self._read(answer, ArrayReader()))

    def rows(self, path: str, **options: Any) -> Iterator[bytes]:
        """As `select`, every row's exact JSON text, as it arrives.

        The rows are all there only when the iterator ends without an error: a broken answer raises
        `IncompleteResponse`.
        """
        answer = self._query(path, **options)
        yield from self._read(answer, RowReader())

    def records(self, path: str, **options: Any) -> Iterator[Any]:
        """As `rows`, with each row decoded."""
        for value, _ in self.select(path, **options).elements:
            yield value

    def document(self, path: str, *, within: float | None = None) -> Document:
        """GET a JSON document that fits in memory (status, version, metrics) from an absolute path."""
        answer = self._sender.send("GET", requote_uri(path), Operation.QUERY, within, headers=GET_JSON)
        return Document(answer.document(), answer.headers)

    def relay(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str],
        within: float | None = None,
    ) -> Page:
        """Pass a request on as it came: `target` is the path with its query string. Its answer is not decoded.

        An answer that is JSON, or should be, and breaks off or is an error in its place raises `IncompleteResponse`
        from the iteration.
        """
        headers = {**headers, **ENCODED}
        answer = self._sender.send(method, target, Operation.QUERY, within, body=body, headers=headers)
        # PuppetDB's own API answers JSON: whatever else says 200 there is none of it.
        is_json = target.startswith("/pdb/") or "json" in answer.headers.get("Content-Type", "")
        chunks = self._passed(answer, is_json and method != "HEAD", target.startswith("/pdb/query/"))
        return Page(answer.headers, chunks)

    def _query(
        self,
        path: str,
        *,
        query: QueryText | None = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> Answer:
        body = _query_body(query, params)
        path = f"/pdb/query/v4{path}"
        return self._sender.send("POST", path, Operation.QUERY, within, body=body, headers=_POST_JSON)

    def _passed(self, answer: Answer, is_json: bool, is_query: bool) -> Iterator[bytes]:
        whole = JsonCompleteness()
        beginning = b""
        try:
            for chunk in answer.chunks():
                if is_json:
                    whole.feed(chunk)
                if is_query and len(beginning) < 100:
                    beginning += chunk[:100]
                    if _ERROR_OBJECT(beginning):
                        raise MalformedJson(f"an error for an answer: {beginning.decode('utf-8', 'replace')!r}")
                yield chunk
            if is_json:
                whole.close()
        except MalformedJson as error:
            raise IncompleteResponse(self._url, str(error)) from error
        finally:
            answer.close()

    def _read(self, answer: Answer, reader: _Reader[T]) -> Iterator[T]:
        try:
            for chunk in answer.chunks():
                yield from reader.feed(chunk)
            yield from reader.close()
        except MalformedJson as error:
            raise IncompleteResponse(self._url, str(error), reader.rows) from error
        finally:
            answer.close()


def _query_body(query: QueryText | None, params: Mapping[str, Any] | None) -> bytes:
    body = dict(params or {})
    if query is not None:
        body["query"] = query
    try:
        text = json.dumps(body, allow_nan=False, ensure_ascii=False)
        if _NUL(text):
            raise InvalidQuery("this query has U+0000 in it, which PuppetDB's database cannot hold, let alone find")
        return text.encode()
    except InvalidQuery:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        # UnicodeEncodeError (a lone surrogate) is a ValueError.
        raise InvalidQuery(f"this query cannot be written as JSON: {error}") from error
