"""Objects and data types of the Puppet language as the text that the stock terminus stores for them.

The document holds their attributes beside `__ptype`. What it does not hold cannot come back: `Boolean[true]` and
`Sensitive[String]` are printed without what is in the brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pdbclient.terminus.ruby_inspect import ruby_inspect

__all__ = ["REDACTED", "object_text", "regexp_text", "type_text"]

REDACTED = "#<Sensitive [value redacted]>"
"""What stands for a Sensitive value that lies within another value."""

Rich: TypeAlias = Mapping[str, Any]

_SLASH = re.compile(r"\\.|/", re.DOTALL)
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "$": "\\$", "\\": "\\\\"}


def regexp_text(source: str) -> str:
    """A regular expression between slashes, those within it escaped."""
    return "/" + _SLASH.sub(lambda found: found[0] if len(found[0]) > 1 else r"\/", source) + "/"


def object_text(rich: Rich) -> str:
    """An object as its constructor's call: `Deferred({'name' => 'file', 'arguments' => ['/x']})`.

    As for `type_text`, LookupError, TypeError and AttributeError when the document is not what Puppet prints.
    """
    return f"{_word(rich['__ptype'])}({_pairs((key, item) for key, item in rich.items() if key != '__ptype')})"


def type_text(rich: Rich, *, alone: bool = False) -> str:
    """A data type: `Array[String, 1]`. With `alone`, an alias is followed by what it stands for."""
    kind = _word(rich["__ptype"]).removeprefix("Pcore::").removesuffix("Type")
    if kind == "Object":
        return _word(rich["_pcore_init_hash"].get("name", kind))
    if kind == "TypeAlias":
        meant = rich.get("resolved_type")
        return f"{_word(rich['name'])} = {_text(meant)}" if alone and meant else _word(rich["name"])
    if kind == "Resource":
        name = rich.get("type_name")
        return _bracketed(_word(name), [_quoted(rich["title"])] if rich.get("title") else []) if name else kind
    arguments = _ARGUMENTS.get(kind)
    return _bracketed(kind, arguments(rich) if arguments else [])


def _text(value: Any) -> str:
    """A value as Puppet source."""
    if value is None:
        return "undef"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{_joined(value)}]"
    if isinstance(value, Mapping):
        return _rich_text(value) if "__ptype" in value else _pairs(value.items())
    return ruby_inspect(value)


def _rich_text(rich: Rich) -> str:
    kind, value = rich["__ptype"], rich.get("__pvalue")
    if kind == "Sensitive":
        return REDACTED
    if kind == "Default":
        return "default"
    if kind == "Regexp":
        return regexp_text(_word(value))
    if kind == "Hash" and isinstance(value, list):
        return _pairs(zip(value[::2], value[1::2], strict=False))
    if kind == "Binary":
        return "Instance of Binary"
    if kind == "URI":
        return f"URI({_text(value)})"
    if "__pvalue" in rich:
        return _text(value)
    return type_text(rich) if str(kind).startswith("Pcore::") else object_text(rich)


def _pairs(pairs: Any) -> str:
    inner = ", ".join(f"{_text(key)} => {_text(item)}" for key, item in pairs)
    return f"{{{inner}}}"


def _joined(items: Any) -> str:
    return ", ".join(map(_text, items))


def _word(value: object) -> str:
    """A name or a pattern, which nothing but text can be: anything else might hold a secret."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _quoted(value: object) -> str:
    """Between single quotes when there is no control character, else between double quotes."""
    text = _word(value)
    if any(char < " " for char in text):
        return f'"{"".join(map(_double_quoted, text))}"'
    inner, escaped = [], False
    for char in text:
        if escaped or char != "\\":
            inner.append("\\" + char if escaped or char == "'" else char)
            escaped = False
        else:
            escaped = True
    return f"'{''.join(inner)}{chr(92) if escaped else ''}'"


def _double_quoted(char: str) -> str:
    return _ESCAPES.get(char) or (f"\\u{{{ord(char):X}}}" if char < " " else char)


def _bracketed(name: str, arguments: list[str]) -> str:
    return f"{name}[{', '.join(arguments)}]" if arguments else name


