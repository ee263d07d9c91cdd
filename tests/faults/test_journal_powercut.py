"""A journal whose disk loses power at any moment: it opens, with what was acknowledged, and nothing is half there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.cli.main import main
from pdbclient.config import ClientConfig, Endpoint
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import deliveries, entries
from pdbclient.journal.model import ANY, Copy, CopyState
from pdbclient.journal.store.database import Transaction
from tests.unit.journal.old_format import make_file, require_all
from tests.unit.journal.store import Store

from ..soak import rounds
from .conftest import Pki
from .gateway import gateway_config, write_config
from .journal import numbered, put, require_sound
from .powercut import Power, at_each_change, mounted

pytestmark = [pytest.mark.soak, pytest.mark.timeout(rounds(300, 3600))]

SEEDS = rounds(1, 10)
"""Fates of what was not synced, for each change at which the power is cut."""
STEP = rounds(13, 1)
"""Where there are hundreds of changes: at each so many of them."""


@pytest.fixture
def power(tmp_path: Path) -> Iterator[Power]:
    with mounted(tmp_path / "disk") as made:
        yield made


def names(power: Power) -> set[str]:
    return {each.name for each in power.path.iterdir()}


def require_usable(path: Path, acknowledged: dict[int, int]) -> None:
    """It opens, has what was acknowledged, and takes more."""
    with Journal.open(str(path)) as journal:
        require_sound(journal, acknowledged)
        entry = journal.append(numbered(1_000_001), [ANY]).result()
    assert entry.id > max(acknowledged, default=0)


def test_while_it_is_made(power: Power) -> None:
    path = power.path / "journal"
    told: dict[int, int] = {}

    def work() -> None:
        told.clear()
        with Journal.open(str(path)) as journal:
            told[journal.append(numbered(1), [ANY]).result().id] = 1

    cuts = 0
    for _ in at_each_change(power, lambda: None, work, seeds=SEEDS):
        require_usable(path, told)
        assert names(power) == {"journal", "journal-journal", "journal.lock"}
        cuts += 1
    assert cuts > 20 * SEEDS


def test_while_it_takes_commands_and_their_delivery_is_noted(power: Power, tmp_path: Path) -> None:
    path, made = power.path / "journal", tmp_path / "journal"
    ids = put(made, *range(1, 11))
    before = dict(zip(ids, range(1, 11), strict=True))
    told: dict[int, int] = {}
    delivered: set[int] = set()

    def work() -> None:
        told.clear()
        delivered.clear()
        with Journal.open(str(path)) as journal:
            for number in range(100, 104):
                told[journal.append(numbered(number), [ANY]).result().id] = number
                now = journal.clock()
                for claim in journal.run(deliveries.claim, ANY, 2, now, now + 60, journal.owner):
                    journal.run(deliveries.ack, claim.entry, [Copy("https://a", CopyState.ACCEPTED, None, now)])
                    delivered.add(claim.entry)

    cuts = 0
    for _ in at_each_change(power, lambda: copied(made, path), work, seeds=SEEDS, step=STEP):
        require_usable(path, before | told)
        with Journal.open(str(path)) as journal:
            rows = journal.run(entries.listing, state=EntryState.DELIVERED, limit=1000)
            assert delivered <= {row.id for row in rows}
        cuts += 1
    assert cuts > 100 // STEP * SEEDS


def copied(made: Path, path: Path) -> None:
    """The files of a journal, brought to the disk."""
    for end in ("", "-journal"):
        shutil.copyfile(f"{made}{end}", f"{path}{end}")


@pytest.fixture
def interrupted(tmp_path: Path) -> tuple[Path, dict[int, int]]:
    """The files of a process that died while a large transaction was half written, and what it had acknowledged."""
    path, copy = tmp_path / "made", tmp_path / "copy"
    numbers = range(1, 21)
    with Journal.open(str(path)) as journal:
        ids = [journal.append(numbered(number), [ANY]).result().id for number in numbers]

        def half(tx: Transaction) -> None:
            # What does not fit into memory is in the file already.
            tx.rows("PRAGMA cache_size = 5")
            tx.execute("UPDATE entries SET body = randomblob(20000)")
            copied(path, copy)

        journal.run(half)
    assert copy.read_bytes() != path.read_bytes()
    return copy, dict(zip(ids, numbers, strict=True))


def test_while_it_undoes_what_the_cut_before_left_half_done(
    power: Power, interrupted: tuple[Path, dict[int, int]]
) -> None:
    path = power.path / "journal"
    made, acknowledged = interrupted
    cuts = 0
    for _ in at_each_change(power, lambda: copied(made, path), lambda: Journal.open(str(path)).close(), seeds=SEEDS):
        require_usable(path, acknowledged)
        cuts += 1
    assert cuts > 10 * SEEDS


def test_while_it_is_migrated(power: Power) -> None:
    path = power.path / "journal"
    cuts = 0
    for _ in at_each_change(power, lambda: make_file(path), lambda: Journal.open(str(path)).close(), seeds=SEEDS):
        store = Store(str(path))
        try:
            require_all(store)
        finally:
            store.journal.close()
        cuts += 1
    assert cuts > 10 * SEEDS


@pytest.mark.parametrize("words", [["drop", "--yes", *map(str, range(1, 11))], ["prune"]])
def test_while_entries_are_taken_out(
    power: Power, pki: Pki, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, made = power.path / "journal", tmp_path / "journal"
    servers = (Endpoint("localhost", 8081),)
    config = write_config(tmp_path / "puppetdb.conf", gateway_config(ClientConfig(servers, pki.client), pki.server))
    with config.open("a") as file:
        file.write(f"journal = {path}\njournal_max_age = 1s\n")
    number_by_id = {entry: entry for entry in put(made, *range(1, 21))}
    with Journal.open(str(made)) as journal:
        for entry in range(1, 11):
            journal.run(
                deliveries.ack, entry, [Copy(servers[0].url, CopyState.ACCEPTED, None, journal.clock() - 100)]
            )
    time.sleep(1.1)
    done = False

    def work() -> None:
        nonlocal done
        done = main(["journal", words[0], "--config", str(config), *words[1:]]) == 0

    cuts = 0
    ends = set()
    for _ in at_each_change(power, lambda: copied(made, path), work, seeds=SEEDS):
        with Journal.open(str(path)) as journal:
            left = {row.id for row in journal.run(entries.listing, limit=1000)}
        require_usable(path, {entry: number_by_id[entry] for entry in left})
        ends.add((done, len(left)))
        cuts += 1
    assert {(False, 20), (True, 10)} <= ends <= {(False, 20), (False, 10), (True, 10)}, "all of them or none"
    assert cuts > 10 * SEEDS
    capsys.readouterr()
