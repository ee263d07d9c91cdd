"""The journal's file as the file system shows it: whether SQLite may be let near it.

SQLite takes a file without a beginning for an empty database, and another application's for its own.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from pdbclient.errors import JournalCorrupt, JournalError, JournalFull
from pdbclient.journal.store.schema import APPLICATION_ID, SCHEMA

__all__ = ["ADVICE", "moved", "no_room", "require_sound", "side_file", "sync_directory", "unusable"]

# https://www.sqlite.org/fileformat.html#the_database_header
HEADER = 100
MAGIC = b"SQLite format 3\0"

ADVICE = (
    "it is left as it is. Restore it, or move it away to begin anew; "
    "`pdbclient journal verify` tells what can still be read of it"
)


def require_sound(path: Path, *, beside: bool = False, growing: bool = False) -> int | None:
    """The format of the file; None when it is not there.

    Raises `JournalError` for one that is not ours, `JournalCorrupt` for damage.

    `beside` another process, that one sees to the side file. `growing`: it may be writing at this moment, so that the
    file's length says nothing.
    """
    side = side_file(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        # An empty one was made for a journal that was not moved to its place any more.
        if _size(side):
            why = f"is gone, but its side file {side} is still there"
            raise JournalCorrupt(f"{path}: {why}: put the file back, or move the side file away too") from None
        return None
    if not stat.S_ISREG(status.st_mode):
        what = "is a directory: name a file in it" if stat.S_ISDIR(status.st_mode) else "is no regular file"
        raise JournalError(f"{path}: {what}")
    if status.st_uid != os.geteuid():
        why = f"belongs to the user {_user(status.st_uid)}, not {_user(os.geteuid())}: run as that user"
        raise JournalError(f"{path}: {why}")
    with open(path, "rb") as file:
        header = file.read(HEADER)
    version = _version(path, header)
    if version < SCHEMA and beside:
        why = f"is of the format {version}, and this version of pdbclient reads {SCHEMA}"
        raise JournalError(f"{path}: {why}: restart the gateway, which migrates it")
    for each in (path, side):
        if each.exists() and not os.access(each, os.R_OK | os.W_OK, effective_ids=True):
            raise unusable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(each)))
    side_size = _size(side)
    if side_size is None and not beside:
        raise JournalCorrupt(
            f"{path}: its side file {side.name} is gone: what a crash left half done cannot be undone without it. "
            f"Put it back. If there was no crash, or this is a copy of a journal that was closed: make an empty one "
            f"(touch {side}), and let `pdbclient journal verify` look"
        )
    size = _pages(header)
    if not growing and status.st_size < size and not _hot(side):
        raise JournalCorrupt(f"{path}: is cut off: {status.st_size} bytes of {size}: {ADVICE}")
    return version


def side_file(path: Path) -> Path:
    """Where SQLite writes down how to undo the transaction under way."""
    return path.with_name(f"{path.name}-journal")


def sync_directory(path: Path) -> None:
    """Make what was made, renamed or removed beside `path` durable."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def no_room(path: Path) -> str:
    """What the file system of `path` has no more of: `blocks`, `inodes`, or nothing."""
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return ""
    if room.f_files and not room.f_favail:
        return "inodes"
    return "" if room.f_bavail else "blocks"


def moved(path: Path, opened: os.stat_result) -> str:
    """What to tell when the file that was `opened` is not at `path` any more; nothing when it is."""
    try:
        there = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        why = "was moved or removed while it was open, or its file system unmounted"
        return f"is not there any more: it {why}: put it back, or restart what has it open"
    except OSError:
        # Said by what was tried with it.
        return ""
    if os.path.samestat(opened, there):
        return ""
    return "another file has been put in its place: put the one that was there back, or restart what has it open"


def unusable(path: Path, error: OSError) -> JournalError:
    """What to tell about an operating system's error."""
    where = path if error.filename in (None, str(path)) else f"{path}: {error.filename}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            what = f"no free {no_room(path) or 'space'}: make room on that file system"
            return JournalFull(f"{where}: {what}")
        case errno.ENOENT if not path.parent.exists():
            return JournalError(f"{path}: its directory {path.parent} does not exist: make it")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = f"the file and its directory must be writable for the user {os.geteuid()}"
            return JournalError(f"{where}: {error.strerror}: {advice}")
        case _:
            return JournalError(f"{where}: cannot be used: {error.strerror}")


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def _version(path: Path, header: bytes) -> int:
    """The format that a journal's beginning names. Raises `JournalError` for one that is none, or a newer one's."""
    if len(header) < HEADER or not header.startswith(MAGIC):
        raise JournalCorrupt(f"{path}: is no journal (or its beginning is damaged): {ADVICE}")
    application, version = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
    if application != APPLICATION_ID:
        raise JournalError(f"{path}: is an SQLite file, but no journal: name another file")
    if not 1 <= version <= SCHEMA:
        why = f"was written by a newer version of pdbclient (format {version}, this one reads up to {SCHEMA})"
        raise JournalError(f"{path}: {why}: use that version, or move the file away to begin anew")
    if header[18] != 1:
        # A transaction may be in the log beside it, which this way of writing does not know of.
        advice = f"end that program, then: sqlite3 {path} 'PRAGMA journal_mode = PERSIST'"
        raise JournalError(f"{path}: another program has changed it to a write-ahead log: {advice}")
    return version


def _pages(header: bytes) -> int:
    """Bytes that the file says it has."""
    page = int.from_bytes(header[16:18], "big")
    return int.from_bytes(header[28:32], "big") * (65536 if page == 1 else page)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _hot(side: Path) -> bool:
    """Whether a transaction is to be undone first, which restores the file's length."""
    try:
        with open(side, "rb") as file:
            return file.read(8).strip(b"\0") != b""
    except FileNotFoundError:
        return False
