"""What is still owed, and how a debt ends. Every function is part of one transaction of `Journal`."""

from __future__ import annotations

from collections.abc import Sequence

from pdbclient.journal.database import Transaction
from pdbclient.journal.entries import refresh_newest
from pdbclient.journal.model import (
    ANY,
    BACKOFF_LIMIT,
    REPLACED,
    Claim,
    Copy,
    CopyState,
    EntryState,
    backoff,
    state_after,
)

__all__ = ["claim", "forget_claims", "put_off", "settle"]

LONGEST = 2 * BACKOFF_LIMIT
"""Seconds: what is due later than that was so by a clock that has since been set back."""


def claim(tx: Transaction, target: str, limit: int, now: float, until: float) -> list[Claim]:
    """Take at most `limit` entries owed to `target`, in the order of delivery; nobody else gets them before `until`.

    An entry that is not settled or put off by then, because its process died, is for others again. Times are in
    seconds since 1970.
    """
    found = tx.rows(
        "SELECT entry, tries FROM owed WHERE target = :target AND (due <= :now OR due > :never)"
        f" ORDER BY lane, rank LIMIT :limit{tx.skip_locked}",
        target=target,
        now=now,
        never=now + LONGEST,
        limit=limit,
    )
    tx.rows(
        f"UPDATE owed SET due = :until, tries = tries + 1 WHERE target = :target AND entry {tx.among('ids')}",
        until=until,
        target=target,
        ids=tx.several([entry for entry, _ in found]),
    )
    return [Claim(entry, target, tries) for entry, tries in found]


def forget_claims(tx: Transaction) -> None:
    """Make everything due now: for a journal with one process, whose predecessor is dead."""
    tx.rows("UPDATE owed SET due = 0 WHERE due > 0")


def put_off(tx: Transaction, entry: int, now: float, *, target: str | None = None, counted: bool = True) -> bool:
    """An attempt to deliver it, to `target` or to all it is owed to, failed: owed again, later with every attempt.

    Not `counted`: owed at once, it was no fault of the entry's. True when it is owed to anybody.
    """
    owed = tx.rows("SELECT target, tries FROM owed WHERE entry = :entry", entry=entry)
    for each, tries in owed:
        if target in (None, each):
            tx.rows(
                "UPDATE owed SET due = :due WHERE entry = :entry AND target = :target",
                due=now + backoff(tries) if counted else now,
                entry=entry,
                target=each,
            )
    return bool(owed)


def settle(tx: Transaction, entry: int, copies: Sequence[Copy]) -> EntryState | None:
    """Note what servers said to an entry: it is not owed to them any more. What it replaces is not, either.

    The entry's state then; None when it is not there any more.
    """
    # Locked: of two processes that settle it for two servers, the second must see what the first one noted.
    sql = f"SELECT name, certname, producer_timestamp, state FROM entries WHERE id = :entry{tx.locked}"
    about = tx.rows(sql, entry=entry)
    if not about:
        return None
    name, certname, stamp, before = about[0]
    for copy in copies:
        _note(tx, entry, copy)
        # Where any server may take it, the verdict of one stands.
        _no_longer_owed(tx, entry, copy.server)
        if name in REPLACED and copy.state in (CopyState.ACCEPTED, CopyState.CONFIRMED):
            _supersede(tx, copy, name, certname, stamp)
    state = _renew_state(tx, entry)
    # What one server called bad and another one then took counts again.
    if EntryState.PARKED in (before, state):
        refresh_newest(tx, certname, name)
    return state


def _note(tx: Transaction, entry: int, copy: Copy) -> None:
    tx.rows(
        "INSERT INTO copies (entry, server, state, uuid, at, reason)"
        " VALUES (:entry, :server, :state, :uuid, :at, :reason)"
        " ON CONFLICT (entry, server) DO UPDATE SET state = excluded.state,"
        " uuid = coalesce(excluded.uuid, copies.uuid), at = excluded.at, reason = excluded.reason",
        entry=entry,
        server=copy.server,
        state=copy.state.value,
        uuid=copy.uuid and _storable(copy.uuid),
        at=copy.at,
        reason=_storable(copy.reason),
    )


def _storable(text: str) -> str:
    """What a server said, as both databases can hold it."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _no_longer_owed(tx: Transaction, entry: int, server: str) -> bool:
    """Whether it was."""
    sql = "DELETE FROM owed WHERE entry = :entry AND target IN (:any, :server) RETURNING entry"
    return bool(tx.rows(sql, entry=entry, any=ANY, server=server))


def _supersede(tx: Transaction, by: Copy, name: str, certname: str, stamp: str) -> None:
    older = tx.rows(
        # The state stands in the text: only then is the partial index used, and not the node's whole history read.
        "SELECT id FROM entries WHERE certname = :certname AND name = :name AND producer_timestamp < :stamp"
        " AND state = 'pending' AND EXISTS"
        " (SELECT 1 FROM owed WHERE owed.entry = entries.id AND target IN (:any, :server))"
        f" ORDER BY id DESC{tx.locked}",
        certname=certname,
        name=name,
        stamp=stamp,
        any=ANY,
        server=by.server,
    )
    for (entry,) in older:
        if _no_longer_owed(tx, entry, by.server):
            _note(tx, entry, Copy(by.server, CopyState.SUPERSEDED, at=by.at))
            _renew_state(tx, entry)


def _renew_state(tx: Transaction, entry: int) -> EntryState:
    owed = bool(tx.rows("SELECT 1 FROM owed WHERE entry = :entry LIMIT 1", entry=entry))
    copies = [CopyState(state) for (state,) in tx.rows("SELECT state FROM copies WHERE entry = :entry", entry=entry)]
    state = state_after(owed, copies)
    tx.rows("UPDATE entries SET state = :state WHERE id = :entry", state=state.value, entry=entry)
    return state
