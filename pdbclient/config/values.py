"""From the text of a value to its type, one reader per kind of value. Pure.

Every reader takes a `Value` and returns its type or raises `SettingError`, whose `reasons` say what is wrong
and, where it matters, what the stock terminus would have made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pdbclient.config.document import BLANKS, Value
from pdbclient.config.journal_place import check_journal_place
from pdbclient.config.model import Endpoint, LocalAddress
from pdbclient.config.urls import parse_local_url, parse_server_url, shown

__all__ = [
    "MAX_TIMEOUT",
    "SettingError",
    "boolean",
    "certname_patterns",
    "certnames",
    "checked_timeout",
    "choice",
    "choices",
    "count",
    "durations",
    "flag",
    "ignored",
    "journal_place",
    "one_url",
    "path_text",
    "resolve_path",
    "revocation",
    "server_urls",
    "span",
    "stock_minimum",
    "stock_timeout",
    "time_to_live",
    "timeout",
]

MAX_TIMEOUT = 86400.0
"""No timeout is longer than a day; beyond that a number is a slip, and some systems refuse it."""
_MAX_SPAN = 100 * 366 * 86400.0

_UNITS = {
    "ns": 1e-9, "nano": 1e-9, "nanos": 1e-9, "nanosecond": 1e-9, "nanoseconds": 1e-9,
    "us": 1e-6, "micro": 1e-6, "micros": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6,
    "ms": 1e-3, "milli": 1e-3, "millis": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "s": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
"""HOCON's names of durations, in seconds."""


class SettingError(ValueError):
    """A value that cannot be used, with every reason."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons))


def _text(value: Value, expected: str) -> str:
    if not isinstance(value, str):
        raise SettingError(f"must be {expected}, found {'a list' if isinstance(value, list) else 'an object'}")
    if not value.strip(BLANKS):
        raise SettingError(f"has no value: must be {expected}")
    return value.strip(BLANKS)


def boolean(value: Value) -> bool:
    """Exactly `true` or `false`; on anything else the stock terminus fails without naming the setting."""
    text = _text(value, "true or false")
    if text not in ("true", "false"):
        raise SettingError(f"must be true or false, found {text!r} (the stock terminus crashes on it)")
    return text == "true"


def flag(value: Value) -> bool:
    """`true` or `false`, of a setting that the stock terminus does not have."""
    return choice("true", "false")(value) == "true"


def _ruby_to_i(text: str) -> int:
    # What String#to_i makes of a text: the leading digits (1_0 is 10), else 0. Only for messages.
    found = re.match(r"[+-]?\d{1,9}(?:_?\d){0,9}", text, re.ASCII)
    return int(found[0]) if found else 0


def stock_timeout(value: Value) -> float:
    """`server_url_timeout`: whole seconds, 0 for no timeout."""
    text = _text(value, "a whole number of seconds")
    if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        stock = _ruby_to_i(text)
        meaning = "no timeout at all" if stock == 0 else f"{stock} s"
        raise SettingError(
            f"must be a whole number of seconds, found {text!r} (to the stock terminus it means {meaning})"
        )
    seconds = int(text)
    if seconds < 0:
        raise SettingError(f"cannot be negative, found {text!r} (the stock terminus would fail every request)")
    if seconds > MAX_TIMEOUT:
        raise SettingError(f"must be at most {MAX_TIMEOUT:.0f} (a day), found {text!r}; 0 means no timeout")
    return float(seconds)


def stock_minimum(value: Value) -> int:
    """`min_successful_submissions`: 1 or more."""
    text = _text(value, "a whole number, 1 or more")
    if not re.fullmatch(r"\+?\d{1,9}", text, re.ASCII) or int(text) < 1:
        meaning = max(_ruby_to_i(text), 1)
        raise SettingError(
            f"must be a whole number, 1 or more, found {text!r} (to the stock terminus it means {meaning})"
        )
    return int(text)


def count(minimum: int, maximum: int = 10**9) -> Callable[[Value], int]:
    """A whole number from `minimum` to `maximum`."""

    def read(value: Value) -> int:
        text = _text(value, "a whole number")
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise SettingError(f"must be a whole number from {minimum} to {maximum}, found {text!r}")
        return int(text)

    return read


def choice(*words: str) -> Callable[[Value], str]:
    """One of `words`, exactly as written there."""
    expected = " or ".join(words)

    def read(value: Value) -> str:
        text = _text(value, expected)
        if text not in words:
            raise SettingError(f"must be {expected}, found {text!r}")
        return text

    return read


def choices(*words: str) -> Callable[[Value], tuple[str, ...]]:
    """A list of `words`, each exactly as written there."""

    def read(value: Value) -> tuple[str, ...]:
        found = [item.strip(BLANKS) if isinstance(item, str) else "" for item in _items(value, "names")]
        if wrong := [f"{name!r} is none of {', '.join(words)}" for name in found if name not in words]:
            raise SettingError(*wrong)
        if not found:
            raise SettingError(f"names nothing: must list some of {', '.join(words)}")
        return tuple(dict.fromkeys(found))

    return read


def _seconds(text: str, *, unit_required: bool) -> float:
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)", text, re.ASCII)
    if found is None or (found[2] and found[2] not in _UNITS):
        raise SettingError(f"not a duration: {text!r} (write for example 500ms, 30s, 5m, 2h or 14d)")
    if not found[2] and unit_required:
        raise SettingError(f"needs a unit, found {text!r} (write {text}s, {text}m or {text}h)")
    return float(found[1]) * _UNITS[found[2] or "s"]


def timeout(value: Value) -> float:
    """A limit in seconds, above 0 and at most a day: plain (`3`, `0.5`) or with a unit (`500ms`, `2m`)."""
    text = _text(value, "a number of seconds, or a duration like 500ms")
    seconds = _seconds(text, unit_required=False)
    if not 0 < seconds <= MAX_TIMEOUT:
        raise SettingError(f"must be above 0 and at most a day, found {text!r}")
    return seconds


def checked_timeout(seconds: float | None) -> float | None:
    """A timeout that a program gives, as it is. Raises `ValueError` for one that no socket takes, or that is none."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TIMEOUT:
        raise ValueError(f"timeout must be a number of seconds above 0 and at most a day, not {seconds!r:.40}")
    return seconds


