"""What one attempt met, and what follows from it: the one truth table of failover.

Pure. Rules: the stock terminus's, minus its defects (a 404 that hides an outage, a 400 that counts as a
success in broadcast), see docs/explain/failover.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

from pdbclient.config.model import Endpoint
from pdbclient.errors import (
    Ambiguous,
    Busy,
    DeadlineExceeded,
    Forbidden,
    IncompleteResponse,
    LocalFault,
    Misrouted,
    NoPlace,
    NotFound,
    NotSent,
    OutOfTime,
    Rejected,
    ServerError,
    TlsError,
    TransportError,
    Unresponsive,
)

__all__ = [
    "PLAIN_HTTP",
    "Attempt",
    "Blame",
    "Effect",
    "Kind",
    "Operation",
    "Outcome",
    "Sent",
    "answer_of_puppetdb",
    "answer_to_status",
    "blame",
    "effect",
    "effect_of_break",
    "effect_of_check",
    "ends_waiting",
    "error_for_status",
    "is_about_one_query",
    "is_final",
]

RETRY_AFTER_DEFAULT = 5.0
RETRY_AFTER_RANGE = (1.0, 60.0)
FORBIDDEN_OPEN = 60.0
# Where PuppetDB sends whatever it has no route for, `factsets/a%20b` included.
DASHBOARD = "/dashboard/index.html"
NO_PUPPETDB = "that is no PuppetDB, or it is only just starting"
PLAIN_HTTP = "that is plain HTTP, or something else that is not TLS: is it the right port? (PuppetDB's is 8081)"


class Operation(StrEnum):
    """What the caller wanted: it decides what a read timeout says about the server."""

    COMMAND = "command"
    QUERY = "query"


class Kind(StrEnum):
    """What one attempt met."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_FOUND = "not found"
    BUSY = "busy"
    FORBIDDEN = "forbidden"
    MISROUTED = "misrouted"
    SERVER_ERROR = "server error"
    NOT_SENT = "not sent"
    TLS = "tls"
    UNRESPONSIVE = "unresponsive"
    AMBIGUOUS = "ambiguous"
    TIMEOUT = "timeout"
    INCOMPLETE = "incomplete"
    NO_PLACE = "no place"
    LOCAL = "this machine"
    OUT_OF_TIME = "out of time"
    SKIPPED = "skipped"


class Sent(StrEnum):
    """Whether the request reached the server."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt met: `status` is the HTTP status if there was one, `retry_after` is in seconds."""

    kind: Kind
    sent: Sent
    status: int | None = None
    retry_after: float | None = None
    detail: str = ""

    @classmethod
    def of(cls, error: TransportError | ServerError) -> Outcome:
        """The outcome that an error of one attempt stands for."""
        kind, sent = next(row for types, row in _KINDS if isinstance(error, types))
        if isinstance(error, NotSent) and error.maybe_sent:
            sent = Sent.UNKNOWN
        status = error.status if isinstance(error, ServerError) else None
        retry_after = error.retry_after if isinstance(error, Busy) else None
        return cls(kind, sent, status, retry_after, error.reason)


ACCEPTED = Outcome(Kind.ACCEPTED, Sent.YES, 200)

# Subclasses before their bases.
_KINDS: tuple[tuple[type[TransportError | ServerError], tuple[Kind, Sent]], ...] = (
    (TlsError, (Kind.TLS, Sent.NO)),
    (NoPlace, (Kind.NO_PLACE, Sent.NO)),
    (LocalFault, (Kind.LOCAL, Sent.NO)),
    (NotSent, (Kind.NOT_SENT, Sent.NO)),
    (Unresponsive, (Kind.UNRESPONSIVE, Sent.UNKNOWN)),
    (OutOfTime, (Kind.OUT_OF_TIME, Sent.UNKNOWN)),
    (DeadlineExceeded, (Kind.TIMEOUT, Sent.UNKNOWN)),
    (Ambiguous, (Kind.AMBIGUOUS, Sent.UNKNOWN)),
    (IncompleteResponse, (Kind.INCOMPLETE, Sent.YES)),
    (TransportError, (Kind.AMBIGUOUS, Sent.UNKNOWN)),
    (Busy, (Kind.BUSY, Sent.YES)),
    (Rejected, (Kind.REJECTED, Sent.YES)),
    (Forbidden, (Kind.FORBIDDEN, Sent.YES)),
    (NotFound, (Kind.NOT_FOUND, Sent.YES)),
    (Misrouted, (Kind.MISROUTED, Sent.YES)),
    (ServerError, (Kind.SERVER_ERROR, Sent.UNKNOWN)),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One server's part in an operation. `elapsed` is in seconds; a skipped server was not asked at all."""

    endpoint: Endpoint
    outcome: Outcome
    elapsed: float = 0.0

    @property
    def met(self) -> str:
        """What it met, in words."""
        status = f" HTTP {self.outcome.status}" if self.outcome.status else ""
        return f"{self.outcome.kind}{status}: {self.outcome.detail}"

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.met} ({self.elapsed:.2f} s)"


