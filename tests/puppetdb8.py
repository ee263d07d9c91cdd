"""PuppetDB 8 on Debian 12: Debian 13's packages of it, unpacked into one jar. Nothing of them is installed.

`python -m tests.puppetdb8` makes it once for a machine, and compiles it: 65 MB of packages, about a minute. The
packages come, as apt checks them, from the mirror that this machine's own packages come from.
"""

from __future__ import annotations

import fcntl
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab import LabOptions
from pdbclient.lab.account import server_account
from pdbclient.lab.compiled import cache_directory, compile_ahead, libraries
from pdbclient.lab.options import find_programs
from tests.debian import suite

__all__ = ["VERSION", "jar"]

VERSION = "8.4.1"
SUITE = "trixie"
JAVA_17 = 61
"""The version of class files that Java 17 reads, the newest Java that Debian 12 has. Debian 13 compiles for Java 21
where nobody tells it otherwise; upstream supports PuppetDB 8 on Java 17, and nothing in its libraries needs more.
"""
CLOJURE = Path("/usr/share/java/clojure.jar")
"""This machine's Clojure 1.11, which came with PuppetDB 7: Debian 13's does need Java 21."""


def jar() -> Path:
    """The jar. Raises `LabError` when it has not been made."""
    made = _place()
    if not made.exists():
        raise LabError(f"PuppetDB 8 is not here ({made}): tests/install-packages brings it, or says why it cannot")
    return made


def _place() -> Path:
    return cache_directory() / f"puppetdb-{VERSION}.jar"


def make() -> None:
    """Make the jar unless it is there; one process at a time does. Raises `LabError`."""
    target = _place()
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".puppetdb8-") as name:
                tree = _unpacked(Path(name))
                merged = Path(name, "merged.jar")
                _merge(_libraries(tree / "usr/share/puppetdb/puppetdb.jar", tree), merged)
                merged.chmod(0o644)
                merged.replace(target)
    problem = compile_ahead(find_programs(LabOptions(puppetdb_jar=target)), server_account(), print)
    if problem:
        raise LabError(f"{target} cannot be compiled: {problem}")


def _unpacked(work: Path) -> Path:
    """PuppetDB 8 and the libraries that it depends on, as Debian 13 has them, below the returned directory."""
    tree = work / "tree"
    tree.mkdir()
    with suite(SUITE) as trixie:
        trixie.unpack(_packages(trixie.needed("puppetdb")), tree)
    (tree / CLOJURE.relative_to("/")).symlink_to(CLOJURE)
    return tree


def _packages(files: Iterable[str]) -> Iterator[str]:
    """PuppetDB and its libraries, of what would be installed; not PostgreSQL, Java and the rest of a system."""
    for file in files:
        if file.endswith("_all.deb") and file.startswith(("lib", "puppetdb_")):
            yield file.partition("_")[0]


def _libraries(first: Path, tree: Path) -> Iterator[Path]:
    """The jar and those that its Class-Path names, with theirs, each once and in Java's order.

    Debian's jars name others by absolute paths: as one jar they find each other, and not what is installed here.
    """
    left, seen = [first], set()
    while left:
        file = left.pop(0)
        # A few are named that only other features need, and no package brings.
        if not file.exists() or file.resolve() in seen:
            continue
        seen.add(file.resolve())
        yield file
        left[:0] = [part if part.is_relative_to(tree) else tree / part.relative_to("/") for part in libraries(file)]


def _merge(files: Iterator[Path], target: Path) -> None:
    """All files in one jar: the first of each name, as on a class path."""
    seen = {"META-INF/MANIFEST.MF"}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as merged:
        merged.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nMulti-Release: true\r\n\r\n")
        for file in files:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    if entry.filename not in seen and not entry.is_dir():
                        seen.add(entry.filename)
                        merged.writestr(entry, _readable(entry.filename, archive.read(entry)))


def _readable(name: str, content: bytes) -> bytes:
    if name.endswith(".class") and int.from_bytes(content[6:8]) > JAVA_17:
        return content[:6] + JAVA_17.to_bytes(2) + content[8:]
    return content


if __name__ == "__main__":
    try:
        make()
    except (LabError, OSError) as error:
        sys.exit(f"PuppetDB 8 cannot be had, and the tests that need it will fail: {error}")
