"""Times for the differential test of reports: whose milliseconds another rule of rounding would make others."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from tests.soak import rounds

__all__ = ["SPANS", "STAMPS"]


def _stamps() -> Iterator[str]:
    """Edges of rounding in several zones, as Ruby writes times and as others may; then random ones."""
    for decimals in ("", *(f".{text}" for text in EDGES)):
        for zone in ZONES:
            yield f"2026-01-31T23:59:59{decimals}{zone}"
    chance = random.Random(20261128)
    for _ in range(rounds(400, 20_000)):
        moment = datetime(1999, 1, 1) + timedelta(seconds=chance.randrange(2**31))
        yield f"{moment.isoformat()}.{chance.randrange(10**9):09d}{chance.choice(ZONES)}"


def _spans() -> Iterator[tuple[str, float]]:
    chance = random.Random(20261128)
    for stamp in itertools.islice(_stamps(), 0, None, 4):
        yield stamp, chance.choice((0, 1, 0.001, 0.0005, 1.1, 3599.9995, 1e-9, 7.0e4, chance.random() * 1000))


EDGES = (
    *(
        "3364999",
        "3365",
        "3365000",
        "3365001",
        "336",
        "336499999",
        "336500000",
        "336999999",
        "337000000",
        "3369999996",
    ),
    *("9999999", "999999999", "9994999", "9995", "9995000", "9996", "0005", "000499999", "000000001", "0", "1", "12"),
    *("123456789123", "0009999999999"),
)
"""Parts of a second."""
ZONES = ("Z", "+00:00", "-00:00", "+05:30", "-09:30", "-12:00", "+14:00", "-03:30")
STAMPS = list(_stamps())
SPANS = list(_spans())
