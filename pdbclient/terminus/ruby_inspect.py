"""Plain data as Ruby writes it in text: what the stock terminus sends where it calls `to_s`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pdbclient.terminus.ruby_characters import RUBY_3_2, Ruby

__all__ = ["ruby_inspect", "ruby_to_s"]

# What Ruby's String#inspect may write otherwise: quotes, backslashes, the start of an interpolation, control
# characters, and all beyond ASCII, which is looked at one by one.
_DOUBTFUL = re.compile(r'["\\\x00-\x1f\x7f-\U0010ffff]|#(?=[{$@])')
_SHORT = {
    **{'"': '\\"', "\\": "\\\\", "#": "\\#", "\x07": "\\a", "\x08": "\\b", "\t": "\\t", "\n": "\\n"},
    **{"\x0b": "\\v", "\x0c": "\\f", "\r": "\\r", "\x1b": "\\e"},
}
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def ruby_to_s(value: object, ruby: Ruby = RUBY_3_2) -> str:
    """`value.to_s`: null is empty, a list or a hash is what `ruby_inspect` gives, text is itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else ruby_inspect(value, ruby)


def ruby_inspect(value: object, ruby: Ruby = RUBY_3_2) -> str:
    """`value.inspect` of plain data (null, booleans, numbers, text, lists, hashes), as of Ruby before 3.4."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_DOUBTFUL.sub(lambda found: _escaped(found[0], ruby), value)}"'
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        pairs = (f"{ruby_inspect(key, ruby)}=>{ruby_inspect(item, ruby)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(ruby_inspect(item, ruby) for item in value)}]"
    return str(value)


def _float(value: float) -> str:
    text = repr(value)
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    mantissa, e, exponent = text.partition("e")
    if e:
        return text if "." in mantissa else f"{mantissa}.0e{exponent}"
    if abs(value) < 1e15:
        return text
    # Ruby writes an exponent from 1e15 on, Python from 1e16.
    whole, _, fraction = text.lstrip("-").partition(".")
    digits = (whole + fraction).rstrip("0")
    return f"{'-' * (value < 0)}{digits[0]}.{digits[1:] or '0'}e+{len(whole) - 1}"


def _escaped(char: str, ruby: Ruby) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it in text
        return f"\\x{code - 0xDC00:02X}"
    if ruby.prints(char):
        return char
    return f"\\u{code:04X}" if code < 0x10000 else f"\\u{{{code:X}}}"
