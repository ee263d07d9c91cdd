"""One attempt to one PuppetDB: requests, mutual TLS and one real deadline. No failover, no retries.

The one exception: an idle connection that the server had closed is replaced silently, once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import requote_uri

from pdbclient.config.model import Endpoint, Timeouts, TlsFiles
from pdbclient.errors import (
    Ambiguous,
    DeadlineExceeded,
    IncompleteResponse,
    Misrouted,
    NotSent,
    ServerError,
    TlsError,
    TransportError,
)
from pdbclient.http.connection import Prepared, Trace, TracingAdapter, tracing
from pdbclient.http.outcome import Operation, answer_of_puppetdb, error_for_status
from pdbclient.http.status import STATUS_PATH, read_status
from pdbclient.http.stream import ArrayReader, MalformedJson, RowReader, decode_document
from pdbclient.http.tls import client_context
from pdbclient.http.whole import Whole
from pdbclient.wire.command import Command
from pdbclient.wire.query import InvalidQuery, QueryText

__all__ = ["Document", "Page", "Selection", "Session"]

log = logging.getLogger("pdbclient.http")

STATUS_LIMIT = 3.0
"""Seconds that any server has for its status."""

CHUNK = 64 * 1024
ERROR_BODY_LIMIT = 64 * 1024
DOCUMENT_LIMIT = 64 * 1024 * 1024
# OpenSSL's verdicts that come from a revocation list: none for this CA, not yet valid, outdated, revoked.
CRL_VERDICTS = (3, 11, 12, 23)

# U+0000 in JSON text: not a backslash that is itself escaped.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000").search

_ENCODED = {"Accept-Encoding": "gzip", "User-Agent": "pdbclient"}
# What PuppetDB says when a query fails after the 200 has gone out; no entity has a field of that name.
_ERROR_OBJECT = re.compile(rb'\s*\{\s*"error"').match

_JSON = {"Accept": "application/json", **_ENCODED}
_POST_JSON = {**_JSON, "Content-Type": "application/json; charset=utf-8"}

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

    Every method takes `within`, the seconds that the attempt may last in all (default: `timeouts.attempt`), and
    raises the errors of one attempt: `TransportError` and its kinds when there was no usable answer,
    `ServerError` and its kinds when PuppetDB answered with an error status.
    """

    def __init__(
        self, endpoint: Endpoint, tls: TlsFiles, timeouts: Timeouts, *, context: ssl.SSLContext | None = None
    ) -> None:
        self.endpoint = endpoint
        self._url = endpoint.url
        self._tls = tls
        self._timeouts = timeouts
        self._context = context or client_context(tls)
        self._open()

    def _open(self) -> None:
        self._adapter = TracingAdapter(self.endpoint.host, self.endpoint.port, self._context)
        # Last: in a forked child, a thread that sees its own pid here must not meet the parent's connections.
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the idle connections. The session opens new ones when it is used again."""
        self._adapter.close()

    def submit(self, command: Command, *, within: float | None = None) -> str:
        """Post a command; the uuid under which the server has queued it (durable there, not yet applied)."""
        headers = {**_POST_JSON, "X-Uncompressed-Length": str(command.length)}
        if command.encoding != "identity":
            headers["Content-Encoding"] = command.encoding
        target = f"/pdb/cmd/v1?{urlencode(command.params())}"
        response = self._send("POST", target, Operation.COMMAND, within, body=command.body, headers=headers)
        answer = self._document(response)
        uuid = answer.get("uuid") if isinstance(answer, dict) else None
        if not isinstance(uuid, str):
            raise IncompleteResponse(self._url, "answered 200 to a command, but without a uuid")
        return uuid

    def select(
        self,
        path: str,
        *,
        query: QueryText | None = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
        patience: float | None = None,
    ) -> Selection:
        """Query `/pdb/query/v4{path}`: the answer's headers, its rows still to be read.

        `params` are further parameters of the query (`limit`, `include_package_inventory`, …), `patience` the
        seconds to wait for the first byte when that may take longer than the read limit. Raises `InvalidQuery`
        for a query that cannot be written as JSON.
        """
        response = self._query(path, query=query, params=params, within=within, patience=patience)
        return Selection(CaseInsensitiveDict(response.headers), self._read(response, ArrayReader()))

    def rows(self, path: str, **options: Any) -> Iterator[bytes]:
        """As `select`, every row's exact JSON text, as it arrives.

        The rows are all there only when the iterator ends without an error: a broken answer raises
        `IncompleteResponse`.
        """
        response = self._query(path, **options)
        yield from self._read(response, RowReader())

    def records(self, path: str, **options: Any) -> Iterator[Any]:
        """As `rows`, with each row decoded."""
        for value, _ in self.select(path, **options).elements:
            yield value

    def document(self, path: str, *, within: float | None = None) -> Document:
        """GET a JSON document that fits in memory (status, version, metrics) from an absolute path."""
        response = self._send("GET", requote_uri(path), Operation.QUERY, within, headers=_JSON)
        return Document(self._document(response), CaseInsensitiveDict(response.headers))

    def relay(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str],
        within: float | None = None,
        patience: float | None = None,
    ) -> Page:
        """Pass a request on as it came: `target` is the path with its query string. Its answer is not decoded.

        An answer that is JSON, or should be, and breaks off or is an error in its place raises `IncompleteResponse`
        from the iteration.
        """
        headers = {**headers, **_ENCODED}
        response = self._send(method, target, Operation.QUERY, within, patience, body=body, headers=headers)
        # PuppetDB's own API answers JSON: whatever else says 200 there is none of it.
        is_json = target.startswith("/pdb/") or "json" in response.headers.get("Content-Type", "")
        chunks = self._passed(response, is_json and method != "HEAD", target.startswith("/pdb/query/"))
        return Page(CaseInsensitiveDict(response.headers), chunks)

    def _query(
        self,
        path: str,
        *,
        query: QueryText | None = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
        patience: float | None = None,
    ) -> requests.Response:
        body = _query_body(query, params)
        path = f"/pdb/query/v4{path}"
        return self._send("POST", path, Operation.QUERY, within, patience, body=body, headers=_POST_JSON)

    def _passed(self, response: requests.Response, is_json: bool, is_query: bool) -> Iterator[bytes]:
        whole = Whole()
        beginning = b""
        try:
            for chunk in self._chunks(response):
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
            response.close()

    def _read(self, response: requests.Response, reader: _Reader[T]) -> Iterator[T]:
        try:
            for chunk in self._chunks(response):
                yield from reader.feed(chunk)
            yield from reader.close()
        except MalformedJson as error:
            raise IncompleteResponse(self._url, str(error), reader.rows) from error
        finally:
            response.close()

    def _document(self, response: requests.Response) -> Any:
        try:
            body = bytearray()
            for chunk in self._chunks(response):
                body += chunk
                if len(body) > DOCUMENT_LIMIT:
                    raise IncompleteResponse(self._url, f"an answer of more than {DOCUMENT_LIMIT} bytes")
            return decode_document(bytes(body))
        except MalformedJson as error:
            raise IncompleteResponse(self._url, str(error)) from error
        finally:
            response.close()

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(CHUNK, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if _timed_out(error):
                raise DeadlineExceeded(self._url, "the answer stopped, or took longer than allowed") from error
            raise IncompleteResponse(self._url, f"the answer broke off: {_root(error)}") from error

    def _send(
        self,
        method: str,
        target: str,
        operation: Operation,
        within: float | None,
        patience: float | None = None,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> requests.Response:
        """The answer with status 200, its body still to be read; every other end is an error."""
        if self._pid != os.getpid():
            # The parent's connections are the parent's: two processes must not write into one TLS stream.
            self._open()
        if within is None:
            within = self._timeouts.attempt or float("inf")
        request = Prepared(method, self._url, target, headers, body)
        trace = Trace(time.monotonic() + within, patience or self._timeouts.read)
        response: requests.Response | None = None
        try:
            response = self._attempt(request, trace)
        except Ambiguous as error:
            reused = trace.sending and not trace.connected
            if not reused or isinstance(error, DeadlineExceeded):
                raise
        if response is None:
            trace = Trace(trace.deadline, trace.inactivity, fresh=True)
            try:
                response = self._attempt(request, trace)
            except NotSent as error:
                error.maybe_sent = True
                raise
        if trace.socket is not None:
            trace.socket.inactivity = self._timeouts.read
        if response.status_code != 200:
            with response:
                answered = _status_error(self._url, response, operation)
            raise self._verified(answered, operation, trace.deadline, target)
        return response

    def _verified(self, error: ServerError, operation: Operation, deadline: float, target: str) -> ServerError:
        """`error`, or what it means where a running PuppetDB gave it: an address that it does not have."""
        if not isinstance(error, Misrouted) or operation is not Operation.QUERY or target == STATUS_PATH:
            return error
        within = min(STATUS_LIMIT, max(deadline - time.monotonic(), 0.001))
        try:
            running = read_status(self.document(STATUS_PATH, within=within).value).running
        except (TransportError, ServerError) as why:
            log.debug("%s: HTTP %d, and its status cannot be had: %s", self._url, error.status, why)
            running = False
        return answer_of_puppetdb(error) if running else error

    def _attempt(self, request: Prepared, trace: Trace) -> requests.Response:
        left = max(trace.deadline - time.monotonic(), 0.001)
        tracing.trace = trace
        try:
            limits = (min(self._timeouts.connect, left), min(trace.inactivity, left))
            return self._adapter.send(request, stream=True, timeout=limits)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._transport_error(error, trace) from error
        finally:
            tracing.trace = None

    def _transport_error(self, error: Exception, trace: Trace) -> TransportError:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return TlsError(self._url, f"its certificate is not accepted: {self._verdict(cause)}")
            if isinstance(cause, ssl.SSLError) and "_ALERT_" in (cause.reason or ""):
                ours = f"certificate {self._tls.cert}" if self._tls.cert else "connection without a certificate"
                return TlsError(self._url, f"it refuses our {ours}: {cause.reason}")
        timed_out = _timed_out(error)
        if not trace.sending:
            if timed_out:
                return NotSent(self._url, "no connection (TCP and TLS) within the connect timeout")
            return NotSent(self._url, f"no connection: {_root(error)}")
        if timed_out:
            return DeadlineExceeded(self._url, "no answer within the read timeout or the deadline")
        return Ambiguous(self._url, f"the connection broke before an answer: {_root(error)}")

    def _verdict(self, error: ssl.SSLCertVerificationError) -> str:
        """OpenSSL's words, and the file that they follow from."""
        judged_by = f"ssl_crl {self._tls.crl}" if error.verify_code in CRL_VERDICTS else f"ssl_ca_cert {self._tls.ca}"
        return f"{error.verify_message} ({judged_by})"


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


def _status_error(url: str, response: requests.Response, operation: Operation) -> ServerError:
    try:
        body = response.raw.read(ERROR_BODY_LIMIT, decode_content=True) or b""
    except (urllib3.exceptions.HTTPError, OSError):
        # The status is the answer; its explanation got lost.
        body = b""
    error = error_for_status(url, response.status_code, response.headers, body, operation)
    assert error is not None, response.status_code
    error.headers, error.body = CaseInsensitiveDict(response.headers), body
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps, outermost first: causes, contexts, and what urllib3 hides in arguments."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if isinstance(current, BaseException) and current not in seen:
            seen.append(current)
            yield current
            todo += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]


def _timed_out(error: BaseException) -> bool:
    # Not urllib3's own class: its "connection refused" is a kind of it.
    return any(isinstance(cause, TimeoutError) for cause in _causes(error))


def _root(error: BaseException) -> str:
    """The innermost cause in a few words: `Connection refused`, not three classes with an address each."""
    *_, last = _causes(error)
    return (getattr(last, "strerror", None) or str(last) or type(last).__name__)[:200]
