"""Real runs of `puppet apply` on a Puppet host: with a file that it exports, and those that it collects."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .history import TIMEOUT, Applied

__all__ = ["Puppet"]

LIMIT = 180.0
"""Seconds for a run, which has several requests, each with its own limit for each server."""

_CONF = """\
[main]
certname = {certname}
confdir = {root}
ssldir = {root}/ssl
vardir = {root}/cache
publicdir = {root}/public
logdir = {root}/log
rundir = {root}/run
codedir = {root}/code
certificate_revocation = false
storeconfigs = true
storeconfigs_backend = puppetdb
reports = puppetdb
"""
_ROUTES = """\
apply:
  catalog:
    terminus: compiler
    cache: puppetdb
  resource:
    terminus: puppetdb
  facts:
    terminus: facter
    cache: puppetdb_apply
"""
_MANIFEST = """\
@@file {{ '{shared}/{certname}': ensure => file, content => '{number}', tag => 'partitions' }}
File <<| tag == 'partitions' |>>
"""


@dataclass(frozen=True, slots=True)
class Puppet:
    """A Puppet whose files are below `root`, for the certificate `certname`; `tls` is by name as in `_files`.

    `urls` and `seconds` are its server_urls and server_url_timeout.
    """

    root: Path
    certname: str
    urls: tuple[str, ...]
    seconds: float
    tls: Mapping[str, Path]

    def apply(self, host: str, number: int) -> Applied:
        """One run, to its end; what it exports is `number`."""
        self._write(number)
        at = time.monotonic()
        # Of the variables nothing else is passed on but where programs are.
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.root)}
        arguments = [
            "apply",
            "--detailed-exitcodes",
            self.root / "site.pp",
            "--confdir",
            self.root,
            "--color",
            "false",
        ]
        with (self.root / "output").open("w+") as output:
            process = subprocess.Popen(
                ["puppet", *map(str, arguments)],
                env=environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(LIMIT)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return Applied(at, time.monotonic() - at, host, self.certname, -signal.SIGKILL, TIMEOUT)
            took = time.monotonic() - at
            output.seek(0)
            errors = [line.strip() for line in output if line.startswith("Error: ")]
        well = status in (0, 2)
        return Applied(at, took, host, self.certname, status, None if well else " | ".join(errors)[-600:] or "failed")

    def _write(self, number: int) -> None:
        # Puppet changes modes and owners, and certificates are renewed meanwhile: a copy, each time.
        for name, source in self.tls.items():
            target = self.root / "ssl" / _files(self.certname)[name]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        shared = self.root / "shared"
        shared.mkdir(exist_ok=True)
        main = f"[main]\nserver_urls = {','.join(self.urls)}\nserver_url_timeout = {self.seconds:.0f}\n"
        for name, text in (
            ("puppet.conf", _CONF.format(certname=self.certname, root=self.root)),
            ("puppetdb.conf", main),
            ("routes.yaml", _ROUTES),
            ("site.pp", _MANIFEST.format(shared=shared, certname=self.certname, number=number)),
        ):
            (self.root / name).write_text(text)


def _files(certname: str) -> Mapping[str, str]:
    """Where Puppet keeps its certificates below its ssldir."""
    return {"ca": "certs/ca.pem", "cert": f"certs/{certname}.pem", "key": f"private_keys/{certname}.pem"}
