"""The line-based parser of the stock terminus, verdict for verdict, and PuppetDB's more lenient ini. Pure.

The stock parser tries, line by line: a section header in column 0; the retired `server` and `port`;
`key = value`; a comment that starts with `#` or `;`; a blank line. Anything else is an error. It reads every
section of the file that way, so a bad line in `[pdbclient]` stops Puppet as surely as one in `[main]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pdbclient.config.document import BLANKS, Document, Entry
from pdbclient.config.journal_place import without_password
from pdbclient.config.settings import RETIRED
from pdbclient.errors import Problem

__all__ = ["PUPPETDB", "STOCK", "Dialect", "parse_ini"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of ini files is read: `strict` is the stock terminus, else PuppetDB's own ini reader."""

    header: re.Pattern[str]
    setting: re.Pattern[str]
    strict: bool


STOCK = Dialect(
    header=re.compile(r"\[(\w+)\s*\]", re.ASCII),
    setting=re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>.*)", re.ASCII),
    strict=True,
)
PUPPETDB = Dialect(
    header=re.compile(r"\s*\[\s*([\w.-]+)\s*\]\s*", re.ASCII),
    setting=re.compile(r"\s*(?P<name>[\w.-]+)\s*[=:]\s*(?P<value>.*)", re.ASCII),
    strict=False,
)

_RETIRED = re.compile(r"\s*(server|port)\s*=.*", re.ASCII)
# Ruby's parser keeps the line end in a value that has inner white space, and splits it off at the last comma.
_COMMA_THEN_END = re.compile(r"\S.*\s.*,", re.ASCII)
_BLANKS_AROUND_HEADER = re.compile(r"\s*\[(\w+)\s*\]\s*", re.ASCII)
_IGNORABLE = re.compile(r"\s*([#;].*)?", re.ASCII)
# The HA guide's spelling of a list: `server_urls: ["https://a", "https://b"]`. Stock cannot read it; we can.
_GUIDE_LIST = re.compile(r"\s*(?P<name>\w+)\s*:\s*(?P<value>\[.*)", re.ASCII)

# What people write instead, tried in order, and what to write.
_ADVICE = (
    (r".*\r.*", "save the file with LF line ends, not CR"),
    (r"\s*\[\w+\s*\].*", "nothing may follow a section header on its line"),
    (r"\s*\[.*", "not a section header: write [main] or [pdbclient]"),
    (r"\s*[\w.-]+\s*=.*", "a setting's name has only letters, digits and underscores: write server_urls"),
    (r"\s*\w+\s*:.*", "write it as key = value"),
    (r"\s*//.*", "a comment starts with # or ;"),
    (r"\s*[\"'\]}].*", "a list must be on one line"),
)


def parse_ini(text: str, file: str, dialect: Dialect = STOCK) -> Document:
    """Read `text` line by line; every line that cannot be read becomes a problem, and reading goes on.

    `file` is only a name for messages. The same section twice is merged; of the same key twice the last
    one wins, as in the stock terminus, with a warning.
    """
    parser = _Parser(file, dialect)
    # Not splitlines(): form feeds and Unicode separators are no line ends to Ruby.
    for number, line in enumerate(text.split("\n"), start=1):
        parser.take(number, line.removesuffix("\r"), carriage_return=line.endswith("\r"))
    return Document(file, parser.sections, parser.section_lines, tuple(parser.problems), tuple(parser.warnings))


@dataclass(slots=True)
class _Parser:
    file: str
    dialect: Dialect
    section: str | None = None
    sections: dict[str, dict[str, Entry]] = field(default_factory=dict)
    section_lines: dict[str, int | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def warn(self, line: int, setting: str | None, why: str) -> None:
        self.warnings.append(Problem(self.file, line, setting, why))

    def refuse(self, line: int, setting: str | None, why: str) -> None:
        self.problems.append(Problem(self.file, line, setting, why))

    def take(self, number: int, line: str, *, carriage_return: bool) -> None:
        if header := self.dialect.header.fullmatch(line):
            if carriage_return and self.dialect.strict:
                self.warn(number, None, "ends in CR LF: accepted here, but the stock terminus cannot read it")
            self._enter(number, header[1])
        elif self.dialect.strict and (retired := _RETIRED.fullmatch(line)):
            self.refuse(number, retired[1], RETIRED[retired[1]])
        elif setting := self.dialect.setting.fullmatch(line):
            self._setting(number, setting["name"], setting["value"].strip(BLANKS))
        elif _IGNORABLE.fullmatch(line):
            return
        elif guide := _GUIDE_LIST.fullmatch(line):
            self._setting(number, guide["name"], guide["value"].strip(BLANKS))
        elif blanks := _BLANKS_AROUND_HEADER.fullmatch(line):
            self._enter(number, blanks[1])  # what follows is not outside of a section as well
            why = "a section header must start in column 0 with nothing after its ], not even a blank"
            self.refuse(number, None, f"unreadable line {_excerpt(line)}: {why}")
        else:
            self.refuse(number, None, f"unreadable line {_excerpt(line)}: {_advice(line)}")

    def _enter(self, number: int, section: str) -> None:
        self.section = section
        self.sections.setdefault(section, {})
        self.section_lines.setdefault(section, number)

    def _setting(self, number: int, name: str, value: str) -> None:
        if self.section is None:
            place = "[main]" if self.dialect.strict else "[sync]"
            self.refuse(number, name, f"stands outside of any section: put a line {place} above it")
            return
        if self.dialect.strict and value.startswith("["):
            self.warn(number, name, "the guide's list spelling: read here, but not by the stock terminus")
        if self.dialect.strict and _COMMA_THEN_END.fullmatch(value):
            why = "the stock terminus takes the line end after the last comma for an empty URL: leave it out"
            self.warn(number, name, why)
        entries = self.sections[self.section]
        if name in entries:
            first = entries[name].line
            self.warn(number, name, f"set again: this value wins, the one in line {first} is ignored")
        entries[name] = Entry(self.section, name, value, self.file, number)


def _advice(line: str) -> str:
    for pattern, advice in _ADVICE:
        if re.fullmatch(pattern, line, re.ASCII):
            return advice
    return "expected a [section], key = value, or a comment that starts with # or ;"


def _excerpt(line: str, limit: int = 60) -> str:
    line = re.sub(r"//.*@", "//***@", without_password(line))  # before it is cut: it may be any URL with a password
    return repr(line if len(line) <= limit else line[:limit] + "…")
