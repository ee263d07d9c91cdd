"""The configuration files that a lab hands to its users: pure text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.lab.layout import Node

__all__ = ["puppetdb_conf", "sync_conf"]

_SYNC_INTERVAL = "5m"


def puppetdb_conf(nodes: Iterable[Node], tls: TlsFiles) -> str:
    """A `puppetdb.conf` for Puppet and pdbclient alike, with all nodes in order."""
    urls = ",".join(node.url for node in nodes)
    return (
        f"[main]\nserver_urls = {urls}\n\n"
        f"[pdbclient]\nssl_ca_cert = {tls.ca}\nssl_cert = {tls.cert}\nssl_key = {tls.key}\n"
    )


def sync_conf(node: Node, remotes: Iterable[Node], tls: TlsFiles, state_dir: Path) -> str:
    """The reconciler's HOCON for `node`, pulling from every one of `remotes`."""
    # A JSON string is a HOCON string.
    entries = "\n".join(
        f"    {{ server_url: {json.dumps(remote.url)}, interval: {_SYNC_INTERVAL} }}" for remote in remotes
    )
    return (
        "sync: {\n"
        f"  local_url: {json.dumps(node.url)}\n"
        f"  remotes: [\n{entries}\n  ]\n"
        f"  ssl_ca_cert: {json.dumps(str(tls.ca))}\n"
        f"  ssl_cert: {json.dumps(str(tls.cert))}\n"
        f"  ssl_key: {json.dumps(str(tls.key))}\n"
        f"  state_dir: {json.dumps(str(state_dir))}\n"
        "}\n"
    )
