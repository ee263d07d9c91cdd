"""haproxy before a pair of PuppetDBs, as a careful administrator sets it up: TLS passes through it untouched, so that
PuppetDB still sees who its client is; the second server is the backup; every two seconds it asks each for its status.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.lab.ports import LOOPBACK, free_port, is_free
from tests.bench.load.place import program

__all__ = ["running_haproxy"]

_START_LIMIT = 10.0
# A session with a server that is found down is ended at once, for its client to come again.
_CONFIGURATION = """\
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
  http-check send meth GET uri /status/v1/services/puppetdb-status ver HTTP/1.1 hdr Host localhost
  http-check expect status 200
  default-server check check-ssl verify required ca-file {ca} crt {pem} inter 2s fall 2 rise 2 \
on-marked-down shutdown-sessions
listen puppetdb
  bind {address}:{port}
  server primary {address}:{primary}
  server replica {address}:{replica} backup
"""


@contextmanager
def running_haproxy(home: Path, primary: int, replica: int, tls: TlsFiles) -> Iterator[int]:
    """Its port, as long as the context lasts; its files are in `home`."""
    home.mkdir()
    assert tls.cert is not None
    assert tls.key is not None
    pem, configuration, log = home / "check.pem", home / "haproxy.cfg", home / "haproxy.log"
    pem.touch(mode=0o600)
    pem.write_bytes(tls.cert.read_bytes() + tls.key.read_bytes())
    port = free_port()
    configuration.write_text(
        _CONFIGURATION.format(address=LOOPBACK, port=port, primary=primary, replica=replica, ca=tls.ca, pem=pem)
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program("haproxy", "haproxy"), "-db", "-f", configuration], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _START_LIMIT
        while is_free(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"haproxy does not start: {log.read_text()}")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
