"""Ordered failover: ties the layer together. One attempt after the other, each noted in the memory.

One `Failover` is shared by all threads of a process: what one of them learns about a server, all of them know. The
rules are written as generators that ask for attempts, so that they are the same for a thread, which blocks in an
attempt, and for a coroutine, which awaits it.
"""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar, cast

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import AllEndpointsFailed, DeadlineExceeded, Rejected, ServerError, TransportError
from pdbclient.http.freshness import Freshness
from pdbclient.http.memory import Memory
from pdbclient.http.outcome import ACCEPTED, Attempt, Kind, Operation, Outcome, Sent, is_final
from pdbclient.http.probe import Prober, Watch
from pdbclient.http.session import Session
from pdbclient.http.tls import client_context
from pdbclient.wire.command import Command

__all__ = ["Accepted", "Answered", "Failover"]

T = TypeVar("T")
R = TypeVar("R")
Call = Callable[[Session, float], T]
"""One attempt: a session, and the seconds it may take."""
Turn = tuple[Endpoint, float]
"""An attempt that is to be made: of which server, and the seconds it may take."""
Reply: TypeAlias = T | TransportError | ServerError
Course: TypeAlias = Generator[Turn, Reply[T], R]
"""Asks for attempts, is sent what each of them met, and returns what came of it all."""

BROADCAST_THREADS = 32


@dataclass(frozen=True, slots=True)
class Accepted:
    """A command that was taken: the uuid by each server that took it, and the attempts, in configured order.

    Without any uuid it is in the journal, under the uuid `journalled`.
    """

    uuids: Mapping[Endpoint, str]
    attempts: tuple[Attempt, ...]
    journalled: str | None = None


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """A query that was answered: by whom, after which attempts (the last one is it), how fresh it can be.

    `failed_over`: it was not the first of `server_urls`. `began` is when the last attempt began, in seconds of the
    failover's clock.
    """

    value: T
    endpoint: Endpoint
    attempts: tuple[Attempt, ...]
    freshness: Freshness
    failed_over: bool
    began: float


