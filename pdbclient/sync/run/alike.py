"""Whether two servers say the same of a record whose hashes differ: asked of both, in whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pdbclient.errors import InvalidCommand
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.inventory.rows import both_sides, read_rows
from pdbclient.sync.policy.content import content

__all__ = ["same_content"]


def same_content(there: Server, here: Server, kind: Kind, keys: Sequence[str], left: Callable[[], float]) -> set[str]:
    """Those of `keys` whose contents are the same, for all that can be asked. `left`: see `Kind.rows`."""

    def contents(server: Server) -> dict[str, str | None]:
        rows = kind.rows(server, keys, left)
        return dict(read_rows(server, rows, lambda row: (kind.read(row).key, _content(kind, row))))

    theirs, ours = both_sides(there, here, contents)
    return {key for key in keys if theirs.get(key) is not None and theirs[key] == ours.get(key)}


def _content(kind: Kind, row: bytes) -> str | None:
    """The content of a full row, None of one that is no record of its kind."""
    try:
        return content(kind.command(row).body)
    except InvalidCommand:
        return None
