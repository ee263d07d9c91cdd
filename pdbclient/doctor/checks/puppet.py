"""Whether Puppet goes through the gateway, and is let in there. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import Facts, Finding, GatewayFacts, SettingFacts
from pdbclient.http.outcome import Kind

__all__ = ["check_gateway", "check_puppet"]


def check_puppet(facts: Facts) -> Iterator[Finding]:
    """Whether puppet.conf, routes.yaml and puppetdb.conf lead to PuppetDB, by the gateway where there is one."""
    puppet = facts.puppet
    if puppet is None:
        return
    for problem in puppet.errors:
        if problem in facts.service.errors:
            # The service's own look has told it.
            continue
        where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        what = problem.why if problem.setting is None else f"{problem.setting}: {problem.why}"
        yield found("configuration", where, what)
    for problem in puppet.warnings:
        where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        yield found("configuration-doubtful", where, f"{problem.setting}: {problem.why}")
    for setting in puppet.astray:
        yield found("puppet-goes-elsewhere", setting.file, _astray(setting), setup=puppet.setup)
    if not puppet.errors and not puppet.astray:
        url = puppet.gateway_url
        to = "PuppetDB itself: there is no gateway_url" if url is None else f"PuppetDB, by the gateway {url}"
        yield well("puppet", puppet.confdir, f"Puppet's configuration leads to {to}")


def check_gateway(facts: Facts) -> Iterator[Finding]:
    """Whether the gateway can be had by the name that Puppet calls it, with Puppet's certificate."""
    gateway = None if facts.puppet is None else facts.puppet.gateway
    if gateway is None:
        return
    by = f"with Puppet's certificate {gateway.certificate}"
    if gateway.unasked is not None:
        yield found("gateway-not-asked", gateway.url, gateway.unasked)
    elif gateway.error is not None:
        yield _failed(gateway, by)
    elif not gateway.is_gateway:
        yield found("gateway-is-another", gateway.url, f"what answers {by} is no gateway of pdbclient")
    else:
        yield well("gateway", gateway.url, f"it answers, {by}")
        for server in gateway.unusable:
            yield found("gateway-leaves-out", gateway.url, f"it does not ask {server}")
        if gateway.journal_up is False:
            yield found("journal-unusable", gateway.url, "the gateway says that its journal does not answer")
        elif gateway.journal_up is None and facts.service.journal is not None:
            what = (
                "the gateway runs without the journal that puppetdb.conf names: `systemctl reload pdbclient-gateway`"
            )
            yield found("journal-unusable", gateway.url, what)


def _failed(gateway: GatewayFacts, by: str) -> Finding:
    kind, what = Kind(gateway.met or Kind.SERVER_ERROR), f"{gateway.error} ({by})"
    if kind is Kind.FORBIDDEN:
        return found("gateway-forbids-puppet", gateway.url, what, certname=gateway.certname)
    if kind in (Kind.MISROUTED, Kind.NOT_FOUND, Kind.REJECTED):
        return found("gateway-is-another", gateway.url, what)
    return found("gateway-not-used", gateway.url, what)


def _astray(setting: SettingFacts) -> str:
    now = "is not set" if setting.before is None else f"is {setting.before!r}"
    right = "should not be set" if setting.after is None else f"should be {setting.after!r}"
    return f"{setting.setting} {now}, and {right}"
