"""One throwaway PostgreSQL cluster per node, over TCP only, on loopback (and the node's address)."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.account import Account
from pdbclient.lab.layout import Node
from pdbclient.lab.ports import LOOPBACK
from pdbclient.lab.process import ServerProcess, spawn, tail, wait_for_end

__all__ = ["PortTakenError", "Postgres"]

_SUPERUSER = "postgres"
_START_SECONDS = 60.0
_FAST_STOP_SECONDS = 20.0
_IMMEDIATE_STOP_SECONDS = 10.0
# The lab must survive the kill of a server, not a power cut: without fsync everything about it is quicker.
_SETTINGS = {
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
}


class PortTakenError(LabError):
    """A server could not listen on its port because another process does."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """The cluster of one node. `programs` is the directory of initdb, postgres and psql."""

    node: Node
    programs: Path
    account: Account
    password: str

    @property
    def process(self) -> ServerProcess:
        """The postmaster."""
        return ServerProcess(self.node.record("postgres"))

    def create(self) -> None:
        """Run initdb, unless the cluster is there already."""
        data = self.node.postgres_data
        if (data / "PG_VERSION").exists():
            return
        if data.exists() and any(data.iterdir()):
            raise LabError(f"{data} holds a half-made cluster: `pdbclient lab down --purge` and start again")
        data.mkdir(mode=0o700, exist_ok=True)
        self.account.own(data)
        password_file = self.node.home / "initdb.password"
        _write_secret(password_file, self.password + "\n", self.account)
        try:
            self._run(
                "initdb", "--pgdata", data, "--username", _SUPERUSER, "--pwfile", password_file,
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
            )  # fmt: skip
        finally:
            password_file.unlink()

    def start(self) -> None:
        """Start the server and wait until it takes connections; nothing to do when it runs.

        Raises `PortTakenError`, or `LabError` with the last lines of its log.
        """
        if self.process.pid is None:
            addresses = ",".join(dict.fromkeys((LOOPBACK, self.node.address)))
            settings = {"listen_addresses": addresses, "port": str(self.node.postgres_port), **_SETTINGS}
            arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            command: list[str | Path] = [
                self.programs / "postgres",
                "-D",
                self.node.postgres_data,
                *arguments,
            ]
            log = self.node.postgres_log
            offset = log.stat().st_size if log.exists() else 0
            pid = spawn(command, account=self.account, cwd=self.node.home, log=log, prefix=self.node.prefix)
            self.process.write(pid)
            self._wait_until_ready(offset)
        self._ensure_database()

    def _wait_until_ready(self, log_offset: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            log = self.node.postgres_log
            if self.process.pid is None:
                self.process.forget()
                if "could not bind" in log.read_text(errors="replace")[log_offset:]:
                    raise PortTakenError(f"PostgreSQL of {self.node.name}: port {self.node.postgres_port} is taken")
                raise LabError(f"PostgreSQL of {self.node.name} did not start; {tail(log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise LabError(f"PostgreSQL of {self.node.name} is not ready after {_START_SECONDS:g} s; {tail(log)}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        return self._psql("postgres", _SUPERUSER, "select 1").returncode == 0

    def _ensure_database(self) -> None:
        present = self.sql("select 1 from pg_database where datname = 'puppetdb'", database="postgres")
        if not present:
            # The password is our own hexadecimal token: it needs no quoting.
            self.sql(f"create role puppetdb login password '{self.password}'", database="postgres", superuser=True)
            self.sql("create database puppetdb owner puppetdb encoding 'UTF8'", database="postgres", superuser=True)
        self.sql("create extension if not exists pg_trgm", superuser=True)

    def stop(self) -> None:
        """Stop the server: fast (open sessions are broken off), immediately when that takes too long."""
        process = self.process
        # The signals of `pg_ctl stop -m fast` and `-m immediate`.
        for number, seconds in (
            (signal.SIGINT, _FAST_STOP_SECONDS),
            (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS),
            (signal.SIGKILL, _IMMEDIATE_STOP_SECONDS),
        ):
            process.signal(number)
            if wait_for_end(process, seconds):
                process.forget()
                return
        raise LabError(f"PostgreSQL of {self.node.name} (pid {process.pid}) cannot be stopped")

    def sql(self, statement: str, *, database: str = "puppetdb", superuser: bool = False) -> list[tuple[str, ...]]:
        """Run SQL (one or several statements) and return the rows as text, NULL as the empty string.

        Runs as the role `puppetdb`, which owns PuppetDB's tables, or as the superuser. Raises `LabError` with
        PostgreSQL's message.
        """
        role = _SUPERUSER if superuser or database != "puppetdb" else "puppetdb"
        done = self._psql(database, role, statement)
        if done.returncode:
            raise LabError(f"PostgreSQL of {self.node.name}: {done.stderr.strip() or 'psql failed'}")
        return [tuple(row) for row in csv.reader(io.StringIO(done.stdout))]

    def _psql(self, database: str, role: str, statement: str) -> subprocess.CompletedProcess[str]:
        command = [
            *self.node.prefix, str(self.programs / "psql"), "--no-psqlrc", "--quiet", "--csv", "--tuples-only",
            "--set", "ON_ERROR_STOP=1", "--host", LOOPBACK, "--port", str(self.node.postgres_port),
            "--username", role, "--dbname", database,
        ]  # fmt: skip
        return subprocess.run(
            command,
            input=statement,
            env={**self.account.environment, "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "5"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = _run_as(self.account, [str(self.programs / program), *map(str, arguments)], self.account.environment)
        if done.returncode:
            raise LabError(f"{program} of {self.node.name} failed:\n{(done.stderr or done.stdout).strip()}")


def _run_as(
    account: Account, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, check=False, **account.identity
    )


def _write_secret(path: Path, text: str, account: Account) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    account.own(path)
