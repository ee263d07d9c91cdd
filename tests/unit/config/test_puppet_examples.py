"""The configuration examples for Puppet itself: pdbclient reads them as Puppet does, and their time limits fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import ClientConfig, Endpoint, load_config

from .test_config_examples import EXAMPLES, PRIMARY, REPLICA

CERTNAMES = {
    "server-gateway": "puppet.mycorp.net",
    "server-direct": "puppet.mycorp.net",
    "apply-gateway": "node1.mycorp.net",
}

Write = Callable[..., Path]


def load(example: str, write: Write, tmp_path: Path) -> ClientConfig:
    """The example where its certname and ssldir say, both below the test's directory."""
    certname = CERTNAMES[example]
    for name in ("certs/ca.pem", f"certs/{certname}.pem", f"private_keys/{certname}.pem", "crl.pem"):
        write(f"etc/puppetlabs/puppet/ssl/{name}")
    text = (EXAMPLES / example / "puppet.conf").read_text()
    conf = write("etc/puppetlabs/puppet/puppet.conf", text.replace("= /", f"= {tmp_path}/"))
    return load_config(shutil.copy(EXAMPLES / example / "puppetdb.conf", conf.parent))


@pytest.mark.parametrize("example", ["server-gateway", "apply-gateway"])
def test_the_gateway_of_an_example_stands_before_the_two_puppetdbs_on_the_hosts_own_name(
    example: str, write: Write, tmp_path: Path
) -> None:
    config = load(example, write, tmp_path)
    assert config.gateway_url == Endpoint(CERTNAMES[example], 8085)
    assert config.server_urls == (PRIMARY, REPLICA)
    assert config.warnings == ()
    assert config.tls.cert is not None
    assert config.tls.cert.name == f"{CERTNAMES[example]}.pem"


@pytest.mark.parametrize("example", ["server-gateway", "apply-gateway"])
def test_puppet_waits_longer_for_the_gateway_than_that_needs_to_ask_a_second_server(
    example: str, write: Write, tmp_path: Path
) -> None:
    limits = load(example, write, tmp_path).timeouts
    assert limits.connect < limits.read
    assert 2 * limits.read < limits.operation
    assert limits.attempt is not None
    assert limits.operation < limits.attempt


def test_without_the_gateway_an_example_has_the_puppetdbs_alone(write: Write, tmp_path: Path) -> None:
    config = load("server-direct", write, tmp_path)
    assert config.gateway_url is None
    assert config.server_urls == (PRIMARY, REPLICA)
    assert config.warnings == ()


@pytest.mark.parametrize("name", ["puppet.conf", "routes.yaml"])
def test_the_gateway_changes_nothing_in_puppets_own_files(name: str) -> None:
    """With it or without it, only puppetdb.conf differs."""
    texts = {(EXAMPLES / example / name).read_text() for example in ("server-gateway", "server-direct")}
    assert len(texts) == 1
