"""Changes are made as a whole, and taken back to the byte."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pdbclient.config import Endpoint
from pdbclient.puppet_setup import SetupError, Wanted, plan_setup, undo, write

from .conftest import Confdir

NOW = datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC)
WANTED = Wanted(server_urls=(Endpoint("a", 8081),), gateway_url=Endpoint("g", 8085))
FILES = {"puppet.conf": "# ours\n[server]\nreports = log", "routes.yaml": "agent:\n  node:\n    cache: yaml\n"}

Tree = dict[str, tuple[bytes, int, int, int]]


def tree(directory: Path) -> Tree:
    """Every file: contents, mode, owner, group; for a symlink, where it leads."""
    found: Tree = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (data, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return found


def test_what_was_planned_is_written_with_a_backup_of_each_changed_file(confdir: Confdir) -> None:
    """Named by the time; a new file has none."""
    directory = confdir(FILES)
    plan = plan_setup(directory, WANTED)
    backups = write(plan, NOW)
    assert [change.file.read_bytes().decode() for change in plan.changes] == [change.after for change in plan.changes]
    stamp = "20260304T050607.000008Z"
    assert backups == [
        directory / f"puppet.conf.pdbclient-backup-{stamp}",
        directory / f"routes.yaml.pdbclient-backup-{stamp}",
        None,
    ]
    assert (directory / f"puppet.conf.pdbclient-backup-{stamp}").read_text() == FILES["puppet.conf"]


def test_undo_gives_the_same_tree_back(confdir: Confdir) -> None:
    """Contents, modes, owners, no file that was not there."""
    directory = confdir(FILES)
    os.chmod(directory / "puppet.conf", 0o640)
    os.chown(directory / "puppet.conf", -1, os.getegid())
    before = tree(directory)
    write(plan_setup(directory, WANTED), NOW)
    assert tree(directory) != before
    undone = undo(directory)
    assert tree(directory) == before
    assert [(each.file.name, str(each.action)) for each in undone] == [
        ("puppet.conf", "restored"), ("routes.yaml", "restored"), ("puppetdb.conf", "removed")
    ]  # fmt: skip


def test_a_second_time_there_is_nothing_to_do(confdir: Confdir) -> None:
    """No backup either."""
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    before = tree(directory)
    assert write(plan_setup(directory, WANTED), NOW + timedelta(hours=1)) == []
    assert tree(directory) == before


def test_set_ups_are_undone_one_by_one_the_latest_first(confdir: Confdir) -> None:
    """Each gives back what it found."""
    directory = confdir(FILES)
    trees = [tree(directory)]
    for hour, wanted in enumerate((WANTED, Wanted(gateway=False), Wanted("apply", gateway=False))):
        write(plan_setup(directory, wanted), NOW + timedelta(hours=hour))
        trees.append(tree(directory))
    for expected in reversed(trees[:-1]):
        undo(directory)
        assert tree(directory) == expected
    with pytest.raises(SetupError, match="there is nothing to undo"):
        undo(directory)


def test_modes_stay_and_a_new_file_is_like_puppet_conf(confdir: Confdir) -> None:
    """But not executable."""
    directory = confdir(FILES)
    os.chmod(directory / "puppet.conf", 0o750)
    os.chmod(directory / "routes.yaml", 0o604)
    write(plan_setup(directory, WANTED), NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert (modes["puppet.conf"], modes["routes.yaml"], modes["puppetdb.conf"]) == (0o750, 0o604, 0o640)
    assert modes["puppet.conf.pdbclient-backup-20260304T050607.000008Z"] == 0o750


def test_owners_stay_and_come_back(confdir: Confdir) -> None:
    """A file that belongs to the Puppet server goes on belonging to it."""
    directory = confdir(FILES)
    owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), [os.getegid(), *os.getgroups()][-1])
    os.chown(directory / "puppet.conf", *owner)
    before = tree(directory)
    write(plan_setup(directory, WANTED), NOW)
    for name in ("puppet.conf", "puppetdb.conf", "puppet.conf.pdbclient-backup-20260304T050607.000008Z"):
        assert ((directory / name).stat().st_uid, (directory / name).stat().st_gid) == owner
    undo(directory)
    assert tree(directory) == before


def test_symlinks_are_followed_and_stay(confdir: Confdir, tmp_path: Path) -> None:
    """Also one whose file is not there yet."""
    directory = confdir(FILES)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (directory / "puppet.conf").rename(elsewhere / "puppet.conf")
    (directory / "puppet.conf").symlink_to("../elsewhere/puppet.conf")
    (directory / "puppetdb.conf").symlink_to(elsewhere / "new.conf")
    before = tree(tmp_path)
    write(plan_setup(directory, WANTED), NOW)
    assert (directory / "puppet.conf").is_symlink()
    assert "storeconfigs = true" in (elsewhere / "puppet.conf").read_text()
    assert "gateway_url" in (elsewhere / "new.conf").read_text()
    undo(directory)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["puppet.conf", "puppetdb.conf"])
def test_what_was_changed_by_hand_after_a_set_up_of_an_earlier_version_is_not_undone(
    confdir: Confdir, name: str
) -> None:
    """Its record does not say what it wrote. The file is named, and where its former text is; nothing is undone."""
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    (record,) = directory.glob("pdbclient-setup-*.json")
    document = json.loads(record.read_text())
    for entry in document["files"]:
        del entry["after"]
    record.write_text(json.dumps(document))
    with (directory / name).open("a") as file:
        file.write("# by hand\n")
    before = tree(directory)
    with pytest.raises(SetupError) as caught:
        undo(directory)
    first, last = str(caught.value).splitlines()
    assert first.startswith(f"{directory / name}: was changed since")
    assert ("pdbclient-backup-" in first) == (name == "puppet.conf")
    assert last.startswith("nothing was undone")
    assert tree(directory) == before


@pytest.mark.parametrize(("act", "why"), [("unlink", "is gone"), ("write", "is not what was saved")])
def test_undo_refuses_a_backup_that_is_not_the_one_it_made(confdir: Confdir, act: str, why: str) -> None:
    """Before anything is touched."""
    directory = confdir(FILES)
    backup = write(plan_setup(directory, WANTED), NOW)[1]
    assert backup is not None
    backup.unlink() if act == "unlink" else backup.write_text("x")
    before = tree(directory)
    with pytest.raises(SetupError, match=rf"routes.yaml: its backup .* {why}"):
        undo(directory)
    assert tree(directory) == before


def test_an_undo_that_was_cut_off_is_finished_by_the_next(confdir: Confdir) -> None:
    """Files that are as before already are no obstacle."""
    directory = confdir(FILES)
    before = tree(directory)
    write(plan_setup(directory, WANTED), NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", _failing_at("routes.yaml"))
        with pytest.raises(SetupError, match=r"routes.yaml: cannot be written: Read-only file system"):
            undo(directory)
    assert (directory / "puppet.conf").read_text() == FILES["puppet.conf"]
    undo(directory)
    assert tree(directory) == before


def test_a_file_that_cannot_be_put_in_place_first_leaves_nothing_behind(confdir: Confdir) -> None:
    """No backup, no record, no temporary file."""
    directory = confdir(FILES)
    before = tree(directory)
    plan = plan_setup(directory, WANTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", _failing_at("puppet.conf"))
        with pytest.raises(SetupError, match=r"puppet.conf: cannot be written: Read-only file system"):
            write(plan, NOW)
    assert tree(directory) == before


@pytest.mark.parametrize("good", range(6))
def test_a_full_disk_leaves_nothing_behind(confdir: Confdir, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
    """At whichever file: three new texts, two backups, the record."""
    directory = confdir(FILES)
    before = tree(directory)
    plan = plan_setup(directory, WANTED)
    files = iter(range(good))

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(files, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(SetupError, match="cannot be written: No space left on device"):
        write(plan, NOW)
    assert tree(directory) == before


def test_undo_names_a_file_that_it_cannot_read(confdir: Confdir) -> None:
    """A directory in its place, say."""
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    (directory / "routes.yaml").unlink()
    (directory / "routes.yaml").mkdir()
    with pytest.raises(SetupError, match=r"routes.yaml: cannot be read: Is a directory"):
        undo(directory)


def test_extended_attributes_stay_and_come_back(confdir: Confdir) -> None:
    """Access lists and labels are such."""
    directory = confdir(FILES)
    os.setxattr(directory / "puppet.conf", "user.label", b"ours")
    write(plan_setup(directory, WANTED), NOW)
    assert os.getxattr(directory / "puppet.conf", "user.label") == b"ours"
    undo(directory)
    assert os.getxattr(directory / "puppet.conf", "user.label") == b"ours"


def test_a_set_up_that_broke_half_way_can_be_undone(confdir: Confdir) -> None:
    """And says so."""
    directory = confdir(FILES)
    before = tree(directory)
    plan = plan_setup(directory, WANTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", _failing_at("routes.yaml"))
        with pytest.raises(SetupError, match="changed already: --undo restores them"):
            write(plan, NOW)
    undo(directory)
    assert tree(directory) == before


def test_a_file_that_somebody_changed_meanwhile_is_not_overwritten(confdir: Confdir) -> None:
    """Between the plan and the writing."""
    directory = confdir(FILES)
    plan = plan_setup(directory, WANTED)
    (directory / "routes.yaml").write_text("# new\n")
    before = tree(directory)
    with pytest.raises(SetupError, match=r"routes.yaml: was changed by somebody else just now"):
        write(plan, NOW)
    assert tree(directory) == before


def test_a_backup_is_never_overwritten(confdir: Confdir) -> None:
    """Whatever has its name stays, and nothing else is changed."""
    directory = confdir(FILES)
    (directory / "routes.yaml.pdbclient-backup-20260304T050607.000008Z").write_text("mine")
    before = tree(directory)
    with pytest.raises(SetupError, match="cannot be written: File exists"):
        write(plan_setup(directory, WANTED), NOW)
    assert tree(directory) == before


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "is no record of a set-up"), ('{"files": [], "version": 2}', "was written by another version")],
)
def test_a_record_that_cannot_be_used_is_named(confdir: Confdir, text: str, why: str) -> None:
    """Nothing is undone by guess."""
    directory = confdir({"pdbclient-setup-1.json": text})
    with pytest.raises(SetupError, match=f"pdbclient-setup-1.json: {why}"):
        undo(directory)


def _failing_at(name: str) -> Callable[[Path, Path], None]:
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if target.name == name:
            raise OSError(30, "Read-only file system")
        real(source, target)

    return replace
