"""Whether two servers are one, or have one database, by what they show of themselves. Pure.

A server notes when it received a record, by its own clock, in milliseconds. Two servers that got the same record have
two times for it; where all the times are alike, the records came in once. Or one database is a copy of the other, as
made of a backup: but then what is alike was received before the server of the copy began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Arrivals", "Process", "may_be_one", "one_database", "one_process"]

ALIKE = 3
"""So many records do not arrive at two servers in the same milliseconds by chance."""

Arrivals = Mapping[str, int]
"""The newest records of a server by what identifies each, with the time at which it was received (ms)."""


@dataclass(frozen=True, slots=True)
class Process:
    """A server's process at one moment: when it began (ms, by its clock), and the memory of its classes (bytes)."""

    began: int
    metaspace: int


def one_process(there: Sequence[Process], here: Sequence[Process]) -> bool:
    """Whether two servers are one process, after two looks at both: no second one was before any first one.

    Two that are started together begin in the same millisecond now and then. But what one process uses does not
    leave, from one look to the next, the span between them; of two, each uses its own.
    """
    if len(there) < 2 or len(here) < 2:
        return False
    looks = (there, here)
    alike = len({look.began for side in looks for look in side}) == 1
    least = (min(look.metaspace for look in side) for side in looks)
    most = (max(look.metaspace for look in side) for side in looks)
    return alike and max(least) <= min(most)


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
