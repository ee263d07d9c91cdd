"""Which entries a server has: it shows the command itself, or something newer in its place.

What counts follows PuppetDB's own precedence (`scf/storage.clj`): of catalogs, facts and catalog inputs the newest
of a node stays; a report is there or not; a deactivation counts until a newer record makes the node active.

PuppetDB works off several commands of a node at once. A deactivation and a newer catalog that overtake each other can
leave the node deactivated, with that catalog, which no query shows then (7 of 100 pairs sent at once, 8.8.1). Sent
again, the catalog makes it active. So a node's record is not seen where an older deactivation hides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from pdbclient.errors import ServerError
from pdbclient.http import presence
from pdbclient.http.outcome import is_about_one_query
from pdbclient.http.session import Session
from pdbclient.journal.model import DEACTIVATION, REPLACED, Listed

__all__ = ["Shown", "has", "held", "is_hidden", "is_known", "look"]

REPORT = "store report"

RECORDS = tuple(name for name in presence.NEWEST if name != DEACTIVATION)
"""The commands, beside reports, that make a node active again."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server was seen to have.

    `newest` maps command and certname to the producer timestamp of the one that is there, `reports` has certname and
    producer timestamp, `newest_reports` the newest of those nodes whose reports decide about a deactivation.
    `unanswered` has the commands that it could not be asked about, by name, and why. `dead` maps the nodes that are
    deactivated to since when, as far as they have records.
    """

    newest: Mapping[tuple[str, str], str]
    reports: AbstractSet[tuple[str, str]]
    newest_reports: Mapping[str, str]
    unanswered: Mapping[str, ServerError] = field(default_factory=dict)
    dead: Mapping[str, str] = field(default_factory=dict)


def has(entry: Listed, there: Shown) -> bool:
    """Whether a server that shows `there` has `entry`, or something newer in its place, or keeps nothing of such."""
    if entry.void:
        return True
    certname, stamp = entry.certname, entry.producer_timestamp
    if entry.name == REPORT:
        return (certname, stamp) in there.reports
    if there.newest.get((entry.name, certname), "") >= stamp:
        return True
    return entry.name == DEACTIVATION and _newest_record(certname, there) > stamp


def is_hidden(entry: Listed, there: Shown) -> bool:
    """Whether an older deactivation hides what the server has of `entry`: it would be active, sent again."""
    if entry.name not in REPLACED or entry.void or entry.certname not in there.dead:
        return False
    return there.dead[entry.certname] < entry.producer_timestamp


def held(entries: Sequence[Listed], there: Shown) -> dict[int, bool]:
    """The ids of those that a server which shows `there` has and does not hide; True: itself, not something newer."""
    newest = there.newest
    return {
        entry.id: newest.get((entry.name, entry.certname)) == entry.producer_timestamp
        for entry in entries
        if has(entry, there) and not is_hidden(entry, there)
    }


def is_known(entry: Listed, there: Shown) -> bool:
    """Whether what the server shows tells if it has `entry` or not: a question that it cannot answer does not."""
    deciding = {entry.name, *RECORDS, REPORT} if entry.name == DEACTIVATION else {entry.name}
    return has(entry, there) or there.unanswered.keys().isdisjoint(deciding)


def look(session: Session, entries: Sequence[Listed], *, within: float | None = None, strict: bool = False) -> Shown:
    """What the session's server shows of the nodes and reports that `entries` are about: it is asked in batches,
    `within` seconds in all.

    A question that it cannot answer keeps nobody from the others (`Shown.unanswered`), unless `strict`. Raises the
    session's errors: `TransportError` or `ServerError`.
    """
    unanswered: dict[str, ServerError] = {}
    newest: dict[tuple[str, str], str] = {}
    end = None if within is None else monotonic() + within

    def left() -> float | None:
        return None if end is None else max(end - monotonic(), 0.001)

    @contextmanager
    def about(name: str) -> Iterator[None]:
        try:
            yield
        except ServerError as error:
            if strict or not is_about_one_query(error):
                raise
            unanswered[name] = error

    def ask(name: str, certnames: Iterable[str]) -> None:
        with about(name):
            for certname, stamp in presence.newest(session, name, list(certnames), within=left()):
                # Older servers can hold two catalogs of one node.
                newest[name, certname] = max(stamp, newest.get((name, certname), ""))

    nodes = {name: {entry.certname for entry in entries if entry.name == name} for name in presence.NEWEST}
    for name, certnames in nodes.items():
        ask(name, certnames)
    so_far = Shown(newest, frozenset(), {})
    open_ = [entry for entry in entries if entry.name == DEACTIVATION and not has(entry, so_far)]
    undecided = {entry.certname for entry in open_}
    for name in RECORDS:
        ask(name, undecided - nodes[name])
    since = min((entry.producer_timestamp for entry in open_), default="")
    wanted = [(entry.certname, entry.producer_timestamp) for entry in entries if entry.name == REPORT]
    latest: dict[str, str] = {}
    dead: dict[str, str] = {}
    with about(DEACTIVATION):
        stored = {entry.certname for entry in entries if entry.name in REPLACED and has(entry, so_far)}
        dead |= presence.deactivated(session, list(stored), within=left())
    there: set[tuple[str, str]] = set()
    with about(REPORT):
        latest |= presence.newest_reports(session, list(undecided), since, within=left())
        there |= set(presence.reports(session, wanted, within=left()))
    return Shown(newest, there, latest, unanswered, dead)


def _newest_record(certname: str, there: Shown) -> str:
    stamps = [there.newest.get((name, certname), "") for name in RECORDS]
    return max([*stamps, there.newest_reports.get(certname, "")])
