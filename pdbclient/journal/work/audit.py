"""Whether a server shows what it took, and still has what it was seen to have. For a thread in the background.

`judge_loss` is the rule about lost data. A server forgets on purpose, too: nodes are purged after `node-purge-ttl` or
deleted by hand, with all that belongs to them, and reports go after `report-ttl`. So this counts as lost data:

- one node went back: it shows an older catalog, or older facts or inputs, than it was seen to have. No command can do
  that; a restored backup does.
- one node lacks a report, and shows an older one: who deletes or purges a node deletes both, and `report-ttl` the
  older one first. So is an emptied server known that its reconciler, or the nodes' next runs, filled again.
- or half of the nodes that were looked at, and two at the least, lack something: an emptied database. Old reports and
  deactivations do not count, for they go with time, and with their node.

What a server took and was never seen to have may have been lost with its queue, or be in the directory of what it
discarded. It does not say which: so that is sent again when its queue is empty, a few times, more and more rarely.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType

from pdbclient.config.model import NODE_TTL
from pdbclient.errors import ServerError, TransportError
from pdbclient.http import presence
from pdbclient.http.session import Session
from pdbclient.journal.journal import Journal
from pdbclient.journal.ledger import entries, exported_sql, holdings
from pdbclient.journal.model import DEACTIVATION, LATE, REPLACED, Copy, Listed
from pdbclient.journal.work.leases import Leased
from pdbclient.journal.work.recovered import Recovery
from pdbclient.journal.work.recovery import recover
from pdbclient.journal.work.seen import REPORT, Shown, has, held, is_known, look
from pdbclient.wire import timestamp

__all__ = ["Audit", "Loss", "judge_loss", "late"]

log = logging.getLogger("pdbclient.journal")

SETTLING = 3.0
"""Seconds that a server has at least to apply what it took, before it is asked for it."""
PAGE = 500
ASKING = 10.0
"""Seconds that one look at the server may take: whoever ends the thread waits for it."""
AGAIN_FIRST, AGAIN_LAST = 600.0, 6 * 3600.0
"""Seconds until what is late is asked for again: longer each time that nothing of it came."""
SENT_AGAIN = 3
"""Times that what is late is sent again, by one process: after LATE seconds, twice as many, and four times."""
LATE_LIMIT = 10_000
"""Late ones that are remembered: older ones are told, and sent again, anew."""
NAMED = 5
WHERE = "See its log, and the directory stockpile/discard of its vardir"

LOSS_EVERY = 180.0
SAMPLE = 50
NO_END = (1 << 63) - 1
TRUSTED_AGE = 86400.0
"""Seconds: reports younger than a day are not gone by any `report-ttl`, which PuppetDB counts in whole days."""
REMIND_EVERY = 3600.0


@dataclass(frozen=True, slots=True)
class Loss:
    """What a server lacks that it was seen to have: nodes of the `nodes` looked at, and one such entry."""

    went_back: tuple[str, ...]
    gone: tuple[str, ...]
    nodes: int
    example: Listed

    def __str__(self) -> str:
        parts = [f"{len(self.went_back)} are older there than they were"] if self.went_back else []
        parts += [f"{len(self.gone)} lack something"] if self.gone else []
        entry = self.example
        such_as = f"{entry.name} of {entry.certname} as of {entry.producer_timestamp}"
        return f"of {self.nodes} nodes {', '.join(parts)}, such as {such_as}"


def judge_loss(
    sample: Sequence[Listed], there: Shown, now: float, oldest_reports: Mapping[str, str] = MappingProxyType({})
) -> Loss | None:
    """Whether a server that shows `there` has lost data, of which `sample` was seen there once. Pure.

    `now` is in seconds since 1970. `oldest_reports` has the producer timestamp of the oldest report that the server
    shows of each node that lacks one. The rule is told at the top of this module.
    """
    lacking = _lacking(sample, there, now)
    back = [entry for entry in lacking if entry.name in REPLACED and (entry.name, entry.certname) in there.newest]
    holes = [entry for entry in lacking if entry.name == REPORT and _is_younger(entry, oldest_reports)]
    went_back = tuple(dict.fromkeys(entry.certname for entry in back))
    gone = tuple(dict.fromkeys(entry.certname for entry in lacking if entry.certname not in went_back))
    nodes = len({entry.certname for entry in sample if _counts(entry, there, now)})
    if back or holes or (len(gone) >= 2 and 2 * len(gone) >= nodes):
        return Loss(went_back, gone, nodes, [*back, *holes, *lacking][0])
    return None


def _lacking(sample: Sequence[Listed], there: Shown, now: float) -> list[Listed]:
    return [entry for entry in sample if _counts(entry, there, now) and not has(entry, there)]


def _is_younger(entry: Listed, oldest: Mapping[str, str]) -> bool:
    return entry.certname in oldest and oldest[entry.certname] < entry.producer_timestamp


def _counts(entry: Listed, there: Shown, now: float) -> bool:
    return is_known(entry, there) and not _goes_by_itself(entry, now)


def late(entry: Listed, server: str, now: float, times: int = 0) -> bool:
    """Whether `server` took `entry`, sent again so many times before, so long ago that it should show it. Pure.

    `now` is in seconds since 1970. What was taken long after that was so by a clock that has been set back.
    """
    copy = _copy(entry, server)
    return copy is not None and not now - LATE * 2.0**times <= copy.at <= now + LATE


class Audit:
    """The checks of one server, with `session`; call `round` every few seconds, from one thread.

    `heal`: send again what was lost, at most `rate` commands a second, in that same thread, but nothing of nodes that
    have been silent for `node_ttl` seconds (0: never); else only say so. Setting `stop` ends that early.
    """

    def __init__(
        self,
        journal: Journal,
        session: Session,
        *,
        heal: bool,
        rate: float,
        node_ttl: float = NODE_TTL,
        stop: threading.Event | None = None,
    ) -> None:
        self._journal, self._session = journal, session
        self._url = session.endpoint.url
        self._heal, self._rate, self._node_ttl = heal, rate, node_ttl
        self._stop = stop or threading.Event()
        self._after = 0
        self._again = float("inf")
        self._pause = AGAIN_FIRST
        self._late: dict[int, int] = {}
        self._unanswered: set[str] = set()
        self._next_loss = float("-inf")
        self._until: int | None = None
        self._lost_at: float | None = None
        self._lost: Sequence[int] = ()

    def came_back(self) -> None:
        """The server was away: whether it has lost data is to be seen in the next round."""
        self._next_loss = float("-inf")

    def round(self) -> None:
        """One look. A server that does not answer is no trouble here. Raises `JournalError`."""
        try:
            if monotonic() >= self._next_loss:
                # First: what is confirmed below must not hide what was lost.
                self._look_for_loss()
                self._next_loss = monotonic() + LOSS_EVERY
            self._confirm()
        except (TransportError, ServerError) as error:
            log.debug("what it holds could not be seen: %s", error)

    # -- what it took, and shows or not

    def _confirm(self) -> None:
        now = self._journal.clock()
        if monotonic() >= self._again:
            # Once more from the beginning, with those that were late.
            self._after, self._again = 0, float("inf")
        page = self._journal.run(holdings.unconfirmed, self._url, self._after, now - SETTLING, PAGE)
        if not page:
            return
        there = look(self._session, page, within=ASKING)
        seen = held(page, there)
        overdue = [entry for entry in page if entry.id not in seen and late(entry, self._url, now)]
        missing = [entry for entry in overdue if is_known(entry, there)]
        self._say_unanswered(there)
        if seen:
            self._journal.confirm(self._url, seen)
        for entry in seen:
            self._late.pop(entry, None)
        self._report([entry for entry in missing if entry.id not in self._late])
        again = self._send_again(missing, now) if self._heal else set()
        # Also what the server cannot be asked about.
        self._pass_over(page, seen.keys(), {entry.id for entry in overdue} - again)

    def _say_unanswered(self, there: Shown) -> None:
        """Once each: what the server cannot be asked about is not confirmed, and neither late nor lost."""
        for name, error in there.unanswered.items():
            if name not in self._unanswered:
                log.warning("whether %s has its '%s' commands cannot be seen: %s", self._url, name, error)
        self._unanswered |= there.unanswered.keys()

    def _pass_over(self, page: Sequence[Listed], seen: AbstractSet[int], missing: AbstractSet[int]) -> None:
        """Leave behind, for a while, what is late at the beginning: it must not stand before what comes after it."""
        passed = None
        for entry in page:
            if entry.id in missing and entry.id not in seen:
                passed = entry.id
            elif entry.id not in seen:
                break
        if seen:
            self._pause = AGAIN_FIRST
        if passed is not None:
            self._after = passed
            if self._again == float("inf"):
                self._again = monotonic() + self._pause
                self._pause = min(2 * self._pause, AGAIN_LAST)

    def _report(self, news: Sequence[Listed]) -> None:
        if not news:
            return
        self._late |= dict.fromkeys((entry.id for entry in news), 0)
        while len(self._late) > LATE_LIMIT:
            del self._late[next(iter(self._late))]
        log.warning(
            "%s took %d command%s more than %.0f minutes ago and does not show %s: %s. %s",
            self._url,
            len(news),
            "" if len(news) == 1 else "s",
            LATE / 60,
            "it" if len(news) == 1 else "them",
            self._named(news),
            WHERE,
        )

    def _named(self, some: Sequence[Listed]) -> str:
        named = [f"{entry.name} for {entry.certname} ({_uuid(entry, self._url)})" for entry in some[:NAMED]]
        return ", ".join(named) + (f", and {len(some) - NAMED} more" if len(some) > NAMED else "")

    def _send_again(self, missing: Sequence[Listed], now: float) -> set[int]:
        """Send those again whose time it is, when they do not wait in its queue: their ids."""
        known = [entry for entry in missing if entry.id in self._late]
        due = [entry for entry in known if late(entry, self._url, now, self._late[entry.id])]
        if not due or presence.queue_depth(self._session) > 0:
            return set()
        in_vain = [entry for entry in due if self._late[entry.id] == SENT_AGAIN]
        if in_vain:
            log.error(
                "%s was sent this again %d times and does not show it, which is given up: %s. %s",
                self._url,
                SENT_AGAIN,
                self._named(in_vain),
                WHERE,
            )
        for entry in in_vain:
            self._late[entry.id] += 1
        sent = [entry for entry in due if entry not in in_vain and self._late[entry.id] < SENT_AGAIN]
        if not sent or not self._recover(sent):
            return set()
        for entry in sent:
            self._late[entry.id] += 1
        return {entry.id for entry in sent}

    # -- what it had, and still has or not

    def _look_for_loss(self) -> None:
        now = self._journal.clock()
        newest = self._journal.run(holdings.confirmed, self._url, NO_END, 1)
        until = newest[0].id if newest else 0
        # What was confirmed since the last look can hide a loss: a server that was emptied gets new commands.
        before = until if self._until is None else self._until
        # What was lost is not confirmed any more: it is looked for until it is there again, or was replaced.
        samples = [self._journal.run(entries.listed, self._lost)]
        if not samples[0]:
            samples = [
                self._journal.run(holdings.confirmed, self._url, before, SAMPLE),
                self._journal.run(holdings.some_confirmed, self._url, before, until, SAMPLE),
            ]
        loss, sample = self._judge(samples, now)
        if loss is None:
            if self._lost_at is not None:
                log.info("%s has again what it was seen to have", self._url)
            self._until, self._lost_at, self._lost = until or None, None, ()
            return
        self._lost = [entry.id for entry in sample]
        due = self._lost_at is None or monotonic() >= self._lost_at + REMIND_EVERY
        if due:
            # It must not answer about exported resources as if it had them still.
            self._journal.run(exported_sql.forget, self._url)
            self._lost_at = monotonic()
            cure = (
                "what the journal has is sent again"
                if self._heal
                else f"run `pdbclient recover --server {self._url}`"
            )
            log.error("%s has lost data: %s; %s", self._url, loss, cure)
        if self._heal:
            self._recover()

    def _judge(self, samples: Sequence[Sequence[Listed]], now: float) -> tuple[Loss | None, Sequence[Listed]]:
        there = look(self._session, [entry for sample in samples for entry in sample], within=ASKING)
        lacking = [entry for sample in samples for entry in _lacking(sample, there, now) if entry.name == REPORT]
        oldest = {}
        if lacking:
            certnames = {entry.certname for entry in lacking}
            before = max(entry.producer_timestamp for entry in lacking)
            oldest = dict(presence.oldest_reports(self._session, certnames, before, within=ASKING))
        for sample in samples:
            if loss := judge_loss(sample, there, now, oldest):
                return loss, sample
        return None, ()

    # -- sending again

    def _recover(self, only: Sequence[Listed] | None = None) -> bool:
        """Recover the server, or what of it is `only` these. False when it could not be done, which is said."""
        try:
            result = recover(
                self._journal, self._session, rate=self._rate, node_ttl=self._node_ttl, stop=self._stop, only=only
            )
        except Leased as error:
            log.info("%s", error)
        except (TransportError, ServerError) as error:
            log.error("%s: recovery broken off: %s", self._url, error)
        else:
            self._say(result)
            return True
        return False

    def _say(self, result: Recovery) -> None:
        log.log(
            logging.INFO if result.ok else logging.ERROR,
            "%s: %s: looked at %d entries, had %d of them, %d sent again, %d seen there; %d rejected, %d failed,"
            " %d missing, %d damaged in the journal, %d older than node-ttl left out",
            self._url,
            "recovery broken off" if result.stopped else "recovered" if result.ok else "not recovered in full",
            result.looked_at,
            result.had,
            result.replayed,
            result.verified,
            result.rejected,
            result.failed,
            result.missing,
            result.damaged,
            result.expired,
        )


def _goes_by_itself(entry: Listed, now: float) -> bool:
    if entry.name == REPORT:
        return timestamp.to_millis(entry.producer_timestamp) / 1000 < now - TRUSTED_AGE
    return entry.name == DEACTIVATION


def _copy(entry: Listed, server: str) -> Copy | None:
    return next((copy for copy in entry.copies if copy.server == server), None)


def _uuid(entry: Listed, server: str) -> str | None:
    copy = _copy(entry, server)
    return None if copy is None else copy.uuid
