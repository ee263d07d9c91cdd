"""What `doctor` found, and the facts that it is made of. Pure.

A check is a function from facts to findings; whoever gathers the facts judges nothing. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pdbclient.errors import Problem
from pdbclient.sync.policy.identity import Process

__all__ = [
    "DiskFacts",
    "Facts",
    "FileFacts",
    "Finding",
    "GatewayFacts",
    "JournalFacts",
    "Look",
    "PassFacts",
    "PathRule",
    "PeerFacts",
    "PuppetFacts",
    "Role",
    "ServerFacts",
    "ServiceFacts",
    "SettingFacts",
    "Severity",
    "UnitFacts",
    "Wish",
]


class Role(StrEnum):
    """What a host is to pdbclient: one that runs Puppet with a gateway, or one with a PuppetDB and its reconciler."""

    SERVER = "server"
    PUPPETDB = "puppetdb"


class Severity(StrEnum):
    """`PROBLEM`: something does not work. `WARNING`: it will not, or is not meant so. `OK`: looked at, and well."""

    PROBLEM = "problem"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `code` is its kind (see `pdbclient.doctor.kinds`), `where` a file, a setting, a
    server or a unit, `what` was found there, `do` what mends it (empty where nothing is to be done).
    """

    code: str
    severity: Severity
    where: str
    what: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class PathRule:
    """What a `setting` of a unit makes of `path` and all below it, symlinks resolved.

    `effect` is `read-write`, `read-only`, or of no use whatever else the unit says: `hidden`, `private`.
    """

    path: str
    effect: str
    setting: str


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A systemd unit. `active`, `sub`, `enabled` and `load` are systemd's words; `active` None: there is no systemd.

    `restarts`: how often systemd has started it again by itself; `running_for`: seconds since it is active. `paths`:
    where it may write, and where not.
    """

    name: str
    user: str | None = None
    groups: tuple[str, ...] = ()
    active: str | None = None
    enabled: str | None = None
    config: str | None = None
    load: str = "loaded"
    sub: str | None = None
    restarts: int = 0
    running_for: float | None = None
    paths: tuple[PathRule, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file with a secret in it: what the secret is, and whether every account of this machine may read it."""

    path: str
    secret: str
    open_to_all: bool


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system of a directory that is written to: what for, and what of it is free to this user.

    `error`: why nothing can be written there. `ours`: whether it is the service that writes there. `real`: `path`
    with its symlinks resolved.
    """

    path: str
    purpose: str
    free: int = 0
    size: int = 0
    free_inodes: int | None = None
    error: str | None = None
    ours: bool = True
    real: str = ""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One PuppetDB, asked by its name. What it did not tell is None.

    `met` is how the question that failed ended (`pdbclient.http.outcome.Kind`), and `error` why. `clock`: its clock
    minus ours, least and greatest. `looks`: two at its process, the second after all servers were looked at.
    `oldest_report` and `oldest_dead`: the age of the oldest report, and of what was longest deactivated or expired,
    that it shows.
    """

    url: str
    certname: str | None = None
    met: str | None = None
    error: str | None = None
    is_gateway: bool = False
    version: str | None = None
    queue: int | None = None
    clock: tuple[float, float] | None = None
    looks: tuple[Process, ...] = ()
    oldest_report: float | None = None
    oldest_dead: float | None = None


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Of the newest reports at `source` that have been there for `grace` seconds, how many `target` lacks."""

    source: str
    target: str
    grace: float
    looked_at: int
    missing: int


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """The journal at `place`, a path or a URL without its password. `pending`: by server, "" for any of them."""

    place: str
    error: str | None = None
    missing: bool = False
    held_by: int | None = None
    pending: Mapping[str, int] = field(default_factory=dict)
    oldest_pending: float | None = None
    parked: int = 0
    bytes: int = 0
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PassFacts:
    """The reconciler's passes against one remote. `lag`: since one last succeeded; None: none ever did."""

    remote: str
    interval: float
    ran: bool = False
    lag: float | None = None
    error: str | None = None
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What a service's user sees: its configuration, and everything that this names.

    `looked_as` is who looked, `service_user` who should have, if that is known. `errors` and `warnings` are those of
    the configuration; with errors that keep it from being read (`unread`) there is nothing else.
    """

    role: Role
    config: str
    looked_as: str
    service_user: str | None = None
    unread: bool = False
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    certname: str | None = None
    gateway_url: str | None = None
    report_ttl: float | None = None
    node_purge_ttl: float | None = None
    max_clock_skew: float = 60.0
    files: tuple[FileFacts, ...] = ()
    disks: tuple[DiskFacts, ...] = ()
    servers: tuple[ServerFacts, ...] = ()
    peers: tuple[PeerFacts, ...] = ()
    journal: JournalFacts | None = None
    passes: tuple[PassFacts, ...] = ()
    state_error: str | None = None


@dataclass(frozen=True, slots=True)
class SettingFacts:
    """A setting of Puppet's that does not lead to PuppetDB as configured."""

    file: str
    setting: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """The gateway, asked by the name that Puppet calls it, with Puppet's own certificate.

    `unusable`: the servers that it leaves out now. `journal_up` None: it has no journal. `met` and `error` as in
    `ServerFacts`. `unasked`: why it could not even be asked.
    """

    url: str
    certificate: str
    certname: str
    met: str | None = None
    error: str | None = None
    unasked: str | None = None
    is_gateway: bool = False
    unusable: tuple[str, ...] = ()
    journal_up: bool | None = None


@dataclass(frozen=True, slots=True)
class PuppetFacts:
    """Puppet's own configuration on this host: what of it leads elsewhere, and the gateway that it leads to.

    `setup` is the command that sets it right. With `errors` nothing else was looked at, but for the gateway.
    """

    confdir: str
    gateway_url: str | None = None
    setup: str = "pdbclient terminus setup"
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    astray: tuple[SettingFacts, ...] = ()
    gateway: GatewayFacts | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was gathered about one role of a host."""

    service: ServiceFacts
    unit: UnitFacts
    puppet: PuppetFacts | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be looked at.

    `role` None: every one that this host has a configuration for; of one that is named, that one. Without a name, it
    is where the unit has it, or where it usually is. `user`: who the services run as; else as their units say.
    """

    role: Role | None = None
    puppetdb_conf: Path | None = None
    sync_conf: Path | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What was found about one role."""

    role: Role
    config: str
    findings: tuple[Finding, ...]
