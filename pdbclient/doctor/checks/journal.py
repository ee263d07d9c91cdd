"""The journal: whether it can be used, what waits in it, what servers rejected. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.doctor.checks.host import unwritable
from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import Facts, Finding

__all__ = ["check_journal"]

WAITING = 600.0
NEAR = 0.9


def check_journal(facts: Facts) -> Iterator[Finding]:
    """As the gateway's user finds it."""
    journal = facts.service.journal
    if journal is None:
        return
    if journal.error is not None:
        yield found("journal-unusable", journal.place, journal.error)
        return
    if journal.missing:
        # Where it cannot be made, that is told already.
        if any(problem.setting == "journal" for problem in facts.service.errors):
            return
        if any(unwritable(facts, disk) for disk in facts.service.disks):
            return
        yield well("journal", journal.place, "it is not there yet: the gateway makes it when it starts")
        return
    pending = sum(journal.pending.values())
    by_server = ", ".join(f"{n} for {server or 'any server'}" for server, n in sorted(journal.pending.items()))
    if pending and (journal.oldest_pending or 0.0) > WAITING:
        what = f"{by_server}; the oldest has waited for {(journal.oldest_pending or 0.0) / 60:.0f} min"
        yield found("journal-undelivered", journal.place, what)
    else:
        yield well("journal", journal.place, f"{pending} commands wait for a server, {journal.bytes} bytes are kept")
    if journal.parked:
        yield found("journal-parked", journal.place, f"{journal.parked} commands were rejected")
    if journal.max_bytes and journal.bytes > NEAR * journal.max_bytes:
        what = f"it holds {journal.bytes} bytes of the {journal.max_bytes} that journal_max_bytes allows"
        yield found("journal-near-its-bound", journal.place, what)
