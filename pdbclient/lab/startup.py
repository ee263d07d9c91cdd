"""Bringing a lab up: everything that is missing is made and started, nothing that runs is touched."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pdbclient.errors import LabError
from pdbclient.lab.account import Account, require_reachable
from pdbclient.lab.certificates import CertificateAuthority
from pdbclient.lab.client_files import puppetdb_conf, sync_conf
from pdbclient.lab.compiled import compile_ahead
from pdbclient.lab.layout import CLIENT, LabState, Node, node_names, write_state
from pdbclient.lab.options import LabOptions, find_programs
from pdbclient.lab.ports import free_port
from pdbclient.lab.postgres import PortTakenError
from pdbclient.lab.servers import LOCK_FILE, Servers

__all__ = ["Startup", "check_node_names", "new_state"]

_PORT_TRIES = 5


def new_state(directory: Path, count: int, options: LabOptions, account: Account) -> LabState:
    """Lay out a new lab of `count` nodes in an empty `directory` and write its state file.

    Raises `LabError`.
    """
    if count < 1:
        raise LabError(f"a lab needs at least one node, not {count}")
    programs = find_programs(options)
    check_node_names(options, node_names(count))
    if any(entry.name != LOCK_FILE for entry in directory.iterdir()):
        raise LabError(f"{directory} is neither a lab nor empty: choose another directory (--dir)")
    require_reachable(directory, account)
    nodes: list[Node] = []
    taken: set[int] = set()
    for name in node_names(count):
        ports: list[int] = []
        for _ in range(3):
            ports.append(free_port(taken))
            taken.add(ports[-1])
        nodes.append(Node(name, directory / "nodes" / name, *ports))
    state = LabState(directory, tuple(nodes), programs, options, secrets.token_hex(16))
    write_state(state)
    return state


def check_node_names(options: LabOptions, names: Sequence[str]) -> None:
    """Raise `LabError` when a jar or a Java is meant for a node that is none of `names`."""
    for option, nodes in (("--node-jar", options.node_jars), ("--java", options.node_javas)):
        for name in nodes:
            if name not in names:
                raise LabError(f"{option} {name}=…: the lab has no such node, but {', '.join(names)}")


class Startup:
    """One `lab up`. `state` is the lab as it is in the end: ports that were taken have been replaced."""

    def __init__(self, state: LabState, account: Account, progress: Callable[[str], None]) -> None:
        self.state = state
        self._account = account
        self._progress = progress
        self._lock = threading.Lock()
        self._undo: list[Callable[[], None]] = []

    def run(self) -> LabState:
        """Bring everything up and return the state.

        Raises `LabError` when a server does not start; what this run had started is stopped again.
        """
        require_reachable(self.state.directory, self._account)
        try:
            self._make_directories()
            self._make_certificates()
            with ThreadPoolExecutor(len(self.state.nodes) + 1) as pool:
                compiled = pool.submit(self._compile)
                list(pool.map(self._start_postgres, [node.name for node in self.state.nodes]))
                compiled.result()
            self._start_puppetdbs()
        except BaseException:
            self._stop_what_was_started()
            raise
        self._write_client_files()
        return self.state

    def _stop_what_was_started(self) -> None:
        for stop in reversed(self._undo):
            try:
                stop()
            except LabError as error:
                # The reason why we are here matters more; this one is told on the way.
                self._progress(str(error))

    def _compile(self) -> None:
        programs = self.state.programs
        names = [node.name for node in self.state.nodes]
        for jar, java in {programs.jar(name): programs.java_of(name) for name in names}.items():
            problem = compile_ahead(replace(programs, puppetdb_jar=jar, java=java), self._account, self._progress)
            if problem:
                self._progress(f"PuppetDB's code could not be compiled ({problem}): it will start more slowly")

    def _servers(self, name: str) -> Servers:
        return Servers(self.state, self.state.node(name), self._account)

    def _make_directories(self) -> None:
        root = self.state.directory
        for directory in (root / "run", root / "nodes", root / "ssl"):
            directory.mkdir(mode=0o755, exist_ok=True)
        for node in self.state.nodes:
            for directory in (node.home, node.home / "conf.d", node.home / "log", node.vardir):
                directory.mkdir(mode=0o750, exist_ok=True)
                self._account.own(directory)
            self.state.sync_state(node.name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _make_certificates(self) -> None:
        ca = CertificateAuthority(self.state.ssl_dir, "pdbclient lab CA")
        ca.create()
        for name in (*(node.certname for node in self.state.nodes), CLIENT):
            cert = self.state.tls(name).cert
            if cert is not None and not cert.exists():
                ca.issue(name)
        for node in self.state.nodes:
            key = self.state.tls(node.certname).key
            if key is not None:
                self._account.own(key)

    def _start_postgres(self, name: str) -> None:
        for _ in range(_PORT_TRIES):
            servers = self._servers(name)
            if servers.postgres.process.pid is not None:
                return
            self._progress(f"{name}: PostgreSQL starts on port {servers.node.postgres_port}")
            servers.postgres.create()
            self._undo.append(servers.postgres.stop)
            try:
                servers.postgres.start()
            except PortTakenError as busy:
                self._progress(f"{busy}; another port is tried")
                # Its PuppetDB, should it run, knows the old port.
                servers.puppetdb.stop()
                self._change_ports(name, "postgres_port")
            else:
                return
        raise LabError(f"PostgreSQL of {name} found no free port in {_PORT_TRIES} tries")

    def _change_ports(self, name: str, *which: Literal["https_port", "http_port", "postgres_port"]) -> None:
        with self._lock:
            node = self.state.node(name)
            for field in which:
                node = node.with_port(field, free_port(self.state.ports))
                self.state = self.state.with_node(node)
            write_state(self.state)

    def _start_puppetdbs(self) -> None:
        waiting = {node.name: _PORT_TRIES for node in self.state.nodes}
        for name in waiting:
            self._launch(name)
        began = time.monotonic()
        while waiting:
            for name in list(waiting):
                puppetdb = self._servers(name).puppetdb
                try:
                    puppetdb.check_alive()
                except PortTakenError as busy:
                    waiting[name] -= 1
                    if not waiting[name]:
                        raise LabError(f"{busy}, and so were {_PORT_TRIES - 1} others") from busy
                    self._progress(f"{busy}; another port is tried")
                    self._change_ports(name, "https_port", "http_port")
                    self._launch(name)
                    continue
                if puppetdb.simple_status() == "running":
                    self._progress(f"{name}: PuppetDB {puppetdb.version()} is running at {puppetdb.node.url}")
                    del waiting[name]
                elif time.monotonic() - began > self.state.options.start_timeout:
                    raise LabError(
                        f"PuppetDB {name} is not running after {self.state.options.start_timeout:g} s; "
                        + puppetdb.last_words()
                    )
            time.sleep(0.2)

    def _launch(self, name: str) -> None:
        """Start the JVM unless it runs, on other ports when one of its own is taken."""
        for _ in range(_PORT_TRIES):
            puppetdb = self._servers(name).puppetdb
            if puppetdb.process.pid is not None:
                puppetdb.process.signal(signal.SIGCONT)
                return
            puppetdb.configure()
            self._progress(f"{name}: PuppetDB starts on port {puppetdb.node.https_port}")
            try:
                puppetdb.launch()
            except PortTakenError as busy:
                self._progress(f"{busy}; another port is tried")
                self._change_ports(name, "https_port", "http_port")
            else:
                self._undo.append(puppetdb.stop)
                return
        raise LabError(f"PuppetDB {name} found no free port in {_PORT_TRIES} tries")

    def _write_client_files(self) -> None:
        state = self.state
        tls = state.tls(CLIENT)
        _replace(state.puppetdb_conf, puppetdb_conf(state.nodes, tls))
        for node in state.nodes:
            remotes = [other for other in state.nodes if other != node]
            _replace(
                state.sync_conf(node.name),
                sync_conf(node, remotes, tls, state.sync_state(node.name)),
            )


def _replace(path: Path, text: str) -> None:
    """Write a file only when its text changes: a daemon that watches it must not be woken for nothing."""
    if path.exists() and path.read_text() == text:
        return
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
