"""Whether two servers say the same of a record whose hashes differ: asked of both, in whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pdbclient.errors import InvalidCommand
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import Kind
from pdbclient.sync.inventory.rows import UNREADABLE, both_sides
from pdbclient.sync.policy.content import content

__all__ = ["same_content"]

_logger = logging.getLogger(__name__)


def same_content(there: Server, here: Server, kind: Kind, keys: Sequence[str], left: Callable[[], float]) -> set[str]:
    """Those of `keys` whose contents are the same, for all that can be asked. `left`: see `Kind.rows`."""

    def contents(server: Server) -> dict[str, str]:
        rows = kind.rows(server, keys, left)
        return dict(each for row in rows if (each := _content(kind, row)) is not None)

    theirs, ours = both_sides(there, here, contents)
    return {key for key in keys if key in theirs and theirs[key] == ours.get(key)}


def _content(kind: Kind, row: bytes) -> tuple[str, str] | None:
    """The key and the content of a full row; None of one that is no record of its kind, or too odd to be compared."""
    try:
        return kind.read(row).key, content(kind.command(row).body)
    except (InvalidCommand, *UNREADABLE) as error:
        _logger.debug("one of %s is not compared by its content: %s", kind.entity, error)
        return None
