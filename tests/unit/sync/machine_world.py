"""Some fake PuppetDBs, each with a reconciler that pulls from the others: the world of `test_machine`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

from pdbclient.config.model import Endpoint, Remote, SyncConfig, TlsFiles
from pdbclient.errors import DeadlineExceeded, SafetyBrake
from pdbclient.sync import Entity, EntityPlan, Mode, PassResult, Reconciler, Selection, plan
from pdbclient.sync.inventory.interfaces import Clock, Server

from ...versions import PUPPETDB_7_12, Release
from .conftest import NOW, FakeTime
from .fake import FakePuppetDB, Row

__all__ = ["Killed", "SyncWorld"]

ROUNDS = 12
"""So many rounds of passes, each server pulling from each other, and everything has come to rest."""

AUDIT = Mode(audit=True)


class Killed(BaseException):
    """The process of a reconciler is gone; no handler of its own runs."""


class SyncWorld:
    """The servers are of `releases`, in turn. `time` passes for all alike; a server's clock is off by its `skew`, its
    reconciler's by its `step` (s).

    What is noted for the judgement at the end: `deactivations` that were ever sent, `faulty` passes by local and
    remote, and nodes `buried` at a server: purged there while no other server had them active.
    """

    def __init__(
        self, directory: Path, names: Iterable[str], mangled: Iterable[str] = (), releases: Sequence[Release] = ()
    ) -> None:
        self.time = FakeTime()
        self.directory = directory
        self.names = tuple(names)
        self.skew = dict.fromkeys(self.names, 0.0)
        self.step = dict.fromkeys(self.names, 0.0)
        self.releases = {
            name: releases[number % len(releases)] if releases else PUPPETDB_7_12
            for number, name in enumerate(self.names)
        }
        self.servers = {
            name: FakePuppetDB(name, self._wall(self.skew, name), release) for name, release in self.releases.items()
        }
        self.mangled = frozenset(mangled)
        for server in self.servers.values():
            server.mangles = set(self.mangled)
        self.reconcilers = {name: self._open(name, Mode()) for name in self.names}
        self.deactivations: set[tuple[str, int]] = set()
        self.faulty: Counter[tuple[str, str]] = Counter()
        self.buried: set[tuple[str, str]] = set()

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each local server with each remote."""
        return permutations(self.names, 2)

    @property
    def millis(self) -> int:
        return int((NOW + self.time.elapsed) * 1000)

    def _wall(self, off: dict[str, float], name: str) -> Callable[[], float]:
        return lambda: NOW + self.time.elapsed + off[name]

    def clock(self, name: str) -> Clock:
        """The clock of a server's reconciler."""
        stop: threading.Event = self.time
        return Clock(wall=self._wall(self.step, name), monotonic=lambda: self.time.elapsed, stop=stop)

    def connect(self, endpoint: Endpoint) -> Server:
        return next(server for server in self.servers.values() if server.endpoint == endpoint)

    def config(self, name: str) -> SyncConfig:
        nowhere = self.directory / "nowhere"
        return SyncConfig(
            local=self.servers[name].endpoint,
            remotes=tuple(Remote(self.servers[other].endpoint, 60.0) for other in self.names if other != name),
            tls=TlsFiles(nowhere, nowhere, nowhere),
            state_dir=self.directory / "state",
            batch_size=3,
            # So that the requests to a server come in the same order each time.
            concurrency=1,
        )

    def _open(self, name: str, mode: Mode) -> Reconciler:
        return Reconciler(self.config(name), mode, connect=self.connect, clock=self.clock(name)).__enter__()

    def reopen(self, mode: Mode, *names: str) -> None:
        """A new process in the place of each of these servers' reconcilers, with the same state file."""
        for name in names:
            self.reconcilers[name].__exit__(None, None, None)
            self.reconcilers[name] = self._open(name, mode)

    def close(self) -> None:
        for reconciler in self.reconcilers.values():
            reconciler.__exit__(None, None, None)

    # --- what happens

    def send(self, name: str, payload: Row, millis: int, targets: Iterable[str]) -> None:
        """A command reaches some of the servers."""
        certname = payload["certname"]
        if name == "deactivate node":
            self.deactivations.add((certname, millis))
        for target in targets:
            self.servers[target].apply(name, payload)
        self.buried = {(where, who) for where, who in self.buried if who != certname}

    def collect_garbage(self, name: str) -> None:
        self.servers[name].expire()
        self.servers[name].purge_reports()
        others = [server for other, server in self.servers.items() if other != name]
        for certname in self.servers[name].purge_nodes():
            if not any(certname in server.nodes and server.liveness(certname) == "active" for server in others):
                self.buried.add((name, certname))

    def restore(self, name: str, saved: tuple[object, ...]) -> None:
        self.servers[name].restore(saved)
        # What was dead everywhere may be alive again in the backup.
        self.buried.clear()

    def pull(self, local: str, remote: str) -> PassResult | None:
        """One pass; None when it was killed. Whatever happens, nothing is sent to the remote."""
        sent = {name: len(server.submitted) for name, server in self.servers.items()}
        try:
            return self.reconcilers[local].run_once(self.servers[remote].endpoint)
        except Killed:
            self.reopen(Mode(), local)
            return None
        finally:
            for name, server in self.servers.items():
                assert name == local or len(server.submitted) == sent[name], f"{local} submitted to {name}"

    @contextmanager
    def trouble(self, at: str, after: int, happens: Callable[[FakePuppetDB], None]) -> Iterator[None]:
        """At the request number `after` to a server, `happens`."""
        server = self.servers[at]
        left = after

        def arrives() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                happens(server)

        server.arrives = arrives
        try:
            yield
        finally:
            server.arrives = lambda: None
            server.down, server.cut, server.discards = None, None, set()

    # --- coming to rest

    def rest(self) -> None:
        """The faults are over, the clocks right and past every retry: passes until none has anything to do."""
        for name in self.names:
            self.skew[name] = 0.0
        self.reopen(AUDIT, *self.names)
        for _ in range(ROUNDS):
            self.time.elapsed += 3600.0
            if not self.round():
                break
        else:
            raise AssertionError(f"after {ROUNDS} rounds there still is something to transfer")
        self.reopen(Mode(), *self.names)
        echo = self.round()
        assert not echo, f"a round after rest transfers {echo}"

    def round(self) -> list[str]:
        """One pass of each pair; what they submitted."""
        before = {name: len(server.submitted) for name, server in self.servers.items()}
        for local, remote in self.pairs:
            result = self.pull(local, remote)
            assert result is not None
            told = [error for error in result.errors if not self._lost_all(error, remote)]
            assert not told, f"{local} from {remote}: {told}"
            failed = {entity: part.failed for entity, part in result.entities.items() if part.failed}
            assert not failed, f"{local} from {remote}: failed {failed}"
        return [
            f"{command.name} of {command.certname} to {name}"
            for name, server in self.servers.items()
            for command in server.submitted[before[name] :]
        ]

    def _lost_all(self, error: str, remote: str) -> bool:
        """Whether an error is the brake for a remote without any records, and it has none indeed."""
        server = self.servers[remote]
        tables = {
            Entity.NODES: server.nodes,
            Entity.FACTS: server.tables["factsets"],
            Entity.CATALOGS: server.tables["catalogs"],
            Entity.INPUTS: server.tables["catalog-inputs"],
        }
        return any(f"the remote reports no {entity} at all" in error and not tables[entity] for entity in tables)

    def plans(self, local: str, remote: str) -> dict[Entity, EntityPlan]:
        """What a pass would do, entity by entity, but for those that a brake keeps."""
        plans: dict[Entity, EntityPlan] = {}
        for entity in Entity:
            mode = Mode(Selection(frozenset({entity})), audit=True)
            endpoint = self.servers[remote].endpoint
            try:
                (plans[entity],) = plan(
                    self.config(local), endpoint, mode=mode, connect=self.connect, clock=self.clock(local)
                )
            except SafetyBrake as brake:
                if not self._lost_all(str(brake), remote):
                    raise
        return plans


def unreachable(server: FakePuppetDB) -> None:
    """The server is frozen: what is asked of it is not answered in time."""
    server.down = DeadlineExceeded(str(server.endpoint), "no answer")
