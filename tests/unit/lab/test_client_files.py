"""The configuration files that a lab hands out, read by our own readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdbclient.config import Endpoint, TlsFiles, load_config, load_sync_config
from pdbclient.lab.client_files import puppetdb_conf, sync_conf
from pdbclient.lab.layout import Node

NODES = [
    Node(name, Path("/lab/nodes") / name, 1000 + n, 2000, 3000)
    for n, name in enumerate(["primary", "replica", "replica2"])
]


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    files = [tmp_path / name for name in ("ca.pem", "client.pem", "client key.pem")]
    for file in files:
        file.write_text("")
    return TlsFiles(*files)


def test_puppetdb_conf_lists_all_nodes_in_order_and_the_client_certificate(tmp_path: Path, tls: TlsFiles) -> None:
    file = tmp_path / "puppetdb.conf"
    file.write_text(puppetdb_conf(NODES, tls))
    config = load_config(file)
    assert config.server_urls == tuple(Endpoint("localhost", port) for port in (1000, 1001, 1002))
    assert (config.tls.ca, config.tls.cert, config.tls.key) == (tls.ca, tls.cert, tls.key)


def test_a_sync_configuration_pulls_from_all_others_every_five_minutes(tmp_path: Path, tls: TlsFiles) -> None:
    file = tmp_path / "sync.conf"
    file.write_text(sync_conf(NODES[1], [NODES[0], NODES[2]], tls, tmp_path / "state"))
    config = load_sync_config(file)
    assert config.local == Endpoint("localhost", 1001)
    assert [(remote.endpoint.port, remote.interval) for remote in config.remotes] == [(1000, 300.0), (1002, 300.0)]
    assert (config.tls.ca, config.tls.cert, config.tls.key) == (tls.ca, tls.cert, tls.key)
    assert config.state_dir == tmp_path / "state"
