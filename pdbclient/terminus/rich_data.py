"""Puppet's rich data as the stock terminus stores it: every value that is no JSON becomes text.

A catalog document holds such a value as `{"__ptype": TYPE, "__pvalue": VALUE}`, an object as its attributes beside
`__ptype`. What is Sensitive becomes one and the same placeholder, wherever it lies: the stock one carries Ruby's
object id, so that the same catalog never has the same hash twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdbclient.terminus.pcore import REDACTED, object_text, regexp_text, type_text
from pdbclient.terminus.ruby_characters import RUBY_3_2, Ruby
from pdbclient.terminus.ruby_inspect import ruby_inspect, ruby_to_s
from pdbclient.wire.plain import MAX_DEPTH, PayloadError

__all__ = ["plain_parameters", "unreserved"]

_TYPE, _VALUE = "__ptype", "__pvalue"
_SCALARS = frozenset({str, int, bool, float, type(None)})
_LOCAL_REF = re.compile(r"\[(?:'((?:[^'\\]|\\.)*)'|(\d+))\]", re.ASCII | re.DOTALL)


def plain_parameters(parameters: Mapping[str, object], ruby: Ruby = RUBY_3_2) -> dict[str, Any]:
    """A resource's parameters as JSON data without rich values, in the text of a server with that Ruby.

    Raises `PayloadError`, its path relative to the parameters, for values nested too deep and for a `LocalRef` to
    nothing.
    """
    reader = _Reader(parameters, ruby)
    return {name: reader.plain(value, 0) for name, value in parameters.items()}


def unreserved(value: object) -> object:
    """A value in which no hash looks like rich data: as Puppet reads a report, which holds none."""
    if isinstance(value, Mapping):
        return {_unreserved(key): unreserved(item) for key, item in value.items()}
    return [unreserved(item) for item in value] if isinstance(value, list) else value


class _Reader:
    """Reads the values of one resource, whose parameters are the root of the paths in a `LocalRef`."""

    def __init__(self, root: Mapping[str, object], ruby: Ruby) -> None:
        self._root = root
        self._ruby = ruby

    def plain(self, value: Any, depth: int) -> Any:
        if value.__class__ in _SCALARS:
            return value
        if isinstance(value, list):
            self._check(depth)
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            self._check(depth)
            if _TYPE in value:
                return self._from_rich(value, depth)
            return {_unreserved(key): self.plain(item, depth + 1) for key, item in value.items()}
        return value

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise PayloadError("", f"nested deeper than {MAX_DEPTH} levels")

    def _from_rich(self, rich: Mapping[str, Any], depth: int) -> Any:
        kind, value = rich[_TYPE], rich.get(_VALUE)
        if kind == "Sensitive":
            return REDACTED
        if kind == "Default":
            return "default"
        if kind == "Regexp" and isinstance(value, str):
            return regexp_text(value)
        if kind == "Hash" and isinstance(value, list):
            return self._from_pairs(value, depth)
        if kind == "LocalRef" and isinstance(value, str):
            return self.plain(self._referred(value), depth + 1)
        if _VALUE in rich:
            return ruby_to_s(self._inspectable(value, depth + 1), self._ruby)
        return _object_text(rich)

    def _from_pairs(self, pairs: list[Any], depth: int) -> dict[str, Any]:
        """A hash with keys of any kind. Several Sensitive keys are told apart by their order."""
        plain: dict[str, Any] = {}
        redacted = 0
        for key, item in zip(pairs[::2], pairs[1::2], strict=False):
            name = self._key_text(key, depth)
            if name == REDACTED:
                redacted += 1
                name = REDACTED if redacted == 1 else f"{REDACTED[:-1]}:{redacted}>"
            plain[_unreserved(name)] = self.plain(item, depth + 1)
        return plain

    def _key_text(self, key: Any, depth: int) -> str:
        """A key of text is itself, a list or a hash what Ruby's `inspect` makes of it, the rest as a value is."""
        rich = isinstance(key, Mapping) and key.get(_TYPE) not in (None, "Hash")
        return ruby_to_s(self.plain(key, depth + 1) if rich else self._inspectable(key, depth + 1), self._ruby)

    def _inspectable(self, value: Any, depth: int) -> Any:
        """The value for `ruby_inspect`: what is rich within it as the text that stands without quotes."""
        self._check(depth)
        if isinstance(value, list):
            return [self._inspectable(item, depth + 1) for item in value]
        if not isinstance(value, Mapping):
            return value
        if _TYPE not in value:
            return {key: self._inspectable(item, depth + 1) for key, item in value.items()}
        if value[_TYPE] == "Hash" and isinstance(value.get(_VALUE), list):
            shown = [ruby_inspect(self._inspectable(item, depth + 1), self._ruby) for item in value[_VALUE]]
            pairs = zip(shown[::2], shown[1::2], strict=False)
            return _Bare("{" + ", ".join(f"{key}=>{item}" for key, item in pairs) + "}")
        return _Bare(":default" if value[_TYPE] == "Default" else ruby_to_s(self.plain(value, depth), self._ruby))

    def _referred(self, path: str) -> Any:
        """The value at `$['message'][0]`."""
        found: Any = self._root
        try:
            for name, at in _LOCAL_REF.findall(path):
                found = found[int(at) if at else re.sub(r"\\(['\\])", r"\1", name)]
        except (LookupError, TypeError, ValueError) as error:  # Python reads no more than 4,300 digits
            raise PayloadError("", f"the reference {path!r:.80} leads nowhere") from error
        return found


@dataclass(frozen=True, slots=True)
class _Bare:
    """Text that Ruby's `inspect` shows as it is."""

    text: str

    def __str__(self) -> str:
        return self.text


def _object_text(rich: Mapping[str, Any]) -> str | None:
    try:
        if rich[_TYPE] == "Pcore::ObjectType" and "name" not in rich["_pcore_init_hash"]:
            return None  # Puppet asks such a type for its name, where it is not within another
        return type_text(rich, alone=True) if str(rich[_TYPE]).startswith("Pcore::") else object_text(rich)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PayloadError("", "holds an object that cannot be read") from error


def _unreserved(key: str) -> str:
    return f"reserved key: {key}" if key in (_TYPE, _VALUE) else key
