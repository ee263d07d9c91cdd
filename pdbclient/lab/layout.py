"""Where everything of a lab is on disk, and the state file `lab.json` that says so."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pdbclient.config.model import TlsFiles
from pdbclient.errors import LabError
from pdbclient.lab.options import LabOptions, Programs
from pdbclient.lab.ports import LOOPBACK

__all__ = [
    "CLIENT",
    "LabState",
    "Node",
    "default_directory",
    "node_names",
    "read_state",
    "tls_files",
    "write_state",
]

CLIENT = "client"

_STATE_FILE = "lab.json"
_FORMAT = "pdbclient-lab-1"


@dataclass(frozen=True, slots=True)
class Node:
    """One PuppetDB with its own PostgreSQL.

    `url` asks for a client certificate; `cleartext_url` is plain HTTP for looking at the server from this
    machine. `home` holds everything of the node: conf.d/, var/ (vardir), log/ and postgres/.

    `address` is where PuppetDB's `https_port` is, and PostgreSQL beside the loopback. `prefix` is a command that runs
    another one, its arguments, somewhere else: in a network namespace, say. The servers are started with it.
    """

    name: str
    home: Path
    https_port: int
    http_port: int
    postgres_port: int
    address: str = field(default=LOOPBACK, kw_only=True)
    prefix: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def certname(self) -> str:
        """The certificate's name: the node's own."""
        return self.name

    @property
    def url(self) -> str:
        """`https://localhost:PORT`."""
        return f"https://localhost:{self.https_port}"

    @property
    def cleartext_url(self) -> str:
        """`http://localhost:PORT`."""
        return f"http://localhost:{self.http_port}"

    def with_port(self, which: Literal["https_port", "http_port", "postgres_port"], port: int) -> Node:
        """The same node with one port changed."""
        match which:
            case "https_port":
                return replace(self, https_port=port)
            case "http_port":
                return replace(self, http_port=port)
            case "postgres_port":
                return replace(self, postgres_port=port)

    @property
    def subname(self) -> str:
        """The database as PuppetDB's `[database] subname` has it."""
        return f"//127.0.0.1:{self.postgres_port}/puppetdb"

    @property
    def ports(self) -> tuple[int, int, int]:
        """HTTPS, HTTP, PostgreSQL."""
        return self.https_port, self.http_port, self.postgres_port

    def record(self, server: str) -> Path:
        """Where the process of `server` (puppetdb or postgres) is written down.

        Not in `home`: that belongs to the servers' account, which must not choose what we send signals to.
        """
        return self.home.parents[1] / "run" / f"{self.name}-{server}.json"

    @property
    def vardir(self) -> Path:
        """PuppetDB's vardir: its command queue and dead letter office are in `stockpile/`."""
        return self.home / "var"

    @property
    def log(self) -> Path:
        """PuppetDB's own log."""
        return self.home / "log" / "puppetdb.log"

    @property
    def console_log(self) -> Path:
        """What PuppetDB's JVM wrote to its standard output and error."""
        return self.home / "log" / "console.log"

    @property
    def postgres_log(self) -> Path:
        """PostgreSQL's log."""
        return self.home / "log" / "postgres.log"

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "postgres"


@dataclass(frozen=True, slots=True)
class LabState:
    """What `lab.json` holds. `password` opens the databases (both of PostgreSQL's roles)."""

    directory: Path
    nodes: tuple[Node, ...]
    programs: Programs
    options: LabOptions
    password: str

    def node(self, name: str) -> Node:
        """The node called `name`; `LabError` naming those that exist when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"this lab has no node {name!r}: it has {', '.join(node.name for node in self.nodes)}")

    @property
    def ports(self) -> set[int]:
        """Every port of every node."""
        return {port for node in self.nodes for port in node.ports}

    def with_node(self, changed: Node) -> LabState:
        """The same state with one node replaced by its namesake."""
        return replace(self, nodes=tuple(changed if n.name == changed.name else n for n in self.nodes))

    @property
    def ssl_dir(self) -> Path:
        """Certificates, laid out like Puppet's own `ssldir`."""
        return self.directory / "ssl"

    def tls(self, certname: str) -> TlsFiles:
        """Where the certificate of a node, or of `CLIENT`, is."""
        return tls_files(self.ssl_dir, certname)

    @property
    def puppetdb_conf(self) -> Path:
        """The client configuration with all nodes in order."""
        return self.directory / "puppetdb.conf"

    def sync_conf(self, name: str) -> Path:
        """The reconciler's configuration for one node."""
        return self.directory / f"sync-{self.node(name).name}.conf"

    def sync_state(self, name: str) -> Path:
        """The state directory of that reconciler."""
        return self.directory / "sync" / self.node(name).name


def tls_files(ssl_dir: Path, certname: str) -> TlsFiles:
    """Where the material of `certname` is below `ssl_dir`: the places of Puppet's own `ssldir`."""
    return TlsFiles(
        ca=ssl_dir / "certs" / "ca.pem",
        cert=ssl_dir / "certs" / f"{certname}.pem",
        key=ssl_dir / "private_keys" / f"{certname}.pem",
        crl=ssl_dir / "crl.pem",
    )


def default_directory() -> Path:
    """`$XDG_STATE_HOME/pdbclient/lab` (`~/.local/state/...`), or /var/lib/pdbclient/lab for root.

    Root's servers run as another account, which may not enter root's home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/pdbclient/lab")
    state_home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state_home, "pdbclient", "lab").expanduser()


def node_names(count: int) -> tuple[str, ...]:
    """primary, replica, replica2, replica3, ..."""
    names = ["primary", "replica", *(f"replica{i}" for i in range(2, count))]
    return tuple(names[:count])


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} does not belong into the state file")


def write_state(state: LabState) -> None:
    """Write `lab.json` so that a reader, or a crash, meets the old or the new one, never half of it."""
    document = {"format": _FORMAT, **asdict(state)}
    # The database password is in it.
    descriptor, name = tempfile.mkstemp(dir=state.directory, prefix=".lab-")
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file, default=_encode, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(state.directory / _STATE_FILE)


def _paths(document: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {k: Path(v) if k in names and v is not None else v for k, v in document.items()}


def _programs(document: dict[str, Any]) -> dict[str, Any]:
    nodes = {
        which: {name: Path(file) for name, file in document.get(which, {}).items()}
        for which in ("node_jars", "node_javas")
    }
    return {**_paths(document, ["java", "puppetdb_jar", "postgres_bin"]), **nodes}


def _node(document: dict[str, Any]) -> Node:
    return Node(**{**_paths(document, ["home"]), "prefix": tuple(document.get("prefix", ()))})


def _decode(document: dict[str, Any]) -> LabState:
    known = {field.name for field in fields(LabOptions)}
    options = {k: v for k, v in document["options"].items() if k in known}
    return LabState(
        directory=Path(document["directory"]),
        nodes=tuple(_node(node) for node in document["nodes"]),
        programs=Programs(**_programs(document["programs"])),
        options=LabOptions(**_programs(options)),
        password=document["password"],
    )


def read_state(directory: Path) -> LabState | None:
    """The lab in `directory`, None when there is no lab.

    Raises `LabError` when the state file is not one of ours, or was moved here from another directory.
    """
    file = directory.absolute() / _STATE_FILE
    try:
        text = file.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabError(f"{file}: {error.strerror}") from error
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r} instead of {_FORMAT!r}")
        state = _decode(document)
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{file} is not the state file of a lab: {error}") from error
    if not state.directory.exists() or not file.parent.samefile(state.directory):
        raise LabError(f"{file} belongs to {state.directory}: a lab cannot be moved")
    return state
