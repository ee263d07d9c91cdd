"""The condition of a resource collector, `File <<| tag == 'web' |>>`: its text and its AST."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from pdbclient.errors import PdbError

__all__ = ["Filter", "InvalidQuery", "filter_ast", "parse_collector"]

Filter: TypeAlias = Sequence[Any]
"""`[op, name, value]` with `==` or `!=`, or `[op, filter, filter]` with `and` or `or`; the value is JSON."""


class InvalidQuery(PdbError, ValueError):
    """A query, or a collector's condition, that says nothing PuppetDB could be asked."""


def filter_ast(condition: Filter) -> list[Any]:
    """The stock terminus's AST of a condition: tags in lower case, parameters wrapped, `and`/`or` of two.

    More than two operands of `and` and `or` are taken from the left. Raises `InvalidQuery`.
    """
    if isinstance(condition, str) or not isinstance(condition, Sequence) or len(condition) < 3:
        raise InvalidQuery(f"{condition!r} is not a condition like ['==', 'tag', 'web']")
    operator, *operands = condition
    if operator in ("and", "or"):
        ast = filter_ast(operands[0])
        for operand in operands[1:]:
            ast = [operator, ast, filter_ast(operand)]
        return ast
    if operator not in ("==", "!="):
        raise InvalidQuery(f"operator {operator!r} in {condition!r} is not supported: use ==, !=, and, or")
    if len(operands) != 2 or not isinstance(operands[0], str):
        raise InvalidQuery(f"{condition!r} does not compare a name with a value")
    equal = _equal(*operands)
    return equal if operator == "==" else ["not", equal]


def _equal(name: str, value: Any) -> list[Any]:
    if name == "tag":
        if not isinstance(value, str):
            raise InvalidQuery(f"a tag is a string, not {json.dumps(value, default=repr)}")
        return ["=", "tag", value.lower()]
    return ["=", name if name == "title" else ["parameter", name], value]


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<op>==|!=|\(|\))
      | '(?P<single>(?:[^'\\]|\\.)*)'
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w))
      | (?P<reference>[A-Z]\w*(?:::[A-Z]\w*)*\[(?:'[^']*'|"[^"]*"|[^\]]*)\])
      | (?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_REFERENCE = re.compile(r"([^\[]+)\[['\"]?(.*?)['\"]?\]", re.DOTALL).fullmatch
_WORDS = {"true": True, "false": False, "undef": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "s": " "}


def parse_collector(text: str) -> Filter:
    """Parse Puppet's own notation, without the brackets: `(tag == 'x' or title != '/a') and mode == '0755'`.

    `and` binds tighter than `or`, both from the left. Values are quoted strings (without `$` interpolation),
    numbers, `true`, `false`, `undef`, bare words and resource references (`File['/x']`, which stands for the
    stored `File[/x]`). Raises `InvalidQuery` with the column.
    """
    parser = _Parser(text)
    condition = parser.either()
    parser.expect("end")
    return condition


class _Parser:
    """either = both {or both}; both = term {and term}; term = "(" either ")" | name op value."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._next()

    def either(self) -> Filter:
        left = self._both()
        while self._is_word("or"):
            self._next()
            left = ["or", left, self._both()]
        return left

    def expect(self, what: str) -> None:
        if (self._value if self._kind == "op" else self._kind) != what:
            raise self._error("the end" if what == "end" else f"{what!r}")
        self._next()

    def _both(self) -> Filter:
        left = self._term()
        while self._is_word("and"):
            self._next()
            left = ["and", left, self._term()]
        return left

    def _term(self) -> Filter:
        if (self._kind, self._value) == ("op", "("):
            self._next()
            inner = self.either()
            self.expect(")")
            return inner
        if self._kind != "word" or self._value in ("and", "or"):
            raise self._error("a parameter's name, tag or title")
        name = self._value
        self._next()
        if self._kind != "op" or self._value not in ("==", "!="):
            raise self._error("== or !=")
        operator = self._value
        self._next()
        return [operator, name, self._operand()]

    def _operand(self) -> object:
        kind, text = self._kind, self._value
        value: object
        if kind == "single":
            value = re.sub(r"\\(['\\])", r"\1", text)
        elif kind == "double":
            if re.search(r"(?<!\\)\$[{\w]", text):
                raise self._error("a value without $ interpolation")
            value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text, flags=re.DOTALL)
        elif kind == "number":
            value = self._number(text)
        elif kind == "reference" and (found := _REFERENCE(text)):
            value = f"{found[1]}[{found[2]}]"
        elif kind == "word":
            value = _WORDS.get(text, text)
        else:
            raise self._error("a value")
        self._next()
        return value

    def _number(self, text: str) -> int | float:
        try:
            number = float(text) if set(text) & set(".eE") else int(text)
        except ValueError:  # Python reads no more than 4,300 digits
            number = math.inf
        if math.isinf(number):
            raise InvalidQuery(f"column {self._start + 1}: the number is too large: {text:.40}")
        return number

    def _is_word(self, word: str) -> bool:
        return (self._kind, self._value) == ("word", word)

    def _next(self) -> None:
        self._start = self._at
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at :]
            self._kind, self._value = ("unknown", rest.strip()[:20]) if rest.strip() else ("end", "")
            return
        self._at = found.end()
        self._kind = str(found.lastgroup)
        self._value = found[self._kind]

    def _error(self, wanted: str) -> InvalidQuery:
        got = f"found {self._value!r}" if self._kind != "end" else "the condition ends"
        return InvalidQuery(f"column {self._start + 1}: expected {wanted}, but {got}, in: {self._text}")
