"""What a set-up comes down to: files, their text before and after, and the settings that differ. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.config.journal_place import without_password
from pdbclient.errors import Problem

__all__ = ["Change", "Edited", "Plan", "SettingChange"]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting: `before` None where it was not set, `after` None where it is taken out."""

    section: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Edited:
    """The planned text of one file, and what differs in it."""

    text: str
    settings: tuple[SettingChange, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A file to be replaced; `before` is None where there is no such file yet."""

    file: Path
    before: str | None
    after: str
    settings: tuple[SettingChange, ...]

    def diff(self) -> str:
        """A unified diff that `patch` takes, empty when nothing differs; passwords around it are masked."""
        old = "/dev/null" if self.before is None else str(self.file)
        before, after = (_lines(without_password(text)) for text in (self.before or "", self.after))
        lines = difflib.unified_diff(before, after, old, str(self.file))
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that a set-up makes, and what is accepted but probably not meant."""

    confdir: Path
    changes: Sequence[Change]
    warnings: Sequence[Problem] = ()


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)
