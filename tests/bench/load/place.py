"""Where a benchmark runs: a lab of its own, or one that is up already."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pdbclient.lab import Lab

__all__ = ["running_lab", "workplace"]


@contextmanager
def workplace() -> Iterator[Path]:
    """A directory of this run, which the lab's server account can enter."""
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
