"""A real PuppetDB pair (or more) on this machine, as one object."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.errors import LabError
from pdbclient.lab import reset
from pdbclient.lab.account import server_account
from pdbclient.lab.certificates import CertificateAuthority
from pdbclient.lab.faults import Action, inject
from pdbclient.lab.layout import CLIENT, LabState, Node, read_state, tls_files, write_state
from pdbclient.lab.options import LabOptions, find_programs
from pdbclient.lab.servers import Servers, exclusive
from pdbclient.lab.startup import Startup, check_node_names, new_state

__all__ = ["Lab", "NodeStatus"]

_DEFAULT_NODES = 2
_OWN_CA = "lab"


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How one node is. `puppetdb`: running, starting, frozen or down; `postgres`: running or down.

    `version` is what the running PuppetDB says, else None.
    """

    name: str
    url: str
    puppetdb: str
    postgres: str
    version: str | None

    @property
    def up(self) -> bool:
        """Whether both servers run."""
        return self.puppetdb == self.postgres == "running"


class Lab:
    """The lab in one directory, from `up` or `load`; several objects and processes may share it."""

    def __init__(self, state: LabState) -> None:
        self._state = state
        self._account = server_account()

    @classmethod
    def up(
        cls,
        directory: Path,
        nodes: int | None = None,
        *,
        options: LabOptions | None = None,
        progress: Callable[[str], None] = _silent,
    ) -> Lab:
        """Make the lab in `directory` unless it is there, start whatever of it does not run, wait until all
        does.

        `nodes` defaults to what the lab has, or 2. `options` of an existing lab are kept unless given, and
        reach only the servers that this call starts. `progress` gets a line for every step, maybe from
        another thread. A server that is down keeps its ports and data; only a port that someone else has
        taken is changed. Raises `LabError` with the server's last log lines when one does not start;
        whatever this call had started is stopped again.
        """
        directory = directory.absolute()
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        with exclusive(directory):
            state = _prepare(directory, nodes, options)
            return cls(Startup(state, server_account(), progress).run())

    @classmethod
    def load(cls, directory: Path) -> Lab:
        """The lab in `directory`, running or not. Raises `LabError` when there is none."""
        lab = cls.find(directory)
        if lab is None:
            raise LabError(f"{directory} is not a lab (no lab.json): `pdbclient lab up --dir {directory}` makes one")
        return lab

    @classmethod
    def find(cls, directory: Path) -> Lab | None:
        """The lab in `directory`, None when there is none."""
        state = read_state(directory)
        return None if state is None else cls(state)

    @property
    def options(self) -> LabOptions:
        """How the lab is built."""
        return self._state.options

    @property
    def directory(self) -> Path:
        """Where the lab is."""
        return self._state.directory

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in order: primary, replica, replica2, ..."""
        return self._state.nodes

    def node(self, name: str) -> Node:
        """One node by name. Raises `LabError` when there is none of that name."""
        return self._state.node(name)

    @property
    def puppetdb_jar(self) -> Path:
        """The jar that nodes run which have none of their own; it also holds the sample data (`samples.Samples`)."""
        return self._state.programs.puppetdb_jar

    @property
    def client_tls(self) -> TlsFiles:
        """The certificate for clients of the lab."""
        return self._state.tls(CLIENT)

    @property
    def puppetdb_conf(self) -> Path:
        """A ready `puppetdb.conf` with all nodes in order."""
        return self._state.puppetdb_conf

    def sync_conf(self, name: str) -> Path:
        """A ready reconciler configuration for one node, pulling from all others."""
        return self._state.sync_conf(name)

    def _servers(self, name: str) -> Servers:
        return Servers(self._state, self._state.node(name), self._account)

    def _all_servers(self) -> Iterator[Servers]:
        return (self._servers(node.name) for node in self.nodes)

    def fault(self, name: str, action: Action | str) -> str:
        """Do `action` (see `faults.inject`) to one node; returns a line that says how it is now."""
        return inject(self._servers(name), action)

    def pid(self, name: str, server: str = "puppetdb") -> int | None:
        """The pid of `puppetdb` or `postgres` of a node, None when it is down."""
        servers = self._servers(name)
        process = servers.puppetdb.process if server == "puppetdb" else servers.postgres.process
        return process.pid

    def status(self) -> tuple[NodeStatus, ...]:
        """How every node is, in order."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            return tuple(pool.map(_status, self._all_servers()))

    def down(self, *, purge: bool = False) -> None:
        """Stop everything, frozen or not; with `purge`, remove the directory too. Data stay otherwise.

        Raises `LabError` when a process cannot be ended.
        """
        with exclusive(self.directory):
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(_stop, self._all_servers()))
            if purge:
                shutil.rmtree(self.directory)

    def issue(
        self, certname: str, *, ca: str = _OWN_CA, days: float = 365.0, names: Sequence[str] | None = None
    ) -> TlsFiles:
        """Issue a further certificate. `ca` is the lab's own, or the name of a foreign one, made at first
        use.

        `days`: how long it is valid from now; negative: expired that long ago. `names`: the DNS names in it
        (certname, localhost and 127.0.0.1 unless given). The `.ca` of the answer is the issuer's certificate.
        """
        ssl_dir = self._state.ssl_dir if ca == _OWN_CA else self.directory / "foreign" / ca / "ssl"
        authority = CertificateAuthority(ssl_dir, f"pdbclient {ca} CA")
        authority.create()
        return authority.issue(certname, days=days, names=names)

    def certificate(self, certname: str) -> TlsFiles:
        """Where the certificate of a node, or an issued one of the lab's own CA, is."""
        return tls_files(self._state.ssl_dir, certname)

    def sql(self, name: str, statement: str, *, superuser: bool = False) -> list[tuple[str, ...]]:
        """Run SQL behind PuppetDB's back; rows as text, NULL as ''.

        Runs as PuppetDB's role, or as PostgreSQL's superuser. Raises `LabError` with PostgreSQL's message.
        """
        return self._servers(name).postgres.sql(statement, superuser=superuser)

    def settle(self, name: str, seconds: float = 60.0) -> None:
        """Wait until PuppetDB has processed every command that it has accepted.

        It looks at the queue on disk. Raises `LabError` when that takes longer than `seconds`.
        """
        reset.settle(self._servers(name), seconds)

    def discarded(self, name: str) -> tuple[Path, ...]:
        """The files in PuppetDB's dead letter office: commands that it gave up on, and why."""
        return reset.discarded(self._servers(name))

    def empty(self, name: str, seconds: float = 60.0) -> None:
        """Make a running PuppetDB as empty as a new one, without a restart.

        Its queue gets `seconds` to drain; then it, the data and the dead letter office go. What the lab's
        reconcilers remember goes too: they would take the empty server for an accident. Raises `LabError`.
        """
        reset.empty(self._servers(name), seconds)
        for node in self.nodes:
            for file in self._state.sync_state(node.name).iterdir():
                file.unlink(missing_ok=True)


