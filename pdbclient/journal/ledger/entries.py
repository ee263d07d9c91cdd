"""Entries: put in, read, listed, tried again, dropped. Every function is part of one transaction of `Journal`."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pdbclient.journal.model import (
    ANY,
    DECIDING,
    REPLACED,
    Copy,
    CopyState,
    Counts,
    Entry,
    EntryState,
    Listed,
    is_moment,
    lane,
    state_after,
)
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.packing import Damaged, Packed, unpack
from pdbclient.wire.command import Command
from pdbclient.wire.timestamp import parse

__all__ = [
    "Stored",
    "append",
    "counts",
    "damage",
    "drop",
    "fetch",
    "listed",
    "listing",
    "pend",
    "refresh_newest",
    "retry",
    "show",
]

log = logging.getLogger("pdbclient.journal")

OLDEST = 20
"""Entries that may be the oldest one: some may be damaged."""

_LISTED = "id, uuid, received, state, name, version, certname, producer_timestamp, encoding, length, size, void"


def append(
    tx: Transaction, packed: Packed, targets: Sequence[str], now: float, until: float, owner: str, writer: str
) -> Entry:
    """Put a command in, pending for `targets`: under way by its `owner` `until` then (seconds since 1970).

    Raises `JournalFull`.
    """
    tx.require_room(len(packed.body))
    command, own = packed.command, _new_uuid(now)
    entry = tx.rows(
        "INSERT INTO entries (uuid, received, state, name, version, certname, producer_timestamp, encoding, length,"
        " packing, size, checksum, body, void) VALUES (:uuid, :now, 'pending', :name, :version, :certname, :stamp,"
        " :encoding, :length, :packing, :size, :checksum, :body, :void) RETURNING id",
        uuid=own,
        now=now,
        name=command.name,
        version=command.version,
        certname=command.certname,
        stamp=command.producer_timestamp,
        encoding=command.encoding,
        length=command.length,
        packing=packed.packing,
        size=len(packed.body),
        checksum=packed.checksum,
        body=packed.body,
        void=int(packed.void),
    )[0][0]
    for target in targets:
        pend(tx, entry, command.name, target, until, owner)
    if command.name != "store report" and not packed.void:
        tx.execute(
            "INSERT INTO newest (certname, name, producer_timestamp, entry) VALUES (:certname, :name, :stamp, :entry)"
            " ON CONFLICT (certname, name) DO UPDATE SET producer_timestamp = excluded.producer_timestamp,"
            " entry = excluded.entry WHERE excluded.producer_timestamp >= newest.producer_timestamp",
            certname=command.certname,
            name=command.name,
            stamp=command.producer_timestamp,
            entry=entry,
        )
    _resize(tx, writer, len(packed.body))
    return Entry(entry, own, now, EntryState.PENDING, command)


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it stands in the journal: to unpack it takes time, and memory, of whoever wants it."""

    row: tuple[Any, ...]
    packing: str
    checksum: bytes
    body: bytes

    def unpacked(self) -> Entry | Damaged:
        """The entry; `Damaged` when it is not what was written. When it was received counts for nothing here."""
        try:
            row = _listed(self.row)
            fields = (row.name, row.version, row.certname, row.producer_timestamp, b"", row.encoding, row.length)
            command = unpack(Command.ready(*fields), self.packing, self.body, self.checksum)
        except Damaged as error:
            return error
        return Entry(row.id, row.uuid, row.received, row.state, command)


def fetch(tx: Transaction, ids: Sequence[int]) -> dict[int, Stored]:
    """The entries with these ids that are still there."""
    sql = f"SELECT {_LISTED}, packing, checksum, body FROM entries WHERE id {tx.among('ids')}"
    return {row[0]: Stored(row[:-3], *row[-3:]) for row in tx.rows(sql, ids=tx.several(ids))}


def listing(
    tx: Transaction,
    *,
    state: EntryState | None = None,
    certname: str | None = None,
    since: float | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Listed]:
    """At most `limit` entries after the id `after`, oldest first; `since` in seconds since 1970.

    As in `listed`, without damaged ones; none: there are no more.
    """
    conditions = ["id > :after"]
    conditions += ["state = :state"] if state is not None else []
    conditions += ["certname = :certname"] if certname is not None else []
    conditions += ["received >= :since"] if since is not None else []
    # By the ids alone first: they are in the index, and the rows are long.
    ids = f"SELECT id FROM entries WHERE {' AND '.join(conditions)} ORDER BY id LIMIT :limit"
    sql = f"SELECT {_LISTED} FROM entries WHERE id IN ({ids}) ORDER BY id"
    while True:
        rows = tx.rows(sql, after=after, state=state and state.value, certname=certname, since=since, limit=limit)
        found = _undamaged(tx, rows)
        if found or len(rows) < limit:
            return found
        after = rows[-1][0]


def listed(tx: Transaction, ids: Sequence[int]) -> list[Listed]:
    """These entries without their bodies, as far as they are still there, in the order of their ids.

    Those are left out, and named in the log, of which something else than the body is damaged.
    """
    return _undamaged(tx, _rows(tx, ids))


