"""Requests that failed, or came too late, though they need not have. Pure.

What excuses a failure is what the nemeses did, by the timeline, to the gateway itself, or on the way to all that it
needs; and, as a server that was started is not up yet, that the host's own probes, past the gateway, had no answer.
Both have to show that all was well, or nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..history import TIMEOUT, Applied, Read, Submitted
from ..timeline import NETWORK
from .logs import listening
from .model import Evidence, Kind, Violation

__all__ = ["commands_failed", "late", "queries_failed", "runs_failed"]

Event: TypeAlias = Submitted | Read | Applied

UP = 3.0
"""Seconds that a gateway has after the end of its fault; one that was killed, until its log says that it listens."""
JOURNAL_KNOWN = 5.0
"""Seconds until a gateway whose journal answers again takes commands again: it looks every few seconds."""
SERVER_KNOWN = 5.0
"""Seconds for which a PuppetDB has to have answered probes. A gateway that holds all for unhealthy asks each once a
second all the same; one that has one left asks the others, too, when that fails. So this is a round of probes, and
the second."""
LIMIT = 1.0
"""Seconds beyond its limit within which a client on a busy machine sees that it is over."""


def commands_failed(evidence: Evidence) -> Iterator[Violation]:
    """Commands that the gateway did not take, though it was up and its journal within reach."""
    for each in evidence.history.all(Submitted):
        if each.acknowledged or not evidence.fronts:
            continue
        if evidence.through_front(each) and gateway_up(evidence, each) and journal_reached(evidence, each):
            yield _failed(Kind.COMMAND_FAILED, each, evidence, f"{each.kind} {each.number} of {each.certname}")
    yield from _given_up(evidence)


def queries_failed(evidence: Evidence) -> Iterator[Violation]:
    """Queries that failed though what they were sent to was up, and reached a PuppetDB that was up."""
    for each in evidence.history.all(Read):
        if each.answered or not evidence.through_front(each):
            continue
        if not gateway_up(evidence, each) or not (evidence.fronts or each.final):
            continue
        if well := [name for name in evidence.databases if server_reached(evidence, each, name)]:
            found = _failed(Kind.QUERY_FAILED, each, evidence, f"query ({each.kind})")
            probes = f"{each.host} reached {', '.join(well)} all the time, by its probes"
            yield Violation(found.kind, found.what, found.where, found.at, (*found.evidence, probes))


def late(evidence: Evidence) -> Iterator[Violation]:
    """What failed, and took longer than its limit: a gateway that is up answers before Puppet gives it up."""
    for each in evidence.history.requests():
        failed = each.error is not None
        over = each.took > evidence.seconds + LIMIT
        given_up = each.error == TIMEOUT and evidence.fronts and evidence.through_front(each)
        if failed and (over or (given_up and gateway_up(evidence, each))):
            what = f"{each.kind} failed after {each.took:.2f} s"
            yield _failed(Kind.LATE, each, evidence, what)


def runs_failed(evidence: Evidence) -> Iterator[Violation]:
    """Runs of a real `puppet apply` that failed though all that they need was there from beginning to end."""
    for each in evidence.history.all(Applied):
        if each.error is None or not gateway_up(evidence, each):
            continue
        well = [name for name in evidence.databases if server_reached(evidence, each, name)]
        if well and (not evidence.fronts or journal_reached(evidence, each)):
            told = (f"exit code {each.status}: {each.error}", f"{each.host} reached {', '.join(well)} all the time")
            yield Violation(Kind.RUN_FAILED, f"puppet apply after {each.took:.1f} s", each.host, each.at, told)


def gateway_up(evidence: Evidence, event: Event) -> bool:
    """Whether nothing stopped or killed the gateway of that host then; without gateways, there is nothing to stop."""
    if not evidence.fronts:
        return True
    timeline = evidence.timeline
    # A power cut ends all that runs on the host.
    ended = [each for each in timeline.during(0.0, event.end, {"power_cut"}) if event.host in each.words]
    ended += timeline.service_disturbed(event.host, "gateway", 0.0, event.end)
    if any(each.overlaps(event.at - UP, event.end) for each in ended):
        return False
    began = listening(evidence).get(event.host)
    last = max((each.called for each in ended if each.nemesis != "stop"), default=None)
    # How long it takes to start, its log says.
    return last is None or began is None or any(last <= at < event.at for at in began)


def journal_reached(evidence: Evidence, event: Event) -> bool:
    """Whether the gateway of that host could write to its journal all the time."""
    begin, timeline = event.at - JOURNAL_KNOWN, evidence.timeline
    if not evidence.shared:
        return not any(event.host in each.words for each in timeline.during(begin, event.end, {"power_cut"}))
    if timeline.path_disturbed(event.host, "journal", begin, event.end):
        return False
    if timeline.service_disturbed("journal", "postgres", begin, event.end):
        return False
    return timeline.reached(event.host, "journal", begin, event.end)


def server_reached(evidence: Evidence, event: Event, name: str) -> bool:
    """Whether that host could have an answer of this PuppetDB all the time."""
    timeline = evidence.timeline
    if timeline.path_disturbed(event.host, name, event.at, event.end):
        return False
    if any(event.host in each.words for each in timeline.during(event.at, event.end, {"revoke"})):
        # Every PuppetDB refuses the gateway then; and the probes, where they use another certificate, do not see it.
        return False
    services = [each for each in timeline.during(event.at, event.end) if each.nemesis not in NETWORK]
    if any(name in each.words and each.words[1:] != ("reconciler",) for each in services if each.nemesis != "clock"):
        return False
    return timeline.reached(event.host, name, event.at - SERVER_KNOWN, event.end)


def _given_up(evidence: Evidence) -> Iterator[Violation]:
    """Without gateways: commands that Puppet gave up, as a site without one loses them."""
    if evidence.fronts:
        return
    attempts: dict[tuple[str, int], list[Submitted]] = {}
    for each in evidence.history.all(Submitted):
        attempts.setdefault((each.certname, each.number), []).append(each)
    for made in attempts.values():
        if not any(each.acknowledged for each in made):
            last = made[-1]
            yield _failed(Kind.COMMAND_FAILED, last, evidence, f"{last.kind} {last.number} of {last.certname}")


def _failed(kind: Kind, event: Submitted | Read, evidence: Evidence, what: str) -> Violation:
    disturbed = evidence.timeline.during(event.at, event.end)
    return Violation(
        kind,
        what,
        event.host,
        event.at,
        (
            f"{event.url}: {event.error} after {event.took:.2f} s",
            f"meanwhile: {', '.join(map(str, disturbed)) or 'nothing'}",
        ),
    )
