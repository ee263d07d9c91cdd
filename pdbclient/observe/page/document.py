"""What the status port of a daemon tells, as one document: the page, the terminal and scripts all show this. Pure.

Times are UTC; in JSON they are text like 2026-01-31T12:00:00.000Z. What a daemon does not have is None or empty: a
gateway has no remotes, a reconciler no requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from pdbclient.errors import SafetyBrake

__all__ = [
    "Certificate",
    "Circuit",
    "Document",
    "EntityPass",
    "Exported",
    "Failover",
    "JournalFigures",
    "Outage",
    "Program",
    "Remote",
    "Requests",
    "Server",
    "decode",
    "encode",
]


@dataclass(frozen=True, slots=True)
class Program:
    """The daemon that tells: its `name` (`gateway` or `sync`), where it runs, since when."""

    name: str
    host: str
    version: str
    started: datetime


@dataclass(frozen=True, slots=True)
class Circuit:
    """Whether a server is asked to take commands, or to answer queries.

    `state` is closed (it is asked), open (it is not) or half-open (one probe was good, the second decides). `since`
    is when it last began or ceased to be asked; `why` is what was met then, empty when that never changed.
    """

    operation: str
    state: str
    since: datetime
    why: str = ""

    @property
    def usable(self) -> bool:
        """Whether user traffic may go there."""
        return self.state == "closed"


@dataclass(frozen=True, slots=True)
class Server:
    """A PuppetDB, in the order of server_urls.

    `missing`: newest commands of nodes that a later one took in its place, and it is not known to have. `next_probe`
    is in how many seconds it is asked how it is, None when all of its circuits are closed. `answered` requests ended
    there, and `failed` attempts failed there, since the daemon began.
    """

    url: str
    circuits: tuple[Circuit, ...] = ()
    missing: int = 0
    next_probe: float | None = None
    submit_only: bool = False
    answered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of one kind since the daemon began: `endings` counts what became of them.

    `in_flight` are being answered now. The percentiles (s) are of the last ones, None before the first.
    """

    kind: str
    in_flight: int = 0
    endings: Mapping[str, int] = field(default_factory=dict)
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Failover:
    """From `at` on, requests of this kind (command, query) went to `target` in the place of `source`."""

    at: datetime
    kind: str
    source: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which `server` was not asked to do all that it is there for. `ended` None: it lasts."""

    server: str
    began: datetime
    ended: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """What a journal holds, as it was last counted. `oldest` is the age (s) of the oldest pending command.

    `pending` is by server, `any` for commands that any server may take. `place` is without its password.
    `journal_only` counts the commands that no server took at once, since the daemon began.
    """

    place: str
    answers: bool
    counted: bool = True
    pending: Mapping[str, int] = field(default_factory=dict)
    parked: int = 0
    delivered: int = 0
    bytes: int = 0
    oldest: float | None = None
    journal_only: int = 0


@dataclass(frozen=True, slots=True)
class Exported:
    """Queries of exported resources: `stale` answers lacked something that another server had, by the journal.

    `policy` is `stale_exported`: whether those were served, or failed.
    """

    stale: int
    policy: str


@dataclass(frozen=True, slots=True)
class EntityPass:
    """How the part of one entity goes: when it was last done, and why the latest pass did not do it."""

    last_success: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """What is known of the passes against one remote: the fields of `pdbclient sync status --json`."""

    remote: str
    ok: bool
    interval_seconds: float
    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_error: str | None = None
    lag_seconds: float | None = None
    has_worked_once: bool = False
    has_failed_after_working: bool = False
    transferred: int = 0
    failed: int = 0
    unequal: int = 0
    tied: int = 0
    held: int = 0
    unusable: int = 0
    quarantined: int = 0
    waiting: int = 0
    cursor_age_seconds: float | None = None
    entities: Mapping[str, EntityPass] = field(default_factory=dict)
    servers: Mapping[str, Any] = field(default_factory=dict)
    last_pass: Mapping[str, Any] | None = None

    @property
    def ran(self) -> bool:
        """Whether there was a pass at all."""
        return self.last_success is not None or self.last_failure is not None

    @property
    def braked(self) -> bool:
        """Whether a safety brake kept the latest pass from being done."""
        return any(SafetyBrake.PREFIX in (part.error or "") for part in self.entities.values())


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate or revocation list that the daemon uses, and when it ends (None: never, or `error` says why)."""

    setting: str
    path: str
    name: str = ""
    expires: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """All of it, as of `at`. `failovers` and `outages` are those of the last day, the oldest first.

    `oldest_request` is how long (s) the oldest request under way has been.
    """

    program: Program
    at: datetime
    servers: tuple[Server, ...] = ()
    requests: tuple[Requests, ...] = ()
    oldest_request: float | None = None
    failovers: tuple[Failover, ...] = ()
    outages: tuple[Outage, ...] = ()
    journal: JournalFigures | None = None
    exported: Exported | None = None
    remotes: tuple[Remote, ...] = ()
    certificates: tuple[Certificate, ...] = ()


def encode(document: Document) -> bytes:
    """As JSON. Half a character, as a file's name that is no UTF-8 has, becomes a question mark."""
    plain = msgspec.to_builtins(document, builtin_types=(datetime,))
    text = json.dumps(plain, ensure_ascii=False, default=_moment)
    return text.encode("utf-8", "replace") + b"\n"


def decode(body: bytes) -> Document:
    """The document in this JSON. Raises `ValueError` for what is none; fields that are new are left out."""
    return msgspec.json.decode(body, type=Document)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
