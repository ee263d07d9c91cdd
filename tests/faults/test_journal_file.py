"""A journal's file that is not what was written: refused with path and advice, left as it is, never made anew."""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from pdbclient.errors import JournalCorrupt, JournalError
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries, upkeep
from pdbclient.journal.model import ANY, Entry, EntryState
from pdbclient.journal.store import sqlite
from pdbclient.journal.store.file import side_file
from pdbclient.journal.store.packing import Damaged
from pdbclient.journal.store.schema import SCHEMA

from ..soak import LONG
from .journal import NOBODY, apart, look, numbered, put

FLIPS = int(os.environ.get("PDBCLIENT_JOURNAL_FLIPS", "300"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal with sixty commands, some of them over many pages."""
    made = tmp_path / "journal.db"
    put(made, *range(60))
    return made


def refused(path: Path, kind: type[JournalError] = JournalError) -> str:
    """The message; what lies there is as it was before."""
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(kind) as caught:
            Journal.open(str(path))
    assert path.read_bytes() == before
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


ADVICE = "it is left as it is. Restore it, or move it away to begin anew"


@pytest.mark.parametrize("size", [0, 1, 50, 99, 100, 4096, 40_000, -4096, -1])
def test_a_file_that_was_cut_off_is_refused(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    assert ADVICE in refused(path, JournalCorrupt)


@pytest.mark.parametrize("size", [16, 100, 4096])
def test_a_file_whose_beginning_is_zeros_is_refused(path: Path, size: int) -> None:
    with open(path, "r+b") as file:
        file.write(bytes(size))
    message = refused(path, JournalCorrupt)
    assert "is no journal (or its beginning is damaged)" in message
    assert ADVICE in message


def test_a_text_file_in_its_place_is_refused(path: Path) -> None:
    path.write_text("[main]\nserver_urls = https://puppetdb:8081\n" * 10)
    assert "is no journal" in refused(path, JournalCorrupt)


def test_a_journal_from_a_newer_version_is_refused(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(60)
        file.write((99).to_bytes(4, "big"))
    message = refused(path)
    assert f"was written by a newer version of pdbclient (format 99, this one reads up to {SCHEMA})" in message
    assert "use that version, or move the file away" in message


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_another_applications_database_is_not_touched(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE entries (id)")
    connection.close()
    assert "is an SQLite file, but no journal: name another file" in refused(path)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    if me == 0:
        os.chown(path, NOBODY, NOBODY)
        assert f"belongs to the user nobody ({NOBODY}), not root (0): run as that user" in refused(path)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        assert f"({me}), not nobody ({NOBODY}): run as that user" in refused(path)


def test_a_directory_in_its_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.mkdir()
    assert apart(lambda: Journal.open(str(path))) == f"JournalError: {path}: is a directory: name a file in it"


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_something_that_is_no_file_is_told_without_waiting_for_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "j"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    assert apart(lambda: Journal.open(str(path))) == f"JournalError: {path}: is no regular file"


def test_a_directory_that_does_not_exist_is_to_be_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "journal.db"
    message = apart(lambda: Journal.open(str(path)))
    assert message == f"JournalError: {path}: its directory {path.parent} does not exist: make it"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_its_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = apart(lambda: Journal.open(str(tmp_path / "file" / "journal.db")))
    assert message.startswith("JournalError: ")
    assert "Not a directory" in message


# --- flipped bytes -----------------------------------------------------------------------------------------------


def test_a_byte_flipped_in_a_body_is_found_and_every_other_entry_can_be_read(path: Path) -> None:
    numbers = dict(enumerate(range(60), start=1))
    victim = 7
    whole = bytearray(path.read_bytes())
    with Journal.open(str(path)) as journal:
        ((body,),) = journal.run(lambda tx: tx.rows(f"SELECT body FROM entries WHERE id = {victim}"))
    at = whole.find(body[-40:])
    assert at > 0
    whole[at + 20] ^= 1
    path.write_bytes(whole)
    with Journal.open(str(path)) as journal:
        found = journal.fetch(list(numbers))
        assert isinstance(found[victim], Damaged)
        assert "checksum" in str(found[victim])
        for entry, number in numbers.items():
            stored = found[entry]
            assert entry == victim or (isinstance(stored, Entry) and stored.command == numbered(number))
        assert list(journal.run(upkeep.verify, 0, 100).damaged) == [victim]
        # And the journal goes on.
        assert journal.append(numbered(99), [ANY]).result().id == 61


def test_what_an_index_has_and_the_table_has_not_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped byte of an index did it: KeyError."""
    found = entries.fetch
    monkeypatch.setattr(upkeep, "fetch", lambda tx, ids: found(tx, ids[1:]))
    with Journal.open(str(path)) as journal:
        assert dict(journal.run(upkeep.verify, 0, 100).damaged) == {1: "entry 1: cannot be found again"}


def test_tables_whose_pages_were_overwritten_are_told_as_corrupt(path: Path) -> None:
    whole = path.read_bytes()
    damaged = 0
    for page in range(1, len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
        damaged += judged(path) != "the same"
    # Of the bytes of a body all are shown to matter by the checksum, of a page of a table every one.
    assert damaged == len(whole) // 4096 - 1


def judged(path: Path) -> str:
    """Read all that there is: `refused`, `reported`, or `the same` when everything is as it was written."""
    try:
        with Journal.open(str(path)) as journal:
            structure = journal.run(upkeep.structure)
            found = journal.fetch(list(range(1, 61)))
            listed = journal.run(entries.listing, limit=1000)
            verified = journal.run(upkeep.verify, 0, 1000)
    except JournalError:
        return "refused"
    if structure or verified.damaged:
        return "reported"
    assert [row.id for row in listed] == list(range(1, 61))
    for entry in range(1, 61):
        stored = found[entry]
        assert isinstance(stored, Entry)
        assert stored.command == numbered(entry - 1)
        assert stored.state is EntryState.PENDING
    return "the same"


@pytest.mark.timeout(60 + FLIPS)
def test_a_byte_flipped_anywhere_is_refused_or_reported_or_changes_nothing_that_counts(path: Path) -> None:
    seed = random.randrange(1 << 32) if LONG else 0
    chance = random.Random(seed)
    whole = path.read_bytes()
    verdicts: dict[str, int] = {}
    for _ in range(FLIPS):
        # Half of them in the first pages, where the tables begin.
        at = chance.randrange(len(whole) if chance.random() < 0.5 else min(len(whole), 20 * 4096))
        flipped = bytearray(whole)
        flipped[at] ^= chance.randrange(1, 256)
        path.write_bytes(flipped)
        try:
            verdict = judged(path)
        except BaseException as error:
            error.add_note(f"seed {seed}, byte {at}: {whole[at]:#x} became {flipped[at]:#x}")
            raise
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    print(f"seed {seed}: {verdicts}")
    # Most of so small a file is unused pages and parts of pages.
    assert verdicts.get("refused", 0) + verdicts.get("reported", 0) > FLIPS / 6


def test_appending_to_a_damaged_journal_is_an_error_or_kept(path: Path) -> None:
    """Where the damage is met while writing, the caller learns of it, and nothing is acknowledged."""
    whole = path.read_bytes()
    copy = path.with_name("copy.db")
    outcomes = set()
    for page in range(1, len(whole) // 4096):
        copy.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
        shutil.copy(f"{path}-journal", f"{copy}-journal")
        outcomes.add(_append(lambda: put(copy, 100)))
    assert outcomes == {"kept", "corrupt"}


def _append(work: Callable[[], list[int]]) -> str:
    try:
        return "kept" if work() == [61] else "lost"
    except JournalCorrupt:
        return "corrupt"


def test_an_undamaged_copy_of_the_file_is_read_as_ever(path: Path) -> None:
    assert look(path) == 60
    assert judged(path) == "the same"


@pytest.mark.parametrize("moved", ["file", "both", "directory"])
def test_a_file_that_is_moved_away_while_it_is_open_is_told_and_goes_on_when_it_is_put_back(
    tmp_path: Path, moved: str
) -> None:
    """It was a disk that fails, or no error of ours."""
    path, away = tmp_path / "place" / "journal.db", tmp_path / "away"
    path.parent.mkdir()
    pairs = {path: away / path.name, side_file(path): away / "journal.db-journal"}
    pairs = {path.parent: away} if moved == "directory" else dict(list(pairs.items())[: 1 + (moved == "both")])
    with Journal.open(str(path)) as journal:
        journal.append(numbered(1), [ANY]).result()
        if moved != "directory":
            away.mkdir()
        for here, there in pairs.items():
            here.rename(there)
        for _ in range(2):
            with pytest.raises(JournalError, match=r"is not there any more.*put it back"):
                journal.append(numbered(2), [ANY]).result()
        for here, there in pairs.items():
            there.rename(here)
        journal.append(numbered(3), [ANY]).result()
        assert [entry.id for entry in journal.run(entries.listing)] == [1, 2]
    look(path)


def test_another_file_in_the_place_of_the_open_one_is_told(path: Path) -> None:
    """It was a file that must be writable."""
    with Journal.open(str(path)) as journal:
        shutil.copy(path, copy := path.with_name("copy"))
        copy.rename(path)
        with pytest.raises(JournalError, match="another file has been put in its place"):
            journal.append(numbered(1), [ANY]).result()


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_file_system_that_answers_no_more_is_told(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    with Journal.open(str(path)) as journal:
        monkeypatch.setattr(sqlite, "os", SimpleNamespace(**vars(os) | {"statvfs": fail}))
        with pytest.raises(JournalError, match=f"{path}: cannot be used: {os.strerror(code)}"):
            journal.append(numbered(1), [ANY]).result()