def span(value: Value) -> float:
    """A duration above 0 with a unit, as PuppetDB's own configuration demands, in seconds."""
    text = _text(value, "a duration with a unit, like 5m")
    seconds = _seconds(text, unit_required=True)
    if not 0 < seconds <= _MAX_SPAN:
        raise SettingError(f"must be above 0 and at most 100 years, found {text!r}")
    return seconds


def time_to_live(value: Value) -> float:
    """A PuppetDB's `report-ttl`, `node-ttl` or `node-purge-ttl`, in seconds. 0: for ever, as PuppetDB takes it (and
    all that is below a second): then it never collects what is older.
    """
    text = _text(value, "a duration with a unit, like 14d")
    seconds = _seconds(text, unit_required=True)
    if seconds > _MAX_SPAN:
        raise SettingError(f"must be at most 100 years, or 0s for ever, found {text!r}")
    return seconds if seconds >= 1 else 0.0


def durations(value: Value) -> list[float]:
    """The `intervals = 2m,5m` of the ini form."""
    return [span(item) for item in _items(value, "durations, like 2m,5m")]


def _items(value: Value, expected: str) -> list[Value]:
    """The items of `a, b`, of the guide's `["a", "b"]` or of a HOCON list; after a last comma none."""
    if isinstance(value, list):
        return value
    text = _text(value, f"a list of {expected}")
    quoted = text.startswith("[")
    if quoted:
        if not text.endswith("]"):
            raise SettingError("the list has no closing ] on its line")
        text = text[1:-1].strip(BLANKS)
        if not text:
            return []
    items = [item.strip(BLANKS) for item in text.split(",")]
    if len(items) > 1 and not items[-1]:
        items.pop()
    return [_unquoted(item) if quoted else item for item in items]


