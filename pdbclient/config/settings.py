"""The tables of settings: name, how the value is read, what it means. Nothing else knows them.

A default stands where the value ends up, in the dataclasses of `pdbclient.config.model`, and is taken from there.
Only a setting that is no field of one has it here. The reference page in docs/ is generated from these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from pdbclient.config import values
from pdbclient.config.document import Value
from pdbclient.config.model import ClientConfig, Endpoint, SyncConfig, Timeouts

__all__ = [
    "FOREIGN",
    "OWN",
    "PUPPETDB_PORT",
    "RETIRED",
    "STOCK",
    "SYNC",
    "SYNC_ENTITIES",
    "TLS",
    "Setting",
    "timeouts",
]

PUPPETDB_PORT = 8081
"""PuppetDB's TLS port: what a sync URL without a port means. In puppetdb.conf it means 443, as to Ruby."""

_TIMEOUTS = {
    "server_url_timeout": "attempt",
    "connect_timeout": "connect",
    "read_timeout": "read",
    "operation_timeout": "operation",
    "query_timeout": "query",
}
"""Settings that are fields of `Timeouts`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `read` turns its value into its type or raises `SettingError`.

    `meaning` is for the reference page, in Markdown; so is `unset`, what holds where the default is none.
    """

    name: str
    read: Callable[[Value], Any]
    meaning: str
    default: Any = None
    unset: str = "none"


def timeouts(of: Mapping[str, Any]) -> Timeouts:
    """The limits among the values of a table's settings."""
    return Timeouts(**{field: of[name] for name, field in _TIMEOUTS.items() if name in of})


def _defaults(*kinds: type) -> dict[str, Any]:
    return {each.name: each.default for kind in kinds for each in fields(kind) if each.default is not MISSING}


def _table(model: type, *settings: Setting) -> Mapping[str, Setting]:
    """By name, with the defaults that `model` has."""
    limits = _defaults(Timeouts)
    known = _defaults(model) | {name: limits[field] for name, field in _TIMEOUTS.items()}
    return {each.name: replace(each, default=known.get(each.name, each.default)) for each in settings}


TLS = _table(
    ClientConfig,
    Setting("ssl_ca_cert", values.path_text, "the CA certificate", unset="where Puppet keeps it"),
    Setting("ssl_cert", values.path_text, "the client certificate", unset="where Puppet keeps it"),
    Setting("ssl_key", values.path_text, "its private key", unset="where Puppet keeps it"),
    Setting("ssl_crl", values.path_text, "the revocation list", unset="where Puppet keeps it"),
    Setting(
        "certificate_revocation",
        values.revocation,
        "as Puppet means it: every certificate of the `chain` must be on no revocation list, or only the `leaf`; "
        "`false`: no list is read. A CA of your own (`ssl_ca_cert`) is checked only with its own `ssl_crl`",
        unset="as in `puppet.conf`, else `chain`",
    ),
)

STOCK = _table(
    ClientConfig,
    Setting(
        "server_urls",
        values.server_urls(443),
        "the servers, in the order in which they are asked",
        default=(Endpoint("puppetdb", 8081),),
    ),
    Setting(
        "submit_only_server_urls",
        values.server_urls(443),
        "take commands when no other server does; never asked queries",
    ),
    Setting("server_url_timeout", values.stock_timeout, "seconds that one attempt may take; 0: no cap"),
    Setting(
        "min_successful_submissions", values.stock_minimum, "with broadcast: how many servers must take a command"
    ),
    Setting("command_broadcast", values.boolean, "every command to all servers at once"),
    Setting(
        "sticky_read_failover",
        values.boolean,
        "queries stay with the server that answered last, until it fails",
    ),
    Setting(
        "soft_write_failure",
        values.boolean,
        "no error when no server can be reached (the data is lost); a rejection still is one",
    ),
    Setting(
        "include_unchanged_resources",
        values.boolean,
        "read and checked; used by Puppet's own terminus",
    ),
    Setting("include_catalog_edges", values.boolean, "read and checked; used by Puppet's own terminus"),
    Setting(
        "verify_client_certificate",
        values.boolean,
        "`false`: present no client certificate (the stock name and meaning)",
    ),
    # Kept by the stock terminus and never read.
    Setting("ignore_blacklisted_events", values.ignored, "accepted and without effect since PuppetDB 3"),
)
"""`[main]` of puppetdb.conf, with the stock terminus' defaults (8.x)."""

