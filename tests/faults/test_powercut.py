"""The disk that tests of power cuts believe: what was synced is there, and all else is lost, torn or reordered."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from .disk import SECTOR, Disk, File
from .powercut import Power, mounted

CUTS = 300
OLD, NEW = bytes(SECTOR), b"n" * SECTOR


def written(content: bytes = b"") -> File:
    """A file with this content, all of it synced."""
    file = File(0o600)
    file.write(0, content)
    file.sync()
    return file


def spared(file: File) -> set[bytes]:
    """All that may be found of it."""
    return {file.spared(Random(seed)) for seed in range(CUTS)}


def test_what_was_synced_is_found() -> None:
    file = written(b"before")
    file.write(3, b"more and more")
    file.truncate(8)
    file.write(10, b"!")
    file.sync()
    assert file.content == b"befmore \0\0!"
    assert spared(file) == {b"befmore \0\0!"}


def test_of_what_was_not_synced_each_sector_is_found_old_or_new_in_any_order() -> None:
    file = written(OLD * 3)
    for sector in range(3):
        file.write(sector * SECTOR, NEW)
    assert spared(file) == {a + b + c for a in (OLD, NEW) for b in (OLD, NEW) for c in (OLD, NEW)}


def test_one_write_is_torn_between_sectors_and_never_in_one_and_nothing_beside_it_changes() -> None:
    file = written(OLD * 3)
    file.write(SECTOR // 2, NEW * 2)
    half = SECTOR // 2
    first, last = (OLD[:half] + NEW[:half], NEW[:half] + OLD[half:])
    assert spared(file) == {a + b + c for a in (OLD, first) for b in (OLD, NEW) for c in (OLD, last)}


def test_a_sector_is_found_as_it_was_at_some_moment_since_the_sync() -> None:
    file = written(b"0000")
    for at in range(4):
        file.write(at, b"1")
    assert spared(file) == {b"0000", b"1000", b"1100", b"1110", b"1111"}


def test_a_file_that_grew_has_its_new_size_or_not_and_rubbish_where_nothing_was_written() -> None:
    file = written(OLD)
    file.write(SECTOR, NEW)
    found = spared(file)
    assert {OLD, OLD + NEW, OLD + bytes(SECTOR)} < found
    assert any(each not in (OLD, OLD + NEW, OLD + bytes(SECTOR)) for each in found)
    assert {each[:SECTOR] for each in found} == {OLD}
    assert {len(each) for each in found} == {SECTOR, 2 * SECTOR}


def test_a_file_that_was_cut_off_has_its_old_size_or_the_new_one() -> None:
    file = written(b"n" * 10)
    file.truncate(4)
    assert spared(file) == {b"n" * 10, b"n" * 4, b"nnnn" + bytes(6)}


def names_after(disk: Disk, content: bool = False) -> set[tuple[str, ...]]:
    """All that may be found in it: names, or what is in whose."""
    found = set()
    for seed in range(CUTS):
        again = Disk()
        again.__dict__ |= {key: value.copy() for key, value in disk.__dict__.items()}
        again.cut(Random(seed))
        text = (f"{name}={file.content.decode('latin-1')}" if content else name for name, file in again.names.items())
        found.add(tuple(sorted(text)))
    return found


def test_names_that_were_not_synced_are_found_or_not_whatever_was_synced_of_the_files() -> None:
    disk = Disk()
    disk.create("a", 0o600).sync()
    disk.create("b", 0o600)
    assert names_after(disk) == {(), ("a",), ("b",), ("a", "b")}
    disk.sync()
    assert names_after(disk) == {("a", "b")}
    disk.unlink("a")
    assert names_after(disk) == {("a", "b"), ("b",)}


def test_a_rename_happens_or_not_and_both_names_with_it() -> None:
    disk = Disk()
    for name in ("old", "new"):
        file = disk.create(name, 0o600)
        file.write(0, name.encode())
        file.sync()
    disk.sync()
    disk.rename("new", "old")
    assert names_after(disk, content=True) == {("new=new", "old=old"), ("old=new",)}


def test_a_rename_whose_file_was_not_synced_may_leave_nothing_in_it() -> None:
    disk = Disk()
    disk.create("new", 0o600).write(0, b"1")
    disk.rename("new", "there")
    disk.sync()
    assert ("there=",) in names_after(disk, content=True)


def test_what_is_done_to_one_name_or_one_file_happens_in_order() -> None:
    disk = Disk()
    disk.create("a", 0o600)
    disk.rename("a", "b")
    disk.rename("b", "c")
    assert names_after(disk) == {(), ("a",), ("b",), ("c",)}
    disk = Disk()
    disk.create("a", 0o600)
    disk.sync()
    disk.unlink("a")
    disk.create("a", 0o600).write(0, b"2")
    assert () in names_after(disk)
    assert names_after(disk, content=True) > {("a=2",), ("a=",), ()}


def test_the_same_seed_finds_the_same() -> None:
    file = written(OLD * 20)
    file.write(0, NEW * 30)
    assert file.spared(Random(7)) == file.spared(Random(7))
    assert len(spared(file)) > CUTS // 4


# --- mounted


@pytest.fixture
def power(tmp_path: Path) -> Iterator[Power]:
    with mounted(tmp_path / "disk") as made:
        yield made


def put(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file; `sync` it, and then its name."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    if sync:
        sync_names(path.parent)


def sync_names(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_a_mounted_disk_is_one(power: Power) -> None:
    path = power.path / "a"
    put(path, b"some bytes", sync=False)
    with path.open("r+b") as file:
        file.seek(5)
        file.write(b"words")
        file.truncate(9)
    path.chmod(0o640)
    path.rename(power.path / "b")
    assert [each.name for each in power.path.iterdir()] == ["b"]
    assert (power.path / "b").read_bytes() == b"some word"
    assert (power.path / "b").stat().st_mode & 0o777 == 0o640
    put(power.path / "b", os.urandom(300_000), sync=False)
    assert (power.path / "b").stat().st_size == 300_000
    (power.path / "b").unlink()
    assert list(power.path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        path.unlink()


def test_after_the_cut_all_is_an_error_and_what_was_open_stays_so(power: Power) -> None:
    path = power.path / "a"
    put(path, b"kept")
    with ExitStack() as stack:
        fd = os.open(path, os.O_RDWR)
        stack.callback(os.close, fd)
        power.cut(1)
        assert power.is_off()
        for work in (path.read_bytes, path.unlink, lambda: os.listdir(power.path), lambda: os.fsync(fd)):
            failed(work)
        power.on()
        assert not power.is_off()
        failed(lambda: os.pread(fd, 4, 0))
        failed(lambda: os.pwrite(fd, b"late", 0))
    assert path.read_bytes() == b"kept"


def failed(work: object) -> None:
    assert callable(work)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is what counts
        work()
    assert caught.value.errno == errno.EIO


def test_what_was_not_synced_may_be_lost_and_what_was_never_is(power: Power) -> None:
    seen = set()
    for seed in range(30):
        put(power.path / "kept", b"kept")
        put(power.path / "other", b"1" * SECTOR)
        put(power.path / "other", b"2" * SECTOR, sync=False)
        power.cut(seed)
        power.on()
        assert (power.path / "kept").read_bytes() == b"kept"
        seen.add((power.path / "other").read_bytes())
        power.wipe()
        assert list(power.path.iterdir()) == []
    assert {b"1" * SECTOR, b"2" * SECTOR, b""} <= seen


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_it_is_cut_at_the_change_that_was_told(power: Power, after: int) -> None:
    put(power.path / "a", b"")
    power.cut(0, after)
    with (power.path / "a").open("r+b", buffering=0) as file:
        for _ in range(after - 1):
            file.write(b"1")
        assert not power.is_off()
        failed(lambda: file.write(b"1"))
    assert power.is_off()


def test_locks_are_those_of_the_system(power: Power) -> None:
    path = power.path / "lock"
    with path.open("w") as first, path.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nothing_stays_mounted_whatever_the_block_meets(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with pytest.raises(ZeroDivisionError), mounted(path) as power, (power.path / "held").open("w"):
        raise ZeroDivisionError
    assert not path.exists()
    with pytest.raises(AssertionError, match="process has ended"), mounted(path) as power:
        died(power)
    assert not path.exists()


def died(power: Power) -> None:
    power._process.kill()
    power._process.wait()
    power.on()


def test_where_fuse_is_not_there_it_is_said_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse3.so")
    needs = "needs /dev/fuse and what tests/install-packages installs"
    with pytest.raises(AssertionError, match=needs), mounted(tmp_path / "disk"):
        pass
