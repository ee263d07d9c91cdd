"""The record of a set-up, kept in the confdir until it is undone: which files, and how they were before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pdbclient.errors import PdbError

__all__ = ["FileRecord", "Former", "Record", "SetupError", "backup_name", "checksum", "latest", "record_name"]

_VERSION = 1
_PREFIX = "pdbclient-setup-"


class SetupError(PdbError):
    """A set-up, or its undoing, could not be done; the message says what was changed, if anything."""


@dataclass(frozen=True, slots=True)
class Former:
    """How a file was: `backup` has its bytes."""

    backup: str
    sha256: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One changed file; `former` is None where there was none.

    `after` is its text as it was written, None in a record of an earlier version.
    """

    file: str
    former: Former | None
    sha256: str
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One set-up."""

    files: tuple[FileRecord, ...]
    version: int = _VERSION

    def encoded(self) -> bytes:
        """As JSON, for a person to read too."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def record_name(stamp: str) -> str:
    """The name of a record; by their names, the latest is the last."""
    return f"{_PREFIX}{stamp}.json"


def backup_name(file: Path, stamp: str) -> Path:
    """Where a file is copied to before it is changed: beside itself."""
    return file.with_name(f"{file.name}.pdbclient-backup-{stamp}")


def checksum(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def latest(confdir: Path) -> tuple[Path, Record]:
    """The record of the last set-up that has not been undone. Raises `SetupError` where there is none."""
    try:
        names = sorted(path for path in confdir.iterdir() if path.name.startswith(_PREFIX) and path.suffix == ".json")
        if not names:
            raise SetupError(f"{confdir}: there is nothing to undo: no set-up is recorded here")
        record = msgspec.json.decode(names[-1].read_bytes(), type=Record)
    except OSError as error:
        raise SetupError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SetupError(f"{names[-1]}: is no record of a set-up: {error}") from error
    if record.version != _VERSION:
        raise SetupError(f"{names[-1]}: was written by another version of pdbclient: undo it with that one")
    return names[-1], record
