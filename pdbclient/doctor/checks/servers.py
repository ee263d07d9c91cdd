"""Each PuppetDB, and what is to be alike in all of them: their hashes and their clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import Facts, Finding, Role, ServerFacts
from pdbclient.http.outcome import PLAIN_HTTP, Kind
from pdbclient.sync.policy.clocks import clock_skew
from pdbclient.sync.policy.identity import one_process
from pdbclient.sync.policy.versions import hash_class, release

__all__ = ["check_clocks", "check_pair", "check_servers", "check_versions"]

LONG_QUEUE = 1000
"""Where the reconciler begins to wait (`max_queue_depth`)."""
TESTED = ((7, 12), (10, 0))
"""Releases from, and before, that pdbclient is tested with."""

_OURS = (0.0, 0.0)
"""This host's clock, to itself."""

_CODES = {
    Kind.NOT_SENT: "server-unreachable",
    Kind.LOCAL: "server-unreachable",
    Kind.TLS: "server-certificate",
    Kind.FORBIDDEN: "server-forbids",
    Kind.MISROUTED: "server-not-puppetdb",
    Kind.NOT_FOUND: "server-not-puppetdb",
    Kind.REJECTED: "server-not-puppetdb",
    Kind.BUSY: "server-busy",
    Kind.TIMEOUT: "server-hangs",
    Kind.OUT_OF_TIME: "server-hangs",
    Kind.UNRESPONSIVE: "server-hangs",
    Kind.AMBIGUOUS: "server-hangs",
    Kind.INCOMPLETE: "server-not-puppetdb",
}
"""What a question that failed says about the server; anything else is an error of the server's own."""


def check_servers(facts: Facts) -> Iterator[Finding]:
    """Each by its name: reachable, TLS, allowlist, and how much waits there."""
    servers = facts.service.servers
    for server in servers:
        if server.error is not None:
            names = {"certname": server.certname or "our certname", "url": server.url}
            yield found(_code(server), server.url, server.error, **names)
        elif server.is_gateway:
            yield found("server-is-gateway", server.url, "a gateway of pdbclient answers there", url=server.url)
        elif server.queue is not None and server.queue >= LONG_QUEUE:
            yield found("queue-long", server.url, f"{server.queue} commands wait")
        else:
            waiting = "" if server.queue is None else f", {server.queue} commands wait"
            yield well("server", server.url, f"PuppetDB {server.version} runs{waiting}")
    if facts.service.role is Role.SERVER and len(servers) == 1:
        yield found("one-server-only", facts.service.config, f"{servers[0].url} is the only one of server_urls")


def check_versions(facts: Facts) -> Iterator[Finding]:
    """Whether the versions are known here, and hash alike."""
    known = [server for server in facts.service.servers if server.version is not None]
    for server in known:
        number = release(server.version or "")
        if number is None or not TESTED[0] <= number < TESTED[1]:
            yield found("version-untested", server.url, f"it is version {server.version}")
    for one, other in combinations(known, 2):
        if hash_class(one.version or "") != hash_class(other.version or ""):
            what = f"{one.url} is version {one.version}, {other.url} is {other.version}"
            yield found("versions-hash-differently", other.url, what)


def check_pair(facts: Facts) -> Iterator[Finding]:
    """Whether two names are two servers."""
    for one, other in combinations(facts.service.servers, 2):
        if one_process(one.looks, other.looks):
            what = f"it is {one.url} under another name: both are one process"
            yield found("same-server-twice", other.url, what)


def check_clocks(facts: Facts) -> Iterator[Finding]:
    """Whether the clocks agree: ours, which stamps what comes from here and judges certificates, and the servers'."""
    limit = facts.service.max_clock_skew
    known = [server for server in facts.service.servers if server.clock is not None]
    alike = all(clock_skew(one.clock, other.clock) <= limit for one, other in combinations(known, 2))
    apart = [server for server in known if clock_skew(server.clock, _OURS) > limit]
    if alike and len(apart) == len(known) > 1:
        yield found("clocks-differ", "this host", f"its clock is {_apart(apart[0])} those of all servers")
        return
    for server in apart:
        yield found("clocks-differ", server.url, f"this host's clock is {_apart(server)} its clock")
    for one, other in combinations(known, 2):
        if one not in apart and other not in apart and (skew := clock_skew(one.clock, other.clock)) > limit:
            yield found("clocks-differ", other.url, f"its clock and that of {one.url} are {skew:.0f} s apart")


def _apart(server: ServerFacts) -> str:
    """Of this host's clock, compared with the server's."""
    side = "behind" if server.clock is not None and server.clock[0] > 0 else "ahead of"
    return f"at least {clock_skew(server.clock, _OURS):.0f} s {side}"


def _code(server: ServerFacts) -> str:
    kind = Kind(server.met) if server.met is not None else Kind.SERVER_ERROR
    if kind is Kind.TLS and (server.error or "").startswith("it refuses our"):
        return "server-refuses-certificate"
    if kind is Kind.NOT_SENT and PLAIN_HTTP in (server.error or ""):
        return "server-plain-http"
    return _CODES.get(kind, "server-error")
