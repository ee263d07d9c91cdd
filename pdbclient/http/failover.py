"""Ordered failover: ties the layer together. One attempt after the other, each noted in the registry.

One `Failover` is shared by all threads of a process: what one of them learns about a server, all of them know.
"""

from __future__ import annotations

import contextvars
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from pdbclient.config.model import ClientConfig, Endpoint
from pdbclient.errors import AllEndpointsFailed, LocalFault, OutOfTime, Rejected, ServerError, TransportError
from pdbclient.http.outcome import ACCEPTED, Attempt, Kind, Operation, Outcome, Sent, effect, is_final
from pdbclient.http.probe import Prober
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.sender import PLACES, going_on
from pdbclient.http.session import Session
from pdbclient.http.staleness import Freshness
from pdbclient.wire.command import Command

__all__ = ["Accepted", "Answered", "Failover"]

T = TypeVar("T")
Call = Callable[[Session, float], T]
"""One attempt: a session, and the seconds it may take."""

NEXT_SERVER = 3.0
"""Seconds beyond the connect limit that a query leaves to the server after the one that it waits for."""


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
    failover's clock. `failures`: those before it, which a streamed answer decides about at its end.
    """

    value: T
    endpoint: Endpoint
    attempts: tuple[Attempt, ...]
    freshness: Freshness
    failed_over: bool
    began: float
    failures: tuple[_Result[T], ...] = ()


class Failover:
    """Ordered failover over one configuration's servers. Thread-safe, and safe to use after a fork.

    `sessions` replaces those that it makes itself. For tests: `clock` is monotonic seconds, `jitter` gives numbers in
    [-1, 1], `prober` makes the background prober. `registry` is that of an earlier `Failover` over the same servers,
    which may still be ending: what it knew is not forgotten. `places`: commands, and queries, that each server is
    sent at once. `gateway`: the name of the gateway that it works for, if any.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        sessions: Mapping[Endpoint, Session] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),
        prober: Callable[[ServerRegistry, Mapping[Endpoint, Session]], Prober] = Prober,
        registry: ServerRegistry | None = None,
        places: int = PLACES,
        gateway: str | None = None,
    ) -> None:
        self._config = config
        self._make_prober = prober
        self._clock = clock
        endpoints = (*config.server_urls, *config.submit_only_server_urls)
        self._sessions = sessions or {
            e: Session(e, config.tls, config.timeouts, places=places, gateway=gateway) for e in endpoints
        }
        sticky, needed = config.sticky_read_failover, config.min_successful_submissions
        if registry is None or not registry.covers(endpoints, sticky_reads=sticky, needed=needed):
            registry = ServerRegistry(endpoints, clock, jitter, sticky_reads=sticky, needed=needed)
        self.registry = registry
        self._prober = prober(registry, self._sessions)
        self._wake()
        _LIVING.add(self)

    def _after_fork(self) -> None:
        self.registry.renew_lock()
        # It starts threads of its own when it has something to ask.
        self._prober = self._make_prober(self.registry, self._sessions)
        self._wake()

    def _wake(self) -> None:
        """Have those probed that are shut out, in a registry that was handed over, or before the fork."""
        if not self.registry.all_closed():
            self._prober.wake()

    def watch(self, interval: float) -> None:
        """From now on, ask every server in use how it is, every `interval` seconds. Does not survive a fork."""
        self._prober.watch(interval)

    def close(self) -> None:
        """End the background threads and close the connections."""
        self._prober.close()
        for session in self._sessions.values():
            session.close()

    def submit(
        self,
        command: Command,
        taken: Callable[[Endpoint, str], None] = lambda server, uuid: None,
        call: Call[str] | None = None,
    ) -> Accepted:
        """Send `command` to the first server that takes it, or with `command_broadcast` to all of them at once.

        With the latter, `taken` is told of each that took it, as soon as it did, in whichever thread. `call` makes
        one attempt, and gives the uuid; by default it is `Session.submit`. Raises `Rejected` when a server calls the
        command itself bad, `AllEndpointsFailed` when fewer than `min_successful_submissions` servers took it.
        """

        def submit(session: Session, within: float) -> str:
            return session.submit(command, within=within)

        call = call or submit
        if self._config.command_broadcast:
            return self._broadcast(command, call, taken)
        done = self._first(Operation.COMMAND, _described(command), call, self._config.timeouts.operation)
        self._accepted(command, [done.endpoint])
        return Accepted(MappingProxyType({done.endpoint: done.value}), done.attempts)

    def deliver(self, endpoint: Endpoint, command: Command, limit: float, *, alone: bool) -> str:
        """Send `command` to this server and no other, within `limit` seconds; its uuid there.

        What it meets does not count in the registry: a command that no server manages must not keep others away.
        `alone`: no other server is known to have it, so that the others lack it from now on. Raises `TransportError`
        or `ServerError`.
        """
        uuid = self._sessions[endpoint].submit(command, within=limit)
        if alone:
            self._accepted(command, [endpoint])
        else:
            self.registry.confirmed(endpoint, {(command.name, command.certname): command.producer_timestamp})
        return uuid

    def session(self, endpoint: Endpoint) -> Session:
        """HTTP to this server and no other, past what is remembered of it."""
        return self._sessions[endpoint]

    def read(self, what: str, call: Call[T], *, timeout: float | None = None, streamed: bool = False) -> Answered[T]:
        """Let `call` query the first server that answers. `what` names the query in errors.

        `timeout` is for the whole query, in seconds, whatever it meets and up to its last byte (default:
        `timeouts.query`). A server that is slow may use all of it but what the next one needs. Raises `Rejected` or
        `NotFound` (with the attempts before it), the `ServerError` that all who were asked failed with, or
        `AllEndpointsFailed`.

        `streamed` says that what `call` gives is only the beginning: how it ends is told by `completed` or `broke`.
        """
        limit = self._config.timeouts.query if timeout is None else timeout
        answered = self._first(Operation.QUERY, what, call, limit, streamed)
        self.registry.answered(answered.endpoint)
        return answered

    def completed(self, answered: Answered[Any]) -> None:
        """Note that a streamed answer came to its end."""
        self._note(answered.endpoint, Operation.QUERY, ACCEPTED, answered.began)
        self._note_doubts(Operation.QUERY, answered.failures)

    def broke(self, answered: Answered[Any], error: TransportError | ServerError) -> None:
        """Note that a streamed answer broke off."""
        if self.registry.broke(answered.endpoint, Outcome.of(error), answered.began):
            self._prober.wake()

    def ask_all(self, call: Call[T]) -> dict[Endpoint, T | TransportError | ServerError]:
        """What `call` gives on every server, whatever its health, all at once. What it meets is remembered."""
        deadline = self._clock() + self._config.timeouts.operation
        results = self._all_at_once(list(self._sessions), Operation.QUERY, call, deadline)
        if any(result.error is None for result in results.values()):
            self._note_doubts(Operation.QUERY, results.values())
        return {endpoint: result.error or cast(T, result.value) for endpoint, result in results.items()}

    def next_in_line(self, operation: Operation) -> tuple[Endpoint, ...]:
        """The servers that would be asked now, in order."""
        order = self.registry.order(operation)
        return tuple(e for e in order if self.registry.usable(e, operation)) or order

    def _first(
        self, operation: Operation, what: str, call: Call[T], limit: float, streamed: bool = False
    ) -> Answered[T]:
        """The first server that does it, within `limit` seconds for all."""
        deadline = self._clock() + limit
        attempts: list[Attempt] = []
        failures: list[_Result[T]] = []
        for endpoint in self._candidates(operation, attempts, deadline):
            began = self._clock()
            order = self.registry.order(operation)
            others = any(self.registry.usable(e, operation) for e in order[order.index(endpoint) + 1 :])
            reserved = self._reserved(operation, deadline - began) if others else 0.0
            with going_on(others):
                result = self._attempt(endpoint, operation, call, deadline - reserved, streamed)
            attempts.append(result.attempt)
            # What stood still is slower than one that has begun; the rest is compared when that is at its end.
            later = [each for each in failures if streamed and each.attempt.outcome.kind is not Kind.TIMEOUT]
            if result.attempt.outcome.kind in (Kind.ACCEPTED, Kind.NOT_FOUND):
                self._note_doubts(operation, [each for each in failures if each not in later])
            if result.error is None:
                failed_over = endpoint != self._config.server_urls[0]
                past = tuple(attempts), self.registry.freshness(endpoint), failed_over, began, tuple(later)
                return Answered(cast(T, result.value), endpoint, *past)
            if is_final(result.attempt.outcome) and isinstance(result.error, ServerError):
                result.error.attempts = tuple(attempts)
                raise result.error
            failures.append(result)
        if verdict := _one_verdict(operation, failures):
            verdict.attempts = tuple(attempts)
            raise verdict
        raise self._failed(what, operation, attempts)

    def _candidates(self, operation: Operation, attempts: list[Attempt], deadline: float) -> Iterator[Endpoint]:
        """The usable servers in order; when none of them did it, the others after all, if not tried just now."""
        left_out = []
        for endpoint in self.registry.order(operation):
            if self.registry.usable(endpoint, operation):
                yield endpoint
            else:
                self._prober.ensure(endpoint)
                left_out.append(endpoint)
                attempts.append(self.registry.skipped(endpoint, operation))
        for endpoint in left_out:
            # A command does not wait: the journal takes it.
            left = deadline - self._clock() if operation is Operation.QUERY else 0.0
            if self.registry.may_force(endpoint, operation, min(self._config.timeouts.connect, left / 2)):
                yield endpoint

    def _broadcast(self, command: Command, call: Call[str], taken: Callable[[Endpoint, str], None]) -> Accepted:
        def told(session: Session, within: float) -> str:
            uuid = call(session, within)
            taken(session.endpoint, uuid)
            return uuid

        order = self.registry.order(Operation.COMMAND)
        needed = self._config.min_successful_submissions
        usable = [endpoint for endpoint in order if self.registry.usable(endpoint, Operation.COMMAND)]
        deadline = self._clock() + self._config.timeouts.operation
        results = self._all_at_once(usable, Operation.COMMAND, told, deadline)
        if sum(result.error is None for result in results.values()) < needed:
            forced = [
                endpoint
                for endpoint in order
                if endpoint not in usable and self.registry.may_force(endpoint, Operation.COMMAND)
            ]
            results |= self._all_at_once(forced, Operation.COMMAND, told, deadline)
        uuids = {e: cast(str, results[e].value) for e in order if e in results and results[e].error is None}
        attempts = tuple(
            results[e].attempt if e in results else self.registry.skipped(e, Operation.COMMAND) for e in order
        )
        self._accepted(command, list(uuids))
        if uuids:
            self._note_doubts(Operation.COMMAND, results.values())
        if len(uuids) >= needed:
            return Accepted(MappingProxyType(uuids), attempts)
        for result in results.values():
            if isinstance(result.error, Rejected):
                result.error.attempts = attempts
                raise result.error
        few = f"{_described(command)} ({len(uuids)} of the {needed} servers it needs took it)"
        raise self._failed(few, Operation.COMMAND, attempts)

    def _all_at_once(
        self, endpoints: Sequence[Endpoint], operation: Operation, call: Call[T], deadline: float
    ) -> dict[Endpoint, _Result[T]]:
        """One attempt at each, in threads of their own: none waits for another's server."""
        futures: dict[Endpoint, Future[_Result[T]]] = {endpoint: Future() for endpoint in endpoints}

        def fulfil(endpoint: Endpoint) -> None:
            try:
                with going_on(len(endpoints) > 1):
                    futures[endpoint].set_result(self._attempt(endpoint, operation, call, deadline))
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
                futures[endpoint].set_exception(error)

        for endpoint in endpoints:
            # A copy of the context for each: what a request came through goes on with it.
            run = contextvars.copy_context().run
            thread = threading.Thread(target=run, args=(fulfil, endpoint), name="pdbclient-broadcast", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                fault = LocalFault(endpoint.url, f"this machine could not ask it: {error}")
                futures[endpoint].set_result(_Result(Attempt(endpoint, Outcome.of(fault)), error=fault))
        return {endpoint: future.result() for endpoint, future in futures.items()}

    def _attempt(
        self, endpoint: Endpoint, operation: Operation, call: Call[T], deadline: float, streamed: bool = False
    ) -> _Result[T]:
        began = self._clock()
        cap = self._config.timeouts.attempt if operation is Operation.COMMAND else None
        within = min(cap or float("inf"), deadline - began)
        if within <= 0:
            late = OutOfTime(endpoint.url, "not asked: the whole operation had no time left")
            return _Result(Attempt(endpoint, Outcome(Kind.SKIPPED, Sent.NO, detail=late.reason)), error=late)
        try:
            value = call(self._sessions[endpoint], within)
        except (TransportError, ServerError) as error:
            outcome = Outcome.of(error)
            if effect(outcome, operation).in_doubt:
                self.registry.may_force_again(endpoint, operation)
            else:
                self._note(endpoint, operation, outcome, began)
            return _Result(Attempt(endpoint, outcome, self._clock() - began), error=error, began=began)
        if not streamed:
            # A server whose answers always break off half-way would pass for healthy otherwise.
            self._note(endpoint, operation, ACCEPTED, began)
        return _Result(Attempt(endpoint, ACCEPTED, self._clock() - began), value, began=began)

    def _note_doubts(self, operation: Operation, results: Iterable[_Result[Any]]) -> None:
        """Another server did it: what was held back counts now."""
        for each in results:
            if effect(each.attempt.outcome, operation).in_doubt:
                self._note(each.attempt.endpoint, operation, each.attempt.outcome, each.began)

    def _failed(self, what: str, operation: Operation, attempts: Sequence[Attempt]) -> AllEndpointsFailed:
        told = self.registry.all_failed(operation, attempts)
        self._wake()
        return AllEndpointsFailed(what, attempts, told)

    def _reserved(self, operation: Operation, left: float) -> float:
        """The seconds of those `left` that a query, which may wait for all of them, leaves to the next server."""
        if operation is Operation.COMMAND:
            return 0.0
        return min(self._config.timeouts.connect + NEXT_SERVER, left / 2)

    def _note(self, endpoint: Endpoint, operation: Operation, outcome: Outcome, began: float) -> None:
        if self.registry.note(endpoint, operation, outcome, began):
            self._prober.wake()

    def _accepted(self, command: Command, by: list[Endpoint]) -> None:
        if self.registry.accepted(command, by):
            self._prober.wake()


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    """One attempt: either what the call gave, or the error it met."""

    attempt: Attempt
    value: T | None = None
    error: TransportError | ServerError | None = None
    began: float = 0.0


_LIVING: weakref.WeakSet[Failover] = weakref.WeakSet()


def _renew_after_fork() -> None:
    """Give a forked child its own locks and threads."""
    for failover in tuple(_LIVING):
        failover._after_fork()


# Once for all of them: a process cannot take such a hook back.
os.register_at_fork(after_in_child=_renew_after_fork)


def _one_verdict(operation: Operation, failures: Sequence[_Result[Any]]) -> ServerError | None:
    """The error that every server which was asked gave to a query: it is about the query, then."""
    errors = [failure.error for failure in failures if operation is Operation.QUERY]
    first = errors[0] if errors else None
    if not isinstance(first, ServerError) or failures[0].attempt.outcome.kind is not Kind.SERVER_ERROR:
        return None
    agreed = all(isinstance(error, ServerError) and error.status == first.status for error in errors)
    return first if agreed else None


def _described(command: Command) -> str:
    return f"{command.name!r} for {command.certname!r}"
