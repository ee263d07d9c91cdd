"""What each side holds, by summary queries: streamed, and kept as small tuples.

Both sides are asked the same question through the same path, for the servers' defaults hide inactive nodes in
one place and plan reports in another. Every listing is complete or an error: half of one would look like mass
absence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import msgspec

from pdbclient.errors import IncompleteResponse
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.policy.model import Liveness, NodeStatus, Version
from pdbclient.sync.policy.report_hours import HOUR
from pdbclient.wire import query
from pdbclient.wire.summary import HourBucket, NodeSummary, from_millis, to_millis

__all__ = [
    "CHUNK",
    "Records",
    "batches",
    "both_sides",
    "counted_hours",
    "differing_records",
    "found_versions",
    "list_hours",
    "list_nodes",
    "list_records",
    "newest_records",
    "read_rows",
    "upto",
]

CHUNK = 500
"""Keys in one query."""

T = TypeVar("T")

_ACTIVE = NodeStatus(Liveness.ACTIVE)
_anything = msgspec.json.Decoder().decode
_node = msgspec.json.Decoder(NodeSummary).decode
_bucket = msgspec.json.Decoder(HourBucket).decode


class _Newest(msgspec.Struct):
    certname: str
    max: str


class _Count(msgspec.Struct):
    count: int


_count = msgspec.json.Decoder(_Count).decode
_newest = msgspec.json.Decoder(_Newest).decode


class Records(NamedTuple):
    """How many records a server has of a kind, and the version of each by its key.

    `unusable`: those of which it shows something that is no such record, and why.
    """

    total: int
    versions: dict[str, Version]
    unusable: dict[str, str]


def batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`keys` in runs of at most `size`."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def both_sides(there: Server, here: Server, ask: Callable[[Server], T]) -> tuple[T, T]:
    """`ask` of both servers at the same time: the remote's answer, then the local one's."""
    with ThreadPoolExecutor(2, thread_name_prefix="sync-inventory") as pool:
        remote, local = pool.submit(ask, there), pool.submit(ask, here)
        return remote.result(), local.result()


def read_rows(
    server: Server,
    rows: Iterable[bytes],
    read: Callable[[bytes], T],
    unusable: dict[str, str] | None = None,
    key: str = "certname",
) -> Iterator[T]:
    """The rows, decoded. One that is not what was asked for is left out, and noted in `unusable` by what it has as
    `key`.

    Raises `IncompleteResponse` for one without a key, or when nothing may be left out (None).
    """
    for seen, row in enumerate(rows):
        try:
            yield read(row)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            name = None if unusable is None else _text(row, key)
            if unusable is None or name is None:
                raise IncompleteResponse(str(server.endpoint), f"an unusable row: {error}", seen) from error
            unusable[name] = str(error)


def _text(row: bytes, key: str) -> str | None:
    """A text of a row of which nothing else can be used."""
    try:
        found = _anything(row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    text = found.get(key) if isinstance(found, dict) else None
    return text if isinstance(text, str) else None


def list_nodes(server: Server, gone_before: int, within: float) -> tuple[dict[str, NodeStatus], dict[str, str]]:
    """All nodes; and those of which the server shows no usable status, and why: they count as inactive.

    One that died before `gone_before` (ms) and that the server does not count as inactive any more waits there to be
    purged.

    Both, because a server with node-purge-ttl 0, which never purges, counts no node as inactive at all. So it
    is asked for its inactive nodes only when one died as long ago as that.
    """

    def ask(state: str) -> Iterator[NodeSummary]:
        rows = server.rows("/nodes", query=query.nodes_summary(state), within=within)
        return read_rows(server, rows, _node, unusable)

    unusable: dict[str, str] = {}
    nodes: dict[str, NodeStatus] = {}
    long_dead: dict[str, NodeStatus] = {}
    for node in ask("any"):
        certname = node.certname or ""
        if node.deactivated is None and node.expired is None:
            nodes[certname] = _ACTIVE
            continue
        try:
            deactivated, expired = _millis(node.deactivated), _millis(node.expired)
        except ValueError as error:
            unusable[certname] = str(error)
            continue
        nodes[certname] = NodeStatus(Liveness.INACTIVE, deactivated, expired)
        if max(deactivated or 0, expired or 0) < gone_before:
            long_dead[certname] = NodeStatus(Liveness.GONE, deactivated, expired)
    if long_dead:
        kept = {node.certname or "" for node in ask("inactive")}
        nodes |= {certname: status for certname, status in long_dead.items() if certname not in kept}
    return nodes | dict.fromkeys(unusable, NodeStatus(Liveness.INACTIVE)), unusable


def list_records(server: Server, kind: Kind, within: float) -> Records:
    """Each node's record of a kind in `kinds.PER_NODE`, whatever the node's state."""
    return _records(server, kind, set(_rows(server, kind, kind.listing, within)))


def differing_records(there: Server, here: Server, kind: Kind, within: float) -> tuple[Records, Records]:
    """What `list_records` gives of both sides, without what both list in the same words.

    That is almost all, and decoding it would be the most of a pass's cost on this machine.
    """
    theirs, ours = both_sides(there, here, lambda server: set(_rows(server, kind, kind.listing, within)))
    both = theirs & ours
    remote, local = _records(there, kind, theirs - both), _records(here, kind, ours - both)
    return (
        Records(len(theirs), remote.versions | _double(there, kind, both, local, remote, within), remote.unusable),
        Records(len(ours), local.versions | _double(here, kind, both, remote, local, within), local.unusable),
    )


def _double(
    server: Server, kind: Kind, both: Collection[bytes], other: Records, own: Records, within: float
) -> dict[str, Version]:
    """What `server` has of what only the other one seems to have: before 8.8, a node can have two catalogs."""
    alone = [key for key in other.versions if key not in own.versions and key not in own.unusable]
    if not alone or not both:
        return {}
    if len(alone) <= CHUNK:
        return found_versions(server, kind, alone, within)
    known = _records(server, kind, both).versions
    return {key: known[key] for key in alone if key in known}


def list_hours(server: Server, start: int, end: int | None, within: float) -> dict[int, HourBucket]:
    """The hours with reports, by their start; all times in ms, `end` None: without end."""
    ast = query.report_hour_buckets(from_millis(start), upto(end))
    rows = server.rows("/reports", query=ast, within=within)
    buckets = read_rows(server, rows, lambda row: ((bucket := _bucket(row)).start, bucket))
    return dict(buckets)


def counted_hours(
    server: Server, start: int, remembered: Mapping[int, HourBucket], within: float
) -> dict[int, HourBucket]:
    """As `list_hours`, without end. Where the server has as many reports as in the `remembered` hours, those are not
    asked for one by one: that costs it ten times as much as their number.
    """
    if remembered:
        end = max(remembered) + HOUR
        rows = server.rows("/reports", query=query.report_count(from_millis(start), from_millis(end)), within=within)
        found = sum(read_rows(server, rows, lambda row: _count(row).count))
        if found == sum(bucket.count for bucket in remembered.values()):
            return {**remembered, **list_hours(server, end, None, within)}
    return list_hours(server, start, None, within)


def upto(end: int | None) -> str | None:
    """The end of a range (ms) as a query has it."""
    return None if end is None else from_millis(end)


def found_versions(server: Server, kind: Kind, keys: Sequence[str], within: float) -> dict[str, Version]:
    """What the server has of `keys`, as far as that can be used."""
    return _records(server, kind, set(_rows(server, kind, kind.summaries(keys), within))).versions


def newest_records(
    server: Server, certnames: Sequence[str], within: float, latest: int | None = None
) -> dict[str, int]:
    """The newest producer timestamp (ms) of any record of these nodes, but for those after `latest`."""
    until = [] if latest is None else [["<", "producer_timestamp", from_millis(latest + 1)]]
    newest: dict[str, int] = {}
    for chunk in batches(certnames, CHUNK):
        for entity in ("factsets", "catalogs", "reports"):
            ast: list[Any] = [
                "extract",
                ["certname", ["function", "max", "producer_timestamp"]],
                [*query.by_certnames(entity, chunk), *until],
                ["group_by", "certname"],
            ]
            rows = server.rows(f"/{entity}", query=ast, within=within)
            for certname, millis in read_rows(server, rows, _read_newest):
                newest[certname] = max(millis, newest.get(certname, millis))
    return newest


def _rows(server: Server, kind: Kind, ast: list[Any] | None, within: float) -> Iterator[bytes]:
    assert ast is not None, f"{kind.entity} are too many to list"
    params = kind.summary_params or None
    return server.rows(kind.path, query=ast, params=params, within=within)


def _records(server: Server, kind: Kind, rows: Collection[bytes]) -> Records:
    versions: dict[str, Version] = {}
    unusable: dict[str, str] = {}
    for found in read_rows(server, rows, kind.read, unusable):
        # Servers before 8.8 can hold two catalogs of one node; the newer is the one.
        old = versions.get(found.key)
        versions[found.key] = found.version if old is None else max(old, found.version)
    return Records(len(rows), versions, unusable)


def _read_newest(row: bytes) -> tuple[str, int]:
    found = _newest(row)
    return found.certname, to_millis(found.max)


def _millis(text: str | None) -> int | None:
    return None if text is None else to_millis(text)
