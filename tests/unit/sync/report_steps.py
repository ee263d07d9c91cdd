"""What the tests of reports do and look at, over and over."""

from __future__ import annotations

from contextlib import closing

from pdbclient.sync import Entity, Mode, PassResult, reconcile
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.state.store import State, state_path
from pdbclient.wire.summary import to_millis

from .conftest import SyncPair
from .fake import FakePuppetDB, report

HOUR = 3_600_000
COLD = 3 * 3600.0
"""So long ago (s) that the hour is over for good."""


def begin(site: SyncPair) -> SyncPair:
    """With a node that both sides know, and that runs on; its reports are a matter of the tests."""
    for side in (site.a, site.b):
        side.apply("store report", report("n", site.ago(100 * 3600), "first"))
    return site


def run(side: FakePuppetDB, site: SyncPair, uuid: str, ago: float = 0.0, certname: str = "n") -> str:
    """A report, received now; its hash."""
    before = set(side.tables["reports"])
    side.apply("store report", report(certname, site.ago(ago), uuid))
    (added,) = set(side.tables["reports"]) - before
    return added


def pull(site: SyncPair, mode: Mode | None = None) -> PassResult:
    """One pass that brings the reports of a to b."""
    result = reconcile(site.config(site.b), mode=mode, connect=site.connect, clock=site.clock)[0]
    assert not result.errors, result
    return result


def moved(site: SyncPair, mode: Mode | None = None) -> int:
    return pull(site, mode).entities[Entity.REPORTS].transferred


def same(site: SyncPair) -> bool:
    return site.a.tables["reports"].keys() == site.b.tables["reports"].keys()


def listed(site: SyncPair) -> list[int]:
    """The hours that the last passes asked a to list in full; how long ago they began (in hours, from this one)."""
    this = site.ago(0) // HOUR
    hours: list[int] = []
    for path, query in site.a.queries:
        if path == "/reports" and query[:2] == ["extract", ["hash"]]:
            start, *end = (_hour(clause[2]) for clause in query[2] if clause[1] == "producer_timestamp")
            # Without an end: what is stamped in the future.
            hours += [hour for last in end for hour in range(this - last + 1, this - start + 1)]
    site.a.queries.clear()
    return sorted(hours)


def _hour(stamp: str) -> int:
    return to_millis(stamp) // HOUR


def state(site: SyncPair) -> State:
    config = site.config(site.b)
    return State(state_path(config.state_dir, config.local), read_only=True)


def memory(site: SyncPair) -> ReportMemory:
    """What b remembers of the reports of a."""
    with closing(state(site)) as found:
        return found.reports(site.a.endpoint.url)


def lose(side: FakePuppetDB, *hashes: str) -> None:
    for key in hashes:
        del side.tables["reports"][key]
