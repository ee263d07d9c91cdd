"""On which line of a HOCON text each key stands: for messages, so best effort is enough. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["key_lines"]

_TOKEN = re.compile(
    r"(?P<comment>\#[^\n]*|//[^\n]*)"
    r'|(?P<text>"""[\s\S]*?""")'
    r'|(?P<key>(?:"[^"\n]*"|[\w.-]+)(?=\s*(?:\+=|[:={])))'
    r'|(?P<other>"(?:\\.|[^"\\\n])*")'
    r"|(?P<substitution>\$\{[^}\n]*\})"
    r"|(?P<mark>[{}\[\],\n])",
    re.ASCII,
)


@dataclass(slots=True)
class _Level:
    """An open brace or bracket: `path` leads to it; `index` counts the objects of a list."""

    path: str
    index: int | None = None


@dataclass(slots=True)
class _Walk:
    lines: dict[str, int] = field(default_factory=dict)
    levels: list[_Level] = field(default_factory=lambda: [_Level("")])
    pending: str | None = None

    def key(self, name: str, line: int) -> None:
        parent = self.levels[-1].path
        self.pending = f"{parent}.{name.strip(chr(34))}" if parent else name.strip('"')
        # `main.server_urls = ` opens `main` too.
        prefix = self.pending
        while prefix and prefix != parent:
            self.lines[prefix] = line
            prefix = prefix.rpartition(".")[0]

    def open(self, mark: str, line: int) -> None:
        level = self.levels[-1]
        path = self.pending
        if path is None:
            path = level.path
            if level.index is not None:
                path = f"{level.path}.{level.index}"
                level.index += 1
            self.lines.setdefault(path, line)
        self.levels.append(_Level(path, 0 if mark == "[" else None))
        self.pending = None

    def close(self) -> None:
        if len(self.levels) > 1:
            self.levels.pop()
        self.pending = None


def key_lines(text: str) -> Mapping[str, int]:
    """Path of a key (`sync.remotes.0.server_url`) -> its line; the last one where it is set repeatedly."""
    walk = _Walk()
    line = 1
    for token in _TOKEN.finditer(text):
        here = line
        line += token[0].count("\n")
        mark = token["mark"]
        if token["key"]:
            walk.key(token["key"], here)
        elif mark in ("{", "["):
            walk.open(mark, here)
        elif mark in ("}", "]"):
            walk.close()
        elif mark == ",":
            walk.pending = None
    return walk.lines
