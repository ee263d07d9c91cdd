"""A disk that is full, fails or may not be written: an error before any acknowledgement, that ends with its cause."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import TlsFiles
from pdbclient.errors import JournalError, JournalFull
from pdbclient.http.failover import Accepted
from pdbclient.http.outcome import ACCEPTED, Attempt
from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries, upkeep
from pdbclient.journal.model import ANY
from pdbclient.journal.store.file import unusable
from pdbclient.journal.work.submission import Submitter
from pdbclient.wire.command import Command

from .journal import NOBODY, apart, look, mounted, put, remount, require_sound

MORE = 3000
"""Commands that no file system of these tests has room for."""


def large(number: int) -> Command:
    """10 KB that cannot be compressed."""
    body = number.to_bytes(8, "big") + os.urandom(10_000)
    return Command.ready("store report", 8, f"node{number}", "2026-01-01T00:00:00.000Z", body, "gzip", 20_000)


def fill(journal: Journal) -> tuple[dict[int, Command], JournalError]:
    """Append until that fails: what was acknowledged, and the error."""
    acknowledged: dict[int, Command] = {}
    for number in range(MORE):
        made = large(number)
        try:
            acknowledged[journal.append(made, [ANY]).result().id] = made
        except JournalError as error:
            return acknowledged, error
    raise AssertionError("it never ended")


def require_held(journal: Journal, acknowledged: dict[int, Command]) -> None:
    found = journal.fetch(list(acknowledged))
    assert {entry: getattr(stored, "command", stored) for entry, stored in found.items()} == acknowledged
    require_sound(journal, {})


def recovers(journal: Journal, make_room: Callable[[], object], kind: type[JournalError]) -> JournalError:
    """Fill the disk, fail some more, make room, go on: the first error. Nothing acknowledged is lost on the way."""
    acknowledged, first = fill(journal)
    assert acknowledged
    futures = [journal.append(large(MORE + number), [ANY]) for number in range(20)]
    for future in futures:
        # What is small enough for the last free pages may still be taken.
        error = future.exception()
        assert error is None or isinstance(error, kind)
        if error is None:
            entry = future.result()
            acknowledged[entry.id] = entry.command
    if kind is JournalFull:
        # A disk that fails may fail here too: what a transaction left half done cannot be taken back before it works.
        require_held(journal, acknowledged)
    make_room()
    for number in range(30):
        made = large(2 * MORE + number)
        acknowledged[journal.append(made, [ANY]).result().id] = made
    require_held(journal, acknowledged)
    assert isinstance(first, kind), first
    return first


def test_a_full_disk_is_told_before_any_acknowledgement_and_ends_with_it(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        path = disk / "journal.db"
        with Journal.open(str(path)) as journal:
            error = recovers(journal, lambda: remount(disk, "size=16m"), JournalFull)
        assert str(error).startswith(f"{path}: ")
        assert "make room on that file system; nothing was accepted meanwhile" in str(error)
        look(path)


def test_a_full_disk_is_relieved_of_what_servers_have_when_room_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """J12: 37 were delivered, and 503 was the answer for ever."""
    server = Endpoint("puppetdb.example", 8081)
    accepted = Accepted(MappingProxyType({server: "uuid"}), (Attempt(server, ACCEPTED, 0.1),))
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=6m", "tmpfs") as disk:
        with Journal.open(str(disk / "journal.db")) as journal:
            submitter = Submitter(
                journal, ClientConfig((server,), TlsFiles(tmp_path, tmp_path, tmp_path)), lambda: None
            )
            alone = journal.append(large(MORE), [ANY]).result()
            for number in range(1000):
                assert submitter.submit(large(number), lambda command, taken: accepted) is accepted
            submitter.close()
            held = [each.id for each in journal.run(entries.listing, limit=1000)]
            assert held[0] == alone.id, "no server has it"
            assert held[-1] - held[1] + 1 == len(held) - 1 > 200, "the oldest are gone, and no more than needed"
            require_held(journal, {alone.id: alone.command})
        assert "entries that servers have left the journal, to make room" in caplog.text


def test_on_a_full_disk_entries_can_be_dropped(tmp_path: Path) -> None:
    """J12: `drop` said that the disk was full."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=6m", "tmpfs") as disk:
        path = disk / "journal.db"
        with Journal.open(str(path)) as journal:
            acknowledged, error = fill(journal)
            assert isinstance(error, JournalFull)
            (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
            ids = list(acknowledged)
            with Journal.open(str(path), beside=True) as beside:
                for at in range(0, 150, upkeep.ROOM):
                    assert beside.run(entries.drop, ids[at : at + upkeep.ROOM], beside.writer) == upkeep.ROOM
            for number in range(50):
                made = large(2 * MORE + number)
                acknowledged[journal.append(made, [ANY]).result().id] = made
            require_held(journal, {entry: acknowledged[entry] for entry in list(acknowledged)[150:]})


def test_a_file_that_may_not_grow_any_more_is_told_before_any_acknowledgement(tmp_path: Path) -> None:
    def limited() -> str:
        with Journal.open(str(tmp_path / "journal.db")) as journal:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            error = recovers(journal, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)), JournalError)
            return str(error)

    message = apart(limited)
    assert message.startswith(f"{tmp_path}/journal.db: disk I/O error"), message
    assert "the disk failed, or a limit was met (quota, ulimit): see the system's log" in message
    assert "nothing was accepted" in message


