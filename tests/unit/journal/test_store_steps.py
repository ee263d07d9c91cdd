"""What an operation costs does not grow with what else is in the journal: counted in steps of SQLite, not in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pdbclient.journal.ledger import deliveries, entries, exported_sql, holdings, replay_sql, upkeep
from pdbclient.journal.model import ANY, Copy, CopyState
from pdbclient.journal.store import sqlite
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.packing import pack
from pdbclient.journal.store.schema import STATISTICS
from pdbclient.journal.store.sqlite import SqliteDatabase

from .store import CATALOG, FACTS, INPUTS, REPORT, START, A, B, command

CONNECT: Callable[..., sqlite3.Connection] = sqlite3.connect
EACH = 10
"""Steps that are counted as one."""
FEW, MANY = 20, 1000
"""Nodes."""
MOST = 2.0
"""Trees are deeper with more in them."""
NOW = START + 10_000.0
OWNER, WRITER = "me", "writer"
NAMES = (FACTS, CATALOG, INPUTS, REPORT)
TARGETS = (ANY, B)


class Counted:
    """A journal's database with so many nodes, all of whose commands are pending for `targets`."""

    def __init__(self, path: Path, nodes: int, targets: Sequence[str] = TARGETS) -> None:
        self.steps = 0
        self.nodes, self.targets = nodes, targets
        made: list[sqlite3.Connection] = []

        def connected(*args: Any, **options: Any) -> sqlite3.Connection:
            made.append(CONNECT(*args, **options))
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", connected)
            self.database = SqliteDatabase(path)
        self._connection = made[-1]
        self.ids: dict[tuple[str, str], int] = {}
        self.database.transact(self._fill)

    def _fill(self, tx: Transaction) -> None:
        exported_sql.enrol(tx, [A, B])
        for number in range(self.nodes):
            for name in NAMES:
                body = b'{"inputs":[1]}'
                packed = pack(command(name, f"node{number}", number, body))
                entry = entries.append(tx, packed, self.targets, NOW - 5000, NOW - 1, OWNER, WRITER).id
                self.ids[name, f"node{number}"] = entry

    def _count(self) -> int:
        self.steps += 1
        return 0

    def cost(self, work: Callable[[Transaction, Counted], object]) -> int:
        """Steps of one transaction."""
        self.steps = 0
        self._connection.set_progress_handler(self._count, EACH)
        try:
            self.database.transact(lambda tx: work(tx, self))
        finally:
            self._connection.set_progress_handler(None, 0)
        return self.steps


def put(name: str, node: int = 3, at: int = 9_000) -> Callable[[Transaction, Counted], int]:
    def work(tx: Transaction, side: Counted) -> int:
        packed = pack(command(name, f"node{node}", at, b'{"inputs":[1]}'))
        return entries.append(tx, packed, TARGETS, NOW, NOW + 60, OWNER, WRITER).id

    return work


def taken(name: str) -> Callable[[Transaction, Counted], object]:
    """A newer one than what waits, put in and taken at once, as in every submission."""

    def work(tx: Transaction, side: Counted) -> None:
        entry = put(name)(tx, side)
        deliveries.ack(tx, entry, [Copy(A, CopyState.ACCEPTED, "uuid", NOW)])
        deliveries.release(tx, entry, NOW, OWNER)

    return work


def seen(tx: Transaction, side: Counted) -> None:
    """What waited is taken, and then shown."""
    for name in NAMES:
        entry = side.ids[name, "node5"]
        deliveries.ack(tx, entry, [Copy(A, CopyState.ACCEPTED, "uuid", NOW)])
        deliveries.confirm(tx, A, [entry], NOW)
        deliveries.compact(tx, [entry], 0, WRITER)


def behind(tx: Transaction, side: Counted) -> None:
    """As before each query about exported resources: nearly everything was looked at before."""
    entry = put(CATALOG, 4)(tx, side)
    exported_sql.advance(tx, A, entry - 3, 0)
    exported_sql.behind(tx, A, NOW, 3600.0, 5.0)


