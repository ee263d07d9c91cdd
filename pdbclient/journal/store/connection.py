"""A connection to PostgreSQL that waits for as little as it can, and for nothing too long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from pdbclient.journal.store.watchdog import Watchdog

__all__ = ["SILENCE", "Connection"]

SILENCE = 8.0
"""Seconds after which a server that does not answer a statement is left. It ends those that take long before that."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that breaks when the server is silent for too long in one statement."""

    watchdog: Watchdog
    patience = SILENCE
    heard = 0.0
    _piped: psycopg.Pipeline | None = None

    def execute(self, *args: Any, **kwargs: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        """As `psycopg.Connection.execute`; inside of `without_waiting`, nobody waits for it."""
        with self._watched():
            return super().execute(*args, **kwargs)

    def rows(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows that a statement gives; psycopg raises its error for one that gives none."""
        with self._watched():
            cursor = super().execute(sql, values)
            if self._piped is not None:
                # Only then is the session idle to the server, which ends one that stays so in a transaction. Without
                # that, whoever was cut off in one would keep its locks for hours.
                self._piped.sync()
            return cursor.fetchall()

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Statements are sent one after the other, and waited for when the rows of one are wanted, and at the end.

        The journal may be far away. Raises the error of the first one that failed, there.
        """
        if not psycopg.Pipeline.is_supported():
            yield
            return
        pipeline = self.pipeline()
        self._piped = pipeline.__enter__()
        try:
            yield
        except BaseException as error:
            with self._watched():
                pipeline.__exit__(type(error), error, error.__traceback__)
            raise
        finally:
            self._piped = None
        with self._watched():
            pipeline.__exit__(None, None, None)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        with self.watchdog.over(self.fileno(), self.patience):
            yield
        self.heard = time.monotonic()
