"""One attempt at one PuppetDB: requests, mutual TLS, one real deadline, and a bounded number of places.

No failover, no retries, but for one: an idle connection that the server had closed is replaced silently, once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import requests
import urllib3

from pdbclient.config.model import Endpoint, Timeouts, TlsFiles
from pdbclient.errors import (
    Ambiguous,
    ConfigError,
    DeadlineExceeded,
    IncompleteResponse,
    Misrouted,
    NoPlace,
    NotSent,
    ServerError,
    TransportError,
    Unresponsive,
)
from pdbclient.http.blame import broken_answer, no_answer
from pdbclient.http.connection import Prepared, Trace, TracingAdapter, tracing
from pdbclient.http.outcome import (
    ACCEPTED,
    Operation,
    Outcome,
    answer_of_puppetdb,
    answer_to_status,
    error_for_status,
)
from pdbclient.http.places import Places
from pdbclient.http.pulse import Pulse, Waiting
from pdbclient.http.status import STATUS_PATH, Status, read_status
from pdbclient.http.stream import MalformedJson, decode_document
from pdbclient.http.tls import TlsState, client_context, tls_state

__all__ = ["ENCODED", "GET_JSON", "PLACES", "STATUS_LIMIT", "Answer", "Sender", "caller_left", "going_on"]

log = logging.getLogger("pdbclient.http")

STATUS_LIMIT = 3.0
"""Seconds that any server has for its status."""
PLACES = 32
"""Commands, and queries, that one server is sent at once, where nothing else is said."""

LOOK_AT_FILES = 5.0
"""Seconds between looks at the TLS files."""
SAID_EVERY = 60.0
DAY = 86400.0
CHUNK = 64 * 1024
ERROR_BODY_LIMIT = 4 * 1024 * 1024
EXPLANATION = 1.0
"""Seconds that the body of an error has: its status is the answer, and another server may be waiting to be asked."""
DOCUMENT_LIMIT = 64 * 1024 * 1024
ENCODED = {"Accept-Encoding": "gzip", "User-Agent": "pdbclient"}
GET_JSON = {"Accept": "application/json", **ENCODED}


class Answer:
    """An answer, its body still to be read. Its place is free once it is closed, or forgotten.

    `close` may be called many times.
    """

    def __init__(self, url: str, response: requests.Response, trace: Trace, leave: Callable[[], None]) -> None:
        self._url = url
        self._raw, self._trace = response.raw, trace
        self.status = response.status_code
        self.headers = response.headers
        self.close = weakref.finalize(self, _end, response, leave)
        self.close.atexit = False

    def chunks(self) -> Iterator[bytes]:
        """The body, decompressed, as it comes. Raises the errors of an attempt."""
        stream = self._raw.stream(CHUNK, decode_content=True)
        chunk = b"-"
        while chunk:
            outer = sys.exc_info()[1]
            try:
                chunk = next(stream, b"")
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise broken_answer(self._url, error, self._trace.waiting.given_up, outer) from error
            if chunk:
                yield chunk

    def document(self) -> Any:
        """The body as one JSON document; it is closed then. Raises `IncompleteResponse`, too, for what is none."""
        try:
            body = bytearray()
            for chunk in self.chunks():
                body += chunk
                if len(body) > DOCUMENT_LIMIT:
                    raise IncompleteResponse(self._url, f"an answer of more than {DOCUMENT_LIMIT} bytes")
            return decode_document(bytes(body))
        except MalformedJson as error:
            raise IncompleteResponse(self._url, str(error)) from error
        finally:
            self.close()

    def error(self, operation: Operation) -> ServerError:
        """What another status than 200 stands for; it is closed then.

        Its `body` is PuppetDB's whole one; of one that did not come whole and in time, or is too long, one line.
        """
        self._trace.deadline = min(self._trace.deadline, time.monotonic() + EXPLANATION)
        try:
            body = self._raw.read(ERROR_BODY_LIMIT + 1, decode_content=True) or b""
            lost = "is too long" if len(body) > ERROR_BODY_LIMIT else None
        except (urllib3.exceptions.HTTPError, OSError) as why:
            log.debug("%s: HTTP %d, and its explanation got lost: %s", self._url, self.status, why)
            body, lost = b"", "did not come"
        finally:
            self.close()
        error = error_for_status(self._url, self.status, self.headers, body, operation)
        assert error is not None, self.status
        error.headers, error.body = self.headers, body
        if lost is not None:
            headers = self.headers.copy()
            headers["Content-Type"] = "text/plain; charset=utf-8"
            error.headers = headers
            error.body = f"{error.reason} (what PuppetDB says of it {lost})\n".encode()
        return error


def _end(response: requests.Response, leave: Callable[[], None]) -> None:
    try:
        response.close()
    finally:
        leave()


caller_left: ContextVar[threading.Event | None] = ContextVar("caller_left", default=None)
"""Set when whoever asked has gone: requests that began in this context, and their answers, end with `CallerLeft`."""


elsewhere: ContextVar[bool] = ContextVar("elsewhere", default=False)
"""Whether another server can be asked instead: then nobody waits for a place where none becomes free."""


@contextmanager
def going_on(others: bool) -> Iterator[None]:
    """What is sent inside can go to another server instead, or not."""
    token = elsewhere.set(others)
    try:
        yield
    finally:
        elsewhere.reset(token)


class Sender:
    """Sends requests to one PuppetDB. Thread-safe, and safe to use after a fork.

    At most `places` commands, and as many queries, are under way at a time. TLS files that are replaced are taken
    up; when they cannot be used, the old ones stay, which is said once a minute. Raises `ConfigError`.
    """

    def __init__(
        self, endpoint: Endpoint, tls: TlsFiles, timeouts: Timeouts, places: int, gateway: str | None = None
    ) -> None:
        self._endpoint, self._url, self._gateway = endpoint, endpoint.url, gateway
        self._tls, self._timeouts = tls, timeouts
        self._size = places
        # Before they are read: what is replaced in between is read again.
        self._seen = tls_state(tls)
        self._context = client_context(tls)
        self._looked_at, self._said_at = time.monotonic(), float("-inf")
        self._former: TracingAdapter | None = None
        self._open()

    def _open(self) -> None:
        self._adapter = self._new_adapter()
        self._places = {operation: Places(self._size) for operation in Operation}
        self._pulse = Pulse(self._asked)
        # Last: in a forked child, a thread that sees its own pid here must not meet the parent's connections.
        self._pid = os.getpid()

    def _new_adapter(self) -> TracingAdapter:
        return TracingAdapter(self._endpoint.host, self._endpoint.port, self._context, 2 * self._size + 1)

    def close(self) -> None:
        """Close the idle connections. The session opens new ones when it is used again."""
        if self._pid != os.getpid():
            # The parent's threads and locks are the parent's.
            self._open()
            return
        self._pulse.close()
        self._pulse = Pulse(self._asked)
        self._adapter.close()
        self._close_former()

    def ask(self) -> Outcome:
        """How the server is: `ACCEPTED` when its status says that it runs, else what the question met.

        Never takes longer than `STATUS_LIMIT`, nor a place. Requests that the server keeps waiting in silence, and
        that have nothing to hope for any more, end then.
        """
        self._renew()
        return self._pulse.ask()

    def _asked(self) -> Outcome:
        try:
            state = self._status(STATUS_LIMIT).state
            if state is None:
                raise ServerError(self._url, 200, "that is no PuppetDB: what it says of itself has no state")
            if state != "running":
                raise ServerError(self._url, 200, f"its state is {state[:50]!r}, not 'running'")
        except (TransportError, ServerError) as error:
            log.debug("health check: %s", error)
            return Outcome.of(error)
        return ACCEPTED

    def send(
        self,
        method: str,
        target: str,
        operation: Operation,
        within: float | None,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        inactivity: float | None = None,
    ) -> Answer:
        """The answer with status 200, its body still to be read; every other end is an error.

        `inactivity`: seconds that the answer to a command may stop for (default: `timeouts.read`).
        """
        self._renew()
        is_command = operation is Operation.COMMAND
        if within is None:
            within = (self._timeouts.attempt or float("inf")) if is_command else self._timeouts.query
        request = Prepared(method, self._url, target, headers, body, self._gateway)
        end = time.monotonic() + within
        if target == STATUS_PATH:
            # Asked beside what waits: it takes no place, and nothing is asked about it.
            answer = Answer(self._url, *self._attempted(request, Trace(end, STATUS_LIMIT, Waiting())), lambda: None)
        else:
            if inactivity is None:
                inactivity = self._timeouts.read if is_command else float("inf")
            answer = self._placed(request, operation, end, inactivity)
        if answer.status != 200:
            raise self._verified(answer.error(operation), operation, end, target)
        return answer

    def _status(self, within: float) -> Status:
        return read_status(self.send("GET", STATUS_PATH, Operation.QUERY, within, headers=GET_JSON).document())

    def _renew(self) -> None:
        if self._pid != os.getpid():
            # The parent's connections are the parent's: two processes must not write into one TLS stream.
            self._open()
        now = time.monotonic()
        if now - self._looked_at >= LOOK_AT_FILES:
            self._looked_at = now
            self._close_former()
            if (state := tls_state(self._tls)) != self._seen:
                self._take_files(state, now)

    def _take_files(self, state: TlsState, now: float) -> None:
        """Use the TLS files as they are now for new connections: all of them, or none."""
        try:
            self._context = client_context(self._tls)
        except (ConfigError, OSError) as error:
            if now - self._said_at >= SAID_EVERY:
                self._said_at = now
                log.warning(
                    "%s: the replaced TLS files cannot be used, the old ones stay for now: %s", self._url, error
                )
            return
        self._seen = state
        # The old one is closed when the files are looked at next: a thread may be about to use it.
        self._former, self._adapter = self._adapter, self._new_adapter()

    def _close_former(self) -> None:
        former, self._former = self._former, None
        if former is not None:
            former.close()

    def _placed(self, request: Prepared, operation: Operation, end: float, inactivity: float) -> Answer:
        """The answer to `request`, which holds a place until it is closed."""
        places, pulse = self._places[operation], self._pulse
        waiting = pulse.waiting(operation, caller_left.get())
        trace = Trace(end, inactivity, waiting)
        with ExitStack() as held:
            held.callback(pulse.ended, waiting)
            try:
                taken = places.take(trace.look_up, elsewhere=elsewhere.get())
            except TimeoutError:
                taken = False
            except ConnectionAbortedError as error:
                raise no_answer(self._url, self._tls, error, trace, None) from error
            if not taken:
                raise NoPlace(self._url, f"{self._size} requests are under way there, and none of them ends")
            held.callback(places.give_back)
            answered = self._attempted(request, trace)
            return Answer(self._url, *answered, held.pop_all().close)

    def _attempted(self, request: Prepared, trace: Trace) -> tuple[requests.Response, Trace]:
        """Made once, or twice when it went over an idle connection which the server may have closed by itself."""
        try:
            return self._attempt(request, trace), trace
        except Ambiguous as error:
            reused = trace.sending and not trace.connected and not trace.answering
            if not reused or isinstance(error, DeadlineExceeded | Unresponsive):
                raise
        again = trace.again()
        try:
            return self._attempt(request, again), again
        except NotSent as error:
            error.maybe_sent = True
            raise

    def _verified(self, error: ServerError, operation: Operation, deadline: float, target: str) -> ServerError:
        """`error`, or what it means where a running PuppetDB gave it: an address that it does not have."""
        if target == STATUS_PATH:
            return answer_to_status(error)
        if not isinstance(error, Misrouted) or operation is not Operation.QUERY:
            return error
        within = min(STATUS_LIMIT, max(deadline - time.monotonic(), 0.001))
        try:
            status = self._status(within)
        except (TransportError, ServerError) as why:
            log.debug("%s: HTTP %d, and no status from it: %s", self._url, error.status, why)
            return why if isinstance(why, Misrouted) else error
        return answer_of_puppetdb(error) if status.running else error

    def _attempt(self, request: Prepared, trace: Trace) -> requests.Response:
        left = max(trace.deadline - time.monotonic(), 0.001)
        trace.hurried = left < self._timeouts.connect
        tracing.trace, outer = trace, sys.exc_info()[1]
        try:
            # The socket itself knows its limits; what is given here must only be a number that a clock can hold.
            limits = (min(self._timeouts.connect, left), min(trace.inactivity, left, DAY))
            return self._adapter.send(request, stream=True, timeout=limits)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, MemoryError) as error:
            raise no_answer(self._url, self._tls, error, trace, outer) from error
        finally:
            tracing.trace = None
