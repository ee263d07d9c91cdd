"""The files that users copy are loaded by a test, so they stay right."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import Endpoint, Remote, load_config, load_sync_config
from pdbclient.config.settings import SYNC

EXAMPLES = Path(__file__).parents[3] / "puppet_conf_examples"
PRIMARY = Endpoint("primary-puppetdb.mycorp.net", 8081)
REPLICA = Endpoint("replica-puppetdb.mycorp.net", 8081)

Write = Callable[..., Path]


def _ssl(write: Write) -> None:
    for name in ("certs/ca.pem", "certs/host.example.com.pem", "private_keys/host.example.com.pem", "crl.pem"):
        write(f"ssl/{name}")


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
    _ssl(write)
    config = load_sync_config(shutil.copy(EXAMPLES / f"sync-{side}.{form}", tmp_path))
    assert config.local == local
    assert config.remotes == (Remote(peer, 300.0),)
    assert config.entity_time_limit == 1800
    assert config.state_dir == Path("/var/lib/pdbclient")
    assert config.warnings == ()


@pytest.mark.parametrize("side", ["primary", "replica"])
def test_the_example_sync_configurations_name_every_setting_and_show_the_defaults(
    side: str, write: Write, tmp_path: Path
) -> None:
    """The reference page sends readers there for both."""
    _ssl(write)
    config = load_sync_config(shutil.copy(EXAMPLES / f"sync-{side}.conf", tmp_path))
    text = (EXAMPLES / f"sync-{side}.conf").read_text()
    named = {name.replace("-", "_") for name in re.findall(r"([a-z_-]+):", text)}
    other_form = {"server_urls", "intervals"}
    by_experts = {"server_url_timeout", "connect_timeout", "read_timeout", "operation_timeout", "logging_config"}
    assert set(SYNC) - other_form - by_experts <= named
    for name, setting in SYNC.items():
        if setting.default is not None and hasattr(config, name):
            assert getattr(config, name) == setting.default, name
