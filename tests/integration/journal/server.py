"""A PostgreSQL of its own for the journal's tests, from the lab's building blocks but without a PuppetDB."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pdbclient.lab.account import server_account
from pdbclient.lab.layout import Node
from pdbclient.lab.options import LabOptions, find_programs
from pdbclient.lab.ports import free_port
from pdbclient.lab.postgres import PortTakenError, Postgres

_numbers = itertools.count(1)
TRIES = 5


class DatabaseServer:
    """A running server, with `postgres` for faults."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """As the superuser."""
        return self.postgres.sql(statement, database=database, superuser=True)

    def database(self, options: str = "") -> str:
        """The URL of a new and empty database."""
        name = f"journal{next(_numbers)}"
        # The template is as good as any, and copied file by file in no time.
        self.sql(f"CREATE DATABASE {name} OWNER puppetdb {options}")
        return self.url(name)

    def url(self, name: str, password: str | None = None) -> str:
        secret = self.postgres.password if password is None else password
        return f"postgresql://puppetdb:{secret}@127.0.0.1:{self.postgres.node.postgres_port}/{name}"

    def drop(self, url: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")


@contextmanager
def frozen(server: DatabaseServer) -> Iterator[None]:
    """All of its processes stopped, as by a hypervisor: connections are open, and nobody answers."""
    postmaster = server.postgres.process.pid
    assert postmaster is not None
    stopped = []
    try:
        # The one that starts others first.
        for pid in (postmaster, *children(postmaster)):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        yield
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


@contextmanager
def running(directory: Path) -> Iterator[DatabaseServer]:
    """A server below `directory`, which its account can reach; it ends with the block."""
    programs, account = find_programs(LabOptions()), server_account()
    for _ in range(TRIES):
        home = directory / "nodes" / secrets.token_hex(4)
        (directory / "run").mkdir(parents=True, exist_ok=True)
        for part in (home, home / "log"):
            part.mkdir(parents=True)
            account.own(part)
        node = Node("journal", home, 0, 0, free_port())
        postgres = Postgres(node, programs.postgres_bin, account, secrets.token_hex(16))
        try:
            postgres.create()
            postgres.start()
        except PortTakenError:
            continue
        try:
            yield DatabaseServer(postgres)
        finally:
            postgres.stop()
        return
    raise AssertionError("no free port for PostgreSQL")
