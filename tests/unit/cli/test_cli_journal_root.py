"""Root at a journal of the gateway's user: the commands work, and every file goes on belonging to that user."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.cli.journal_owner import as_owner
from pdbclient.journal import CopyState, Journal
from pdbclient.journal.ledger import deliveries
from pdbclient.journal.model import ANY, Copy
from pdbclient.wire.command import Command
from tests.faults.fake import answer, queued
from tests.faults.journal import NOBODY, apart

from .conftest import CliSite, Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")

A = "https://a.example:8081"
ALL = (
    ("journal", "status"),
    ("journal", "list"),
    ("journal", "show", "1"),
    ("journal", "retry", "1"),
    ("journal", "drop", "1", "--yes"),
    ("journal", "prune"),
    ("journal", "verify"),
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Nobody's own; not one of pytest's, where nobody may go."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        os.chmod(name, 0o700)
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture
def place(directory: Path, site: CliSite) -> Path:
    """The place of a journal, for `site.conf`."""
    place = directory / "journal.db"
    site.conf.write_text(f"{site.conf.read_text()}journal = {place}\n")
    return place


@pytest.fixture
def journal(place: Path) -> Path:
    """One of nobody's at that place, with an entry that a server has rejected."""

    def make() -> None:
        command = Command.ready("replace facts", 5, "web1", "2026-01-01T00:00:00.000Z", b"{}")
        with Journal.open(str(place)) as made:
            entry = made.append(command, [ANY]).result()
            made.run(deliveries.ack, entry.id, [Copy(A, CopyState.REJECTED, None, 1.0, "HTTP 400: bad")])

    assert apart(make, unprivileged=True) == "None"
    return place


def owners(directory: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in directory.iterdir()}


def assert_nobodys(place: Path) -> None:
    """All files, and nobody can go on with the journal."""
    found = owners(place.parent)
    assert {"journal.db", "journal.db-journal", "journal.db.lock"} <= found.keys()
    assert set(found.values()) == {(NOBODY, NOBODY)}, found
    assert apart(lambda: Journal.open(str(place)).close(), unprivileged=True) == "None"


@pytest.mark.parametrize("argv", ALL, ids=[argv[1] for argv in ALL])
def test_root_may_do_all_and_changes_no_owner(argv: tuple[str, ...], run: Run, journal: Path, site: CliSite) -> None:
    me = os.geteuid(), os.getegid(), os.getgroups()
    ended = run(*argv, "--config", site.conf)
    assert (ended.code, me) == (0, (os.geteuid(), os.getegid(), os.getgroups())), ended.err
    assert_nobodys(journal)


def test_a_side_file_that_is_missing_is_made_for_the_owner(run: Run, journal: Path, site: CliSite) -> None:
    (journal.parent / "journal.db-journal").unlink()
    assert run("journal", "drop", "1", "--yes", "--config", site.conf).code == 0
    assert_nobodys(journal)


def test_it_works_beside_the_gateway_too(run: Run, journal: Path, site: CliSite) -> None:
    with as_owner(str(journal)):
        held = Journal.open(str(journal))
    with held:
        assert run("journal", "retry", "1", "--config", site.conf).code == 0
    assert_nobodys(journal)


def test_a_journal_that_root_makes_by_submitting_is_that_of_the_directory(
    run: Run, place: Path, site: CliSite
) -> None:
    site.primary.reply = queued
    ended = run("submit", "deactivate", "web1", "--config", site.conf)
    assert ended.code == 0, ended.err
    assert_nobodys(place)


def test_what_root_submits_to_a_journal_of_another_user_is_in_it(run: Run, journal: Path, site: CliSite) -> None:
    site.primary.reply = site.replica.reply = answer(b"", 503)
    assert run("submit", "deactivate", "web1", "--config", site.conf).code == 0
    told = json.loads(run("journal", "status", "--json", "--config", site.conf).out)
    assert told["entries"]["pending"] == 1
    assert_nobodys(journal)


def test_an_error_inside_gives_root_back(journal: Path) -> None:
    me = os.geteuid(), os.getegid(), os.getgroups()

    def fail() -> None:
        with as_owner(str(journal)):
            assert (os.geteuid(), os.getegid()) == (NOBODY, NOBODY)
            journal.touch(exist_ok=False)

    with pytest.raises(FileExistsError):
        fail()
    assert me == (os.geteuid(), os.getegid(), os.getgroups())


@pytest.mark.parametrize("location", [None, "postgresql://u@h/j", "/nonexistent/journal.db", "/root-owned"])
def test_root_stays_root_where_nobody_else_is_the_owner(location: str | None) -> None:
    with as_owner(location):
        assert os.geteuid() == 0
