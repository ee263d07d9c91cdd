"""YAML as Ruby writes it, read into plain data. Nothing is ever instantiated, whatever a tag asks for.

The events of PyYAML's parser are taken, and none of its constructors: which plain scalar is a number, a symbol or
a boolean is decided by the rules of Ruby's Psych, whose writer quotes what it does not mean so.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

import yaml

from pdbclient.errors import PdbError
from pdbclient.terminus.ruby_inspect import ruby_to_s
from pdbclient.wire.plain import MAX_DEPTH

__all__ = ["REDACTED", "PuppetFileError", "read_yaml"]

REDACTED = "Sensitive [value redacted]"
"""What Puppet writes in place of a Sensitive value."""

MAX_EXPANDED = 64 * 2**20
"""How many characters aliases may make of a file, beyond its own length. A real report repeats little."""

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: dict[str, bool | None] = {
    **{"": None, "~": None, "null": None},
    **{"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False},
}
_INFINITE = re.compile(r"[+-]?\.inf|\.nan", re.IGNORECASE).fullmatch
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][-+][0-9]+)?").fullmatch
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0b(?P<two>[01_,]+)|0x(?P<sixteen>[0-9a-fA-F_,]+)|0(?P<eight>[0-7_,]+)"
    r"|(?P<ten>0|[1-9](?:,?[0-9]|_[0-9])*))"
).fullmatch
_BASES = {"two": 2, "eight": 8, "ten": 10, "sixteen": 16}
_SYMBOL = re.compile(r"""(?P<quote>["'])(?P<text>.*)(?P=quote)""").fullmatch

_TEXT_TAG = re.compile(r"tag:yaml\.org,2002:str|!(?:str|ruby/(?:string|regexp|range|class|module))(?::.*)?").fullmatch
_SYMBOL_TAG = re.compile(r"!ruby/sym(?:bol)?(?::.*)?").fullmatch
_BINARY_TAGS = frozenset({"!binary", "tag:yaml.org,2002:binary"})
_SENSITIVE_TAG = re.compile(r"!ruby/.*\bsensitive", re.IGNORECASE).fullmatch
_SET_TAG = re.compile(r"!ruby/(?:object|set):(?:.*::)?(?:Tag)?Set").fullmatch


class PuppetFileError(PdbError):
    """A file that is none of Puppet's. `line` counts from 1; None when the fault has no place."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        self.reason, self.line = reason, line
        super().__init__(reason if line is None else f"line {line}: {reason}")


def read_yaml(data: bytes) -> object:
    """The one document in `data`, as null, booleans, numbers, text, lists and dicts with text for keys.

    Symbols become text, objects of any class dicts, sets lists, Sensitive values `REDACTED`. Times and dates keep
    their exact text. Bytes of `!binary` that are no UTF-8 become lone surrogates, which the command's encoding
    replaces with a warning. The last of two equal keys wins, as in Ruby. An alias gives the very object of its
    anchor: do not change what you get.

    Raises `PuppetFileError`.
    """
    try:
        return _Reader(data).document()
    except yaml.reader.ReaderError as error:
        raise PuppetFileError(f"is not YAML: {error.reason} at position {error.position}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise PuppetFileError(f"is not YAML: {error.problem or error.context}", line) from error


class _Reader:
    """One pass over the events of a document."""

    def __init__(self, data: bytes) -> None:
        self._events: Iterator[yaml.Event] = iter(yaml.parse(data, Loader=_PARSER))
        self._anchors: dict[str, tuple[object, int]] = {}
        self._size = 0  # characters of what was read, aliases written out
        self._most = len(data) + MAX_EXPANDED
        self._secret = 0  # how many Sensitive values we are in

    def document(self) -> object:
        next(self._events)  # the start of the stream
        if not isinstance(next(self._events), yaml.DocumentStartEvent):
            raise PuppetFileError("is empty")
        value = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise PuppetFileError("has more than one document", _line(following))
        return value

    def _value(self, event: yaml.Event, depth: int) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, yaml.NodeEvent)
        before, tag = self._size, getattr(event, "tag", None)
        secret = tag is not None and _SENSITIVE_TAG(tag) is not None
        self._secret += secret
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            self._grow(len(event.value) + 3, event)
        else:
            if depth >= MAX_DEPTH:
                raise PuppetFileError(f"is nested deeper than {MAX_DEPTH} levels", _line(event))
            self._grow(2, event)
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            value = self._mapping(tag, depth + 1) if is_mapping else self._sequence(depth + 1)
        if self._secret:
            value = REDACTED
        self._secret -= secret
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._size - before)
        return value

    def _alias(self, event: yaml.AliasEvent) -> object:
        # An anchor is known once its value is complete, so a value cannot hold itself.
        if event.anchor not in self._anchors:
            raise PuppetFileError(
                f"the alias *{event.anchor} stands for nothing before it, or for itself", _line(event)
            )
        value, size = self._anchors[event.anchor]
        self._grow(size, event)
        return value

    def _sequence(self, depth: int) -> list[object]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth))
        return items

    def _mapping(self, tag: str | None, depth: int) -> object:
        items: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                raise PuppetFileError("has a merge key (<<), which Puppet does not write", _line(event))
            key = self._value(event, depth)
            if isinstance(key, list | dict):
                raise PuppetFileError("has a key that is a list or a hash", _line(event))
            items[ruby_to_s(key)] = self._value(next(self._events), depth)
        members = items.get("hash")
        if tag is not None and isinstance(members, dict) and _SET_TAG(tag):
            return list(members)
        return items

    def _grow(self, size: int, event: yaml.Event) -> None:
        self._size += size
        if self._size > self._most:
            raise PuppetFileError(f"its aliases make more than {MAX_EXPANDED >> 20} MiB of it", _line(event))


def _line(event: yaml.Event) -> int | None:
    return None if event.start_mark is None else event.start_mark.line + 1


def _scalar(event: yaml.ScalarEvent) -> object:
    text, tag = event.value, event.tag
    if tag is None:
        return text if event.implicit[1] else _plain(text, event)
    if _TEXT_TAG(tag):
        return text
    if _SYMBOL_TAG(tag):
        return text
    if tag in _BINARY_TAGS:
        try:
            return binascii.a2b_base64(text).decode("utf-8", "surrogateescape")
        except ValueError as error:  # binascii's own error, or a character beyond ASCII
            raise PuppetFileError(f"has binary data that is no base64: {error}", _line(event)) from error
    if tag == "!":  # the writer's way with a symbol that cannot stand without quotes
        return text.removeprefix(":")
    return _plain(text, event)


def _plain(text: str, event: yaml.ScalarEvent) -> object:
    """What Psych makes of a scalar without quotes; but times, dates and base-60 numbers stay the text they are."""
    if len(text) <= 5:
        word = _WORDS.get(text.lower(), text)
        if not isinstance(word, str):
            return word
    if text[0] == ":" and len(text) > 1:
        quoted = _SYMBOL(text, 1)
        return quoted["text"].removeprefix(":") if quoted else text[1:]
    if text[0] not in "0123456789+-.":
        return text
    try:
        return _number(text)
    except ValueError as error:  # Python reads no more than 4,300 digits
        raise PuppetFileError("has a number that is too long", _line(event)) from error


def _number(text: str) -> int | float | str:
    if found := _INTEGER(text):
        base = found.lastgroup
        assert base is not None
        digits = found[base].replace("_", "").replace(",", "")
        return int(f"{found['sign']}{digits or '0'}", _BASES[base])
    if _FLOAT(text) and any(char in "0123456789" for char in text.partition("e")[0].partition("E")[0]):
        return float(text.replace("_", "").replace(",", ""))
    if _INFINITE(text):
        return float(text.replace(".", ""))
    return text
