"""Whose failure an error in the middle of a pass is: one entity's, or everything's. Pure.

A server that cannot answer about one entity (a defect of its version, a query that its database does not bear) fails
that entity by name, and nothing else: what can be reconciled and compared, is.
"""

from __future__ import annotations

from pdbclient.errors import Busy, Misrouted, NotSent, PdbError
from pdbclient.sync.inventory.budget import Stopped

__all__ = ["ends_all"]


def ends_all(error: PdbError) -> bool:
    """Whether the next entity would meet the same: a server is not to be had, or we were asked to stop."""
    return isinstance(error, Stopped | NotSent | Busy | Misrouted)
