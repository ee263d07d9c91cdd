"""PuppetDB's timestamps: ISO-8601 with a zone, compared by the millisecond.

PuppetDB stores milliseconds (newer servers microseconds) and prints milliseconds, so
two stamps are the same when their milliseconds are. The server refuses a stamp without a zone in reports and
takes it for UTC in other commands; here it is refused everywhere, as the order of records must not be guessed.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta

__all__ = ["as_stored", "from_millis", "is_wire_timestamp", "parse", "sortable", "to_millis", "to_utc", "utc_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CYCLE = 146_097 * 86_400_000
"""Milliseconds of 400 years, after which the calendar is the same again."""
_FAR = re.compile(r"([+-]?\d{4,9})(-.*)", re.ASCII | re.DOTALL).fullmatch
_WIRE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-8]):[0-5]\d)", re.ASCII
).fullmatch
_PLAIN_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII).fullmatch
_LAX = re.compile(r"[\dW-]{8,10}(?:T[\d:.,]+(?:Z|[+-][\d:]+)?| [\d:]+)?", re.ASCII).fullmatch
_YEAR_OR_MONTH = re.compile(r"\d{4}(?:-\d\d)?", re.ASCII).fullmatch


def parse(text: str) -> datetime:
    """Parse what every PuppetDB command accepts: date, `T`, time, up to nine decimals, `Z` or `+hh:mm`.

    Digits below a microsecond are dropped. Raises ValueError for anything else, a missing zone included.
    """
    if _WIRE(text) is None:
        raise ValueError(f"{text!r} is not an ISO-8601 timestamp with a zone, like 2026-01-31T12:00:00.000Z")
    return datetime.fromisoformat(text)


def is_wire_timestamp(text: str) -> bool:
    """Whether `parse` takes it."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def to_millis(text: str) -> int:
    """Milliseconds since 1970 UTC, rounded down as the server does. Raises ValueError as `parse` does.

    Years may have a sign, and more than four digits: a server stores them up to 294276.
    """
    # The form in which servers show stamps, tens of thousands in a listing: what else is in it must be digits.
    shown = len(text) == 24 and text[4:20:3] == "--T::." and text[23] == "Z"
    cycles = 0
    if not shown and (far := _FAR(text)) is not None:
        cycles, year = divmod(int(far[1]) - 2000, 400)
        text = f"{2000 + year}{far[2]}"
    since = (datetime.fromisoformat(text) if shown else parse(text)) - _EPOCH
    return cycles * _CYCLE + since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def from_millis(millis: int) -> str:
    """The inverse of `to_millis`: `2026-01-31T12:00:00.000Z`; `+12999-01-31T12:00:00.000Z` for years beyond 9999."""
    try:
        return utc_text(_EPOCH + timedelta(milliseconds=millis))
    except OverflowError:
        cycles, rest = divmod(millis, _CYCLE)
        near = utc_text(_EPOCH + timedelta(milliseconds=rest))
        return f"{int(near[:4]) + 400 * cycles:+05d}{near[4:]}"


def sortable(millis: int) -> str:
    """As `from_millis`, but of what lies outside of the years 1 to 9999 the nearest within.

    As text these sort as the instants do. A server may show, and take, what lies outside: one such stamp must keep
    nobody from the others.
    """
    return from_millis(min(max(millis, _FIRST), _LAST))


def utc_text(moment: datetime) -> str:
    """An aware datetime as UTC ISO-8601 with milliseconds (cut, not rounded) and `Z`.

    Raises ValueError for a datetime without a zone: it would mean another instant on another machine.
    """
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs a timezone")
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")


def to_utc(text: str) -> str:
    """Any stamp that `parse` takes, as `utc_text` writes it. Raises ValueError also outside the years 1 to 9999."""
    moment = parse(text)
    try:
        return text if _PLAIN_UTC(text) else utc_text(moment)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside of the years 1 to 9999 in UTC") from error


def as_stored(value: object) -> str:
    """The instant for which PuppetDB takes the `producer_timestamp` of a payload, as `utc_text` writes it.

    Servers take more than the wire format says: ISO-8601 in basic form and with weeks, a time or an offset cut short
    or left out (then UTC), milliseconds since 1970, and years that no text of ours has (see `sortable`). Raises
    ValueError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return sortable(value)
    text = value.upper() if isinstance(value, str) else ""
    if _YEAR_OR_MONTH(text):
        text += "-01-01"[len(text) - 4 :]
    if _LAX(text) is not None:
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(text)
            return utc_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    try:
        return sortable(to_millis(text))
    except ValueError as error:
        raise ValueError(f"{value!r:.80} is no timestamp that PuppetDB takes") from error


_FIRST, _LAST = to_millis("0001-01-01T00:00:00.000Z"), to_millis("9999-12-31T23:59:59.999Z")
