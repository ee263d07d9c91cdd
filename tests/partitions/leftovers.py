"""What a world has made on this machine, by its name, and its end: also when the process that made it was killed.

A world's network namespaces are called after the process that made them, so that a later one knows whose they were.
This module, run with a world's name, waits until its standard input ends, as it does with that process, however it
ends, and then removes all that is left.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "NAMESPACES",
    "end_processes",
    "guarded",
    "new_name",
    "of_world",
    "processes",
    "remove",
    "remove_leftovers",
]

NAMESPACES = Path("/run/netns")
_FAMILY = "pdbclient-partitions"
_ROOT = Path(__file__).parents[2]
_END = 20.0
"""Seconds for processes that were killed to be gone, and for the guard to do its work."""
_numbers = itertools.count(1)


def new_name() -> str:
    """The name of a new world of this process: with its pid, and when it began, as pids come again."""
    return f"{_FAMILY}.{os.getpid()}.{_began(os.getpid())}.{next(_numbers)}"


def of_world(name: str) -> list[str]:
    """The network namespaces of a world."""
    return [each for each in _ours() if each.startswith(f"{name}.")]


def processes(namespace: str) -> list[int]:
    """The processes in a network namespace. None when it is gone."""
    try:
        wanted = os.stat(NAMESPACES / namespace)
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # It may have ended, or be no more than a zombie, which has none.
            with suppress(OSError):
                its = os.stat(entry / "ns" / "net")
                if (its.st_dev, its.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(int(entry.name))
    return found


def end_processes(name: str) -> None:
    """Kill all processes of a world. Raises `TimeoutError` when one does not end."""
    deadline = time.monotonic() + _END
    for namespace in of_world(name):
        while pids := processes(namespace):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{namespace}: the processes {pids} cannot be killed")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def remove(name: str) -> None:
    """End all processes of a world and remove its namespaces, and with them its links. Nothing to do when it is gone.

    Raises `TimeoutError` when a process does not end, and `OSError` for a namespace that cannot be removed.
    """
    end_processes(name)
    for namespace in of_world(name):
        done = subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, text=True, timeout=_END)
        # Another one may be at it, too.
        if done.returncode and (NAMESPACES / namespace).exists():
            raise OSError(f"{namespace} cannot be removed: {done.stderr.strip()}")


def remove_leftovers() -> list[str]:
    """Remove the worlds whose processes are gone, and give their names. Raises as `remove`."""
    worlds = {namespace.rpartition(".")[0] for namespace in _ours()}
    left = sorted(world for world in worlds if not _lives(world))
    for world in left:
        remove(world)
    return left


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Inside, a process is there that removes the world as soon as this one has ended, in whatever way."""
    command = [sys.executable, "-m", __name__, name]
    # Of a session of its own: what interrupts us, or ends our group, does not reach it.
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=_ROOT, start_new_session=True)
    try:
        yield
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        try:
            guard.wait(_END)
        finally:
            guard.kill()
            guard.wait()


def _ours() -> list[str]:
    try:
        return sorted(each.name for each in NAMESPACES.iterdir() if each.name.startswith(f"{_FAMILY}."))
    except FileNotFoundError:
        return []


def _lives(world: str) -> bool:
    """Whether the process is there that made it."""
    pid, began = world.removeprefix(f"{_FAMILY}.").split(".")[:2]
    return _began(int(pid)) == int(began)


def _began(pid: int) -> int | None:
    """When a process began, in ticks since boot; None: there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    # One that nobody has collected yet has ended.
    return None if fields[0] in "ZX" else int(fields[19])


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove(sys.argv[1])
