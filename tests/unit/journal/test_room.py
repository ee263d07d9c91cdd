"""Room on the disk of a journal in a file: what is dropped there makes some, at once."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pdbclient.errors import JournalFull
from pdbclient.journal.ledger import entries, upkeep
from pdbclient.journal.model import ANY
from pdbclient.journal.store import sqlite
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.packing import pack
from pdbclient.journal.store.sqlite import MARGIN, PAGE

from .store import REPORT, A, B, Store, command
from .test_store_content import aged


def test_room_is_made_of_what_servers_have_in_the_same_order(store: Store) -> None:
    kept = store.put(command(REPORT, body=os.urandom(100)))
    ids = aged(store)
    assert store.journal.run(upkeep.make_room, 150, store.journal.writer, [A]) == 2
    assert store.ids() == [kept, *ids[2:]]
    assert store.journal.run(upkeep.make_room, 800, store.journal.writer, [A]) == 8
    assert store.ids() == [kept]


def test_no_room_is_made_of_what_only_a_server_has_that_is_not_configured_any_more(store: Store) -> None:
    entry = store.put(command(REPORT))
    store.taken(entry, B)
    store.shown(entry, server=B)
    assert store.journal.run(upkeep.make_room, 1, store.journal.writer, [A]) == 0
    store.shown(entry)
    assert store.journal.run(upkeep.make_room, 1, store.journal.writer, [A]) == 1


def test_what_is_put_in_at_once_leaves_the_margin_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a transaction adds to the file is not taken from the disk before it ends."""
    sixteen = 16 * PAGE

    def little(path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=(MARGIN + 8 * sixteen) // PAGE, f_frsize=PAGE)

    def put(tx: Transaction) -> None:
        for number in range(10):
            packed = pack(command(REPORT, at=number, body=os.urandom(sixteen)))
            entries.append(tx, packed, [ANY], store.now, store.now, "", "")
            done.append(number)

    done: list[int] = []
    monkeypatch.setattr(sqlite, "os", SimpleNamespace(**vars(os) | {"statvfs": little}))
    with pytest.raises(JournalFull):
        store.journal.run(put)
    assert 5 <= len(done) <= 8
    assert store.ids() == []
