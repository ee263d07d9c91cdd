"""Take the latest set-up back: every file as it was, or, of one that was changed since, what the set-up did to it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pdbclient.errors import ConfigError
from pdbclient.puppet_setup.files import (
    Access,
    Staged,
    access_of,
    contents,
    follow,
    named_errors,
    stage,
    sync_directory,
)
from pdbclient.puppet_setup.puppet_conf import problems_of
from pdbclient.puppet_setup.puppetdb_conf import problems_for_stock
from pdbclient.puppet_setup.record import FileRecord, Former, SetupError, checksum, latest
from pdbclient.puppet_setup.take_back import TakenBack, take_back

__all__ = ["Action", "Undone", "undo"]


class Action(StrEnum):
    """What became of a file. Edited: the set-up's own settings were taken back. Left: somebody removed it."""

    RESTORED = "restored"
    REMOVED = "removed"
    EDITED = "edited"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Undone:
    """One file. Of one that was edited, `taken_back` says which settings are undone, left and kept; `backup`, how it
    was before the set-up, stays where the file is not like that again.
    """

    file: Path
    action: Action
    taken_back: TakenBack = field(default_factory=lambda: TakenBack("", (), (), ()))
    backup: Path | None = None


def undo(confdir: Path) -> list[Undone]:
    """Take back what the latest set-up changed in `confdir`.

    A file that is as the set-up left it becomes as it was before, with owner, mode and extended attributes, or goes.
    Of one that was changed since, only the set-up's own settings are taken back. The record goes, and backups that
    nobody needs any more. Raises `SetupError`, with nothing changed, where that cannot be done.
    """
    path, record = latest(confdir.absolute())
    planned = _planned(record.files)
    with ExitStack() as stack:
        staged: list[Staged | None] = []
        for entry, plan in zip(record.files, planned, strict=True):
            new = _new_file(entry, plan)
            if new is not None:
                stack.callback(new.drop)
            staged.append(new)
        for plan, new in zip(planned, staged, strict=True):
            target = follow(plan.file)
            if new is not None:
                new.commit()
                with named_errors(target):
                    sync_directory(target.parent)
            elif plan.action is Action.REMOVED:
                _remove(target)
    # The record goes last: an undo that was cut off can be asked for again.
    for entry, plan in zip(record.files, planned, strict=True):
        if entry.former is not None and plan.backup is None:
            _remove(Path(entry.former.backup))
    _remove(path)
    return planned


def _planned(entries: tuple[FileRecord, ...]) -> list[Undone]:
    planned, lines = [], []
    for entry in entries:
        try:
            planned.append(_plan(entry))
        except (SetupError, ConfigError) as error:
            lines.append(str(error))
    if lines:
        raise SetupError(
            "\n".join([*lines, "nothing was undone: copy the backups yourself, or put back what is gone"])
        )
    return planned


def _plan(entry: FileRecord) -> Undone:
    """What is to become of a file. Raises `SetupError` and `ConfigError` where that would lose something."""
    file, former, data = Path(entry.file), entry.former, contents(Path(entry.file))
    found = None if data is None else checksum(data)
    if former is None and found in (None, entry.sha256):
        return Undone(file, Action.REMOVED)
    if former is not None and found == former.sha256:
        return Undone(file, Action.RESTORED)
    if former is not None and data is None:
        return Undone(file, Action.LEFT, backup=Path(former.backup))
    before = b"" if former is None else _saved(entry, former)
    if former is not None and found == entry.sha256:
        return Undone(file, Action.RESTORED)
    return _edited(entry, before, data or b"")


def _edited(entry: FileRecord, before: bytes, data: bytes) -> Undone:
    file, backup = Path(entry.file), None if entry.former is None else Path(entry.former.backup)
    if entry.after is None:
        advice = "it did not exist before" if backup is None else f"as it was before, it is in {backup}"
        raise SetupError(f"{file}: was changed since; {advice}")
    try:
        now = data.decode()
    except UnicodeDecodeError as error:
        raise SetupError(f"{file}: was changed since, and is no UTF-8: {error.reason}") from error
    unreadable = {"puppet.conf": problems_of, "puppetdb.conf": problems_for_stock}.get(file.name)
    if unreadable is not None and (problems := unreadable(now, str(file))):
        raise ConfigError(problems)
    taken_back = take_back(file, before.decode(), entry.after, now)
    if backup is None and not taken_back.text.strip():
        return Undone(file, Action.REMOVED, taken_back)
    return Undone(file, Action.EDITED, taken_back, backup)


def _saved(entry: FileRecord, former: Former) -> bytes:
    saved = contents(Path(former.backup))
    if saved is None or checksum(saved) != former.sha256:
        what = "gone" if saved is None else "not what was saved"
        raise SetupError(f"{entry.file}: its backup {former.backup} is {what}")
    return saved


def _new_file(entry: FileRecord, plan: Undone) -> Staged | None:
    if plan.action is Action.EDITED:
        return stage(plan.file, plan.taken_back.text.encode(), access_of(follow(plan.file)))
    if plan.action is Action.RESTORED and entry.former is not None:
        return _former_file(entry, entry.former)
    return None


def _former_file(entry: FileRecord, former: Former) -> Staged:
    file, backup = Path(entry.file), Path(former.backup)
    # Of an undo that was cut off, the backup may be gone already; the file is then as it was.
    source = backup if contents(backup) is not None else file
    access = Access(former.mode, former.uid, former.gid, source)
    return stage(file, contents(source) or b"", access)


def _remove(path: Path) -> None:
    with named_errors(path):
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
