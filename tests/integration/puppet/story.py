"""Two nodes that export a file each and collect each other's, one after the other, across a failover and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pdbclient.lab import Lab

from .evidence import COLLECTING, exporting
from .outage import BACK, PRIMARY, REPLICA

__all__ = ["Story", "manifest", "side_by_side", "told"]


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
    fault: str,
) -> Story:
    """A runs, `fault` strikes the primary, B runs, the primary comes back, A runs again.

    `files` has the certnames of both and what each exports; `run` runs Puppet on one, `restart` is for the gateway.
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
        lab.fault(PRIMARY, BACK[fault])
    lab.settle(REPLICA)
    # It then knows from its journal alone, if it has one, what the primary lacks.
    restart()
    return Story(first, during, collected(a, b))


def side_by_side(with_journal: Story, without: Story) -> str:
    """Both as a table."""
    rows = [
        ("", "with journal", "without"),
        ("B, on the replica, collects what A exports", with_journal.during, without.during),
        ("A, on the primary, collects what B exports", with_journal.after, without.after),
    ]
    return "\n".join(f"{what:44}{one!s:>14}{other!s:>10}" for what, one, other in rows)
