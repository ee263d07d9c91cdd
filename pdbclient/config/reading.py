"""A configuration file on disk -> `Document`: bytes to text, and which of the two formats it is."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from pdbclient.config.document import Document
from pdbclient.config.hocon_document import parse_hocon
from pdbclient.config.ini import STOCK, Dialect, parse_ini
from pdbclient.errors import ConfigError, Problem

__all__ = ["is_there", "looks_like_hocon", "read_document", "read_text"]

_INI_HEADER = re.compile(r"\s*\[\s*[\w.-]+\s*\].*", re.ASCII)
_HOCON_OPENING = re.compile(
    r"""\s*(?: \{                                        # the whole file is one object
             | include\s+(?:"|required\(|file\(|url\()  # an include
             | (?:"[^"]*"|[\w.-]+)\s*(?:[:=]\s*)?\{     # main { or main: {
             | (?:"[^"]*"|[\w-]+)\s*[:=]\s*$            # main: with its object on the next line
             | [\w-]+(?:\.[\w-]+)+\s*(?:[:=]|\+=)       # main.server_urls =
        ).*""",
    re.ASCII | re.VERBOSE,
)


def looks_like_hocon(text: str) -> bool:
    """Which format `text` is in: the first line that can only be one of the two decides.

    A `[section]` header decides for ini; an opening brace, `name {`, `name: {`, `name.name =` or an include
    for HOCON. Without any such line it is ini, so that the stock parser's verdicts hold.
    """
    for line in text.split("\n"):
        if _INI_HEADER.fullmatch(line.rstrip("\r")):
            return False
        if _HOCON_OPENING.fullmatch(line.rstrip("\r")):
            return True
    return False


def is_there(path: Path) -> bool:
    """Whether something is at `path`; where that may not even be asked, reading it says why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_text(path: Path) -> tuple[str, bool]:
    """The text of a UTF-8 file and whether it began with a byte order mark.

    Raises `ConfigError` when the file cannot be read or is not UTF-8, naming the line.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError([Problem(str(path), None, None, _unreadable(error))]) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError([Problem(str(path), 1, None, "is UTF-16: save it as UTF-8")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        why = f"not UTF-8: byte 0x{data[error.start]:02x}"
        raise ConfigError([Problem(str(path), line, None, why)]) from error
    return text.removeprefix("\ufeff"), text.startswith("\ufeff")


def _unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory: name the file itself"
    if isinstance(error, PermissionError):
        return f"may not be read by the user with id {os.geteuid()}"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"cannot be read: {reason}"


def read_document(path: Path, dialect: Dialect = STOCK) -> Document:
    """Read the file at `path` as HOCON or ini (`looks_like_hocon`).

    Raises `ConfigError` when there is no text to judge; faults of single lines are the document's problems.
    """
    text, byte_order_mark = read_text(path)
    if looks_like_hocon(text):
        return parse_hocon(text, path)
    document = parse_ini(text, str(path), dialect)
    if byte_order_mark and dialect.strict:
        why = "begins with a byte order mark: accepted here, but the stock terminus cannot read it"
        document = replace(document, warnings=(Problem(document.file, 1, None, why), *document.warnings))
    return document
