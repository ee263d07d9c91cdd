"""Which Java runs a server: the default one, or, where that is too old for the release, another that is installed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.release import Release

__all__ = ["Java", "choose", "default_java", "installed_javas"]

_HOMES = Path("/usr/lib/jvm")
_VERSION = re.compile(r'^JAVA_VERSION="(?:1\.)?(\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Java:
    """The program `java` at `path`. `feature` is its release, such as 17; None when it does not say."""

    path: Path
    feature: int | None

    def __str__(self) -> str:
        return f"{self.path} ({'unknown' if self.feature is None else self.feature})"


def choose(release: Release, default: Java | None, installed: Sequence[Java]) -> Java:
    """The Java for a server of this release.

    The default one when it is new enough, or does not say how old it is; else the oldest of `installed` that is,
    because a release is tried with the Javas of its own time. Raises `LabError` saying what there is instead.
    """
    need = release.java
    if default is not None and (default.feature is None or default.feature >= need):
        return default
    fitting = [java for java in installed if java.feature is not None and java.feature >= need]
    if fitting:
        return min(fitting, key=lambda java: java.feature or 0)
    there = ", ".join(dict.fromkeys(str(java) for java in (default, *installed) if java is not None))
    wanted = f"{release} needs Java {need} or newer" if need else f"no Java to run {release} with"
    raise LabError(f"{wanted}; there is {there or 'none: java is not on PATH'}")


def default_java() -> Java | None:
    """$JAVA_HOME/bin/java, without JAVA_HOME the `java` on PATH; None when it is not there."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home, "bin", "java")) if home else "java")
    return None if found is None else _java(Path(found))


def installed_javas() -> list[Java]:
    """Every Java where the distributions put them, in a fixed order; those of one directory by several names once."""
    homes = sorted({home.resolve() for home in _HOMES.glob("*") if os.access(home / "bin" / "java", os.X_OK)})
    return [_java(home / "bin" / "java") for home in homes]


def _java(path: Path) -> Java:
    # Beside bin/ of every JDK and JRE since 8; /usr/bin/java is a link to the one that is in use.
    release = path.resolve().parents[1] / "release"
    try:
        found = _VERSION.search(release.read_text(errors="replace"))
    except OSError:
        found = None
    return Java(path, int(found.group(1)) if found else None)
