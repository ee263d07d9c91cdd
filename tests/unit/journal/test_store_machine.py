"""The store against a model of it in plain Python, over whatever happens in whatever order.

The model is told in terms of targets and entries, without a word of SQL; a crash forgets what was not acknowledged,
which is nothing, and all claims.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pdbclient.journal.ledger import deliveries, entries, exported_sql, upkeep
from pdbclient.journal.model import (
    ANY,
    DECIDING,
    LATE,
    REPLACED,
    Copy,
    CopyState,
    EntryState,
    backoff,
    lane,
    state_after,
)
from pdbclient.wire.command import Command
from tests.soak import rounds

from .store import CATALOG, DEACTIVATE, FACTS, LEASE, REPORT, A, B, Store, command

SERVERS = (A, B)


@dataclass(frozen=True)
class Delivery:
    """What an entry's delivery to one target is like: due when, after so many tries, under way or not."""

    due: float
    tries: int = 0
    going: bool = False


@dataclass
class Row:
    """An entry in the model."""

    command: Command
    received: float
    size: int
    pending: dict[str, Delivery] = field(default_factory=dict)
    copies: dict[str, CopyState] = field(default_factory=dict)
    was: EntryState = EntryState.PENDING

    @property
    def state(self) -> EntryState:
        """A server had it, and lost it: that another one calls it bad is no reason to think so."""
        state = state_after(bool(self.pending), self.copies.values())
        return EntryState.DELIVERED if (state, self.was) == (EntryState.PARKED, EntryState.DELIVERED) else state

    @property
    def is_taken(self) -> bool:
        return any(state is not CopyState.REJECTED for state in self.copies.values())

    def is_bad_at(self, server: str) -> bool:
        return self.copies.get(server) is CopyState.REJECTED

    def settle(self, server: str, state: CopyState) -> bool:
        """Whether it was pending for that server, or any."""
        ended = [target for target in (ANY, server) if target in self.pending]
        for target in ended:
            del self.pending[target]
        return bool(ended)


