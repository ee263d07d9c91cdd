"""Text from other machines, made safe to show: on a terminal, and in a log that somebody reads on one."""

from __future__ import annotations

import codecs

__all__ = ["visible"]

_ESCAPED = codecs.lookup("unicode_escape").encode
"""Looked up now: it is a file, and when something is to be said, there may be no descriptor left to open it."""


def visible(text: str) -> str:
    r"""`text` with everything escaped that a terminal would act on or not show: `\x1b`, `\n`, `\u202e`.

    A certname or a fact's value comes from a machine that may not be trusted: ESC and its kind move the cursor,
    change colours, hide text, on some terminals more; right-to-left marks reorder it; a line end forges a log line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _ESCAPED(char)[0].decode("ascii") for char in text)
