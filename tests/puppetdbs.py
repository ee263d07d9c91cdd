"""The PuppetDBs that the tests meet: this machine's own, and other releases, from Debian's packages, as a jar each.

Nothing of them is installed. `python -m tests.puppetdbs` makes the jars once for a machine, and compiles them: 65 MB
of packages, about a minute for each.
"""

from __future__ import annotations

import fcntl
import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab import LabOptions
from pdbclient.lab.account import server_account
from pdbclient.lab.compiled import cache_directory, compile_ahead, libraries
from pdbclient.lab.options import find_programs
from pdbclient.lab.release import Release, read_release
from tests.debian import Suite, suite, unpack

__all__ = ["OWN", "VERSIONS", "Release", "held", "jar", "place", "said"]

JAVA_17 = 61
"""The version of class files that Java 17 reads, the newest Java that Debian 12 has. Debian 13 compiles for Java 21
where nobody tells it otherwise; upstream supports PuppetDB 8 on Java 17, and nothing in its libraries needs more.
"""
CLOJURE = Path("usr/share/java/clojure.jar")
INSTALLED = Path("/usr/share/puppetdb/puppetdb.jar")
DRIVER = Path("/usr/share/java/postgresql.jar")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a release is: in a suite of Debian, or, where that has none of the series, in the others beside it.

    `series` is a pattern of versions: should Debian no longer have the release, the newest one of these is its
    stand-in. `older` are packages that another suite has in an older version which is to be taken.
    """

    suite: str
    others: tuple[str, ...]
    series: str
    older: tuple[tuple[str, str], ...] = ()


# With trixie's driver of PostgreSQL, 42.7.7, a transaction that could not be serialized makes 8.8.1 take answers for
# those to other questions: it leaves commands for an hour, and its status says that its database is down (pgjdbc's
# issue 3724 is of the same kind). An 8.4.1 with it showed the same signs, less often. With 42.5.5 neither did. So on
# Debian 13, the tests meet its own PuppetDB with another driver than its own, too.
_FAULTY = (42, 7)
_DRIVER = (("bookworm", "libpostgresql-jdbc-java"),)

SOURCES = {
    "7.12.1": (Source("bookworm", (), "7.*"),),
    "8.4.1": (Source("trixie", (), "8.*", older=_DRIVER),),
    # sid's own libraries do not fit to it, trixie's do.
    "8.8.1": (Source("trixie", ("sid",), "8.*", older=_DRIVER), Source("trixie", (), "8.*", older=_DRIVER)),
}
VERSIONS = tuple(SOURCES)
OWN = read_release(INSTALLED).version or "none"
"""The release that is installed on this machine."""


def jar(version: str) -> Path:
    """The jar of this release. Raises `LabError` when it has not been made."""
    if _is_installed(version):
        return INSTALLED
    made = place(version)
    if not made.exists():
        raise LabError(f"PuppetDB {version} is not here ({made}): tests/install-packages brings it, or says why not")
    return made


def held(version: str) -> str:
    """The release that `jar` really holds: another one where Debian no longer has this. Raises `LabError`."""
    return read_release(jar(version)).version or "unknown"


def said() -> str:
    """Which releases there are, for the head of a test run."""
    return ", ".join(_said(version) for version in dict.fromkeys((OWN, *VERSIONS)))


def _is_installed(version: str) -> bool:
    """Whether the tests meet this release as it is installed: with a driver of PostgreSQL that they can rely on."""
    return version == OWN and (version not in SOURCES or _driver() < _FAULTY)


def _driver() -> tuple[int, ...]:
    """The version of the installed driver; empty where there is none."""
    if not DRIVER.exists():
        return ()
    with zipfile.ZipFile(DRIVER) as archive:
        manifest = archive.read("META-INF/MANIFEST.MF").decode()
    return next(
        (_numbers(f"-{line[24:]}") for line in manifest.splitlines() if line.startswith("Implementation-Version: ")),
        (),
    )


def _said(version: str) -> str:
    if _is_installed(version):
        return f"{version} (installed)"
    try:
        found = held(version)
    except LabError:
        return f"no {version}"
    return version if found == version else f"{found} in place of {version}, which Debian no longer has"


def place(version: str) -> Path:
    """Where the jar of a release that is not installed is, once it has been made."""
    # A jar that was made in another way is another one.
    made_of = hashlib.sha256(repr(SOURCES[version]).encode()).hexdigest()
    return cache_directory() / f"puppetdb-{version}-{made_of[:8]}.jar"


def make(version: str) -> None:
    """Make the jar unless it is there; one process at a time does. Raises `LabError`."""
    target = place(version)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".puppetdb-") as name:
                tree = Path(name, "tree")
                tree.mkdir()
                _unpack(version, tree)
                merged = Path(name, "merged.jar")
                _merge(_libraries(tree / INSTALLED.relative_to("/"), tree), merged)
                merged.chmod(0o644)
                merged.replace(target)
    problem = compile_ahead(find_programs(LabOptions(puppetdb_jar=target)), server_account(), print)
    if problem:
        raise LabError(f"{target} cannot be compiled: {problem}")


def _unpack(version: str, tree: Path) -> None:
    """PuppetDB and the libraries that it depends on, below `tree`: from the first source where they fit together."""
    problems = []
    for source in SOURCES[version]:
        with suite(source.suite, source.others, {"puppetdb": source.series}) as packages:
            try:
                wanted = list(_packages(packages))
            except LabError as error:
                problems.append(str(error))
                continue
            packages.unpack(wanted, tree)
        for other, package in source.older:
            unpack(other, [package], tree)
        _choose_clojure(tree)
        return
    raise LabError("\n".join(problems))


def _packages(packages: Suite) -> Iterator[str]:
    """PuppetDB and its libraries, of what would be installed; not PostgreSQL, Java and the rest of a system."""
    for file in packages.needed("puppetdb"):
        name, _, rest = file.partition("_")
        if rest.endswith("_all.deb") and name.startswith(("lib", "puppetdb")):
            yield name


def _choose_clojure(tree: Path) -> None:
    """Clojure as its packages' scripts would link it: the release's, or this machine's own where that is older.

    Debian compiles it with the suite's Java and for no older one: Debian 13's 1.12.0 does not run on Java 17.
    """
    own = [file.resolve() for file in (Path("/", CLOJURE),) if file.exists()]
    found = [*own, *(file for file in (tree / CLOJURE).parent.glob("clojure-*.jar") if not file.is_symlink())]
    (tree / CLOJURE).symlink_to(min(found, key=lambda file: _numbers(file.stem)))


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.partition("-")[2].split(".") if part.isdigit())


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


def main() -> int:
    """Make them all, and say what is not as it should be; 1 when one cannot be had."""
    code = 0
    for version in VERSIONS:
        if _is_installed(version):
            continue
        try:
            make(version)
        except (LabError, OSError) as error:
            print(f"PuppetDB {version} cannot be had, and the tests that need it will fail: {error}", file=sys.stderr)
            code = 1
        else:
            if held(version) != version:
                print(f"PuppetDB {_said(version)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