class StoreMachine(RuleBasedStateMachine):
    """Runs `Store` and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="pdbclient-test-"))
        self.store = Store(str(self.directory / "journal.db"))
        self.store.journal.run(exported_sql.enrol, SERVERS)
        self.rows: dict[int, Row] = {}

    def teardown(self) -> None:
        self.store.journal.close()
        shutil.rmtree(self.directory)

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.rows)), label="entry")

    @rule(
        name=st.sampled_from([CATALOG, FACTS, REPORT, DEACTIVATE]),
        certname=st.sampled_from(["a", "b"]),
        at=st.integers(0, 5),
        broadcast=st.booleans(),
    )
    def append(self, name: str, certname: str, at: int, broadcast: bool) -> None:
        made = command(name, certname, at, f"{len(self.rows)}".encode())
        targets = SERVERS if broadcast else (ANY,)
        entry = self.store.journal.append(made, targets).result().id
        assert entry > max(self.rows, default=0)
        pending = {target: Delivery(self.store.now + LEASE, going=True) for target in targets}
        self.rows[entry] = Row(made, self.store.now, len(made.body), pending)

    @rule(whom=st.sampled_from([ANY, *SERVERS]), limit=st.integers(1, 4))
    def claim(self, whom: str, limit: int) -> None:
        due = [
            entry
            for entry, row in self.rows.items()
            if whom in row.pending and self.is_due(row.pending[whom].due) and not self.waits(entry, whom)
        ]
        expected: dict[object, int] = {}
        for entry in sorted(due, key=self.order)[:limit]:
            expected.setdefault(self.one_of_node(entry), entry)
        claims = self.store.claims(whom, limit)
        assert [claim.entry for claim in claims] == list(expected.values())
        for claim in claims:
            pending = self.rows[claim.entry].pending
            assert claim.tries == pending[whom].tries
            pending[whom] = Delivery(self.store.now + LEASE, claim.tries + 1, going=True)

    def one_of_node(self, entry: int) -> object:
        """What is the same for those of which only one at a time is under way."""
        name, certname = self.rows[entry].command.name, self.rows[entry].command.certname
        return (name, certname) if name in REPLACED else entry

    def waits(self, entry: int, whom: str) -> bool:
        """Whether another one of its node is under way there; a deactivation, for any newer record that is to go."""
        if self.rows[entry].command.name == DEACTIVATE:
            return any(
                (delivery := row.pending.get(whom)) is not None and (delivery.going or self.is_due(delivery.due))
                for row in self.newer_records(entry)
            )
        return self.rows[entry].command.name in REPLACED and any(
            self.one_of_node(other) == self.one_of_node(entry)
            and (going := row.pending.get(whom)) is not None
            and going.going
            and not self.is_due(going.due)
            for other, row in self.rows.items()
        )

    def seen(self) -> set[str]:
        """The servers that show something at all: who is never asked has no say in what all show."""
        return {server for row in self.rows.values() for server, c in row.copies.items() if c is CopyState.CONFIRMED}

    def newer_records(self, entry: int, *more: str) -> list[Row]:
        """Of its node: those that replace each other, and `more`."""
        own = self.rows[entry].command
        return [
            row
            for row in self.rows.values()
            if row.command.certname == own.certname
            and row.command.name in (*REPLACED, *more)
            and row.command.producer_timestamp > own.producer_timestamp
        ]

    def is_due(self, due: float) -> bool:
        return due <= self.store.now or due > self.store.now + deliveries.LONGEST

    def order(self, entry: int) -> tuple[int, int]:
        name = self.rows[entry].command.name
        return lane(name), -entry if name in REPLACED else entry

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), server=st.sampled_from(SERVERS), taken=st.sampled_from([True, True, False]))
    def settle(self, data: st.DataObject, server: str, taken: bool) -> None:
        entry = self.pick(data)
        row = self.rows[entry]
        state = CopyState.ACCEPTED if taken else CopyState.REJECTED
        result = self.store.settle(entry, Copy(server, state, None, self.store.now))
        row.settle(server, state)
        row.copies[server] = state
        if taken and row.command.name in REPLACED:
            for older in (*self.older(entry), *self.older_deactivations(entry)):
                for target in {ANY, server} & older.pending.keys():
                    # What is equally old is no reason to wait.
                    delivery = older.pending[target]
                    if older.command.producer_timestamp < row.command.producer_timestamp and not delivery.going:
                        due = self.store.now + LATE if delivery.due <= self.store.now else delivery.due
                        older.pending[target] = replace(delivery, due=due)
        assert result is row.state

    def older(self, entry: int) -> list[Row]:
        """Those that it is newer than, of its node: by the timestamp, and of equal ones those put in before it."""
        by = self.rows[entry].command
        return [
            row
            for other, row in self.rows.items()
            if (row.command.name, row.command.certname) == (by.name, by.certname)
            and (row.command.producer_timestamp, other) < (by.producer_timestamp, entry)
        ]

    def older_deactivations(self, entry: int) -> list[Row]:
        by = self.rows[entry].command
        return [
            row
            for row in self.rows.values()
            if (row.command.name, row.command.certname) == (DEACTIVATE, by.certname)
            and row.command.producer_timestamp < by.producer_timestamp
        ]

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), server=st.sampled_from(SERVERS), itself=st.booleans())
    def show(self, data: st.DataObject, server: str, itself: bool) -> None:
        entry = self.pick(data)
        row = self.rows[entry]
        self.store.shown(entry, server=server, itself=itself)
        row.settle(server, CopyState.CONFIRMED)
        row.copies[server] = CopyState.CONFIRMED
        if not itself or row.command.name not in REPLACED:
            return
        dead = self.older_deactivations(entry)
        # Who took one of those, and not these facts, hides the node.
        dead = dead if row.command.name == CATALOG else [each for each in dead if not each.is_taken]
        for older in (*self.older(entry), *dead):
            if older.state is EntryState.PARKED:
                continue
            named = older.pending.keys() - {ANY}
            if any(row.copies.get(target) in (CopyState.REJECTED, CopyState.ACCEPTED) for target in named):
                continue
            for target in named - row.copies.keys() - row.pending.keys():
                row.pending[target] = Delivery(older.pending[target].due)
            self.rows = {number: each for number, each in self.rows.items() if each is not older}

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        entry = self.pick(data)
        row = self.rows[entry]
        assert self.store.release(entry) is bool(row.pending)
        for target, given in row.pending.items():
            if given.going:
                row.pending[target] = Delivery(self.store.now, max(given.tries - 1, 0))

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), whom=st.sampled_from([ANY, *SERVERS]))
    def retry_later(self, data: st.DataObject, whom: str) -> None:
        entry = self.pick(data)
        row = self.rows[entry]
        self.store.retry_later(entry, whom)
        if whom in row.pending and row.pending[whom].going:
            tries = row.pending[whom].tries
            row.pending[whom] = Delivery(self.store.now + backoff(tries), tries)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), meant=st.sampled_from([(ANY,), SERVERS]))
    def retry(self, data: st.DataObject, meant: tuple[str, ...]) -> None:
        entry = self.pick(data)
        row = self.rows[entry]
        rejected = [server for server, state in row.copies.items() if state is CopyState.REJECTED]
        assert self.store.retry(entry, meant) is bool(rejected)
        if rejected:
            for server in rejected:
                del row.copies[server]
            # Any server has it already: those that did not take it are meant.
            wanted = rejected if row.copies and meant == (ANY,) else meant
            row.pending |= {t: Delivery(0.0) for t in wanted if t not in row.pending and t not in row.copies}

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        entry = self.pick(data)
        assert self.store.drop(entry) == 1
        del self.rows[entry]

    @rule(limit=st.integers(1, 3), most=st.integers(0, 10))
    def prune(self, limit: int, most: int) -> None:
        had = {
            entry: row
            for entry, row in sorted(self.rows.items())
            if {CopyState.ACCEPTED, CopyState.CONFIRMED} & set(row.copies.values())
        }
        reports = [entry for entry, row in had.items() if row.command.name == REPORT]
        by_all = [
            e for e in reports if {s for s, c in had[e].copies.items() if c is CopyState.CONFIRMED} == self.seen()
        ]
        # What was delivered and called bad later counts, and stays.
        size = sum(row.size for entry, row in self.rows.items() if entry in had or row.state is EntryState.DELIVERED)
        if sum(row.size for row in self.rows.values()) <= most:
            size = 0
        gone: list[int] = []
        for entry in dict.fromkeys((*by_all, *reports, *had)):
            if size > most and len(gone) < limit:
                gone.append(entry)
                size -= had[entry].size
        pruned = self.store.journal.run(upkeep.prune, 0.0, most, limit, self.store.journal.writer, SERVERS)
        assert pruned == len(gone)
        for entry in gone:
            del self.rows[entry]

    @rule(seconds=st.sampled_from([1.0, 5.0, LEASE, 700.0, -60.0, -3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.store.now += seconds

    @rule()
    def crash(self) -> None:
        """The files as they are now are what a killed process leaves; the claims of the dead one are forgotten."""
        other = Path(tempfile.mkdtemp(prefix="pdbclient-test-"))
        for suffix in ("", "-journal"):
            shutil.copy(self.directory / f"journal.db{suffix}", other / f"journal.db{suffix}")
        now = self.store.now
        self.store.journal.close()
        shutil.rmtree(self.directory)
        self.directory = other
        self.store = Store(str(other / "journal.db"))
        self.store.now = now
        for row in self.rows.values():
            row.pending = {target: Delivery(min(d.due, 0.0), d.tries) for target, d in row.pending.items()}

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        for row in self.rows.values():
            row.was = row.state
        listed = self.store.journal.run(entries.listing, limit=1000)
        assert {row.id: (row.state, {c.server: c.state for c in row.copies}) for row in listed} == {
            entry: (row.state, row.copies) for entry, row in self.rows.items()
        }
        counts = self.store.counts()
        assert counts.bytes == sum(row.size for row in self.rows.values())
        assert sum(counts.pending.values()) == sum(len(row.pending) for row in self.rows.values())

    @invariant()
    def a_server_lacks_the_newest_that_it_was_not_seen_to_take(self) -> None:
        for server in SERVERS:
            lacking = []
            for about in itertools.product((*DECIDING, FACTS), ("a", "b")):
                of_node = {
                    entry: row
                    for entry, row in self.rows.items()
                    if (row.command.name, row.command.certname) == about and row.state is not EntryState.PARKED
                }
                counts = [e for e, row in of_node.items() if self.is_told(row) and not row.is_bad_at(server)]
                if of_node and self.newest(of_node).copies.get(server) is CopyState.CONFIRMED:
                    continue
                if not counts or (about[0] == FACTS and not self.revives(self.newest(of_node))):
                    continue
                best = max(counts, key=self.age)
                if server not in self.rows[best].copies:
                    lacking.append(best)
            sent = [self.rows[entry] for entry in lacking]
            for entry in [entry for entry in lacking if self.rows[entry].command.name == DEACTIVATE]:
                newer = self.newer_records(entry, REPORT)
                # What somebody has, or gets at the same time, makes it moot.
                if any(row.is_taken or any(row is each for each in sent) for row in newer):
                    lacking.remove(entry)
            assert self.store.lacking(server) == sorted(lacking, reverse=True)

    def revives(self, facts: Row) -> bool:
        """Whether these made a deactivated node active again, of which no catalog came since."""

        def stamps(name: str) -> list[str]:
            return [
                row.command.producer_timestamp
                for row in self.rows.values()
                if (row.command.name, row.command.certname) == (name, facts.command.certname)
                and row.state is not EntryState.PARKED
            ]

        dead = max(stamps(DEACTIVATE), default="")
        return "" < dead < facts.command.producer_timestamp and max(stamps(CATALOG), default="") <= dead

    def age(self, entry: int) -> tuple[str, int]:
        return self.rows[entry].command.producer_timestamp, entry

    def newest(self, rows: dict[int, Row]) -> Row:
        return rows[max(rows, key=self.age)]

    def is_told(self, row: Row) -> bool:
        """Whether somebody may know of it: its first attempt is over, or a server has it."""
        going = any(d.going and d.tries == 0 and d.due > self.store.now for d in row.pending.values())
        return not going or any(state is not CopyState.REJECTED for state in row.copies.values())


pytestmark = pytest.mark.timeout(rounds(300, 1800))

TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=rounds(60, 500), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
