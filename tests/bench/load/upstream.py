"""A PuppetDB that costs next to nothing: nginx reads every command whole and takes it, and is always well.

One real PuppetDB cannot take several times what it takes; behind this one the gateway itself is the limit.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.lab.ports import LOOPBACK, free_port, is_free
from tests.bench.load.place import program

__all__ = ["Upstream", "fast_upstream"]

_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
_START_LIMIT = 10.0

# The uuid has its dashes; the answer is chunked, as PuppetDB's is; bodies stay in memory.
_CONFIGURATION = """\
load_module {module};
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
worker_processes 1;
user {user};
events {{ worker_connections 1024; }}
http {{
  access_log off;
  default_type application/json;
  client_max_body_size 100m;
  client_body_buffer_size 512k;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 60s;
  add_header Vary "Accept-Encoding, User-Agent";
  map $request_id $uuid {{
    "~^(?<a>.{{8}})(?<b>.{{4}})(?<c>.{{4}})(?<d>.{{4}})(?<e>.{{12}})$" "$a-$b-$c-$d-$e";
  }}
  server {{
    listen {address}:{port} ssl backlog=512;
    ssl_certificate {tls.cert};
    ssl_certificate_key {tls.key};
    ssl_client_certificate {tls.ca};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:TLS:4m;
    location = /pdb/cmd/v1 {{
      default_type "application/json;charset=utf-8";
      echo_read_request_body;
      echo '{{\\n  "uuid" : "$uuid"\\n}}';
    }}
    location /pdb/query/v4 {{
      default_type "application/json;charset=utf-8";
      echo_read_request_body;
      echo '[]';
    }}
    location = /status/v1/simple {{ default_type "text/plain;charset=utf-8"; return 200 "running"; }}
    location = /status/v1/services {{ return 200 '{{"puppetdb-status":{status}}}'; }}
    location = /status/v1/services/puppetdb-status {{ return 200 '{status}'; }}
    location = /pdb/meta/v1/version {{ return 200 '{{"version" : "7.12.1"}}'; }}
  }}
}}
"""
_STATUS = (
    '{"service_version":"7.12.1","service_status_version":1,"detail_level":"info","state":"running",'
    '"status":{"maintenance_mode?":false,"queue_depth":0,"read_db_up?":true,"write_db_up?":true,'
    '"write_dbs_up?":true,"write_db":{"default":{"up?":true}}},"active_alerts":[]}'
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running nginx."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """`https://localhost:PORT`."""
        return f"https://localhost:{self.port}"


@contextmanager
def fast_upstream(home: Path, tls: TlsFiles) -> Iterator[Upstream]:
    """nginx with its files in `home`, and the certificate `tls`, as long as the context lasts."""
    home.mkdir()
    port = free_port()
    text = _CONFIGURATION.format(
        module=_ECHO, home=home, user="root", address=LOOPBACK, port=port, tls=tls, status=_STATUS
    )
    configuration = home / "nginx.conf"
    configuration.write_text(text)
    process = subprocess.Popen(
        [program("nginx", "nginx-light"), "-p", home, "-e", home / "error.log", "-c", configuration]
    )
    try:
        _wait(process, port, home / "error.log")
        yield Upstream(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while is_free(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"nginx does not start: {log.read_text() if log.exists() else ''}")
        time.sleep(0.05)
