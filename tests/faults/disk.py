"""A directory of files as a disk keeps it: in a power cut, what was synced stays, and the rest as it happens.

What is promised, and no more:

- fsync or fdatasync of a file: its bytes and its size stay. Not its name: "Calling fsync() does not necessarily
  ensure that the entry in the directory containing the file has also reached disk" (fsync(2)), though ext4 and XFS
  do that, too, for a new file.
- fsync of the directory: names made, renamed and removed before it stay so. Not the bytes of these files.
- A rename happens or does not. What is done to one name or to one file happens in order: a later one never without
  the earlier ones. Of different files, it may happen in any order (ext4 and XFS have a log, which keeps the order;
  POSIX asks for nothing).
- Sectors of 512 bytes are written whole, in any order, at any time, many times: after a cut each one is, for itself,
  as it was at any moment since the last sync. Never are bytes changed that nobody wrote, which SQLite takes for
  granted (https://www.sqlite.org/psow.html). Larger sectors would spare more.
- The size is, for itself too, that of any moment since the last sync, and what lies below it and was not written to
  the disk is zeros or rubbish (https://www.sqlite.org/atomiccommit.html, "hardware assumptions").

Everything is decided by a random generator: the same one makes the same of the same history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

__all__ = ["SECTOR", "Change", "Disk", "File"]

SECTOR = 512
LUCK = (0.0, 0.5, 0.9, 1.0)
"""How likely a change that was not synced gets to the disk: one of them for each file, and one for the names."""

_numbers = count(2)


@dataclass(frozen=True)
class Change:
    """`data` is put at the byte `at`, and then the file has `size` bytes."""

    at: int
    data: bytes
    size: int

    def sectors(self) -> Iterator[tuple[int, int, bytes]]:
        """What is written to which sector: its number, the first byte's place in the file, the bytes."""
        end = self.at + len(self.data)
        for sector in range(self.at // SECTOR, -(-end // SECTOR)):
            first, last = max(self.at, sector * SECTOR), min(end, (sector + 1) * SECTOR)
            yield sector, first, self.data[first - self.at : last - self.at]


@dataclass(eq=False)
class File:
    """Its bytes, those that were synced, and what was changed since then."""

    mode: int
    content: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_numbers))

    def write(self, at: int, data: bytes) -> None:
        self._change(Change(at, data, max(at + len(data), len(self.content))))

    def truncate(self, size: int) -> None:
        old = len(self.content)
        self._change(Change(min(size, old), bytes(abs(size - old)), size))

    def sync(self) -> None:
        """All that it is now stays."""
        for change in self.changes:
            _apply(self.synced, change)
        self.changes.clear()

    def spared(self, chance: Random) -> bytes:
        """What is found of it after a power cut."""
        luck = chance.choice(LUCK)
        rubbish = chance.choice((bytes, chance.randbytes))
        longest = max((change.size for change in self.changes), default=0)
        content = self.synced + rubbish(max(0, longest - len(self.synced)))
        size = len(self.synced)
        # Sectors that got no further, and so did the size, when None is among them.
        stuck: set[int | None] = set()

        def happens(what: int | None) -> bool:
            if what in stuck or chance.random() >= luck:
                stuck.add(what)
            return what not in stuck

        for change in self.changes:
            for sector, at, data in change.sectors():
                if happens(sector):
                    content[at : at + len(data)] = data
            if happens(None):
                size = change.size
        return bytes(content[:size])

    def _change(self, change: Change) -> None:
        self.changes.append(change)
        _apply(self.content, change)


@dataclass(frozen=True)
class Move:
    """Names that are another file's from then on, or (None) nobody's, all at once; and the files that it is about."""

    names: dict[str, File | None]
    files: frozenset[File]


class Disk:
    """One directory. Its methods raise `KeyError` for a name that is not there."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {}
        self._synced: dict[str, File] = {}
        self._moves: list[Move] = []

    def create(self, name: str, mode: int) -> File:
        """A new, empty file. There is none of that name."""
        file = File(mode)
        self._move({name: file})
        return file

    def unlink(self, name: str) -> None:
        _ = self.names[name]
        self._move({name: None})

    def rename(self, old: str, new: str) -> None:
        self._move({old: None, new: self.names[old]})

    def sync_all(self) -> None:
        """All of it stays."""
        for file in self.names.values():
            file.sync()
        self.sync()

    def sync(self) -> None:
        """The names stay, whosever they are now."""
        self._synced = dict(self.names)
        self._moves.clear()

    def cut(self, chance: Random) -> None:
        """The power is cut, and comes back: what is found then is all there is, and stays."""
        names = _moved(self._synced, self._moves, chance)
        self.names = {}
        for name, file in names.items():
            content = file.spared(chance)
            self.names[name] = File(file.mode, bytearray(content), bytearray(content))
        self.sync()

    def _move(self, names: dict[str, File | None]) -> None:
        before = {self.names.get(name) for name in names}
        self._moves.append(Move(names, frozenset(file for file in before | {*names.values()} if file is not None)))
        _rename(self.names, names)


def _moved(names: dict[str, File], moves: list[Move], chance: Random) -> dict[str, File]:
    """The names after some of these moves: none without those before it that are about the same name or file."""
    luck = chance.choice(LUCK)
    found = dict(names)
    stuck: set[str | File] = set()
    for move in moves:
        about: set[str | File] = {*move.names, *move.files}
        if about & stuck or chance.random() >= luck:
            stuck |= about
        else:
            _rename(found, move.names)
    return found


def _rename(names: dict[str, File], changed: dict[str, File | None]) -> None:
    for name, file in changed.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _apply(content: bytearray, change: Change) -> None:
    content.extend(bytes(max(0, change.at - len(content))))
    content[change.at : change.at + len(change.data)] = change.data
    del content[change.size :]
