"""What in a status document needs somebody's attention: the headline of the page, and the exit code. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from pdbclient.errors import SafetyBrake
from pdbclient.observe.page.document import Certificate, Document, JournalFigures, Remote
from pdbclient.observe.page.words import clock, days_left, listing, number_of, span

__all__ = ["CERTIFICATE_SOON", "Finding", "Level", "findings", "lag_limit", "without_success", "worst"]

CERTIFICATE_SOON = timedelta(days=30)
"""Puppet 8 renews a host's certificate so long before its end (`hostcert_renewal_interval`)."""
PENDING_LONG = 600.0
"""Seconds after which a pending command is late: a server that comes back gets them within minutes."""
LAG_INTERVALS = 3
LAG_LEAST = 300.0


class Level(IntEnum):
    """How bad something is: nothing to do; look at it; it does not work."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that needs attention, in a sentence."""

    level: Level
    text: str


def findings(document: Document) -> tuple[Finding, ...]:
    """All that needs attention, the worst first."""
    found = [*_servers(document), *_journal(document), *_remotes(document), *_certificates(document)]
    return tuple(sorted(found, key=lambda each: -each.level))


def worst(found: tuple[Finding, ...]) -> Level:
    """The level of all of it."""
    return max((each.level for each in found), default=Level.OK)


def lag_limit(remote: Remote) -> float:
    """Seconds since the last successful pass from which on it is late."""
    return max(LAG_INTERVALS * remote.interval_seconds, LAG_LEAST)


def without_success(remote: Remote, document: Document) -> tuple[float, str]:
    """For how long (s) no pass has succeeded, and that in a sentence; where none ever did, since the daemon began."""
    if remote.lag_seconds is not None:
        text = f"The last pass against {remote.remote} that succeeded was {span(remote.lag_seconds)} ago."
        return remote.lag_seconds, text
    running = (document.at - document.program.started).total_seconds()
    if not remote.ran:
        return running, f"There was no pass against {remote.remote} yet."
    return running, f"No pass against {remote.remote} has succeeded since the daemon began, {span(running)} ago."


def _servers(document: Document) -> Iterator[Finding]:
    for operation, does in (("command", "takes commands"), ("query", "answers queries")):
        asked = [c.usable for s in document.servers for c in s.circuits if c.operation == operation]
        if asked and not any(asked):
            kept = operation == "command" and document.journal is not None and document.journal.answers
            yield Finding(Level.CRITICAL, f"No PuppetDB {does}{': they wait in the journal' if kept else ''}.")
    for server in document.servers:
        if out := [circuit for circuit in server.circuits if not circuit.usable]:
            first = min(out, key=lambda each: each.since)
            what = "unhealthy" if len(out) == len(server.circuits) else f"not asked for {_plural(out[0].operation)}"
            when = f"{clock(first.since, document.at)} UTC, for {span((document.at - first.since).total_seconds())}"
            instead = _instead(document, [circuit.operation for circuit in out])
            text = f"{server.url} is {what} since {when}: {first.why or 'why is not known'}. {instead}"
            yield Finding(Level.WARNING, text.strip())
        elif server.missing:
            what = f"{number_of(server.missing, 'newer command')} that another server took in its place"
            advice = "Others are asked first until it has them, for ten minutes at most. Its reconciler brings them."
            yield Finding(Level.WARNING, f"{server.url} may lack {what}. {advice}")


def _instead(document: Document, operations: Sequence[str]) -> str:
    """Where requests of these kinds go now."""
    going: dict[str, list[str]] = {}
    for operation in operations:
        usable = [s.url for s in document.servers for c in s.circuits if c.operation == operation and c.usable]
        if usable:
            going.setdefault(usable[0], []).append(_plural(operation))
    return " ".join(f"{listing(what).capitalize()} go to {url}." for url, what in going.items())


def _plural(operation: str) -> str:
    return "queries" if operation == "query" else "commands"


def _journal(document: Document) -> Iterator[Finding]:
    journal = document.journal
    if journal is None:
        return
    if not journal.answers:
        yield Finding(Level.CRITICAL, f"The journal {journal.place} does not answer: commands are not taken.")
    elif not journal.counted and (document.at - document.program.started).total_seconds() > PENDING_LONG:
        yield Finding(Level.WARNING, "What is pending in the journal is not known: it was not counted yet.")
    yield from _late(journal)
    if journal.parked:
        parked = f"{number_of(journal.parked, 'command')} parked: a server rejected what no server has."
        yield Finding(Level.WARNING, f"{parked} `pdbclient journal list --state parked` shows them.")


def _late(journal: JournalFigures) -> Iterator[Finding]:
    if journal.oldest is not None and journal.oldest > PENDING_LONG:
        pending = number_of(sum(journal.pending.values()), "delivery", "deliveries")
        yield Finding(Level.WARNING, f"{pending} pending, the oldest for {span(journal.oldest)}.")


def _remotes(document: Document) -> Iterator[Finding]:
    for remote in document.remotes:
        if remote.last_error is not None:
            # A brake holds until somebody has looked.
            level = Level.CRITICAL if remote.braked else Level.WARNING
            yield Finding(level, f"The last pass against {remote.remote} failed: {remote.last_error}")
        else:
            yield from _failing_parts(remote)
        lag, text = without_success(remote, document)
        if lag > lag_limit(remote):
            yield Finding(Level.WARNING, text)
        lacking = {"failed": remote.failed, "waiting": remote.waiting, "quarantined": remote.quarantined}
        if any(lacking.values()):
            counted = listing([f"{number} {what}" for what, number in lacking.items() if number])
            advice = "`pdbclient sync quarantine list` shows which."
            yield Finding(Level.WARNING, f"Some records of {remote.remote} did not get here: {counted}. {advice}")


def _failing_parts(remote: Remote) -> Iterator[Finding]:
    """What failed when a pass last came to it, after a pass that left it out (`sync once --entity`) succeeded."""
    for name, part in remote.entities.items():
        if part.error is not None:
            level = Level.CRITICAL if SafetyBrake.PREFIX in part.error else Level.WARNING
            yield Finding(level, f"The last pass against {remote.remote} that came to {name} failed: {part.error}")


def _certificates(document: Document) -> Iterator[Finding]:
    for each in document.certificates:
        if (level := certificate_level(each, document)) is not Level.OK:
            what = f"{each.setting} {each.path}"
            if each.expires is None:
                yield Finding(level, f"{what}: {each.error}")
            else:
                yield Finding(level, f"{what} ({each.name}) {days_left(each.expires, document.at)}.")


def certificate_level(certificate: Certificate, document: Document) -> Level:
    """How a certificate is at the time of the document."""
    if certificate.expires is None:
        return Level.WARNING if certificate.error else Level.OK
    left = certificate.expires - document.at
    if left <= timedelta(0):
        return Level.CRITICAL
    # A revocation list is made anew every now and then, and has no thirty days at some sites.
    soon = timedelta(days=1) if certificate.setting == "ssl_crl" else CERTIFICATE_SOON
    return Level.WARNING if left < soon else Level.OK
