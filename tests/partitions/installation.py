"""What is installed on the hosts of a world, and how it is started and ended."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from pdbclient.lab.account import require_reachable, server_account
from pdbclient.lab.compiled import compile_ahead
from pdbclient.lab.layout import LabState, Node
from pdbclient.lab.options import LabOptions, find_programs
from pdbclient.lab.postgres import Postgres
from pdbclient.lab.servers import Servers
from tests import puppetdbs

from ..faults.powercut import Power, mounted
from ..integration.sync.clock import SettableClock
from . import configuration as conf
from .certificates import Certificates
from .clocked import with_clock_words
from .hosts import Host, HostNames, laid_out, prefix
from .inside import inside
from .leftovers import end_processes
from .model import Arrangement, Front, WorldError
from .network import Network
from .safeties import Safety, command
from .services import HostedPuppetDB, HostService, PostgresqlService, Program, PuppetdbService

__all__ = ["WorldInstallation"]

_POLL = 0.2
_CHECK = 0.5
RESTART = 2.0
"""Seconds after which a program that failed is started again, as its unit says."""


class WorldInstallation:
    """Hosts, network, certificates and services below `directory`, a new one, from `start` to `close`.

    `services` are by host and name, in the order in which they are started.
    """

    def __init__(
        self, directory: Path, arrangement: Arrangement, databases: int, front: Front, off: Iterable[Safety]
    ) -> None:
        self.directory, self.arrangement, self.front = directory, arrangement, front
        self._off = frozenset(off)
        shared = front is Front.GATEWAY and arrangement is Arrangement.SHARED
        self.hosts = laid_out(databases, journal=shared)
        self.puppets = self._named("puppet")
        self.databases = self._named("db")
        self.journal_hosts = self._named("journal")
        self.services: dict[tuple[Host, str], HostService] = {}
        self.names: dict[Host, HostNames] = {}
        self.powers: dict[Host, Power] = {}
        self.clocks: dict[Host, SettableClock] = {}
        self._stack = ExitStack()
        self._over = threading.Event()
        self._started = False

    # -- where things are

    def home(self, host: Host) -> Path:
        """What belongs to a host."""
        return self.directory / "hosts" / host.name

    def log(self, host: Host, service: str) -> Path:
        """The log of a program."""
        return self.directory / "logs" / f"{host.name}-{service}.log"

    def prefix(self, host: Host) -> tuple[str, ...]:
        """The command that runs another one on a host."""
        return prefix(self.network.path(host), host, self.names[host].directory)

    def journal(self, host: Host) -> str:
        """Where the journal of the gateway on a Puppet host is."""
        for each in self.journal_hosts:
            return f"postgresql://puppetdb:{self.state.password}@{each.fqdn}:{conf.POSTGRESQL_PORT}/journal"
        return str(self.home(host) / "disk" / "journal.db")

    def servers(self, host: Host) -> Servers:
        """PuppetDB and PostgreSQL of a host, for the lab's functions."""
        return Servers(self.state, self.state.node(host.name), self.account)

    # -- the beginning

    def start(self, seconds: float) -> None:
        """Make everything, start it, and wait until all of it answers. Raises `WorldError`, `LabError`, `OSError`."""
        deadline = time.monotonic() + seconds
        self.account = server_account()
        for part in ("hosts", "logs", "nodes", "run"):
            (self.directory / part).mkdir(mode=0o755, parents=True)
        require_reachable(self.directory, self.account)
        self.network = self._stack.enter_context(Network(self.hosts))
        self._started = True
        for host in self.hosts:
            self.home(host).mkdir(mode=0o755)
            self.names[host] = HostNames(self.home(host) / "etc", host, self.hosts)
            self.clocks[host] = SettableClock(self.home(host))
        self.certificates = Certificates(self.directory, self.hosts, self.account)
        self._lay_out()
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(self._make_postgresql, (*self.databases, *self.journal_hosts)))
        for host in self.databases:
            self._make_puppetdb(host)
        for host in self.puppets:
            self._make_front(host)
        # Now the PuppetDBs are there to be compared: else the first passes would fail.
        self._launch(deadline)
        if self.front is Front.GATEWAY:
            for host in self.databases:
                self._make_reconciler(host)
            self._launch(deadline)
        self._supervisor = threading.Thread(target=self._supervise, name="partitions-supervisor")
        self._supervisor.start()
        self._stack.callback(self._end_supervisor)

    def _lay_out(self) -> None:
        jar = puppetdbs.jar(puppetdbs.OWN)
        options = LabOptions(puppetdb_jar=jar, node_ttl="7d", node_purge_ttl=conf.TTL, report_ttl=conf.TTL)
        programs = find_programs(options)
        nodes = tuple(
            Node(
                host.name,
                self.directory / "nodes" / host.name,
                conf.HTTPS_PORT,
                conf.HTTP_PORT,
                conf.POSTGRESQL_PORT,
                address=host.address,
                prefix=self.prefix(host),
            )
            for host in (*self.databases, *self.journal_hosts)
        )
        self.state = LabState(self.directory, nodes, programs, options, token_hex(16))
        compile_ahead(replace(programs, node_jars={}), self.account, lambda said: None)
        for node in nodes:
            for part in (node.home, node.home / "conf.d", node.home / "log", node.vardir):
                part.mkdir(mode=0o750)
                self.account.own(part)

    def _make_postgresql(self, host: Host) -> None:
        node = self.state.node(host.name)
        postgres = Postgres(node, self.state.programs.postgres_bin, self.account, self.state.password)
        postgres.create()
        if host in self.journal_hosts:
            with (node.postgres_data / "pg_hba.conf").open("a") as file:
                file.writelines(f"host journal puppetdb {each.address}/32 scram-sha-256\n" for each in self.puppets)
        self._add(host, "postgres", PostgresqlService(postgres)).launch()
        if host in self.journal_hosts:
            create = "create database journal owner puppetdb encoding 'UTF8'"
            postgres.sql(create, database="postgres", superuser=True)

    def _make_puppetdb(self, host: Host) -> None:
        tls = self.certificates.of(host)
        puppetdb = HostedPuppetDB(self.state.node(host.name), self.state, self.account, tls)
        puppetdb.configure()
        self._add(host, "puppetdb", PuppetdbService(puppetdb)).launch()

    def _make_front(self, host: Host) -> None:
        tls, home = self.certificates.of(host), self.home(host)
        if self.front is Front.GATEWAY:
            if self.arrangement is Arrangement.FILES:
                self.powers[host] = self._stack.enter_context(mounted(home / "disk"))
            file = home / "puppetdb.conf"
            file.write_text(conf.puppetdb_conf(host, self.databases, tls, self.journal(host)))
            words = [*with_clock_words(command(self._off)), "--verbose", "gateway", "--config", str(file)]
            self._program(host, "gateway", words, lambda said: "listening at" in said)
        if self.front is Front.HAPROXY:
            pem, file = home / "haproxy.pem", home / "haproxy.cfg"
            assert tls.cert is not None
            assert tls.key is not None
            pem.touch(mode=0o600)
            pem.write_bytes(tls.cert.read_bytes() + tls.key.read_bytes())
            file.write_text(conf.haproxy(host, self.databases, tls, pem))
            words = ["haproxy", "-db", "-f", str(file)]
            self._program(host, "haproxy", words, lambda said: self.listens(host, conf.GATEWAY_PORT))

    def _make_reconciler(self, host: Host) -> None:
        state, file = self.home(host) / "sync", self.home(host) / "sync.conf"
        state.mkdir(mode=0o700)
        file.write_text(conf.sync_conf(host, self.databases, self.certificates.of(host), state))
        words = [*with_clock_words(command(())), "--verbose", "sync", "run", "--config", str(file)]
        self._program(host, "reconciler", words, lambda said: "sync with https://" in said)

    def _program(self, host: Host, name: str, words: Iterable[str], ready: Callable[[str], bool]) -> None:
        log = self.log(host, name)
        self._add(host, name, Program([*self.prefix(host), *words], log, _environment(self.clocks[host]), ready))

    def _add(self, host: Host, name: str, service: HostService) -> HostService:
        self.services[host, name] = service
        return service

    # -- its life

    def listens(self, host: Host, port: int) -> bool:
        """Whether somebody takes connections at that port of a host, seen from there."""

        def connect() -> bool:
            try:
                socket.create_connection((host.address, port), timeout=1).close()
            except OSError:
                return False
            return True

        return inside(self.network.namespace(host), connect)

    def restore(self, seconds: float) -> None:
        """Thaw and start all services, and wait until they answer. Raises `WorldError`, `LabError`, `OSError`."""
        for service in self.services.values():
            service.thaw()
        self._launch(time.monotonic() + seconds)

    def _launch(self, deadline: float) -> None:
        waiting = dict(self.services)
        while waiting:
            for (host, name), service in list(waiting.items()):
                service.launch()
                if service.answers():
                    del waiting[host, name]
            if waiting and time.monotonic() > deadline:
                late = ", ".join(f"{name} of {host.name}" for host, name in waiting)
                raise WorldError(f"not up in time: {late}; see {self.directory}/logs and nodes/*/log")
            time.sleep(_POLL if waiting else 0)

    def _supervise(self) -> None:
        """Start what failed again, as systemd does."""
        while not self._over.wait(_CHECK):
            for service in list(self.services.values()):
                if isinstance(service, Program):
                    service.restart_failed(RESTART)

    def _end_supervisor(self) -> None:
        self._over.set()
        self._supervisor.join()

    # -- the end

    def close(self) -> None:
        """End everything, and take away all that is not below `directory`; there, logs and journals stay."""
        self._over.set()
        try:
            for names in (("gateway", "haproxy", "reconciler"), ("puppetdb",), ("postgres",)):
                self._end({key: service for key, service in self.services.items() if key[1] in names})
            self._keep_journals()
        finally:
            if self._started:
                # Whoever else is on the hosts: they would hold the disks.
                end_processes(self.network.name)
            self._stack.close()

    def _end(self, services: Mapping[tuple[Host, str], HostService]) -> None:
        with ThreadPoolExecutor(max(len(services), 1)) as pool:
            for done in [pool.submit(service.end) for service in services.values()]:
                done.result()

    def _keep_journals(self) -> None:
        """Those on disks that go: for whoever looks what happened."""
        for host, power in self.powers.items():
            if not power.is_off():
                shutil.copytree(power.path, self.home(host) / "journal")

    def _named(self, kind: str) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if host.name.startswith(kind))


def _environment(clock: SettableClock) -> dict[str, str]:
    """Of a process that has this clock. It looks once a second where that is put: each time would cost a lot."""
    kept = {key: value for key, value in clock.environment.items() if key != "FAKETIME_NO_CACHE"}
    return {**kept, "FAKETIME_CACHE_DURATION": "1"}
