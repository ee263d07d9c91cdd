"""A loop in the background outlives whatever one of its rounds meets: that is said, and the next round comes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pdbclient.errors import PdbError

__all__ = ["Rounds"]

log = logging.getLogger("pdbclient.journal")


class Rounds:
    """The rounds of one loop, for its thread. `trouble` is what it means that one of them failed.

    What is one of `quiet` somebody else says.
    """

    def __init__(self, trouble: str, quiet: tuple[type[Exception], ...] = ()) -> None:
        self._trouble = trouble
        self._quiet = quiet
        self._told: type[Exception] | None = None

    @contextmanager
    def each(self) -> Iterator[None]:
        """One round. Of failures that follow each other and are of one kind the first is said.

        What is none of our own errors is said with its traceback: nobody thought of it.
        """
        try:
            yield
        except Exception as error:  # whatever it is, the loop goes on
            known = isinstance(error, self._quiet) or type(error) is self._told
            unforeseen = not isinstance(error, PdbError)
            log.log(logging.DEBUG if known else logging.ERROR, "%s: %s", self._trouble, error, exc_info=unforeseen)
            self._told = type(error)
        else:
            self._told = None