class Failover:
    """Ordered failover over one configuration's servers. Thread-safe, and safe to use after a fork.

    `sessions` replaces those that it makes itself. For tests: `clock` is monotonic seconds, `jitter` gives numbers in
    [-1, 1], `prober` makes the background prober. `memory` is that of an earlier `Failover` over the same servers,
    now closed: what it knew is not forgotten.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        sessions: Mapping[Endpoint, Session] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),
        prober: Callable[[Memory, Mapping[Endpoint, Session]], Prober] = Prober,
        memory: Memory | None = None,
    ) -> None:
        self._config = config
        self._make_prober = prober
        self._clock = clock
        endpoints = (*config.server_urls, *config.submit_only_server_urls)
        self._sessions = _sessions(config, endpoints) if sessions is None else sessions
        sticky = config.sticky_read_failover
        if memory is None or not memory.covers(endpoints, sticky_reads=sticky):
            memory = Memory(endpoints, clock, jitter, sticky_reads=sticky)
        self.memory = memory
        self._watch: Watch | None = None
        self._start_threads()
        _LIVING.add(self)

    def _start_threads(self) -> None:
        # Both start their threads when they have something to do.
        self._prober = self._make_prober(self.memory, self._sessions)
        self._pool = ThreadPoolExecutor(BROADCAST_THREADS, "pdbclient-broadcast")

    def _after_fork(self) -> None:
        self.memory.renew_lock()
        self._start_threads()
        if self.memory.next_probe() is not None:
            # What is shut out was so before the fork: nothing that happens here would wake the child's prober.
            self._prober.wake()

    def watch(self, interval: float) -> None:
        """From now on, ask every server in use how it is, every `interval` seconds. Does not survive a fork."""
        self._watch = Watch(self.memory, self._sessions, interval, self._prober.wake)
        if self.memory.next_probe() is not None:
            # In a memory that was handed over, servers may be shut out already.
            self._prober.wake()

    def close(self) -> None:
        """End the background threads and close the connections."""
        if self._watch is not None:
            self._watch.close()
        self._prober.close()
        self._pool.shutdown()
        for session in self._sessions.values():
            session.close()

    def submit(self, command: Command) -> Accepted:
        """Send `command` to the first server that takes it, or with `command_broadcast` to all of them at once.

        Raises `Rejected` when a server calls the command itself bad, `AllEndpointsFailed` when fewer servers
        took it than `min_successful_submissions`.
        """

        def call(session: Session, within: float) -> str:
            return session.submit(command, within=within)

        if self._config.command_broadcast:
            return self._broadcast(command, call)
        return self._blocking(self._submission(command), call)

    async def submit_async(self, command: Command, call: Callable[[Endpoint, float], Awaitable[str]]) -> Accepted:
        """As `submit`, for a coroutine, to the first server that takes it (a broadcast needs threads).

        `call` makes one attempt, at this server and within so many seconds, and gives the uuid.
        """
        course = self._submission(command)
        reply: Any = None
        while True:
            try:
                endpoint, within = course.send(reply)
            except StopIteration as end:
                return cast(Accepted, end.value)
            try:
                reply = await call(endpoint, within)
            except (TransportError, ServerError) as error:
                reply = error

    def submit_to(self, endpoint: Endpoint, command: Command, *, alone: bool) -> str:
        """Send `command` to this server and no other; its uuid there. Raises `TransportError` or `ServerError`.

        `alone`: no other server is known to have it, so that the others lack it from now on.
        """

        def call(session: Session, within: float) -> str:
            return session.submit(command, within=within)

        deadline = self._clock() + self._config.timeouts.operation
        course: Course[str, _Result[str]] = self._attempt(endpoint, Operation.COMMAND, deadline)
        result = self._blocking(course, call)
        if result.error is not None:
            raise result.error
        if alone:
            self._accepted(command, [endpoint])
        else:
            self.memory.confirmed(endpoint, {(command.name, command.certname): command.producer_timestamp})
        return result.got()

    def session(self, endpoint: Endpoint) -> Session:
        """HTTP to this server and no other, past what is remembered of it."""
        return self._sessions[endpoint]

    def read(self, what: str, call: Call[T], *, timeout: float | None = None, streamed: bool = False) -> Answered[T]:
        """Let `call` query the first server that answers. `what` names the query in errors.

        `timeout` is what one server may take, in seconds, instead of the limits of an attempt and of the whole
        operation. Raises `Rejected` or `NotFound` (with the attempts before it), or `AllEndpointsFailed`.

        `streamed` says that what `call` gives is only the beginning: how it ends is told by `completed` or `broke`.
        """
        course: Course[T, Answered[T]] = self._first(Operation.QUERY, what, timeout, streamed)
        answered = self._blocking(course, call)
        self.memory.answered(answered.endpoint)
        return answered

    def completed(self, answered: Answered[Any]) -> None:
        """Note that a streamed answer came to its end."""
        self._note(answered.endpoint, Operation.QUERY, ACCEPTED, answered.began)

    def broke(self, answered: Answered[Any], error: TransportError | ServerError) -> None:
        """Note that a streamed answer broke off."""
        self._note(answered.endpoint, Operation.QUERY, Outcome.of(error), answered.began)

    def ask_all(self, call: Call[T]) -> dict[Endpoint, T | TransportError | ServerError]:
        """What `call` gives on every server, whatever its health, all at once. What it meets is remembered."""
        deadline = self._clock() + self._config.timeouts.operation
        results = self._all_at_once(self._sessions, Operation.QUERY, call, deadline)
        return {endpoint: result.error or result.got() for endpoint, result in results.items()}

    def next_in_line(self, operation: Operation) -> tuple[Endpoint, ...]:
        """The servers that would be asked now, in order."""
        order = self.memory.order(operation)
        return tuple(e for e in order if self.memory.usable(e, operation)) or order

    def _blocking(self, course: Course[T, R], call: Call[T]) -> R:
        """Make the attempts of `course`, each with `call`, in this thread."""
        reply: Any = None
        while True:
            try:
                endpoint, within = course.send(reply)
            except StopIteration as end:
                return cast(R, end.value)
            try:
                reply = call(self._sessions[endpoint], within)
            except (TransportError, ServerError) as error:
                reply = error

    def _submission(self, command: Command) -> Course[str, Accepted]:
        done: Answered[str] = yield from self._first(Operation.COMMAND, _described(command))
        self._accepted(command, [done.endpoint])
        return Accepted(MappingProxyType({done.endpoint: done.value}), done.attempts)

    def _first(
        self, operation: Operation, what: str, timeout: float | None = None, streamed: bool = False
    ) -> Course[T, Answered[T]]:
        whole = timeout * len(self._sessions) if timeout else self._config.timeouts.operation
        deadline = self._clock() + whole
        attempts: list[Attempt] = []
        doubts: list[tuple[Attempt, float]] = []
        for endpoint in self._candidates(operation, attempts):
            began = self._clock()
            result: _Result[T] = yield from self._attempt(endpoint, operation, deadline, timeout, streamed)
            attempts.append(result.attempt)
            if _is_in_doubt(operation, result.attempt.outcome):
                doubts.append((result.attempt, began))
            if result.error is None:
                for doubt, when in doubts:
                    self._note(doubt.endpoint, operation, doubt.outcome, when)
                failed_over = endpoint != self._config.server_urls[0]
                freshness = self.memory.freshness(endpoint)
                return Answered(result.got(), endpoint, tuple(attempts), freshness, failed_over, began)
            if is_final(result.attempt.outcome) and isinstance(result.error, ServerError):
                result.error.attempts = tuple(attempts)
                raise result.error
        raise AllEndpointsFailed(what, attempts)

    def _candidates(self, operation: Operation, attempts: list[Attempt]) -> Iterator[Endpoint]:
        """The usable servers in order; when none of them did it, the others after all, if not tried just now."""
        left_out = []
        for endpoint in self.memory.order(operation):
            if self.memory.usable(endpoint, operation):
                yield endpoint
            else:
                left_out.append(endpoint)
                attempts.append(self.memory.skipped(endpoint, operation))
        for endpoint in left_out:
            if self.memory.may_force(endpoint):
                yield endpoint

    def _broadcast(self, command: Command, call: Call[str]) -> Accepted:
        order = self.memory.order(Operation.COMMAND)
        needed = self._config.min_successful_submissions
        usable = [endpoint for endpoint in order if self.memory.usable(endpoint, Operation.COMMAND)]
        deadline = self._clock() + self._config.timeouts.operation
        results = self._all_at_once(usable, Operation.COMMAND, call, deadline)
        if sum(result.error is None for result in results.values()) < needed:
            forced = [endpoint for endpoint in order if endpoint not in usable and self.memory.may_force(endpoint)]
            results |= self._all_at_once(forced, Operation.COMMAND, call, deadline)
        uuids = {e: results[e].got() for e in order if e in results and results[e].error is None}
        attempts = tuple(
            results[e].attempt if e in results else self.memory.skipped(e, Operation.COMMAND) for e in order
        )
        self._accepted(command, list(uuids))
        if len(uuids) >= needed:
            return Accepted(MappingProxyType(uuids), attempts)
        for result in results.values():
            if isinstance(result.error, Rejected):
                result.error.attempts = attempts
                raise result.error
        taken = f"{len(uuids)} of the {needed} servers it needs took it"
        raise AllEndpointsFailed(f"{_described(command)} ({taken})", attempts)

    def _all_at_once(
        self, endpoints: Iterable[Endpoint], operation: Operation, call: Call[T], deadline: float
    ) -> dict[Endpoint, _Result[T]]:
        def attempt(endpoint: Endpoint) -> _Result[T]:
            course: Course[T, _Result[T]] = self._attempt(endpoint, operation, deadline)
            return self._blocking(course, call)

        futures = {endpoint: self._pool.submit(attempt, endpoint) for endpoint in endpoints}
        return {endpoint: future.result() for endpoint, future in futures.items()}

    def _attempt(
        self,
        endpoint: Endpoint,
        operation: Operation,
        deadline: float,
        timeout: float | None = None,
        streamed: bool = False,
    ) -> Course[T, _Result[T]]:
        began = self._clock()
        within = min(timeout or self._config.timeouts.attempt or float("inf"), deadline - began)
        if within <= 0:
            error = DeadlineExceeded(endpoint.url, "not asked: the whole operation had no time left")
            return _Result(Attempt(endpoint, Outcome(Kind.SKIPPED, Sent.NO, detail=error.reason)), error=error)
        reply = yield endpoint, within
        if isinstance(reply, TransportError | ServerError):
            outcome = Outcome.of(reply)
            if not _is_in_doubt(operation, outcome):
                self._note(endpoint, operation, outcome, began)
            return _Result(Attempt(endpoint, outcome, self._clock() - began), error=reply)
        if not streamed:
            # A server whose answers always break off half-way would pass for well otherwise.
            self._note(endpoint, operation, ACCEPTED, began)
        return _Result(Attempt(endpoint, ACCEPTED, self._clock() - began), reply)

    def _note(self, endpoint: Endpoint, operation: Operation, outcome: Outcome, began: float) -> None:
        if self.memory.note(endpoint, operation, outcome, began):
            self._prober.wake()

    def _accepted(self, command: Command, by: list[Endpoint]) -> None:
        if self.memory.accepted(command, by):
            self._prober.wake()


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    """One attempt: either what the call gave, or the error it met."""

    attempt: Attempt
    value: T | None = None
    error: TransportError | ServerError | None = None

    def got(self) -> T:
        """What the call gave, when there is no error."""
        return cast(T, self.value)


def _sessions(config: ClientConfig, endpoints: Iterable[Endpoint]) -> dict[Endpoint, Session]:
    context = client_context(config.tls)
    return {endpoint: Session(endpoint, config.tls, config.timeouts, context=context) for endpoint in endpoints}


_LIVING: weakref.WeakSet[Failover] = weakref.WeakSet()


def _renew_after_fork() -> None:
    """Give a forked child its own locks and threads."""
    for failover in tuple(_LIVING):
        failover._after_fork()


# Once for all of them: a process cannot take such a hook back.
os.register_at_fork(after_in_child=_renew_after_fork)


def _is_in_doubt(operation: Operation, outcome: Outcome) -> bool:
    """Whether the query may be at fault, not the server: a 500 counts once another server answers that query.

    Else one query that no PuppetDB can answer, asked thrice, would shut all of them out for everybody.
    """
    return operation is Operation.QUERY and outcome.kind is Kind.SERVER_ERROR


def _described(command: Command) -> str:
    return f"{command.name!r} for {command.certname!r}"