def damage(tx: Transaction, ids: Sequence[int]) -> dict[int, str]:
    """What is damaged of these entries, beside their bodies: by their ids."""
    return {entry: str(error) for entry, error in _read(tx, _rows(tx, ids))[1].items()}


def show(tx: Transaction, id_or_uuid: str) -> Listed | None:
    """One entry, by its id, its own uuid, or a uuid that a server gave. Raises `Damaged`."""
    if id_or_uuid.isascii() and id_or_uuid.isdigit() and len(id_or_uuid) < 19:
        rows = tx.rows(f"SELECT {_LISTED} FROM entries WHERE id = :id", id=int(id_or_uuid))
    else:
        rows = tx.rows(f"SELECT {_LISTED} FROM entries WHERE uuid = :uuid", uuid=id_or_uuid) or tx.rows(
            f"SELECT {_LISTED} FROM entries WHERE id IN (SELECT entry FROM copies WHERE uuid = :uuid) LIMIT 1",
            uuid=id_or_uuid,
        )
    found, damaged = _read(tx, rows)
    for error in damaged.values():
        raise error
    return found[0] if found else None


def retry(tx: Transaction, entry: int, targets: Sequence[str], servers: Collection[str]) -> bool:
    """Deliver an entry again that servers rejected, as a new one for `targets`; False when there is no such entry.

    Servers that have it are left out, and those that are not configured (`servers` are the URLs of those that are).
    """
    rows = tx.rows(f"SELECT name, certname FROM entries WHERE id = :entry{tx.locked}", entry=entry)
    rejected = tx.rows("SELECT server FROM copies WHERE entry = :entry AND state = 'rejected'", entry=entry)
    if not rows or not rejected:
        return False
    name, certname = rows[0]
    tx.execute("DELETE FROM copies WHERE entry = :entry AND state = 'rejected'", entry=entry)
    had = {server for (server,) in tx.rows("SELECT server FROM copies WHERE entry = :entry", entry=entry)}
    had &= {*servers}
    pending = {target for (target,) in tx.rows("SELECT target FROM deliveries WHERE entry = :entry", entry=entry)}
    # Where any server will do, and one has it, those that did not take it are asked by name.
    wanted = [server for (server,) in rejected if server in servers] if had and ANY in targets else targets
    for target in wanted:
        if target not in had and target not in pending:
            pend(tx, entry, name, target, 0.0, "")
    renew_state(tx, entry)
    refresh_newest(tx, certname, name)
    return True


def drop(tx: Transaction, ids: Sequence[int], writer: str) -> int:
    """Take entries out for good; the number of them that were there."""
    several = tx.several(ids)
    among = tx.among("ids")
    gone = tx.rows(f"SELECT certname, name, size FROM entries WHERE id {among} ORDER BY id{tx.locked}", ids=several)
    latest = tx.rows(f"SELECT certname, name FROM newest WHERE entry {among}", ids=several)
    for table, column in (("deliveries", "entry"), ("copies", "entry"), ("entries", "id")):
        tx.execute(f"DELETE FROM {table} WHERE {column} {among}", ids=several)
    for certname, name in latest:
        refresh_newest(tx, certname, name)
    _resize(tx, writer, -sum(size for _, _, size in gone))
    return len(gone)


def refresh_newest(tx: Transaction, certname: str, name: str) -> None:
    """Find anew which entry of this command counts for a node: one that no server called bad.

    Where it decides, servers that were looked at up to a later one are looked at again from there.
    """
    if name == "store report":
        return
    values = {"certname": certname, "name": name}
    tx.execute("DELETE FROM newest WHERE certname = :certname AND name = :name", **values)
    tx.execute(
        "INSERT INTO newest (certname, name, producer_timestamp, entry)"
        " SELECT certname, name, producer_timestamp, id FROM entries"
        " WHERE certname = :certname AND name = :name AND state <> 'parked' AND void = 0"
        " ORDER BY producer_timestamp DESC, id DESC LIMIT 1"
        # Another process may just have put in the first one of this node.
        " ON CONFLICT (certname, name) DO UPDATE SET producer_timestamp = excluded.producer_timestamp,"
        " entry = excluded.entry WHERE excluded.producer_timestamp > newest.producer_timestamp",
        **values,
    )
    if name not in DECIDING:
        return
    tx.execute(
        "UPDATE replicas SET resets = resets + 1,"
        " after = CASE WHEN after < newest.entry THEN after ELSE newest.entry - 1 END"
        " FROM newest WHERE newest.certname = :certname AND newest.name = :name",
        **values,
    )


