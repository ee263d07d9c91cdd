"""A world without hosts or real servers: two fake PuppetDBs, and processes of this machine for those of hosts."""

from __future__ import annotations

import gzip
import json
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdbclient.config.model import TlsFiles
from pdbclient.wire.summary import to_millis
from tests.faults.conftest import Pki
from tests.faults.fake import Answer, Fake, Request, answer, healthy, queued
from tests.faults.journal_place import as_sent
from tests.partitions.model import NotNow, WorldError

__all__ = ["FakeDatabase", "FakeHost", "FakeNemesis", "FakeWorld", "make_jar"]

FOLDER = "puppetlabs/puppetdb/benchmark/samples"
CATALOG = {
    "certname": "host-0",
    "resources": [{"type": "Class", "title": "main", "exported": False, "tags": [], "parameters": {}}],
    "edges": [],
}
FACTS = {"certname": "host-0", "values": {"kernel": "Linux"}, "package_inventory": [["bash", "5", "apt"]]}
REPORT: dict[str, Any] = {
    "certname": "host-0",
    "puppet_version": "3.7.4",
    "status": "changed",
    **dict.fromkeys(("noop", "noop_pending", "corrective_change"), False),
    **dict.fromkeys(("metrics", "logs", "resources"), ()),
}


def make_jar(directory: Path) -> Path:
    """A jar with one small sample of each kind."""
    jar = directory / "puppetdb.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for kind, sample in (("catalogs", CATALOG), ("facts", FACTS), ("reports", REPORT)):
            archive.writestr(f"{FOLDER}/{kind}/one.json", json.dumps(sample))
    return jar


@dataclass(frozen=True)
class FakeHost:
    """By name; of a PuppetDB, with what it has."""

    name: str


