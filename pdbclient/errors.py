"""The one exception tree: every error carries the facts that a caller or an operator needs.

A message says what failed, where, and what to do; the attributes carry the same facts for programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pdbclient.http.outcome import Attempt

__all__ = [
    "AllEndpointsFailed",
    "Ambiguous",
    "Busy",
    "CallerLeft",
    "ConfigError",
    "DeadlineExceeded",
    "Forbidden",
    "GatewayError",
    "IncompleteResponse",
    "InvalidCommand",
    "JournalBusy",
    "JournalCorrupt",
    "JournalError",
    "JournalFull",
    "LabError",
    "LocalFault",
    "Misrouted",
    "NoPlace",
    "NotFound",
    "NotSent",
    "OutOfTime",
    "PdbError",
    "Problem",
    "Rejected",
    "SafetyBrake",
    "ServerError",
    "StaleAnswer",
    "StatusError",
    "SyncError",
    "TlsError",
    "TransportError",
    "Unresponsive",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration file; `str()` gives `file:line: setting: why`."""

    file: str
    line: int | None
    setting: str | None
    why: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.why}" if self.setting is None else f"{where}: {self.setting}: {self.why}"


class PdbError(Exception):
    """Base of everything that pdbclient raises on purpose."""


class ConfigError(PdbError):
    """A configuration that cannot be used; `problems` lists everything that is wrong with it, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class InvalidCommand(PdbError):
    """A command that PuppetDB would refuse, found before anything was sent.

    `path` is where in the payload (`$.resources[3].tags`), `reason` what is wrong there.
    """

    def __init__(self, command: str, certname: str, path: str, reason: str) -> None:
        self.command, self.certname, self.path, self.reason = command, certname, path, reason
        super().__init__(f"{command} for {certname!r} cannot be sent: {path}: {reason}")


class NotPreserved(InvalidCommand):
    """A record of which no copy can be made that is the same record: it would be there twice."""


class TransportError(PdbError):
    """One attempt got no usable HTTP answer. `sent`: whether the request reached the server."""

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint, self.reason = endpoint, reason
        super().__init__(f"{endpoint}: {reason}")


class NotSent(TransportError):
    """Nothing of the request left this machine: refused, DNS, no route, connect timeout.

    But with `maybe_sent`, it had gone out before on a kept connection that broke, and may have arrived.
    """

    maybe_sent = False


class NoPlace(NotSent):
    """As many requests as this server is sent at once are under way there, and none of them ends."""


class LocalFault(NotSent):
    """This machine could not do it: no descriptor, no memory, no thread. It says nothing about any server."""


class TlsError(NotSent):
    """The TLS handshake failed for good: a certificate or key is wrong, here or there."""


class Ambiguous(TransportError):
    """The connection broke after something was sent: the server may or may not have acted."""


class DeadlineExceeded(Ambiguous):
    """A read timeout or our own deadline passed after the request was sent."""


class OutOfTime(DeadlineExceeded):
    """Our own time was up, which was too short for this server, or was spent elsewhere: it says nothing about it."""


class Unresponsive(Ambiguous):
    """The server was silent, and did not say either how it is: no answer was waited for any longer."""


class IncompleteResponse(TransportError):
    """An answer that broke off, or is not the JSON it should be: never to be taken for a short one.

    `records_seen` complete records came before the break.
    """

    def __init__(self, endpoint: str, reason: str, records_seen: int = 0) -> None:
        self.records_seen = records_seen
        super().__init__(endpoint, reason)


class ServerError(PdbError):
    """A PuppetDB answered with an HTTP error status.

    `attempts` lists what each server met, this one last, when the request went through a failover list. `headers`
    and `body` are the answer itself, for whoever hands it on (of a body that got lost, or is too long, one line).
    """

    attempts: tuple[Attempt, ...] = ()
    headers: Mapping[str, str] = MappingProxyType({})
    body = b""

    def __init__(self, endpoint: str, status: int, reason: str) -> None:
        self.endpoint, self.status, self.reason = endpoint, status, reason
        super().__init__(f"{endpoint}: HTTP {status}: {reason}")


class Busy(ServerError):
    """429 or 503: maintenance mode or overload. `retry_after` in seconds, as the server asked (clamped)."""

    def __init__(self, endpoint: str, status: int, reason: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(endpoint, status, reason)


class Rejected(ServerError):
    """400, 406, 409, 413, 415: the request itself is bad; no other server would take it either."""


class Forbidden(ServerError):
    """401 or 403: this certificate may not do that there."""


class NotFound(ServerError):
    """404 with a JSON body: the server is well and does not know the thing.

    `attempts` tells whether better placed servers failed before it: "not there", or "not on the stale one".
    """


class Misrouted(ServerError):
    """404 without PuppetDB's JSON, or a redirect: still starting, or something else answers at that address."""


class CallerLeft(PdbError):
    """Whoever asked is not there any more: the request was ended, and counts for nothing."""


class AllEndpointsFailed(PdbError):
    """No configured server could do it; `attempts` tells what each one met, in the order tried.

    `in_outage`: no server can be used at all, which the log tells once, with how many requests met it.
    """

    def __init__(self, what: str, attempts: Sequence[Attempt], in_outage: bool = False) -> None:
        self.attempts, self.in_outage = tuple(attempts), in_outage
        lines = "".join(f"\n  {attempt}" for attempt in self.attempts)
        super().__init__(f"{what}: no PuppetDB could do it:{lines}")


class StaleAnswer(PdbError):
    """Exported resources could not be brought up to date in time, and `stale_exported` is `fail`.

    `missing` commands that another server took are not visible at `endpoint`, the oldest of them taken at `since`.
    """

    def __init__(self, endpoint: str, missing: int, since: str | None, reason: str) -> None:
        self.endpoint, self.missing, self.since, self.reason = endpoint, missing, since, reason
        age = "" if since is None else f" since {since}"
        super().__init__(f"{endpoint}: {missing} command{'s' if missing != 1 else ''} missing{age}: {reason}")


class JournalError(PdbError):
    """The journal cannot be used; the message says what, where and what to do."""


class JournalFull(JournalError):
    """There is no room: the disk is full, or the journal is at its bound and holds nothing that may go."""


class JournalCorrupt(JournalError):
    """What is on disk is not what was written."""


class JournalBusy(JournalError):
    """Another process holds the journal; `pid` is its id, where that is known."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        self.pid = pid
        super().__init__(message)


class GatewayError(PdbError):
    """The gateway cannot serve: it cannot bind its address."""


class SyncError(PdbError):
    """A reconciler pass, or one entity of it, could not be done."""


class SafetyBrake(SyncError):
    """The plan looks like an accident (mass deactivation, an empty peer): nothing was done."""

    PREFIX = "safety brake: "
    """What its message begins with, by which it is known where only that is kept."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{self.PREFIX}{why}")


class StatusError(PdbError):
    """A daemon's status port cannot be had, or nobody answers there."""


class LabError(PdbError):
    """`pdbclient lab` could not do what was asked; the message carries the server's own last log lines."""
