"""The nodes of a server: which are not active, and how new their records are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.rows import CHUNK, batches, read_count, read_rows
from pdbclient.sync.policy.model import Liveness, NodeStatus
from pdbclient.wire import query
from pdbclient.wire.summary import NodeSummary, from_millis, to_millis

__all__ = ["Listing", "active_nodes", "list_nodes", "newest_records"]

_ACTIVE = NodeStatus(Liveness.ACTIVE)
_node = msgspec.json.Decoder(NodeSummary).decode


class _Newest(msgspec.Struct):
    certname: str
    max: str


_newest = msgspec.json.Decoder(_Newest).decode


class Listing(NamedTuple):
    """How many nodes a server has, and the status of those that are not active, by their names.

    `unusable`: those of which it shows no usable status, and why: they count as inactive.
    """

    total: int
    inactive: dict[str, NodeStatus]
    unusable: dict[str, str]


def list_nodes(server: Server, gone_before: int, within: float) -> Listing:
    """The nodes that are not active.

    One that died before `gone_before` (ms) and that the server does not count as inactive any more waits there to be
    purged.

    Both, because a server with node-purge-ttl 0, which never purges, counts no node as inactive at all. So it
    is asked for its inactive nodes only when one died as long ago as that.
    """

    def ask(ast: query.Ast) -> Iterator[NodeSummary]:
        return read_rows(server, server.rows("/nodes", query=ast, within=within), _node, unusable)

    unusable: dict[str, str] = {}
    nodes: dict[str, NodeStatus] = {}
    long_dead: dict[str, NodeStatus] = {}
    for node in ask(query.nodes_not_active()):
        certname = node.certname or ""
        try:
            deactivated, expired = _millis(node.deactivated), _millis(node.expired)
        except ValueError as error:
            unusable[certname] = str(error)
            continue
        nodes[certname] = NodeStatus(Liveness.INACTIVE, deactivated, expired)
        if max(deactivated or 0, expired or 0) < gone_before:
            long_dead[certname] = NodeStatus(Liveness.GONE, deactivated, expired)
    if long_dead:
        kept = {node.certname or "" for node in ask(query.nodes_summary("inactive"))}
        nodes |= {certname: status for certname, status in long_dead.items() if certname not in kept}
    total = read_count(server, "/nodes", query.node_count(), within)
    return Listing(total, nodes | dict.fromkeys(unusable, NodeStatus(Liveness.INACTIVE)), unusable)


def active_nodes(server: Server, certnames: Sequence[str], within: float) -> dict[str, NodeStatus]:
    """Those of these nodes that the server has and that are active there."""
    rows = (
        row
        for chunk in batches(certnames, CHUNK)
        for row in server.rows("/nodes", query=query.nodes_named(chunk), within=within)
    )
    found = read_rows(server, rows, _node, {})
    return {node.certname or "": _ACTIVE for node in found if node.deactivated is None and node.expired is None}


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


def _read_newest(row: bytes) -> tuple[str, int]:
    found = _newest(row)
    return found.certname, to_millis(found.max)


def _millis(text: str | None) -> int | None:
    return None if text is None else to_millis(text)
