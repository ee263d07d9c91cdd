"""What settings of puppetdb.conf demand of each other. Pure.

The first four are the stock terminus' own, in its order. A rule is silent when a setting it looks at is
broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

from pdbclient.config.document import Document
from pdbclient.config.model import Endpoint
from pdbclient.config.ports import LOOPBACK, same_host
from pdbclient.config.verdict import Verdict
from pdbclient.errors import Problem

__all__ = ["apply_rules", "endpoints", "rule_warnings"]


def apply_rules(verdict: Verdict, document: Document) -> None:
    """Add a problem to `verdict` for every rule that its values break."""
    for needs, rule in _RULES:
        if verdict.broken.isdisjoint(needs):
            rule(verdict, document)


def endpoints(verdict: Verdict) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
    """The servers in order without the gateway itself, and the submit-only ones, which come after them."""
    gateway = verdict.values["gateway_url"]
    upstreams = [url for url in verdict.values["server_urls"] if url != gateway]
    servers = tuple(replace(url, order=order) for order, url in enumerate(upstreams))
    submit_only = tuple(
        replace(url, order=len(servers) + order, submit_only=True)
        for order, url in enumerate(verdict.values["submit_only_server_urls"])
    )
    return servers, submit_only


def _soft_write_failure(verdict: Verdict, document: Document) -> None:
    if verdict.values["soft_write_failure"] and verdict.values["min_successful_submissions"] > 1:
        why = "cannot be enabled when min_successful_submissions is greater than 1"
        verdict.refuse("soft_write_failure", why, document)


def _one_list_only(verdict: Verdict, document: Document) -> None:
    both = [url for url in verdict.values["submit_only_server_urls"] if url in verdict.values["server_urls"]]
    for url in both:
        why = f"{url} is in server_urls too: a server must be in one of the two lists, not both"
        verdict.refuse("submit_only_server_urls", why, document)


def _minimum_needs_broadcast(verdict: Verdict, document: Document) -> None:
    if verdict.values["min_successful_submissions"] > 1 and not verdict.values["command_broadcast"]:
        why = "needs command_broadcast = true when it is greater than 1"
        verdict.refuse("min_successful_submissions", why, document)


def _minimum_can_be_reached(verdict: Verdict, document: Document) -> None:
    # Submit-only servers do not count here, although their successes do count: the stock verdict, kept.
    minimum, servers = verdict.values["min_successful_submissions"], endpoints(verdict)[0]
    if servers and minimum > len(servers):
        which = "servers in server_urls" if verdict.values["gateway_url"] is None else "servers beside the gateway"
        why = f"({minimum}) must be less than or equal to the number of {which} ({len(servers)})"
        verdict.refuse("min_successful_submissions", why, document)


def _gateway_has_upstreams(verdict: Verdict, document: Document) -> None:
    gateway = verdict.values["gateway_url"]
    if gateway is None:
        return
    if gateway in verdict.values["submit_only_server_urls"]:
        why = f"{gateway} is a submit-only server: the gateway belongs into server_urls, in the first place"
        verdict.refuse("gateway_url", why, document)
    if not endpoints(verdict)[0]:
        why = f"{gateway} is the only one of server_urls: no PuppetDB remains to hand requests on to"
        verdict.refuse("gateway_url", why, document)


_LISTENING = ("gateway_url", "gateway_local_url", "gateway_status_port")


def _listening(verdict: Verdict) -> Iterator[tuple[str, str, int]]:
    """Where the gateway listens: setting, host, port."""
    url, local, status_port = (verdict.values[name] for name in _LISTENING)
    if url is not None:
        yield "gateway_url", url.host, url.port
    if local is not None:
        yield "gateway_local_url", local.host, local.port
    if status_port is not None:
        yield "gateway_status_port", LOOPBACK, status_port


def _shared_ports(verdict: Verdict, *, surely: bool) -> Iterator[tuple[str, str]]:
    """Settings that have the port of another one, and why that cannot be; without `surely`, where it may be so."""
    for (first, name, port), (second, host, other) in combinations(_listening(verdict), 2):
        same = same_host(name, host)
        if port == other and same is (True if surely else None):
            where = "" if surely else f"where {name} is {host} on this machine, "
            why = f"port {port} is that of {first}, too ({verdict.entries[first].origin})"
            yield second, f"{why}: {where}the gateway cannot listen at both: give it another one"


def _ports_of_their_own(verdict: Verdict, document: Document) -> None:
    for setting, why in _shared_ports(verdict, surely=True):
        verdict.refuse(setting, why, document)


def rule_warnings(verdict: Verdict) -> list[Problem]:
    """What is allowed and probably not meant."""
    warnings = []
    gateway, entry = verdict.values["gateway_url"], verdict.entries.get("gateway_url")
    if gateway is not None and entry is not None and gateway not in verdict.values["server_urls"]:
        warnings.append(entry.problem(f"{gateway} is not in server_urls: Puppet will not use the gateway"))
    ignored = verdict.entries.get("ignore_blacklisted_events")
    if ignored is not None:
        warnings.append(ignored.problem("has had no effect since PuppetDB 3: leave it out"))
    warnings += (verdict.entries[name].problem(why) for name, why in _shared_ports(verdict, surely=False))
    if gateway is None:
        idle = (each for name, each in verdict.entries.items() if name.startswith("gateway_"))
        warnings += (each.problem("has no effect without gateway_url: there is no gateway then") for each in idle)
    return [*warnings, *_journal_warnings(verdict)]


_NEED_JOURNAL = (
    *("journal_max_age", "journal_max_bytes", "journal_rate", "journal_heal"),
    *("stale_exported", "stale_exported_budget", "node_ttl"),
)


def _journal_warnings(verdict: Verdict) -> list[Problem]:
    if verdict.values["journal"] is None:
        idle = (verdict.entries[name] for name in _NEED_JOURNAL if name in verdict.entries)
        return [entry.problem("has no effect without journal: set journal, or leave this out") for entry in idle]
    soft = verdict.entries.get("soft_write_failure")
    if soft is None or not verdict.values["soft_write_failure"]:
        return []
    why = (
        "is not needed with journal, which keeps what no server takes; with it, the stock terminus still loses "
        "commands without an error when the gateway does not answer either"
    )
    return [soft.problem(why)]


_RULES: tuple[tuple[frozenset[str], Callable[[Verdict, Document], None]], ...] = (
    (frozenset({"soft_write_failure", "min_successful_submissions"}), _soft_write_failure),
    (frozenset({"server_urls", "submit_only_server_urls"}), _one_list_only),
    (frozenset({"min_successful_submissions", "command_broadcast"}), _minimum_needs_broadcast),
    (
        frozenset({"min_successful_submissions", "server_urls", "submit_only_server_urls", "gateway_url"}),
        _minimum_can_be_reached,
    ),
    (frozenset({"gateway_url", "server_urls", "submit_only_server_urls"}), _gateway_has_upstreams),
    (frozenset(_LISTENING), _ports_of_their_own),
)
