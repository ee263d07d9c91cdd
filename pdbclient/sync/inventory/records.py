"""What each side holds, by summary queries: streamed, and kept as small tuples.

Both sides are asked the same question through the same path, for the servers' defaults hide inactive nodes in
one place and plan reports in another. Every listing is complete or an error: half of one would look like mass
absence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import msgspec

from pdbclient.errors import IncompleteResponse
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import REPORTS, Kind, Summary
from pdbclient.sync.policy.model import Liveness, NodeStatus, Version
from pdbclient.sync.policy.plan import ReportRow
from pdbclient.wire import query
from pdbclient.wire.summary import HourBucket, NodeSummary, from_millis, to_millis

__all__ = [
    "CHUNK",
    "Records",
    "batches",
    "both_sides",
    "differing_records",
    "found_versions",
    "list_hours",
    "list_nodes",
    "list_records",
    "list_reports",
    "newest_records",
    "read_rows",
]

CHUNK = 500
"""Keys in one query."""

T = TypeVar("T")

_ACTIVE = NodeStatus(Liveness.ACTIVE)
_node = msgspec.json.Decoder(NodeSummary).decode
_bucket = msgspec.json.Decoder(HourBucket).decode


class _Newest(msgspec.Struct):
    certname: str
    max: str


_newest = msgspec.json.Decoder(_Newest).decode


class Records(NamedTuple):
    """How many records a server has of a kind, and the version of each by its key."""

    total: int
    versions: Mapping[str, Version]


def batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`keys` in runs of at most `size`."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def both_sides(there: Server, here: Server, ask: Callable[[Server], T]) -> tuple[T, T]:
    """`ask` of both servers at the same time: the remote's answer, then the local one's."""
    with ThreadPoolExecutor(2, thread_name_prefix="sync-inventory") as pool:
        remote, local = pool.submit(ask, there), pool.submit(ask, here)
        return remote.result(), local.result()


def read_rows(server: Server, rows: Iterable[bytes], read: Callable[[bytes], T]) -> Iterator[T]:
    """The rows, decoded. Raises `IncompleteResponse` for one that is not what was asked for."""
    for seen, row in enumerate(rows):
        try:
            yield read(row)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise IncompleteResponse(str(server.endpoint), f"an unusable row: {error}", seen) from error


def list_nodes(server: Server, gone_before: int, within: float) -> dict[str, NodeStatus]:
    """All nodes. One that died before `gone_before` (ms) and that the server does not count as inactive any
    more waits there to be purged.

    Both, because a server with node-purge-ttl 0, which never purges, counts no node as inactive at all. So it
    is asked for its inactive nodes only when one died as long ago as that.
    """

    def ask(state: str) -> Iterator[NodeSummary]:
        rows = server.rows("/nodes", query=query.nodes_summary(state), within=within)
        return read_rows(server, rows, _node)

    nodes: dict[str, NodeStatus] = {}
    long_dead: dict[str, NodeStatus] = {}
    for node in ask("any"):
        certname = node.certname or ""
        if node.deactivated is None and node.expired is None:
            nodes[certname] = _ACTIVE
            continue
        deactivated, expired = _millis(node.deactivated), _millis(node.expired)
        nodes[certname] = NodeStatus(Liveness.INACTIVE, deactivated, expired)
        if max(deactivated or 0, expired or 0) < gone_before:
            long_dead[certname] = NodeStatus(Liveness.GONE, deactivated, expired)
    if long_dead:
        kept = {node.certname or "" for node in ask("inactive")}
        nodes |= {certname: status for certname, status in long_dead.items() if certname not in kept}
    return nodes


def list_records(server: Server, kind: Kind, within: float) -> dict[str, Version]:
    """The version of each node's record of a kind in `kinds.PER_NODE`, whatever the node's state."""
    return _versions(server, kind, _rows(server, kind, kind.listing, within))


def differing_records(there: Server, here: Server, kind: Kind, within: float) -> tuple[Records, Records]:
    """What `list_records` gives of both sides, unless they list the same: then there is nothing to decode.

    That is so in almost every pass, and decoding would be the most of its cost on this machine.
    """
    theirs, ours = both_sides(there, here, lambda server: set(_rows(server, kind, kind.listing, within)))
    if theirs == ours:
        return Records(len(theirs), {}), Records(len(ours), {})
    return Records(len(theirs), _versions(there, kind, theirs)), Records(len(ours), _versions(here, kind, ours))


def list_hours(server: Server, start: int, end: int, within: float) -> dict[int, HourBucket]:
    """The hours with reports, by their start; all times in ms."""
    ast = query.report_hour_buckets(from_millis(start), from_millis(end))
    rows = server.rows("/reports", query=ast, within=within)
    buckets = read_rows(server, rows, lambda row: (_start(bucket := _bucket(row)), bucket))
    return dict(buckets)


def list_reports(server: Server, start: int, end: int, within: float) -> list[ReportRow]:
    """The reports with producer timestamps (ms) from `start` up to, not including, `end`."""
    ast = query.report_hashes(from_millis(start), from_millis(end))
    return [
        ReportRow(found.key, found.certname, found.version.millis)
        for found in _summaries(server, REPORTS, ast, within)
    ]


def found_versions(server: Server, kind: Kind, keys: Sequence[str], within: float) -> dict[str, Version]:
    """What the server has of `keys`."""
    return {found.key: found.version for found in _summaries(server, kind, kind.summaries(keys), within)}


def newest_records(server: Server, certnames: Sequence[str], within: float) -> dict[str, int]:
    """The newest producer timestamp (ms) of any record of these nodes."""
    newest: dict[str, int] = {}
    for chunk in batches(certnames, CHUNK):
        for entity in ("factsets", "catalogs", "reports"):
            ast: list[Any] = [
                "extract",
                ["certname", ["function", "max", "producer_timestamp"]],
                query.by_certnames(entity, chunk),
                ["group_by", "certname"],
            ]
            rows = server.rows(f"/{entity}", query=ast, within=within)
            for certname, millis in read_rows(server, rows, _read_newest):
                newest[certname] = max(millis, newest.get(certname, millis))
    return newest


def _summaries(server: Server, kind: Kind, ast: list[Any], within: float) -> Iterator[Summary]:
    return read_rows(server, _rows(server, kind, ast, within), kind.read)


def _rows(server: Server, kind: Kind, ast: list[Any] | None, within: float) -> Iterator[bytes]:
    assert ast is not None, f"{kind.entity} are too many to list"
    params = kind.summary_params or None
    return server.rows(kind.path, query=ast, params=params, within=within)


def _versions(server: Server, kind: Kind, rows: Iterable[bytes]) -> dict[str, Version]:
    versions: dict[str, Version] = {}
    for found in read_rows(server, rows, kind.read):
        # Servers before 8.8 can hold two catalogs of one node; the newer is the one.
        old = versions.get(found.key)
        versions[found.key] = found.version if old is None else max(old, found.version)
    return versions


def _read_newest(row: bytes) -> tuple[str, int]:
    found = _newest(row)
    return found.certname, to_millis(found.max)


def _millis(text: str | None) -> int | None:
    return None if text is None else to_millis(text)


def _start(bucket: HourBucket) -> int:
    return int(bucket.start.timestamp()) * 1000
