"""Two nodes that export a file each and collect each other's, one after the other, across a failover and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pdbclient.lab import Lab

from .evidence import COLLECTING, exporting
from .outage import PRIMARY, REPLICA

__all__ = ["Story", "told"]


@dataclass(frozen=True, slots=True)
class Story:
    """What each run's catalog had of the other node: whether its file was in it, by the name of the run."""

    first: bool
    during: bool
    after: bool


def manifest(file: Path, content: str) -> str:
    """A node that exports this file and collects whatever is exported."""
    return f"{exporting(file, content)}\n{COLLECTING}"


def told(
    lab: Lab,
    files: Mapping[str, Path],
    run: Callable[[str], None],
    restart: Callable[[], None],
    *,
    fault: str = "kill",
    back: str = "start",
) -> Story:
    """`files` has two certnames and what each exports; `run` runs Puppet on one, `restart` is for the gateway.

    A runs, the primary fails, B runs, the primary comes back, A runs again.
    """
    a, b = files

    def collected(node: str, other: str) -> bool:
        files[other].unlink(missing_ok=True)
        run(node)
        return files[other].exists()

    first = collected(a, b)
    lab.settle(PRIMARY)
    lab.fault(PRIMARY, fault)
    try:
        during = collected(b, a)
    finally:
        lab.fault(PRIMARY, back)
    lab.settle(REPLICA)
    # It then knows from its journal alone, if it has one, what the primary lacks.
    restart()
    return Story(first, during, collected(a, b))