class Blame(StrEnum):
    """What an attempt that failed counts against."""

    REQUEST = "the request"
    SERVER = "the server"
    EITHER = "the request, or the server"
    MACHINE = "this machine"
    NOBODY = "nobody"


def blame(outcome: Outcome) -> Blame:
    """What `outcome`, of an attempt that failed, counts against, as far as it alone can tell.

    A server that never took the request up, is busy or keeps us out has not seen it. One that took it and did not
    manage it may be at fault as well as the request: another request, or another server, will tell.
    """
    match outcome.kind:
        case Kind.REJECTED | Kind.NOT_FOUND:
            return Blame.REQUEST
        case Kind.NOT_SENT | Kind.TLS | Kind.FORBIDDEN | Kind.BUSY | Kind.MISROUTED | Kind.UNRESPONSIVE:
            return Blame.SERVER
        case Kind.SERVER_ERROR | Kind.TIMEOUT | Kind.INCOMPLETE | Kind.AMBIGUOUS:
            return Blame.EITHER
        case Kind.LOCAL:
            return Blame.MACHINE
        case _:
            return Blame.NOBODY


@dataclass(frozen=True, slots=True)
class Effect:
    """What an outcome does to a server's circuits.

    `hard` opens at once, `soft` counts one failure, `open_for` opens for that many seconds, `nothing` leaves all as
    it was, none of them is a success. `own_kind` spares the circuit of the other operation: a bad query must not
    drive the commands away. `in_doubt`: the request may be at fault, not the server: it counts only once another
    server did what the same request wanted. Else one query that no PuppetDB can answer, or one node's command that
    none can take, would shut all of them out for all others.
    """

    hard: bool = False
    soft: bool = False
    open_for: float | None = None
    own_kind: bool = False
    nothing: bool = False
    in_doubt: bool = False

    @property
    def success(self) -> bool:
        """The server is healthy, whatever it thought of the request."""
        return not (self.hard or self.soft or self.nothing or self.open_for is not None)


_SUCCESS, _HARD, _NOTHING = Effect(), Effect(hard=True), Effect(nothing=True)
# To a health check, whose own limit is the measure: what has not come within it has not come.
_NO_ANSWER = (Kind.NOT_SENT, Kind.TIMEOUT, Kind.OUT_OF_TIME, Kind.UNRESPONSIVE, Kind.AMBIGUOUS)
_HARD_OWN, _IN_DOUBT = Effect(hard=True, own_kind=True), Effect(soft=True, own_kind=True, in_doubt=True)


def effect(outcome: Outcome, operation: Operation) -> Effect:
    """What `outcome` says about the server's health.

    A server that cannot be connected to, or does not say how it is, is dead for commands and queries alike. What a
    server made of one request, a 500, a 403, half an answer or none, is in doubt: the request may be at fault. A
    command that timed out opens the circuit at once, so that nobody pays for the same outage twice; a query may time
    out because it is heavy. Nothing that a query meets at a server that lives ever keeps commands away: they would be
    lost, where a query is only late. What this machine could not do counts against nobody.
    """
    is_query = operation is Operation.QUERY
    match outcome.kind:
        case Kind.NO_PLACE | Kind.LOCAL | Kind.OUT_OF_TIME | Kind.SKIPPED:
            return _NOTHING
        case Kind.NOT_SENT | Kind.UNRESPONSIVE:
            return _HARD
        case Kind.MISROUTED:
            return Effect(hard=True, own_kind=is_query)
        case Kind.TLS:
            return Effect(open_for=FORBIDDEN_OPEN)
        case Kind.FORBIDDEN:
            return Effect(open_for=FORBIDDEN_OPEN, own_kind=is_query, in_doubt=True)
        case Kind.BUSY:
            return Effect(open_for=outcome.retry_after or RETRY_AFTER_DEFAULT, own_kind=is_query)
        case Kind.TIMEOUT:
            return _IN_DOUBT if is_query else _HARD_OWN
        case Kind.INCOMPLETE | Kind.SERVER_ERROR:
            return _IN_DOUBT
        case Kind.AMBIGUOUS:
            return Effect(soft=True, own_kind=is_query, in_doubt=True)
        case _:
            return _SUCCESS


def effect_of_break(outcome: Outcome, others: bool) -> Effect:
    """What a query's answer says that broke off after some of it was passed on: too late to ask another server.

    So nobody can tell whose fault it is, nor whether one that took too long stood still: it counts while `others` are
    asked queries, and never shuts out the last one.
    """
    event = effect(outcome, Operation.QUERY)
    return _NOTHING if event.in_doubt and not others else event


