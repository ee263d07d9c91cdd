"""One transaction on either database: SQL with `:name` parameters, written once for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from pdbclient.errors import JournalBusy, JournalError

__all__ = ["Database", "Kept", "Transaction", "Unreachable"]

T = TypeVar("T")


class Unreachable(JournalError):
    """There is no database to be had now: whoever else wants something of it would wait in vain, too."""


class Kept(JournalBusy):
    """One piece of work could not be done: somebody keeps a row that it needs, or it takes too long. Others can."""


class Transaction(Protocol):
    """Runs SQL inside one transaction."""

    skip_locked: str
    """What a `SELECT` of work to do ends with, so that two processes never get the same."""
    locked: str
    """What a `SELECT` of rows ends with that another process must not change before this transaction is over."""

    part: str
    """What tells this connection from others of the same process: what it adds up, it adds up by itself."""

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement that gives rows; these."""

    def execute(self, sql: str, **values: Any) -> None:
        """Run a statement that gives none. What is wrong with it may be said only by what comes after it."""

    def among(self, name: str) -> str:
        """The condition that a column's value is one of the list in the parameter `name`; see `several`."""

    def several(self, values: Sequence[Any]) -> Any:
        """A list as a parameter for `among`."""

    reuses_room: bool
    """Whether what is dropped makes room for what is put in next."""

    def require_room(self, size: int) -> None:
        """Raise `JournalFull` unless an entry of so many bytes leaves room for what is noted about others."""

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its own structure; it reads all of it."""


class Database(Protocol):
    """An open journal's database. For one thread."""

    @property
    def heard(self) -> float:
        """When it last answered anything within a transaction (monotonic seconds). For any thread."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction, durable when this returns; all of it is undone when anything is raised.

        Raises `JournalError` and its kinds for what the database meets.
        """

    def close(self) -> None:
        """Let go of it."""
