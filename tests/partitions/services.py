"""What runs on a host: PuppetDB, PostgreSQL, and programs such as the gateway. One interface for all faults."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import threading
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pdbclient.errors import LabError
from pdbclient.lab.ports import LOOPBACK
from pdbclient.lab.postgres import Postgres
from pdbclient.lab.puppetdb import PuppetDB

from .inside import inside

__all__ = ["HostService", "HostedPuppetDB", "PostgresqlService", "Program", "PuppetdbService", "State"]

State = Literal["up", "stopped", "down"]

ROOT = Path(__file__).parents[2]
END = 30.0
"""Seconds for a process to end by itself, after which it is killed."""
_SIGNALLED = 10.0
_ANSWER = 3.0


class HostService(ABC):
    """A service of one host, by its main process and those that this one has started."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Its processes, the main one first; none when it is down."""

    @abstractmethod
    def launch(self) -> None:
        """Start it, unless it runs. It need not answer yet."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is there for its clients."""

    @abstractmethod
    def end(self) -> None:
        """Have it end by itself, kill it when it does not, and wait until it has ended."""

    def state(self) -> State:
        """Whether it runs, is stopped by SIGSTOP, or is down."""
        pids = self.pids()
        if not pids:
            return "down"
        return "stopped" if _letter(pids[0]) in "Tt" else "up"

    def stop(self) -> None:
        """SIGSTOP, and wait until all its processes are stopped: its connections stay, and nobody answers."""
        self._signal(signal.SIGSTOP)
        self._wait(self.pids(), "TtZX", "stopped")

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until all its processes are gone."""
        pids = self.pids()
        self._signal(signal.SIGKILL)
        # As long as nobody has collected it, PostgreSQL takes its predecessor for one that runs.
        self._wait(pids, "", "killed")

    def _wait(self, pids: Sequence[int], letters: str, what: str) -> None:
        """Until each of these is in one of these states, or gone."""
        deadline = time.monotonic() + _SIGNALLED
        while left := [pid for pid in pids if (letter := _letter(pid)) and letter not in letters]:
            # It collects our own ones.
            self.pids()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the processes {left} cannot be {what}")
            time.sleep(0.01)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Program(HostService):
    """A command that runs until it is told to end, its output appended to `log`.

    `ready` judges by what it has said since its start whether it is there for its clients. Thread-safe.
    """

    def __init__(
        self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str], ready: Callable[[str], bool]
    ) -> None:
        self._command = [str(word) for word in command]
        self._environment = {**os.environ, **environment}
        self._environment.pop("NOTIFY_SOCKET", None)
        self._process: subprocess.Popen[bytes] | None = None
        self._ready, self._said = ready, 0
        # Whether its end, should it have ended, is nobody's wish, and when that was found.
        self._wanted, self._failed_at = False, 0.0
        self._lock = threading.RLock()
        self.log = log
        self.failures: list[int] = []
        """The exit codes with which it ended by itself."""

    def pids(self) -> list[int]:
        with self._lock:
            process = self._process
            if process is None:
                return []
            if (code := process.poll()) is None:
                return [process.pid]
            if self._wanted:
                self._wanted, self._failed_at = False, time.monotonic()
                self.failures.append(code)
            return []

    def launch(self) -> None:
        with self._lock:
            if self.pids():
                return
            self._said = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=ROOT,
                    env=self._environment,
                    # What interrupts us does not reach it.
                    start_new_session=True,
                )
            self._wanted, self._failed_at = True, 0.0

    def restart_failed(self, after: float) -> None:
        """Start it again when it has ended by itself, so many seconds ago."""
        with self._lock:
            if not self.pids() and self._failed_at and time.monotonic() - self._failed_at > after:
                self.launch()

    def answers(self) -> bool:
        if not self.pids():
            return False
        with self.log.open("rb") as file:
            file.seek(self._said)
            return self._ready(file.read().decode(errors="replace"))

    def kill(self) -> None:
        with self._lock:
            self._let_end()
            super().kill()

    def end(self) -> None:
        with self._lock:
            self._let_end()
            if self._process is None:
                return
            self._signal(signal.SIGTERM)
            self.thaw()
            try:
                self._process.wait(END)
            except subprocess.TimeoutExpired:
                super().kill()

    def _let_end(self) -> None:
        # Has it ended before? Then that was by itself.
        self.pids()
        self._wanted, self._failed_at = False, 0.0


class PostgresqlService(HostService):
    """A PostgreSQL of the lab's; a fault is one of all its processes."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def pids(self) -> list[int]:
        main = self.postgres.process.pid
        if main is None:
            return []
        return [main, *_children(main)]

    def launch(self) -> None:
        """Start it, and wait until it answers: it takes a second."""
        if not self.pids():
            self.postgres.start()

    def answers(self) -> bool:
        try:
            return bool(self.postgres.sql("select 1"))
        except LabError:
            return False

    def end(self) -> None:
        self.thaw()
        self.postgres.stop()


class HostedPuppetDB(PuppetDB):
    """A PuppetDB of the lab's in the network namespace of its host, which heeds a list of revoked certificates.

    It reads that anew whenever it is replaced: by a service of its framework that the packages do not start.
    """

    __slots__ = ()

    def configure(self) -> None:
        super().configure()
        conf = self.node.home / "conf.d"
        with (conf / "jetty.ini").open("a") as file:
            file.write(f"ssl-crl-path = {self.tls.crl}\n")
        with zipfile.ZipFile(self.state.programs.jar(self.node.name)) as jar:
            services = jar.read("bootstrap.cfg").decode()
        watch = "puppetlabs.trapperkeeper.services.watcher.filesystem-watch-service/filesystem-watch-service"
        self._write(self._bootstrap, f"{services.rstrip()}\n{watch}\n")

    def command(self) -> list[str | Path]:
        return [*super().command(), "--bootstrap-config", self._bootstrap]

    @property
    def _bootstrap(self) -> Path:
        return self.node.home / "bootstrap.cfg"

    @property
    def _namespace(self) -> str:
        # The second word of what takes a process there.
        return self.node.prefix[1].rpartition("/")[2]

    def _get(self, path: str) -> str | None:
        def ask() -> str | None:
            connection = http.client.HTTPConnection(LOOPBACK, self.node.http_port, timeout=_ANSWER)
            try:
                connection.request("GET", path)
                return connection.getresponse().read().decode(errors="replace")
            except (OSError, http.client.HTTPException):
                return None
            finally:
                connection.close()

        return inside(self._namespace, ask)


class PuppetdbService(HostService):
    """A PuppetDB."""

    def __init__(self, puppetdb: HostedPuppetDB) -> None:
        self.puppetdb = puppetdb

    def pids(self) -> list[int]:
        pid = self.puppetdb.process.pid
        return [] if pid is None else [pid]

    def launch(self) -> None:
        self.puppetdb.launch()

    def answers(self) -> bool:
        """Whether it says that it runs. Raises `LabError` with its last words when it has ended."""
        self.puppetdb.check_alive()
        return self.puppetdb.simple_status() == "running"

    def end(self) -> None:
        """At once: it has nothing to put away that a start would not find again."""
        self.kill()
        self.puppetdb.process.forget()


def _letter(pid: int) -> str:
    """The state of a process, as /proc has it; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
