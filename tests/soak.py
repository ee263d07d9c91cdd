"""Tests with a short form, for every run, and a long one, for `make soak`: the same test, more of it."""

from __future__ import annotations

import os

__all__ = ["LONG", "rounds"]

LONG = bool(os.environ.get("PDBCLIENT_SOAK"))
"""Whether this is the long form."""


def rounds(short: int, long: int) -> int:
    """How much of something: `long` when the environment variable PDBCLIENT_SOAK is set, else `short`."""
    return long if LONG else short
