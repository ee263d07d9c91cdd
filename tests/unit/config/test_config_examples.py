"""The files that users copy are loaded by a test, so they stay right."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import Endpoint, Remote, SyncConfig, load_config, load_sync_config
from pdbclient.config.settings import SYNC

EXAMPLES = Path(__file__).parents[3] / "puppet_conf_examples"
PRIMARY = Endpoint("primary-puppetdb.mycorp.net", 8081)
REPLICA = Endpoint("replica-puppetdb.mycorp.net", 8081)

Write = Callable[..., Path]


def _ssl(write: Write) -> None:
    for name in ("certs/ca.pem", "certs/host.example.com.pem", "private_keys/host.example.com.pem", "crl.pem"):
        write(f"ssl/{name}")


def _load_sync(name: str, write: Write, tmp_path: Path) -> SyncConfig:
    """The example with the files that `puppetdb ssl-setup` and Puppet's agent make, below the test's directory."""
    for file in ("puppetdb/ssl/ca.pem", "puppetdb/ssl/public.pem", "puppetdb/ssl/private.pem", "puppet/ssl/crl.pem"):
        write(file)
    text = (EXAMPLES / name).read_text().replace("/etc/puppetlabs", str(tmp_path))
    return load_sync_config(write("sync.conf" if name.endswith(".conf") else "sync.ini", text))


def test_the_example_puppetdb_conf_loads_beside_puppets_certificates(write: Write, tmp_path: Path) -> None:
    """With the files it needs in place, nothing in it is even a warning."""
    _ssl(write)
    config = load_config(shutil.copy(EXAMPLES / "puppetdb.conf", tmp_path))
    assert config.server_urls == (PRIMARY, REPLICA)
    assert config.timeouts.connect == 3
    assert config.warnings == ()


@pytest.mark.parametrize("form", ["conf", "ini"])
@pytest.mark.parametrize(("side", "local", "peer"), [("primary", PRIMARY, REPLICA), ("replica", REPLICA, PRIMARY)])
def test_the_example_sync_configurations_load_and_point_at_each_other(
    form: str, side: str, local: Endpoint, peer: Endpoint, write: Write, tmp_path: Path
) -> None:
    """Both forms say the same."""
    config = _load_sync(f"sync-{side}.{form}", write, tmp_path)
    assert config.local == local
    assert config.remotes == (Remote(peer, 300.0),)
    assert config.entity_time_limit == 1800
    assert config.state_dir == Path("/var/lib/pdbclient-sync")
    assert config.tls.key == tmp_path / "puppetdb/ssl/private.pem"
    assert config.tls.revocation == "chain"
    assert config.warnings == ()


@pytest.mark.parametrize("side", ["primary", "replica"])
def test_the_example_sync_configurations_name_every_setting_and_show_the_defaults(
    side: str, write: Write, tmp_path: Path
) -> None:
    """The README sends readers there for both."""
    config = _load_sync(f"sync-{side}.conf", write, tmp_path)
    text = (EXAMPLES / f"sync-{side}.conf").read_text()
    named = {name.replace("-", "_") for name in re.findall(r"([a-z_-]+):", text)}
    other_form = {"server_urls", "intervals"}
    by_experts = {"server_url_timeout", "connect_timeout", "read_timeout", "operation_timeout", "logging_config"}
    assert set(SYNC) - other_form - by_experts <= named
    for name, setting in SYNC.items():
        if setting.default is not None and hasattr(config, name):
            assert getattr(config, name) == setting.default, name
