"""Files replaced as a whole, with the owner, the mode and the attributes that they had; symlinks are followed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pdbclient.puppet_setup.record import SetupError

__all__ = ["Access", "Staged", "access_of", "contents", "create", "follow", "named_errors", "stage", "sync_directory"]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what with a file. `attributes` names the file whose extended attributes are taken over."""

    mode: int
    uid: int
    gid: int
    attributes: Path | None = None


@dataclass(frozen=True, slots=True)
class Staged:
    """A new text, written beside the file that it will replace."""

    temporary: Path
    target: Path

    def commit(self) -> None:
        """Put it in place: whoever reads the file sees the old text or the new one, never a part."""
        with named_errors(self.target):
            os.replace(self.temporary, self.target)

    def drop(self) -> None:
        """Leave everything as it was."""
        self.temporary.unlink(missing_ok=True)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what the system refuses into one line about `path`."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"{path}: cannot be written: {error.strerror or error}") from error


def follow(path: Path) -> Path:
    """The file itself: where `path` is a symlink, what it leads to."""
    return Path(os.path.realpath(path))


def contents(path: Path) -> bytes | None:
    """The bytes of a file, None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror or error}") from error


def access_of(path: Path) -> Access:
    """The access of an existing file, with its extended attributes."""
    with named_errors(path):
        found = path.stat()
    return Access(found.st_mode & 0o7777, found.st_uid, found.st_gid, path)


def stage(path: Path, data: bytes, access: Access) -> Staged:
    """Write `data` beside the file that `path` leads to, on the same file system, ready to replace it."""
    target = follow(path)
    with named_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        staged = Staged(Path(name), target)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                _fill(stream, Path(name), data, access)
        except BaseException:
            staged.drop()
            raise
    return staged


def create(path: Path, data: bytes, access: Access) -> None:
    """Write a file that must not be there yet; on an error there is none."""
    with named_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                _fill(stream, path, data, access)
            sync_directory(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _fill(stream: BinaryIO, path: Path, data: bytes, access: Access) -> None:
    stream.write(data)
    stream.flush()
    if access.attributes is not None:
        shutil.copystat(access.attributes, path)
        os.utime(path)  # Puppet notices a changed file by its time
    os.fchown(stream.fileno(), access.uid, access.gid)
    os.fchmod(stream.fileno(), access.mode)  # last: a change of the owner takes bits away
    os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Make what was renamed, made or removed in a directory outlast a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
