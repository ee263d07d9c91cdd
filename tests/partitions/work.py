"""The workers of a run: a process on each Puppet host, from the beginning of the run to its end."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from pdbclient.errors import PdbError

from .site import HostLike, WorldLike
from .worker import Orders

__all__ = ["RunFailed", "Work", "Workforce"]

START = 60.0
STOP = 200.0
"""Seconds in which a worker has ended: a command has as many attempts as there are servers, and each its limit; a
run of Puppet has several."""
ROOT = Path(__file__).parents[2]


class RunFailed(PdbError):
    """The run itself could not be done: nothing is known of what it was to test."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much is done: `nodes` on each Puppet host, a command every `pause` seconds from each of `writers` threads,
    a query of exported resources every `read_pause` seconds from each of `readers`, and every `puppet_pause` seconds
    a real `puppet apply` (None: none). `seconds`: server_url_timeout.
    """

    jar: Path
    seed: int = 0
    nodes: int = 8
    writers: int = 2
    pause: float = 1.5
    readers: int = 1
    read_pause: float = 0.7
    seconds: float = 10.0
    puppet_pause: float | None = None


@dataclass(slots=True)
class _Worker:
    host: HostLike
    process: subprocess.Popen[Any]
    history: Path
    log: IO[bytes]


@dataclass(slots=True)
class Workforce:
    """All workers of `site`, whose files are in `directory`. Leaving the context kills those that still run."""

    site: WorldLike
    work: Work
    directory: Path
    _workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            for host in self.site.puppets:
                self._workers.append(self._spawn(host))
            for worker in self._workers:
                self._started(worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    pipe.close()
            worker.log.close()

    @property
    def histories(self) -> Sequence[Path]:
        """The files that they write."""
        return [worker.history for worker in self._workers]

    def require(self) -> None:
        """Raise `RunFailed` when one has ended by itself."""
        for worker in self._workers:
            if (code := worker.process.poll()) is not None:
                raise RunFailed(f"the worker of {worker.host.name} has ended with {code}: {_tail(worker)}")

    def end(self) -> None:
        """Let all end what is under way. Raises `RunFailed` when one does not end, or has failed."""
        self.require()
        for worker in self._workers:
            assert worker.process.stdin is not None
            worker.process.stdin.close()
        for worker in self._workers:
            try:
                code = worker.process.wait(STOP)
            except subprocess.TimeoutExpired:
                raise RunFailed(f"the worker of {worker.host.name} does not end") from None
            if code:
                raise RunFailed(f"the worker of {worker.host.name} has failed: {_tail(worker)}")

    def _spawn(self, host: HostLike) -> _Worker:
        orders = self.directory / f"{host.name}-worker.json"
        history = self.directory / f"{host.name}.jsonl"
        _orders(self.site, host, self.work, history).save(orders)
        log = (self.directory / f"{host.name}-worker.log").open("ab")
        argv = [sys.executable, "-m", f"{__package__}.worker", str(orders)]
        try:
            process = self.site.spawn(host, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT)
        except BaseException:
            log.close()
            raise
        return _Worker(host, process, history, log)

    def _started(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        ready, _, _ = select.select([worker.process.stdout], [], [], START)
        if not ready or worker.process.stdout.readline() != b"started\n":
            raise RunFailed(f"the worker of {worker.host.name} does not start: {_tail(worker)}")


def _orders(site: WorldLike, host: HostLike, work: Work, history: Path) -> Orders:
    tls = site.tls(host)
    assert tls.cert is not None
    assert tls.key is not None
    puppetdbs: Mapping[str, str] = {each.name: site.url(each) for each in site.databases}
    return Orders(
        host=host.name,
        urls=list(site.urls(host)),
        seconds=work.seconds,
        nodes=[f"{host.name}-node{number}.example" for number in range(work.nodes)],
        puppetdbs=puppetdbs,
        ca=str(tls.ca),
        cert=str(tls.cert),
        key=str(tls.key),
        jar=str(work.jar),
        history=str(history),
        seed=work.seed,
        journal=site.journal(host),
        writers=work.writers,
        pause=work.pause,
        readers=work.readers,
        read_pause=work.read_pause,
        puppet=None if work.puppet_pause is None else str(history.with_name(f"{host.name}-puppet")),
        puppet_pause=work.puppet_pause or 0.0,
    )


def _tail(worker: _Worker) -> str:
    return Path(worker.log.name).read_text(errors="replace")[-2000:]
