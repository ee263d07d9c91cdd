"""What a recovery came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pdbclient.journal.model import Listed

__all__ = ["EXAMPLES", "Recovery", "Refused"]

EXAMPLES = 20
"""So many of each kind are named."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that could not be replayed, and why: the server rejected it, or failed to take it."""

    entry: Listed
    reason: str


@dataclass(slots=True)
class Recovery:
    """What a recovery came to.

    `looked_at` counts the entries that matter: all reports, else the newest of each node; `had` those that the
    server had, or something newer in their place. Of what it lacked (`lacked`, by command), so many were `replayed`,
    and seen there afterwards (`verified`). `rejections`, and `examples` of the `missing`, have the first few.
    `failed` counts, and `failures` has the first few of, those that the server did not manage (a 500, no answer)
    while it took others. `unknown` counts, by command, the entries that the server could not be asked about, which
    were left alone; `reasons` say why. `expired` counts what it lacked of nodes that have been silent for longer than
    node-ttl, and is not sent again; `silent`: all nodes have, by this machine's clock. `damaged` counts what cannot
    be read in the journal; `damage` says what is wrong with the first few.
    """

    server: str
    dry_run: bool = False
    looked_at: int = 0
    had: int = 0
    lacked: dict[str, int] = field(default_factory=dict)
    replayed: int = 0
    verified: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    rejected: int = 0
    rejections: list[Refused] = field(default_factory=list)
    failed: int = 0
    failures: list[Refused] = field(default_factory=list)
    expired: int = 0
    silent: bool = False
    damaged: int = 0
    damage: list[str] = field(default_factory=list)
    missing: int = 0
    examples: list[Listed] = field(default_factory=list)
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether the server has all that it lacked; after a dry run: whether it lacks nothing."""
        if self.dry_run:
            return not (self.lacked or self.unknown or self.silent or self.damaged)
        left = self.rejected or self.failed or self.missing or self.unknown or self.damaged
        return not (self.stopped or left or self.silent)

    def refuse(self, entry: Listed, reason: str) -> None:
        """Count one that cannot be replayed."""
        self.rejected += 1
        if len(self.rejections) < EXAMPLES:
            self.rejections.append(Refused(entry, reason))

    def fail(self, entry: Listed, reason: str) -> None:
        """Count one that the server did not manage."""
        self.failed += 1
        if len(self.failures) < EXAMPLES:
            self.failures.append(Refused(entry, reason))

    def leave_out(self, damaged: Sequence[str]) -> None:
        """Count what cannot be read."""
        self.damaged += len(damaged)
        self.damage += damaged[: EXAMPLES - len(self.damage)]
