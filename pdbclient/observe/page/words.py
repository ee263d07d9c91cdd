"""Numbers and times of a status document, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["clock", "days_left", "latency", "listing", "number_of", "server", "since", "size", "span"]

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def span(seconds: float) -> str:
    """How long, with two digits at least where that tells something: 8 s, 90 s, 12 min, 3.5 h, 12 d."""
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            number = seconds / length
            return (
                f"{number:.1f}".removesuffix(".0") + f" {unit}"
                if number < 10 and unit != "min"
                else f"{number:.0f} {unit}"
            )
    return f"{max(seconds, 0.0):.0f} s"


def clock(at: datetime, now: datetime) -> str:
    """A time in UTC: to the second today, to the minute on another day."""
    at = at.astimezone(UTC)
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone(UTC).date() else f"{at:%Y-%m-%d %H:%M}"


def since(at: datetime, now: datetime) -> str:
    """A time, and how long ago that is."""
    return f"{clock(at, now)} ({span((now - at).total_seconds())})"


def server(url: str) -> str:
    """A server, short: its host and port. All are https."""
    return url.removeprefix("https://")


def latency(seconds: float | None) -> str:
    """How long a request took."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(number: int) -> str:
    """So many bytes."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= length:
            return f"{number / length:.1f} {unit}"
    return f"{number} B"


def days_left(expires: datetime, now: datetime) -> str:
    """When something ends that is good until then."""
    seconds = (expires - now).total_seconds()
    day = f"{expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if seconds <= 0:
        return f"expired on {day}, {span(-seconds)} ago"
    return f"expires in {span(seconds)}, on {day}"


def number_of(number: int, one: str, several: str | None = None) -> str:
    """`1 command`, `2 commands`."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def listing(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
