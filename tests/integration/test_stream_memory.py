"""A query result of 500 MB is read in less than 100 MB of memory, the interpreter included."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pdbclient import Client
from pdbclient.config import load_config
from pdbclient.lab import Lab
from pdbclient.lab.certificates import CertificateAuthority
from pdbclient.lab.samples import Samples

from ..faults.fake import Answer, Fake, Request

pytestmark = pytest.mark.integration

SIZE = 500_000_000
LIMIT = 100_000_000

READER = r"""
import json, re, sys
from pathlib import Path
from pdbclient import Client
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import TlsFiles

ca, cert, key, port = sys.argv[1:]
tls = TlsFiles(Path(ca), Path(cert), Path(key))
count = 0
with Client(ClientConfig((Endpoint("localhost", int(port)),), tls)) as client:
    with client.stream("resources {}", timeout=240.0) as rows:
        for row in rows:
            count += 1
            last = row["line"]
# The high-water mark of this program's memory. getrusage would tell that of the process before it executed this too.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"rows": count, "last": last, "peak": peak}))
"""


def row(line: int) -> bytes:
    """A row of the `resources` entity of common size, as PuppetDB writes it."""
    return json.dumps(
        {
            "certname": f"node{line:08}.example.com",
            "environment": "production",
            "exported": True,
            "file": "/etc/puppetlabs/code/environments/production/manifests/site.pp",
            "line": line,
            "parameters": {"content": "server 10.0.0.1:443 check\n" * 20, "ensure": "file", "mode": "0644"},
            "resource": "3c2e2b6b3e0d1a5f7a4c6f1f0b8d9e7a6c5b4a39",
            "tags": ["class", "file", "haproxy", "profile::web", "role::frontend"],
            "title": f"/etc/haproxy/conf.d/node{line:08}.cfg",
            "type": "File",
        },
        indent=2,
    ).encode()


BLOCK = b", ".join(row(line) for line in range(100)) + b", "
BLOCKS = SIZE // len(BLOCK) + 1


def body() -> Iterator[bytes]:
    """The text of an array of `SIZE` bytes and a little more."""
    yield b"[ "
    for _ in range(BLOCKS):
        yield BLOCK
    yield row(-1) + b" ]"


def whole(compressed: bool) -> Answer:
    """It as PuppetDB sends it: in chunks, without a length."""
    memory: dict[bytes, bytes] = {}

    def packed(piece: bytes) -> bytes:
        # Each piece is a gzip member of its own, which together make a valid file: compressed once, sent often.
        if piece not in memory:
            memory[piece] = gzip.compress(piece, 1)
        return memory[piece]

    def pieces() -> Iterator[bytes]:
        encoding = b"Content-Encoding: gzip\r\n" if compressed else b""
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + encoding + b"\r\n"
        for piece in body():
            sent = packed(piece) if compressed else piece
            yield b"%x\r\n" % len(sent) + sent + b"\r\n"
        yield b"0\r\n\r\n"

    return Answer(pieces())


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_500_mb_of_rows_are_read_in_less_than_100_mb(tmp_path: Path, compressed: bool) -> None:
    authority = CertificateAuthority(tmp_path, "stream test CA")
    authority.create()
    tls = authority.issue("localhost")

    def reply(request: Request) -> Answer:
        assert request.headers["accept-encoding"].startswith("gzip")
        return whole(compressed)

    with Fake(tls, reply) as server:
        arguments = [str(part) for part in (tls.ca, tls.cert, tls.key, server.port)]
        read = subprocess.run(
            [sys.executable, "-c", READER, *arguments], capture_output=True, text=True, timeout=240, check=False
        )
    assert read.returncode == 0, read.stderr
    told = json.loads(read.stdout)
    assert (told["rows"], told["last"]) == (BLOCKS * 100 + 1, -1)
    assert told["peak"] < LIMIT


def test_a_real_answer_has_the_shape_of_the_one_that_was_measured(pair: Lab) -> None:
    payload = Samples(pair.puppetdb_jar).catalog("a.example", 1, datetime.now(UTC) - timedelta(minutes=1))
    with Client(load_config(pair.puppetdb_conf)) as client:
        client.submit_payload("replace catalog", payload)
        pair.settle("primary")
        with client.stream(["=", "exported", True], path="resources") as rows:
            real = list(rows)
    assert {frozenset(each) for each in real} == {frozenset(json.loads(row(1)))}