_LIMITS = (
    Setting("connect_timeout", values.timeout, "TCP and TLS together"),
    Setting("read_timeout", values.timeout, "silence of a server that was sent a command"),
    Setting("operation_timeout", values.timeout, "all attempts of one command"),
)

OWN = _table(
    ClientConfig,
    *_LIMITS,
    Setting("query_timeout", values.timeout, "all attempts of one query, up to the last byte of its answer"),
    Setting("gzip_min_bytes", values.count(0), "commands from this size on are sent compressed"),
    *TLS.values(),
    Setting(
        "gateway_url",
        values.one_url(443),
        "where the gateway listens; taken out of `server_urls` for pdbclient itself",
    ),
    Setting(
        "gateway_allow",
        values.certnames,
        "the certnames that the gateway lets in",
        unset="its own certname",
    ),
    Setting(
        "gateway_local_url",
        values.local_url,
        "`http://127.0.0.1:PORT`: a second address, in clear text and for this machine only, for tools without a "
        "certificate",
    ),
    Setting("gateway_local_commands", values.boolean, "whether these may submit, too; else they read"),
    Setting(
        "gateway_status_port",
        values.count(1, 65535),
        "status page, status and metrics of the gateway on this port of 127.0.0.1",
    ),
    Setting(
        "gateway_health_interval",
        values.timeout,
        "how often the gateway asks every server in use how it is (3 s limit)",
    ),
    Setting(
        "gateway_concurrency",
        values.count(1, 64),
        "commands, and queries, that each server is sent at once; four times as many may wait",
    ),
    Setting(
        "gateway_max_body_bytes",
        values.count(1),
        "larger commands get 413, also those that gzip makes larger",
    ),
    Setting(
        "gateway_max_total_bytes",
        values.count(1, 10**15),
        "bodies that it holds at once (at least two of the largest), half of that for queries and in clear text; more"
        " wait for 5 s, then get 503",
    ),
    Setting(
        "gateway_max_url_bytes",
        values.count(1024, 1024 * 1024),
        "longer request lines get 400; PuppetDB's own limit (8 KB, unless it is configured) holds beside it",
    ),
    Setting(
        "journal",
        values.journal_place,
        "where accepted commands are kept: an absolute path of a file, or `postgresql://USER@HOST/DATABASE`",
    ),
    Setting("journal_max_age", values.span, "how long what the servers have, and what is parked, is kept"),
    Setting("journal_max_bytes", values.count(1, 10**15), "how much of what servers have is kept"),
    Setting(
        "journal_rate",
        values.count(1),
        "commands a second to one server that catches up, from all together that share a journal",
    ),
    Setting(
        "journal_heal",
        values.choice("heal", "report"),
        "when a server lost what it once had: `heal` sends it again, `report` only says so",
    ),
    Setting(
        "stale_exported",
        values.choice("serve", "fail"),
        "exported resources that could not be brought up to date in time: `serve` them, or `fail`",
    ),
    Setting("stale_exported_budget", values.timeout, "that time"),
    Setting(
        "node_ttl",
        values.time_to_live,
        "the same value as in the `[database]` section of the PuppetDBs, which do not tell it: of nodes that have"
        " been silent for longer nothing is sent again, as they would be active again; `0s`: nodes never expire",
    ),
)
"""`[pdbclient]` of puppetdb.conf; any setting of `STOCK` may stand there too and then wins."""

