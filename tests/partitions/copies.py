"""A PuppetDB's database as of some time ago: what an operator dumps, and restores after an accident."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pdbclient.lab.account import server_account
from pdbclient.lab.ports import LOOPBACK
from pdbclient.lab.postgres import Postgres

from .model import WorldError

__all__ = ["dump", "restore"]

_LIMIT = 120.0
_AGAIN = "drop database if exists puppetdb with (force)", "create database puppetdb owner puppetdb encoding 'UTF8'"


def dump(postgres: Postgres, file: Path) -> None:
    """Write the database into `file`, while PuppetDB goes on. Raises `WorldError`."""
    _run(postgres, "pg_dump", "--format=custom", "--compress=1", "--file", str(file), "puppetdb")


def restore(postgres: Postgres, file: Path) -> None:
    """Make the database what it was. Nobody is at it. Raises `WorldError` and `LabError`."""
    for statement in _AGAIN:
        postgres.sql(statement, database="postgres", superuser=True)
    _run(postgres, "pg_restore", "--exit-on-error", "--dbname", "puppetdb", str(file))


def _run(postgres: Postgres, program: str, *words: str) -> None:
    node = postgres.node
    where = ("--host", LOOPBACK, "--port", str(node.postgres_port), "--username", "postgres")
    done = subprocess.run(
        [*node.prefix, str(postgres.programs / program), *where, *words],
        env={**server_account().environment, "PGPASSWORD": postgres.password, "PGCONNECT_TIMEOUT": "5"},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    if done.returncode:
        raise WorldError(f"{program} of {node.name}: {done.stderr.strip() or done.returncode}")