def _unquoted(item: str) -> str:
    return item[1:-1] if len(item) > 1 and item[0] == item[-1] and item[0] in "\"'" else item


def certnames(value: Value) -> tuple[str, ...]:
    """A list of certnames, `a.example.com, b.example.com`, in lower case as Puppet has them."""
    names = []
    for item in _items(value, "certnames"):
        name = item.strip(BLANKS).lower() if isinstance(item, str) else ""
        if not re.fullmatch(r"[a-z0-9._-]+", name):
            raise SettingError(f"{item!r} is not a certname")
        names.append(name)
    if not names:
        raise SettingError("names nobody")
    return tuple(names)


def certname_patterns(value: Value) -> tuple[str, ...]:
    """A list of shell patterns of certnames: `web*.example.com, db[12].example.com`."""
    patterns = [item.strip(BLANKS) if isinstance(item, str) else "" for item in _items(value, "certnames")]
    if not all(patterns):
        raise SettingError("there is an empty certname in the list")
    if not patterns:
        raise SettingError("names nobody")
    return tuple(patterns)


def server_urls(default_port: int) -> Callable[[Value], tuple[Endpoint, ...]]:
    """A list of PuppetDB addresses, in order, none twice; every bad one is named."""

    def read(value: Value) -> tuple[Endpoint, ...]:
        urls: list[Endpoint] = []
        reasons: list[str] = []
        for item in _items(value, "URLs"):
            try:
                endpoint = parse_server_url("" if item is None else _url_text(item), default_port=default_port)
            except ValueError as error:
                reasons.append(str(error))
                continue
            if endpoint in urls:
                reasons.append(f"{endpoint.url} is there twice (the stock terminus would count it as two servers)")
            else:
                urls.append(endpoint)
        if not urls and not reasons:
            reasons.append("names no server")
        if reasons:
            raise SettingError(*reasons)
        return tuple(Endpoint(url.host, url.port, order) for order, url in enumerate(urls))

    return read


def _url_text(item: Value) -> str:
    if not isinstance(item, str):
        raise SettingError("every item must be a URL in double quotes")
    return item.strip(BLANKS)


def one_url(default_port: int) -> Callable[[Value], Endpoint]:
    """One PuppetDB address."""

    def read(value: Value) -> Endpoint:
        text = _text(value, "one URL")
        if "," in text:
            raise SettingError(f"must be one URL, found {shown(text)}")
        try:
            return parse_server_url(text, default_port=default_port)
        except ValueError as error:
            raise SettingError(str(error)) from error

    return read


def local_url(value: Value) -> LocalAddress:
    """One address of the loopback, in clear text."""
    try:
        return parse_local_url(_text(value, "one URL"))
    except ValueError as error:
        raise SettingError(str(error)) from error


def path_text(value: Value) -> str:
    """A path as written (see `resolve_path`)."""
    text = _text(value, "a path")
    if "\0" in text:
        raise SettingError("a path cannot contain a NUL character")
    return text


def revocation(value: Value) -> str:
    """`certificate_revocation`, of puppet.conf or ours: `chain` (also written true), `leaf` or `false`.

    What Puppet takes: lib/puppet/settings/{value_translator,certificate_revocation_setting}.rb, 7.23 to OpenVox 9.
    """
    text = _text(value, "chain, leaf or false")
    if text.lower() in ("true", "false"):
        return "chain" if text.lower() == "true" else "false"
    return choice("chain", "leaf", "false")(text)


def journal_place(value: Value) -> str:
    """An absolute path or a URL of PostgreSQL, as written; a reason never repeats it (see `without_password`)."""
    text = _text(value, "a path or a URL")
    try:
        return check_journal_place(text)
    except ValueError as error:
        raise SettingError(str(error)) from error


def resolve_path(text: str, directory: Path) -> Path:
    """`text` as a path: `~` is the user's home, a relative path starts from the configuration's directory."""
    if text.startswith("~/"):
        return Path.home() / text[2:]
    return directory / text


def ignored(value: Value) -> None:
    """A setting that is known and has no meaning any more."""