def test_a_disk_that_fails_is_told_before_any_acknowledgement_and_ends_with_it(tmp_path: Path) -> None:
    """Real EIO: a file system with room in a disk image whose own file system has none."""
    with mounted(tmp_path / "backing", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as backing:
        image = backing / "image"
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext2", "-q", "-F", image], check=True)
        with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
            path = disk / "journal.db"
            with Journal.open(str(path)) as journal:
                error = recovers(journal, lambda: remount(backing, "size=128m"), JournalError)
            assert not isinstance(error, JournalFull)
            assert "disk I/O error: the disk failed" in str(error)
            look(path)


def test_no_inodes_is_told_as_such_and_ends_with_its_cause(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m,nr_inodes=8", "tmpfs") as disk:
        path = disk / "journal.db"
        for number in range(6):
            (disk / f"file{number}").touch()
        message = apart(lambda: Journal.open(str(path)))
        assert message.startswith(f"JournalFull: {path}")
        assert "no free inodes: make room on that file system" in message
        assert not path.exists()
        for number in range(6):
            (disk / f"file{number}").unlink()
        assert put(path, 1) == [1]
        for number in range(os.statvfs(disk).f_favail):
            (disk / f"file{number}").touch()
        assert os.statvfs(disk).f_favail == 0
        # All the files that it needs are there already.
        assert put(path, 2) == [2]


def test_a_disk_that_is_full_already_when_the_journal_is_made_gets_no_half_of_one(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        path, ballast = disk / "journal.db", disk / "ballast"
        ballast.write_bytes(bytes(48 << 10))
        message = apart(lambda: Journal.open(str(path)))
        assert message.startswith(f"JournalFull: {path}")
        assert "make room" in message
        assert not path.exists()
        remount(disk, "size=4m")
        assert put(path, 1) == [1]


def test_a_file_system_that_became_read_only_is_told_and_ends_with_its_cause(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        path = disk / "journal.db"
        put(path, 1)
        remount(disk, "ro")
        message = apart(lambda: Journal.open(str(path)))
        assert message.startswith(f"JournalError: {path}")
        assert "Read-only file system" in message
        assert "must be writable for the user" in message
        remount(disk, "rw")
        assert put(path, 2) == [2]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that an unprivileged user can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        place = Path(name) / "place"
        place.mkdir()
        Path(name).chmod(0o755)
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        yield place


def test_a_directory_that_may_not_be_written_is_told(open_place: Path) -> None:
    path = open_place / "journal.db"
    open_place.chmod(0o555)
    message = apart(lambda: Journal.open(str(path)), unprivileged=True)
    assert message.startswith(f"JournalError: {path}")
    assert "Permission denied: the file and its directory must be writable for the user" in message
    open_place.chmod(0o755)
    assert apart(lambda: put(path, 1), unprivileged=True) == "[1]"
    open_place.chmod(0o555)
    # Everything that it needs is there, and stays.
    assert apart(lambda: put(path, 2), unprivileged=True) == "[2]"


@pytest.mark.parametrize("name", ["journal.db", "journal.db-journal", "journal.db.lock"])
@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_that_may_not_be_written_is_told_and_left_alone(open_place: Path, name: str, mode: int) -> None:
    path = open_place / "journal.db"
    assert apart(lambda: put(path, 1), unprivileged=True) == "[1]"
    (open_place / name).chmod(mode)
    message = apart(lambda: put(path, 2), unprivileged=True)
    assert message.startswith(f"JournalError: {path}"), message
    assert "writable" in message
    (open_place / name).chmod(0o644)
    assert apart(lambda: look(path), unprivileged=True) == "1"


def test_what_the_journal_holds_is_for_its_user_alone(open_place: Path) -> None:
    assert apart(lambda: put(open_place / "journal.db", 1), unprivileged=True) == "[1]"
    assert {each.name: each.stat().st_mode & 0o777 for each in open_place.iterdir()} == {
        "journal.db": 0o600,
        "journal.db-journal": 0o600,
        "journal.db.lock": 0o600,
    }


def test_a_quota_is_no_room(tmp_path: Path) -> None:
    # Not for real: a quota needs a file system that was made for it.
    error = unusable(tmp_path / "journal.db", OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert isinstance(error, JournalFull)
