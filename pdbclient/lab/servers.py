"""The two servers of a node, and what one lab directory is locked with."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pdbclient.lab.account import Account
from pdbclient.lab.layout import LabState, Node
from pdbclient.lab.postgres import Postgres
from pdbclient.lab.puppetdb import PuppetDB

__all__ = ["LOCK_FILE", "Servers", "exclusive"]

LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class Servers:
    """PuppetDB and PostgreSQL of one node."""

    state: LabState
    node: Node
    account: Account

    @property
    def postgres(self) -> Postgres:
        """The database server."""
        return Postgres(self.node, self.state.programs.postgres_bin, self.account, self.state.password)

    @property
    def puppetdb(self) -> PuppetDB:
        """The PuppetDB."""
        return PuppetDB(self.node, self.state, self.account, self.state.tls(self.node.certname))


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Only one `lab up` or `lab down` at a time in a directory: a second one waits for the first."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
