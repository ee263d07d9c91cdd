"""The certificates of a world: one CA, and on each host files of its own, laid out like Puppet's `ssldir`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.lab.account import Account
from pdbclient.lab.certificates import CertificateAuthority
from pdbclient.lab.layout import tls_files

from .hosts import PUPPETDB_NAME, Host

__all__ = ["Certificates"]


class Certificates:
    """Certificates for `hosts`, of a CA in `directory`; `account` is that of the PuppetDBs, which read their keys."""

    def __init__(self, directory: Path, hosts: Sequence[Host], account: Account) -> None:
        self._ca = CertificateAuthority(directory / "ca", "pdbclient partitions CA")
        self._ca.create()
        self._homes = {host: directory / "hosts" / host.name / "ssl" for host in hosts}
        self._account = account
        for host, home in self._homes.items():
            for part, mode in (("certs", 0o755), ("private_keys", 0o711)):
                (home / part).mkdir(mode=mode, parents=True)
            _copy(tls_files(self._ca.ssl_dir, "ca").ca, home / "certs" / "ca.pem")
            self._hand_out_list(host)
            self.renew(host)

    def of(self, host: Host) -> TlsFiles:
        """The files of a host."""
        return tls_files(self._homes[host], host.fqdn)

    def home(self, host: Host) -> Path:
        """Its `ssldir`."""
        return self._homes[host]

    def renew(self, host: Host) -> None:
        """Give a host a new certificate, with a new key."""
        names = [host.fqdn, *([PUPPETDB_NAME] if host.name.startswith("db") else []), "localhost", "127.0.0.1"]
        made, its = self._ca.issue(host.fqdn, names=names), self.of(host)
        for source, target in ((made.key, its.key), (made.cert, its.cert)):
            assert source is not None
            assert target is not None
            _copy(source, target)
        assert its.key is not None
        self._account.own(its.key)

    def revoke(self, host: Host, told: Sequence[Host]) -> None:
        """Revoke the certificate that a host has now; those who are `told` have a list that says so."""
        self._ca.revoke(host.fqdn)
        for each in told:
            self._hand_out_list(each)

    def _hand_out_list(self, host: Host) -> None:
        source, target = tls_files(self._ca.ssl_dir, "ca").crl, self._homes[host] / "crl.pem"
        assert source is not None
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Another file in its place, at one blow: nobody reads half of it."""
    new = target.with_name(f".{target.name}.new")
    shutil.copy(source, new)
    os.replace(new, target)
