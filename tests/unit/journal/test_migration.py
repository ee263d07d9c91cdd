"""A journal of an older format is migrated, whole or not at all; one of a newer format is refused."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pdbclient.errors import JournalError
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.store import schema
from pdbclient.journal.store.schema import SCHEMA
from pdbclient.journal.store.sqlite import SqliteDatabase

from .old_format import add_inputs, make_file, require_all, require_inputs
from .store import Store


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    make_file(path)
    return path


@pytest.fixture
def store(old: Path) -> Iterator[Store]:
    made = Store(str(old))
    try:
        yield made
    finally:
        made.journal.close()


def test_one_of_format_1_is_migrated_and_goes_on(store: Store) -> None:
    require_all(store)
    store.reopen()
    assert len(store.ids()) == 9


def test_inputs_of_which_puppetdb_keeps_nothing_are_marked(old: Path) -> None:
    """They were the newest of their node, and never seen anywhere: no recovery was ever whole."""
    add_inputs(old)
    with Journal.open(str(old)) as journal:
        require_inputs(journal)


def test_it_is_said(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pdbclient.journal"), Journal.open(str(old)):
        pass
    assert f"{old}: migrated from the format 1 to {SCHEMA}" in caplog.messages


def test_a_migration_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(old)
    broken = [*schema.migration("sqlite", 1), "INSERT INTO nowhere VALUES (1)"]
    with monkeypatch.context() as patched:
        patched.setattr("pdbclient.journal.store.sqlite.migration", lambda *_: iter(broken))
        with pytest.raises(JournalError, match="nowhere"):
            Journal.open(str(old))
    assert content(old) == before
    with Journal.open(str(old)) as journal:
        assert len(journal.run(entries.listing)) == 8


def test_nothing_is_migrated_beside_the_process_that_has_it(old: Path) -> None:
    with pytest.raises(JournalError, match="format 1, and this version of pdbclient reads 2: restart the gateway"):
        SqliteDatabase(old, beside=True)
    assert content(old)[0] == 1


@pytest.mark.parametrize("version", [0, SCHEMA + 1, 99])
def test_a_newer_one_is_refused_and_left_as_it_is(old: Path, version: int) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = content(old)
    with pytest.raises(JournalError, match=f"newer version of pdbclient .format {version}, this one reads up to"):
        Journal.open(str(old))
    assert content(old) == before


def content(path: Path) -> tuple[int, list[str]]:
    """The format that it says it has, and all that is in it."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return version, list(connection.iterdump())
