"""What each side holds, by summary queries: streamed, and kept as small tuples.

Both sides are asked the same question through the same path, for the servers' defaults hide inactive nodes in
one place and plan reports in another. Every listing is complete or an error: half of one would look like mass
absence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pdbclient.sync.inventory.groups import RANGES, Groups
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.inventory.rows import CHUNK, batches, both_sides, read_rows
from pdbclient.sync.policy.model import Version
from pdbclient.wire import query

__all__ = ["Records", "differing_records", "found_versions", "list_records"]


class Records(NamedTuple):
    """How many records a server has of a kind, and the version of each by its key.

    `unusable`: those of which it shows something that is no such record, and why.
    """

    total: int
    versions: dict[str, Version]
    unusable: dict[str, str]


def list_records(server: Server, kind: Kind, within: float) -> Records:
    """Each node's record of a kind in `kinds.PER_NODE`, whatever the node's state."""
    return _records(server, kind, _rows(server, kind, _listings(kind, None, ()), within))


def differing_records(
    there: Server, here: Server, kind: Kind, within: float, groups: Groups | None = None, keys: Sequence[str] = ()
) -> tuple[Records, Records]:
    """What `list_records` gives of both sides, without what both list in the same words.

    That is almost all, and decoding it would be the most of a pass's cost on this machine. With `groups`, only what
    is in those is listed, and what the servers have of `keys`.
    """
    listings = _listings(kind, groups, keys)
    theirs, ours = both_sides(there, here, lambda server: _rows(server, kind, listings, within))
    both = theirs & ours
    remote, local = _records(there, kind, theirs - both), _records(here, kind, ours - both)
    whole = both if groups is None else None
    totals = (len(theirs), len(ours)) if groups is None else (groups.there, groups.here)
    return (
        Records(totals[0], remote.versions | _other(there, kind, whole, local, remote, within), remote.unusable),
        Records(totals[1], local.versions | _other(here, kind, whole, remote, local, within), local.unusable),
    )


def _listings(kind: Kind, groups: Groups | None, keys: Sequence[str]) -> list[query.Ast]:
    assert kind.listing is not None, f"{kind.entity} are too many to list"
    if groups is None:
        return [kind.listing]
    return [
        *(query.in_ranges(kind.listing, ranges) for ranges in batches(groups.ranges, RANGES)),
        *(kind.summaries(chunk) for chunk in batches(keys, CHUNK)),
    ]


def _other(
    server: Server, kind: Kind, both: Collection[bytes] | None, other: Records, own: Records, within: float
) -> dict[str, Version]:
    """What `server` has of what only the other one seems to have: before 8.8, a node can have two catalogs; and its
    own may be in another group. `both` is what both have of all, None when not all was listed.
    """
    alone = [key for key in other.versions if key not in own.versions and key not in own.unusable]
    if both is not None and len(alone) > CHUNK:
        known = _records(server, kind, both).versions
        return {key: known[key] for key in alone if key in known}
    if both is not None and not both:
        return {}
    found: dict[str, Version] = {}
    for chunk in batches(alone, CHUNK):
        found |= found_versions(server, kind, chunk, within)
    return found


def found_versions(server: Server, kind: Kind, keys: Sequence[str], within: float) -> dict[str, Version]:
    """What the server has of `keys`, as far as that can be used."""
    return _records(server, kind, _rows(server, kind, [kind.summaries(keys)], within)).versions


def _rows(server: Server, kind: Kind, listings: Sequence[query.Ast], within: float) -> set[bytes]:
    params = kind.params or None
    return {row for ast in listings for row in server.rows(kind.path, query=ast, params=params, within=within)}


def _records(server: Server, kind: Kind, rows: Collection[bytes]) -> Records:
    versions: dict[str, Version] = {}
    unusable: dict[str, str] = {}
    for found in read_rows(server, rows, kind.read, unusable):
        # Servers before 8.8 can hold two catalogs of one node; the newer is the one.
        old = versions.get(found.key)
        versions[found.key] = found.version if old is None else max(old, found.version)
    return Records(len(rows), versions, unusable)