class FakeDatabase:
    """A PuppetDB that shows at once what it took; `down`: it refuses all. `forgets`: what commands it loses."""

    def __init__(self, forgets: frozenset[str] = frozenset()) -> None:
        self.down = False
        self.forgets = forgets
        self.taken: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        if self.down:
            return answer(b"down", 503)
        if request.is_command:
            sent = as_sent(request)
            if sent.name not in self.forgets:
                payload = json.loads(gzip.decompress(sent.body) if sent.encoding == "gzip" else sent.body)
                with self._lock:
                    key = f"{sent.name} {sent.certname} {payload['producer_timestamp']}"
                    self.taken[key] = {"name": sent.name, **payload}
            return queued()
        if request.target.startswith("/pdb/query/v4/resources"):
            return answer(self._exported())
        return healthy(request)

    def newest(self, name: str) -> dict[str, dict[str, Any]]:
        """The newest of each node of one command."""
        found: dict[str, dict[str, Any]] = {}
        for each in sorted(self.taken.values(), key=lambda each: str(each["producer_timestamp"])):
            if each["name"] == name:
                found[each["certname"]] = each
        return found

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows for the statements of `tests.partitions.rows`."""
        with self._lock:
            if "to_regclass" in statement:
                return [("certnames",)]
            for text, name in (
                ("from factsets", "replace facts"),
                ("from catalogs", "replace catalog"),
                ("from certnames c join catalog_inputs", "replace catalog inputs"),
            ):
                if text in statement:
                    return [(node, _millis(each), "") for node, each in self.newest(name).items()]
            if "deactivated is not null" in statement:
                return [(node, millis, "") for node, millis in self._deactivated()]
            assert "from reports" in statement, statement
            reports = [each for each in self.taken.values() if each["name"] == "store report"]
            return [(each["certname"], _millis(each), each["transaction_uuid"], "") for each in reports]

    def _exported(self) -> list[dict[str, Any]]:
        with self._lock:
            gone = {node for node, _ in self._deactivated()}
            catalogs = self.newest("replace catalog").items()
            return [
                {**resource, "certname": node}
                for node, catalog in catalogs
                if node not in gone
                for resource in catalog["resources"]
                if resource["exported"] and resource["type"] == "Sshkey"
            ]

    def _deactivated(self) -> Iterator[tuple[str, int]]:
        alive = [self.newest(name) for name in ("replace facts", "replace catalog", "store report")]
        for node, each in self.newest("deactivate node").items():
            if all(node not in newest or _millis(newest[node]) < _millis(each) for newest in alive):
                yield node, _millis(each)


class FakeWorld:
    """Two Puppet hosts that speak to two PuppetDBs; what reconcilers do is done when all is settled."""

    def __init__(self, pki: Pki, databases: Sequence[FakeDatabase], servers: Sequence[Fake], directory: Path) -> None:
        self._pki, self._servers, self._directory = pki, servers, directory
        self.by_host = {FakeHost(f"db{number}"): each for number, each in enumerate(databases, 1)}
        self.puppets = (FakeHost("puppet1"), FakeHost("puppet2"))
        self.databases = tuple(self.by_host)
        self.healed = 0
        self.stuck: set[str] = set()
        self.settled: list[str] = []
        self._passes = 0
        self.log = directory / "db1-reconciler.log"
        self.log.write_text("")

    def urls(self, puppet: FakeHost) -> tuple[str, ...]:
        return tuple(map(self.url, self.databases))

    def tls(self, puppet: FakeHost) -> TlsFiles:
        return self._pki.client

    def url(self, database: FakeHost) -> str:
        return f"https://localhost:{self._servers[self.databases.index(database)].port}"

    def spawn(self, host: FakeHost, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(argv, **popen)

    def sql(self, database: FakeHost, statement: str) -> list[tuple[Any, ...]]:
        return self.by_host[database].sql(statement)

    def heal(self, seconds: float) -> None:
        self.healed += 1
        for each in self.by_host.values():
            each.down = False

    def settle(self, database: FakeHost, seconds: float) -> None:
        self.settled.append(database.name)
        if database.name in self.stuck:
            raise WorldError("1 command still queued")
        for each in self.by_host.values():
            own = self.by_host[database]
            own.taken |= {key: one for key, one in each.taken.items() if one["name"] not in own.forgets}

    def passes(self, database: FakeHost) -> int:
        self._passes += 1
        return self._passes

    def logs(self) -> Mapping[str, Path]:
        return {"db1 reconciler": self.log}

    def failures(self) -> Mapping[str, Sequence[int]]:
        return {}

    def journal(self, puppet: FakeHost) -> str | None:
        return None

    def usage(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True)
class FakeNemesis:
    """Takes a PuppetDB away, or fails to. `held` has where it is at just now."""

    name: str
    held: list[str]
    breaks: str = ""
    lasting: bool = True

    @property
    def targets(self) -> Callable[[FakeWorld], Sequence[str]]:
        return lambda world: [host.name for host in world.databases]

    @property
    def begin(self) -> Callable[[FakeWorld, str], Callable[[], None]]:
        def begin(world: FakeWorld, target: str) -> Callable[[], None]:
            if self.breaks == "begin":
                raise OSError("no such device")
            if self.breaks == "not yet" and not self.held:
                self.held.append("asked once")
                raise NotNow("it is being started")
            world.by_host[FakeHost(target)].down = True
            self.held.append(target)
            return lambda: self._end(world, target)

        return begin

    def _end(self, world: FakeWorld, target: str) -> None:
        if self.breaks == "end":
            raise OSError("no such device")
        world.by_host[FakeHost(target)].down = False
        self.held.remove(target)


@contextmanager
def running(pki: Pki, directory: Path, *databases: FakeDatabase) -> Iterator[FakeWorld]:
    """The world, with its servers."""
    with Fake(pki.server, databases[0]) as one, Fake(pki.server, databases[1]) as other:
        yield FakeWorld(pki, databases, [one, other], directory)


def _millis(payload: Mapping[str, Any]) -> int:
    return to_millis(payload["producer_timestamp"])