def _range(rich: Rich | None) -> list[str]:
    """`from` and `to` of a numeric or size type, as far as they are given."""
    if not rich or (rich.get("from") is None and rich.get("to") is None):
        return []
    first = "default" if rich.get("from") is None else _text(rich["from"])
    return [first] if rich.get("to") is None else [first, _text(rich["to"])]


def _types(rich: Rich, *names: str) -> list[str]:
    """The types under `names`, then the size; an empty collection shows its size alone."""
    found = [rich[name] for name in names if rich.get(name)]
    shown = [type_text(item) for item in found if item["__ptype"] != "Pcore::UnitType"]
    return shown + _range(rich.get("size_type"))


def _list(rich: Rich) -> list[str]:
    return [*map(type_text, rich.get("types", [])), *_range(rich.get("size_type"))]


def _wrapped(rich: Rich) -> list[str]:
    """`Optional[String]`, but `Optional['a']` for the string itself."""
    inner = rich.get("type")
    if not inner:
        return []
    exact = inner.get("size_type_or_value")
    return [_quoted(exact) if isinstance(exact, str) else type_text(inner)]


def _string(rich: Rich) -> list[str]:
    size = rich.get("size_type_or_value")
    return [_quoted(size)] if isinstance(size, str) else _range(size)


def _enum(rich: Rich) -> list[str]:
    return [*map(_text, rich.get("values", [])), *(["true"] if rich.get("case_insensitive") else [])]


def _patterns(rich: Rich) -> list[str]:
    return [regexp_text(_word(pattern["pattern"])) for pattern in rich.get("patterns", [])]


def _struct(rich: Rich) -> list[str]:
    members = [f"{_member_key(item)} => {type_text(item['value_type'])}" for item in rich.get("elements", [])]
    return [f"{{{', '.join(members)}}}"] if members else []


def _member_key(element: Rich) -> str:
    """A key whose value may be undef is optional by itself, and must say so when it is not."""
    key = element["key_type"]
    needed = key["__ptype"] != "Pcore::OptionalType"
    undef_fits = element["value_type"]["__ptype"] in ("Pcore::OptionalType", "Pcore::AnyType", "Pcore::UndefType")
    name = _quoted(key["size_type_or_value"]) if needed else _wrapped(key)[0]
    if needed:
        return f"NotUndef[{name}]" if undef_fits else name
    return name if undef_fits else f"Optional[{name}]"


def _callable(rich: Rich) -> list[str]:
    """`Callable[[String], Integer]`; `Callable[0, 0]` takes nothing, and types that may be any are only counted."""
    parameters = []
    if rich.get("param_types"):
        types = rich["param_types"].get("types", [])
        shown = [type_text(item) for item in types if item["__ptype"] != "Pcore::UnitType"]
        parameters = [*shown, *_range(rich["param_types"].get("size_type"))] if types else ["0", "0"]
    if rich.get("block_type"):
        parameters.append(type_text(rich["block_type"]))
    if rich.get("return_type"):
        return [f"[{', '.join(parameters)}]", type_text(rich["return_type"])]
    return parameters


_ARGUMENTS: Mapping[str, Callable[[Rich], list[str]]] = {
    **dict.fromkeys(("Integer", "Float", "Timestamp", "Timespan"), _range),
    **dict.fromkeys(("Optional", "NotUndef", "Type", "Iterable", "Iterator", "Sensitive"), _wrapped),
    "Init": lambda rich: [*_wrapped(rich), *map(_text, rich.get("init_args") or [])],
    **dict.fromkeys(("Variant", "Tuple"), _list),
    "Array": lambda rich: _types(rich, "element_type"),
    "Hash": lambda rich: _types(rich, "key_type", "value_type"),
    "Collection": _types,
    "String": _string,
    "Enum": _enum,
    "Pattern": _patterns,
    "Regexp": lambda rich: [regexp_text(_word(rich["pattern"]))] if rich.get("pattern") else [],
    "Struct": _struct,
    "Callable": _callable,
    "SemVer": lambda rich: [*map(_text, rich.get("ranges", []))],
    "Class": lambda rich: [_word(rich["class_name"])] if rich.get("class_name") else [],
    "Runtime": lambda rich: (
        [_word(rich["runtime"]), _text(rich.get("name_or_pattern"))] if rich.get("runtime") else []
    ),
    "URI": lambda rich: [_text(rich["parameters"])] if rich.get("parameters") else [],
}