CLIENT = {**STOCK, **OWN}
"""All of puppetdb.conf."""

SYNC_ENTITIES = ("nodes", "fact_expiration", "facts", "catalogs", "catalog_inputs", "reports")
"""The names of what is reconciled, in the order of a pass."""

SYNC = _table(
    SyncConfig,
    Setting(
        "local_url",
        values.one_url(PUPPETDB_PORT),
        "the PuppetDB on this side; everything that is pulled is submitted there and nowhere else",
        unset="`https://CERTNAME:8081`, by puppet.conf",
    ),
    # Judged by itself: a list of objects.
    Setting(
        "remotes",
        lambda value: value,
        "the peers: a list of objects with `server_url` and `interval`",
    ),
    Setting("server_urls", values.server_urls(PUPPETDB_PORT), "the peers, in the ini form", unset="`remotes`"),
    Setting(
        "intervals",
        values.durations,
        "in the ini form: how often each of `server_urls` is pulled from, in the same order, with units",
        unset="`remotes`",
    ),
    *TLS.values(),
    Setting("server_url_timeout", values.stock_timeout, "seconds that one request may take; 0: no cap"),
    *_LIMITS,
    Setting(
        "state_dir",
        values.path_text,
        "where passes keep what they have to remember",
        unset="`/var/lib/pdbclient-sync` where that is, and for root; else `~/.local/state/pdbclient`",
    ),
    Setting(
        "entity_time_limit", values.span, "one kind of record gets at most this long in one pass; the next goes on"
    ),
    Setting(
        "report_ttl",
        values.time_to_live,
        "the same value as in the `[database]` section of both PuppetDBs; `0s`: they keep all",
    ),
    Setting(
        "node_purge_ttl",
        values.time_to_live,
        "the same value as in the `[database]` section of both PuppetDBs; `0s`: they never purge",
    ),
    Setting("max_clock_skew", values.span, "no pass is made while the two clocks are further apart than this"),
    Setting(
        "max_queue_depth",
        values.count(1),
        "no pass is made while more commands than this wait at the local PuppetDB",
    ),
    Setting("batch_size", values.count(1, 1000), "records are fetched this many at a time"),
    Setting("concurrency", values.count(1, 64), "records are submitted this many at once"),
    Setting("audit_interval", values.span, "everything is listed anew this often, whatever earlier passes found"),
    Setting(
        "one_way",
        values.flag,
        "the remotes are right: for a migration or a restore, never for two PuppetDBs that pull from each other",
    ),
    Setting("entities", values.choices(*SYNC_ENTITIES), "only these kinds of records", unset="all"),
    Setting("certnames", values.certname_patterns, "only these nodes (shell patterns)", unset="all"),
    Setting("max_age", values.span, "nothing older than this", unset="any age"),
    Setting(
        "status_port",
        values.count(1, 65535),
        "status page, status and metrics of `pdbclient sync run` on this port of 127.0.0.1",
    ),
    Setting(
        "logging_config",
        values.path_text,
        "a Python logging configuration in YAML, for `pdbclient sync run`",
    ),
)
"""The `sync` section: Puppet Enterprise's own settings and ours, dashes and underscores alike."""

RETIRED = dict.fromkeys(
    ("server", "port"),
    "retired: write server_urls = https://HOST:PORT (the stock terminus ignores this line with a warning, "
    "and without server_urls goes to https://puppetdb:8081)",
)
"""Settings that the stock terminus once had."""

FOREIGN = {
    "allow_unsafe_cleartext_sync": "pdbclient never syncs in clear text: leave it out and use https URLs",
    "allow_unsafe_sync_triggers": "pdbclient has no sync triggers: leave it out",
    "initial_report_threshold": "pdbclient has no blocking initial sync that it could shorten: leave it out",
}
"""Settings of Puppet Enterprise's sync that have no meaning here."""