OPERATIONS: dict[str, Callable[[Transaction, Counted], object]] = {
    **{f"put in: {name}": put(name) for name in NAMES},
    **{f"taken at once: {name}": taken(name) for name in NAMES},
    "taken later, and shown": seen,
    "claimed": lambda tx, side: deliveries.claim(tx, ANY, 10, NOW, NOW + 60, OWNER),
    "claimed for one server": lambda tx, side: deliveries.claim(tx, B, 10, NOW, NOW + 60, OWNER),
    "called bad": lambda tx, side: deliveries.ack(
        tx, side.ids[CATALOG, "node6"], [Copy(A, CopyState.REJECTED, None, NOW, "bad")]
    ),
    "failed": lambda tx, side: deliveries.retry_later(tx, side.ids[CATALOG, "node7"], B, NOW, OWNER),
    "given back": lambda tx, side: deliveries.release(tx, side.ids[REPORT, "node7"], NOW, OWNER),
    "retried": lambda tx, side: entries.retry(tx, side.ids[FACTS, "node8"], TARGETS, [A, B]),
    "dropped": lambda tx, side: entries.drop(tx, [side.ids[FACTS, "node9"]], WRITER),
    "fetched": lambda tx, side: entries.fetch(tx, [side.ids[FACTS, "node10"]]),
    "shown to an operator": lambda tx, side: entries.show(tx, str(side.ids[FACTS, "node10"])),
    "looked for by the audit": lambda tx, side: holdings.unconfirmed(tx, A, 0, NOW, 10),
    "looked at since the last look": lambda tx, side: holdings.some_confirmed(tx, A, 0, 10**9, 10),
    "a page of nodes for a recovery": lambda tx, side: replay_sql.newest_page(tx, [CATALOG], 0, 10**9, 10),
    "a page of reports for a recovery": lambda tx, side: replay_sql.reports_page(tx, 0, 10**9, 10),
    "the one before": lambda tx, side: replay_sql.before(tx, [side.ids[CATALOG, "node11"]]),
    "expired": lambda tx, side: replay_sql.expired(tx, [side.ids[CATALOG, "node11"]], "2026-01-01T00:00:00.000Z"),
    "what a server is behind in": behind,
    "told that another server shows it": lambda tx, side: deliveries.confirm(
        tx, B, [side.ids[name, "node12"] for name in NAMES], NOW
    ),
    "nothing is too old": lambda tx, side: upkeep.prune(tx, START - 9_000, 1 << 40, 10, WRITER, [A, B]),
    "verified": lambda tx, side: upkeep.verify(tx, 0, 10),
}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Counted]]:
    directory = tmp_path_factory.mktemp("steps")
    made = [Counted(directory / f"{nodes}.db", nodes) for nodes in (FEW, MANY)]
    try:
        yield made
    finally:
        for side in made:
            side.database.close()


@pytest.mark.parametrize("what", OPERATIONS)
def test_it_costs_no_more_beside_many(sides: list[Counted], what: str) -> None:
    few, many = (side.cost(OPERATIONS[what]) for side in sides)
    assert few > 0
    assert many <= MOST * few + 20, f"{EACH * few} steps beside {FEW} nodes, {EACH * many} beside {MANY}"


def test_what_nobody_has_is_not_looked_through_by_age(tmp_path: Path) -> None:
    costs = []
    for nodes in (FEW, MANY):
        side = Counted(tmp_path / f"{nodes}.db", nodes, (ANY,))
        costs.append(side.cost(lambda tx, side: upkeep.prune(tx, NOW, 1 << 40, 10, WRITER, [A, B])))
        side.database.close()
    assert costs[1] <= MOST * costs[0] + 20


def told(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx").fetchall()


@pytest.fixture
def older(place: str) -> Path:
    """A journal of a version that told SQLite nothing."""
    SqliteDatabase(Path(place)).close()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("DROP TABLE IF EXISTS sqlite_stat1")
        connection.commit()
    return Path(place)


def test_every_index_is_told_of(older: Path) -> None:
    with closing(sqlite3.connect(older)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
    assert {name for (name,) in names} <= {index for _, index, _ in STATISTICS}


def test_an_older_journal_is_told_when_it_is_opened(older: Path) -> None:
    SqliteDatabase(older).close()
    assert told(older) == list(STATISTICS)


def test_whoever_reads_beside_changes_nothing(older: Path) -> None:
    before = older.read_bytes()
    SqliteDatabase(older, beside=True).close()
    assert older.read_bytes() == before


def test_where_there_is_no_room_it_is_opened_all_the_same(
    older: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(sqlite, "_tell_statistics", full)
        database = SqliteDatabase(older)
    try:
        assert database.transact(lambda tx: tx.rows("SELECT count(*) FROM entries")) == [(0,)]
    finally:
        database.close()
    assert "works without statistics, slower where much is pending: database or disk is full" in caplog.text