def _prepare(directory: Path, nodes: int | None, options: LabOptions | None) -> LabState:
    state = read_state(directory)
    if state is None:
        return new_state(
            directory, _DEFAULT_NODES if nodes is None else nodes, options or LabOptions(), server_account()
        )
    if nodes not in (None, len(state.nodes)):
        raise LabError(
            f"the lab in {directory} has {len(state.nodes)} nodes, not {nodes}: "
            "remove it (`pdbclient lab down --purge`) or use another directory (--dir)"
        )
    if options is not None:
        check_node_names(options, [node.name for node in state.nodes])
        state = replace(state, options=options, programs=find_programs(options))
        write_state(state)
    return state


def _status(servers: Servers) -> NodeStatus:
    process = servers.puppetdb.process
    version = None
    if process.pid is None:
        puppetdb = "down"
    elif process.frozen:
        puppetdb = "frozen"
    else:
        puppetdb = "running" if servers.puppetdb.simple_status() == "running" else "starting"
        version = servers.puppetdb.version()
    postgres = "down" if servers.postgres.process.pid is None else "running"
    return NodeStatus(servers.node.name, servers.node.url, puppetdb, postgres, version)


def _stop(servers: Servers) -> None:
    servers.puppetdb.stop()
    servers.postgres.stop()
