"""A report's identity as PuppetDB computes it: the hash that a server gives, or would give, to a report.

Two reports with the same hash are one report to a server, and a report that would get another hash at another
server would be there twice after a copy. So the hash of a row, computed anew, tells beforehand whether a copy of
that row would be the same report.

The rule is the open-source server's own (`puppetlabs.puppetdb.scf.hash` and `.scf.storage`, 6.10 and later), told in
our words: SHA-1 of a JSON object of the eight members in `MEMBERS`, sorted by name, without blanks, in UTF-8. Only
what JSON must escape is escaped (hexadecimal digits in capitals). Times are in UTC with milliseconds, cut and not
rounded; days before 15 October 1582 are written in the Julian calendar, as Java's date formats do. Texts, a
`transaction_uuid` in capitals too, are hashed as they came, and not as a server shows them later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pdbclient.wire import timestamp

__all__ = ["MEMBERS", "report_hash"]

MEMBERS = (
    "certname",
    "configuration_version",
    "end_time",
    "producer_timestamp",
    "puppet_version",
    "report_format",
    "start_time",
    "transaction_uuid",
)
"""All that a report's hash depends on; logs, metrics, events and status are none of it."""

_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord(char): "\\" + short for char, short in ('""', "\\\\", "\bb", "\tt", "\nn", "\ff", "\rr")
}
_GREGORIAN_SINCE = timestamp.to_millis("1582-10-15T00:00:00Z")
_YEAR_10000 = timestamp.to_millis("+10000-01-01T00:00:00Z")
_DAY = 86_400_000


def report_hash(report: Mapping[str, Any]) -> str:
    """The hash of a row of `reports` with all its columns, or of a payload of `store report`.

    Raises KeyError when one of `MEMBERS` is missing, and ValueError for a value that no report can have: a null
    other than the `transaction_uuid`, a `report_format` that is not an integer, a time that `timestamp.parse` does
    not take or that lies after the year 9999 in UTC.
    """
    members = ",".join(f'"{name}":{_json(name, report[name])}' for name in MEMBERS)
    # An unpaired surrogate has no UTF-8; Java writes a question mark in its place.
    return hashlib.sha1(f"{{{members}}}".encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def _json(name: str, value: object) -> str:
    if name == "report_format":
        if type(value) is not int:
            raise ValueError(f"{name} is an integer, not {value!r}")
        return str(value)
    if value is None and name == "transaction_uuid":
        return "null"
    if not isinstance(value, str):
        raise ValueError(f"{name} is a string, not {value!r}")
    text = _hashed_time(value) if name.endswith(("_time", "_timestamp")) else value
    return f'"{text.translate(_ESCAPES)}"'


def _hashed_time(text: str) -> str:
    millis = timestamp.to_millis(text)
    if millis < _GREGORIAN_SINCE:
        return _julian(*divmod(millis, _DAY))
    if millis >= _YEAR_10000:
        raise ValueError(f"{text!r} lies after the year 9999 in UTC")
    return timestamp.from_millis(millis)


def _julian(day: int, millis: int) -> str:
    """The time `millis` into that day (counted from 1970) in the Julian calendar, by the Julian day number.

    Years are counted from 1 March 4801 BC, so that a leap day ends one, and months from March.
    """
    left = day + 2_440_588 + 32_082
    year = (4 * left + 3) // 1461
    left -= 1461 * year // 4
    month = (5 * left + 2) // 153
    after, index = divmod(month + 2, 12)
    date = f"{year - 4800 + after:04d}-{index + 1:02d}-{left - (153 * month + 2) // 5 + 1:02d}"
    return date + timestamp.from_millis(millis)[10:]
