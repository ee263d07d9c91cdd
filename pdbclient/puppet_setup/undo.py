"""Take the latest set-up back: every file as it was, and nothing of the set-up left."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pdbclient.puppet_setup.files import Access, Staged, contents, follow, named_errors, stage, sync_directory
from pdbclient.puppet_setup.record import FileRecord, Former, SetupError, checksum, latest

__all__ = ["undo"]


def undo(confdir: Path) -> list[tuple[Path, bool]]:
    """Restore what the latest set-up changed in `confdir`: each file, and whether it exists again or is gone.

    Contents, owners, modes and extended attributes come back; the backups and the record are removed. Raises
    `SetupError`, with nothing changed, where a file is neither as the set-up left it nor as it was before.
    """
    path, record = latest(confdir.absolute())
    _refuse_changed(record.files)
    with ExitStack() as stack:
        staged: list[tuple[FileRecord, Staged | None]] = []
        for entry in record.files:
            new = None if entry.former is None else _former_file(entry, entry.former)
            if new is not None:
                stack.callback(new.drop)
            staged.append((entry, new))
        for entry, new in staged:
            target = follow(Path(entry.file))
            if new is None:
                _remove(target)
                continue
            new.commit()
            with named_errors(target):
                sync_directory(target.parent)
    # The record goes last: an undo that was cut off can be asked for again.
    for entry in record.files:
        if entry.former is not None:
            _remove(Path(entry.former.backup))
    _remove(path)
    return [(Path(entry.file), entry.former is not None) for entry in record.files]


def _refuse_changed(entries: tuple[FileRecord, ...]) -> None:
    lines = [f"{entry.file}: {why}" for entry in entries if (why := _changed(entry))]
    if lines:
        raise SetupError(
            "\n".join([*lines, "nothing was undone: copy the backups yourself, or put back what is gone"])
        )


def _changed(entry: FileRecord) -> str | None:
    """Why a file cannot be restored without losing something, or None."""
    former, data = entry.former, contents(Path(entry.file))
    found = None if data is None else checksum(data)
    if former is None:
        return "was changed since; it did not exist before" if found not in (None, entry.sha256) else None
    if found == former.sha256:
        return None
    if found != entry.sha256:
        return f"was {'removed' if data is None else 'changed'} since; as it was before, it is in {former.backup}"
    saved = contents(Path(former.backup))
    if saved is None or checksum(saved) != former.sha256:
        return f"its backup {former.backup} is {'gone' if saved is None else 'not what was saved'}"
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
