"""Where a benchmark runs: a lab of its own, or one that is up already."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pdbclient.lab import Lab
from tests.bench.load.meters import family

__all__ = ["apart", "program", "running_lab", "workplace"]


def program(name: str, package: str) -> str:
    """Where a program is. Ends the process when it is not there."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing: tests/install-packages {package}")
    return found


@contextmanager
def workplace() -> Iterator[Path]:
    """A directory of this run, which the lab's server account can enter. On SIGTERM, its servers end, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="pdbclient-bench-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def running_lab(directory: Path | None, nodes: int = 1) -> Iterator[Lab]:
    """The lab in `directory`, or one made for this run."""
    if directory is not None:
        yield Lab.load(directory)
        return
    with workplace() as home:
        lab = Lab.up(home / "lab", nodes)
        try:
            yield lab
        finally:
            lab.down(purge=True)


@contextmanager
def apart(lab: Lab, name: str) -> Iterator[None]:
    """Inside, a node's servers have half of the cores, all else here the rest: as on two machines."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    if not half:
        raise SystemExit("one core cannot be shared out: two are needed")
    _confine(lab, {node.name: cores[:half] if node.name == name else cores[half:] for node in lab.nodes})
    os.sched_setaffinity(0, cores[half:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _confine(lab, {node.name: cores for node in lab.nodes})


def _confine(lab: Lab, cores: Mapping[str, Iterable[int]]) -> None:
    """What these servers start later inherits it."""
    for name, allowed in cores.items():
        for server in ("puppetdb", "postgres"):
            root = lab.pid(name, server)
            assert root is not None, f"{server} of {name} is down"
            for thread in (task for pid in family(root) for task in Path(f"/proc/{pid}/task").glob("*")):
                # Some end meanwhile.
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), allowed)
