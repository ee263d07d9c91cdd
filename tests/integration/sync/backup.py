"""A server's database put back to what it was some time ago, as an operator does who restores yesterday's copy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pdbclient.lab import Lab

__all__ = ["Backup"]


class Backup:
    """Copies of the databases in `directory`, one for each server: the last one that was saved."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab = lab
        self._directory = directory

    def save(self, name: str) -> None:
        """Copy a server's database as it is."""
        with self._offline(name) as data:
            if self._copy(name).exists():
                shutil.rmtree(self._copy(name))
            subprocess.run(["cp", "-a", data, self._copy(name)], check=True)

    def restore(self, name: str) -> None:
        """Put it back. What the server has got since is lost there."""
        with self._offline(name) as data:
            shutil.rmtree(data)
            subprocess.run(["cp", "-a", self._copy(name), data], check=True)

    def _copy(self, name: str) -> Path:
        return self._directory / f"{name}.postgres"

    @contextmanager
    def _offline(self, name: str) -> Iterator[Path]:
        """The data directory of a server's database, while nobody is at it."""
        self._lab.settle(name)
        self._lab.fault(name, "kill")
        self._lab.fault(name, "stop-postgres")
        try:
            yield self._lab.node(name).postgres_data
        finally:
            self._lab.fault(name, "start-postgres")
            self._lab.fault(name, "start")
