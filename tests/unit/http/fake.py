"""Servers that answer as they are told, on a clock that moves only when it is told: failover without sockets."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pdbclient.config.model import ClientConfig, Endpoint, Timeouts, TlsFiles
from pdbclient.errors import (
    Ambiguous,
    DeadlineExceeded,
    IncompleteResponse,
    LocalFault,
    Misrouted,
    NoPlace,
    NotSent,
    PdbError,
    ServerError,
    TlsError,
    TransportError,
    Unresponsive,
)
from pdbclient.http.failover import Failover
from pdbclient.http.outcome import ACCEPTED, Operation, Outcome, answer_of_puppetdb, error_for_status
from pdbclient.http.probe import Prober
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.session import Document, Selection, Session
from pdbclient.http.status import STATUS_PATH
from pdbclient.wire.command import Command
from pdbclient.wire.query import QueryText

__all__ = [
    "FakeClock",
    "FakeSession",
    "ManualProber",
    "Reply",
    "Rig",
    "command",
    "endpoints",
    "reply_error",
    "selection",
]

Reply = str | PdbError | Callable[[], object]
"""`ok`, a word of `reply_error`, an error to raise, or a function that gives one of them or the answer itself."""

_BROKEN: dict[str, Callable[[str], PdbError]] = {
    "refused": lambda url: NotSent(url, "no connection: Connection refused"),
    "connect-timeout": lambda url: NotSent(url, "no connection (TCP and TLS) within the connect timeout"),
    "tls": lambda url: TlsError(url, "its certificate is not accepted"),
    "reset": lambda url: Ambiguous(url, "the connection broke before an answer"),
    "timeout": lambda url: DeadlineExceeded(url, "no answer within the read timeout"),
    "no-place": lambda url: NoPlace(url, "64 requests are under way there, and none of them ends"),
    "local": lambda url: LocalFault(url, "this machine could not ask it: Too many open files"),
    "unresponsive": lambda url: Unresponsive(url, "no answer, and none about its health"),
    "truncated": lambda url: IncompleteResponse(url, "the answer broke off"),
}
_BODIES = {
    "json": b'{"error": "nothing there"}',
    "html": b"<html>not found</html>",
    "text": b"Not Found",
    "": b"as PuppetDB says",
}


def reply_error(word: str, url: str, operation: Operation) -> PdbError:
    """The error that a real session raises for `refused`, `404 json`, `503 retry-after 20` and so on."""
    if word in _BROKEN:
        return _BROKEN[word](url)
    status, _, rest = word.partition(" ")
    headers = {"Retry-After": rest.removeprefix("retry-after ")} if rest.startswith("retry-after ") else {}
    error = error_for_status(url, int(status), headers, _BODIES["" if headers else rest], operation)
    assert error is not None, word
    if rest == "text" and isinstance(error, Misrouted) and operation is Operation.QUERY:
        # What PuppetDB from 8.5 on says to an address that it does not have; a session has asked it for its status.
        return answer_of_puppetdb(error)
    return error


class FakeClock:
    """Monotonic seconds, moved by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeSession:
    """One server. `replies` is what it answers in turn, `status` what it says to a probe, `held` its records."""

    def __init__(self, endpoint: Endpoint, asked: list[str] | None = None) -> None:
        self.endpoint = endpoint
        self.asked: list[str] = [] if asked is None else asked
        self.replies: deque[Reply] = deque()
        self.status: str = "ok"
        self.probed: list[str] = []
        self.held: dict[tuple[str, str], str] = {}
        self.commands: list[Command] = []
        self.within: list[float | None] = []
        self.closed = False

    def submit(self, command: Command, *, within: float | None = None) -> str:
        self.commands.append(command)
        answer = self._answer(Operation.COMMAND, within)
        return f"uuid-{self.endpoint.host}" if answer is None else str(answer)

    def select(
        self,
        path: str,
        *,
        query: QueryText | None = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> Selection:
        answer = self._answer(Operation.QUERY, within)
        if isinstance(answer, Selection):
            return answer
        return Selection({}, iter([({"from": self.endpoint.host}, "{}")]))

    def ask(self) -> Outcome:
        try:
            state = self.document(STATUS_PATH).value["state"]
        except (TransportError, ServerError) as error:
            return Outcome.of(error)
        if state == "running":
            return ACCEPTED
        return Outcome.of(ServerError(self.endpoint.url, 200, "its state is 'starting', not 'running'"))

    def document(self, path: str, *, within: float | None = None) -> Document:
        if path == STATUS_PATH:
            self.probed.append(path)
            if self.status not in ("ok", "starting"):
                raise reply_error(self.status, self.endpoint.url, Operation.QUERY)
            return Document({"state": "running" if self.status == "ok" else "starting"}, {})
        answer = self._answer(Operation.QUERY, within)
        return Document({"version": "8.9.0"} if answer is None else answer, {})

    def records(self, path: str, *, query: QueryText, within: float | None = None) -> Iterator[Any]:
        self.probed.append(path)
        entity = {"/catalogs": "replace catalog", "/factsets": "replace facts", "/nodes": "deactivate node"}[path]
        field = "deactivated" if path == "/nodes" else "producer_timestamp"
        for (name, certname), stamp in self.held.items():
            if name == entity and repr(certname) in repr(query):
                yield {"certname": certname, field: stamp}

    def close(self) -> None:
        self.closed = True

    def _answer(self, operation: Operation, within: float | None) -> object:
        """What the next reply gives; None for a plain `ok`, which is also what follows the last reply."""
        self.asked.append(self.endpoint.host)
        self.within.append(within)
        reply: object = self.replies.popleft() if self.replies else "ok"
        if callable(reply):
            reply = reply()
        if isinstance(reply, str):
            if reply == "ok":
                return None
            raise reply_error(reply, self.endpoint.url, operation)
        if isinstance(reply, PdbError):
            raise reply
        return reply


class ManualProber(Prober):
    """A prober without a thread: a test calls `ask`."""

    def __init__(self, registry: ServerRegistry, sessions: Mapping[Endpoint, Session]) -> None:
        super().__init__(registry, sessions)
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def ensure(self, server: Endpoint) -> None:
        """Nothing is to be started."""


def endpoints(hosts: Iterable[str], submit_only: Iterable[str] = ()) -> tuple[Endpoint, ...]:
    """Servers in order: `server_urls`, then the submit-only ones."""
    plain = tuple(hosts)
    servers = [Endpoint(host, 8081, order) for order, host in enumerate(plain)]
    return *servers, *(Endpoint(host, 8081, len(plain) + n, True) for n, host in enumerate(submit_only))


def command(certname: str = "node1", *, second: int = 0, name: str = "replace facts", body: bytes = b"{}") -> Command:
    """A command that was stamped `second` seconds into the story."""
    minutes, seconds = divmod(second, 60)
    return Command.ready(
        name, 5, certname, f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.000Z", body
    )


def selection(*rows: Any, then: Exception | None = None, **headers: str) -> Callable[[], object]:
    """A query's answer: rows, and perhaps an error where more rows should be."""

    def elements() -> Iterator[tuple[Any, str]]:
        for row in rows:
            yield row, json.dumps(row)
        if then is not None:
            raise then

    return lambda: Selection({name.replace("_", "-"): value for name, value in headers.items()}, elements())


class Rig:
    """A configuration's fake servers and the `Failover` over them."""

    def __init__(
        self,
        hosts: Iterable[str] = ("a", "b"),
        submit_only: Iterable[str] = (),
        *,
        jitter: float = 0.0,
        timeouts: Timeouts | None = None,
        **settings: Any,
    ) -> None:
        self.servers = endpoints(hosts, submit_only)
        tls = TlsFiles(Path("ca.pem"), None, None)
        self.config = ClientConfig(
            tuple(e for e in self.servers if not e.submit_only),
            tls,
            tuple(e for e in self.servers if e.submit_only),
            timeouts=timeouts or Timeouts(),
            **settings,
        )
        self.clock = FakeClock()
        self.asked: list[str] = []
        self.session = {e.host: FakeSession(e, self.asked) for e in self.servers}
        self.endpoint = {e.host: e for e in self.servers}
        sessions = cast(Mapping[Endpoint, Session], {e: self.session[e.host] for e in self.servers})
        self.probers: list[ManualProber] = []
        self.failover = Failover(
            self.config, sessions=sessions, clock=self.clock, jitter=lambda: jitter, prober=self._prober
        )
        self.registry = self.failover.registry

    def _prober(self, registry: ServerRegistry, sessions: Mapping[Endpoint, Session]) -> ManualProber:
        self.probers.append(ManualProber(registry, sessions))
        return self.probers[-1]

    @property
    def prober(self) -> ManualProber:
        """The one in use (a forked child has its own)."""
        return self.probers[-1]
