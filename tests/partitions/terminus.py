"""Requests as the stock terminus makes them: the servers in order, and on to the next one when one fails.

What makes it go on is a connection that fails or breaks, its own timeout for all of one attempt, a status of 500 or
more, and a 404. Any other answer is the answer.
"""

from __future__ import annotations

import http.client
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast
from urllib.parse import urlsplit

from .history import TIMEOUT

__all__ = ["Attempt", "StockAnswer", "StockRequest", "attempt", "attempts", "within"]

T = TypeVar("T")

SLACK = 0.5
"""Seconds that a thread has beyond its own deadline, before it is given up: a look-up of a name knows no limit."""


@dataclass(frozen=True, slots=True)
class StockRequest:
    """What is sent to any of the servers."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StockAnswer:
    """A whole answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at `url`: its answer, or why there is none. `at` is monotonic, `took` in seconds."""

    url: str
    at: float
    took: float
    answer: StockAnswer | None = None
    error: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the terminus asks the next server then."""
        return self.answer is None or self.answer.status >= 500 or self.answer.status == 404


def attempts(urls: Sequence[str], request: StockRequest, tls: ssl.SSLContext, seconds: float) -> Iterator[Attempt]:
    """One attempt after the other, `seconds` for each, until one ends it."""
    for url in urls:
        made = attempt(url, request, tls, seconds)
        yield made
        if not made.goes_on:
            return


def attempt(url: str, request: StockRequest, tls: ssl.SSLContext, seconds: float) -> Attempt:
    """Send it there on a connection of its own, as Puppet Server does, and read all of the answer."""
    at = time.monotonic()
    try:
        answer = within(seconds + SLACK, lambda: _exchange(url, request, tls, at + seconds))
    except TimeoutError:
        return Attempt(url, at, time.monotonic() - at, error=TIMEOUT)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Attempt(url, at, time.monotonic() - at, error=f"{type(error).__name__}: {error}")
    return Attempt(url, at, time.monotonic() - at, answer)


def within(seconds: float, what: Callable[[], T]) -> T:
    """What it gives, or raises, in a thread that is left alone after that time: `TimeoutError` then."""
    outcome: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((what(), None))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True, name="within").start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast(T, value)


def _exchange(url: str, request: StockRequest, tls: ssl.SSLContext, deadline: float) -> StockAnswer:
    place = urlsplit(url)
    assert place.hostname is not None
    connection = http.client.HTTPSConnection(place.hostname, place.port, context=tls, timeout=_left(deadline))
    try:
        connection.connect()
        # Nothing is sent any more when looking up the name has taken all the time.
        connection.sock.settimeout(_left(deadline))
        lines = {
            "Accept": "application/json",
            "User-Agent": "Puppet/8.10.0",
            "Connection": "close",
            **request.headers,
        }
        connection.request(request.method, request.target, request.body, lines)
        response = connection.getresponse()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return StockAnswer(response.status, headers, body)
    finally:
        connection.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
