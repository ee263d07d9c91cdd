"""What the programs of a world are configured with, as a user would, but for shorter intervals. Pure text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pdbclient.config.model import TlsFiles

from .hosts import PUPPETDB_NAME, Host

__all__ = [
    "GATEWAY_PORT",
    "HTTPS_PORT",
    "HTTP_PORT",
    "POSTGRESQL_PORT",
    "TTL",
    "URL_TIMEOUT",
    "gateway_url",
    "haproxy",
    "haproxy_url",
    "puppetdb_conf",
    "puppetdb_url",
    "sync_conf",
]

HTTPS_PORT, HTTP_PORT, GATEWAY_PORT, POSTGRESQL_PORT = 8081, 8080, 8085, 5432
INTERVAL = "10s"
URL_TIMEOUT = 10
"""Seconds that Puppet waits for one server: what the stock documentation advises where there are several."""
TTL = "14d"
"""Of reports and deactivated nodes; PuppetDB's default."""

_HAPROXY = """\
global
  maxconn 2000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch
  option httpchk
  http-check send meth GET uri /status/v1/services/puppetdb-status ver HTTP/1.1 hdr Host {name}
  http-check expect status 200
  default-server check check-ssl verify required ca-file {ca} crt {pem} inter 2s fall 2 rise 2 \
on-marked-down shutdown-sessions
listen puppetdb
  bind {own}:{port}
"""


def puppetdb_url(host: Host) -> str:
    """Where a PuppetDB is."""
    return f"https://{host.fqdn}:{HTTPS_PORT}"


def gateway_url(host: Host) -> str:
    """Where the gateway of a Puppet host is."""
    return f"https://{host.fqdn}:{GATEWAY_PORT}"


def haproxy_url() -> str:
    """Where haproxy is, on every Puppet host: by a name that is that host's there, and in PuppetDBs' certificates."""
    return f"https://{PUPPETDB_NAME}:{GATEWAY_PORT}"


def puppetdb_conf(host: Host, databases: Sequence[Host], tls: TlsFiles, journal: str) -> str:
    """puppetdb.conf of a Puppet host with the gateway, for both."""
    urls = ",".join([gateway_url(host), *map(puppetdb_url, databases)])
    own = {
        "gateway_url": gateway_url(host),
        "journal": journal,
        "journal_heal": "heal",
        "ssl_ca_cert": tls.ca,
        "ssl_cert": tls.cert,
        "ssl_key": tls.key,
        "ssl_crl": tls.crl,
    }
    main = f"[main]\nserver_urls = {urls}\nserver_url_timeout = {URL_TIMEOUT}\n\n"
    return f"{main}[pdbclient]\n" + "".join(f"{key} = {own[key]}\n" for key in own)


def sync_conf(host: Host, databases: Sequence[Host], tls: TlsFiles, state_dir: Path) -> str:
    """The reconciler's configuration beside the PuppetDB of `host`, pulling from all others."""
    # A JSON string is a HOCON string.
    remotes = "\n".join(
        f"    {{ server_url: {json.dumps(puppetdb_url(other))}, interval: {INTERVAL} }}"
        for other in databases
        if other != host
    )
    files = {"ssl_ca_cert": tls.ca, "ssl_cert": tls.cert, "ssl_key": tls.key, "ssl_crl": tls.crl}
    lines = "".join(f"  {key}: {json.dumps(str(file))}\n" for key, file in files.items())
    return (
        f"sync: {{\n  local_url: {json.dumps(puppetdb_url(host))}\n  remotes: [\n{remotes}\n  ]\n"
        f"  report-ttl: {TTL}\n  node-purge-ttl: {TTL}\n  state_dir: {json.dumps(str(state_dir))}\n{lines}}}\n"
    )


def haproxy(host: Host, databases: Sequence[Host], tls: TlsFiles, pem: Path) -> str:
    """haproxy's configuration, as a careful administrator's: TLS passes through it, all but the first are backups.

    `pem` holds the certificate and the key for its checks.
    """
    text = _HAPROXY.format(name=PUPPETDB_NAME, own=host.address, port=GATEWAY_PORT, ca=tls.ca, pem=pem)
    for number, each in enumerate(databases):
        text += f"  server {each.name} {each.address}:{HTTPS_PORT}{' backup' if number else ''}\n"
    return text
