"""A mounted file system whose power can be cut, by FUSE, in a process of its own: `disk.Disk` says what is lost.

The process that mounts it has it until its standard input ends. It is told what to do line by line, as `Power` does.
It needs /dev/fuse, and what `tests/install-packages` installs; without these it fails, and says so.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import IO

from pdbclient.errors import PdbError

from .disk import Disk, File

__all__ = ["Power", "at_each_change", "mounted"]

ROOT = Path(__file__).parents[2]
BLOCK = 4096
PATIENCE = 20.0
"""Seconds for the process to do what it is told, or to end."""


class Power:
    """The power of the mounted disk at `path`, for the process that cuts it."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.path, self._process = path, process

    def cut(self, seed: int, after: int = 0) -> None:
        """Cut it: at once, or instead of that change (a write, a sync, a name) after so many others.

        From then on, every operation is an error (EIO).
        """
        self._say(f"cut {seed} {after}")

    def is_off(self, seconds: float = 0.0) -> bool:
        """Whether it is off, or will be within that time."""
        return self._say(f"wait {seconds}") == "off"

    def on(self) -> None:
        """Give the disk back as the cut has left it; what was open stays an error. No cut is due any more."""
        self._say("on")

    def sync(self) -> None:
        """Make all that is there stay, as `sync` does."""
        self._say("sync")

    def wipe(self) -> None:
        """Make it an empty disk. Nothing of it is open."""
        self._say("wipe")

    def _say(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Written at once: nothing is left for the closing of a pipe that nobody reads any more.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
        answer = self._process.stdout.readline().decode().strip()
        assert answer, "the file system's process has ended"
        return answer


def at_each_change(
    power: Power, prepare: Callable[[], object], work: Callable[[], object], *, seeds: int = 1, step: int = 1
) -> Iterator[int]:
    """Cut the power in `work` at each change that it makes (or each `step`th), one after the other, `seeds` times.

    At last, once it is done. For each cut, the disk is wiped, then prepared (and synced); when this gives the seed,
    the power is back.
    """
    for after in count(1, step):
        for seed in range(after * seeds, (after + 1) * seeds):
            power.wipe()
            prepare()
            power.sync()
            power.cut(seed, after)
            try:
                work()
            except PdbError:
                if not power.is_off():
                    raise
            over = not power.is_off()
            if over:
                power.cut(seed)
            power.on()
            yield seed
        if over:
            return


@contextmanager
def mounted(path: Path) -> Iterator[Power]:
    """An empty disk at the new directory `path`, until the block is left."""
    path.mkdir()
    command = [sys.executable, "-m", __name__, str(path)]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                if process.stdout.readline() != b"mounted\n":
                    why = process.communicate(timeout=PATIENCE)[1].decode().strip()
                    needs = "it needs /dev/fuse and what tests/install-packages installs"
                    raise AssertionError(f"no file system can be mounted by FUSE here; {needs}: {why}")
                yield Power(path, process)
            finally:
                process.stdin.close()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    # Whoever uses its disk would hang, too.
                    process.kill()
                _unmount(path)
    finally:
        path.rmdir()


def _unmount(path: Path) -> None:
    """Take away what is mounted there, if anything is, whoever still uses it."""
    # Not `ismount`: it says no where the process of the file system has died.
    if any(line.split()[1] == str(path) for line in Path("/proc/mounts").read_text().splitlines()):
        subprocess.run(["fusermount3", "-uz", str(path)], check=True, timeout=PATIENCE)


# --- the process that mounts it


class _Mount:
    """The operations, by the names that mfusepy knows them by. One thread calls them, another one cuts the power."""

    use_ns = True

    def __init__(self) -> None:
        self._disk = Disk()
        self._open: dict[int, File] = {}
        self._handles = count(1)
        self._lock = threading.Lock()
        self._off = threading.Event()
        self._chance = Random(0)
        self._left: int | None = None

    # --- the power

    def control(self, lines: IO[str], out: IO[str]) -> None:
        """Do what each line says."""
        for line in lines:
            word, *values = line.split()
            answer = "done"
            match word:
                case "cut":
                    with self._lock:
                        self._chance, self._left = Random(int(values[0])), int(values[1])
                        if not self._left:
                            self._cut()
                case "wait":
                    answer = "off" if self._off.wait(float(values[0])) else "on"
                case "on":
                    with self._lock:
                        self._left = None
                        self._off.clear()
                case "sync":
                    with self._lock:
                        self._disk.sync_all()
                case "wipe":
                    with self._lock:
                        self._disk = Disk()
            out.write(f"{answer}\n")
            out.flush()

    def _cut(self) -> None:
        self._disk.cut(self._chance)
        self._open.clear()
        self._left = None
        self._off.set()

    def _use(self, *, changes: bool = True) -> Disk:
        """The disk, unless it has no power."""
        if changes and self._left is not None:
            self._left -= 1
            if not self._left:
                self._cut()
        if self._off.is_set():
            raise OSError(errno.EIO, "no power")
        return self._disk

    def _file(self, path: str, handle: int | None, *, changes: bool = False) -> File:
        disk = self._use(changes=changes)
        # One that was opened before the cut is not known any more.
        found = disk.names.get(path[1:]) if handle is None else self._open.get(handle)
        if found is None:
            raise OSError(errno.ENOENT if handle is None else errno.EIO, path)
        return found

    def _opened(self, file: File) -> int:
        handle = next(self._handles)
        self._open[handle] = file
        return handle

    # --- operations

    def init(self, path: str) -> None:
        sys.stdout.write("mounted\n")
        sys.stdout.flush()

    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        with self._lock:
            if path == "/":
                self._use(changes=False)
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_ino": 1}
            file = self._file(path, handle)
            mine = {"st_uid": os.geteuid(), "st_gid": os.getegid()}
            return mine | {
                "st_mode": file.mode,
                "st_nlink": 1,
                "st_ino": file.number,
                "st_size": len(file.content),
            }

    def statfs(self, path: str) -> dict[str, int]:
        blocks = 1 << 20
        return {"f_bsize": BLOCK, "f_frsize": BLOCK, "f_blocks": blocks, "f_bfree": blocks, "f_bavail": blocks}

    def readdir(self, path: str, handle: int) -> list[tuple[str, dict[str, int], int]]:
        with self._lock:
            names = self._use(changes=False).names
            # What has no number is not shown.
            return [(name, {"st_ino": file.number, "st_mode": file.mode}, 0) for name, file in names.items()]

    def fsyncdir(self, path: str, datasync: int, handle: int) -> None:
        with self._lock:
            self._use().sync()

    def create(self, path: str, mode: int) -> int:
        with self._lock:
            return self._opened(self._use().create(path[1:], stat.S_IFREG | mode))

    def open(self, path: str, flags: int) -> int:
        with self._lock:
            file = self._file(path, None, changes=bool(flags & os.O_TRUNC))
            if flags & os.O_TRUNC:
                file.truncate(0)
            return self._opened(file)

    def release(self, path: str, handle: int) -> None:
        with self._lock:
            self._open.pop(handle, None)

    def read(self, path: str, size: int, at: int, handle: int) -> bytes:
        with self._lock:
            return bytes(self._file(path, handle).content[at : at + size])

    def write(self, path: str, data: bytes, at: int, handle: int) -> int:
        with self._lock:
            self._file(path, handle, changes=True).write(at, data)
            return len(data)

    def truncate(self, path: str, size: int) -> None:
        with self._lock:
            self._file(path, None, changes=True).truncate(size)

    def fsync(self, path: str, datasync: int, handle: int) -> None:
        with self._lock:
            self._file(path, handle, changes=True).sync()

    def unlink(self, path: str) -> None:
        with self._lock:
            self._use().unlink(path[1:])

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            self._use().rename(old[1:], new[1:])

    def chmod(self, path: str, mode: int) -> None:
        # Never lost, as it is a matter of the file and not of what is in it.
        with self._lock:
            self._file(path, None).mode = mode

    def chown(self, path: str, user: int, group: int) -> None:
        """All that is here is its own user's."""


def _main(path: str) -> None:
    from mfusepy import FUSE

    mount = _Mount()

    def control() -> None:
        try:
            mount.control(sys.stdin, sys.stdout)
        finally:
            _unmount(Path(path))

    threading.Thread(target=control, daemon=True).start()
    # Nothing is kept by the kernel: every operation comes here, and locks are the kernel's own.
    FUSE(
        mount,
        path,
        foreground=True,
        nothreads=True,
        direct_io=True,
        use_ino=True,
        hard_remove=True,
        attr_timeout=0,
        entry_timeout=0,
        negative_timeout=0,
    )


if __name__ == "__main__":
    _main(sys.argv[1])
