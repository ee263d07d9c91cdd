"""Whether two servers are one, or have one database, by what they show of themselves. Pure.

A server notes when it received a record, by its own clock, in milliseconds. Two servers that got the same record have
two times for it; where all the times are alike, the records came in once. Or one database is a copy of the other, as
made of a backup: but then what is alike was received before the server of the copy began.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Arrivals", "may_be_one", "one_database"]

ALIKE = 3
"""So many records do not arrive at two servers in the same milliseconds by chance."""

Arrivals = Mapping[str, int]
"""The newest records of a server by what identifies each, with the time at which it was received (ms)."""


def may_be_one(there: Arrivals, here: Arrivals) -> bool:
    """Whether nothing speaks against one database. Records that only one side shows may have come in between."""
    common = there.keys() & here.keys()
    if not common:
        return not there and not here
    return all(there[key] == here[key] for key in common)


def one_database(there: Arrivals, here: Arrivals, since: int) -> bool:
    """Whether both are one database for sure. `since` is when the later one of the two servers began (ms)."""
    common = there.keys() & here.keys()
    return may_be_one(there, here) and sum(here[key] > since for key in common) >= ALIKE
