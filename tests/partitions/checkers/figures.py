"""How fast answers came, and what the daemons took of their machines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..history import Read, Submitted, UsageMeasured
from ..timeline import DOWN, LOSING, Interval
from .model import Evidence, Kind, Violation

__all__ = ["Latencies", "grown", "latencies", "percentile", "slow"]

OUTAGES = frozenset({"cut", "halves", "one_way", *DOWN})
KNOWN = 8.0
"""Seconds until an outage is known: a server that is silent is asked how it is after one, which has three, and the
circuit that this opens is in use by then; or the health check, every two seconds, finds the same."""
RECOVERED = 30.0
"""Seconds after the end of what starts a PuppetDB in which its VM has the machine's processors for itself."""
ENOUGH = 100
"""Requests: of fewer, the 99th percentile is the longest."""
MOST = 1.5
ALLOWED: Mapping[str, float] = {"descriptors": 24, "threads": 24, "megabytes": 40}
"""What a daemon may have more in the end than at the start: connections that are kept, and threads of a pool, are
made when they are needed first, and a burst of catalogs leaves its memory with the allocator."""

Latencies = Mapping[tuple[str, str], Sequence[float]]
"""Seconds by phase (`healthy`, or the name of a nemesis) and kind of request."""


def latencies(evidence: Evidence) -> dict[tuple[str, str], list[float]]:
    """Of what was answered through the gateway: when nothing was wrong, and while each kind of outage was known."""
    found: dict[tuple[str, str], list[float]] = {}
    for kind, event in _answered(evidence):
        if evidence.timeline.during(event.at - RECOVERED, event.end):
            for each in evidence.timeline.during(event.at, event.end):
                if _known(evidence, each, event):
                    found.setdefault((each.nemesis, kind), []).append(event.took)
        else:
            found.setdefault(("healthy", kind), []).append(event.took)
    return found


def slow(evidence: Evidence) -> Iterator[Violation]:
    """Where the 99th percentile is more than 1.5 times what it is when all is well, once the outage is known."""
    measured = latencies(evidence)
    for (phase, kind), seconds in sorted(measured.items()):
        healthy = measured.get(("healthy", kind), [])
        if phase == "healthy" or min(len(seconds), len(healthy)) < ENOUGH:
            continue
        here, well = percentile(seconds, 99), percentile(healthy, 99)
        if here > MOST * well:
            what = f"{kind}: p99 {here * 1000:.0f} ms, healthy {well * 1000:.0f} ms"
            medians = f"p50 {percentile(seconds, 50) * 1000:.0f} ms, healthy {percentile(healthy, 50) * 1000:.0f} ms"
            numbers = f"{len(seconds)} requests, healthy {len(healthy)}"
            yield Violation(Kind.SLOW, what, phase, None, (medians, numbers))


def grown(evidence: Evidence) -> Iterator[Violation]:
    """Daemons that have more descriptors, threads or memory in the end than at the start.

    The start is the most while all was well, the end the least after healing: neither is one odd moment.
    """
    measured = evidence.history.all(UsageMeasured)
    began, healed = evidence.history.begins("nemeses"), evidence.history.begins("healed")
    if began is None or healed is None:
        return
    before = [each for each in measured if each.at <= began]
    after = [each for each in measured if each.at >= healed]
    for service in sorted({name for each in after for name in each.usage}):
        for what, allowed in ALLOWED.items():
            start = [each.usage[service][what] for each in before if service in each.usage]
            end = [each.usage[service][what] for each in after if service in each.usage]
            if start and end and min(end) > max(start) + allowed:
                shown = f"at most {max(start):.0f} at the start, at least {min(end):.0f} in the end"
                yield Violation(Kind.GROWN, f"{what}: {shown}", service)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank. `values` must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent * 100) // 10000) - 1))]


def _answered(evidence: Evidence) -> Iterator[tuple[str, Submitted | Read]]:
    for event in evidence.history.requests():
        if evidence.through_front(event) and event.error is None:
            yield ("command" if isinstance(event, Submitted) else event.kind), event


def _known(evidence: Evidence, outage: Interval, event: Submitted | Read) -> bool:
    """Whether this was an outage of a PuppetDB alone, was known, and no VM was being started."""
    if outage.nemesis not in OUTAGES or not set(outage.words) <= {*evidence.databases, "puppetdb", "postgres"}:
        return False
    starting = evidence.timeline.during(event.at - RECOVERED, event.end, {"kill", *LOSING})
    if any(each.called <= event.end for each in starting):
        return False
    # What else is wrong at the same time may be an outage that is not known yet.
    others = [each for each in evidence.timeline.during(event.at - KNOWN, event.end) if each != outage]
    return not others and outage.begin + KNOWN <= event.at and event.end <= outage.called
