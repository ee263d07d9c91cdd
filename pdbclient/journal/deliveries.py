"""What is pending, for whom, and how it ends. Every function is part of one transaction of `Journal`.

A delivery (an entry for one target) waits until it is due, or is under way: then it has an `owner`, and is nobody
else's until the owner says how it ended, or the time is over that the owner had for it.
"""

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
    lane,
    state_after,
)

__all__ = ["ack", "claim", "forget_owners", "release", "retry_later"]

LONGEST = 2 * BACKOFF_LIMIT
"""Seconds: what is due later than that was so by a clock that has since been set back."""

_REPLACED_LANES = ", ".join(str(lane(name)) for name in REPLACED)


def claim(tx: Transaction, target: str, limit: int, now: float, until: float, owner: str) -> list[Claim]:
    """Take at most `limit` entries pending for `target`, in the order of delivery, for `owner` alone before `until`.

    Of what is replaced, one of each node at a time: an older one waits while a newer one is under way. An entry that
    is neither acked nor released by `until`, because its process died, is for others again. Times are in seconds
    since 1970.
    """
    found = tx.rows(
        "SELECT entry, tries FROM deliveries WHERE target = :target AND (due <= :now OR due > :never)"
        f" AND (lane NOT IN ({_REPLACED_LANES}) OR NOT EXISTS (SELECT 1 FROM entries AS own JOIN entries AS other"
        # The state stands in the text: only then is the partial index used, and not the node's whole history read.
        "  ON other.certname = own.certname AND other.name = own.name AND other.state = 'pending'"
        "  JOIN deliveries AS going ON going.entry = other.id AND going.target = :target"
        "  WHERE own.id = deliveries.entry AND going.owner <> '' AND going.due > :now AND going.due <= :never))"
        f" ORDER BY lane, rank LIMIT :limit{tx.skip_locked}",
        target=target,
        now=now,
        never=now + max(LONGEST, 2 * (until - now)),
        limit=limit,
    )
    about = tx.rows(
        f"SELECT id, name, certname FROM entries WHERE id {tx.among('ids')}",
        ids=tx.several([entry for entry, _ in found]),
    )
    of_node = {entry: (name, certname) if name in REPLACED else entry for entry, name, certname in about}
    first: dict[object, Claim] = {}
    for entry, tries in found:
        first.setdefault(of_node.get(entry, entry), Claim(entry, target, tries))
    claims = list(first.values())
    tx.rows(
        "UPDATE deliveries SET due = :until, tries = tries + 1, owner = :owner"
        f" WHERE target = :target AND entry {tx.among('ids')}",
        until=until,
        owner=owner,
        target=target,
        ids=tx.several([claim.entry for claim in claims]),
    )
    return claims


def forget_owners(tx: Transaction) -> None:
    """Make everything due now: for a journal with one process, whose predecessor is dead."""
    tx.rows("UPDATE deliveries SET due = 0, owner = '' WHERE due > 0 OR owner <> ''")


def retry_later(tx: Transaction, entry: int, target: str, now: float) -> None:
    """An attempt to deliver it to `target` failed, maybe by its own fault: later with every attempt."""
    for (tries,) in tx.rows(
        "SELECT tries FROM deliveries WHERE entry = :entry AND target = :target", entry=entry, target=target
    ):
        tx.rows(
            "UPDATE deliveries SET due = :due, owner = '' WHERE entry = :entry AND target = :target",
            due=now + backoff(tries),
            entry=entry,
            target=target,
        )


def release(tx: Transaction, entry: int, due: float, target: str | None = None) -> bool:
    """Give it back, for `target` or for all, from `due` on, as if nobody had tried. True when it is pending."""
    still = tx.rows("SELECT target, tries FROM deliveries WHERE entry = :entry", entry=entry)
    for each, tries in still:
        if target in (None, each):
            tx.rows(
                "UPDATE deliveries SET due = :due, owner = '', tries = :tries"
                " WHERE entry = :entry AND target = :target",
                due=due,
                tries=max(tries - 1, 0),
                entry=entry,
                target=each,
            )
    return bool(still)


def ack(tx: Transaction, entry: int, copies: Sequence[Copy]) -> EntryState | None:
    """Note what servers said to an entry: it is not pending for them any more. What it replaces is not, either.

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
        _no_longer_pending(tx, entry, copy.server)
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


def _no_longer_pending(tx: Transaction, entry: int, server: str) -> bool:
    """Whether it was."""
    sql = "DELETE FROM deliveries WHERE entry = :entry AND target IN (:any, :server) RETURNING entry"
    return bool(tx.rows(sql, entry=entry, any=ANY, server=server))


def _supersede(tx: Transaction, by: Copy, name: str, certname: str, stamp: str) -> None:
    older = tx.rows(
        # The state stands in the text: only then is the partial index used, and not the node's whole history read.
        "SELECT id FROM entries WHERE certname = :certname AND name = :name AND producer_timestamp < :stamp"
        " AND state = 'pending' AND EXISTS"
        " (SELECT 1 FROM deliveries WHERE deliveries.entry = entries.id AND target IN (:any, :server))"
        f" ORDER BY id DESC{tx.locked}",
        certname=certname,
        name=name,
        stamp=stamp,
        any=ANY,
        server=by.server,
    )
    for (entry,) in older:
        if _no_longer_pending(tx, entry, by.server):
            _note(tx, entry, Copy(by.server, CopyState.SUPERSEDED, at=by.at))
            _renew_state(tx, entry)


def _renew_state(tx: Transaction, entry: int) -> EntryState:
    pending = bool(tx.rows("SELECT 1 FROM deliveries WHERE entry = :entry LIMIT 1", entry=entry))
    copies = [CopyState(state) for (state,) in tx.rows("SELECT state FROM copies WHERE entry = :entry", entry=entry)]
    state = state_after(pending, copies)
    tx.rows("UPDATE entries SET state = :state WHERE id = :entry", state=state.value, entry=entry)
    return state
