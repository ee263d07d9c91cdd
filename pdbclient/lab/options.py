"""What a lab is built from: where the programs are, and how the servers are set up."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.java import choose, default_java, installed_javas
from pdbclient.lab.release import read_release

__all__ = ["LabOptions", "Programs", "find_programs"]

_DEBIAN_JAR = Path("/usr/share/puppetdb/puppetdb.jar")
_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class LabOptions:
    """How to build a lab; every path left at None is looked for where the distributions put it.

    The retention defaults make a server keep everything: a lab that plays outages must not lose a record to
    an expiry nobody asked for. Durations (`node_ttl`, `node_purge_ttl`, `report_ttl`) are PuppetDB's own
    spelling (`14d`, `30m`). `node_ttl` `0s` means never; `node_purge_ttl` must not be `0s` where deactivated
    nodes matter, because PuppetDB then lists none of them as inactive. `gc_interval` is in minutes, and 0
    turns the collector off. `start_timeout` is how many seconds a PuppetDB may take until it is `running`.

    `node_jars` gives nodes, by name, another jar than `puppetdb_jar`: two versions side by side, as in an
    upgrade. Without `java`, each node gets one that its release supports; `node_javas` gives nodes, by name, one of
    their own.
    """

    puppetdb_jar: Path | None = None
    postgres_bin: Path | None = None
    java: Path | None = None
    heap: str = "768m"
    threads: int = 2
    gc_interval: int = 60
    node_ttl: str = "0s"
    node_purge_ttl: str = "3650d"
    report_ttl: str = "3650d"
    start_timeout: float = 240.0
    node_jars: Mapping[str, Path] = field(default_factory=dict)
    node_javas: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs a lab runs, as absolute paths; `postgres_bin` is the directory of initdb and postgres.

    `node_jars` are the jars of nodes that do not run `puppetdb_jar`, `node_javas` the Javas of nodes that `java` need
    not run.
    """

    java: Path
    puppetdb_jar: Path
    postgres_bin: Path
    node_jars: Mapping[str, Path] = field(default_factory=dict)
    node_javas: Mapping[str, Path] = field(default_factory=dict)

    def jar(self, node: str) -> Path:
        """The jar that the node of this name runs."""
        return self.node_jars.get(node, self.puppetdb_jar)

    def java_of(self, node: str) -> Path:
        """The Java that runs the node of this name."""
        return self.node_javas.get(node, self.java)


def _newest_debian_postgres() -> Path | None:
    versions = [p for p in _DEBIAN_POSTGRES.glob("*/bin") if p.parent.name.isdigit()]
    return max(versions, key=lambda p: int(p.parent.name), default=None)


def _postgres_on_path() -> Path | None:
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _jar_problem(options: LabOptions, jar: Path) -> str | None:
    if jar.is_file():
        return None
    if options.puppetdb_jar is None:
        return f"PuppetDB is not installed: no {jar} (another place: --puppetdb-jar FILE)"
    return f"--puppetdb-jar {jar}: no such file"


def _postgres_problem(postgres: Path | None) -> str | None:
    if postgres is None:
        return "PostgreSQL's server is not installed: no initdb found (another place: --postgres-bin DIR)"
    missing = [name for name in ("initdb", "postgres", "psql") if not os.access(postgres / name, os.X_OK)]
    return f"--postgres-bin {postgres}: no executable {', '.join(missing)} in there" if missing else None


def _find_javas(options: LabOptions, jars: Mapping[str, Path], problems: list[str]) -> dict[str, Path]:
    """The Java of each node in `jars`, and of each that was given one; what is wrong is added to `problems`.

    The name "" stands for all nodes that have no jar of their own.
    """
    default, installed = default_java(), installed_javas()
    found = {}
    for name in (*jars, *(name for name in options.node_javas if name not in jars)):
        option, given = "--java ", options.java
        if name in options.node_javas:
            option, given = f"--java {name}=", options.node_javas[name]
        try:
            if given is None:
                found[name] = choose(read_release(jars[name]), default, installed).path.absolute()
            elif os.access(given, os.X_OK):
                found[name] = given.absolute()
            else:
                problems.append(f"{option}{given}: no such program")
        except LabError as error:
            problems.append(f"{error} (another place: --java FILE)")
    return found


def find_programs(options: LabOptions) -> Programs:
    """Resolve every program.

    Raises `LabError` naming all that are missing, and how to get them.
    """
    if not sys.platform.startswith("linux"):
        raise LabError("a lab needs Linux: its processes are identified through /proc")
    jar = (options.puppetdb_jar or _DEBIAN_JAR).absolute()
    postgres = options.postgres_bin or _newest_debian_postgres() or _postgres_on_path()
    problems = [problem for problem in (_jar_problem(options, jar), _postgres_problem(postgres)) if problem]
    node_jars = {name: file.absolute() for name, file in options.node_jars.items()}
    problems += [f"--node-jar {name}={file}: no such file" for name, file in node_jars.items() if not file.is_file()]
    javas = _find_javas(options, {"": jar, **node_jars}, problems)
    if problems or postgres is None:
        hint = "`pdbclient lab install` brings PuppetDB, PostgreSQL and Java on Debian, or tells what to install"
        raise LabError("\n".join([*dict.fromkeys(problems), hint]))
    return Programs(javas.pop(""), jar, postgres.absolute(), node_jars, javas)
