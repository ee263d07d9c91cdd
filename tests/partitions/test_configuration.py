"""What the programs of a world are told: that they take it, and what they make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdbclient.config import load_config, load_sync_config
from pdbclient.lab.account import Account
from pdbclient.lab.layout import tls_files

from . import configuration as conf
from .certificates import Certificates
from .hosts import laid_out

HOSTS = laid_out(3, journal=False)
PUPPET1, _, DB1, DB2, DB3 = HOSTS


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path, HOSTS, Account("me", 0, 0, "/", switch=False))


def test_the_gateway_stands_before_the_puppetdbs_in_their_order(tmp_path: Path, certificates: Certificates) -> None:
    file, journal = tmp_path / "puppetdb.conf", tmp_path / "journal.db"
    file.write_text(conf.puppetdb_conf(PUPPET1, [DB1, DB2, DB3], certificates.of(PUPPET1), str(journal)))
    config = load_config(file)
    assert config.gateway_url is not None
    assert config.gateway_url.url == "https://puppet1.partitions.test:8085"
    assert [each.url for each in config.server_urls] == [conf.puppetdb_url(host) for host in (DB1, DB2, DB3)]
    assert (config.journal, config.journal_heal) == (str(journal), "heal")
    assert config.warnings == ()


def test_a_reconciler_pulls_from_all_others(tmp_path: Path, certificates: Certificates) -> None:
    file = tmp_path / "sync.conf"
    file.write_text(conf.sync_conf(DB2, [DB1, DB2, DB3], certificates.of(DB2), tmp_path))
    config = load_sync_config(file)
    assert config.local.url == conf.puppetdb_url(DB2)
    assert [(each.endpoint.url, each.interval) for each in config.remotes] == [
        (conf.puppetdb_url(host), 10.0) for host in (DB1, DB3)
    ]


def test_haproxy_has_all_puppetdbs_but_the_first_as_backups(tmp_path: Path) -> None:
    text = conf.haproxy(PUPPET1, [DB1, DB2], tls_files(tmp_path, PUPPET1.fqdn), tmp_path / "pem")
    assert f"bind {PUPPET1.address}:8085\n" in text
    assert f"server db1 {DB1.address}:8081\n" in text
    assert f"server db2 {DB2.address}:8081 backup\n" in text


def test_only_those_who_are_told_know_that_a_certificate_is_revoked(certificates: Certificates) -> None:
    lists = [certificates.of(host).crl for host in (DB1, PUPPET1)]
    old = [each.read_bytes() for each in lists if each is not None]
    certificates.revoke(PUPPET1, [DB1, DB2, DB3])
    new = [each.read_bytes() for each in lists if each is not None]
    assert new[0] != old[0]
    assert new[1] == old[1]


def test_a_renewed_certificate_is_another_one(certificates: Certificates) -> None:
    files = certificates.of(PUPPET1)
    assert files.cert is not None
    assert files.key is not None
    old = files.cert.read_bytes(), files.key.read_bytes()
    certificates.renew(PUPPET1)
    assert all(
        now != before for now, before in zip((files.cert.read_bytes(), files.key.read_bytes()), old, strict=True)
    )
