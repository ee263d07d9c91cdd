"""Who has a journal's file open, seen from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pdbclient.journal import Journal
from pdbclient.journal.store import lock_owner as module
from pdbclient.journal.store.lock_owner import lock_owner
from pdbclient.lock import hold


def test_the_process_that_has_the_journal_is_named_also_through_a_link(tmp_path: Path) -> None:
    place, link = tmp_path / "journal.db", tmp_path / "link.db"
    link.symlink_to(place)
    assert lock_owner(place) is None
    with Journal.open(str(place)):
        assert lock_owner(place) == os.getpid()
        assert lock_owner(link) == os.getpid()
        with Journal.open(str(place), beside=True):
            assert lock_owner(place) == os.getpid()
    assert lock_owner(place) is None, "the file of the lock stays"


def test_looking_holds_nothing_up(tmp_path: Path) -> None:
    place = tmp_path / "journal.db"
    os.close(hold(tmp_path / "journal.db.lock"))
    lock_owner(place)
    os.close(hold(tmp_path / "journal.db.lock"))


def test_where_locks_cannot_be_seen_nobody_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCKS", tmp_path / "none")
    with Journal.open(str(tmp_path / "journal.db")):
        assert lock_owner(tmp_path / "journal.db") is None
