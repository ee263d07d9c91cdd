"""What a configuration comes down to: frozen values, checked by whoever builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pdbclient.errors import Problem

NODE_TTL = 7 * 86400.0
"""Seconds, PuppetDB's default node-ttl: a node that has been silent for longer has expired."""

__all__ = ["ClientConfig", "Endpoint", "LocalAddress", "Remote", "SyncConfig", "Timeouts", "TlsFiles", "problem_of"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One PuppetDB: identity is scheme, host and port (the scheme is always https).

    `host` is lower case, without the brackets of an IPv6 literal. `order` is the place in `server_urls`
    (submit-only servers come after all others); it takes no part in comparisons.
    """

    host: str
    port: int = 443
    order: int = field(default=0, compare=False)
    submit_only: bool = field(default=False, compare=False)

    @property
    def url(self) -> str:
        """`https://host:port`, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """Where this machine alone is spoken to in clear text: an address of the loopback, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the TLS material is. `cert` and `key` are None when no client certificate is presented.

    `revocation` is Puppet's `certificate_revocation`: which of the other side's certificates must be on no list of
    `crl`, every one of the `chain`, or the `leaf` alone, and whose issuer must have a list there. `false`, or no
    `crl`: none.
    """

    ca: Path
    cert: Path | None
    key: Path | None
    crl: Path | None = None
    revocation: str = field(default="chain", kw_only=True)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds. `attempt` is `server_url_timeout`; 0 there means no cap.

    `operation` is for a whole command, `query` for a whole query, all attempts and the last byte included.
    """

    attempt: float = 30.0
    connect: float = 3.0
    read: float = 10.0
    operation: float = 45.0
    query: float = 300.0


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """`puppetdb.conf`, checked.

    `gateway_allow` has the certnames that the gateway lets in, in lower case; empty: its own. At `gateway_local_url`
    it lets in every program of this machine, to read, and with `gateway_local_commands` to submit. At
    `gateway_status_port` of the loopback it shows how it is and its metrics, and no PuppetDB's data.

    `journal` is an absolute path or a URL of PostgreSQL, which may hold a password: show it only through
    `without_password`. `journal_max_age`, `stale_exported_budget` and `node_ttl` (0: never) are in seconds,
    `journal_rate` in commands per second and server; `journal_heal` is `heal` or `report`, `stale_exported` is
    `serve` or `fail`.

    `origins` maps each setting's name to `file:line` or `default`. `warnings` lists what is accepted but
    probably not meant, or not readable by the stock terminus; whoever loads the file decides where to say it.
    """

    server_urls: tuple[Endpoint, ...]
    tls: TlsFiles
    submit_only_server_urls: tuple[Endpoint, ...] = ()
    timeouts: Timeouts = Timeouts()
    min_successful_submissions: int = 1
    command_broadcast: bool = False
    sticky_read_failover: bool = False
    soft_write_failure: bool = False
    include_unchanged_resources: bool = False
    include_catalog_edges: bool = True
    verify_client_certificate: bool = True
    gateway_url: Endpoint | None = None
    gateway_allow: tuple[str, ...] = ()
    gateway_local_url: LocalAddress | None = None
    gateway_local_commands: bool = False
    gateway_status_port: int | None = None
    gateway_health_interval: float = 2.0
    gateway_concurrency: int = 64
    gateway_max_body_bytes: int = 134217728
    gateway_max_total_bytes: int = 536870912
    gateway_max_url_bytes: int = 16384
    journal: str | None = field(default=None, repr=False)
    journal_max_age: float = 14 * 86400.0
    journal_max_bytes: int = 10 * 2**30
    journal_rate: int = 50
    journal_heal: str = "report"
    stale_exported: str = "serve"
    stale_exported_budget: float = 5.0
    node_ttl: float = NODE_TTL
    gzip_min_bytes: int = 16384
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Remote:
    """A peer to pull from, every `interval` seconds."""

    endpoint: Endpoint
    interval: float


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """The reconciler's configuration, checked. Ages and limits are in seconds unless said otherwise.

    `entities` (names of `pdbclient.sync.Entity`), `certnames` (shell patterns) and `max_age` narrow what passes
    are about, when they do not say so themselves; empty and None: everything. `origins` and `warnings` are as
    in `ClientConfig`.
    """

    local: Endpoint
    remotes: tuple[Remote, ...]
    tls: TlsFiles
    state_dir: Path
    timeouts: Timeouts = Timeouts()
    entity_time_limit: float = 1800.0
    report_ttl: float = 14 * 86400.0
    node_purge_ttl: float = 14 * 86400.0
    max_clock_skew: float = 60.0
    max_queue_depth: int = 1000
    batch_size: int = 20
    concurrency: int = 4
    audit_interval: float = 86400.0
    one_way: bool = False
    entities: tuple[str, ...] = ()
    certnames: tuple[str, ...] = ()
    max_age: float | None = None
    status_port: int | None = None
    logging_config: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)


def problem_of(config: ClientConfig | SyncConfig, setting: str, why: str) -> Problem:
    """What is wrong with a setting in force, at the line where it stands; `default` where it stands nowhere."""
    origin = config.origins.get(setting, "default")
    file, _, line = origin.rpartition(":")
    return (
        Problem(file, int(line), setting, why) if file and line.isdecimal() else Problem(origin, None, setting, why)
    )
