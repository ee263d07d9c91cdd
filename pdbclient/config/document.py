"""What a configuration file says, before anyone judges it: sections, settings, and where each one stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pdbclient.errors import Problem

__all__ = ["BLANKS", "Document", "Entry", "Value"]

BLANKS = " \t\n\v\f\r"
"""What Ruby's `strip` takes for white space; a no-break space, say, is part of the value."""

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"
"""A value as written: text, or the lists and objects of HOCON. Numbers and booleans stay text."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as written. `line` is None where a format cannot tell."""

    section: str
    name: str
    value: Value
    file: str
    line: int | None

    @property
    def origin(self) -> str:
        """`file:line`, or the file alone."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def problem(self, why: str) -> Problem:
        """What is wrong with this setting."""
        return Problem(self.file, self.line, self.name, why)


@dataclass(frozen=True, slots=True)
class Document:
    """A file, read: `sections` maps a section to its settings by name, the last one written winning.

    `section_lines` has the line of each section's first header, `lines` the place of anything deeper by its
    path (`sync.remotes.0.server_url`), `loose` what stands beside the sections of a HOCON file. `problems` and
    `warnings` are those of the text itself.
    """

    file: str
    sections: Mapping[str, Mapping[str, Entry]]
    section_lines: Mapping[str, int | None]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    lines: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    hocon: bool = False
    loose: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """Where relative paths in this file start from."""
        return Path(self.file).absolute().parent
