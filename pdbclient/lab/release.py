"""Which PuppetDB or OpenVoxDB a jar holds, and in what releases differ: the Java they need, settings they know."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Release", "read_release"]

_PROPERTIES = re.compile(r"META-INF/maven/[^/]+/(puppetdb|openvoxdb)/pom\.properties")
_VERSION = re.compile(r"^version=(\S+)$", re.MULTILINE)
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
# The oldest Java, by the first number of the release.
_JAVA = {7: 8, 8: 11, 9: 21}


@dataclass(frozen=True, slots=True)
class Release:
    """One release, such as `8.8.1`. `version` is None when the jar does not say it."""

    version: str | None = None

    @property
    def _numbers(self) -> tuple[int, ...]:
        found = _NUMBERS.match(self.version or "")
        return tuple(map(int, found.group().split("."))) if found else ()

    @property
    def java(self) -> int:
        """The oldest Java that runs it, 0 when that is not known. A later one needs what the last known one does."""
        if not self._numbers:
            return 0
        return _JAVA[max(min(self._numbers[0], max(_JAVA)), min(_JAVA))]

    @property
    def checks_for_updates(self) -> bool:
        """Whether it has the setting `disable-update-checking`.

        PuppetDB has; OpenVoxDB, whose releases come after 8.8.1, warns about it.
        """
        return (0,) < self._numbers < (8, 9)

    def __str__(self) -> str:
        return f"PuppetDB {self.version}" if self.version else "PuppetDB of unknown version"


def read_release(jar: Path) -> Release:
    """What the jar says that it is. A file that is no jar, or says nothing, holds an unknown release."""
    try:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if _PROPERTIES.fullmatch(name):
                    found = _VERSION.search(archive.read(name).decode(errors="replace").replace("\r", ""))
                    return Release(found.group(1) if found else None)
    except (OSError, zipfile.BadZipFile):
        pass
    return Release()
