"""PuppetDB's Clojure code, compiled once per machine: a start takes 5 s instead of 20.

Debian's jars hold Clojure source, which every start compiles again. The upstream packages compile it when they are
built; this does the same, into a cache (50 MB) that all labs of an account share.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.account import Account
from pdbclient.lab.options import Programs

__all__ = ["cache_directory", "class_path", "compile_ahead", "libraries"]

_ENTRY_POINTS = ("puppetlabs.puppetdb.core", "puppetlabs.puppetdb.cli.services", "clojure.main")
_COMPILE_SECONDS = 600.0


def cache_directory() -> Path:
    """Of what all labs of an account share: `$XDG_CACHE_HOME/pdbclient`, for root where the servers can reach it."""
    if os.geteuid() == 0:
        return Path("/var/cache/pdbclient")
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "pdbclient").expanduser()


def _entry(jar: Path, name: str) -> str | None:
    with zipfile.ZipFile(jar) as archive:
        return archive.read(name).decode() if name in archive.namelist() else None


def libraries(jar: Path) -> list[Path]:
    """The jars that the manifest's Class-Path adds (long lines of a manifest go on after a newline and a space)."""
    manifest = (_entry(jar, "META-INF/MANIFEST.MF") or "").replace("\r\n", "\n").replace("\n ", "")
    for line in manifest.splitlines():
        if line.startswith("Class-Path:"):
            return [jar.parent / name for name in line.removeprefix("Class-Path:").split()]
    return []


def _classes(jar: Path) -> Path:
    """Where the classes of exactly these jars belong: an upgrade of any of them leads to another directory."""
    digest = hashlib.sha256()
    for file in (jar, *libraries(jar)):
        if file.exists():
            info = file.stat()
            digest.update(f"{file}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
    return cache_directory() / f"puppetdb-{digest.hexdigest()[:16]}"


def _read_classes(jar: Path) -> Path:
    try:
        return _classes(jar)
    except (OSError, zipfile.BadZipFile) as error:
        raise LabError(f"{jar} is not PuppetDB's jar: {error}") from error


def class_path(jar: Path) -> str:
    """What `java -cp` gets: the jar, after its compiled classes when there are any."""
    classes = _read_classes(jar)
    return f"{classes}{os.pathsep}{jar}" if classes.is_dir() else str(jar)


def _is_compiled(jar: Path) -> bool:
    # Debian compiles the entry point, puppetlabs.puppetdb.core, and nothing behind it.
    with zipfile.ZipFile(jar) as archive:
        return "puppetlabs/puppetdb/cli/services__init.class" in archive.namelist()


def _namespaces(jar: Path) -> list[str]:
    """The namespaces of all services that the jar's own bootstrap.cfg starts, and the entry points."""
    lines = (line.strip() for line in (_entry(jar, "bootstrap.cfg") or "").splitlines())
    services = [line.partition("/")[0] for line in lines if line and not line.startswith("#")]
    return [*dict.fromkeys(services), *_ENTRY_POINTS]


def compile_ahead(programs: Programs, account: Account, progress: Callable[[str], None]) -> str | None:
    """Compile unless that was done already; only one process does it at a time.

    Returns None, or why it could not be done: the servers then run from source, only slower.
    Raises `LabError` when the jar cannot be read at all.
    """
    jar = programs.puppetdb_jar
    classes = _read_classes(jar)
    if classes.is_dir() or _is_compiled(jar):
        return None
    try:
        classes.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(classes.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if classes.is_dir():
                return None
            progress(f"PuppetDB's code is compiled into {classes}, once; this takes about 20 s")
            return _compile(programs, account, classes)
    except OSError as error:
        return f"{classes}: {error.strerror}"


def _compile(programs: Programs, account: Account, classes: Path) -> str | None:
    with tempfile.TemporaryDirectory(dir=classes.parent, prefix=".compiling-") as name:
        work = Path(name)
        output = work / "classes"
        output.mkdir(mode=0o755)
        account.own(work, output)
        command = [
            str(programs.java), "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            f"-Dclojure.compile.path={output}", "-cp", f"{output}{os.pathsep}{programs.puppetdb_jar}",
            "clojure.lang.Compile", *_namespaces(programs.puppetdb_jar),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                cwd=work,
                env=account.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_COMPILE_SECONDS,
                check=False,
                **account.identity,
            )
        except subprocess.TimeoutExpired:
            return f"not finished after {_COMPILE_SECONDS:g} s"
        if done.returncode:
            return (done.stdout.strip().splitlines() or ["java failed without a word"])[-1]
        shutil.move(output, classes)
    return None
