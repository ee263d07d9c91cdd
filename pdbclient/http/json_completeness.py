"""Whether JSON that is passed on unread came to its end. Pure.

Whoever reads rows uses `stream`, which parses them. A relay hands bytes on as they are and only has to know that an
answer which broke off did break off: brackets and quotes tell that, at a small part of the cost.
"""

from __future__ import annotations

from itertools import accumulate, islice

from pdbclient.http.stream import MalformedJson

__all__ = ["JsonCompleteness"]

_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_BLANK = b" \t\r\n"


class JsonCompleteness:
    """Follows one JSON array or object through chunks of its text; it does not judge the grammar in between."""

    def __init__(self) -> None:
        self._depth = 0
        self._begun = self._in_string = False
        self._carry = b""  # a backslash at the end of a chunk: what it escapes comes with the next one

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk. Raises `MalformedJson` when it does not begin as JSON, or goes on after the end."""
        text = self._carry + chunk
        self._carry = b""
        # With escaped backslashes and then escaped quotes gone, every quote begins or ends a string.
        text = text.replace(b"\\\\", b"")
        if text.endswith(b"\\"):
            text, self._carry = text[:-1], b"\\"
        pieces = text.replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[self._in_string :: 2])
        self._in_string ^= len(pieces) % 2 == 0
        if not self._begun:
            outside = outside.lstrip(_BLANK)
            if not outside and not self._in_string:
                return
            if not outside.startswith((b"[", b"{")):
                raise MalformedJson(f"not a JSON array or object: {chunk[:60].decode('utf-8', 'replace')!r}")
            self._begun = True
        elif self._depth == 0 and (outside.strip(_BLANK) or len(pieces) > 1):
            raise MalformedJson("text after the end")
        self._follow(outside, pieces[-1])

    def close(self) -> None:
        """Say that the text has ended. Raises `MalformedJson` unless the JSON has ended too."""
        if not self._begun:
            raise MalformedJson("an empty answer, not JSON")
        if self._in_string or self._depth or self._carry:
            raise MalformedJson("broke off before its end")

    def _follow(self, outside: bytes, last: bytes) -> None:
        """Follow the brackets of a chunk; `last` is what stands in it after the last quote."""
        brackets = outside.translate(None, _NOT_BRACKETS)
        before = self._depth
        opened = brackets.count(b"[") + brackets.count(b"{")
        self._depth += 2 * opened - len(brackets)
        if self._depth > 0 or not brackets:
            return
        ends_there = not self._in_string and last.rstrip(_BLANK).endswith((b"]", b"}"))
        if self._depth < 0 or not ends_there or _closes_early(before, brackets):
            raise MalformedJson("text after the end")


def _closes_early(depth: int, brackets: bytes) -> bool:
    """Whether the value that is open at `depth` has ended before the last of these brackets."""
    steps = (1 if bracket in b"[{" else -1 for bracket in brackets[:-1])
    return 0 in islice(accumulate(steps, initial=depth), 1, None)
