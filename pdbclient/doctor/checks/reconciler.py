"""The reconcilers: the one of this host by its state, the others' by what their servers lack. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import Facts, Finding, PassFacts, Role, ServerFacts
from pdbclient.errors import SafetyBrake

__all__ = ["check_passes", "check_peers", "check_ttls"]

INTERVALS = 3
PASS = 600.0
"""A pass may take that long (s)."""
SLACK = 2 * 86400.0
"""Reports go by whole days, and what is over goes at the next garbage collection."""


def check_passes(facts: Facts) -> Iterator[Finding]:
    """The passes against each remote: lag, brakes, quarantine."""
    service = facts.service
    if service.state_error is not None:
        yield found("sync-state-unusable", service.config, service.state_error)
    for each in service.passes:
        yield from _pass(each, service.config)


def check_peers(facts: Facts) -> Iterator[Finding]:
    """Whether each server has what the others had a while ago: half of it may be what a pass leaves out for cause."""
    for peer in facts.service.peers:
        if 2 * peer.missing > peer.looked_at:
            what = (
                f"it lacks {peer.missing} of the {peer.looked_at} newest reports that {peer.source} has had for more "
                f"than {peer.grace / 60:.0f} min"
            )
            yield found("peer-lacks-records", peer.target, what, target=peer.target)
        else:
            yield well("peer", peer.target, f"it has what {peer.source} had {peer.grace / 60:.0f} min ago")


def check_ttls(facts: Facts) -> Iterator[Finding]:
    """Whether a server shows what it should have deleted by now, if its times to live are those of this host."""
    if facts.service.role is not Role.PUPPETDB:
        return
    for server in facts.service.servers:
        yield from _ttl(server, "report-ttl", facts.service.report_ttl, server.oldest_report, "a report")
        yield from _ttl(server, "node-purge-ttl", facts.service.node_purge_ttl, server.oldest_dead, "a node")


def _ttl(server: ServerFacts, name: str, ttl: float | None, oldest: float | None, what: str) -> Iterator[Finding]:
    # 0: PuppetDB keeps it for good.
    if ttl and oldest is not None and oldest > ttl + SLACK:
        dead = " that was deactivated or expired" if name == "node-purge-ttl" else ""
        days = f"{oldest / 86400:.0f} days ago"
        yield found("ttl-differs", server.url, f"{name} is {ttl / 86400:g}d here, and it has {what}{dead} {days}")


def _pass(each: PassFacts, config: str) -> Iterator[Finding]:
    if not each.ran:
        yield found("sync-never-ran", each.remote, "there was no pass against it yet", config=config)
        return
    if each.error is not None:
        code = "sync-braked" if SafetyBrake.PREFIX in each.error else "sync-failed"
        yield found(code, each.remote, each.error)
    elif each.lag is None:
        yield found("sync-lags", each.remote, "no pass has succeeded yet")
    elif each.lag > INTERVALS * each.interval + PASS:
        what = f"the last pass that succeeded was {each.lag / 60:.0f} min ago, and one is due every "
        yield found("sync-lags", each.remote, f"{what}{each.interval / 60:g} min")
    else:
        yield well("sync", each.remote, f"a pass succeeded {each.lag / 60:.0f} min ago")
    if each.quarantined:
        yield found("sync-quarantined", each.remote, f"{each.quarantined} records are left alone")
