"""What a PuppetDB's version says about how it hashes records. Pure."""

from __future__ import annotations

import re

__all__ = ["hash_class", "release"]


def release(version: str) -> tuple[int, int] | None:
    """`7.12.1` as (7, 12); None for what is no such number."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return None if found is None else (int(found[1]), int(found[2]))


def hash_class(version: str) -> tuple[bool, bool]:
    """Which of the two changes of record hashes a PuppetDB has: reports in 6.10.0, factsets in 6.17.0 and
    7.4.0.
    """
    number = release(version)
    if number is None:
        return True, True
    return number >= (6, 10), number >= (7, 4) or (6, 17) <= number < (7, 0)
