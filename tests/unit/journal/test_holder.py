"""Who has a journal's file open, seen from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pdbclient.journal import Journal
from pdbclient.journal import holder as module
from pdbclient.journal.holder import holder
from pdbclient.lock import hold


def test_the_process_that_has_the_journal_is_named_also_through_a_link(tmp_path: Path) -> None:
    place, link = tmp_path / "journal.db", tmp_path / "link.db"
    link.symlink_to(place)
    assert holder(place) is None
    with Journal.open(str(place)):
        assert holder(place) == os.getpid()
        assert holder(link) == os.getpid()
        with Journal.open(str(place), beside=True):
            assert holder(place) == os.getpid()
    assert holder(place) is None, "the file of the lock stays"


def test_looking_holds_nothing_up(tmp_path: Path) -> None:
    place = tmp_path / "journal.db"
    os.close(hold(tmp_path / "journal.db.lock"))
    holder(place)
    os.close(hold(tmp_path / "journal.db.lock"))


def test_where_locks_cannot_be_seen_nobody_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCKS", tmp_path / "none")
    with Journal.open(str(tmp_path / "journal.db")):
        assert holder(tmp_path / "journal.db") is None
