"""Packages of any Debian suite, unpacked beside: nothing of them is installed, and what is installed plays no part.

They come, as apt checks them, from the mirror that this machine's own packages come from.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pdbclient.errors import LabError

__all__ = ["Suite", "suite", "unpack"]

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Suite:
    """An apt of its own, which knows of one suite of Debian, maybe of others, and of nothing that is installed.

    `suite` makes one.
    """

    def __init__(self, name: str, work: Path, others: Iterable[str], versions: Mapping[str, str]) -> None:
        self._work = work
        for directory in ("lists/partial", "archives/partial"):
            (work / directory).mkdir(parents=True)
        (work / "status").touch()
        mirror, others = _mirror(work), tuple(others)
        lines = [f"deb [signed-by={KEYRING}] {mirror} {each} main\n" for each in (name, *others)]
        (work / "sources.list").write_text("".join(lines))
        pins = [("*", f"release n={each}", 100) for each in others]
        pins += [(package, f"version {version}", 990) for package, version in versions.items()]
        texts = [f"Package: {package}\nPin: {pin}\nPin-Priority: {priority}\n" for package, pin, priority in pins]
        (work / "preferences").write_text("\n".join(texts))
        settings = {
            "Dir::State::lists": work / "lists",
            "Dir::State::status": work / "status",
            "Dir::Cache": work,
            "Dir::Etc::SourceList": work / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::Etc::Preferences": work / "preferences",
            "Dir::Etc::PreferencesParts": "-",
            "Acquire::Languages": "none",
            # A mirror that is kept at one day's state has Release files of that day.
            "Acquire::Check-Valid-Until": "false",
            "APT::Sandbox::User": "root",
        }
        self._apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in settings.items())]
        self._run(*self._apt, "update")

    def needed(self, *packages: str) -> list[str]:
        """The file names of all that these packages need on an empty system, themselves with them.

        For example `clojure_1.12.0-1_all.deb`. Raises `LabError`, also when they cannot be installed together.
        """
        uris = self._run(*self._apt, "install", "-y", "--no-install-recommends", "--print-uris", *packages)
        return [line.split()[1] for line in uris.splitlines() if line.startswith("'")]

    def unpack(self, packages: Iterable[str], into: Path) -> None:
        """Unpack these packages, and none that they need, below `into`. Raises `LabError`."""
        with tempfile.TemporaryDirectory(dir=self._work) as downloads:
            self._run(*self._apt, "download", *packages, cwd=Path(downloads))
            for package in sorted(Path(downloads).iterdir()):
                self._run("dpkg-deb", "-x", package, into)

    def _run(self, *command: str | Path, cwd: Path | None = None) -> str:
        return _run(*command, cwd=cwd or self._work)


@contextmanager
def suite(name: str, others: Iterable[str] = (), versions: Mapping[str, str] | None = None) -> Iterator[Suite]:
    """The suite, for example `trixie`, while the context lasts. Raises `LabError` when its lists cannot be had.

    From `others`, suites too, comes what this one does not have, and packages named in `versions`: of these, the
    newest that fits the pattern there (`8.*`), in whichever suite it is.
    """
    with tempfile.TemporaryDirectory(prefix="pdbclient-debian-") as work:
        yield Suite(name, Path(work), others, versions or {})


def unpack(name: str, packages: Iterable[str], into: Path) -> None:
    """Unpack packages of the suite `name`, and none that they need, below `into`. Raises `LabError`."""
    with suite(name) as found:
        found.unpack(packages, into)


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def _mirror(work: Path) -> str:
    uris = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", cwd=work).split()
    for uri in uris:
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise LabError(f"none of this machine's package sources is a mirror of Debian's main archive: {uris}")
