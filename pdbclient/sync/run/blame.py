"""Whose failure an error in the middle of a pass is: one entity's, or everything's. Pure.

A server that cannot answer about one entity (a defect of its version, a query that its database does not bear) fails
that entity by name, and nothing else: what can be reconciled and compared, is.
"""

from __future__ import annotations

from pdbclient.errors import Busy, Forbidden, InvalidCommand, Misrouted, NotSent, PdbError, ServerError
from pdbclient.sync.inventory.budget import Stopped, Stuck

__all__ = ["THE_SERVER", "ends_all", "in_words", "is_about_one_record"]

THE_SERVER = (Busy, Forbidden, Misrouted)
"""What a server answers whatever it is asked, and sent."""


def ends_all(error: Exception) -> bool:
    """Whether the next entity would meet the same: a server is not to be had, or takes nothing, or we were asked to
    stop.
    """
    return isinstance(error, Stopped | Stuck | NotSent | Busy | Misrouted)


def is_about_one_record(error: PdbError) -> bool:
    """Whether a submission failed for what was submitted: a server that answers 500 to it may take the next one."""
    return isinstance(error, InvalidCommand | ServerError) and not isinstance(error, THE_SERVER)


def in_words(error: BaseException) -> str:
    """What an error says; of one that nobody foresaw also what it is, as its text alone (`'hash'`) says nothing.

    Any file takes these words, also where a name in them was none in UTF-8.
    """
    text = str(error) if isinstance(error, PdbError) else f"{type(error).__name__}: {error}".removesuffix(": ")
    return text.encode("utf-8", "backslashreplace").decode()
