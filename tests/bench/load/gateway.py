"""`pdbclient gateway` as a process of its own, in front of any PuppetDB."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.lab.ports import free_port, is_free

__all__ = ["RunningGateway", "running_gateway"]

_START_LIMIT = 30.0
_END_LIMIT = 40.0


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Where it listens, and its process."""

    port: int
    pid: int


@contextmanager
def running_gateway(
    home: Path, upstreams: Sequence[str], tls: TlsFiles, *, journal: bool = False
) -> Iterator[RunningGateway]:
    """A gateway for the PuppetDBs at `upstreams`, its files in `home`, as long as the context lasts.

    `tls` is its certificate, and those who have the same may use it.
    """
    home.mkdir()
    port = free_port()
    url = f"https://localhost:{port}"
    configuration, log = home / "puppetdb.conf", home / "gateway.log"
    configuration.write_text(
        f"[main]\nserver_urls = {','.join([url, *upstreams])}\n\n[pdbclient]\ngateway_url = {url}\n"
        f"ssl_ca_cert = {tls.ca}\nssl_cert = {tls.cert}\nssl_key = {tls.key}\n"
        + (f"journal = {home / 'journal.db'}\n" if journal else "")
    )
    command = [sys.executable, "-m", "pdbclient", "gateway", "--config", str(configuration)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(process, port, log)
        yield RunningGateway(port, process.pid)
        if process.poll() is not None:
            raise RuntimeError(f"the gateway has ended: {log.read_text()[-2000:]}")
    finally:
        process.terminate()
        try:
            process.wait(_END_LIMIT)
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while is_free(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the gateway does not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