def renew_state(tx: Transaction, entry: int) -> EntryState:
    """Note what has become of an entry after its deliveries or copies changed: its state."""
    # In one question: a journal may be far away.
    found = tx.rows(
        "SELECT 'entry', state FROM entries WHERE id = :entry UNION ALL SELECT 'copy', state FROM copies"
        " WHERE entry = :entry UNION ALL SELECT 'pending', target FROM deliveries WHERE entry = :entry",
        entry=entry,
    )
    pending = any(kind == "pending" for kind, _ in found)
    copies = {state for kind, state in found if kind == "copy"}
    state = state_after(pending, copies.intersection(CopyState))
    if state is EntryState.PARKED and ("entry", EntryState.DELIVERED.value) in found:
        # A server had it, and lost it: that another one calls it bad is no reason to think so.
        return EntryState.DELIVERED
    tx.execute("UPDATE entries SET state = :state WHERE id = :entry", state=state.value, entry=entry)
    return state


def counts(tx: Transaction) -> Counts:
    """How much there is."""
    found = dict(tx.rows("SELECT state, count(*) FROM entries GROUP BY state"))
    # A damaged one is none of them.
    states = {state: found[state] for state in EntryState if state in found}
    pending = {target: n for target, n in tx.rows("SELECT target, count(*) FROM deliveries GROUP BY target")}
    size = tx.rows("SELECT coalesce(sum(bytes), 0) FROM sizes")[0][0]
    sql = f"SELECT {_LISTED} FROM entries WHERE state = 'pending' ORDER BY received LIMIT {OLDEST}"
    oldest = next((row[2] for row in tx.rows(sql) if _is_when_it_was_received(row)), None)
    return Counts(states, pending, int(size), oldest)


def pend(tx: Transaction, entry: int, name: str, target: str, due: float, owner: str) -> None:
    """Make an entry of the command `name` pending for `target`: due then; with an `owner`, under way until then."""
    tx.execute(
        "INSERT INTO deliveries (target, lane, rank, entry, due, tries, owner)"
        " VALUES (:target, :lane, :rank, :entry, :due, 0, :owner)",
        target=target,
        lane=lane(name),
        rank=-entry if name in REPLACED else entry,
        entry=entry,
        due=due,
        owner=owner,
    )


def _resize(tx: Transaction, writer: str, size: int) -> None:
    # A row for each connection: several of them would wait for each other's transactions at a common one.
    tx.execute(
        "INSERT INTO sizes (writer, bytes) VALUES (:writer, :size)"
        " ON CONFLICT (writer) DO UPDATE SET bytes = sizes.bytes + excluded.bytes",
        writer=writer + tx.part,
        size=size,
    )


def _listed(row: Iterable[Any]) -> Listed:
    number, own, received, state, *rest = row
    try:
        listed = Listed(number, own, received, EntryState(state), *rest)
        parse(listed.producer_timestamp)
    except (ValueError, TypeError) as error:
        raise Damaged(f"entry {number}: {error}") from error
    return listed


def _is_when_it_was_received(row: Sequence[Any]) -> bool:
    """Whether the time in a row is that of its uuid: the time is in no checksum."""
    _, own, received, *_ = row
    try:
        return is_moment(received) and _milliseconds(received) == int(own[:8] + own[9:13], 16)
    except ValueError:
        return False


def _milliseconds(at: float) -> int:
    return int(at * 1000) & (1 << 48) - 1


def _new_uuid(now: float) -> str:
    """A UUID that grows with the time (RFC 9562, version 7): an index of them grows at its end only."""
    value = _milliseconds(now) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def _rows(tx: Transaction, ids: Sequence[int]) -> list[tuple[Any, ...]]:
    return tx.rows(f"SELECT {_LISTED} FROM entries WHERE id {tx.among('ids')} ORDER BY id", ids=tx.several(ids))


def _undamaged(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[Listed]:
    found, damaged = _read(tx, rows)
    for error in damaged.values():
        _tell(str(error))
    return found


@lru_cache(1000)
def _tell(damage: str) -> None:
    """Once: these are read again and again."""
    log.error("damaged in the journal, and left out: %s; `pdbclient journal verify` names all that is", damage)


def _read(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> tuple[list[Listed], dict[int, Damaged]]:
    """Entries with their copies, and what is damaged of the others, by id."""
    found: dict[int, Listed] = {}
    copies: dict[int, list[Copy]] = {}
    damaged: dict[int, Damaged] = {}
    for row in rows:
        try:
            found[row[0]] = _listed(row)
            if not _is_when_it_was_received(row):
                damaged[row[0]] = Damaged(f"entry {row[0]}: its uuid is of another time than {row[2]!r}")
        except Damaged as error:
            damaged[row[0]] = error
    sql = (
        "SELECT entry, server, state, uuid, at, reason FROM copies"
        f" WHERE entry {tx.among('ids')} ORDER BY entry, server"
    )
    for entry, server, state, given, at, reason in tx.rows(sql, ids=tx.several(list(found))):
        try:
            copies.setdefault(entry, []).append(Copy(server, CopyState(state), given, at, reason))
            if not is_moment(at):
                raise ValueError(f"{at!r} is no time")
        except ValueError as error:
            damaged[entry] = Damaged(f"entry {entry}: at {server}: {error}")
    whole = [entry for entry in found.values() if entry.id not in damaged]
    return [replace(entry, copies=tuple(copies.get(entry.id, ()))) for entry in whole], damaged
