"""A whole site on one machine: Puppet hosts, PuppetDB hosts, and a network between them that can be broken.

Each host has an address, a name and certificates of its own, in network namespaces that are gone with the world. What
can be done to it is in `nemeses`; `heal` ends all of that.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from itertools import count
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from time import monotonic, sleep
from typing import Any, Self

from pdbclient.config.model import TlsFiles
from pdbclient.errors import LabError
from pdbclient.lab import reset

from . import configuration as conf
from .hosts import Host
from .inside import inside
from .installation import WorldInstallation
from .model import Arrangement, Front, NotNow, Usage, WorldError
from .safeties import Safety
from .services import HostService, PostgresqlService, Program, State

__all__ = ["Arrangement", "Front", "Host", "NotNow", "Safety", "Usage", "World", "WorldError"]

_UP = 240.0
"""Seconds for all to be up: far more than it takes."""
_MEGABYTE = 1 << 20
_ASK = 5.0
_VERSION = "/pdb/meta/v1/version"


class World:
    """Everything in the new directory `directory`, which is the caller's to remove: the logs are in it.

    It is to be one that the servers' account can enter. Leaving the context takes away all that is elsewhere:
    network, processes, mounts. So does the end of this process, in whatever way it comes. Faults are begun and ended
    by one thread; all that only looks, and `spawn`, are for any.
    """

    def __init__(self, installation: WorldInstallation) -> None:
        self.installation = installation
        self.directory = installation.directory
        self.hosts, self.puppets = installation.hosts, installation.puppets
        self.databases, self.journal_hosts = installation.databases, installation.journal_hosts
        self.arrangement, self.front = installation.arrangement, installation.front
        self.numbers = count(1)
        """For what is to be another one each time."""
        self._ends: dict[str, Callable[[], None]] = {}
        self._lock = threading.RLock()

    @classmethod
    def up(
        cls,
        directory: Path,
        arrangement: Arrangement,
        *,
        databases: int = 2,
        front: Front = Front.GATEWAY,
        off: frozenset[Safety] = frozenset(),
    ) -> World:
        """Make a world of so many PuppetDBs, without the safeties that are `off`, and wait until all of it answers.

        Raises `WorldError`; whatever was there by then is taken away.
        """
        installation = WorldInstallation(directory, arrangement, databases, front, off)
        world = cls(installation)
        try:
            installation.start(_UP)
            world.heal(_UP)
        except BaseException as error:
            world.close()
            if isinstance(error, LabError | OSError):
                raise WorldError(f"the world in {directory} cannot be made: {error}") from error
            raise
        return world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        with self._lock:
            self._ends.clear()
            self.installation.close()

    # -- its hosts

    def host(self, name: str) -> Host:
        """The host of that short name. Raises `KeyError`."""
        return {host.name: host for host in self.hosts}[name]

    def urls(self, puppet: Host) -> tuple[str, ...]:
        """What Puppet on this host submits to and asks, in order."""
        if self.front is Front.HAPROXY:
            return (conf.haproxy_url(),)
        direct = tuple(map(conf.puppetdb_url, self.databases))
        return direct if self.front is Front.STOCK else (conf.gateway_url(puppet), *direct)

    def url(self, database: Host) -> str:
        """Where a PuppetDB is."""
        return conf.puppetdb_url(database)

    def tls(self, host: Host) -> TlsFiles:
        """The certificate of a host, which is another one after it was renewed: read it for every connection."""
        return self.installation.certificates.of(host)

    def ssldir(self, host: Host) -> Path:
        """The same as Puppet's `ssldir`."""
        return self.installation.certificates.home(host)

    def journal(self, puppet: Host) -> str:
        """The setting `journal` of its gateway."""
        return self.installation.journal(puppet)

    def spawn(self, host: Host, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """A process on a host, in its network and with its names; `popen` are arguments of `subprocess.Popen`."""
        return subprocess.Popen([*self.installation.prefix(host), *argv], **popen)

    # -- its services

    def services(self, host: Host) -> tuple[str, ...]:
        """The names of the services of a host."""
        return tuple(name for its, name in self.installation.services if its == host)

    def service(self, host: Host, name: str) -> HostService:
        """One of them. Raises `KeyError`."""
        return self.installation.services[host, name]

    def pid(self, host: Host, service: str) -> int | None:
        """The main process of a service, None when it is down."""
        return next(iter(self.service(host, service).pids()), None)

    def service_state(self, host: Host, service: str) -> State:
        """Whether it runs, is stopped by SIGSTOP, or is down."""
        return self.service(host, service).state()

    def sql(self, host: Host, statement: str, database: str | None = None) -> list[tuple[str, ...]]:
        """Rows as text, NULL as '', by the superuser, on the host itself: also while that is cut off.

        `database` is PuppetDB's, or on the journal's host the journal's, unless given. Raises `LabError`.
        """
        service = self.service(host, "postgres")
        assert isinstance(service, PostgresqlService)
        name = database or ("journal" if host in self.journal_hosts else "puppetdb")
        return service.postgres.sql(statement, database=name, superuser=True)

    def settle(self, database: Host, seconds: float) -> None:
        """Wait until a PuppetDB's queue on disk is empty. Raises `WorldError`."""
        try:
            reset.settle(self.installation.servers(database), seconds)
        except LabError as error:
            raise WorldError(str(error)) from error

    def passes(self, database: Host) -> int:
        """How many passes of its reconciler have ended, however, with each of the others. 0 where it has none."""
        log = self.installation.log(database, "reconciler")
        text = log.read_text(errors="replace") if log.exists() else ""
        others = [self.url(other) for other in self.databases if other != database]
        ends = [len(re.findall(rf"sync with {re.escape(url)}: (?:finished|failed)", text)) for url in others]
        return min(ends, default=0)

    def logs(self) -> Mapping[str, Path]:
        """The logs of the programs (gateway, reconciler, haproxy), by "host service"."""
        return {key: program.log for key, program in self._programs()}

    def usage(self) -> dict[str, Usage]:
        """What the programs that run use, by "host service"."""
        found = {key: _usage(pid) for key, program in self._programs() for pid in program.pids()[:1]}
        return {key: usage for key, usage in found.items() if usage is not None}

    def failures(self) -> dict[str, list[int]]:
        """The exit codes of programs that ended by themselves, by "host service". They were started again."""
        return {key: list(program.failures) for key, program in self._programs() if program.failures}

    def _programs(self) -> Iterator[tuple[str, Program]]:
        for (host, name), service in self.installation.services.items():
            if isinstance(service, Program):
                yield f"{host.name} {name}", service

    # -- faults

    def begin(self, key: str, begin: Callable[[], Callable[[], None]]) -> Callable[[], None]:
        """Begin a fault, as `begin` does, which gives its end. What this gives ends it, too, and may be called twice.

        Raises `NotNow` when the same `key` is under way.
        """
        with self._lock:
            if key in self._ends:
                raise NotNow(f"{key} is under way")
            end = begin()
            self._ends[key] = end

        def once() -> None:
            with self._lock:
                if self._ends.get(key) is end:
                    del self._ends[key]
                    end()

        return once

    def under_way(self) -> tuple[str, ...]:
        """The keys of what has begun and not ended."""
        return tuple(self._ends)

    def heal(self, seconds: float) -> None:
        """End all faults, thaw and start all services, and wait until they answer, through the gateways, too.

        Raises `WorldError` when that takes longer.
        """
        deadline = monotonic() + seconds
        with self._lock:
            failed = [error for key in [*self._ends] if (error := self._end(key)) is not None]
            try:
                self.installation.restore(seconds)
            except (LabError, OSError) as error:
                failed.append(error)
            if failed:
                raise WorldError(f"the world cannot be healed: {'; '.join(map(str, failed))}") from failed[0]
            for host in self.databases:
                self._wait_for(host, host, conf.HTTPS_PORT, deadline)
            if self.front is not Front.STOCK:
                for host in self.puppets:
                    self._wait_for(host, host, conf.GATEWAY_PORT, deadline)

    def _end(self, key: str) -> Exception | None:
        """End one fault; why it cannot be ended, if so: the others are to end all the same."""
        try:
            self._ends.pop(key)()
        except (WorldError, LabError, OSError) as error:
            return error
        return None

    def _wait_for(self, source: Host, target: Host, port: int, deadline: float) -> None:
        while (said := self.ask(source, target, port)) != "200":
            if monotonic() > deadline:
                raise WorldError(f"{target.name} port {port} does not answer {source.name}: {said}")
            sleep(0.2)

    def ask(
        self,
        source: Host,
        target: Host,
        port: int,
        path: str = _VERSION,
        body: bytes | None = None,
        *,
        seconds: float = _ASK,
    ) -> str:
        """What `source`, with its certificate, is told at that port of `target`: the status, or the error's words.

        With a `body` (JSON), it is a POST. `seconds` is how long it may be silent.
        """
        files = self.tls(source)
        context = SSLContext(PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(files.ca)
        # By its address: the names are not ours here.
        context.check_hostname = False
        assert files.cert is not None
        context.load_cert_chain(files.cert, files.key)
        headers = {} if body is None else {"Content-Type": "application/json"}

        def get() -> str:
            with closing(HTTPSConnection(target.address, port, context=context, timeout=seconds)) as connection:
                try:
                    connection.request("GET" if body is None else "POST", path, body, headers)
                    response = connection.getresponse()
                    response.read()
                except (OSError, HTTPException) as error:
                    return str(error) or type(error).__name__
                return str(response.status)

        return inside(self.installation.network.namespace(source), get)


def _usage(pid: int) -> Usage | None:
    """None when it has just ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None
    if "VmRSS" not in status:
        return None
    return Usage(descriptors, int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024 / _MEGABYTE)
