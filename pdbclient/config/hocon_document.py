"""HOCON text -> `Document`, with includes, comments and substitutions, by the hocon-parser library.

The library's values carry no line numbers, so `hocon_lines` finds them in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import hocon

from pdbclient.config.document import Document, Entry, Value
from pdbclient.config.hocon_lines import key_lines
from pdbclient.config.hocon_words import in_words
from pdbclient.errors import ConfigError, Problem

__all__ = ["parse_hocon"]

_PLAIN_NAME = re.compile(r"[\w-]+")


def parse_hocon(text: str, path: Path) -> Document:
    """Read `text`, the content of the file at `path`; includes are relative to the file that includes.

    An include that does not exist is empty, as HOCON has it; `include required(...)` demands the file.
    Substitutions that the file does not define come from the environment. Top-level objects are the
    sections; anything else at the top is there for substitutions to use.
    Raises `ConfigError` when the text is not HOCON or a substitution has no value.
    """
    texts = [(str(path), text)]

    def read_include(name: str) -> str:
        content = Path(name).read_text(encoding="utf-8-sig")
        texts.append((name, content))
        return content

    try:
        config = hocon.parse(text, base_dir=str(path.absolute().parent), read_file=read_include)
    except (hocon.ParseError, hocon.ResolveError) as error:
        raise ConfigError([_fault(error, texts)]) from error
    except (hocon.ConfigError, OSError, ValueError) as error:
        raise ConfigError([Problem(str(path), None, None, f"not usable as HOCON: {error}")]) from error
    return _document(config, path, texts)


def _fault(error: hocon.ParseError | hocon.ResolveError, texts: Sequence[tuple[str, str]]) -> Problem:
    # The library gives the line but not which file: a text is parsed as soon as it is read, so a fault of
    # syntax is in the last one; a fault of substitution may be anywhere once there are includes.
    file = texts[-1][0] if isinstance(error, hocon.ParseError) else texts[0][0]
    sure = isinstance(error, hocon.ParseError) or len(texts) == 1
    line = error.line if sure and error.line > 0 else None
    content = texts[-1][1] if sure else texts[0][1]
    return Problem(file, line, None, f"not valid HOCON: {in_words(str(error), content)}")


def _document(config: hocon.Config, path: Path, texts: Sequence[tuple[str, str]]) -> Document:
    lines: dict[str, tuple[str, int]] = {}
    # Included texts first: what the file itself says comes later there, wins, and is what the user sees.
    for file, content in [*texts[1:], texts[0]]:
        lines.update({key: (file, line) for key, line in key_lines(content).items()})
    sections: dict[str, dict[str, Entry]] = {}
    loose: dict[str, Entry] = {}
    section_lines: dict[str, int | None] = {}
    for name in config.keys():  # noqa: SIM118 - a Config iterates over paths, not over its own keys
        value = config.get_value(name) if _PLAIN_NAME.fullmatch(name) else None
        if isinstance(value, hocon.HoconObject):
            sections[name] = {
                key: _entry(name, key, _plain(item), str(path), lines) for key, item in value.fields.items()
            }
            section_lines[name] = lines[name][1] if name in lines and lines[name][0] == str(path) else None
        elif value is not None:
            loose[name] = _entry("", name, _plain(value), str(path), lines)
    return Document(str(path), sections, section_lines, lines=lines, hocon=True, loose=loose)


def _entry(section: str, key: str, value: Value, file: str, lines: Mapping[str, tuple[str, int]]) -> Entry:
    where = lines.get(f"{section}.{key}".lstrip("."))
    return Entry(section, key, value, *(where if where else (file, None)))


def _plain(value: hocon.HoconValue) -> Value:
    if isinstance(value, hocon.HoconObject):
        return {key: _plain(item) for key, item in value.fields.items()}
    if isinstance(value, hocon.HoconArray):
        return [_plain(item) for item in value.items]
    return None if value.value_type == "null" else value.raw
