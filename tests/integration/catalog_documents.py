"""Random catalog documents, the same at every run: shapes that no compiler makes but a terminus may be given."""

from __future__ import annotations

import itertools
import random
from typing import Any

__all__ = ["TITLES", "random_documents"]

_TITLES = ("a", "b", "c d", "x]\n[y", "/p", "/p/", "é", "Foo[bar]")
TITLES = (*_TITLES, *("".join(text) for size in range(5) for text in itertools.product("/:a@\n", repeat=size)))
"""Titles of all shapes, for the patterns that types have for them."""
TYPES = ("Notify", "File", "Exec", "User", "Package", "Foo::Bar", "Tidy")
NAMEVARS = {"File": "path", "Exec": "command", "Tidy": "path"}
RARE = ["\x85\x7f\u200b\u2028\ue000", "\u061d\U0001fae0\U0001fae8\U000323af", "\u2ffc\U0002ebf0\U0001fae9\u0378"]
"""Characters that not every Ruby prints: of Unicode 14 and 15, of later ones, and of none."""
REFERENCES = (
    "notify[a]",
    "Nope[a]",
    "Foo::bar[a]",
    "x",
    "",
    "Notify[a",
    "Notify[a]\nmore",
    "more\nNotify[a]",
    "File[/p//]",
)


def random_documents(count: int) -> list[dict[str, Any]]:
    chance = random.Random(20260102)
    return [{"name": f"d{at}", "document": _document(chance)} for at in range(count)]


def _document(chance: random.Random) -> dict[str, Any]:
    keys = sorted({(chance.choice(TYPES), chance.choice(_TITLES)) for _ in range(chance.randint(2, 7))})
    keys = [key for key in keys if key[0] != "File" or key[1].startswith("/")]
    if ("File", "/p/") in keys:
        keys = [key for key in keys if key != ("File", "/p")]  # Puppet refuses both together
    resources = [_resource(chance, kind, title, keys) for kind, title in keys]
    edges = []
    if len(keys) > 1:
        edges = [{"source": _reference(keys[0]), "target": _reference(key)} for key in keys[1:]]
    return {
        "name": "node1.example",
        "version": chance.choice([1700000000, "v1", ""]),
        "environment": "production",
        "catalog_uuid": "99999999-2222-4333-8444-555555555555",
        "code_id": chance.choice([None, "abc"]),
        "catalog_format": 2,
        "resources": resources,
        "edges": edges,
        "classes": ["settings"],
    }


def _resource(chance: random.Random, kind: str, title: str, keys: list[tuple[str, str]]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name in ("message", "content", "owner"):
        if chance.random() < 0.4:
            parameters[name] = _value(chance, 0)
    if (kind, title) == ("File", "/p/"):
        parameters["path"] = "/p"  # Puppet prints it always, as it is not the title
    elif kind != "Package" and chance.random() < 0.3:
        parameters[NAMEVARS.get(kind, "name")] = chance.choice(("n1", "n2", "/q", "/q/", ""))
    if chance.random() < 0.3:
        nested = ["z", ["y"]] if kind != "Package" else "y"
        parameters["alias"] = chance.choice(("al1", ["al2", "al1"], nested, []))
    for name in ("before", "require", "notify", "subscribe"):
        if chance.random() < 0.25:
            found = [_related(chance, keys) for _ in range(chance.randint(0, 3))]
            parameters[name] = found[0] if len(found) == 1 else found
    if chance.random() < 0.3:
        parameters["tag"] = chance.sample(["z", "B", "a", "é", "10", "9"], 3)
    resource = {
        "type": kind,
        "title": title,
        "tags": chance.sample(["class", "x", "y"], 2),
        "exported": False,
        "kind": "unknown" if "::" in kind else "compilable_type",
    }
    if parameters or chance.random() < 0.5:
        resource["parameters"] = parameters
    if chance.random() < 0.2 and parameters:
        resource["sensitive_parameters"] = ["message"]
    if chance.random() < 0.5:
        resource |= {"file": "/site.pp", "line": chance.randint(1, 99)}
    return resource


def _related(chance: random.Random, keys: list[tuple[str, str]]) -> str:
    if chance.random() < 0.12:
        return chance.choice(REFERENCES)
    if chance.random() < 0.1:
        return f"{chance.choice(keys)[0]}[{chance.choice(('n1', 'n2', 'al1', 'y'))}]"
    return _reference(chance.choice(keys))


def _reference(key: tuple[str, str]) -> str:
    return f"{key[0]}[{key[1]}]"


def _value(chance: random.Random, depth: int) -> Any:
    kinds = ["text", "text", "number", "null", "bool", "rich"]
    kind = chance.choice(kinds if depth > 2 else [*kinds, "list", "hash", "pairs"])
    if kind == "text":
        return chance.choice(["", "x", "é\n", "a'b\"c", "{}", "#{x}", "__ptype"])
    if kind == "number":
        return chance.choice([0, -5, 2**40, 1.5, 1e20, 1e-7])
    if kind == "list":
        return [_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    if kind == "hash":
        return {f"k{at}": _value(chance, depth + 1) for at in range(chance.randint(0, 3))}
    if kind == "pairs":
        keys = chance.sample([1, 2.5, True, "s", {"__ptype": "Default"}, ["l", None, 3], {"m": ["n"]}, RARE], 2)
        return {"__ptype": "Hash", "__pvalue": [item for key in keys for item in (key, _value(chance, depth + 1))]}
    if kind == "rich":
        return chance.choice(
            [
                {"__ptype": "Regexp", "__pvalue": "a/b\\/[c]"},
                {"__ptype": "Default"},
                {"__ptype": "Binary", "__pvalue": "aGVsbG8="},
                {"__ptype": "SemVer", "__pvalue": "1.2.3"},
                {"__ptype": "Timestamp", "__pvalue": "2020-01-02T03:04:05.678000000 UTC"},
                {"__ptype": "Sensitive", "__pvalue": "hunter2"},
                {"__ptype": "Deferred", "name": "f", "arguments": ["x", 1, None]},
                {"__ptype": "Pcore::ArrayType", "element_type": {"__ptype": "Pcore::StringType"}},
            ]
        )
    return chance.random() < 0.5 if kind == "bool" else None
