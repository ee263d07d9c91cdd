"""From entries to values: every setting read by its table, every problem kept. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pdbclient.config.document import Document, Entry
from pdbclient.config.settings import Setting
from pdbclient.config.values import SettingError
from pdbclient.errors import Problem

__all__ = ["Verdict", "did_you_mean", "in_file_order", "judge", "misnamed_sections", "unknown"]


@dataclass(slots=True)
class Verdict:
    """The values of a table's settings, where each came from, and what is wrong.

    `values` has every setting of the table: a setting that could not be read has its default, and its name
    is in `broken`, so that no rule draws conclusions from it.
    """

    values: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def origins(self) -> dict[str, str]:
        """Setting -> `file:line`, or `default`."""
        return {name: self.entries[name].origin if name in self.entries else "default" for name in self.values}

    def refuse(self, setting: str, why: str, document: Document) -> None:
        """A problem at the line where `setting` stands; at the file when it is a default."""
        entry = self.entries.get(setting)
        self.problems.append(entry.problem(why) if entry else Problem(document.file, None, setting, why))


def judge(sections: Iterable[Mapping[str, Entry]], table: Mapping[str, Setting]) -> Verdict:
    """Read every setting of `table` from `sections`, the later section winning.

    Entries that the table does not know are left to `unknown`. A null (HOCON) counts as not set. A value
    that a later section overrides is checked all the same.
    """
    verdict = Verdict(values={setting.name: setting.default for setting in table.values()})
    for section in sections:
        for entry in section.values():
            if entry.name not in table or entry.value is None:
                continue
            try:
                verdict.values[entry.name] = table[entry.name].read(entry.value)
                verdict.entries[entry.name] = entry
            except SettingError as error:
                verdict.entries[entry.name] = entry
                verdict.broken.add(entry.name)
                verdict.problems.extend(entry.problem(reason) for reason in error.reasons)
    return verdict


def unknown(section: Mapping[str, Entry], known: Collection[str], elsewhere: Mapping[str, str]) -> list[Problem]:
    """A problem for each setting of `section` that nobody knows, or that belongs to another place.

    `elsewhere` maps the name of such a setting to the advice about it.
    """
    problems = []
    for entry in section.values():
        if entry.name in known:
            continue
        why = elsewhere.get(entry.name) or f"unknown setting{did_you_mean(entry.name, known)}"
        problems.append(entry.problem(why))
    return problems


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`: did you mean server_urls?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word.lower().replace("-", "_"), sorted(known), n=1, cutoff=0.6)
    return f": did you mean {near[0]}?" if near else ""


def misnamed_sections(document: Document, known: Collection[str]) -> list[Problem]:
    """Sections that look like a known one under another name: `[MAIN]` would silently mean nothing."""
    problems = []
    for section in document.sections:
        if section in known:
            continue
        near = difflib.get_close_matches(section.lower(), sorted(known), n=1, cutoff=0.75)
        if near:
            why = f"nobody reads the section {section!r}: did you mean {near[0]!r}?"
            problems.append(Problem(document.file, document.section_lines.get(section), None, why))
    return problems


def in_file_order(problems: Sequence[Problem], main: str) -> tuple[Problem, ...]:
    """Sorted by file (`main` first), then line; what has no line comes last in its file. Each one once."""
    unique = list(dict.fromkeys(problems))
    return tuple(sorted(unique, key=lambda p: (p.file != main, p.file, p.line is None, p.line or 0)))
