"""Complete-or-error reading of a JSON array of any size, row by row, in bounded memory.

PuppetDB streams its answers: the status says 200 long before a query times out or its garbage collection ends
it, and then the body just stops. HTTP does not always notice; the JSON does. So an answer is complete when its
closing bracket has been seen and nothing follows it, and every other end is an error.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

__all__ = ["ArrayReader", "MalformedJson", "RowReader", "decode_document"]

DEFAULT_ROW_LIMIT = 64 * 1024 * 1024

_SMALL = 64 * 1024
"""Bytes: a row that is not complete by then is not one of a summary."""

_BLANK = " \t\r\n"
_AFTER = frozenset(" \t\r\n,]")


class MalformedJson(ValueError):
    """The text is not the one complete JSON value that it should be; the message says why."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise MalformedJson(f"the key {Counter(names).most_common(1)[0][0]!r} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise MalformedJson(f"the number {text} is beyond a double's range")
    return number


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_PLAIN = msgspec.json.Decoder(list[dict[str, str | bool | None]])
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


class ArrayReader:
    """Reads the elements of one JSON array from chunks of its text.

    Feed it chunks in order, then ask for `close()`. Both give pairs of an element and its exact text: whoever
    forwards a record takes the text, and so changes no number in it. `row_limit` bounds the memory, in characters:
    a row up to it is read, one of more than twice as many is not. With `rows_before`, the text goes on after so
    many rows of the array.
    """

    def __init__(self, row_limit: int = DEFAULT_ROW_LIMIT, rows_before: int = 0) -> None:
        self._limit = row_limit
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._later: list[bytes] = []  # chunks that were not looked at yet
        self._waiting = 0  # their bytes
        self._wanted = 0  # how many of them make a further look worth its cost
        # before the array, at its first row or its end, at a further row, after a row, after the array
        self._state = "after" if rows_before else "before"
        self.rows = rows_before

    def feed(self, chunk: bytes) -> Iterator[tuple[Any, str]]:
        """The elements that `chunk` completes. Raises `MalformedJson` as soon as the text cannot be an array."""
        self._later.append(chunk)
        self._waiting += len(chunk)
        if self._waiting >= self._wanted:
            yield from self._read(final=False)

    def close(self) -> Iterator[tuple[Any, str]]:
        """Say that the text has ended: the last elements. Raises `MalformedJson` unless the array has ended too."""
        yield from self._read(final=True)
        if self._state == "before":
            raise MalformedJson("an empty answer, not a JSON array")
        if self._state != "end":
            raise MalformedJson(f"broke off after {self.rows} complete rows, at: {_shown(self._text)}")

    def _read(self, final: bool) -> Iterator[tuple[Any, str]]:
        try:
            self._text += self._decoder.decode(b"".join(self._later), final)
        except UnicodeDecodeError as error:
            raise MalformedJson(f"not UTF-8: {error.reason}, after {self.rows} rows") from error
        self._later.clear()
        text, position = self._text, 0
        while (start := _skip(text, position)) < len(text):
            if self._state in ("first", "row") and not (self._state == "first" and text[start] == "]"):
                end = _element_end(text, start)
                if end is None:
                    position = start
                    break
                value, position = end
                self._state = "after"
                self.rows += 1
                yield value, text[start:position]
            else:
                self._step(text, start)
                position = start + 1
        self._text = text[position:]
        if len(self._text) > self._limit:
            raise MalformedJson(f"a row of more than {self._limit} characters, or not JSON, at: {_shown(self._text)}")
        # A row that has not ended is read again from its beginning: only once the text has doubled, so that a row
        # costs time in proportion to its size.
        self._waiting, self._wanted = 0, len(self._text)

    def _step(self, text: str, at: int) -> None:
        """Follow one character between the rows."""
        match self._state, text[at]:
            case "before", "[":
                self._state = "first"
            case "first" | "after", "]":
                self._state = "end"
            case "after", ",":
                self._state = "row"
            case "before", _:
                raise MalformedJson(f"not a JSON array: {_shown(text[at:])}")
            case "end", _:
                raise MalformedJson(f"text after the end of the array: {_shown(text[at:])}")
            case _:
                raise MalformedJson(f"no comma after {self.rows} rows, at: {_shown(text[at:])}")


class RowReader:
    """As `ArrayReader`, but gives only the exact text of each row, and small flat rows several times as fast.

    The rows of a summary are objects of plain values, tens of thousands of them, and msgspec cuts them a chunk at
    a time. Whatever is not of that simple kind is left to an `ArrayReader` from there on, so the same texts are
    accepted and refused.
    """

    def __init__(self) -> None:
        self._held = b""
        self._rows = 0
        self._exact: ArrayReader | None = None

    @property
    def rows(self) -> int:
        """How many rows were given."""
        return self._rows if self._exact is None else self._exact.rows

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The rows that `chunk` completes. Raises `MalformedJson`."""
        if self._exact is None:
            self._held += chunk
            end = self._held.rfind(b"}") + 1
            found = _flat_rows(self._held[:end], first=not self._rows) if end else None
            if found is not None:
                self._held = self._held[end:]
                self._rows += len(found)
                yield from map(bytes, found)
                return
            if not end and len(self._held) < _SMALL:
                return
            self._exact, chunk = ArrayReader(rows_before=self._rows), self._held
            self._held = b""
        for _, text in self._exact.feed(chunk):
            yield text.encode()

    def close(self) -> Iterator[bytes]:
        """Say that the text has ended: the last rows. Raises `MalformedJson` unless the array has ended too."""
        if self._exact is None:
            self._exact = ArrayReader(rows_before=self._rows)
            for _, text in self._exact.feed(self._held):
                yield text.encode()
        for _, text in self._exact.close():
            yield text.encode()


def decode_document(body: bytes) -> Any:
    """One whole JSON document, held in memory. Raises `MalformedJson`, with the same rules as for rows."""
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except MalformedJson:
        raise
    except UnicodeDecodeError as error:
        raise MalformedJson(f"not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise MalformedJson(f"not JSON: {_shown(body.decode('utf-8', 'replace'))}") from error


def _flat_rows(text: bytes, *, first: bool) -> list[msgspec.Raw] | None:
    """The rows of `text`, which goes from the array's beginning, or from the comma after a row, to the end of a row.

    None for anything but objects of strings without a backslash, null, true and false: of these, counting shows
    that no key stands twice in one, and no number can be out of range.
    """
    text = text.lstrip()
    if text[:1] != (b"[" if first else b",") or b"\\" in text:
        return None
    array = b"[" + text[1:] + b"]"
    try:
        plain, rows = _PLAIN.decode(array), _RAWS.decode(array)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # Where nothing is escaped, a quote before a colon is the end of a key.
    return rows if sum(map(len, plain)) == array.count(b'":') else None


def _element_end(text: str, start: int) -> tuple[Any, int] | None:
    """The element that starts there and where it ends; None while its end is not in sight."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise MalformedJson("nested too deep") from error
    except json.JSONDecodeError:
        return None
    except MalformedJson:
        if text[-1] in "0123456789":
            # A number that is out of range so far: its exponent may go on.
            return None
        raise
    except ValueError as error:
        # Python's own limit on the digits of an integer.
        raise MalformedJson(f"a number that is too long: {error}") from error
    # At the end of the text, and in "1e" or "1.", the rest of a number may come with the next chunk.
    return (value, end) if text[end : end + 1] in _AFTER else None


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANK:
        position += 1
    return position


def _shown(text: str) -> str:
    return repr(" ".join(text[:120].split()))