def effect_of_check(outcome: Outcome) -> Effect:
    """What a health check, a question that any server answers at once, says about a server in use.

    Silence there is no heavy query: it shuts the server out like a refused connection. An error status (its database
    is down, say) speaks for queries only: such a server still takes commands.
    """
    match outcome.kind:
        case Kind.TLS:
            return Effect(open_for=FORBIDDEN_OPEN)
        case Kind.NO_PLACE | Kind.LOCAL:
            return _NOTHING
        case Kind.ACCEPTED:
            return _SUCCESS
        case kind if kind in _NO_ANSWER:
            return _HARD
        case _:
            return _HARD_OWN


def ends_waiting(check: Outcome, operation: Operation) -> bool:
    """Whether a request that waits in silence is to leave the server whose health check met `check`.

    One that does not answer is dead. One whose database is away (503) answers no query, but may still take a command.
    Any other answer comes from a server that is alive, and only slow.
    """
    return check.kind in _NO_ANSWER or (check.kind is Kind.BUSY and operation is Operation.QUERY)


def is_final(outcome: Outcome) -> bool:
    """Whether no other server is to be asked: the answer stands, or the request itself is bad."""
    return outcome.kind in (Kind.ACCEPTED, Kind.REJECTED, Kind.NOT_FOUND)


def error_for_status(
    endpoint: str, status: int, headers: Mapping[str, str], body: bytes, operation: Operation
) -> ServerError | None:
    """The error that an HTTP answer stands for; None for 200.

    `body` is (the beginning of) the answer's body: it makes the reason, and tells PuppetDB's own 404 about a node
    (JSON) from others. One without JSON may be PuppetDB's word about an address that it does not have (from 8.5.0
    on), or come from something in front of it, or from a server that is still starting: `Misrouted`, of which
    `answer_of_puppetdb` makes an answer where the server is seen to be PuppetDB.
    """
    if status == 200:
        return None
    reason = _reason(body)
    match status:
        case 401 | 403:
            return Forbidden(endpoint, status, reason or "this certificate is not allowed to do that")
        case 404 if operation is Operation.QUERY and body.lstrip().startswith(b"{"):
            return NotFound(endpoint, status, reason)
        case 302 if headers.get("Location", "").endswith(DASHBOARD):
            return Rejected(endpoint, status, "PuppetDB has no such address")
        case 404 | 301 | 302 | 303 | 307 | 308:
            return Misrouted(endpoint, status, f"{NO_PUPPETDB}{f': {reason}' if reason else ''}")
        case 429 | 503:
            return Busy(endpoint, status, reason or "busy or in maintenance", retry_after(headers))
        case 408:
            return ServerError(endpoint, status, reason or "the server gave up waiting for the request")
        case _ if 400 <= status < 500:
            return Rejected(endpoint, status, reason or "the request itself is bad")
        case _:
            return ServerError(endpoint, status, reason or "unexpected answer")


def answer_to_status(error: ServerError) -> ServerError:
    """What `error`, met by the question for PuppetDB's status, says: any PuppetDB answers that, 200 or 503."""
    if not isinstance(error, NotFound | Misrouted | Rejected):
        return error
    answer = Misrouted(error.endpoint, error.status, f"that is no PuppetDB (a Puppet Server?): {error.reason}")
    answer.headers, answer.body = error.headers, error.body
    return answer


def answer_of_puppetdb(error: Misrouted) -> ServerError:
    """What `error`, met by a query, says when it comes from a PuppetDB that runs: it has no such address."""
    kind = NotFound if error.status == 404 else Rejected
    answer = kind(error.endpoint, error.status, "PuppetDB has no such address")
    answer.headers, answer.body = error.headers, error.body
    return answer


def is_about_one_query(error: TransportError | ServerError) -> bool:
    """Whether a server's answer is about that query alone: others are worth asking, now and of the same server.

    Not so when it is busy, keeps us out, or did not answer.
    """
    return isinstance(error, ServerError) and not isinstance(error, Busy | Forbidden)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait as the `Retry-After` header asks, clamped to 1-60; 5 without a usable one.

    An HTTP date is measured against the server's own `Date`, so that our clock takes no part.
    """
    text = headers.get("Retry-After", "").strip()
    seconds = RETRY_AFTER_DEFAULT
    if text.isascii() and text.isdigit():
        seconds = float(text)
    elif text:
        try:
            until = parsedate_to_datetime(text)
            seconds = (until - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
        except (TypeError, ValueError, OverflowError):
            seconds = RETRY_AFTER_DEFAULT
    low, high = RETRY_AFTER_RANGE
    return min(max(seconds, low), high)


def _reason(body: bytes) -> str:
    """One line of at most 300 characters out of an error body: what PuppetDB's JSON says, else the text itself.

    That is `error`, and `msg` beside a `kind` where Puppet's own web server answers (406 and 415 from 8.8 on).
    """
    text = body[:4096].decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    said = [document.get(key) for key in ("error", "msg")] if isinstance(document, dict) else []
    reason = next((each for each in said if isinstance(each, str)), None)
    if reason is not None:
        text = reason
    elif text.lstrip().startswith("<"):
        # An HTML error page says less than the status does.
        return ""
    return " ".join(text.split())[:300]
