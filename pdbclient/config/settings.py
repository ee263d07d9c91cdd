"""The tables of settings: name, default, and how the value is read. Nothing else knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pdbclient.config import values
from pdbclient.config.document import Value
from pdbclient.config.model import Endpoint

__all__ = ["FOREIGN", "OWN", "RETIRED", "STOCK", "SYNC", "SYNC_ENTITIES", "TLS", "Setting"]

PUPPETDB_PORT = 8081
"""PuppetDB's TLS port: what a sync URL without a port means. In puppetdb.conf it means 443, as to Ruby."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `read` turns its value into its type or raises `SettingError`."""

    name: str
    default: Any
    read: Callable[[Value], Any]


def _table(*settings: Setting) -> Mapping[str, Setting]:
    return {setting.name: setting for setting in settings}


TLS = _table(
    Setting("ssl_ca_cert", None, values.path_text),
    Setting("ssl_cert", None, values.path_text),
    Setting("ssl_key", None, values.path_text),
    Setting("ssl_crl", None, values.path_text),
    Setting("certificate_revocation", None, values.revocation),
)

STOCK = _table(
    Setting("server_urls", (Endpoint("puppetdb", 8081),), values.server_urls(443)),
    Setting("submit_only_server_urls", (), values.server_urls(443)),
    Setting("server_url_timeout", 30.0, values.stock_timeout),
    Setting("min_successful_submissions", 1, values.stock_minimum),
    Setting("command_broadcast", False, values.boolean),
    Setting("sticky_read_failover", False, values.boolean),
    Setting("soft_write_failure", False, values.boolean),
    Setting("include_unchanged_resources", False, values.boolean),
    Setting("include_catalog_edges", True, values.boolean),
    Setting("verify_client_certificate", True, values.boolean),
    # Kept by the stock terminus and never read.
    Setting("ignore_blacklisted_events", None, values.ignored),
)
"""`[main]` of puppetdb.conf, with the stock terminus' defaults (8.x)."""

_TIMEOUTS = (
    Setting("connect_timeout", 3.0, values.timeout),
    Setting("read_timeout", 10.0, values.timeout),
    Setting("operation_timeout", 45.0, values.timeout),
)

OWN = _table(
    Setting("gateway_url", None, values.one_url(443)),
    Setting("gateway_allow", (), values.certnames),
    Setting("gateway_local_url", None, values.local_url),
    Setting("gateway_local_commands", False, values.boolean),
    Setting("gateway_status_port", None, values.count(1, 65535)),
    Setting("gateway_health_interval", 2.0, values.timeout),
    Setting("gateway_concurrency", 64, values.count(1, 64)),
    Setting("gateway_max_body_bytes", 134217728, values.count(1)),
    Setting("gateway_max_total_bytes", 536870912, values.count(1, 10**15)),
    Setting("gateway_max_url_bytes", 16384, values.count(1024, 1024 * 1024)),
    Setting("journal", None, values.journal_place),
    Setting("journal_max_age", 14 * 86400.0, values.span),
    Setting("journal_max_bytes", 10 * 2**30, values.count(1, 10**15)),
    Setting("journal_rate", 50, values.count(1)),
    Setting("journal_heal", "report", values.choice("heal", "report")),
    Setting("stale_exported", "serve", values.choice("serve", "fail")),
    Setting("stale_exported_budget", 5.0, values.timeout),
    *TLS.values(),
    *_TIMEOUTS,
    Setting("query_timeout", 300.0, values.timeout),
    Setting("gzip_min_bytes", 16384, values.count(0)),
)
"""`[pdbclient]` of puppetdb.conf; any setting of `STOCK` may stand there too and then wins."""

SYNC_ENTITIES = ("nodes", "fact_expiration", "facts", "catalogs", "catalog_inputs", "reports")
"""The names of what is reconciled, in the order of a pass."""

SYNC = _table(
    Setting("remotes", None, lambda value: value),  # judged by itself: a list of objects
    Setting("server_urls", None, values.server_urls(PUPPETDB_PORT)),
    Setting("intervals", None, values.durations),
    Setting("local_url", None, values.one_url(PUPPETDB_PORT)),
    *TLS.values(),
    Setting("server_url_timeout", 30.0, values.stock_timeout),
    *_TIMEOUTS,
    Setting("state_dir", None, values.path_text),
    Setting("entity_time_limit", 1800.0, values.span),
    Setting("report_ttl", 14 * 86400.0, values.span),
    Setting("node_purge_ttl", 14 * 86400.0, values.span),
    Setting("max_clock_skew", 60.0, values.span),
    Setting("max_queue_depth", 1000, values.count(1)),
    Setting("batch_size", 20, values.count(1, 1000)),
    Setting("concurrency", 4, values.count(1, 64)),
    Setting("audit_interval", 86400.0, values.span),
    Setting("one_way", False, values.flag),
    Setting("entities", (), values.choices(*SYNC_ENTITIES)),
    Setting("certnames", (), values.certname_patterns),
    Setting("max_age", None, values.span),
    Setting("status_port", None, values.count(1, 65535)),
    Setting("logging_config", None, values.path_text),
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
