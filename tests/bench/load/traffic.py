"""What Puppet sends: commands and the collector's query, as the bytes of HTTP requests."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from pdbclient import Command
from pdbclient.lab.samples import Samples

__all__ = ["CATALOGS", "CATALOG_BYTES", "KINDS", "LoadRequest", "command_request", "export_query", "node_request"]

CATALOG_BYTES = 185_000  # what Puppet calls 185 KB, at most
CATALOGS = ("catalog", "catalog_gzip")
KINDS = (*CATALOGS, "facts")
_JAVA_GZIP_LEVEL = 6  # the default of Java's GZIPOutputStream, with which Puppet Server compresses
_CERTNAME = re.compile(rb"certname=[^&]*")
_AGENT = "User-Agent: Puppet/7.9.5\r\n"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """`head` lacks the empty line after it: the connection adds whether it is to be kept."""

    head: bytes
    body: bytes = b""

    def renamed(self, certname: str) -> LoadRequest:
        """The same body submitted under another name.

        PuppetDB drops a command from its queue when a newer one of that name arrives (7.12.1 even stumbles over
        it and tries again for hours); under load, every one must be a node of its own. A gateway sends it on under
        the payload's name.
        """
        return replace(self, head=_CERTNAME.sub(b"certname=" + certname.encode("ascii"), self.head, count=1))


def node_request(samples: Samples, kind: str, certname: str) -> LoadRequest:
    """A command of `kind` (one of `KINDS`) for one node, with a producer timestamp of now."""
    now = datetime.now(UTC)
    if kind == "facts":
        return command_request(Command.create("replace facts", _small_facts(certname), now=now), zipped=False)
    command = Command.create("replace catalog", _catalog(samples, certname, now), now=now)
    return command_request(command, zipped=kind == "catalog_gzip")


def command_request(command: Command, *, zipped: bool) -> LoadRequest:
    """The submission of `command` with the headers of the stock terminus."""
    body = gzip.compress(command.body, _JAVA_GZIP_LEVEL, mtime=0) if zipped else command.body
    head = (
        f"POST /pdb/cmd/v1?{urlencode(command.params())} HTTP/1.1\r\nHost: localhost\r\n{_AGENT}"
        "Accept: application/json\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"X-Uncompressed-Length: {command.length}\r\nContent-Length: {len(body)}\r\n"
    )
    if zipped:
        head += "Content-Encoding: gzip\r\n"
    return LoadRequest(head.encode("ascii"), body)


def export_query(certname: str) -> LoadRequest:
    """What the compiler of `certname` asks for `File <<| tag == 'haproxy' |>>`."""
    query: Sequence[Any] = [
        "and",
        ["=", "type", "File"],
        ["=", "exported", True],
        ["not", ["=", "certname", certname]],
        ["=", "tag", "haproxy"],
    ]
    encoded = quote(json.dumps(query, separators=(",", ":")), safe="")
    head = (
        f"GET /pdb/query/v4/resources?query={encoded} HTTP/1.1\r\nHost: localhost\r\n{_AGENT}"
        "Accept: application/json\r\n"
    )
    return LoadRequest(head.encode("ascii"))


def _catalog(samples: Samples, certname: str, now: datetime) -> dict[str, Any]:
    """A sample catalog of PuppetDB's jar, cut to about `CATALOG_BYTES` of JSON."""
    payload = samples.catalog(certname, 0, now)
    while len(json.dumps(payload, separators=(",", ":"))) > CATALOG_BYTES:
        payload["edges"] = payload["edges"][:-20]
    return payload


def _small_facts(certname: str) -> dict[str, Any]:
    """About 2 KB of facts without packages."""
    values = {f"bench_fact_{n:02}": f"a value that says little, number {n}" for n in range(32)}
    return {"certname": certname, "environment": "production", "producer": "puppet.example.com", "values": values}
