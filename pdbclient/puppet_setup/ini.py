"""Edits of single lines of puppet.conf and puppetdb.conf: every other byte stays as it is. Pure.

Made for texts that Puppet can read (`puppet_conf.problems_of`, the stock parser): what is neither a header nor
a setting is passed over. Both files know one line end, LF; a CR before it belongs to the line and is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["IniFile", "Setting", "puppet_conf", "puppetdb_conf"]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADER = re.compile(r"[ \t\v\f\r]*\[(\w+)[ \t\v\f\r]*\][ \t\v\f\r]*")
_SETTING = re.compile(
    r"(?P<indent>[ \t\v\f\r]*)(?P<name>\w+)(?P<equals>[ \t\v\f\r]*=[ \t\v\f\r]*)(?P<value>.*?)[ \t\v\f\r]*"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A line `name = value`: `line` counts from 1, `span` is where the value stands in it."""

    line: int
    section: str
    name: str
    value: str
    indent: str
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class IniFile:
    """A text and how it is read: what stands before the first header, and which of two equal settings wins."""

    text: str
    default_section: str
    last_wins: bool

    def settings(self) -> Iterator[Setting]:
        """Every setting, in file order."""
        section = self.default_section
        for number, line in enumerate(self._lines(), start=1):
            content = line.removesuffix("\n")
            if header := _HEADER.fullmatch(content):
                section = header[1]
            elif found := _SETTING.fullmatch(content):
                yield Setting(number, section, found["name"], found["value"], found["indent"], found.span("value"))

    def find(self, section: str, name: str) -> Setting | None:
        """The line that counts for a setting of a section, or None."""
        found = [setting for setting in self.settings() if (setting.section, setting.name) == (section, name)]
        return found[-1 if self.last_wins else 0] if found else None

    def has_section(self, section: str) -> bool:
        """Whether a header opens the section."""
        return self._last_header(section) is not None

    def with_value(self, section: str, name: str, value: str) -> IniFile:
        """The text with a setting changed where it stands, else added below the last one of its section."""
        setting = self.find(section, name)
        if setting is None:
            return self._added(section, f"{name} = {value}")
        lines = self._lines()
        line = lines[setting.line - 1]
        start, end = setting.span
        gap = " " if line[start - 1] == "=" and start == end else ""
        lines[setting.line - 1] = line[:start] + gap + value + line[end:]
        return replace(self, text="".join(lines))

    def without(self, section: str, name: str) -> IniFile:
        """The text without any line that sets `name` in `section`."""
        gone = {setting.line for setting in self.settings() if (setting.section, setting.name) == (section, name)}
        kept = (line for number, line in enumerate(self._lines(), start=1) if number not in gone)
        return replace(self, text="".join(kept))

    def without_empty(self, section: str) -> IniFile:
        """The text without the last header of a section, and a blank line beside it, where nothing is below it."""
        header = self._last_header(section)
        if header is None:
            return self
        lines = self._lines()
        end = next((at for at in range(header, len(lines)) if lines[at].strip()), len(lines))
        if end < len(lines) and not _HEADER.fullmatch(lines[end].removesuffix("\n")):
            return self
        begin = header - 1
        if begin > 0 and not lines[begin - 1].strip():
            begin -= 1
        return replace(self, text="".join([*lines[:begin], *lines[header if begin else end :]]))

    def _added(self, section: str, content: str) -> IniFile:
        lines = self._lines()
        end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += end
        below = [setting for setting in self.settings() if setting.section == section]
        header = self._last_header(section)
        if below:
            lines.insert(below[-1].line, below[-1].indent + content + end)
        elif header is not None:
            lines.insert(header, content + end)
        else:
            blank = [end] if lines and lines[-1].strip() else []
            lines += [*blank, f"[{section}]{end}", content + end]
        return replace(self, text="".join(lines))

    def _last_header(self, section: str) -> int | None:
        headers = (
            number
            for number, line in enumerate(self._lines(), start=1)
            if (header := _HEADER.fullmatch(line.removesuffix("\n"))) and header[1] == section
        )
        return max(headers, default=None)

    def _lines(self) -> list[str]:
        return _LINE.findall(self.text)


def puppet_conf(text: str) -> IniFile:
    """puppet.conf as Puppet 7.23 reads it: of a setting that a section has twice, the first one counts."""
    return IniFile(text, "main", last_wins=False)


def puppetdb_conf(text: str) -> IniFile:
    """puppetdb.conf as the stock terminus reads it: nothing may stand outside of a section; the last one counts."""
    return IniFile(text, "", last_wins=True)
