"""What is pending, for whom, and how it ends. Every function is part of one transaction of `Journal`.

A delivery (an entry for one target) waits until it is due, or is under way: then it has an `owner`, and is nobody
else's until the owner says how it ended, or the time is over that the owner had for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate

from pdbclient.journal.ledger.entries import drop, pend, refresh_newest, renew_state
from pdbclient.journal.model import (
    ANY,
    BACKOFF_LIMIT,
    DEACTIVATION,
    LATE,
    REPLACED,
    Claim,
    Copy,
    CopyState,
    EntryState,
    backoff,
    lane,
)
from pdbclient.journal.store.database import Transaction

__all__ = [
    "ack",
    "claim",
    "compact",
    "confirm",
    "forget_owners",
    "reconfigure",
    "release",
    "retry_later",
]

LONGEST = 2 * BACKOFF_LIMIT
"""Seconds: what is due later than that was so by a clock that has since been set back."""

COMPACTED, COMPACTED_BYTES, COMPACTED_PENDING = 1000, 64 * 1024 * 1024, 50
"""Entries, bytes of them, and of those that are pending, that are dropped in one transaction: others wait for it."""

_REPLACED_NAMES = ", ".join(f"'{name}'" for name in REPLACED)
_REPLACED_LANES = ", ".join(str(lane(name)) for name in REPLACED)


def claim(tx: Transaction, target: str, limit: int, now: float, until: float, owner: str) -> list[Claim]:
    """Take at most `limit` entries pending for `target`, in the order of delivery, for `owner` alone before `until`.

    Of what is replaced, one of each node at a time: an older one waits while a newer one is under way, and so does a
    deactivation while a newer record is to be sent: PuppetDB may work off both at once (see `work.seen`). An entry
    that is neither acked nor released by `until`, because its process died, is for others again. Times are in seconds
    since 1970.
    """
    found = tx.rows(
        "SELECT entry, tries FROM deliveries WHERE target = :target AND (due <= :now OR due > :never)"
        f" AND (lane NOT IN ({_REPLACED_LANES}) OR NOT EXISTS (SELECT 1 FROM entries AS own JOIN entries AS other"
        # The state stands in the text: only then is the partial index used, and not the node's whole history read.
        "  ON other.certname = own.certname AND other.name = own.name AND other.state = 'pending'"
        "  JOIN deliveries AS going ON going.entry = other.id AND going.target = :target"
        "  WHERE own.id = deliveries.entry AND going.owner <> '' AND going.due > :now AND going.due <= :never))"
        f" AND (lane <> {lane(DEACTIVATION)} OR NOT EXISTS (SELECT 1 FROM entries AS own JOIN entries AS other"
        f"  ON other.certname = own.certname AND other.name IN ({_REPLACED_NAMES}) AND other.state = 'pending'"
        "  AND other.producer_timestamp > own.producer_timestamp"
        "  JOIN deliveries AS soon ON soon.entry = other.id AND soon.target = :target"
        "  WHERE own.id = deliveries.entry AND own.name = :dead"
        "  AND (soon.owner <> '' OR soon.due <= :now OR soon.due > :never)))"
        f" ORDER BY lane, rank LIMIT :limit{tx.skip_locked}",
        target=target,
        now=now,
        never=now + max(LONGEST, 2 * (until - now)),
        dead=DEACTIVATION,
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
    tx.execute(
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
    tx.execute("UPDATE deliveries SET due = 0, owner = '' WHERE due > 0 OR owner <> ''")


def retry_later(tx: Transaction, entry: int, target: str, now: float, owner: str) -> None:
    """An attempt of `owner` to deliver it to `target` failed, maybe by its own fault: later with every attempt."""
    for (tries,) in tx.rows(
        "SELECT tries FROM deliveries WHERE entry = :entry AND target = :target", entry=entry, target=target
    ):
        tx.execute(
            "UPDATE deliveries SET due = :due, owner = ''"
            " WHERE entry = :entry AND target = :target AND owner = :owner",
            due=now + backoff(tries),
            entry=entry,
            target=target,
            owner=owner,
        )


def release(tx: Transaction, entry: int, due: float, owner: str, target: str | None = None) -> bool:
    """Give back what `owner` has of it, for `target` or for all, from `due` on, as if nobody had tried.

    True when it is pending. What another one has claimed since is left to that one.
    """
    still = tx.rows("SELECT target, tries FROM deliveries WHERE entry = :entry", entry=entry)
    for each, tries in still:
        if target in (None, each):
            tx.execute(
                "UPDATE deliveries SET due = :due, owner = '', tries = :tries"
                " WHERE entry = :entry AND target = :target AND owner = :owner",
                due=due,
                tries=max(tries - 1, 0),
                entry=entry,
                target=each,
                owner=owner,
            )
    return bool(still)


def ack(tx: Transaction, entry: int, copies: Sequence[Copy]) -> EntryState | None:
    """Note what servers said to an entry: it is not pending for them any more, and what it replaces waits.

    The entry's state then; None when it is not there any more.
    """
    # Locked: of two processes that settle it for two servers, the second must see what the first one noted.
    sql = f"SELECT name, certname, producer_timestamp, state, void FROM entries WHERE id = :entry{tx.locked}"
    about = tx.rows(sql, entry=entry)
    if not about:
        return None
    name, certname, stamp, before, void = about[0]
    for copy in copies:
        _note(tx, entry, copy)
        # Where any server may take it, the verdict of one stands.
        _no_longer_pending(tx, entry, copy.server)
        if name in REPLACED and copy.state is CopyState.ACCEPTED and not void:
            _let_wait(tx, copy, name, certname, stamp)
    state = renew_state(tx, entry)
    # What one server called bad and another one then took counts again.
    if EntryState.PARKED in (before, state):
        refresh_newest(tx, certname, name)
    return state


def confirm(tx: Transaction, server: str, held: Collection[int], at: float) -> None:
    """Note that `server` was seen to hold these entries, or something newer: they are not pending for it any more.

    `at` is in seconds since 1970.
    """
    ids = tx.several(list(held))
    # Locked, and one that was pruned meanwhile must not leave a copy behind.
    found = tx.rows(f"SELECT id, state FROM entries WHERE id {tx.among('ids')} ORDER BY id{tx.locked}", ids=ids)
    copy = Copy(server, CopyState.CONFIRMED, at=at)
    for entry, state in found:
        if state == EntryState.DELIVERED:
            _note(tx, entry, copy)
        else:
            ack(tx, entry, [copy])


def compact(tx: Transaction, shown: Sequence[int], after: int, writer: str) -> int | None:
    """Drop what is replaced by these entries, which some server shows, of ids above `after`: nobody will need it.

    Older ones of the same kind, and older deactivations of their nodes: those are alive. But one that a server took
    stays until the node's next catalog: who lacks the facts that came after it, hides the node (see `exported_sql`).

    Whoever it was pending for gets the newer one instead. Not all at once, as others wait: the id to go on after;
    None when that was all.
    """
    rows = tx.rows(
        "SELECT older.id, shown.id, shown.name, older.state, older.size FROM entries AS shown JOIN entries AS older"
        " ON older.certname = shown.certname"
        " AND (older.name = shown.name OR older.name = :dead AND (shown.name = 'replace catalog' OR NOT EXISTS"
        "  (SELECT 1 FROM copies AS c WHERE c.entry = older.id AND c.state <> 'rejected')))"
        " AND (older.producer_timestamp < shown.producer_timestamp OR older.name = shown.name"
        "  AND older.producer_timestamp = shown.producer_timestamp AND older.id < shown.id)"
        f" WHERE shown.id {tx.among('ids')} AND shown.name IN ({_REPLACED_NAMES}) AND shown.void = 0"
        f" AND older.state <> 'parked' AND older.id > :after ORDER BY older.id LIMIT :limit{tx.locked}",
        ids=tx.several(shown),
        after=after,
        dead=DEACTIVATION,
        limit=COMPACTED,
    )
    kept = set()
    sums = accumulate(size for *_, size in rows)
    pending = accumulate(state == EntryState.PENDING for *_, state, _ in rows)
    small = zip(sums, pending, strict=True)
    few = rows[: max(sum(size <= COMPACTED_BYTES and n <= COMPACTED_PENDING for size, n in small), 1)]
    for older, entry, name, state, _ in few:
        if state == EntryState.PENDING and not _handed_over(tx, older, entry, name):
            kept.add(older)
    drop(tx, sorted({older for older, *_ in few} - kept), writer)
    return few[-1][0] if len(few) < len(rows) or len(rows) == COMPACTED else None


def _handed_over(tx: Transaction, older: int, entry: int, name: str) -> bool:
    """Whether each server that `older` is pending for shows `entry`, or gets it.

    Not where that was called bad, nor where it was taken and does not show yet: it may be discarded.
    """
    sql = "SELECT target, due FROM deliveries WHERE entry = :entry AND target <> :any ORDER BY target"
    waiting = dict(tx.rows(sql, entry=older, any=ANY))
    states = dict(tx.rows("SELECT server, state FROM copies WHERE entry = :entry", entry=entry)) if waiting else {}
    if any(states.get(target, CopyState.CONFIRMED) != CopyState.CONFIRMED for target in waiting):
        return False
    pending = {target for (target,) in tx.rows("SELECT target FROM deliveries WHERE entry = :entry", entry=entry)}
    for target in waiting.keys() - states.keys() - pending:
        pend(tx, entry, name, target, waiting[target], "")
        renew_state(tx, entry)
    return True


def reconfigure(
    tx: Transaction, targets: Sequence[str], servers: Collection[str], limit: int, now: float
) -> dict[str, int]:
    """Turn what is pending for targets that are not served any more into what a new entry would be pending for.

    `targets` are those of a new entry, `servers` the URLs of all that are configured. At most `limit` deliveries; how
    many there were, by target: none when all is done. Nothing is pending any more where all that are meant have it.
    """
    served = {*targets, *servers}
    known = [target for (target,) in tx.rows(_TARGETS)]
    moved: dict[str, int] = {}
    for target in known:
        if target in served:
            continue
        left = limit - sum(moved.values())
        sql = f"SELECT entry FROM deliveries WHERE target = :target ORDER BY lane, rank LIMIT :limit{tx.skip_locked}"
        gone = [entry for (entry,) in tx.rows(sql, target=target, limit=left)] if left else []
        for entry in gone:
            _retarget(tx, entry, target, targets, servers, now)
        if gone:
            moved[target] = len(gone)
    return moved


_TARGETS = """
WITH RECURSIVE known (target) AS (
    SELECT (SELECT min(target) FROM deliveries)
    UNION ALL
    SELECT (SELECT min(target) FROM deliveries WHERE deliveries.target > known.target) FROM known
    WHERE known.target IS NOT NULL
)
SELECT target FROM known WHERE target IS NOT NULL
"""
"""Each target once, without reading all deliveries."""


def _retarget(
    tx: Transaction, entry: int, gone: str, targets: Sequence[str], servers: Collection[str], now: float
) -> None:
    about = tx.rows(f"SELECT name, certname FROM entries WHERE id = :entry{tx.locked}", entry=entry)
    tx.execute("DELETE FROM deliveries WHERE entry = :entry AND target = :gone", entry=entry, gone=gone)
    for name, certname in about:
        rows = tx.rows("SELECT server, state FROM copies WHERE entry = :entry", entry=entry)
        # What only a server has that is not configured any more, nobody has.
        states = {server: state for server, state in rows if server in servers}
        had = not {CopyState.ACCEPTED.value, CopyState.CONFIRMED.value}.isdisjoint(states.values())
        pending = {target for (target,) in tx.rows("SELECT target FROM deliveries WHERE entry = :entry", entry=entry)}
        for target in targets:
            # Any server will do: one that has it is enough.
            if target not in pending and target not in states and not (target == ANY and (had or pending)):
                pend(tx, entry, name, target, now, "")
        renew_state(tx, entry)
        refresh_newest(tx, certname, name)


def _note(tx: Transaction, entry: int, copy: Copy) -> None:
    tx.execute(
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


def _no_longer_pending(tx: Transaction, entry: int, server: str) -> None:
    sql = "DELETE FROM deliveries WHERE entry = :entry AND target IN (:any, :server)"
    tx.execute(sql, entry=entry, any=ANY, server=server)


def _let_wait(tx: Transaction, by: Copy, name: str, certname: str, stamp: str) -> None:
    """What is older waits until the newer one should show: PuppetDB may yet discard what it took."""
    tx.execute(
        # Not again and again, at each newer one: it would never be tried.
        "UPDATE deliveries SET due = :due WHERE target IN (:any, :server) AND owner = '' AND due <= :now AND entry IN"
        # The state stands in the text: only then is the partial index used, and not the node's whole history read.
        " (SELECT id FROM entries WHERE certname = :certname AND name IN (:name, :dead)"
        " AND producer_timestamp < :stamp"
        " AND state = 'pending')",
        due=by.at + LATE,
        now=by.at,
        any=ANY,
        server=by.server,
        certname=certname,
        name=name,
        dead=DEACTIVATION,
        stamp=stamp,
    )
