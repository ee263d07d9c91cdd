"""Make the changes of a plan: first everything is written aside, then file by file put in place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pdbclient.puppet_setup.change import Change, Plan
from pdbclient.puppet_setup.files import (
    Access,
    Staged,
    access_of,
    contents,
    create,
    follow,
    named_errors,
    stage,
    sync_directory,
)
from pdbclient.puppet_setup.record import FileRecord, Former, Record, SetupError, backup_name, checksum, record_name

__all__ = ["write"]


def write(plan: Plan, now: datetime) -> list[Path | None]:
    """Make the changes of `plan`; `now`, in UTC, names the backups. Returns the backup of each change.

    A file that is new gets the owner and the mode of puppet.conf. Raises `SetupError`; until the first file
    is put in place, nothing is left behind, and after it the record is there for `undo`.
    """
    confdir = plan.confdir.absolute()
    stamp = now.strftime("%Y%m%dT%H%M%S.%fZ")
    if not plan.changes:
        return []
    default = replace(access_of(confdir / "puppet.conf"), attributes=None)
    with ExitStack() as undo:
        staged = []
        for change in plan.changes:
            _refuse_if_changed(change)
            existing = None if change.before is None else access_of(change.file)
            new = stage(change.file, change.after.encode(), existing or replace(default, mode=default.mode & 0o666))
            undo.callback(new.drop)
            staged.append(new)
        records = [_record(change, stamp, undo) for change in plan.changes]
        path = confdir / record_name(stamp)
        create(path, Record(tuple(records)).encoded(), Access(0o600, default.uid, default.gid))
        undo.callback(path.unlink)
        # From here on, whatever happens, backups and record must stay: a file may be in place already.
        leave_nothing = undo.pop_all()
    _commit(staged, leave_nothing)
    return [None if record.former is None else Path(record.former.backup) for record in records]


def _commit(staged: Sequence[Staged], leave_nothing: ExitStack) -> None:
    for number, new in enumerate(staged):
        try:
            new.commit()
        except SetupError as error:
            if number == 0:
                leave_nothing.close()
                raise
            for rest in staged[number:]:
                rest.drop()
            raise SetupError(f"{error}; the files before it are changed already: --undo restores them") from error
    for new in staged:
        with named_errors(new.target):
            sync_directory(new.target.parent)


def _refuse_if_changed(change: Change) -> None:
    before = None if change.before is None else change.before.encode()
    if contents(change.file) != before:
        raise SetupError(f"{change.file}: was changed by somebody else just now: nothing was changed, try again")


def _record(change: Change, stamp: str, undo: ExitStack) -> FileRecord:
    """Copy a file aside, and say how it was."""
    file = change.file.absolute()
    former = None
    if change.before is not None:
        data, access, backup = change.before.encode(), access_of(follow(file)), backup_name(file, stamp)
        create(backup, data, access)
        undo.callback(backup.unlink)
        former = Former(str(backup), checksum(data), access.mode, access.uid, access.gid)
    return FileRecord(str(file), former, checksum(change.after.encode()), change.after)
