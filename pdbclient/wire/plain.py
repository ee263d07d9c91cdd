"""Which Python values are JSON without loss, and how the others are made so, or refused.

The encoder is fast and forgiving: it writes NaN as null, bytes as base64 and the key 5 as "5". None of these
is what the caller has, so nothing but plain JSON types is handed to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

__all__ = ["MAX_DEPTH", "PayloadError", "holds_unstorable", "is_plain", "made_plain", "shown"]

MAX_DEPTH = 200
"""Containers inside one another. Puppet data has about ten."""

# Python itself writes no integer of more than 4,300 decimal digits (14,283 bits).
_MAX_BITS = 14_000
_SCALARS = frozenset({str, int, bool})
# A lone surrogate has no UTF-8 form; PostgreSQL cannot store U+0000, in any column.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII).fullmatch


class PayloadError(Exception):
    """Why a payload cannot be sent: `path` is where (`$.values.os`), `reason` what is wrong there."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


def holds_unstorable(text: str) -> bool:
    """Whether `text` has a lone surrogate or U+0000, which PuppetDB cannot store."""
    return _UNSTORABLE.search(text) is not None


def shown(value: object) -> str:
    """The beginning of the value's repr, for a message; Python refuses to write integers of 4,300 digits."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "(too long to show)"


def is_plain(value: object, depth: int = 0) -> bool:
    """Whether the encoder writes `value` without loss, as far as types tell; it lies `depth` deep.

    Exact classes only, so that this runs in a tenth of the time that encoding takes. False is no verdict:
    `made_plain` looks again and either repairs or refuses.
    """
    if type(value) is dict:
        if depth > MAX_DEPTH:
            return False
        for key, item in value.items():
            if key.__class__ is not str:
                return False
            kind = item.__class__
            if kind is str or kind is int or kind is bool or item is None:
                continue
            if not is_plain(item, depth + 1):
                return False
        return True
    if type(value) is list:
        return depth <= MAX_DEPTH and _are_plain(value, depth + 1)
    if type(value) is float:
        return math.isfinite(value)
    return value is None or value.__class__ in _SCALARS


def _are_plain(items: list[object], depth: int) -> bool:
    for item in items:
        kind = item.__class__
        if kind is str or kind is int or kind is bool or item is None:
            continue
        if not is_plain(item, depth):
            return False
    return True


def made_plain(value: object, path: str, losses: list[str], depth: int = 0) -> object:
    """A copy of `value` in plain JSON types; the argument is never changed.

    Text that PuppetDB cannot store (invalid UTF-8 in bytes, lone surrogates, U+0000) becomes U+FFFD, one for
    each offending byte or character, and its path is appended to `losses`. Raises `PayloadError` for what has
    no JSON form: NaN, infinities, keys that are not strings or hold U+0000, other types, more than
    `MAX_DEPTH` levels.
    """
    if isinstance(value, Mapping | list | tuple) and depth > MAX_DEPTH:
        raise PayloadError(f"{path[:100]}…", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return _plain_object(value, path, losses, depth)
    if isinstance(value, list | tuple):
        return [made_plain(item, f"{path}[{at}]", losses, depth + 1) for at, item in enumerate(value)]
    if isinstance(value, str | bytes | bytearray):
        return _plain_text(value, path, losses)
    return _plain_scalar(value, path)


def _plain_object(value: Mapping[object, object], path: str, losses: list[str], depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise PayloadError(path, f"the key {shown(key)} is {_a(key)}, not a string")
        if "\x00" in key:
            raise PayloadError(path, f"the key {key!r:.80} has a U+0000, which PuppetDB cannot store")
        where = path + (f".{key}" if _IDENTIFIER(key) else f"[{key!r:.80}]")
        name = _plain_text(key, where, losses)
        if name in plain:
            raise PayloadError(path, f"two keys become the same, {name!r:.80}, once they are valid UTF-8")
        plain[name] = made_plain(item, where, losses, depth + 1)
    return plain


def _plain_text(value: str | bytes | bytearray, path: str, losses: list[str]) -> str:
    # surrogateescape turns each bad byte into one surrogate, so that one rule does for bytes and for text
    text = str.__str__(value) if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
    clean, replaced = _UNSTORABLE.subn("\ufffd", text)
    if replaced:
        losses.append(path)
    return clean


def _plain_scalar(value: object, path: str) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise PayloadError(path, f"an integer of {value.bit_length()} bits is longer than {_MAX_BITS}")
        return int(value)
    if isinstance(value, float | Decimal):
        # A Decimal beyond a double would be Infinity on the server.
        finite = value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)
        if not finite or math.isinf(float(value)):
            raise PayloadError(path, f"{value!s:.80} is not a number that JSON and PuppetDB can hold")
        return value if isinstance(value, Decimal) else float(value)
    raise PayloadError(path, f"{_a(value)} has no JSON form")


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
